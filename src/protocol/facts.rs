//! The public facts of one generation of custody at one embassy: what officials, agents and auditors check everything else
//! against. They come out of the reader's own charter in force, and have no form on the wire: nobody sends them.
//!
//! The TPM policies and Names follow from these facts and are never taken from the embassy (protocol.md §10.1).

use crate::protocol::{
    group::Point,
    hybrid::HybridPublicKey,
    ids::{CharterAt, CharterId, EmbassyName, Generation, OfficialName},
    quorum::{Position, QuorumError, Threshold},
    quorum_key::QuorumKey,
    slot::{SealingKeys, SlotQuorum},
    tpm::{
        approval::Expiry,
        custody::{Custody, CustodyHandles, CustodyPlan},
        ladder::LadderError,
        name::Name,
        pcr::PcrSelection,
    },
};

/// Why facts contradict themselves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FactsError {
    /// A quorum's member list is not as long as its key has shares.
    #[error("the {quorum} quorum has a key for {n} officials, but {found} are listed")]
    Members {
        /// Which quorum.
        quorum: &'static str,
        /// The number of verification shares.
        n: u8,
        /// The number of members listed.
        found: usize,
    },
    /// Two members of a quorum have something in common that must be each one's own.
    #[error("{first} and {second} have the same {what}: one person would count twice")]
    Shared {
        /// One official.
        first: OfficialName,
        /// The other.
        second: OfficialName,
        /// Name, identity key or hybrid key.
        what: &'static str,
    },
    /// An identity key is used as the quorum's or another's verification share.
    #[error("the identity key of {official} stands as a key of another kind as well; each key has one use")]
    KeyReused {
        /// Whose.
        official: OfficialName,
    },
    /// The longest expiry of an approval is zero, or more than a TPM counts.
    #[error("the longest expiry of an approval must be 1 to {} seconds", i32::MAX)]
    Expiry,
    /// The platform register would be easier to write than a dataset to unseal.
    #[error("the amend threshold {amend} is below the unseal threshold {unseal}")]
    AmendBelowUnseal {
        /// How many amend.
        amend: u8,
        /// k of the unseal quorum.
        unseal: u8,
    },
    /// The recovery quorum would be easier to reach than the unseal quorum, and needs no TPM.
    #[error("the recovery threshold {recovery} is below the unseal threshold {unseal}")]
    RecoveryBelowUnseal {
        /// k of the recovery quorum.
        recovery: u8,
        /// k of the unseal quorum.
        unseal: u8,
    },
    /// Slots cannot be sealed to these keys.
    #[error("slots cannot be sealed to these keys: {reason}")]
    Slots {
        /// Why.
        reason: String,
    },
    /// The platform register would approve a PCR that says nothing about the boot.
    #[error(
        "PCR {pcr} cannot be part of the platform: it can be reset without a reboot, or moves while the system runs"
    )]
    Platform {
        /// Which.
        pcr: u8,
    },
    /// The ladder cannot be built from these officials.
    #[error(transparent)]
    Ladder(#[from] LadderError),
}

/// One official, as the charter states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfficialFacts {
    /// The name to show and to blame.
    pub name: OfficialName,
    /// The identity key: signs approvals and contributions (ECDSA P-256).
    pub identity: Point,
    /// The hybrid key to which shares of w are sealed.
    pub hybrid: HybridPublicKey,
}

/// One quorum: its public half, and its officials in order of position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumFacts {
    /// Y and the verification shares.
    pub key: QuorumKey,
    /// The officials.
    pub members: Vec<OfficialFacts>,
}

impl QuorumFacts {
    /// The official at a place.
    ///
    /// # Errors
    /// [`QuorumError::NoSuchOfficial`] for a place this quorum does not have.
    pub fn member(&self, position: Position) -> Result<&OfficialFacts, QuorumError> {
        self.members
            .get(position.index())
            .ok_or(QuorumError::NoSuchOfficial { position: position.get(), n: self.key.threshold().n() })
    }

    /// The officials' hybrid keys, in order of position.
    pub fn hybrid_keys(&self) -> Vec<HybridPublicKey> {
        self.members.iter().map(|member| member.hybrid.clone()).collect()
    }

