//! Who makes a key together, under which charter, in which attempt: the terms everyone knows beforehand, and the context
//! that separates one session from every other (protocol.md §4).
//!
//! Static keys come from the charter, never from the relay.

use crate::protocol::{
    dkg::{suite, transcript::repeated},
    group::Point,
    hash::Hash,
    ids::{Attempt, CharterId, Generation, QuorumKind},
    label::Label,
    quorum::{MAX_OFFICIALS, Position, QuorumError, Threshold},
    secret::SecretScalar,
    wire::{Reader, Wire, WireError, Writer},
};

/// Length of one participant's contribution to the context.
pub const NONCE_BYTES: usize = 32;

/// Why a session cannot be. Amend the charter, or use the right key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TermsError {
    /// Not one static key per official.
    #[error("{found} static keys for {n} officials")]
    KeyCount {
        /// The keys found.
        found: usize,
        /// The number of officials.
        n: u8,
    },
    /// Two officials with one static key.
    #[error("{first} and {second} have the same static key")]
    RepeatedKey {
        /// One official.
        first: Position,
        /// The other.
        second: Position,
    },
    /// Not one contribution per official.
    #[error("{found} contributions to the context from {n} officials")]
    ContributionCount {
        /// The contributions found.
        found: usize,
        /// The number of officials.
        n: u8,
    },
    /// The key is nobody's.
    #[error("this static key is not one of the charter's for this quorum and generation")]
    NotAMember,
}

/// What the charter says about a quorum that is to make its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    charter: CharterId,
    kind: QuorumKind,
    generation: Generation,
    threshold: Threshold,
    static_keys: Vec<Point>,
}

impl Terms {
    /// Takes the officials' static keys in order of position.
    ///
    /// # Errors
    /// [`TermsError`] unless there are n keys, pairwise distinct.
    pub fn new(
        charter: CharterId,
        kind: QuorumKind,
        generation: Generation,
        threshold: Threshold,
        static_keys: Vec<Point>,
    ) -> Result<Self, TermsError> {
        if static_keys.len() != usize::from(threshold.n()) {
            return Err(TermsError::KeyCount { found: static_keys.len(), n: threshold.n() });
        }
        if let Some((first, second)) = repeated(&static_keys) {
            return Err(TermsError::RepeatedKey { first, second });
        }
        Ok(Self { charter, kind, generation, threshold, static_keys })
    }

    /// The founding charter's hash.
    pub const fn charter(&self) -> CharterId {
        self.charter
    }

    /// Which quorum.
    pub const fn kind(&self) -> QuorumKind {
        self.kind
    }

    /// Which generation.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// k of n.
    pub const fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// P of everyone, in order of position.
    pub fn static_keys(&self) -> &[Point] {
        &self.static_keys
    }

    /// P of one official.
    ///
    /// # Errors
    /// [`QuorumError::NoSuchOfficial`] for a place this quorum does not have.
    pub fn static_key(&self, position: Position) -> Result<&Point, QuorumError> {
        self.static_keys
            .get(position.index())
            .ok_or(QuorumError::NoSuchOfficial { position: position.get(), n: self.threshold.n() })
    }
}

impl Wire for Terms {
    fn write(&self, out: &mut Writer) {
        out.value(&self.charter).value(&self.kind).value(&self.generation).value(&self.threshold);
        out.list(&self.static_keys);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let (charter, kind, generation, threshold) = (input.value()?, input.value()?, input.value()?, input.value()?);
        let static_keys = input.list(usize::from(MAX_OFFICIALS), "static keys")?;
        Self::new(charter, kind, generation, threshold, static_keys)
            .map_err(|_| WireError::Invalid { field: "static keys", reason: "not n distinct keys" })
    }
}

/// One official's part in a session: its place and its static key.
#[derive(Debug)]
pub struct Member {
    terms: Terms,
    position: Position,
    secret: SecretScalar,
}

impl Member {
    /// Finds the official whose key this is.
    ///
    /// # Errors
    /// [`TermsError::NotAMember`] where the key is not in the terms.
    pub fn new(terms: Terms, secret: SecretScalar) -> Result<Self, TermsError> {
        let public = Point::mul_generator(secret.expose());
        let mut places = terms.threshold.positions().zip(&terms.static_keys);
        let position = places.find(|(_, key)| **key == public).ok_or(TermsError::NotAMember)?.0;
        Ok(Self { terms, position, secret })
    }

    /// What the charter says.
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// This official's place.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// This official's static key.
    pub const fn secret(&self) -> &SecretScalar {
        &self.secret
    }
}

/// One run of the protocol, named by its context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    terms: Terms,
    attempt: Attempt,
    contributions: Vec<[u8; NONCE_BYTES]>,
    context: Hash,
}

impl Session {
    /// Fixes the context from everyone's contribution, in order of position.
    ///
    /// # Errors
    /// [`TermsError::ContributionCount`] unless there are n.
    pub fn new(terms: Terms, attempt: Attempt, contributions: Vec<[u8; NONCE_BYTES]>) -> Result<Self, TermsError> {
        let n = terms.threshold.n();
        if contributions.len() != usize::from(n) {
            return Err(TermsError::ContributionCount { found: contributions.len(), n });
        }
        // protocol.md §4.1: the suite, all static keys in order and everyone's randomness are in the context, so it is
        // fresh for each who contributed honestly, and fits no other set of participants.
        let context = Hash::of(Label::DKG_CONTEXT, |out| {
            out.bytes(suite::ID).value(&terms).value(&attempt);
            contributions.iter().for_each(|nonce| {
                out.raw(nonce);
            });
        });
        Ok(Self { terms, attempt, contributions, context })
    }

    /// What the charter says.
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Which try this is.
    pub const fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// Everyone's contribution to the context, in order of position.
    pub fn contributions(&self) -> &[[u8; NONCE_BYTES]] {
        &self.contributions
    }

    /// The session's context.
    pub const fn context(&self) -> &Hash {
        &self.context
    }

    /// The transcript's extension: founding charter, and the hash of all ciphertexts.
    pub fn extension(&self, ciphertexts: &Hash) -> Hash {
        Hash::of(Label::DKG_EXTENSION, |out| {
            out.value(&self.terms.charter).value(ciphertexts);
        })
    }
}

/// Hash of all framed ciphertexts: each sender's bundle to everyone, in order of position.
pub fn ciphertexts_hash<'a>(bundles: impl IntoIterator<Item = &'a [u8]>) -> Hash {
    Hash::of(Label::DKG_CIPHERTEXTS, |out| {
        bundles.into_iter().for_each(|bundle| {
            out.bytes(bundle);
        });
    })
}

pub(super) fn write_contributions(out: &mut Writer, attempt: Attempt, contributions: &[[u8; NONCE_BYTES]]) {
    out.value(&attempt).u16(u16::try_from(contributions.len()).unwrap_or(u16::MAX));
    contributions.iter().for_each(|nonce| {
        out.raw(nonce);
    });
}

pub(super) fn read_contributions(input: &mut Reader<'_>) -> Result<(Attempt, Vec<[u8; NONCE_BYTES]>), WireError> {
    let attempt = input.value()?;
    let length = usize::from(input.u16("contributions")?);
    let bound = usize::from(MAX_OFFICIALS);
    if length > bound {
        return Err(WireError::TooLong { field: "contributions", length, bound });
    }
    Ok((attempt, (0..length).map(|_| input.array("contribution")).collect::<Result<_, _>>()?))
}
