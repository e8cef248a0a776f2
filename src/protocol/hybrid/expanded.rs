//! The two private keys of a hybrid key, written out, for whoever keeps them in memory of its own and computes with another
//! library than ours: the embassy, in the memory of its leases. The hash over both shared secrets stays here.

use ml_kem::EncodedSizeUser;
use zeroize::Zeroize;

use super::{ENCAPSULATED_BYTES, HybridPublicKey, HybridSecretKey, ML_KEM_CIPHERTEXT_BYTES, POINT_BYTES, combine};
use crate::protocol::secret::Secret;

/// Length of an ML-KEM-768 decapsulation key (FIPS 203).
pub const ML_KEM_SECRET_BYTES: usize = 2400;
/// Length of what [`HybridSecretKey::write_expanded`] writes: the ML-KEM half, then the P-256 half.
pub const EXPANDED_BYTES: usize = ML_KEM_SECRET_BYTES + 32;

impl HybridSecretKey {
    /// Writes both private keys: the ML-KEM-768 decapsulation key in the form of FIPS 203, then the P-256 scalar. The
    /// caller owns the place; copies made on the way are wiped, those that moves leave on the stack are not.
    pub fn write_expanded(&self, out: &mut [u8; EXPANDED_BYTES]) {
        let (of_ml_kem, of_p256) = out.split_at_mut(ML_KEM_SECRET_BYTES);
        let expanded = &self.0.0;
        let mut ml_kem = expanded.ml_kem.as_bytes();
        of_ml_kem.copy_from_slice(&ml_kem);
        ml_kem.as_mut_slice().zeroize();
        of_p256.copy_from_slice(expanded.p256.to_bytes().expose());
    }
}

/// Both private keys where they were written.
#[derive(Clone, Copy)]
pub struct ExpandedKey<'a>(&'a [u8; EXPANDED_BYTES]);

impl std::fmt::Debug for ExpandedKey<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ExpandedKey(redacted)")
    }
}

impl<'a> ExpandedKey<'a> {
    /// What [`HybridSecretKey::write_expanded`] wrote.
    pub const fn new(bytes: &'a [u8; EXPANDED_BYTES]) -> Self {
        Self(bytes)
    }

    /// The ML-KEM-768 decapsulation key.
    pub fn expose_ml_kem(self) -> &'a [u8] {
        self.0.split_at(ML_KEM_SECRET_BYTES).0
    }

    /// The P-256 scalar, big-endian.
    pub fn expose_p256(self) -> &'a [u8] {
        self.0.split_at(ML_KEM_SECRET_BYTES).1
    }
}

/// An encapsulation's two halves: the ML-KEM-768 ciphertext, and the ephemeral point in its one accepted form, SEC 1
/// uncompressed. `None` where the second half has another form; whether it is a point is for the key agreement to tell.
pub fn encapsulation_halves(
    enc: &[u8; ENCAPSULATED_BYTES],
) -> Option<(&[u8; ML_KEM_CIPHERTEXT_BYTES], &[u8; POINT_BYTES])> {
    let (ml_kem, point) = enc.split_first_chunk::<ML_KEM_CIPHERTEXT_BYTES>()?;
    let point: &[u8; POINT_BYTES] = point.try_into().ok()?;
    (point.first() == Some(&4)).then_some((ml_kem, point))
}

/// The KEM's shared secret from those of its halves.
pub fn join_shared_secrets(
    ml_kem: &[u8],
    x: &Secret<32>,
    ephemeral: &[u8; POINT_BYTES],
    public: &HybridPublicKey,
) -> Secret<32> {
    let joined = combine(ml_kem, x, ephemeral, &public.point().encode_uncompressed());
    let mut shared = Secret::zeroed();
    shared.expose_mut().copy_from_slice(&joined.0);
    shared
}