    /// The place of an official; `None` for one who is no member.
    pub fn position_of(&self, name: &OfficialName) -> Option<Position> {
        let places = self.key.threshold().positions();
        places.zip(&self.members).find(|(_, member)| member.name == *name).map(|(place, _)| place)
    }

    fn check(&self, quorum: &'static str) -> Result<(), FactsError> {
        let n = self.key.threshold().n();
        if self.members.len() != usize::from(n) {
            return Err(FactsError::Members { quorum, n, found: self.members.len() });
        }
        for (index, second) in self.members.iter().enumerate() {
            for first in self.members.iter().take(index) {
                let what = match () {
                    () if first.name == second.name => "name",
                    () if first.identity.xy().0 == second.identity.xy().0 => "identity key",
                    () if first.hybrid.shares_a_half_with(&second.hybrid) => "hybrid key",
                    () => continue,
                };
                return Err(FactsError::Shared { first: first.name.clone(), second: second.name.clone(), what });
            }
            if self.key.key() == &second.identity || self.key.shares().contains(&second.identity) {
                return Err(FactsError::KeyReused { official: second.name.clone() });
            }
        }
        Ok(())
    }
}

/// Which TPM objects there are, and their public halves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineFacts {
    /// The PCRs that the platform register approves.
    pub platform: PcrSelection,
    /// Where the NV indices stand.
    pub handles: CustodyHandles,
    /// The generation counter's value for as long as this generation lasts.
    pub counter_first: u64,
    /// The storage root key, with which every session is salted: it tells this TPM from one of the host's making.
    pub storage_root: Point,
    /// The attestation key.
    pub attestation_key: Point,
    /// The custody key T.
    pub custody_key: Point,
    /// The identity key, which signs offers.
    pub identity_key: Point,
}

/// Everything public about one generation at one embassy; consistent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustodyFacts {
    charter: CharterId,
    in_force: CharterAt,
    embassy: EmbassyName,
    generation: Generation,
    unseal: QuorumFacts,
    recovery: QuorumFacts,
    amend: Threshold,
    expiry_max_seconds: u32,
    machine: MachineFacts,
    others: Vec<(EmbassyName, Point)>,
    plan: CustodyPlan,
    custody: Custody,
    sealing_keys: SealingKeys,
}

/// What [`CustodyFacts::new`] checks.
#[derive(Clone, Debug)]
pub struct CustodyFactsParts {
    /// The network.
    pub charter: CharterId,
    /// The charter in force, out of which the facts come: the only one that can be adopted.
    pub in_force: CharterAt,
    /// The embassy.
    pub embassy: EmbassyName,
    /// The generation.
    pub generation: Generation,
    /// The unseal quorum.
    pub unseal: QuorumFacts,
    /// The recovery quorum.
    pub recovery: QuorumFacts,
    /// How many of the unseal quorum's officials amend.
    pub amend: Threshold,
    /// The longest an approval may be valid, in seconds.
    pub expiry_max_seconds: u32,
    /// The TPM's side.
    pub machine: MachineFacts,
    /// The network's other embassies in custody, each with its T: a dataset version has a slot for every one.
    pub others: Vec<(EmbassyName, Point)>,
}

