//! A dataset version as the data owner signs it: the recipient that agents encrypt to, and every slot of its seed.
//!
//! The record is public. Its signature is ECDSA P-256 over SHA-256 (FIPS 186-5; RFC 6979 where chancery signs), in the one
//! form with low s. Nobody trusts what the record says of quorums or embassies: those come from the reader's own charter,
//! as a [`SealingKeys`], and a record made for any other does not verify. protocol.md §6.1.

use p256::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};

use crate::protocol::{
    dataset::{DatasetSeed, Recipient},
    hash::Hash,
    ids::{CharterId, DatasetName, DatasetVersion, Generation, OwnerName},
    label::Label,
    signer::{DigestSigner, SignError},
    slot::{
        CompareError, ContextError, DatasetDescription, MAX_EMBASSIES, OpenedSeed, SealError, SealedFor, SealingKeys,
        Slot, SlotError, VerifiedSlot, seal,
    },
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// Length of a signature: r and s, 32 bytes each.
const SIGNATURE_BYTES: usize = 64;

/// Why a dataset version could not be made. Nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// A slot could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The charter's keys do not make contexts.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The charter is another one.
    #[error("the dataset belongs to another charter than the keys it should be sealed to")]
    Charter,
    /// The signer did not sign.
    #[error("the data owner: {0}; check the token and try again")]
    Sign(#[from] SignError),
    /// The signature is not the data owner's.
    #[error("the signature is not one of the data owner's key over this dataset version")]
    Signature,
}

/// Why a dataset version was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VersionError {
    /// Signed by another key, or altered.
    #[error("the dataset version is not signed by data owner {owner}, or was altered; ask the owner for it again")]
    Signature {
        /// Whose signature was expected.
        owner: OwnerName,
    },
    /// A record of another dataset, owner or charter than the one asked for, or than the one seen before.
    #[error("this is the record of another {what}")]
    Another {
        /// What differs: "charter", "data owner" or "dataset".
        what: &'static str,
    },
    /// Sealed for another generation of custody.
    #[error("the dataset version is sealed for generation {found}; custody is in generation {expected}")]
    Generation {
        /// The record's.
        found: Generation,
        /// The charter's.
        expected: Generation,
    },
    /// Not one slot for each embassy and one for recovery.
    #[error(
        "the slots are not those of the charter's embassies and the recovery quorum: {sealed_for} is missing or extra"
    )]
    Slots {
        /// The first place where they differ.
        sealed_for: SealedFor,
    },
    /// A slot does not verify.
    #[error("the slot for {sealed_for} is not valid: {error}")]
    Slot {
        /// Which one.
        sealed_for: SealedFor,
        /// Why.
        error: SlotError,
    },
    /// Two slots have one point, the sign aside: a partial for one would open the other.
    #[error("the slots for {first} and {second} have the same point")]
    RepeatedPoint {
        /// The one.
        first: SealedFor,
        /// The other.
        second: SealedFor,
    },
    /// The charter's keys do not make contexts.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// An older version than one already seen.
    #[error("version {offered} was offered, and version {seen} was seen before: somebody shows an old recipient")]
    Lower {
        /// The highest version seen.
        seen: DatasetVersion,
        /// The version offered.
        offered: DatasetVersion,
    },
    /// The same version with another recipient: the data owner signed two.
    #[error("version {version} was seen before with another recipient: the data owner signed both; ask the owner")]
    TwoRecipients {
        /// The version.
        version: DatasetVersion,
    },
}

/// A dataset as the reader's own charter lists it: what a record must be about, and who must have signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharteredDataset {
    /// The embassy network.
    pub charter: CharterId,
    /// The agency whose register it is.
    pub owner: OwnerName,
    /// The agency's signing key.
    pub owner_key: VerifyingKey,
    /// The register.
    pub dataset: DatasetName,
}

/// All of a version that is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Body {
    description: DatasetDescription,
    generation: Generation,
    slots: Vec<(SealedFor, Slot)>,
}

impl Body {
    /// What the data owner's key signs (protocol.md §6.1).
    fn digest(&self) -> Hash {
        Hash::of(Label::DATASET_SIGNATURE, |out| {
            out.value(self);
        })
    }
}

impl Wire for Body {
    fn write(&self, out: &mut Writer) {
        out.value(&self.description).value(&self.generation);
        out.u16(u16::try_from(self.slots.len()).unwrap_or(u16::MAX));
        for (sealed_for, slot) in &self.slots {
            out.value(sealed_for).value(slot);
        }
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let (description, generation) = (input.value()?, input.value()?);
        let count = usize::from(input.u16("slots")?);
        if count > MAX_EMBASSIES + 1 {
            return Err(WireError::TooLong { field: "slots", length: count, bound: MAX_EMBASSIES + 1 });
        }
        let slots: Vec<(SealedFor, Slot)> =
            (0..count).map(|_| Ok((input.value()?, input.value()?))).collect::<Result<_, WireError>>()?;
        // Embassies by name, then recovery: the order of SealedFor.
        if !slots.windows(2).all(|pair| matches!(pair, [(one, _), (next, _)] if one < next)) {
            return Err(WireError::Invalid { field: "slots", reason: "not in order, or one stands twice" });
        }
        Ok(Self { description, generation, slots })
    }
}

