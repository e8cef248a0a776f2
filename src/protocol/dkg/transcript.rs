//! The transcript that everyone signs in round 3, and the recovery of a share from it (COCKTAIL-DKG, Round 3 and Share
//! Recovery).
//!
//! Like `sharing` this is the specification's own layer. A transcript that was read is well formed; it is believed only
//! with the signatures of all.

use crate::protocol::{
    dkg::{
        sharing::{self, Dealt, Degenerate, Malformed, Setting, ShareFault},
        suite::{self, Signature},
    },
    group::{POINT_BYTES, Point},
    quorum::{MAX_OFFICIALS, Position, Threshold},
    quorum_key::QuorumKey,
    secret::{SecretScalar, ShareSummand},
};

/// The longest context and the longest extension that are read, in bytes.
const MAX_FIELD_BYTES: u64 = 65_536;

/// Why bytes are not a transcript.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TranscriptError {
    /// Another ciphersuite.
    #[error("the transcript is of another ciphersuite")]
    Ciphersuite,
    /// n and t are not those of a quorum.
    #[error("the transcript's numbers of participants and threshold are not those of a quorum")]
    Threshold,
    /// It ends early.
    #[error("the transcript ends early")]
    Truncated,
    /// Bytes follow.
    #[error("{0} bytes follow the transcript")]
    Trailing(usize),
    /// The identity, or not on the curve.
    #[error("the transcript holds the identity or a point that is not on the curve")]
    Point,
    /// Two participants with one static key.
    #[error("two participants of the transcript have one static key")]
    RepeatedKey,
    /// A field is over its bound.
    #[error("a field of the transcript is too long")]
    TooLong,
}

/// What all participants must agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// The session's context.
    pub context: Vec<u8>,
    /// t of n.
    pub threshold: Threshold,
    /// P of everyone.
    pub static_keys: Vec<Point>,
    /// C of everyone.
    pub commitments: Vec<Vec<Point>>,
    /// PoP of everyone.
    pub proofs: Vec<Signature>,
    /// E of everyone.
    pub ephemerals: Vec<Point>,
    /// The application's extension.
    pub extension: Vec<u8>,
}

impl Transcript {
    /// Collects it from the round 1 messages of all, in order of position.
    pub fn new(
        context: &[u8],
        threshold: Threshold,
        static_keys: &[Point],
        dealt: &[&Dealt],
        extension: &[u8],
    ) -> Self {
        Self {
            context: context.to_vec(),
            threshold,
            static_keys: static_keys.to_vec(),
            commitments: dealt.iter().map(|message| message.commitment.clone()).collect(),
            proofs: dealt.iter().map(|message| message.proof).collect(),
            ephemerals: dealt.iter().map(|message| message.ephemeral).collect(),
            extension: extension.to_vec(),
        }
    }

    /// T, the bytes that are signed.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let field = |out: &mut Vec<u8>, bytes: &[u8]| {
            out.extend_from_slice(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
            out.extend_from_slice(bytes);
        };
        field(&mut out, suite::ID);
        field(&mut out, &self.context);
        out.extend_from_slice(&u32::from(self.threshold.n()).to_le_bytes());
        out.extend_from_slice(&u32::from(self.threshold.k()).to_le_bytes());
        out.extend(self.static_keys.iter().chain(self.commitments.iter().flatten()).flat_map(Point::encode));
        out.extend(self.proofs.iter().flat_map(|proof| proof.0));
        out.extend(self.ephemerals.iter().flat_map(Point::encode));
        field(&mut out, &self.extension);
        out
    }

    /// Reads exactly one transcript.
    ///
    /// # Errors
    /// [`TranscriptError`] for anything that [`Transcript::encode`] does not write.
    pub fn parse(bytes: &[u8]) -> Result<Self, TranscriptError> {
        let mut rest = bytes;
        let input = &mut rest;
        if field(input)? != suite::ID {
            return Err(TranscriptError::Ciphersuite);
        }
        let context = field(input)?.to_vec();
        let (n, k) = (u32::from_le_bytes(take(input)?), u32::from_le_bytes(take(input)?));
        let small = |number: u32| u8::try_from(number).map_err(|_| TranscriptError::Threshold);
        let threshold = Threshold::new(small(k)?, small(n)?).map_err(|_| TranscriptError::Threshold)?;
        let all = 0..threshold.n();
        let static_keys = all.clone().map(|_| point(input)).collect::<Result<Vec<_>, _>>()?;
        if repeated(&static_keys).is_some() {
            return Err(TranscriptError::RepeatedKey);
        }
        let commitment = |input: &mut &[u8]| (0..threshold.k()).map(|_| point(input)).collect::<Result<Vec<_>, _>>();
        let commitments = all.clone().map(|_| commitment(input)).collect::<Result<_, _>>()?;
        let proofs = all.clone().map(|_| take(input).map(Signature)).collect::<Result<_, _>>()?;
        let ephemerals = all.map(|_| point(input)).collect::<Result<_, _>>()?;
        let extension = field(input)?.to_vec();
        if !input.is_empty() {
            return Err(TranscriptError::Trailing(input.len()));
        }
        Ok(Self { context, threshold, static_keys, commitments, proofs, ephemerals, extension })
    }

    /// The first participant whose signature on `bytes`, the encoding of this transcript, does not hold.
    pub fn first_unsigned(&self, bytes: &[u8], signatures: &[Signature]) -> Option<Position> {
        self.threshold.positions().zip(&self.static_keys).find_map(|(position, key)| {
            let signed = signatures.get(position.index()).is_some_and(|signature| signature.verify(key, bytes));
            (!signed).then_some(position)
        })
    }

    /// Y and every Y_m.
    ///
    /// # Errors
    /// [`Degenerate`], never in practice.
    pub fn quorum_key(&self) -> Result<QuorumKey, Degenerate> {
        sharing::quorum_key(self.threshold, self.commitments.iter().map(Vec::as_slice))
    }
}

