//! What an official's machine has seen, so that nobody shows it something older or something twice: the charter, home's
//! revocation list, the points of slots, dataset versions, and how often each embassy's machine was reset.
//!
//! One document, written whole before anything that depends on it leaves the machine. Whoever can write to the directory
//! can make the machine forget.

use std::collections::BTreeMap;

use crate::protocol::{
    charter::{ChainError, CharterSeen, VerifiedCharter},
    dataset_version::{SeenVersion, SignedVersion, VersionError},
    hash::Hash,
    ids::EmbassyName,
    label::Label,
    slot::{PointSeen, SeenPoints},
    statement::Resets,
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// The most embassies and datasets that a charter names.
const MAX_NAMED: usize = 1024;

/// Everything that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    charter: Option<CharterSeen>,
    list: u64,
    points: SeenPoints,
    versions: Vec<SeenVersion>,
    resets: BTreeMap<EmbassyName, Resets>,
}

impl Memory {
    /// Takes a charter in force; gives whether it is news.
    ///
    /// # Errors
    /// [`ChainError::Older`].
    pub fn take_charter(&mut self, offered: &VerifiedCharter) -> Result<bool, ChainError> {
        let now = CharterSeen::check(self.charter.as_ref(), offered)?;
        Ok(self.charter.replace(now) != Some(now))
    }

    /// The last charter seen.
    pub const fn charter(&self) -> Option<&CharterSeen> {
        self.charter.as_ref()
    }

    /// Takes the number of a revocation list, unless a higher one was seen: then gives that.
    ///
    /// # Errors
    /// The number that was seen.
    pub const fn take_list(&mut self, number: u64) -> Result<bool, u64> {
        if number < self.list {
            return Err(self.list);
        }
        let news = number > self.list;
        self.list = number;
        Ok(news)
    }

    /// The points seen, to check an offer with a copy of.
    pub fn points(&self) -> Result<SeenPoints, PointSeen> {
        SeenPoints::restore(self.points.iter())
    }

    /// Keeps the points after a check.
    pub fn keep_points(&mut self, points: SeenPoints) {
        self.points = points;
    }

    /// Notes a dataset version. An older one than was seen is no fault for an official: what it seals may have to be opened.
    ///
    /// # Errors
    /// [`VersionError::TwoRecipients`]: the data owner signed two.
    pub fn take_version(&mut self, offered: &SignedVersion) -> Result<(), VersionError> {
        let dataset = &offered.description().dataset;
        let at = self.versions.iter().position(|seen| seen.dataset == *dataset);
        let seen = at.and_then(|at| self.versions.get(at));
        match SeenVersion::check_not_lower(seen, offered) {
            Ok(now) => {
                match at.and_then(|at| self.versions.get_mut(at)) {
                    Some(place) => *place = now,
                    None => self.versions.push(now),
                }
                Ok(())
            }
            Err(VersionError::Lower { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The highest version of each dataset that was seen.
    pub fn versions(&self) -> &[SeenVersion] {
        &self.versions
    }

    /// What the last statement to an embassy that this official agreed to acknowledged.
    pub fn resets(&self, embassy: &EmbassyName) -> Option<Resets> {
        self.resets.get(embassy).copied()
    }

    /// Keeps what a statement acknowledged.
    pub fn keep_resets(&mut self, embassy: &EmbassyName, resets: Resets) {
        self.resets.insert(embassy.clone(), resets);
    }
}

impl Wire for Memory {
    fn write(&self, out: &mut Writer) {
        out.u8(u8::from(self.charter.is_some()));
        if let Some(charter) = &self.charter {
            out.value(charter);
        }
        let points: Vec<([u8; 32], Hash)> = self.points.iter().collect();
        out.u64(self.list).u32(u32::try_from(points.len()).unwrap_or(u32::MAX));
        for (x, slot) in &points {
            out.raw(x).value(slot);
        }
        out.list(&self.versions).u16(u16::try_from(self.resets.len()).unwrap_or(u16::MAX));
        for (embassy, resets) in &self.resets {
            out.value(embassy).value(resets);
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let charter = match input.u8("charter seen")? {
            0 => None,
            1 => Some(input.value()?),
            _ => {
                return Err(WireError::Invalid { field: "charter seen", reason: "neither absent (0) nor present (1)" });
            }
        };
        let (list, count) = (input.u64("revocation list")?, input.u32("points")?);
        let mut points = Vec::new();
        for _ in 0..count {
            // Each is 64 bytes of a bounded document: the count needs no bound of its own.
            points.push((input.array("point")?, input.value()?));
        }
        let points = SeenPoints::restore(points)
            .map_err(|_| WireError::Invalid { field: "points", reason: "one stands under two slots" })?;
        let versions = input.list(MAX_NAMED, "dataset versions")?;
        let count = usize::from(input.u16("resets")?);
        if count > MAX_NAMED {
            return Err(WireError::TooLong { field: "resets", length: count, bound: MAX_NAMED });
        }
        let resets = (0..count).map(|_| Ok((input.value()?, input.value()?))).collect::<Result<_, WireError>>()?;
        Ok(Self { charter, list, points, versions, resets })
    }
}

impl Document for Memory {
    const LABEL: Label = Label::OFFICIAL_MEMORY;
    // 1,024 datasets at 1.4 KiB, and 200,000 slots at 64 bytes.
    const MAX_BYTES: usize = 16 * 1024 * 1024;
}
