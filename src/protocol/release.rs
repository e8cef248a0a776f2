//! A release: the seed goes to one recipient, who does everything that an embassy does in a lease; the embassy never has it.
//!
//! Officials seal their halves to the recipient's key, and so does the embassy with what its TPM gave: [`ReleaseParts`]. The
//! recipient trusts neither. [`Receiving`] exists only where the offer passed every check that officials make and names this
//! recipient; contributions go through the same gathering as an embassy's, and a seed comes out only when every slot of its
//! version was made again from it. protocol.md §18.

use rand_core::{CryptoRng, RngCore};

use crate::protocol::{
    contribution::{CheckedOffer, Contribution, OfferRefusal, Review},
    dataset_version::VerifiedVersion,
    gathering::{Gathering, GatheringError, NotQuorate, Opened, OpeningError, Refusal},
    group::{POINT_BYTES, Point},
    hash::Hash,
    hybrid::{self, HybridError, HybridPublicKey, HybridSecretKey, SEAL_OVERHEAD_BYTES},
    ids::{DatasetName, OfficialName},
    label::Label,
    offer::SignedOffer,
    partial::{MAX_POINTS, PreparedQuorum, Receipt},
    recipient::RecipientCard,
    secret::{Secret, SharedPoint},
    slot::{SealedFor, SeenPoints, VerifiedSlot},
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// One of the embassy's halves, sealed: the point, and HPKE's overhead.
const SEALED_BYTES: usize = POINT_BYTES + SEAL_OVERHEAD_BYTES;

/// The embassy's half of each slot, sealed to the recipient, in the statement's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseParts {
    offer: Hash,
    sealed: Vec<[u8; SEALED_BYTES]>,
}

impl ReleaseParts {
    /// Seals what the TPM gave for each slot, in the statement's order. The caller drops the points at once.
    ///
    /// # Errors
    /// [`HybridError`] where the recipient's key cannot be sealed to.
    pub fn seal<'a>(
        offer: &Hash,
        to: &HybridPublicKey,
        halves: impl IntoIterator<Item = (&'a VerifiedSlot, &'a SharedPoint)>,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Self, HybridError> {
        let seal = |(index, (slot, z_t)): (u8, (&VerifiedSlot, &SharedPoint))| {
            let plain = Secret::take(&mut z_t.expose().encode());
            let aad = aad(index, &slot.id());
            let sealed = hybrid::seal(to, Label::RELEASE_SEAL, offer.as_bytes(), &aad, plain.expose(), rng)?;
            sealed.try_into().map_err(|_| HybridError::Seal)
        };
        let sealed = (0..).zip(halves).map(seal).collect::<Result<_, _>>()?;
        Ok(Self { offer: *offer, sealed })
    }

    /// Which offer was opened.
    pub const fn offer(&self) -> &Hash {
        &self.offer
    }

    /// For how many datasets.
    pub fn count(&self) -> usize {
        self.sealed.len()
    }
}

impl Wire for ReleaseParts {
    fn write(&self, out: &mut Writer) {
        out.value(&self.offer).u16(u16::try_from(self.sealed.len()).unwrap_or(u16::MAX));
        for sealed in &self.sealed {
            out.raw(sealed.as_slice());
        }
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let (offer, count) = (input.value()?, usize::from(input.u16("parts")?));
        if count > MAX_POINTS {
            return Err(WireError::TooLong { field: "parts", length: count, bound: MAX_POINTS });
        }
        let sealed = (0..count).map(|_| input.array("sealed half")).collect::<Result<_, _>>()?;
        Ok(Self { offer, sealed })
    }
}

impl Document for ReleaseParts {
    const LABEL: Label = Label::RELEASE;
    const MAX_BYTES: usize = 64 + 34 + MAX_POINTS * SEALED_BYTES;
}

/// protocol.md §18: each half is bound to its place and slot.
fn aad(index: u8, slot: &Hash) -> Vec<u8> {
    let mut aad = Writer::new();
    aad.u8(index).value(slot);
    aad.finish()
}

/// Why a recipient does not get a seed. What was received is kept; the text says who can act.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// A lease, or a release to somebody else.
    #[error("this ceremony is not a release to you: {statement}")]
    NotForYou {
        /// What it is.
        statement: String,
    },
    /// The key at hand is not the card's.
    #[error("the hybrid key at hand is not the one on your card; take the key that the card was made with")]
    Key,
    /// The offer does not hold.
    #[error(transparent)]
    Offer(#[from] OfferRefusal),
    /// Facts or verification shares of another generation.
    #[error(transparent)]
    Gathering(#[from] GatheringError),
    /// The embassy's parts are of another offer.
    #[error("the embassy's halves are for another offer than the contributions; fetch the release again")]
    OtherOffer,
    /// Too few or too many parts.
    #[error("the embassy sent {found} halves for {expected} datasets; distrust this embassy")]
    Parts {
        /// How many came.
        found: usize,
        /// How many were due.
        expected: usize,
    },
    /// A part does not open, or holds no point.
    #[error("what the embassy sealed for {dataset} does not open with your key, or is no half; distrust this embassy")]
    Part {
        /// Which dataset.
        dataset: DatasetName,
    },
    /// Fewer than k good contributions.
    #[error(transparent)]
    NotQuorate(#[from] NotQuorate),
    /// The halves do not open the slot, though each official's was checked.
    #[error(
        "{dataset}: {error}. Every official's half was checked, so it is the embassy's, or what the data owner sealed"
    )]
    Opening {
        /// Which dataset.
        dataset: DatasetName,
        /// Why.
        error: OpeningError,
    },
    /// A version that was checked is not there any more.
    #[error("no signed record of dataset {dataset} is at hand. Ask its data owner for it")]
    NoRecord {
        /// Which dataset.
        dataset: DatasetName,
    },
}