/// A dataset version with its slots sealed, to be signed by the data owner, whose key may be on a token.
#[derive(Debug)]
pub struct UnsignedVersion(Body);

impl UnsignedVersion {
    /// Seals the seed for every embassy and for the recovery quorum.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create(
        seed: &DatasetSeed,
        owner: OwnerName,
        dataset: DatasetName,
        version: DatasetVersion,
        keys: &SealingKeys,
    ) -> Result<Self, CreateError> {
        let recipient = seed.key().recipient();
        let description = DatasetDescription { charter: keys.charter(), owner, dataset, version, recipient };
        let slots = keys
            .contexts(&description)?
            .iter()
            .map(|context| Ok((context.kind().sealed_for(), seal(seed, context)?)))
            .collect::<Result<_, CreateError>>()?;
        Ok(Self(Body { description, generation: keys.generation(), slots }))
    }

    /// The SHA-256 digest that ECDSA signs.
    pub fn digest(&self) -> Hash {
        self.0.digest()
    }

    /// Signs with the owner's key, wherever it lies.
    ///
    /// # Errors
    /// [`CreateError::Sign`] where the key does not sign, [`CreateError::Signature`] where it signs wrongly.
    pub fn sign(self, key: &dyn DigestSigner) -> Result<DatasetVersionRecord, CreateError> {
        let signature = key.sign_digest(&self.digest())?;
        let public = VerifyingKey::from_affine(*key.public_key().affine()).map_err(|_| CreateError::Signature)?;
        self.signed(&signature, &public)
    }

    /// Takes a signature that a token made over [`UnsignedVersion::digest`], and brings it into the form with low s.
    ///
    /// # Errors
    /// [`CreateError::Signature`] where it is not the owner's.
    pub fn signed(self, signature: &Signature, owner_key: &VerifyingKey) -> Result<DatasetVersionRecord, CreateError> {
        let signature = signature.normalize_s().unwrap_or(*signature);
        owner_key.verify_prehash(self.digest().as_bytes(), &signature).map_err(|_| CreateError::Signature)?;
        Ok(DatasetVersionRecord { body: self.0, signature })
    }
}

/// A dataset version's record as it stands in the roll. Well-formed; its signature and slots are not yet checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetVersionRecord {
    body: Body,
    signature: Signature,
}

impl DatasetVersionRecord {
    /// Checks that this is the dataset asked for and that its owner signed it: what agents do before they encrypt.
    ///
    /// # Errors
    /// [`VersionError::Another`] and [`VersionError::Signature`].
    pub fn verify_signature(self, expected: &CharteredDataset) -> Result<SignedVersion, VersionError> {
        let found = &self.body.description;
        for (same, what) in [
            (found.charter == expected.charter, "charter"),
            (found.owner == expected.owner, "data owner"),
            (found.dataset == expected.dataset, "dataset"),
        ] {
            if !same {
                return Err(VersionError::Another { what });
            }
        }
        expected
            .owner_key
            .verify_prehash(self.body.digest().as_bytes(), &self.signature)
            .map_err(|_| VersionError::Signature { owner: expected.owner.clone() })?;
        Ok(SignedVersion(self))
    }

    /// What it says it is, unchecked: for showing, never for encrypting to it.
    pub const fn unverified(&self) -> &DatasetDescription {
        &self.body.description
    }

    /// The generation it says it is sealed for, unchecked: for showing.
    pub const fn unverified_generation(&self) -> Generation {
        self.body.generation
    }

    /// The slots it says it has, unchecked: for showing.
    pub fn unverified_slots(&self) -> &[(SealedFor, Slot)] {
        &self.body.slots
    }
}

impl Wire for DatasetVersionRecord {
    fn write(&self, out: &mut Writer) {
        out.value(&self.body).raw(&self.signature.to_bytes());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let body = input.value()?;
        let bytes = input.array::<SIGNATURE_BYTES>("data owner's signature")?;
        let invalid = |reason| WireError::Invalid { field: "data owner's signature", reason };
        let signature = Signature::from_slice(&bytes).map_err(|_| invalid("not two exponents"))?;
        // With s also n - s would verify; one of the two is accepted, so that a record has one encoding.
        if signature.normalize_s().is_some() {
            return Err(invalid("s is not the low one"));
        }
        Ok(Self { body, signature })
    }
}

impl Document for DatasetVersionRecord {
    const LABEL: Label = Label::DATASET_VERSION;
    // 17 slots of at most 40 KiB each.
    const MAX_BYTES: usize = 17 * 40 * 1024 + 2048;
}

/// A dataset version that its owner signed. Agents encrypt to its recipient; its slots are not yet checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedVersion(DatasetVersionRecord);

impl SignedVersion {
    /// Which key of which dataset.
    pub const fn description(&self) -> &DatasetDescription {
        &self.0.body.description
    }

