//! What COCKTAIL-DKG computes: dealing a polynomial, opening a share, the transcript, and the recovery of a share.
//!
//! This is the specification's own layer: any context, extension and payloads, its byte layouts, nothing of chancery's. It
//! trusts nothing it reads, and knows nothing of who carried it. `phase` runs it as a protocol.

use p256::{ProjectivePoint, Scalar, elliptic_curve::Group};
use rand_core::{CryptoRng, RngCore};
use zeroize::{Zeroize, Zeroizing};

use crate::protocol::{
    dkg::{
        suite::{self, Route, SCALAR_BYTES, SIGNATURE_BYTES, SharedPoint, Signature, ZeroNonce},
        xaes,
    },
    group::{POINT_BYTES, Point, multiply::Comb},
    quorum::{Position, Threshold},
    quorum_key::QuorumKey,
    secret::{SecretScalar, SecretVec, ShareSummand},
};

/// The shortest ciphertext: a share without payload.
pub const MIN_CIPHERTEXT_BYTES: usize = SCALAR_BYTES + xaes::TAG_BYTES;
/// The longest ciphertext this layer takes (the specification's interoperability floor).
pub const MAX_CIPHERTEXT_BYTES: usize = 65_536;
/// Length of the 64-bit length in front of a ciphertext.
pub const FRAME_BYTES: usize = 8;

/// Why bytes are not a round 1 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The polynomial has another degree than the quorum's: an attempt to raise the threshold, or to lower it.
    #[error("it commits to {found} coefficients, and the threshold asks for {expected}")]
    CommitmentCount {
        /// The coefficients found.
        found: usize,
        /// The threshold.
        expected: usize,
    },
    /// The message ends early.
    #[error("it ends early")]
    Truncated,
    /// Bytes follow the last ciphertext.
    #[error("{0} bytes follow its last ciphertext")]
    Trailing(usize),
    /// The identity, or not on the curve.
    #[error("its point {0} is the identity or not on the curve")]
    Point(usize),
    /// A ciphertext is too short for a share, or too long.
    #[error("its ciphertext for {0} has an impossible length")]
    CiphertextLength(Position),
}

/// What is wrong with a share that one participant sent to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShareFault {
    /// The ciphertext does not authenticate.
    #[error("the share does not decrypt")]
    Undecryptable,
    /// The plaintext is no scalar.
    #[error("the share is not a number below the group order")]
    NotCanonical,
    /// The share is not on the committed polynomial.
    #[error("the share does not fit the commitment")]
    NotCommitted,
}

/// `msg_{1|i}`: what one participant says in round 1. Points are valid; proofs and ciphertexts are not yet checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dealt {
    /// C: one point per coefficient, constant term first.
    pub commitment: Vec<Point>,
    /// PoP, under the constant term.
    pub proof: Signature,
    /// E.
    pub ephemeral: Point,
    /// One per recipient, in order of position.
    pub ciphertexts: Vec<Vec<u8>>,
}

impl Dealt {
    /// C ‖ PoP ‖ E ‖ framed ciphertexts.
    pub fn encode(&self) -> Vec<u8> {
        let mut out: Vec<u8> = self.commitment.iter().flat_map(Point::encode).collect();
        out.extend_from_slice(&self.proof.0);
        out.extend_from_slice(&self.ephemeral.encode());
        self.ciphertexts.iter().for_each(|ciphertext| frame(ciphertext, &mut out));
        out
    }

    /// Reads exactly one message for a quorum of this size, with ciphertexts of at most `longest` bytes.
    ///
    /// # Errors
    /// [`Malformed`] for anything that [`Dealt::encode`] does not write.
    pub fn parse(bytes: &[u8], threshold: Threshold, longest: usize) -> Result<Self, Malformed> {
        let (k, n) = (usize::from(threshold.k()), usize::from(threshold.n()));
        if longest == MIN_CIPHERTEXT_BYTES {
            // Everything has a fixed length, so a wrong number of coefficients can be told from a cut message.
            let rest = SIGNATURE_BYTES + POINT_BYTES + n * (FRAME_BYTES + MIN_CIPHERTEXT_BYTES);
            let points = bytes.len().saturating_sub(rest);
            if points.is_multiple_of(POINT_BYTES) && points != k * POINT_BYTES && bytes.len() >= rest {
                return Err(Malformed::CommitmentCount { found: points / POINT_BYTES, expected: k });
            }
        }
        let mut rest = bytes;
        let mut commitment = Vec::with_capacity(k);
        for index in 0..k {
            commitment.push(take_point(&mut rest, index)?);
        }
        let proof = Signature(take(&mut rest)?);
        let ephemeral = take_point(&mut rest, k)?;
        let ciphertexts = take_frames(&mut rest, threshold, longest)?;
        if rest.is_empty() {
            Ok(Self { commitment, proof, ephemeral, ciphertexts })
        } else {
            Err(Malformed::Trailing(rest.len()))
        }
    }