/// Two places that hold one key.
pub(crate) fn repeated(keys: &[Point]) -> Option<(Position, Position)> {
    let places = || (1..=MAX_OFFICIALS).filter_map(Position::new).zip(keys);
    places().find_map(|(second, key)| {
        let (first, _) = places().take(second.index()).find(|(_, earlier)| *earlier == key)?;
        Some((first, second))
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], TranscriptError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(TranscriptError::Truncated)?;
    *rest = tail;
    Ok(*head)
}

fn point(rest: &mut &[u8]) -> Result<Point, TranscriptError> {
    Point::decode(&take::<POINT_BYTES>(rest)?).map_err(|_| TranscriptError::Point)
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], TranscriptError> {
    let length = u64::from_le_bytes(take(rest)?);
    if length > MAX_FIELD_BYTES {
        return Err(TranscriptError::TooLong);
    }
    let length = usize::try_from(length).map_err(|_| TranscriptError::TooLong)?;
    let (head, tail) = rest.split_at_checked(length).ok_or(TranscriptError::Truncated)?;
    *rest = tail;
    Ok(head)
}

/// Why a share could not be rebuilt. Nothing is lost: try another copy of the recorded data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The transcript does not read.
    #[error(transparent)]
    Transcript(#[from] TranscriptError),
    /// A signature on the transcript is missing or wrong.
    #[error("{0} did not sign this transcript: it is not the one the quorum agreed on")]
    Unsigned(Position),
    /// Signatures beyond those of the participants.
    #[error("{found} signatures on the transcript of {expected} participants")]
    SignatureCount {
        /// The signatures found.
        found: usize,
        /// The participants.
        expected: usize,
    },
    /// The static key is nobody's here.
    #[error("this static key belongs to no participant of the transcript")]
    NotAParticipant,
    /// The ciphertexts do not read.
    #[error("the recorded ciphertexts are damaged: {0}")]
    Bundle(#[from] Malformed),
    /// A share does not open or does not fit.
    #[error("the recorded share from {sender} is not the one agreed on: {fault}")]
    Share {
        /// Whose share it is.
        sender: Position,
        /// What is wrong with it.
        fault: ShareFault,
    },
    /// Never in practice.
    #[error(transparent)]
    Degenerate(#[from] Degenerate),
}

/// Rebuilds one participant's share from the transcript, all signatures on it and the framed ciphertexts addressed to it.
///
/// # Errors
/// [`RecoverError`] where anything does not fit anything else.
pub fn recover(
    secret: &SecretScalar,
    transcript: &[u8],
    signatures: &[Signature],
    bundle: &[u8],
) -> Result<(Position, SecretScalar, QuorumKey), RecoverError> {
    let agreed = Transcript::parse(transcript)?;
    if let Some(position) = agreed.first_unsigned(transcript, signatures) {
        return Err(RecoverError::Unsigned(position));
    }
    if signatures.len() != agreed.static_keys.len() {
        return Err(RecoverError::SignatureCount { found: signatures.len(), expected: agreed.static_keys.len() });
    }
    let public = Point::mul_generator(secret.expose());
    let (own, _) = agreed
        .threshold
        .positions()
        .zip(&agreed.static_keys)
        .find(|(_, key)| **key == public)
        .ok_or(RecoverError::NotAParticipant)?;
    let setting = Setting {
        threshold: agreed.threshold,
        static_keys: &agreed.static_keys,
        context: &agreed.context,
        own,
        secret,
    };
    let mut summands = Vec::with_capacity(agreed.static_keys.len());
    let ciphertexts = sharing::read_bundle(bundle, agreed.threshold)?;
    for (sender, ciphertext) in agreed.threshold.positions().zip(ciphertexts) {
        let summand =
            agreed.open(&setting, sender, &ciphertext).map_err(|fault| RecoverError::Share { sender, fault })?;
        summands.push(summand);
    }
    let share = ShareSummand::sum(summands.iter()).ok_or(Degenerate)?;
    Ok((own, share, agreed.quorum_key()?))
}

impl Transcript {
    fn open(&self, setting: &Setting<'_>, sender: Position, ciphertext: &[u8]) -> Result<ShareSummand, ShareFault> {
        let index = sender.index();
        let (Some(key), Some(commitment), Some(proof), Some(ephemeral)) = (
            self.static_keys.get(index),
            self.commitments.get(index),
            self.proofs.get(index),
            self.ephemerals.get(index),
        ) else {
            return Err(ShareFault::Undecryptable);
        };
        let mut ciphertexts = vec![Vec::new(); setting.own.index()];
        ciphertexts.push(ciphertext.to_vec());
        let dealt = Dealt { commitment: commitment.clone(), proof: *proof, ephemeral: *ephemeral, ciphertexts };
        sharing::open(setting, key, &dealt).map(|(summand, _)| summand)
    }
}