impl CustodyFacts {
    /// Checks the facts against each other, and computes every policy and Name from them.
    ///
    /// # Errors
    /// [`FactsError`] with the place at fault.
    pub fn new(parts: CustodyFactsParts) -> Result<Self, FactsError> {
        parts.unseal.check("unseal")?;
        parts.recovery.check("recovery")?;
        let (unseal_k, recovery_k) = (parts.unseal.key.threshold().k(), parts.recovery.key.threshold().k());
        if recovery_k < unseal_k {
            return Err(FactsError::RecoveryBelowUnseal { recovery: recovery_k, unseal: unseal_k });
        }
        if parts.amend.k() < unseal_k {
            return Err(FactsError::AmendBelowUnseal { amend: parts.amend.k(), unseal: unseal_k });
        }
        Expiry::new(parts.expiry_max_seconds, i32::MAX.unsigned_abs()).map_err(|_| FactsError::Expiry)?;
        check_platform(parts.machine.platform)?;
        let plan = CustodyPlan {
            charter: parts.charter,
            embassy: parts.embassy.clone(),
            generation: parts.generation,
            officials: parts.unseal.members.iter().map(|member| member.identity).collect(),
            unseal: parts.unseal.key.threshold(),
            amend: parts.amend,
            platform: parts.machine.platform,
            handles: parts.machine.handles,
        };
        let custody = plan.custody(parts.machine.counter_first)?;
        let CustodyFactsParts { charter, embassy, generation, unseal, recovery, amend, expiry_max_seconds, .. } = parts;
        let CustodyFactsParts { machine, mut others, in_force, .. } = parts;
        others.sort_by(|one, other| one.0.cmp(&other.0));
        let quorum = |quorum: &QuorumFacts| {
            SlotQuorum::new(quorum.key.threshold(), *quorum.key.key(), quorum.hybrid_keys())
                .map_err(|error| FactsError::Slots { reason: error.to_string() })
        };
        let here = (embassy.clone(), machine.custody_key);
        let embassies = others.iter().cloned().chain(std::iter::once(here)).collect();
        let sealing_keys = SealingKeys::new(charter, generation, quorum(&unseal)?, quorum(&recovery)?, embassies)
            .map_err(|error| FactsError::Slots { reason: error.to_string() })?;
        Ok(Self {
            charter,
            in_force,
            embassy,
            generation,
            unseal,
            recovery,
            amend,
            expiry_max_seconds,
            machine,
            others,
            plan,
            custody,
            sealing_keys,
        })
    }

    /// The network.
    pub const fn charter(&self) -> CharterId {
        self.charter
    }

    /// The charter in force, out of which the facts come.
    pub const fn in_force(&self) -> &CharterAt {
        &self.in_force
    }

    /// The embassy.
    pub const fn embassy(&self) -> &EmbassyName {
        &self.embassy
    }

    /// The generation.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// The unseal quorum.
    pub const fn unseal(&self) -> &QuorumFacts {
        &self.unseal
    }

    /// The recovery quorum.
    pub const fn recovery(&self) -> &QuorumFacts {
        &self.recovery
    }

    /// One official of either quorum.
    pub fn official(&self, name: &OfficialName) -> Option<&OfficialFacts> {
        self.unseal.members.iter().chain(&self.recovery.members).find(|member| member.name == *name)
    }

    /// How many of the unseal quorum's officials amend.
    pub const fn amend(&self) -> Threshold {
        self.amend
    }

    /// The longest an approval may be valid, in seconds.
    pub const fn expiry_max_seconds(&self) -> u32 {
        self.expiry_max_seconds
    }

    /// The TPM's side.
    pub const fn machine(&self) -> &MachineFacts {
        &self.machine
    }

    /// The description of the TPM's objects, as the embassy's own TPM driver takes it.
    pub const fn plan(&self) -> &CustodyPlan {
        &self.plan
    }

    /// Every TPM object with its policy, computed from these facts.
    pub const fn custody(&self) -> &Custody {
        &self.custody
    }

    /// The public keys that sealing and checking slots needs.
    pub const fn sealing_keys(&self) -> &SealingKeys {
        &self.sealing_keys
    }

    /// T's Name, as every approval of a decapsulation binds it.
    pub fn custody_key_name(&self) -> Name {
        self.custody.custody_key.public.name(&self.machine.custody_key)
    }
}

/// Refuses PCRs that cannot stand for a boot state: 16 and 20 to 23 can be reset by software (TCG PC Client Platform TPM
/// Profile), and 15 is extended after every register write (protocol.md §9.3).
///
/// # Errors
/// [`FactsError::Platform`].
pub fn check_platform(platform: PcrSelection) -> Result<(), FactsError> {
    [15, 16, 20, 21, 22, 23]
        .into_iter()
        .find(|pcr| platform.contains(*pcr))
        .map_or(Ok(()), |pcr| Err(FactsError::Platform { pcr }))
}
