//! The charter: the constitution of one embassy network, as one consistent document.
//!
//! It names the country, the officials with their keys, the two quorums, the embassies, data owners and datasets; the
//! completed one also names the quorums' keys and each embassy's T. A [`Charter`] contradicts itself nowhere: whatever is
//! at odds is refused with the place at fault. Who may issue one is `signed.rs`'s matter. protocol.md §12.

mod check;
mod kinds;
mod show;
mod signed;
#[cfg(test)]
mod tests;

use crate::protocol::{
    facts::{CustodyFacts, CustodyFactsParts, FactsError, MachineFacts, OfficialFacts, QuorumFacts},
    group::Point,
    hash::Hash,
    ids::{CharterAt, CharterId, DatasetName, EmbassyName, OfficialName},
    label::Label,
    quorum::{MAX_OFFICIALS, QuorumError, Threshold},
    slot::MAX_EMBASSIES,
    wire::{Document, Reader, Wire, WireError, Writer},
};

pub use kinds::{
    CharterCustody, CharterDataset, CharterEmbassy, CharterMachine, CharterOfficial, CharterOwner, CharterWitness,
    Country, HardwareClass, QuorumRule,
};
pub use signed::{Authority, ChainError, CharterSeen, SignedCharter, Signer, Standing, VerifiedCharter};

/// The most data owners, and the most datasets, that one charter names.
pub const MAX_DATASETS: usize = 1024;
/// The most witnesses that one charter names.
pub const MAX_WITNESSES: usize = 16;
/// The longest time between heartbeats that a charter may set, in seconds: a day. With a longer one, whoever cuts the line
/// would keep a running lease for days.
pub const HEARTBEAT_SECONDS_MAX: u32 = 24 * 60 * 60;

/// What is at odds in a charter, and where. Correct the draft at that place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CharterError {
    /// A country code is not two capital letters.
    #[error("country: {found:?} is not a code of two capital letters (ISO 3166-1)")]
    Country {
        /// What stands there.
        found: String,
    },
    /// A later version without a predecessor, or a founding one with one.
    #[error(
        "version {version}: the founding charter is version 1 and follows nothing; every later one names its predecessor"
    )]
    Version {
        /// The version.
        version: u32,
    },
    /// Too many of a kind.
    #[error("{place}: {found} are too many; at most {bound}")]
    TooMany {
        /// Which list.
        place: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        bound: usize,
    },
    /// A list that must not be empty.
    #[error("{place}: there is none")]
    Nobody {
        /// Which list.
        place: &'static str,
    },
    /// Two entries share what must be each one's own.
    #[error("{place}: {first} and {second} have the same {what}")]
    Shared {
        /// Which list.
        place: &'static str,
        /// One entry.
        first: String,
        /// The other.
        second: String,
        /// What they share.
        what: &'static str,
    },
    /// One key for two purposes.
    #[error("{first} and {second} are one key; each key has one use")]
    KeyReused {
        /// One use.
        first: String,
        /// The other.
        second: String,
    },
    /// A name that the charter does not introduce.
    #[error("{place}: {name} is unknown; introduce it, or correct the name")]
    Unknown {
        /// Where it is used.
        place: String,
        /// The name.
        name: String,
    },
    /// A quorum that cannot be.
    #[error("{place}: {error}")]
    Quorum {
        /// Which quorum.
        place: &'static str,
        /// Why.
        error: QuorumError,
    },
    /// A quorum does not list as many officials as it has.
    #[error("{place}: {found} officials are listed for {threshold}")]
    Members {
        /// Which quorum.
        place: &'static str,
        /// How many are listed.
        found: usize,
        /// k of n.
        threshold: Threshold,
    },
    /// A quorum's key was made for another threshold.
    #[error("{place}: the key was made by {found}, the charter says {expected}")]
    OtherThreshold {
        /// Which quorum.
        place: &'static str,
        /// Of the key.
        found: Threshold,
        /// Of the charter.
        expected: Threshold,
    },
    /// A threshold that would be easier to reach than the unseal quorum's.
    #[error("{place}: a threshold of {found} is below {unseal}, which it takes to unseal")]
    BelowUnseal {
        /// Amend, or the recovery quorum.
        place: &'static str,
        /// Its threshold.
        found: u8,
        /// k of the unseal quorum.
        unseal: u8,
    },
    /// The longest expiry of an approval is none.
    #[error("expiry: an approval may be valid for 1 to {} seconds, not {found}", i32::MAX)]
    Expiry {
        /// What stands there.
        found: u32,
    },
    /// The time between heartbeats is none.
    #[error("heartbeat: a lease is suspended after 1 to {HEARTBEAT_SECONDS_MAX} seconds without a beat, not {found}")]
    Heartbeat {
        /// What stands there.
        found: u32,
    },
    /// Leases without anybody whose beats keep them alive.
    #[error(
        "embassy {embassy}: it allows leases, and there is no witness whose beats could keep one alive. Name a witness, or \
         allow release only"
    )]
    NoWitness {
        /// Which embassy.
        embassy: EmbassyName,
    },
    /// A founding charter with keys in it.
    #[error(
        "custody: a founding charter names no quorum's or embassy's keys. They are made under it, and its successor, which \
         officials sign, names them"
    )]
    FoundedWithCustody,
    /// The facts of an embassy contradict themselves.
    #[error("embassy {embassy}: {error}")]
    Facts {
        /// Which embassy.
        embassy: EmbassyName,
        /// Why.
        error: FactsError,
    },
    /// An embassy has no T yet.
    #[error("embassy {embassy} has no custody key in this charter: it is not completed for it")]
    NotCompleted {
        /// Which embassy.
        embassy: EmbassyName,
    },
}