/// A release on the recipient's machine: contributions come in, and with k good ones and the embassy's parts it opens.
#[derive(Debug)]
pub struct Receiving<'a> {
    gathering: Gathering,
    versions: &'a [VerifiedVersion],
    key: &'a HybridSecretKey,
}

impl<'a> Receiving<'a> {
    /// Checks that the offer is one that officials would contribute to, and that it is for this recipient. `own` is the
    /// recipient's own card, judged in `review` like anybody's.
    ///
    /// # Errors
    /// [`ReleaseError`]: give nothing to it.
    pub fn begin(
        signed: &SignedOffer,
        own: &RecipientCard,
        key: &'a HybridSecretKey,
        review: &Review<'a>,
        seen: &mut SeenPoints,
        quorum: &PreparedQuorum,
    ) -> Result<Self, ReleaseError> {
        if key.public() != own.hybrid() {
            return Err(ReleaseError::Key);
        }
        let checked = CheckedOffer::check(signed, review, seen)?;
        let statement = checked.offer().statement();
        // The statement shows a card whole, so another card of the same person is somebody else's release.
        if statement.mode().recipient() != Some(own) {
            return Err(ReleaseError::NotForYou { statement: statement.to_string() });
        }
        let gathering = Gathering::new(checked, review.facts, quorum)?;
        Ok(Self { gathering, versions: review.versions, key })
    }

    /// Checks an official's contribution and counts it.
    ///
    /// # Errors
    /// [`Refusal`]; others can take its place.
    pub fn receive(&mut self, contribution: &Contribution) -> Result<Receipt, Refusal> {
        self.gathering.receive(contribution, self.key)
    }

    /// Every official who provably sent something wrong.
    pub fn culprits(&self) -> impl Iterator<Item = &OfficialName> {
        self.gathering.culprits()
    }

    /// Who has contributed.
    pub fn contributors(&self) -> impl Iterator<Item = &OfficialName> {
        self.gathering.contributors()
    }

    /// Opens every dataset with the embassy's parts, makes every slot of each version again, and compares.
    ///
    /// # Errors
    /// [`ReleaseError`]; nothing is given out then, not even of the datasets that would have opened.
    pub fn open(&self, parts: &ReleaseParts) -> Result<Vec<Opened>, ReleaseError> {
        let checked = self.gathering.checked();
        if parts.offer != *checked.hash() {
            return Err(ReleaseError::OtherOffer);
        }
        let (found, expected) = (parts.sealed.len(), checked.slots().len());
        if found != expected {
            return Err(ReleaseError::Parts { found, expected });
        }
        let openings = self.gathering.quorate()?.into_openings();
        let mut opened = Vec::with_capacity(expected);
        for (index, (opening, sealed)) in (0..).zip(openings.into_iter().zip(&parts.sealed)) {
            let dataset = opening.slot().context().dataset().dataset.clone();
            let z_t = self
                .half(index, opening.slot(), parts, sealed.as_slice())
                .ok_or_else(|| ReleaseError::Part { dataset: dataset.clone() })?;
            let version =
                self.version(opening.slot()).ok_or_else(|| ReleaseError::NoRecord { dataset: dataset.clone() })?;
            let open = opening.open(&z_t, version);
            opened.push(open.map_err(|error| ReleaseError::Opening { dataset, error })?);
        }
        Ok(opened)
    }

    fn half(&self, index: u8, slot: &VerifiedSlot, parts: &ReleaseParts, sealed: &[u8]) -> Option<SharedPoint> {
        let aad = aad(index, &slot.id());
        let plain = hybrid::open(self.key, Label::RELEASE_SEAL, parts.offer.as_bytes(), &aad, sealed).ok()?;
        let mut point = Point::decode(plain.expose()).ok()?;
        Some(SharedPoint::take(&mut point))
    }

    fn version(&self, slot: &VerifiedSlot) -> Option<&VerifiedVersion> {
        let here = SealedFor::Embassy(self.gathering.checked().offer().statement().embassy().clone());
        self.versions.iter().find(|version| version.slot(&here).is_some_and(|found| found.id() == slot.id()))
    }
}

#[cfg(test)]
mod tests;
