//! The protocol as one participant runs it: a struct per awaited kind of message (protocol.md §4).
//!
//! [`Gathering`](super::Gathering) waits for contributions, [`Round1`] for dealt polynomials, [`Round2`] for
//! certifications; each takes one message at a time, refuses bad ones without being changed by them, and turns into the
//! next when it has all n. Between rounds nothing is secret but the static key and the shares opened so far; all of it is
//! wiped on drop, and `abandon` gives the static key back for another attempt.
//!
//! The driver saves each own message before it sends it, and after a restart hands it to the `resume` function instead of
//! making a second one: two different messages are equivocation, and a second certification could let two honest
//! participants finish with different keys.

use crate::protocol::{
    dkg::{
        blame::{self, Fault, Refusal},
        certificate::{Certificate, RecoveryData},
        evidence::Evidence,
        gathering::second_contribution,
        message::{Contribution, Message1, Message3},
        session::{Member, Session},
        sharing::{self, Dealt, Degenerate, Setting},
        suite::{Signature, ZeroNonce},
    },
    group::Point,
    hash::Hash,
    quorum::Position,
    quorum_key::QuorumKey,
    secret::{SecretScalar, ShareSummand},
};

/// Why a phase cannot turn into the next.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Messages are missing.
    #[error("waiting for {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Waiting(Vec<Position>),
    /// The recorded own message is not one of this session or does not fit the others.
    #[error("the recorded message does not fit: {0}")]
    Resume(Refusal),
    /// Never in practice: abandon, and start another attempt.
    #[error(transparent)]
    Degenerate(#[from] Degenerate),
    /// Never in practice: abandon, and start another attempt.
    #[error(transparent)]
    ZeroNonce(#[from] ZeroNonce),
}

/// A phase that could not turn into the next, unchanged.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Unfinished<P: std::fmt::Debug> {
    /// The phase, to go on with.
    pub phase: Box<P>,
    /// Why.
    pub reason: Reason,
}

pub(super) fn missing<T>(slots: &[Option<T>], member: &Member) -> Vec<Position> {
    let positions = member.terms().threshold().positions();
    positions.zip(slots).filter(|(_, slot)| slot.is_none()).map(|(position, _)| position).collect()
}

pub(super) fn empty<T>(member: &Member) -> Vec<Option<T>> {
    member.terms().static_keys().iter().map(|_| None).collect()
}

pub(super) fn put<T>(slots: &mut [Option<T>], position: Position, value: T) {
    if let Some(slot) = slots.get_mut(position.index()) {
        *slot = Some(value);
    }
}

pub(super) fn get<T>(slots: &[Option<T>], position: Position) -> Option<&T> {
    slots.get(position.index()).and_then(Option::as_ref)
}

pub(super) fn setting<'a>(member: &'a Member, session: &'a Session) -> Setting<'a> {
    Setting {
        threshold: member.terms().threshold(),
        static_keys: member.terms().static_keys(),
        context: session.context().as_bytes(),
        own: member.position(),
        secret: member.secret(),
    }
}

/// A round 1 message that was accepted, and the share it held for this participant.
#[derive(Debug)]
struct Accepted {
    message: Message1,
    dealt: Dealt,
    summand: ShareSummand,
}

/// Waits for everyone's polynomial.
#[derive(Debug)]
pub struct Round1 {
    member: Member,
    session: Session,
    contributions: Vec<Contribution>,
    accepted: Vec<Option<Accepted>>,
}

impl Round1 {
    pub(super) fn new(member: Member, session: Session, contributions: Vec<Contribution>) -> Self {
        let accepted = empty(&member);
        Self { member, session, contributions, accepted }
    }

    /// The session, which evidence and late messages are judged by.
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// Everyone's contribution as this participant has it, to show to whoever finds nothing authentic: then someone's
    /// contribution was not the same for all.
    pub fn contributions(&self) -> &[Contribution] {
        &self.contributions
    }

    /// Judges a contribution that comes now, late or shown by another participant. It changes nothing; what it shows is the
    /// refusal: one its sender signed beside the one that is in the context is equivocation.
    pub fn judge(&self, contribution: &Contribution) -> Refusal {
        let (from, expected) = (contribution.from, self.session.attempt());
        match self.contributions.get(from.index()) {
            _ if contribution.attempt != expected => {
                Refusal::OtherAttempt { from, found: contribution.attempt, expected }
            }
            Some(earlier) if contribution.is_authentic(self.session.terms()) => {
                second_contribution(earlier, contribution)
            }
            _ => Refusal::NotAuthentic { from },
        }
    }