    /// The record.
    pub const fn record(&self) -> &DatasetVersionRecord {
        &self.0
    }

    /// Checks every slot against the reader's own keys.
    ///
    /// # Errors
    /// [`VersionError`] names the slot.
    pub fn verify_slots(self, keys: &SealingKeys) -> Result<VerifiedVersion, VersionError> {
        let body = &self.0.body;
        if body.description.charter != keys.charter() {
            return Err(VersionError::Another { what: "charter" });
        }
        if body.generation != keys.generation() {
            return Err(VersionError::Generation { found: body.generation, expected: keys.generation() });
        }
        let contexts = keys.contexts(&body.description)?;
        let mut slots: Vec<VerifiedSlot> = Vec::with_capacity(contexts.len());
        for (at, context) in contexts.iter().enumerate() {
            let sealed_for = context.kind().sealed_for();
            let slot = match body.slots.get(at) {
                Some((found, slot)) if *found == sealed_for => slot,
                _ => return Err(VersionError::Slots { sealed_for }),
            };
            let slot =
                slot.verify(context).map_err(|error| VersionError::Slot { sealed_for: sealed_for.clone(), error })?;
            if let Some(twin) = slots.iter().find(|earlier| earlier.point().equals_up_to_sign(slot.point())) {
                let first = twin.context().kind().sealed_for();
                return Err(VersionError::RepeatedPoint { first, second: sealed_for });
            }
            slots.push(slot);
        }
        if let Some((sealed_for, _)) = body.slots.get(contexts.len()) {
            return Err(VersionError::Slots { sealed_for: sealed_for.clone() });
        }
        Ok(VerifiedVersion { record: self.0, slots })
    }
}

/// A dataset version of which everything public was checked: signature, dataset, generation and every slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedVersion {
    record: DatasetVersionRecord,
    slots: Vec<VerifiedSlot>,
}

impl VerifiedVersion {
    /// Which key of which dataset.
    pub const fn description(&self) -> &DatasetDescription {
        &self.record.body.description
    }

    /// The record.
    pub const fn record(&self) -> &DatasetVersionRecord {
        &self.record
    }

    /// Every slot: embassies by name, then recovery.
    pub fn slots(&self) -> &[VerifiedSlot] {
        &self.slots
    }

    /// One slot; `None` for an embassy that the charter does not have.
    pub fn slot(&self, sealed_for: &SealedFor) -> Option<&VerifiedSlot> {
        self.slots.iter().find(|slot| slot.context().kind().sealed_for() == *sealed_for)
    }

    /// Makes every slot of the version again from a seed that one of them gave, and compares all bytes (protocol.md §6.5):
    /// the recovery slot is known to be good before a disaster needs it.
    ///
    /// # Errors
    /// [`CompareError::Mismatch`] names the slots that the data owner made differently.
    pub fn compare(&self, opened: OpenedSeed) -> Result<DatasetSeed, CompareError> {
        if opened.recipient() != self.description().recipient {
            return Err(CompareError::AnotherVersion);
        }
        Ok(opened.compare(&self.slots).map_err(Box::new)?)
    }
}

/// The highest version of a dataset that somebody has seen, with its recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenVersion {
    /// The embassy network.
    pub charter: CharterId,
    /// The register.
    pub dataset: DatasetName,
    /// The version.
    pub version: DatasetVersion,
    /// Its recipient.
    pub recipient: Recipient,
}

impl SeenVersion {
    /// Checks that `offered` is not lower than what was `seen` of this dataset, and gives what to keep as seen from now on.
    ///
    /// # Errors
    /// [`VersionError::Lower`] and [`VersionError::TwoRecipients`]: encrypt nothing to it. [`VersionError::Another`] where
    /// what was seen is of another dataset, and says nothing about this one.
    pub fn check_not_lower(seen: Option<&Self>, offered: &SignedVersion) -> Result<Self, VersionError> {
        let DatasetDescription { charter, dataset, version, recipient, .. } = offered.description().clone();
        match seen {
            Some(seen) if charter != seen.charter => Err(VersionError::Another { what: "charter" }),
            Some(seen) if dataset != seen.dataset => Err(VersionError::Another { what: "dataset" }),
            Some(seen) if version < seen.version => Err(VersionError::Lower { seen: seen.version, offered: version }),
            Some(seen) if version == seen.version && recipient != seen.recipient => {
                Err(VersionError::TwoRecipients { version })
            }
            _ => Ok(Self { charter, dataset, version, recipient }),
        }
    }
}

impl Wire for SeenVersion {
    fn write(&self, out: &mut Writer) {
        out.value(&self.charter).value(&self.dataset).value(&self.version).value(&self.recipient);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            charter: input.value()?,
            dataset: input.value()?,
            version: input.value()?,
            recipient: input.value()?,
        })
    }
}

impl Document for SeenVersion {
    const LABEL: Label = Label::DATASET_SEEN;
    const MAX_BYTES: usize = 2048;
}

#[cfg(test)]
mod tests;