/// What [`Charter::new`] checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharterParts {
    /// From 1, one more each time.
    pub version: u32,
    /// The founding charter's hash; none in the founding one.
    pub founding: Option<CharterId>,
    /// The predecessor's hash; none in the founding one.
    pub previous: Option<Hash>,
    /// The home country.
    pub country: Country,
    /// The home authority's key.
    pub home: Point,
    /// Everybody who may be in a quorum.
    pub officials: Vec<CharterOfficial>,
    /// Opens datasets, together with an embassy's TPM.
    pub unseal: QuorumRule,
    /// How many of the unseal quorum's officials amend.
    pub amend_k: u8,
    /// Opens without an embassy.
    pub recovery: QuorumRule,
    /// The longest an approval may be valid, in seconds.
    pub expiry_max_seconds: u32,
    /// H: a lease is suspended after this many seconds without a witness's beat, and wiped after twice as many.
    pub heartbeat_seconds: u32,
    /// The embassies.
    pub embassies: Vec<CharterEmbassy>,
    /// The data owners.
    pub owners: Vec<CharterOwner>,
    /// The datasets.
    pub datasets: Vec<CharterDataset>,
    /// Whose beats keep leases alive.
    pub witnesses: Vec<CharterWitness>,
    /// Hash of the access policy in force.
    pub policy: Hash,
    /// The quorums' keys and the embassies' machines, once they exist.
    pub custody: Option<CharterCustody>,
}

/// A charter that contradicts itself nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charter(CharterParts);

impl Charter {
    /// Checks a draft.
    ///
    /// # Errors
    /// [`CharterError`], the first found, with its place.
    pub fn new(parts: CharterParts) -> Result<Self, CharterError> {
        let first = parts.version == 1;
        if parts.version == 0 || first != parts.founding.is_none() || first != parts.previous.is_none() {
            return Err(CharterError::Version { version: parts.version });
        }
        check::draft(&parts)?;
        let charter = Self(parts);
        if let Some(custody) = &charter.0.custody {
            charter.check_custody(custody)?;
            // protocol.md §12.4: home alone signs it, and home alone can hand custody to nobody.
            if first {
                return Err(CharterError::FoundedWithCustody);
            }
        }
        Ok(charter)
    }

