//! Who signs: an identity key, wherever it lies. The protocol hands out digests and takes signatures, and never a key.
//!
//! Officials keep their identity key in a file or on a token; a token may be pulled, locked or lost in the middle. So a
//! signature can fail, says why, and whoever asked has done nothing yet.

use p256::ecdsa::{
    Signature, SigningKey, VerifyingKey,
    signature::hazmat::{PrehashSigner, PrehashVerifier},
};

use crate::protocol::{
    group::Point,
    hash::Hash,
    wire::{Reader, WireError},
};

/// Why there is no signature. Nothing was signed or sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key gave no signature: {reason}")]
pub struct SignError {
    /// What its keeper says.
    pub reason: String,
}

/// A P-256 key that signs SHA-256 digests.
///
/// **Promise**, held by `tests/keys.rs` for every kind of key: a signature that is given verifies under
/// [`DigestSigner::public_key`] over exactly the digest that was asked for, and has the low s.
pub trait DigestSigner {
    /// The public half.
    fn public_key(&self) -> Point;

    /// ECDSA over a digest.
    ///
    /// # Errors
    /// [`SignError`] where the key cannot be reached or does not sign.
    fn sign_digest(&self, digest: &Hash) -> Result<Signature, SignError>;
}

impl DigestSigner for SigningKey {
    fn public_key(&self) -> Point {
        Point::of_key(self.verifying_key())
    }

    fn sign_digest(&self, digest: &Hash) -> Result<Signature, SignError> {
        let signature: Signature =
            self.sign_prehash(digest.as_bytes()).map_err(|error| SignError { reason: error.to_string() })?;
        Ok(low(signature))
    }
}

/// The form with the low s, the only one that is accepted.
pub(super) fn low(signature: Signature) -> Signature {
    signature.normalize_s().unwrap_or(signature)
}

/// Whether the key with this public half signed the digest.
pub(super) fn signed_by(public: &Point, digest: &Hash, signature: &Signature) -> bool {
    VerifyingKey::from_affine(*public.affine())
        .is_ok_and(|key| key.verify_prehash(digest.as_bytes(), signature).is_ok())
}

/// Reads a signature in its one form: with s also n - s verifies, and of the two the low one is accepted.
pub(super) fn read_signature(input: &mut Reader<'_>) -> Result<Signature, WireError> {
    let signature = Signature::from_slice(input.raw(64, "signature")?).ok();
    signature
        .filter(|signature| signature.normalize_s().is_none())
        .ok_or(WireError::Invalid { field: "signature", reason: "not two exponents with the low s" })
}