    /// What the PoP signs: context ‖ C ‖ E.
    pub fn proof_message(&self, context: &[u8]) -> Vec<u8> {
        proof_message(context, &self.commitment, &self.ephemeral)
    }

    /// Whether the sender knows the constant term. Variable time: everything here is public.
    pub fn proves_possession(&self, context: &[u8]) -> bool {
        self.commitment.first().is_some_and(|constant| self.proof.verify(constant, &self.proof_message(context)))
    }

    /// The ciphertext for one recipient.
    pub fn ciphertext(&self, recipient: Position) -> &[u8] {
        self.ciphertexts.get(recipient.index()).map_or(&[], Vec::as_slice)
    }
}

fn proof_message(context: &[u8], commitment: &[Point], ephemeral: &Point) -> Vec<u8> {
    let mut out = context.to_vec();
    out.extend(commitment.iter().chain([ephemeral]).flat_map(Point::encode));
    out
}

fn frame(ciphertext: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&u64::try_from(ciphertext.len()).unwrap_or(u64::MAX).to_be_bytes());
    out.extend_from_slice(ciphertext);
}

/// Framed ciphertexts, one after the other: the bundle that recovery reads.
pub fn bundle<'a>(ciphertexts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    ciphertexts.into_iter().for_each(|ciphertext| frame(ciphertext, &mut out));
    out
}

/// Reads a bundle of exactly n framed ciphertexts.
///
/// # Errors
/// [`Malformed`] for anything that [`bundle`] does not write for this quorum.
pub fn read_bundle(bytes: &[u8], threshold: Threshold) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut rest = bytes;
    let out = take_frames(&mut rest, threshold, MAX_CIPHERTEXT_BYTES)?;
    if rest.is_empty() { Ok(out) } else { Err(Malformed::Trailing(rest.len())) }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(Malformed::Truncated)?;
    *rest = tail;
    Ok(*head)
}

fn take_point(rest: &mut &[u8], index: usize) -> Result<Point, Malformed> {
    Point::decode(&take::<POINT_BYTES>(rest)?).map_err(|_| Malformed::Point(index))
}

fn take_frames(rest: &mut &[u8], threshold: Threshold, longest: usize) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut out = Vec::with_capacity(usize::from(threshold.n()));
    for recipient in threshold.positions() {
        let length = usize::try_from(u64::from_be_bytes(take(rest)?)).unwrap_or(usize::MAX);
        if length < MIN_CIPHERTEXT_BYTES || length > longest {
            return Err(Malformed::CiphertextLength(recipient));
        }
        let (head, tail) = rest.split_at_checked(length).ok_or(Malformed::Truncated)?;
        *rest = tail;
        out.push(head.to_vec());
    }
    Ok(out)
}

/// What stays the same for one participant through a session.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// t of n.
    pub threshold: Threshold,
    /// P of everyone, in order of position, pairwise distinct.
    pub static_keys: &'a [Point],
    /// The session's context.
    pub context: &'a [u8],
    /// This participant.
    pub own: Position,
    /// d of this participant.
    pub secret: &'a SecretScalar,
}

/// Round 1: deals a fresh polynomial. The coefficients are wiped on return; the ephemeral secret is handed back.
///
/// Takes t coefficients and then the ephemeral secret from `rng`, each as the next 32 bytes that are a non-zero scalar.
/// `payload` gives the bytes to travel beside each share, usually none.
///
/// # Errors
/// [`ZeroNonce`], never in practice.
pub fn deal<'p>(
    setting: &Setting<'_>,
    rng: &mut (impl RngCore + CryptoRng),
    payload: impl Fn(Position) -> &'p [u8],
) -> Result<(Dealt, SecretScalar), ZeroNonce> {
    let constant = SecretScalar::random(rng);
    let others: Vec<SecretScalar> = (1..setting.threshold.k()).map(|_| SecretScalar::random(rng)).collect();
    let ephemeral = SecretScalar::random(rng);
    let coefficients = || std::iter::once(&constant).chain(&others);

    let commitment: Vec<Point> = coefficients().map(|c| Point::mul_generator(c.expose())).collect();
    let public = Point::mul_generator(ephemeral.expose());
    let sender = Point::mul_generator(setting.secret.expose());
    let proof = Signature::sign(&constant, &proof_message(setting.context, &commitment, &public))?;

    let mut ciphertexts = Vec::with_capacity(setting.static_keys.len());
    for (position, recipient) in setting.threshold.positions().zip(setting.static_keys) {
        let at = position.scalar();
        let mut share = Zeroizing::new(Scalar::ZERO);
        for coefficient in others.iter().rev().chain([&constant]) {
            *share = *share * at + **coefficient.expose();
        }
        let mut bytes = share.to_bytes();
        let mut plaintext = Zeroizing::new(Vec::with_capacity(SCALAR_BYTES + payload(position).len()));
        plaintext.extend_from_slice(&bytes);
        plaintext.extend_from_slice(payload(position));
        bytes.zeroize();
        let route = Route { ephemeral: &public, sender: &sender, recipient, context: setting.context };
        let (key, nonce) =
            suite::share_key(&suite::agree(&ephemeral, recipient), &suite::agree(setting.secret, recipient), &route);
        ciphertexts.push(xaes::seal(&key, &nonce, plaintext));
    }
    Ok((Dealt { commitment, proof, ephemeral: public, ciphertexts }, ephemeral))
}

