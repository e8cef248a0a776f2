//! The charter: the constitution of one embassy network, as one consistent document.
//!
//! It names the country, the officials with their keys, the two quorums, the embassies, data owners and datasets; the
//! completed one also names the quorums' keys and each embassy's T. A [`Charter`] contradicts itself nowhere: whatever is
//! at odds is refused with the place at fault. Who may issue one is `signed.rs`'s matter. protocol.md §12.

mod kinds;
mod show;
mod signed;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::{
    facts::{CustodyFacts, CustodyFactsParts, FactsError, MachineFacts, OfficialFacts, QuorumFacts, check_platform},
    group::Point,
    hash::Hash,
    ids::{CharterId, DatasetName, EmbassyName, OfficialName, OwnerName},
    label::Label,
    quorum::{MAX_OFFICIALS, QuorumError, Threshold},
    slot::MAX_EMBASSIES,
    tpm::approval::Expiry,
    wire::{Document, Reader, Wire, WireError, Writer},
};

pub use kinds::{
    CharterCustody, CharterDataset, CharterEmbassy, CharterMachine, CharterOfficial, CharterOwner, Country,
    HardwareClass, QuorumRule,
};
pub use signed::{Authority, ChainError, CharterSeen, SignedCharter, Signer, VerifiedCharter};

/// The most data owners, and the most datasets, that one charter names.
pub const MAX_DATASETS: usize = 1024;

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
    /// The embassies.
    pub embassies: Vec<CharterEmbassy>,
    /// The data owners.
    pub owners: Vec<CharterOwner>,
    /// The datasets.
    pub datasets: Vec<CharterDataset>,
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
        check_people(&parts)?;
        check_quorums(&parts)?;
        check_embassies(&parts)?;
        check_datasets(&parts)?;
        check_keys(&parts)?;
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
        unique(
            "custody",
            "embassy",
            custody.machines.iter().map(|machine| (machine.embassy.to_string(), machine.embassy.as_str())),
        )?;
        custody.machines.iter().try_for_each(|machine| self.facts_of(custody, machine).map(drop))
    }
}

/// Finds two entries of a list that share a key.
fn unique<K: Ord>(
    place: &'static str,
    what: &'static str,
    entries: impl Iterator<Item = (String, K)>,
) -> Result<(), CharterError> {
    let mut seen = BTreeMap::new();
    for (name, key) in entries {
        if let Some(first) = seen.insert(key, name.clone()) {
            return Err(CharterError::Shared { place, first, second: name, what });
        }
    }
    Ok(())
}

fn bounded(place: &'static str, found: usize, bound: usize) -> Result<(), CharterError> {
    match found {
        0 => Err(CharterError::Nobody { place }),
        _ if found > bound => Err(CharterError::TooMany { place, found, bound }),
        _ => Ok(()),
    }
}

fn check_people(parts: &CharterParts) -> Result<(), CharterError> {
    const PLACE: &str = "officials";
    // Both quorums may be of different people.
    bounded(PLACE, parts.officials.len(), 2 * usize::from(MAX_OFFICIALS))?;
    let each = |key: fn(&CharterOfficial) -> Vec<u8>| {
        parts.officials.iter().map(move |official| (official.name.to_string(), key(official)))
    };
    unique(PLACE, "name", each(|official| official.name.as_str().as_bytes().to_vec()))?;
    // A key and its negative have one x, and whoever knows the one knows the other.
    unique(PLACE, "identity key", each(|official| official.identity.xy().0.to_vec()))?;
    unique(PLACE, "DKG static key", each(|official| official.dkg.xy().0.to_vec()))?;
    // With one half of a hybrid key, its holder would open half of what is sealed for another.
    for (index, second) in parts.officials.iter().enumerate() {
        let twin = parts.officials.iter().take(index).find(|first| first.hybrid.shares_a_half_with(&second.hybrid));
        if let Some(first) = twin {
            let (first, second) = (first.name.to_string(), second.name.to_string());
            return Err(CharterError::Shared { place: PLACE, first, second, what: "hybrid key, or half of it" });
        }
    }
    Ok(())
}

