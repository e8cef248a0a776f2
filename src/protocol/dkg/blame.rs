//! Who is to blame when a message is refused (protocol.md §4.4).
//!
//! A message that its sender did not sign is blamed on the relay: whether it was changed on the way or never sent cannot be
//! told. What is wrong inside a signed message is its sender's fault, and comes with evidence that anyone can check.

use crate::protocol::{
    dkg::{
        evidence::Evidence,
        message::Message1,
        session::{Session, ciphertexts_hash},
        sharing::{self, Dealt, MIN_CIPHERTEXT_BYTES, Malformed, Setting, ShareFault},
        transcript::Transcript,
    },
    group::Point,
    hash::Hash,
    ids::Attempt,
    quorum::{Position, QuorumError},
    secret::ShareSummand,
};

/// Who is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Culprit {
    /// An official, proven by its own signature.
    Official(Position),
    /// Whoever handed in the message: the relay, or a sender that did not sign it. They cannot be told apart.
    Relay,
}

impl std::fmt::Display for Culprit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Official(position) => position.fmt(f),
            Self::Relay => f.write_str("the relay"),
        }
    }
}

/// What an official did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The round 1 message does not have its form.
    #[error("its round 1 message is malformed: {0}")]
    Malformed(#[from] Malformed),
    /// The dealer does not know its ephemeral key.
    #[error("it does not prove that it knows its ephemeral key")]
    EphemeralKey,
    /// The dealer does not know its constant term.
    #[error("its proof of possession does not hold")]
    Possession,
    /// A share is bad.
    #[error("for {recipient}, {fault}")]
    Share {
        /// To whom.
        recipient: Position,
        /// What is wrong.
        fault: ShareFault,
    },
    /// Two different messages where one was due.
    #[error("it signed two different messages where one was due")]
    Equivocation,
    /// The signature on the transcript is bad.
    #[error("its signature on the transcript does not hold")]
    Certification,
}

/// Why a message was refused. The phase that refused it is as before: go on with the right message, or abandon the attempt.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The sender's place does not exist.
    #[error("refused: {0}")]
    NoSuchOfficial(#[from] QuorumError),
    /// Not signed by the official it names, in this session.
    #[error(
        "refused: {from} did not sign this for this session; it was changed on the way or belongs to another one. \
         Ask for it again"
    )]
    NotAuthentic {
        /// Whom it names.
        from: Position,
    },
    /// Of another attempt.
    #[error("refused: the message of {from} is for attempt {found}, this is attempt {expected}")]
    OtherAttempt {
        /// Whom it names.
        from: Position,
        /// The attempt found.
        found: Attempt,
        /// The attempt that is open.
        expected: Attempt,
    },
    /// Already accepted.
    #[error("refused: the message of {from} has been accepted before")]
    Repeated {
        /// From whom.
        from: Position,
    },
    /// The sender accepted other round 1 messages.
    #[error(
        "refused: {from} says that it accepted other round 1 messages of {}. Ask it for them: either it cannot show \
         them, or their sender signed two",
        list(about)
    )]
    Disagreement {
        /// Who says so.
        from: Position,
        /// Whose messages differ.
        about: Vec<Position>,
    },
    /// The sender cheated.
    #[error("refused: {official} is at fault: {fault}")]
    Cheated {
        /// Who.
        official: Position,
        /// How.
        fault: Fault,
        /// What convinces others.
        evidence: Box<Evidence>,
    },
}

fn list(positions: &[Position]) -> String {
    positions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Refusal {
    /// Who is to blame for certain. A repeated message is nobody's fault, and a disagreement is not yet decided.
    pub fn culprits(&self) -> Vec<Culprit> {
        match self {
            Self::NoSuchOfficial(_) | Self::NotAuthentic { .. } | Self::OtherAttempt { .. } => vec![Culprit::Relay],
            Self::Repeated { .. } | Self::Disagreement { .. } => Vec::new(),
            Self::Cheated { official, .. } => vec![Culprit::Official(*official)],
        }
    }

    /// Officials of whom at least one cheated, where it cannot be told yet which: the sender, and those whose messages
    /// it claims to have differently.
    pub fn suspects(&self) -> Vec<Position> {
        match self {
            Self::Disagreement { from, about } => [*from].iter().chain(about).copied().collect(),
            _ => Vec::new(),
        }
    }
}

/// The checks of a signed round 1 message that need no secret (protocol.md §4.3).
pub(super) fn inspect(session: &Session, message: &Message1) -> Result<Dealt, Fault> {
    let dealt = Dealt::parse(&message.body, session.terms().threshold(), MIN_CIPHERTEXT_BYTES)?;
    if !message.proves_ephemeral(session, &dealt) {
        return Err(Fault::EphemeralKey);
    }
    if !dealt.proves_possession(session.context().as_bytes()) {
        return Err(Fault::Possession);
    }
    Ok(dealt)
}

/// The hash of all ciphertexts, and the transcript that binds it.
pub(super) fn transcript(session: &Session, dealt: &[&Dealt]) -> (Hash, Transcript) {
    let bundles: Vec<Vec<u8>> =
        dealt.iter().map(|message| sharing::bundle(message.ciphertexts.iter().map(Vec::as_slice))).collect();
    let ciphertexts = ciphertexts_hash(bundles.iter().map(Vec::as_slice));
    let (terms, extension) = (session.terms(), session.extension(&ciphertexts));
    let context = session.context().as_bytes();
    (ciphertexts, Transcript::new(context, terms.threshold(), terms.static_keys(), dealt, extension.as_bytes()))
}

/// Opens the own share of an inspected message.
pub(super) fn open(setting: &Setting<'_>, sender: &Point, dealt: &Dealt) -> Result<ShareSummand, Fault> {
    match sharing::open(setting, sender, dealt) {
        Ok((summand, _)) => Ok(summand),
        Err(fault) => Err(Fault::Share { recipient: setting.own, fault }),
    }
}

/// The places whose round 1 messages two participants have differently.
pub(super) fn differing(own: &[Hash], theirs: &[Hash], positions: impl Iterator<Item = Position>) -> Vec<Position> {
    positions.filter(|position| own.get(position.index()) != theirs.get(position.index())).collect()
}