/// Round 2: opens the share that `sender` dealt to this participant, and checks it against the commitment.
///
/// # Errors
/// [`ShareFault`] where the sender did not send a share of its polynomial.
pub fn open(setting: &Setting<'_>, sender: &Point, dealt: &Dealt) -> Result<(ShareSummand, SecretVec), ShareFault> {
    let (ephemeral, fixed) = (suite::agree(setting.secret, &dealt.ephemeral), suite::agree(setting.secret, sender));
    let recipient = Point::mul_generator(setting.secret.expose());
    let route = Route { ephemeral: &dealt.ephemeral, sender, recipient: &recipient, context: setting.context };
    open_with(&ephemeral, &fixed, &route, dealt, setting.own)
}

/// [`open`] for whoever has the two agreed points: the recipient, or a judge to whom it showed them.
///
/// # Errors
/// [`ShareFault`] as in [`open`].
pub fn open_with(
    ephemeral: &SharedPoint,
    fixed: &SharedPoint,
    route: &Route<'_>,
    dealt: &Dealt,
    recipient: Position,
) -> Result<(ShareSummand, SecretVec), ShareFault> {
    let (key, nonce) = suite::share_key(ephemeral, fixed, route);
    let plaintext = xaes::open(&key, &nonce, dealt.ciphertext(recipient)).ok_or(ShareFault::Undecryptable)?;
    let (share, payload) = plaintext.expose().split_at_checked(SCALAR_BYTES).ok_or(ShareFault::NotCanonical)?;
    let mut scalar = suite::read_scalar(share).ok_or(ShareFault::NotCanonical)?;
    let summand = ShareSummand::new(scalar);
    scalar.zeroize();
    // In constant time on the secret side; the committed polynomial is public.
    if Comb::generator().mul(summand.expose()) == evaluate(&points(&dealt.commitment), recipient) {
        Ok((summand, SecretVec::new(payload.to_vec())))
    } else {
        Err(ShareFault::NotCommitted)
    }
}

fn points(commitment: &[Point]) -> Vec<ProjectivePoint> {
    commitment.iter().map(Point::projective).collect()
}

/// A committed polynomial at a place. Variable time: everything here is public.
fn evaluate(commitment: &[ProjectivePoint], at: Position) -> ProjectivePoint {
    commitment.iter().rev().fold(ProjectivePoint::IDENTITY, |sum, point| small_multiple(&sum, at.get()) + point)
}

fn small_multiple(point: &ProjectivePoint, by: u8) -> ProjectivePoint {
    (0..u8::BITS - by.leading_zeros()).rev().fold(ProjectivePoint::IDENTITY, |sum, bit| {
        let doubled = sum.double();
        if (by >> bit) & 1 == 1 { doubled + point } else { doubled }
    })
}

/// The commitments do not add up to a quorum key: a sum is the identity or two shares meet. Without k cheaters this
/// happens once in 2^256 tries; start another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the commitments do not add up to a quorum's key; start another attempt")]
pub struct Degenerate;

/// Y and every Y_m from all commitments.
///
/// # Errors
/// [`Degenerate`], never in practice.
pub fn quorum_key<'a>(
    threshold: Threshold,
    commitments: impl IntoIterator<Item = &'a [Point]>,
) -> Result<QuorumKey, Degenerate> {
    let mut sums = vec![ProjectivePoint::IDENTITY; usize::from(threshold.k())];
    for commitment in commitments {
        sums.iter_mut().zip(commitment).for_each(|(sum, point)| *sum += point.projective());
    }
    let key = sums.first().and_then(|sum| Point::new(*sum).ok()).ok_or(Degenerate)?;
    let shares: Vec<Point> = threshold.positions().map_while(|place| Point::new(evaluate(&sums, place)).ok()).collect();
    QuorumKey::new(threshold, key, shares).map_err(|_| Degenerate)
}
