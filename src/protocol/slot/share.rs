//! w and its shares: the half of a slot that holds when P-256 falls.
//!
//! w is a random exponent, shared k-of-n by a polynomial over the same field as the quorum's key (Shamir 1979). Each share
//! is sealed to its official under the hybrid KEM, beside a hash commitment; a share is uniform over 256 bits, so the
//! commitment hides it. Shares are checked one by one as they arrive, and the wrong one names its official. protocol.md
//! §6.4.

use p256::{NonZeroScalar, Scalar};
use zeroize::Zeroize;

use crate::protocol::{
    group::{Point, lagrange_at_zero},
    hash::{DerivedRng, Hash},
    hybrid::{self, HybridError, HybridPublicKey, HybridSecretKey, SEAL_OVERHEAD_BYTES},
    label::Label,
    quorum::{Position, QuorumError, Threshold},
    secret::{Secret, SecretScalar},
    slot::VerifiedSlot,
    wire::{Reader, Wire, WireError, Writer},
};

/// A share of 32 bytes, sealed.
const SEALED_BYTES: usize = 32 + SEAL_OVERHEAD_BYTES;

/// One official's share of w, encrypted to the official's hybrid key, and the commitment to it.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedShare {
    commitment: Hash,
    sealed: Box<[u8; SEALED_BYTES]>,
}

impl SealedShare {
    /// Commits to a share and seals it. The slot's context and point and the official's place go into both.
    pub(super) fn new(
        to: &HybridPublicKey,
        context: Hash,
        c: &Point,
        share: &WShare,
        coins: &mut DerivedRng,
    ) -> Result<Self, HybridError> {
        let bytes = share.to_bytes();
        let info = share_info(context, share.position);
        let sealed = hybrid::seal(to, Label::SLOT_SHARE, &info, &c.encode(), bytes.expose(), coins)?;
        Ok(Self {
            commitment: commitment(context, share.position, &bytes),
            sealed: sealed.try_into().map(Box::new).map_err(|_| HybridError::Seal)?,
        })
    }
}

impl std::fmt::Debug for SealedShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealedShare({:?}, ..)", self.commitment)
    }
}

impl Wire for SealedShare {
    fn write(&self, out: &mut Writer) {
        out.value(&self.commitment).raw(self.sealed.as_slice());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { commitment: input.value()?, sealed: Box::new(input.array("sealed share")?) })
    }
}

fn commitment(context: Hash, position: Position, share: &Secret<32>) -> Hash {
    // The hash's input buffer is the one place besides boxes where a share stands; it is wiped here.
    let mut input = Writer::new();
    input.label(Label::SLOT_SHARE_COMMITMENT).value(&context).value(&position);
    let public = input.finish();
    let mut bytes = Vec::with_capacity(public.len().saturating_add(32));
    bytes.extend_from_slice(&public);
    bytes.extend_from_slice(share.expose());
    let hash = Hash::of_bytes(&bytes);
    bytes.zeroize();
    hash
}

fn share_info(context: Hash, position: Position) -> Vec<u8> {
    let mut info = Writer::new();
    info.value(&context).value(&position);
    info.finish()
}

/// Why a share was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// The key is not the one that the charter names for this official.
    #[error("this is not the hybrid key that the charter names for {position}; use the key of that place")]
    NotThatKey {
        /// The official.
        position: Position,
    },
    /// The slot is valid, its shares are not: the data owner made it so.
    #[error("the data owner sealed a wrong share for {position}; the data owner must make the dataset version anew")]
    SealedWrongly {
        /// The official whose share it is. Not to blame.
        position: Position,
    },
    /// The official sent something else than its share.
    #[error("{position} sent a share of w that is not the one committed to in the slot")]
    Wrong {
        /// The official who is to blame.
        position: Position,
    },
    /// A place that does not exist.
    #[error(transparent)]
    Quorum(#[from] QuorumError),
}

impl ShareError {
    /// The official to blame, if an official is.
    pub const fn culprit(&self) -> Option<Position> {
        match self {
            Self::Wrong { position } => Some(*position),
            _ => None,
        }
    }
}

/// Why shares did not combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CombineError {
    /// Fewer than k officials.
    #[error("{have} shares of w; {need} are needed")]
    TooFew {
        /// How many there are.
        have: usize,
        /// k.
        need: u8,
    },
    /// One official's share stands twice.
    #[error("{position}'s share of w stands twice; no official counts twice")]
    Repeated {
        /// The official.
        position: Position,
    },
    /// A share of another slot.
    #[error("the share of w under {position} belongs to another slot")]
    Foreign {
        /// The place it stands under.
        position: Position,
    },
    /// The shares are those committed to, and w is zero: the data owner made it so.
    #[error("the data owner shared a w that is zero; the data owner must make the dataset version anew")]
    Zero,
}

/// One official's share of w, checked against its commitment.
#[derive(Debug, PartialEq, Eq)]
pub struct WShare {
    position: Position,
    share: SecretScalar,
}

