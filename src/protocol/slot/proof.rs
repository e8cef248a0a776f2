//! The proof that C = r·G and C' = r·G' have the same r, bound to everything else in the slot.
//!
//! A Chaum–Pedersen proof made non-interactive as in TDH2: whoever makes a valid slot knows r and chose the context, so an
//! official who checks it never raises a point to its share that somebody else picked. protocol.md §6.3.

use std::sync::LazyLock;

use p256::{
    NistP256, Scalar,
    elliptic_curve::{
        PrimeField,
        hash2curve::{ExpandMsgXmd, GroupDigest},
    },
};
use sha2::Sha256;

use crate::protocol::{
    group::{Point, multiply::Doubles, read_scalar},
    hash::Hash,
    label::Label,
    secret::SecretScalar,
    slot::{kek::CIPHERTEXT_BYTES, share::SealedShare},
    wire::{Reader, Wire, WireError, Writer},
};

/// G': P256_XMD:SHA-256_SSWU_RO_ (RFC 9380) of the empty string under its label. Nobody knows its logarithm to base G.
pub(super) static SECOND_GENERATOR: LazyLock<Point> = LazyLock::new(|| {
    let hashed = NistP256::hash_from_bytes::<ExpandMsgXmd<Sha256>>(&[b""], &[Label::SLOT_SECOND_GENERATOR.as_bytes()]);
    // Both failures (a bad tag, the identity) would be the same on every run, for the input is constant; a test compares
    // the result with its known bytes, and with G.
    hashed.ok().and_then(|point| Point::new(point).ok()).unwrap_or(Point::GENERATOR)
});

static SECOND_GENERATOR_DOUBLES: LazyLock<Doubles> = LazyLock::new(|| Doubles::new(*SECOND_GENERATOR));

/// What is proven, and everything the proof is bound to.
pub(super) struct Statement<'a> {
    pub(super) context: Hash,
    pub(super) c: &'a Point,
    pub(super) c_prime: &'a Point,
    pub(super) shares: &'a [SealedShare],
    pub(super) ciphertext: &'a [u8; CIPHERTEXT_BYTES],
}

impl Statement<'_> {
    /// The context's hash covers suite, charter, dataset, version, embassy, generation, kind, Y, T and all recipients'
    /// keys; the rest follows here.
    pub(super) fn hash(&self) -> Hash {
        Hash::of(Label::SLOT_STATEMENT, |out| {
            out.value(&self.context).value(&*SECOND_GENERATOR).value(self.c).value(self.c_prime);
            out.list(self.shares).raw(self.ciphertext);
        })
    }

    /// The challenge for the commitments w1 = nonce·G and w2 = nonce·G': hash_to_field of RFC 9380 §5 into the exponents.
    fn challenge(&self, w1: &Point, w2: &Point) -> Option<Scalar> {
        let mut input = Writer::new();
        input.label(Label::SLOT_CHALLENGE).value(&self.hash()).value(w1).value(w2);
        let label = Label::SLOT_CHALLENGE.as_bytes();
        NistP256::hash_to_scalar::<ExpandMsgXmd<Sha256>>(&[&input.finish()], &[label]).ok()
    }
}

/// Challenge and response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    challenge: Scalar,
    response: Scalar,
}

impl Proof {
    /// Proves a true statement. `nonce` must be of this statement only.
    ///
    /// `None` only where SHA-256 gives no challenge, which it always does.
    pub(super) fn new(r: &SecretScalar, nonce: &SecretScalar, statement: &Statement<'_>) -> Option<Self> {
        let w1 = Point::mul_generator(nonce.expose());
        let w2 = SECOND_GENERATOR.mul(nonce.expose());
        let challenge = statement.challenge(&w1, &w2)?;
        Some(Self { challenge, response: **nonce.expose() + challenge * **r.expose() })
    }

    /// Variable time: everything here is public.
    pub(super) fn verifies(&self, statement: &Statement<'_>) -> bool {
        let (s, e) = (self.response, -self.challenge);
        let commitment = |base: &Doubles, point: &Point| {
            Point::new(Doubles::sum_vartime([(s, base), (e, &Doubles::new(*point))])).ok()
        };
        let w1 = commitment(Doubles::generator(), statement.c);
        let w2 = commitment(&SECOND_GENERATOR_DOUBLES, statement.c_prime);
        let (Some(w1), Some(w2)) = (w1, w2) else { return false };
        statement.challenge(&w1, &w2) == Some(self.challenge)
    }
}

impl Wire for Proof {
    fn write(&self, out: &mut Writer) {
        out.raw(&self.challenge.to_repr()).raw(&self.response.to_repr());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            challenge: read_scalar(input, "slot proof's challenge")?,
            response: read_scalar(input, "slot proof's response")?,
        })
    }
}
