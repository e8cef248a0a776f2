//! What a slot is made for: dataset, version, quorum, and the embassy or recovery. The slot's proof, its keys and its
//! shares are all bound to the whole of it, so that no part can be shown under another name.

use crate::protocol::{
    dataset::Recipient,
    group::Point,
    hash::Hash,
    hybrid::HybridPublicKey,
    ids::{CharterId, DatasetName, DatasetVersion, EmbassyName, Generation, OwnerName},
    label::Label,
    quorum::{MAX_OFFICIALS, Position, QuorumError, Threshold},
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// The most embassies a network may have; bounds a dataset version's record.
pub const MAX_EMBASSIES: usize = 16;

/// The algorithms, hashed into every context.
const SUITE: &[u8] = b"P-256, SHA-256, HKDF-SHA256, AES-256-GCM, MLKEM768-P256";

/// Why a quorum or context cannot be. The charter is wrong; nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// Not one hybrid key for each official.
    #[error("{found} hybrid keys for a quorum of {n}")]
    Officials {
        /// The number of keys.
        found: usize,
        /// The number of officials.
        n: u8,
    },
    /// Two officials have one key, or one half of a key: one person would count twice.
    #[error("{first} and {second} have the same hybrid key, or one half of it in common")]
    Repeated {
        /// One official.
        first: Position,
        /// The other.
        second: Position,
    },
    /// T = ±Y: whoever holds one half holds both.
    #[error("the embassy's custody key is the quorum's key")]
    CustodyKeyIsQuorumKey,
}

/// The quorum as a slot sees it: k of n, the key Y, and each official's hybrid key in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotQuorum {
    threshold: Threshold,
    key: Point,
    officials: Vec<HybridPublicKey>,
}

impl SlotQuorum {
    /// # Errors
    /// [`ContextError`] unless there is one key for each official and no two have even half a key in common.
    pub fn new(threshold: Threshold, key: Point, officials: Vec<HybridPublicKey>) -> Result<Self, ContextError> {
        if officials.len() != usize::from(threshold.n()) {
            return Err(ContextError::Officials { found: officials.len(), n: threshold.n() });
        }
        for (second, own) in threshold.positions().zip(&officials) {
            let earlier = threshold.positions().zip(&officials).take(second.index());
            if let Some((first, _)) = earlier.into_iter().find(|(_, other)| own.shares_a_half_with(other)) {
                return Err(ContextError::Repeated { first, second });
            }
        }
        Ok(Self { threshold, key, officials })
    }

    /// k of n.
    pub const fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// Y.
    pub const fn key(&self) -> &Point {
        &self.key
    }

    /// The officials' hybrid keys, in order of position.
    pub fn officials(&self) -> &[HybridPublicKey] {
        &self.officials
    }

    /// One official's hybrid key.
    ///
    /// # Errors
    /// [`QuorumError::NoSuchOfficial`] for a place this quorum does not have.
    pub fn official(&self, position: Position) -> Result<&HybridPublicKey, QuorumError> {
        self.officials
            .get(position.index())
            .ok_or(QuorumError::NoSuchOfficial { position: position.get(), n: self.threshold.n() })
    }
}

impl Wire for SlotQuorum {
    fn write(&self, out: &mut Writer) {
        out.value(&self.threshold).value(&self.key).list(&self.officials);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let (threshold, key) = (input.value()?, input.value()?);
        let officials = input.list(usize::from(MAX_OFFICIALS), "officials' hybrid keys")?;
        Self::new(threshold, key, officials).map_err(|_| WireError::Invalid {
            field: "quorum",
            reason: "not one hybrid key of their own for each official",
        })
    }
}

/// Whom a slot is sealed for, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SealedFor {
    /// An embassy: its TPM and the unseal quorum open it.
    Embassy(EmbassyName),
    /// The recovery quorum alone opens it.
    Recovery,
}

impl std::fmt::Display for SealedFor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embassy(name) => write!(f, "embassy {name}"),
            Self::Recovery => f.write_str("the recovery quorum"),
        }
    }
}