impl WShare {
    /// Whose share it is.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// The share as 32 bytes, for sending it encrypted.
    pub fn to_bytes(&self) -> Secret<32> {
        self.share.to_bytes()
    }
}

/// w, complete.
#[derive(Debug, PartialEq, Eq)]
pub struct W(Secret<32>);

impl W {
    pub(super) const fn expose(&self) -> &Secret<32> {
        &self.0
    }
}

/// Draws w and its n shares from the slot's coins.
pub(super) fn deal(threshold: Threshold, coins: &mut DerivedRng) -> (W, Vec<WShare>) {
    loop {
        let coefficients: Vec<SecretScalar> = (0..threshold.k()).map(|_| SecretScalar::random(coins)).collect();
        let shares: Vec<WShare> = threshold
            .positions()
            .filter_map(|position| Some(WShare { position, share: evaluate(&coefficients, position)? }))
            .collect();
        // A share that is zero has no type to stand in; none of 2^256 tries will see one, and the next draw is as good.
        if let Some(w) = coefficients.first()
            && shares.len() == usize::from(threshold.n())
        {
            return (W(w.to_bytes()), shares);
        }
    }
}

fn evaluate(coefficients: &[SecretScalar], at: Position) -> Option<SecretScalar> {
    let mut sum = Scalar::ZERO;
    for coefficient in coefficients.iter().rev() {
        sum = sum * at.scalar() + **coefficient.expose();
    }
    let value = nonzero(sum);
    sum.zeroize();
    value
}

fn nonzero(scalar: Scalar) -> Option<SecretScalar> {
    Option::from(NonZeroScalar::new(scalar)).map(SecretScalar::new)
}

impl VerifiedSlot {
    /// Opens one's own share with one's hybrid key.
    ///
    /// # Errors
    /// [`ShareError::NotThatKey`] where the key is another official's; [`ShareError::SealedWrongly`] where the data owner
    /// is to blame, since the proof covers every sealed share.
    pub fn open_share(&self, position: Position, key: &HybridSecretKey) -> Result<WShare, ShareError> {
        let (to, sealed) = (self.context.quorum().official(position)?, self.sealed_share(position)?);
        if key.public() != to {
            return Err(ShareError::NotThatKey { position });
        }
        let wrong = ShareError::SealedWrongly { position };
        let info = share_info(self.context.id(), position);
        let opened = hybrid::open(key, Label::SLOT_SHARE, &info, &self.slot.c.encode(), sealed.sealed.as_slice())
            .map_err(|_| wrong)?;
        let bytes = Secret::from_slice(opened.expose()).ok_or(wrong)?;
        self.take_share(position, &bytes).map_err(|_| wrong)
    }

    /// Takes a share that an official sent, and checks it against the slot's commitment.
    ///
    /// # Errors
    /// [`ShareError::Wrong`] names the official; go on with the others. [`ShareError::SealedWrongly`] where what the slot
    /// commits to is no share at all.
    pub fn take_share(&self, position: Position, bytes: &Secret<32>) -> Result<WShare, ShareError> {
        let sealed = self.sealed_share(position)?;
        if commitment(self.context.id(), position, bytes) != sealed.commitment {
            return Err(ShareError::Wrong { position });
        }
        // Only the data owner can have committed to these bytes, so the official who shows them is not to blame.
        let share = SecretScalar::from_bytes(bytes).ok_or(ShareError::SealedWrongly { position })?;
        Ok(WShare { position, share })
    }

    /// Combines the shares of k officials or more into w.
    ///
    /// # Errors
    /// [`CombineError`]; shares of another slot are found by their commitments.
    pub fn combine_shares(&self, shares: &[WShare]) -> Result<W, CombineError> {
        let need = self.context.quorum().threshold().k();
        for (at, share) in shares.iter().enumerate() {
            let position = share.position;
            if shares.iter().take(at).any(|earlier| earlier.position == position) {
                return Err(CombineError::Repeated { position });
            }
            self.take_share(position, &share.to_bytes()).map_err(|_| CombineError::Foreign { position })?;
        }
        let quorum = shares.get(..usize::from(need)).ok_or(CombineError::TooFew { have: shares.len(), need })?;
        let members: Vec<Position> = quorum.iter().map(WShare::position).collect();
        let mut sum = Scalar::ZERO;
        for share in quorum {
            // No place stands twice, so every coefficient exists.
            let coefficient = lagrange_at_zero(share.position, &members).unwrap_or(Scalar::ZERO);
            sum += coefficient * **share.share.expose();
        }
        let w = nonzero(sum);
        sum.zeroize();
        w.map(|w| W(w.to_bytes())).ok_or(CombineError::Zero)
    }

    fn sealed_share(&self, position: Position) -> Result<&SealedShare, QuorumError> {
        let n = self.context.quorum().threshold().n();
        self.slot.shares.get(position.index()).ok_or(QuorumError::NoSuchOfficial { position: position.get(), n })
    }
}
