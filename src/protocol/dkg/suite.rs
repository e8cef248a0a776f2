//! The ciphersuite COCKTAIL(P-256, SHA-256) of COCKTAIL-DKG v0.2.1 (c2sp.org/cocktail-dkg): hash to scalar, Schnorr
//! signatures, and the keys under which shares travel.
//!
//! The byte strings here are the specification's, so they carry its prefixes and none of chancery's labels. Signing and
//! key agreement run in constant time; verification handles public values and does not have to.

use p256::{
    AffinePoint, NonZeroScalar, Scalar,
    elliptic_curve::{PrimeField, hash2curve::FromOkm, sec1::ToEncodedPoint},
};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::protocol::{
    dkg::xaes,
    group::{POINT_BYTES, Point, multiply::Doubles},
    secret::{Secret, SecretScalar, SecretVec},
    wire::{Reader, Wire, WireError, Writer},
};

/// The canonical `ciphersuite_id`.
pub const ID: &[u8] = b"COCKTAIL(P-256, SHA-256)";
/// Prefix of the share keys' hash.
pub const H6_PREFIX: &[u8] = b"COCKTAIL-DKG-P256-SHA256-H6";
/// Prefix of a signature's challenge.
pub const H7_PREFIX: &[u8] = b"COCKTAIL-DKG-P256-SHA256-H7";
/// Prefix of a signature's nonce.
pub const NONCE_PREFIX: &[u8] = b"COCKTAIL-DKG-P256-SHA256-NONCE";

/// Length of a scalar: 32 bytes, big-endian.
pub const SCALAR_BYTES: usize = 32;
/// Length of a signature: R, then z.
pub const SIGNATURE_BYTES: usize = POINT_BYTES + SCALAR_BYTES;

/// A signature's nonce came out as zero, which happens once in 2^256 tries. Start another attempt: its context differs, so
/// the nonce does too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature's nonce is zero; start another attempt")]
pub struct ZeroNonce;

/// `HashToScalar`: 48 bytes of two SHA-256 blocks, reduced modulo the group order.
pub fn hash_to_scalar(input: &[u8]) -> Scalar {
    let mut wide = Zeroizing::new([0; 48]);
    let (first, second) = wide.split_at_mut(32);
    first.copy_from_slice(&Sha256::new_with_prefix([1]).chain_update(input).finalize());
    let block = Sha256::new_with_prefix([2]).chain_update(input).finalize();
    second.iter_mut().zip(block).for_each(|(out, byte)| *out = byte);
    Scalar::from_okm((&*wide).into())
}

/// What the nonce is hashed from: prefix, secret key, message. Deterministic, as the specification has it.
pub fn nonce_input(secret: &SecretScalar, message: &[u8]) -> SecretVec {
    let mut out = Vec::with_capacity(NONCE_PREFIX.len() + SCALAR_BYTES + message.len());
    out.extend_from_slice(NONCE_PREFIX);
    out.extend_from_slice(secret.to_bytes().expose());
    out.extend_from_slice(message);
    SecretVec::new(out)
}

/// What the challenge is hashed from: prefix, R, public key, message.
pub fn challenge_input(commitment: &Point, public: &Point, message: &[u8]) -> Vec<u8> {
    [H7_PREFIX, &commitment.encode(), &public.encode(), message].concat()
}

/// A Schnorr signature: R compressed, z big-endian. Any 65 bytes until [`Signature::verify`] has said yes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; SIGNATURE_BYTES]);

impl Signature {
    /// Signs in constant time.
    ///
    /// # Errors
    /// [`ZeroNonce`], never in practice.
    pub fn sign(secret: &SecretScalar, message: &[u8]) -> Result<Self, ZeroNonce> {
        // The public key is computed, never taken: with a foreign one two challenges for one nonce would give the key away.
        let public = Point::mul_generator(secret.expose());
        let mut nonce = hash_to_scalar(nonce_input(secret, message).expose());
        let Some(mut nonzero) = Option::<NonZeroScalar>::from(NonZeroScalar::new(nonce)) else {
            return Err(ZeroNonce);
        };
        nonce.zeroize();
        let nonce = SecretScalar::new(nonzero);
        nonzero.zeroize();
        let commitment = Point::mul_generator(nonce.expose());
        let challenge = hash_to_scalar(&challenge_input(&commitment, &public, message));
        let response = **nonce.expose() + challenge * **secret.expose();
        let mut out = [0; SIGNATURE_BYTES];
        let (point, scalar) = out.split_at_mut(POINT_BYTES);
        point.copy_from_slice(&commitment.encode());
        scalar.copy_from_slice(&response.to_repr());
        Ok(Self(out))
    }

