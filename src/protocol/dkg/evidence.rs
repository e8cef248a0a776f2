//! Evidence that an official cheated in a DKG, for anyone who holds the charter (protocol.md §4.4).
//!
//! It consists of the official's own signed messages. A bad share is shown by the two agreed points of its ciphertext with
//! a proof that they are the recipient's (Chaum and Pedersen); the dealer has proved that it knows both of its secrets, so
//! this tells nobody anything that the dealer could not have told. Everything here is public, so time may vary.

use p256::{ProjectivePoint, Scalar};
use zeroize::Zeroizing;

use crate::protocol::{
    dkg::{
        blame::{Fault, inspect, transcript},
        message::{Contribution, Message1, Message3},
        session::{NONCE_BYTES, Session, Terms, TermsError, read_contributions, write_contributions},
        sharing::{self, Dealt, Setting},
        suite::{self, Route, SharedPoint},
    },
    group::{Point, read_scalar},
    ids::Attempt,
    label::Label,
    quorum::{MAX_OFFICIALS, Position},
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// Why evidence does not convince.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// It does not name a session of these terms.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// The accused did not sign what it is accused of.
    #[error("{0} did not sign this message")]
    NotSigned(Position),
    /// The accuser's proof does not hold.
    #[error("the points shown are not those of the recipient")]
    Proof,
    /// The messages do not belong together.
    #[error("the messages are not those that the accused certified")]
    Unrelated,
    /// The message is in order: the accusation is false.
    #[error("the message of {0} is in order")]
    NothingWrong(Position),
}

/// What convinces anyone who holds the charter that an official cheated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    attempt: Attempt,
    contributions: Vec<[u8; NONCE_BYTES]>,
    claim: Claim,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Claim {
    /// Two contributions to one attempt.
    Contributions(Contribution, Contribution),
    /// A round 1 message with a fault that everyone can see.
    Message(Message1),
    /// A round 1 message with a fault that its recipient shows.
    Share(Message1, Shown),
    /// Two round 1 messages in one session.
    Messages(Message1, Message1),
    /// A round 3 message, and the round 1 messages it says it certifies.
    Certification(Vec<Message1>, Message3),
    /// Round 3 messages about two transcripts.
    Certifications(Message3, Message3),
}

impl Evidence {
    pub(super) fn contributions(first: &Contribution, second: &Contribution) -> Box<Self> {
        let claim = Claim::Contributions(first.clone(), second.clone());
        Box::new(Self { attempt: first.attempt, contributions: Vec::new(), claim })
    }

    fn of(session: &Session, claim: Claim) -> Box<Self> {
        let contributions = session.contributions().to_vec();
        Box::new(Self { attempt: session.attempt(), contributions, claim })
    }

    pub(super) fn message(session: &Session, message: &Message1) -> Box<Self> {
        Self::of(session, Claim::Message(message.clone()))
    }

    pub(super) fn share(session: &Session, setting: &Setting<'_>, message: &Message1, dealt: &Dealt) -> Box<Self> {
        // The sender's place was checked with its signature; the generator stands in for a key that cannot be missing.
        let sender = session.terms().static_key(message.from).copied().unwrap_or(Point::GENERATOR);
        let shown = Shown::new(session, setting, message.from, &sender, &dealt.ephemeral);
        Self::of(session, Claim::Share(message.clone(), shown))
    }

    pub(super) fn messages(session: &Session, first: &Message1, second: &Message1) -> Box<Self> {
        Self::of(session, Claim::Messages(first.clone(), second.clone()))
    }

    pub(super) fn certification(session: &Session, messages: &[Message1], certified: &Message3) -> Box<Self> {
        Self::of(session, Claim::Certification(messages.to_vec(), certified.clone()))
    }

    pub(super) fn certifications(session: &Session, first: &Message3, second: &Message3) -> Box<Self> {
        Self::of(session, Claim::Certifications(first.clone(), second.clone()))
    }

    /// The try that it is about.
    pub const fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// Whom it accuses: for showing. Only [`Evidence::verify`] says whether that is true.
    pub const fn accused(&self) -> Position {
        match &self.claim {
            Claim::Contributions(accused, _) => accused.from,
            Claim::Message(accused) | Claim::Share(accused, _) | Claim::Messages(accused, _) => accused.from,
            Claim::Certification(_, accused) | Claim::Certifications(accused, _) => accused.from,
        }
    }

