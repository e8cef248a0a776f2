//! Opening, and the comparison that must follow: a seed is handed out only after every slot of its version was made again
//! from it and found equal. protocol.md §6.5.

use crate::protocol::{
    dataset::{DatasetSeed, Recipient},
    secret::SharedPoint,
    slot::{
        SealedFor, VerifiedSlot,
        kek::{decrypt, key_encryption_key},
        seal::seal,
        share::W,
    },
};

/// Why a slot did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// An embassy's slot without the embassy's half.
    #[error("an embassy's slot needs the embassy's half, Z_T")]
    NeedsEmbassy,
    /// A recovery slot with an embassy's half.
    #[error("a recovery slot takes no embassy's half")]
    TakesNoEmbassy,
    /// A half is wrong, or the data owner sealed it wrongly. Partials and shares that were checked as they came are right;
    /// then what remains is the embassy's half and the data owner.
    #[error("the slot does not open with these halves")]
    DoesNotOpen,
    /// The slot opens, and holds another dataset's seed.
    #[error("the slot holds a seed that does not give the signed recipient: the data owner sealed it wrongly")]
    Recipient,
}

/// Some slots of a version are not what its seed makes: the data owner sealed them wrongly, and they may not open when
/// they are needed. The data owner must make a new version; tell the owner now.
#[derive(Debug, thiserror::Error)]
#[error("not made from this seed: {}", .differing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
pub struct Mismatch {
    differing: Vec<SealedFor>,
    seed: DatasetSeed,
}

impl Mismatch {
    /// Whose slots differ.
    pub fn differing(&self) -> &[SealedFor] {
        &self.differing
    }

    /// Takes the seed all the same. It gives the signed recipient, so the data can be read with it. Only for when the
    /// data would otherwise be lost, and for making the new version.
    pub fn into_seed(self) -> DatasetSeed {
        self.seed
    }
}

/// Why an opened seed was not handed out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// The seed of one version, compared with the slots of another. Nobody is to blame but the caller.
    #[error("the seed came out of a slot of another dataset version; compare it with the slots of that one")]
    AnotherVersion,
    /// Some slots differ.
    #[error(transparent)]
    Mismatch(#[from] Box<Mismatch>),
}

/// A seed that came out of a slot and gives the signed recipient. To be used once the version's slots were compared.
#[derive(Debug)]
pub struct OpenedSeed(DatasetSeed);

impl OpenedSeed {
    /// The recipient that this seed gives.
    pub(in crate::protocol) fn recipient(&self) -> Recipient {
        self.0.key().recipient()
    }

    /// Makes every slot again and compares all bytes. `slots` must be all of the version's: its verified record knows
    /// them, and calls this.
    pub(in crate::protocol) fn compare<'a>(
        self,
        slots: impl IntoIterator<Item = &'a VerifiedSlot>,
    ) -> Result<DatasetSeed, Mismatch> {
        let differs = |slot: &&VerifiedSlot| seal(&self.0, &slot.context).as_ref() != Ok(&slot.slot);
        let differing: Vec<SealedFor> =
            slots.into_iter().filter(differs).map(|slot| slot.context.kind().sealed_for()).collect();
        if differing.is_empty() { Ok(self.0) } else { Err(Mismatch { differing, seed: self.0 }) }
    }
}

impl VerifiedSlot {
    /// Opens the slot with Z_Y (from the officials' partials), Z_T (from the embassy's TPM; none for recovery), and w.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, z_y: &SharedPoint, z_t: Option<&SharedPoint>, w: &W) -> Result<OpenedSeed, OpenError> {
        match (self.context.kind().custody_key(), z_t) {
            (Some(_), None) => return Err(OpenError::NeedsEmbassy),
            (None, Some(_)) => return Err(OpenError::TakesNoEmbassy),
            _ => {}
        }
        let kek = key_encryption_key(&self.context, &self.slot.c, z_y, z_t, w);
        let seed =
            decrypt(&kek, &self.context, &self.slot.ciphertext).map(DatasetSeed::new).ok_or(OpenError::DoesNotOpen)?;
        if seed.key().recipient() != self.context.dataset().recipient {
            return Err(OpenError::Recipient);
        }
        Ok(OpenedSeed(seed))
    }
}