    /// Takes one round 1 message: checks who signed it, its form and proofs, and the share it holds for this participant.
    ///
    /// # Errors
    /// [`Refusal`]; nothing is changed then, and a corrected message is taken.
    pub fn accept(&mut self, message: &Message1) -> Result<(), Refusal> {
        let from = message.from;
        let key = *self.session.terms().static_key(from)?;
        if let Some(earlier) = get(&self.accepted, from) {
            return Err(second(&self.session, &earlier.message, message));
        }
        // protocol.md §4.3: first who said it, so that all that follows can be blamed on the sender.
        if !message.is_authentic(&self.session) {
            return Err(Refusal::NotAuthentic { from });
        }
        let dealt = blame::inspect(&self.session, message).map_err(|fault| Refusal::Cheated {
            official: from,
            fault,
            evidence: Evidence::message(&self.session, message),
        })?;
        let setting = setting(&self.member, &self.session);
        let summand = blame::open(&setting, &key, &dealt).map_err(|fault| Refusal::Cheated {
            official: from,
            fault,
            evidence: Evidence::share(&self.session, &setting, message, &dealt),
        })?;
        put(&mut self.accepted, from, Accepted { message: message.clone(), dealt, summand });
        Ok(())
    }

    /// Whose polynomial is missing.
    pub fn missing(&self) -> Vec<Position> {
        missing(&self.accepted, &self.member)
    }

    /// Ends this attempt.
    pub fn abandon(self) -> Member {
        self.member
    }

    /// Adds the shares up and certifies the transcript, once all polynomials are there.
    ///
    /// # Errors
    /// [`Unfinished`] with the unchanged phase.
    pub fn complete(self) -> Result<(Round2, Message3), Unfinished<Self>> {
        self.certify(None)
    }

    /// Goes on after a restart with the own round 3 message that was recorded.
    ///
    /// # Errors
    /// [`Unfinished`] with the unchanged phase: polynomials are missing, or other ones were accepted than before.
    pub fn resume_round2(self, own: Message3) -> Result<(Round2, Message3), Unfinished<Self>> {
        self.certify(Some(own))
    }

    fn certify(self, recorded: Option<Message3>) -> Result<(Round2, Message3), Unfinished<Self>> {
        let waiting = self.missing();
        if !waiting.is_empty() {
            return Err(Unfinished { phase: Box::new(self), reason: Reason::Waiting(waiting) });
        }
        let (outcome, share) = match self.outcome() {
            Ok(outcome) => outcome,
            Err(reason) => return Err(Unfinished { phase: Box::new(self), reason }),
        };
        let own = match recorded {
            Some(own) => own,
            None => {
                let (from, secret) = (self.member.position(), self.member.secret());
                let digests = outcome.digests.clone();
                match Message3::new(&self.session, from, secret, digests, &outcome.transcript) {
                    Ok(own) => own,
                    Err(error) => return Err(Unfinished { phase: Box::new(self), reason: error.into() }),
                }
            }
        };
        if own.from != self.member.position() {
            let reason = Reason::Resume(Refusal::NotAuthentic { from: own.from });
            return Err(Unfinished { phase: Box::new(self), reason });
        }
        if let Err(refusal) = outcome.check(&self.session, &own) {
            return Err(Unfinished { phase: Box::new(self), reason: Reason::Resume(refusal) });
        }
        let Self { member, session, .. } = self;
        let mut heard = empty(&member);
        put(&mut heard, member.position(), own.clone());
        let mut certified = empty(&member);
        put(&mut certified, member.position(), own.certified);
        Ok((Round2 { member, session, share, outcome, heard, certified }, own))
    }

    fn outcome(&self) -> Result<(Outcome, SecretScalar), Reason> {
        let all = || self.accepted.iter().flatten();
        let outcome = Outcome::of(&self.session, all().map(|accepted| (&accepted.message, &accepted.dealt)))?;
        let share = ShareSummand::sum(all().map(|accepted| &accepted.summand)).ok_or(Degenerate)?;
        // Every summand was on its polynomial, so the sum is: a check against faults of the machine.
        if outcome.key.share(self.member.position()) != Ok(&Point::mul_generator(share.expose())) {
            return Err(Degenerate.into());
        }
        Ok((outcome, share))
    }
}

/// What a second round 1 message of one sender is: a repetition, something unsigned, or equivocation.
pub(super) fn second(session: &Session, earlier: &Message1, message: &Message1) -> Refusal {
    let from = message.from;
    if !message.is_authentic(session) {
        Refusal::NotAuthentic { from }
    } else if earlier.body == message.body {
        Refusal::Repeated { from }
    } else {
        let evidence = Evidence::messages(session, earlier, message);
        Refusal::Cheated { official: from, fault: Fault::Equivocation, evidence }
    }
}

/// What round 1 came to, the same for everyone who accepted the same messages.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    messages: Vec<Message1>,
    digests: Vec<Hash>,
    bundles: Vec<Vec<u8>>,
    ciphertexts: Hash,
    transcript: Vec<u8>,
    key: QuorumKey,
}