    /// Of what it accuses: for showing.
    pub const fn accusation(&self) -> &'static str {
        match &self.claim {
            Claim::Contributions(..) => "two different contributions to one attempt",
            Claim::Message(_) => "a round 1 message with a fault that everyone can see",
            Claim::Share(..) => "a round 1 message with a bad share, which its recipient shows",
            Claim::Messages(..) => "two different round 1 messages in one session",
            Claim::Certification(..) => "a signature that does not hold on the transcript it certifies",
            Claim::Certifications(..) => "round 3 messages about two transcripts",
        }
    }

    /// Who cheated, and how. Variable time: everything here is public.
    ///
    /// # Errors
    /// [`EvidenceError`] where it does not show that anyone did.
    pub fn verify(&self, terms: &Terms) -> Result<(Position, Fault), EvidenceError> {
        if let Claim::Contributions(first, second) = &self.claim {
            for contribution in [first, second] {
                if !contribution.is_authentic(terms) {
                    return Err(EvidenceError::NotSigned(contribution.from));
                }
            }
            let differ = first.from == second.from && first.attempt == second.attempt && first.nonce != second.nonce;
            return if differ {
                Ok((first.from, Fault::Equivocation))
            } else {
                Err(EvidenceError::NothingWrong(first.from))
            };
        }
        let session = Session::new(terms.clone(), self.attempt, self.contributions.clone())?;
        match &self.claim {
            Claim::Contributions(first, _) => Err(EvidenceError::NothingWrong(first.from)),
            Claim::Message(message) => {
                signed(message, &session)?;
                match inspect(&session, message) {
                    Err(fault) => Ok((message.from, fault)),
                    Ok(_) => Err(EvidenceError::NothingWrong(message.from)),
                }
            }
            Claim::Share(message, shown) => {
                signed(message, &session)?;
                let fault = match inspect(&session, message) {
                    Err(fault) => fault,
                    Ok(dealt) => shown.fault(&session, message.from, &dealt)?,
                };
                Ok((message.from, fault))
            }
            Claim::Messages(first, second) => {
                signed(first, &session)?;
                signed(second, &session)?;
                if first.from == second.from && first.body != second.body {
                    Ok((first.from, Fault::Equivocation))
                } else {
                    Err(EvidenceError::NothingWrong(first.from))
                }
            }
            Claim::Certification(messages, certified) => verify_certification(&session, messages, certified),
            Claim::Certifications(first, second) => {
                for message in [first, second] {
                    if !message.is_authentic(&session) {
                        return Err(EvidenceError::NotSigned(message.from));
                    }
                }
                if first.from == second.from && first.accepted != second.accepted {
                    Ok((first.from, Fault::Equivocation))
                } else {
                    Err(EvidenceError::NothingWrong(first.from))
                }
            }
        }
    }
}

fn signed(message: &Message1, session: &Session) -> Result<(), EvidenceError> {
    if message.is_authentic(session) { Ok(()) } else { Err(EvidenceError::NotSigned(message.from)) }
}

fn verify_certification(
    session: &Session,
    messages: &[Message1],
    certified: &Message3,
) -> Result<(Position, Fault), EvidenceError> {
    if !certified.is_authentic(session) {
        return Err(EvidenceError::NotSigned(certified.from));
    }
    if certified.accepted.len() != usize::from(session.terms().threshold().n()) {
        return Ok((certified.from, Fault::Certification));
    }
    let positions = session.terms().threshold().positions();
    if !positions.eq(messages.iter().map(|message| message.from))
        || messages.iter().map(Message1::digest).ne(certified.accepted.iter().copied())
    {
        return Err(EvidenceError::Unrelated);
    }
    let dealt: Vec<Dealt> = messages
        .iter()
        .map(|message| inspect(session, message).map_err(|_| EvidenceError::Unrelated))
        .collect::<Result<_, _>>()?;
    let (_, transcript) = transcript(session, &dealt.iter().collect::<Vec<_>>());
    let key = session.terms().static_key(certified.from).map_err(|_| EvidenceError::Unrelated)?;
    if certified.certified.verify(key, &transcript.encode()) {
        Err(EvidenceError::NothingWrong(certified.from))
    } else {
        Ok((certified.from, Fault::Certification))
    }
}

/// The agreed points of one ciphertext, and the proof that the recipient's key made them from the dealer's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    recipient: Position,
    ephemeral: Point,
    fixed: Point,
    challenge: Scalar,
    response: Scalar,
}