    /// Whether the owner of `public` signed `message`. Variable time: everything here is public.
    pub fn verify(&self, public: &Point, message: &[u8]) -> bool {
        let (point, scalar) = self.0.split_at(POINT_BYTES);
        let Ok(commitment) = Point::decode(point) else {
            return false;
        };
        let Some(response) = read_scalar(scalar) else {
            return false;
        };
        let challenge = hash_to_scalar(&challenge_input(&commitment, public, message));
        let public = Doubles::new(*public);
        Doubles::sum_vartime([(response, Doubles::generator()), (-challenge, &public)]) == commitment.projective()
    }
}

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signature(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

impl Wire for Signature {
    fn write(&self, out: &mut Writer) {
        out.raw(&self.0);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        input.array("signature").map(Self)
    }
}

/// A scalar from exactly 32 bytes below the group order.
pub(crate) fn read_scalar(bytes: &[u8]) -> Option<Scalar> {
    let bytes: [u8; SCALAR_BYTES] = bytes.try_into().ok()?;
    Option::from(Scalar::from_repr(bytes.into()))
}

/// An ECDH point, compressed; secret.
pub type SharedPoint = Secret<POINT_BYTES>;

/// ECDH in constant time, encoded as `ecdh_encode` has it.
pub fn agree(secret: &SecretScalar, public: &Point) -> SharedPoint {
    let mut shared: AffinePoint = (public.projective() * **secret.expose()).to_affine();
    let mut encoded = shared.to_encoded_point(true);
    let mut out = SharedPoint::zeroed();
    // A product of a point and a scalar that are both not zero is never the identity, so it has 33 bytes.
    out.expose_mut().iter_mut().zip(encoded.as_bytes()).for_each(|(out, byte)| *out = *byte);
    shared.zeroize();
    encoded.zeroize();
    out
}

/// Who sends what to whom: the public inputs of one share's key.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// E of the sender.
    pub ephemeral: &'a Point,
    /// P of the sender.
    pub sender: &'a Point,
    /// P of the recipient.
    pub recipient: &'a Point,
    /// The session's context.
    pub context: &'a [u8],
}

/// Key and nonce of one share, from the ephemeral-static and the static-static agreement.
pub fn share_key(ephemeral: &SharedPoint, fixed: &SharedPoint, route: &Route<'_>) -> (Secret<32>, xaes::Nonce) {
    let mut key: [u8; 32] = h6(ephemeral, fixed, route, b"key");
    let mut wide = h6(ephemeral, fixed, route, b"nonce");
    let mut nonce = xaes::Nonce::default();
    nonce.iter_mut().zip(wide).for_each(|(out, byte)| *out = byte);
    wide.zeroize();
    (Secret::take(&mut key), nonce)
}

/// H6 with `derive_extra(context, label)`; all lengths little-endian, 64 bits.
fn h6(ephemeral: &SharedPoint, fixed: &SharedPoint, route: &Route<'_>, label: &[u8]) -> [u8; 32] {
    let length = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX).to_le_bytes();
    Sha256::new_with_prefix(H6_PREFIX)
        .chain_update(ephemeral.expose())
        .chain_update(fixed.expose())
        .chain_update(route.ephemeral.encode())
        .chain_update(route.sender.encode())
        .chain_update(route.recipient.encode())
        .chain_update(length(route.context.len() + label.len() + 16))
        .chain_update(length(route.context.len()))
        .chain_update(route.context)
        .chain_update(length(label.len()))
        .chain_update(label)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::OsRng;

    #[test]
    fn a_signature_holds_for_its_key_and_message_only() {
        let (own, other) = (SecretScalar::random(&mut OsRng), SecretScalar::random(&mut OsRng));
        let public = Point::mul_generator(own.expose());
        let signature = Signature::sign(&own, b"transcript").unwrap();
        assert!(signature.verify(&public, b"transcript"));
        assert!(!signature.verify(&public, b"another"));
        assert!(!signature.verify(&Point::mul_generator(other.expose()), b"transcript"));
        for at in 0..SIGNATURE_BYTES {
            let mut bad = signature;
            bad.0[at] ^= 1;
            assert!(!bad.verify(&public, b"transcript"), "byte {at}");
        }
        assert!(!Signature([0; SIGNATURE_BYTES]).verify(&public, b"transcript"), "R is the identity");
        // z + q is the same residue, and is refused: 2^256 - 1 is not below the order.
        let mut over = signature;
        over.0[POINT_BYTES..].fill(0xff);
        assert!(!over.verify(&public, b"transcript"));
    }

    #[test]
    fn both_ends_agree_on_the_share_s_key() {
        let [d, e, r] = [(); 3].map(|()| SecretScalar::random(&mut OsRng));
        let [sender, ephemeral, recipient] = [&d, &e, &r].map(|secret| Point::mul_generator(secret.expose()));
        let route = Route { ephemeral: &ephemeral, sender: &sender, recipient: &recipient, context: b"context" };
        let there = share_key(&agree(&e, &recipient), &agree(&d, &recipient), &route);
        let here = share_key(&agree(&r, &ephemeral), &agree(&r, &sender), &route);
        assert!(there == here);
        let elsewhere = Route { context: b"another", ..route };
        assert!(there.0 != share_key(&agree(&e, &recipient), &agree(&d, &recipient), &elsewhere).0);
    }
}