impl Wire for SealedFor {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Embassy(name) => out.u8(1).value(name),
            Self::Recovery => out.u8(2),
        };
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        match input.u8("slot kind")? {
            1 => input.value().map(Self::Embassy),
            2 => Ok(Self::Recovery),
            _ => Err(WireError::Invalid { field: "slot kind", reason: "neither embassy (1) nor recovery (2)" }),
        }
    }
}

/// Whom a slot is sealed for, with the key it is sealed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotKind {
    /// For an embassy.
    Embassy {
        /// Its name.
        embassy: EmbassyName,
        /// T: its custody key of this generation.
        custody_key: Point,
    },
    /// For the recovery quorum.
    Recovery,
}

impl SlotKind {
    /// Without the key.
    pub fn sealed_for(&self) -> SealedFor {
        match self {
            Self::Embassy { embassy, .. } => SealedFor::Embassy(embassy.clone()),
            Self::Recovery => SealedFor::Recovery,
        }
    }

    /// T, for an embassy's slot.
    pub const fn custody_key(&self) -> Option<&Point> {
        match self {
            Self::Embassy { custody_key, .. } => Some(custody_key),
            Self::Recovery => None,
        }
    }
}

impl Wire for SlotKind {
    fn write(&self, out: &mut Writer) {
        out.value(&self.sealed_for());
        if let Some(custody_key) = self.custody_key() {
            out.value(custody_key);
        }
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        match input.value()? {
            SealedFor::Embassy(embassy) => Ok(Self::Embassy { embassy, custody_key: input.value()? }),
            SealedFor::Recovery => Ok(Self::Recovery),
        }
    }
}

/// Which key of which dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetDescription {
    /// The embassy network.
    pub charter: CharterId,
    /// The agency whose register it is.
    pub owner: OwnerName,
    /// The register.
    pub dataset: DatasetName,
    /// The version of its key.
    pub version: DatasetVersion,
    /// What agents encrypt to; computed from the seed.
    pub recipient: Recipient,
}

impl Wire for DatasetDescription {
    fn write(&self, out: &mut Writer) {
        out.value(&self.charter).value(&self.owner).value(&self.dataset).value(&self.version).value(&self.recipient);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            charter: input.value()?,
            owner: input.value()?,
            dataset: input.value()?,
            version: input.value()?,
            recipient: input.value()?,
        })
    }
}

/// Everything a slot is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotContext {
    dataset: DatasetDescription,
    generation: Generation,
    kind: SlotKind,
    quorum: SlotQuorum,
    id: Hash,
}

impl SlotContext {
    /// # Errors
    /// [`ContextError::CustodyKeyIsQuorumKey`].
    pub fn new(
        dataset: DatasetDescription,
        generation: Generation,
        kind: SlotKind,
        quorum: SlotQuorum,
    ) -> Result<Self, ContextError> {
        if kind.custody_key().is_some_and(|custody_key| custody_key.equals_up_to_sign(quorum.key())) {
            return Err(ContextError::CustodyKeyIsQuorumKey);
        }
        let mut context = Self { dataset, generation, kind, quorum, id: Hash([0; 32]) };
        context.id = Hash::of_bytes(&context.encode());
        Ok(context)
    }

    /// Which key of which dataset.
    pub const fn dataset(&self) -> &DatasetDescription {
        &self.dataset
    }

    /// The generation of custody.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Whom the slot is for.
    pub const fn kind(&self) -> &SlotKind {
        &self.kind
    }

    /// The quorum that opens it.
    pub const fn quorum(&self) -> &SlotQuorum {
        &self.quorum
    }

    /// The hash of the whole context, suite included: what stands for it wherever it is bound.
    pub const fn id(&self) -> Hash {
        self.id
    }
}

impl Wire for SlotContext {
    fn write(&self, out: &mut Writer) {
        out.bytes(SUITE).value(&self.dataset).value(&self.generation).value(&self.kind).value(&self.quorum);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        if input.bytes(SUITE.len(), "suite")? != SUITE {
            return Err(WireError::Invalid { field: "suite", reason: "not the one there is" });
        }
        Self::new(input.value()?, input.value()?, input.value()?, input.value()?)
            .map_err(|_| WireError::Invalid { field: "slot context", reason: "the custody key is the quorum's key" })
    }
}