impl Shown {
    fn new(session: &Session, setting: &Setting<'_>, from: Position, sender: &Point, dealt: &Point) -> Self {
        let secret = setting.secret.expose();
        let (ephemeral, fixed) = (dealt.mul(secret), sender.mul(secret));
        // Deterministic from the key and everything that is proved, like every nonce of this suite.
        let input = |tail: &[u8]| {
            let mut out = Writer::new();
            out.label(Label::DKG_EVIDENCE).value(session.context()).value(&from).value(&setting.own);
            out.value(dealt).value(&ephemeral).value(&fixed).raw(tail);
            out.finish()
        };
        let seed = Zeroizing::new(input(setting.secret.to_bytes().expose()));
        let nonce = Zeroizing::new(suite::hash_to_scalar(&seed));
        let own = Point::mul_generator(secret);
        let commitments = [ProjectivePoint::GENERATOR, dealt.projective(), sender.projective()].map(|b| b * *nonce);
        let statement = [&own, dealt, sender, &ephemeral, &fixed];
        let challenge = Self::challenge(session, from, setting.own, statement, &commitments);
        let response = *nonce + challenge * **secret;
        Self { recipient: setting.own, ephemeral, fixed, challenge, response }
    }

    fn challenge(
        session: &Session,
        from: Position,
        recipient: Position,
        statement: [&Point; 5],
        commitments: &[ProjectivePoint; 3],
    ) -> Scalar {
        let mut out = Writer::new();
        out.label(Label::DKG_EVIDENCE).value(session.context()).value(&from).value(&recipient);
        statement.iter().for_each(|point| {
            out.value(*point);
        });
        for commitment in commitments {
            match Point::new(*commitment) {
                Ok(point) => out.u8(1).value(&point),
                Err(_) => out.u8(0),
            };
        }
        suite::hash_to_scalar(&out.finish())
    }

    /// What is wrong with the share these points open.
    fn fault(&self, session: &Session, from: Position, dealt: &Dealt) -> Result<Fault, EvidenceError> {
        let terms = session.terms();
        let (Ok(sender), Ok(own)) = (terms.static_key(from), terms.static_key(self.recipient)) else {
            return Err(EvidenceError::Proof);
        };
        let pairs = [
            (ProjectivePoint::GENERATOR, own.projective()),
            (dealt.ephemeral.projective(), self.ephemeral.projective()),
            (sender.projective(), self.fixed.projective()),
        ];
        let commitments = pairs.map(|(base, image)| base * self.response - image * self.challenge);
        let statement = [own, &dealt.ephemeral, sender, &self.ephemeral, &self.fixed];
        if Self::challenge(session, from, self.recipient, statement, &commitments) != self.challenge {
            return Err(EvidenceError::Proof);
        }
        let shared = |point: &Point| SharedPoint::take(&mut point.encode());
        let context = session.context().as_bytes();
        let route = Route { ephemeral: &dealt.ephemeral, sender, recipient: own, context };
        match sharing::open_with(&shared(&self.ephemeral), &shared(&self.fixed), &route, dealt, self.recipient) {
            Ok(_) => Err(EvidenceError::NothingWrong(from)),
            Err(fault) => Ok(Fault::Share { recipient: self.recipient, fault }),
        }
    }
}

impl Wire for Shown {
    fn write(&self, out: &mut Writer) {
        out.value(&self.recipient).value(&self.ephemeral).value(&self.fixed);
        out.raw(&self.challenge.to_bytes()).raw(&self.response.to_bytes());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            recipient: input.value()?,
            ephemeral: input.value()?,
            fixed: input.value()?,
            challenge: read_scalar(input, "challenge")?,
            response: read_scalar(input, "response")?,
        })
    }
}

impl Wire for Evidence {
    fn write(&self, out: &mut Writer) {
        write_contributions(out, self.attempt, &self.contributions);
        match &self.claim {
            Claim::Contributions(first, second) => out.u8(1).value(first).value(second),
            Claim::Message(message) => out.u8(2).value(message),
            Claim::Share(message, shown) => out.u8(3).value(message).value(shown),
            Claim::Messages(first, second) => out.u8(4).value(first).value(second),
            Claim::Certification(messages, certified) => out.u8(5).list(messages).value(certified),
            Claim::Certifications(first, second) => out.u8(6).value(first).value(second),
        };
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let (attempt, contributions) = read_contributions(input)?;
        let claim = match input.u8("claim")? {
            1 => Claim::Contributions(input.value()?, input.value()?),
            2 => Claim::Message(input.value()?),
            3 => Claim::Share(input.value()?, input.value()?),
            4 => Claim::Messages(input.value()?, input.value()?),
            5 => Claim::Certification(input.list(usize::from(MAX_OFFICIALS), "messages")?, input.value()?),
            6 => Claim::Certifications(input.value()?, input.value()?),
            _ => return Err(WireError::Invalid { field: "claim", reason: "not 1 to 6" }),
        };
        Ok(Self { attempt, contributions, claim })
    }
}

impl Document for Evidence {
    const LABEL: Label = Label::DKG_EVIDENCE;
    const MAX_BYTES: usize = 192 * 1024;
}