    /// Everything the charter says.
    pub const fn parts(&self) -> &CharterParts {
        &self.0
    }

    /// SHA-256 of its bytes: what is signed, chained, and pinned in the TPM.
    pub fn hash(&self) -> Hash {
        Hash::of_bytes(&self.encode())
    }

    /// Its place in the chain, and its hash.
    pub fn at(&self) -> CharterAt {
        CharterAt { version: self.0.version, hash: self.hash() }
    }

    /// The network's id: the founding charter's hash, which is this one's where it is the founding one.
    pub fn id(&self) -> CharterId {
        self.0.founding.unwrap_or_else(|| CharterId(self.hash()))
    }

    /// One official.
    pub fn official(&self, name: &OfficialName) -> Option<&CharterOfficial> {
        self.0.officials.iter().find(|official| official.name == *name)
    }

    /// The amend threshold.
    ///
    /// # Errors
    /// [`CharterError::Quorum`], which [`Charter::new`] has excluded.
    pub fn amend(&self) -> Result<Threshold, CharterError> {
        Threshold::new(self.0.amend_k, self.0.unseal.threshold.n())
            .map_err(|error| CharterError::Quorum { place: "amend", error })
    }

    /// What officials, agents and auditors check an embassy against.
    ///
    /// # Errors
    /// [`CharterError::NotCompleted`] before the embassy has a custody key.
    pub fn facts(&self, embassy: &EmbassyName) -> Result<CustodyFacts, CharterError> {
        let missing = || CharterError::NotCompleted { embassy: embassy.clone() };
        let custody = self.0.custody.as_ref().ok_or_else(missing)?;
        let machine = custody.machines.iter().find(|machine| machine.embassy == *embassy).ok_or_else(missing)?;
        self.facts_of(custody, machine)
    }

    fn facts_of(&self, custody: &CharterCustody, machine: &CharterMachine) -> Result<CustodyFacts, CharterError> {
        let embassy = &machine.embassy;
        let place = || format!("custody of {embassy}");
        let described = self.0.embassies.iter().find(|known| known.name == *embassy);
        let described = described.ok_or_else(|| CharterError::Unknown { place: place(), name: embassy.to_string() })?;
        CustodyFacts::new(CustodyFactsParts {
            charter: self.id(),
            in_force: self.at(),
            embassy: embassy.clone(),
            generation: custody.generation,
            unseal: QuorumFacts { key: custody.unseal.clone(), members: self.members(&self.0.unseal)? },
            recovery: QuorumFacts { key: custody.recovery.clone(), members: self.members(&self.0.recovery)? },
            amend: self.amend()?,
            others: custody
                .machines
                .iter()
                .filter(|other| other.embassy != *embassy)
                .map(|other| (other.embassy.clone(), other.custody_key))
                .collect(),
            expiry_max_seconds: self.0.expiry_max_seconds,
            machine: MachineFacts {
                platform: described.platform,
                handles: described.handles,
                counter_first: machine.counter_first,
                storage_root: machine.storage_root,
                attestation_key: machine.attestation_key,
                custody_key: machine.custody_key,
                identity_key: machine.identity_key,
            },
        })
        .map_err(|error| CharterError::Facts { embassy: embassy.clone(), error })
    }

    fn members(&self, rule: &QuorumRule) -> Result<Vec<OfficialFacts>, CharterError> {
        rule.members
            .iter()
            .map(|name| {
                let official = self.official(name);
                let unknown = || CharterError::Unknown { place: "quorum".to_owned(), name: name.to_string() };
                let CharterOfficial { name, identity, hybrid, .. } = official.ok_or_else(unknown)?.clone();
                Ok(OfficialFacts { name, identity, hybrid })
            })
            .collect()
    }

