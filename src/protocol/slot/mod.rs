//! Slots: a dataset's seed, sealed so that it takes a quorum and (except for recovery) an embassy's TPM to open it.
//!
//! A slot is a labelled threshold ciphertext in the manner of TDH2 (Shoup and Gennaro, J. Cryptology 2002), joined with a
//! value w that is shared among the officials under hybrid keys and holds when P-256 falls. Sealing needs public keys only.
//! Nothing in a slot is trusted before [`Slot::verify`]; only the [`VerifiedSlot`] that it gives can be worked with.
//! protocol.md §6.

mod context;
mod kek;
mod open;
mod proof;
mod seal;
mod seen;
mod share;

pub use context::{
    ContextError, DatasetDescription, MAX_EMBASSIES, SealedFor, SealingKeys, SealingKeysError, SlotContext, SlotKind,
    SlotQuorum,
};
pub use open::{CompareError, Mismatch, OpenError, OpenedSeed};
pub use seal::{SealError, seal};
pub use seen::{PointSeen, SeenPoints};
pub use share::{CombineError, SealedShare, ShareError, W, WShare};

use crate::protocol::{
    group::Point,
    hash::Hash,
    label::Label,
    quorum::MAX_OFFICIALS,
    wire::{Document, Reader, Wire, WireError, Writer},
};
use kek::CIPHERTEXT_BYTES;
use proof::{Proof, Statement};

/// Why a slot was refused. The data owner who signed it can seal a new one; nobody else can have made it valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// Not one share for each official.
    #[error("the slot has {found} shares for a quorum of {n}")]
    Shares {
        /// The number of shares.
        found: usize,
        /// The number of officials.
        n: u8,
    },
    /// The proof fails: the slot was made for another context, or altered.
    #[error("the slot was not made for this dataset, version, quorum and place, or was altered: its proof fails")]
    Proof,
}

/// A slot as it stands on the wire. Well-formed, and nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    c: Point,
    c_prime: Point,
    proof: Proof,
    shares: Vec<SealedShare>,
    ciphertext: [u8; CIPHERTEXT_BYTES],
}

impl Slot {
    /// Checks everything that public data can show: the slot was made by someone who knew its r, for exactly this context.
    ///
    /// # Errors
    /// [`SlotError`]. Costs four multiplications; a wrong number of shares costs nothing.
    pub fn verify(&self, context: &SlotContext) -> Result<VerifiedSlot, SlotError> {
        let n = context.quorum().threshold().n();
        if self.shares.len() != usize::from(n) {
            return Err(SlotError::Shares { found: self.shares.len(), n });
        }
        // protocol.md §6.3: no partial and no share before the proof has been checked against the context that the
        // verifier itself holds.
        if !self.proof.verifies(&self.statement(context.id())) {
            return Err(SlotError::Proof);
        }
        Ok(VerifiedSlot { slot: self.clone(), context: context.clone() })
    }

    /// C, unchecked: for showing, never for computing with it.
    pub const fn unverified_point(&self) -> &Point {
        &self.c
    }

    /// For how many officials it holds a share.
    pub const fn officials(&self) -> usize {
        self.shares.len()
    }

    const fn statement(&self, context: Hash) -> Statement<'_> {
        Statement {
            context,
            c: &self.c,
            c_prime: &self.c_prime,
            shares: self.shares.as_slice(),
            ciphertext: &self.ciphertext,
        }
    }
}

impl Wire for Slot {
    fn write(&self, out: &mut Writer) {
        out.value(&self.c).value(&self.c_prime).value(&self.proof).list(&self.shares).raw(&self.ciphertext);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            c: input.value()?,
            c_prime: input.value()?,
            proof: input.value()?,
            shares: input.list(usize::from(MAX_OFFICIALS), "shares")?,
            ciphertext: input.array("slot ciphertext")?,
        })
    }
}

impl Document for Slot {
    const LABEL: Label = Label::SLOT;
    // 32 officials at 1,233 bytes each, and some 250 more.
    const MAX_BYTES: usize = 40 * 1024;
}

/// A slot that was checked against its context. Officials compute partials and open shares from nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedSlot {
    slot: Slot,
    context: SlotContext,
}

impl VerifiedSlot {
    /// C: the point to decapsulate.
    pub const fn point(&self) -> &Point {
        &self.slot.c
    }

    /// What the slot was made for.
    pub const fn context(&self) -> &SlotContext {
        &self.context
    }

    /// The slot.
    pub const fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Names this slot: the hash of its context and all its bytes.
    pub fn id(&self) -> Hash {
        Hash::of(Label::SLOT_ID, |out| {
            out.value(&self.context.id()).value(&self.slot);
        })
    }
}

#[cfg(test)]
pub(in crate::protocol) mod tests;