impl Outcome {
    /// What these messages, one of each participant in order of position, come to.
    pub(super) fn of<'a>(
        session: &Session,
        accepted: impl Iterator<Item = (&'a Message1, &'a Dealt)>,
    ) -> Result<Self, Degenerate> {
        let (messages, dealt): (Vec<&Message1>, Vec<&Dealt>) = accepted.unzip();
        let (ciphertexts, agreed) = blame::transcript(session, &dealt);
        let bundles = dealt.iter().map(|message| sharing::bundle(message.ciphertexts.iter().map(Vec::as_slice)));
        Ok(Self {
            key: agreed.quorum_key()?,
            digests: messages.iter().map(|message| message.digest()).collect(),
            messages: messages.into_iter().cloned().collect(),
            bundles: bundles.collect(),
            ciphertexts,
            transcript: agreed.encode(),
        })
    }

    /// What remains, once every participant has certified.
    pub(super) fn certified(self, session: &Session, signatures: Vec<Signature>) -> (QuorumKey, RecoveryData) {
        let certificate = Certificate::new(session, self.ciphertexts, self.transcript, signatures);
        (self.key, RecoveryData::new(certificate, self.bundles))
    }

    /// Judges one certification of it.
    pub(super) fn check(&self, session: &Session, message: &Message3) -> Result<(), Refusal> {
        let from = message.from;
        let key = session.terms().static_key(from)?;
        if !message.is_authentic(session) {
            return Err(Refusal::NotAuthentic { from });
        }
        let positions = session.terms().threshold().positions();
        let about = blame::differing(&self.digests, &message.accepted, positions);
        if message.accepted.len() == self.digests.len() && !about.is_empty() {
            return Err(Refusal::Disagreement { from, about });
        }
        if message.accepted.len() == self.digests.len() && message.certified.verify(key, &self.transcript) {
            return Ok(());
        }
        let evidence = Evidence::certification(session, &self.messages, message);
        Err(Refusal::Cheated { official: from, fault: Fault::Certification, evidence })
    }
}

/// Waits for everyone's certification.
#[derive(Debug)]
pub struct Round2 {
    member: Member,
    session: Session,
    share: SecretScalar,
    outcome: Outcome,
    /// The first authentic message of each, right or wrong: a second one about another transcript is equivocation.
    heard: Vec<Option<Message3>>,
    certified: Vec<Option<Signature>>,
}

impl Round2 {
    /// The session, which evidence and late messages are judged by.
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// The round 1 messages this participant accepted, to show to whoever disagrees.
    pub fn accepted(&self) -> &[Message1] {
        &self.outcome.messages
    }

    /// Takes one certification.
    ///
    /// # Errors
    /// [`Refusal`]; what was accepted before stays accepted.
    pub fn accept(&mut self, message: &Message3) -> Result<(), Refusal> {
        let from = message.from;
        let checked = self.outcome.check(&self.session, message);
        if let Err(Refusal::NoSuchOfficial(_) | Refusal::NotAuthentic { .. }) = checked {
            return checked;
        }
        match get(&self.heard, from) {
            Some(earlier) if earlier.accepted != message.accepted => {
                let evidence = Evidence::certifications(&self.session, earlier, message);
                return Err(Refusal::Cheated { official: from, fault: Fault::Equivocation, evidence });
            }
            Some(_) => {}
            None => put(&mut self.heard, from, message.clone()),
        }
        checked?;
        if get(&self.certified, from).is_some() {
            return Err(Refusal::Repeated { from });
        }
        put(&mut self.certified, from, message.certified);
        Ok(())
    }

    /// Judges a round 1 message that comes now, late or shown by a participant who disagrees. It changes nothing; what it
    /// shows is the refusal: a message its sender signed beside the accepted one is equivocation.
    pub fn judge(&self, message: &Message1) -> Refusal {
        match self.outcome.messages.get(message.from.index()) {
            Some(earlier) => second(&self.session, earlier, message),
            None => Refusal::NotAuthentic { from: message.from },
        }
    }

    /// Whose certification is missing.
    pub fn missing(&self) -> Vec<Position> {
        missing(&self.certified, &self.member)
    }

    /// Ends this attempt. Its share is wiped.
    pub fn abandon(self) -> Member {
        self.member
    }

    /// Finishes, once all have certified.
    ///
    /// # Errors
    /// [`Unfinished`] with the unchanged phase.
    pub fn complete(self) -> Result<Certified, Unfinished<Self>> {
        let waiting = self.missing();
        if !waiting.is_empty() {
            return Err(Unfinished { phase: Box::new(self), reason: Reason::Waiting(waiting) });
        }
        let Self { member, session, share, outcome, certified, .. } = self;
        let (key, recovery) = outcome.certified(&session, certified.into_iter().flatten().collect());
        Ok(Certified { member, share, key, recovery })
    }
}

/// A finished DKG, as one participant holds it. Save the recovery data, and let everyone confirm theirs, before relying on
/// the key.
#[derive(Debug)]
pub struct Certified {
    /// The participant, whose static key recovers the share.
    pub member: Member,
    /// x_i.
    pub share: SecretScalar,
    /// Y and every Y_m.
    pub key: QuorumKey,
    /// The certificate, and what shares are rebuilt from.
    pub recovery: RecoveryData,
}