    fn check_custody(&self, custody: &CharterCustody) -> Result<(), CharterError> {
        for (place, key, rule) in [
            ("unseal quorum", &custody.unseal, &self.0.unseal),
            ("recovery quorum", &custody.recovery, &self.0.recovery),
        ] {
            let (found, expected) = (key.threshold(), rule.threshold);
            if found != expected {
                return Err(CharterError::OtherThreshold { place, found, expected });
            }
        }
        if custody.machines.is_empty() {
            return Err(CharterError::Nobody { place: "custody" });
        }
        check::unique(
            "custody",
            "embassy",
            custody.machines.iter().map(|machine| (machine.embassy.to_string(), machine.embassy.as_str())),
        )?;
        custody.machines.iter().try_for_each(|machine| self.facts_of(custody, machine).map(drop))
    }
}

impl Wire for Charter {
    fn write(&self, out: &mut Writer) {
        let parts = &self.0;
        out.u32(parts.version);
        // The founding charter names neither; every later one names both.
        for hash in parts.founding.iter().map(|id| &id.0).chain(&parts.previous) {
            out.value(hash);
        }
        out.value(&parts.country).value(&parts.home).list(&parts.officials);
        out.value(&parts.unseal).u8(parts.amend_k).value(&parts.recovery);
        out.u32(parts.expiry_max_seconds).u32(parts.heartbeat_seconds);
        out.list(&parts.embassies).list(&parts.owners).list(&parts.datasets).list(&parts.witnesses);
        out.value(&parts.policy);
        out.u8(u8::from(parts.custody.is_some()));
        if let Some(custody) = &parts.custody {
            out.value(custody);
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let version = input.u32("charter version")?;
        let (founding, previous) = match version {
            0 | 1 => (None, None),
            _ => (Some(input.value()?), Some(input.value()?)),
        };
        let parts = CharterParts {
            version,
            founding,
            previous,
            country: input.value()?,
            home: input.value()?,
            officials: input.list(2 * usize::from(MAX_OFFICIALS), "officials")?,
            unseal: input.value()?,
            amend_k: input.u8("amend threshold")?,
            recovery: input.value()?,
            expiry_max_seconds: input.u32("longest expiry")?,
            heartbeat_seconds: input.u32("heartbeat")?,
            embassies: input.list(MAX_EMBASSIES, "embassies")?,
            owners: input.list(MAX_DATASETS, "data owners")?,
            datasets: input.list(MAX_DATASETS, "datasets")?,
            witnesses: input.list(MAX_WITNESSES, "witnesses")?,
            policy: input.value()?,
            custody: match input.u8("custody")? {
                0 => None,
                1 => Some(input.value()?),
                _ => return Err(WireError::Invalid { field: "custody", reason: "neither absent (0) nor present (1)" }),
            },
        };
        Self::new(parts).map_err(|_| WireError::Invalid { field: "charter", reason: "it contradicts itself" })
    }
}

impl Document for Charter {
    const LABEL: Label = Label::CHARTER;
    // 64 officials at 1.4 KiB, 2,048 owners and datasets at up to 170 bytes.
    const MAX_BYTES: usize = 512 * 1024;
}

impl Charter {
    /// What a quorum's key generation runs under: static keys in order of position.
    ///
    /// # Errors
    /// [`CharterError::Unknown`], which [`Charter::new`] has excluded.
    pub fn static_keys(&self, rule: &QuorumRule) -> Result<Vec<Point>, CharterError> {
        rule.members
            .iter()
            .map(|name| {
                let unknown = || CharterError::Unknown { place: "quorum".to_owned(), name: name.to_string() };
                self.official(name).map(|official| official.dkg).ok_or_else(unknown)
            })
            .collect()
    }

    /// Who owns a dataset.
    pub fn owner_of(&self, dataset: &DatasetName) -> Option<&CharterOwner> {
        let owner = &self.0.datasets.iter().find(|known| known.name == *dataset)?.owner;
        self.0.owners.iter().find(|known| known.name == *owner)
    }
}
