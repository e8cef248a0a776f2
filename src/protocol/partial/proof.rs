//! The proof of RFC 9497 §2.2 for P256-SHA256: one exponent leads from G to B and from every C_j to D_j.
//!
//! GenerateProof, VerifyProof and ComputeComposites as they stand there, byte for byte, with A = G and the caller's context
//! string; the RFC's own vectors are tests. The points' tables come from the caller, who uses them more than once.

use p256::{
    NistP256, ProjectivePoint, Scalar,
    elliptic_curve::hash2curve::{ExpandMsgXmd, GroupDigest},
};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::protocol::{
    group::{
        Point,
        multiply::{Comb, Doubles},
        read_scalar,
    },
    secret::SecretScalar,
    wire::{Reader, Wire, WireError, Writer},
};

/// A proof: challenge c and response s.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proof {
    challenge: Scalar,
    response: Scalar,
}

impl Proof {
    /// Length on the wire: c, s, each 32 bytes big-endian, as in RFC 9497.
    pub const BYTES: usize = 64;
}

impl Wire for Proof {
    fn write(&self, out: &mut Writer) {
        out.raw(&self.challenge.to_bytes()).raw(&self.response.to_bytes());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { challenge: read_scalar(input, "proof challenge")?, response: read_scalar(input, "proof response")? })
    }
}

/// GenerateProof (RFC 9497 §2.2.1): `share` leads from G to `public` and from each of `bases` to its place in `partials`.
///
/// Constant time in `share` and `nonce`. `None` where a hash is zero: a chance of 2^-250.
pub(super) fn generate(
    context: &[u8],
    share: &SecretScalar,
    public: &Point,
    bases: &[Doubles],
    combs: &[Comb],
    partials: &[Point],
    nonce: &SecretScalar,
) -> Option<Proof> {
    let weights = weights(context, public, bases.iter().map(Doubles::point).zip(partials))?;
    // Σ (d_j·e)·C_j = e·M, with the tables of the points that are there already.
    let times_composite = |secret: &SecretScalar| {
        let scaled: Zeroizing<Vec<Scalar>> = Zeroizing::new(weights.iter().map(|d| d * &**secret.expose()).collect());
        Comb::sum(scaled.iter().zip(combs))
    };
    let m = Doubles::sum_vartime(weights.iter().copied().zip(bases));
    let (z, t3) = (times_composite(share), times_composite(nonce));
    let t2 = Comb::generator().mul(nonce.expose());
    let challenge = challenge(context, public, [m, z, t2, t3])?;
    let response = **nonce.expose() - challenge * **share.expose();
    Some(Proof { challenge, response })
}

/// VerifyProof (RFC 9497 §2.2.2): whether one exponent leads from G to `public` and from each of `bases` to its place in
/// `partials`. Variable time; all of this is public to whoever verifies.
pub(super) fn verify(context: &[u8], public: &Doubles, bases: &[Doubles], partials: &[Doubles], proof: &Proof) -> bool {
    let Proof { challenge: c, response: s } = *proof;
    if bases.len() != partials.len() {
        return false;
    }
    let pairs = bases.iter().map(Doubles::point).zip(partials.iter().map(Doubles::point));
    let Some(weights) = weights(context, public.point(), pairs) else { return false };
    let scaled = |by: Scalar, tables| weights.iter().map(move |d| d * &by).zip(tables);
    let m = Doubles::sum_vartime(scaled(Scalar::ONE, bases));
    let z = Doubles::sum_vartime(scaled(Scalar::ONE, partials));
    // t2 = s·G + c·B
    let t2 = Doubles::sum_vartime([(s, Doubles::generator()), (c, public)]);
    // t3 = s·M + c·Z = Σ (s·d_j)·C_j + (c·d_j)·D_j
    let t3 = Doubles::sum_vartime(scaled(s, bases).chain(scaled(c, partials)));
    challenge(context, public.point(), [m, z, t2, t3]) == Some(c)
}

/// The weights d_j of ComputeComposites (RFC 9497 §2.2.1).
fn weights<'a>(
    context: &[u8],
    public: &Point,
    pairs: impl Iterator<Item = (&'a Point, &'a Point)>,
) -> Option<Vec<Scalar>> {
    let seed = Sha256::digest(framed(&[&public.encode(), &[b"Seed-", context].concat()])?);
    let weight = |(index, (c, d)): (u16, (&Point, &Point))| {
        let input = [
            framed(&[&seed])?,
            index.to_be_bytes().to_vec(),
            framed(&[&c.encode(), &d.encode()])?,
            b"Composite".to_vec(),
        ];
        hash_to_scalar(context, &input.concat())
    };
    (0_u16..).zip(pairs).map(weight).collect()
}

/// The challenge over B and the composites M, Z, t2, t3 (RFC 9497 §2.2.1). `None` where one of these is the identity, which has
/// no encoding here and which no honest prover sends.
fn challenge(context: &[u8], public: &Point, composites: [ProjectivePoint; 4]) -> Option<Scalar> {
    let mut encoded = vec![public.encode()];
    for point in composites {
        encoded.push(Point::new(point).ok()?.encode());
    }
    let fields: Vec<&[u8]> = encoded.iter().map(<[u8; 33]>::as_slice).collect();
    hash_to_scalar(context, &[framed(&fields)?, b"Challenge".to_vec()].concat())
}

/// Each field with its length in two bytes.
fn framed(fields: &[&[u8]]) -> Option<Vec<u8>> {
    let mut out = Writer::new();
    for field in fields {
        out.u16(u16::try_from(field.len()).ok()?).raw(field);
    }
    Some(out.finish())
}

/// HashToScalar of P256-SHA256 (RFC 9497 §4.3).
fn hash_to_scalar(context: &[u8], input: &[u8]) -> Option<Scalar> {
    NistP256::hash_to_scalar::<ExpandMsgXmd<Sha256>>(&[input], &[b"HashToScalar-", context]).ok()
}