fn check_quorums(parts: &CharterParts) -> Result<(), CharterError> {
    for (place, rule) in [("unseal quorum", &parts.unseal), ("recovery quorum", &parts.recovery)] {
        let (found, threshold) = (rule.members.len(), rule.threshold);
        if found != usize::from(threshold.n()) {
            return Err(CharterError::Members { place, found, threshold });
        }
        unique(place, "name", rule.members.iter().map(|name| (name.to_string(), name)))?;
        let stranger = rule.members.iter().find(|name| parts.officials.iter().all(|official| official.name != **name));
        if let Some(name) = stranger {
            return Err(CharterError::Unknown { place: place.to_owned(), name: name.to_string() });
        }
    }
    Threshold::new(parts.amend_k, parts.unseal.threshold.n())
        .map(drop)
        .map_err(|error| CharterError::Quorum { place: "amend", error })?;
    // Whoever amends approves what may boot; whoever recovers needs no embassy. Neither may be easier than to unseal.
    let unseal = parts.unseal.threshold.k();
    for (place, found) in [("amend", parts.amend_k), ("recovery quorum", parts.recovery.threshold.k())] {
        if found < unseal {
            return Err(CharterError::BelowUnseal { place, found, unseal });
        }
    }
    Expiry::new(parts.expiry_max_seconds, i32::MAX.unsigned_abs())
        .map(drop)
        .map_err(|_| CharterError::Expiry { found: parts.expiry_max_seconds })
}

fn check_embassies(parts: &CharterParts) -> Result<(), CharterError> {
    const PLACE: &str = "embassies";
    bounded(PLACE, parts.embassies.len(), MAX_EMBASSIES)?;
    unique(PLACE, "name", parts.embassies.iter().map(|embassy| (embassy.name.to_string(), &embassy.name)))?;
    for embassy in &parts.embassies {
        let handles = [embassy.handles.counter, embassy.handles.register, embassy.handles.charter_pin];
        unique(
            "NV indices",
            "handle",
            handles.into_iter().map(|handle| (format!("{}'s index", embassy.name), handle)),
        )?;
        check_platform(embassy.platform)
            .map_err(|error| CharterError::Facts { embassy: embassy.name.clone(), error })?;
    }
    Ok(())
}

fn check_datasets(parts: &CharterParts) -> Result<(), CharterError> {
    for (place, found) in [("data owners", parts.owners.len()), ("datasets", parts.datasets.len())] {
        if found > MAX_DATASETS {
            return Err(CharterError::TooMany { place, found, bound: MAX_DATASETS });
        }
    }
    unique("data owners", "name", parts.owners.iter().map(|owner| (owner.name.to_string(), &owner.name)))?;
    unique("datasets", "name", parts.datasets.iter().map(|dataset| (dataset.name.to_string(), &dataset.name)))?;
    let known: BTreeSet<&OwnerName> = parts.owners.iter().map(|owner| &owner.name).collect();
    parts.datasets.iter().find(|dataset| !known.contains(&dataset.owner)).map_or(Ok(()), |dataset| {
        let place = format!("dataset {}", dataset.name);
        Err(CharterError::Unknown { place, name: dataset.owner.to_string() })
    })
}

/// Every key has one use: home's, identities, hybrid and DKG keys, owners', quorums', embassies'.
fn check_keys(parts: &CharterParts) -> Result<(), CharterError> {
    let mut uses: Vec<(String, Point)> = vec![("the home authority's key".to_owned(), parts.home)];
    for official in &parts.officials {
        uses.push((format!("the identity key of {}", official.name), official.identity));
        uses.push((format!("the hybrid key of {}", official.name), *official.hybrid.point()));
        uses.push((format!("the DKG static key of {}", official.name), official.dkg));
    }
    uses.extend(parts.owners.iter().map(|owner| (format!("the key of data owner {}", owner.name), owner.key)));
    if let Some(custody) = &parts.custody {
        uses.push(("the unseal quorum's key".to_owned(), *custody.unseal.key()));
        uses.push(("the recovery quorum's key".to_owned(), *custody.recovery.key()));
        for machine in &custody.machines {
            uses.push((format!("the storage root key of {}", machine.embassy), machine.storage_root));
            uses.push((format!("the attestation key of {}", machine.embassy), machine.attestation_key));
            uses.push((format!("the custody key of {}", machine.embassy), machine.custody_key));
            uses.push((format!("the identity key of {}", machine.embassy), machine.identity_key));
        }
    }
    let mut seen: BTreeMap<[u8; 32], String> = BTreeMap::new();
    for (second, key) in uses {
        if let Some(first) = seen.insert(key.xy().0, second.clone()) {
            return Err(CharterError::KeyReused { first, second });
        }
    }
    Ok(())
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
        out.value(&parts.unseal).u8(parts.amend_k).value(&parts.recovery).u32(parts.expiry_max_seconds);
        out.list(&parts.embassies).list(&parts.owners).list(&parts.datasets).value(&parts.policy);
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
            embassies: input.list(MAX_EMBASSIES, "embassies")?,
            owners: input.list(MAX_DATASETS, "data owners")?,
            datasets: input.list(MAX_DATASETS, "datasets")?,
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