impl Document for SlotContext {
    const LABEL: Label = Label::SLOT_CONTEXT;
    // 33 hybrid keys and some 500 bytes more.
    const MAX_BYTES: usize = 48 * 1024;
}

/// Why a network's keys cannot be sealed to. The charter is wrong; nothing was sealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealingKeysError {
    /// No embassy, or too many.
    #[error("{found} embassies; a network has 1 to {MAX_EMBASSIES}")]
    Embassies {
        /// The number found.
        found: usize,
    },
    /// One name, or one custody key, stands twice.
    #[error("embassies {first} and {second} have the same name or the same custody key")]
    Repeated {
        /// One embassy.
        first: EmbassyName,
        /// The other.
        second: EmbassyName,
    },
    /// The quorums share a key: the unseal quorum would open recovery slots, without a TPM.
    #[error("the unseal quorum and the recovery quorum have the same key")]
    SameQuorumKey,
    /// A custody key is one of the quorums' keys.
    #[error("embassy {embassy}'s custody key is a quorum's key")]
    CustodyKeyIsQuorumKey {
        /// The embassy.
        embassy: EmbassyName,
    },
}

/// One generation of a network's public keys, as the charter states them: all that sealing and checking slots needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealingKeys {
    charter: CharterId,
    generation: Generation,
    unseal: SlotQuorum,
    recovery: SlotQuorum,
    embassies: Vec<(EmbassyName, Point)>,
}

impl SealingKeys {
    /// Takes the two quorums and every embassy with its custody key T, in any order.
    ///
    /// # Errors
    /// [`SealingKeysError`] where names or keys that must differ do not; opposite points count as one key.
    pub fn new(
        charter: CharterId,
        generation: Generation,
        unseal: SlotQuorum,
        recovery: SlotQuorum,
        mut embassies: Vec<(EmbassyName, Point)>,
    ) -> Result<Self, SealingKeysError> {
        if embassies.is_empty() || embassies.len() > MAX_EMBASSIES {
            return Err(SealingKeysError::Embassies { found: embassies.len() });
        }
        if unseal.key().equals_up_to_sign(recovery.key()) {
            return Err(SealingKeysError::SameQuorumKey);
        }
        embassies.sort_by(|one, other| one.0.cmp(&other.0));
        for (at, (second, key)) in embassies.iter().enumerate() {
            if key.equals_up_to_sign(unseal.key()) || key.equals_up_to_sign(recovery.key()) {
                return Err(SealingKeysError::CustodyKeyIsQuorumKey { embassy: second.clone() });
            }
            let twin = embassies.iter().take(at).find(|(name, other)| name == second || other.equals_up_to_sign(key));
            if let Some((first, _)) = twin {
                return Err(SealingKeysError::Repeated { first: first.clone(), second: second.clone() });
            }
        }
        Ok(Self { charter, generation, unseal, recovery, embassies })
    }

    /// The embassy network.
    pub const fn charter(&self) -> CharterId {
        self.charter
    }

    /// The generation.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// The contexts of every slot that a dataset version has, in order: embassies by name, then recovery.
    ///
    /// # Errors
    /// [`ContextError`], which [`SealingKeys::new`] has excluded.
    pub fn contexts(&self, dataset: &DatasetDescription) -> Result<Vec<SlotContext>, ContextError> {
        let embassies = self.embassies.iter().map(|(embassy, custody_key)| {
            let kind = SlotKind::Embassy { embassy: embassy.clone(), custody_key: *custody_key };
            SlotContext::new(dataset.clone(), self.generation, kind, self.unseal.clone())
        });
        let recovery = SlotContext::new(dataset.clone(), self.generation, SlotKind::Recovery, self.recovery.clone());
        embassies.chain(std::iter::once(recovery)).collect()
    }
}
