//! The protocol as one participant runs it: a struct per awaited kind of message (protocol.md §4).
//!
//! [`Gathering`] waits for contributions, [`Round1`] for dealt polynomials, [`Round2`] for certifications; each takes one
//! message at a time, refuses bad ones without being changed by them, and turns into the next when it has all n. Between
//! rounds nothing is secret but the static key and the shares opened so far; all of it is wiped on drop, and `abandon` gives
//! the static key back for another attempt.
//!
//! The driver saves each own message before it sends it, and after a restart hands it to the `resume` function instead of
//! making a second one: two different messages are equivocation, and a second certification could let two honest
//! participants finish with different keys.

use rand_core::{CryptoRng, RngCore};

use crate::protocol::{
    dkg::{
        blame::{self, Evidence, Fault, Refusal},
        certificate::{Certificate, RecoveryData},
        message::{Contribution, Message1, Message3},
        session::{Member, Session},
        sharing::{self, Dealt, Degenerate, Setting},
        suite::{Signature, ZeroNonce},
    },
    group::Point,
    hash::Hash,
    ids::Attempt,
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

fn missing<T>(slots: &[Option<T>], member: &Member) -> Vec<Position> {
    let positions = member.terms().threshold().positions();
    positions.zip(slots).filter(|(_, slot)| slot.is_none()).map(|(position, _)| position).collect()
}

fn empty<T>(member: &Member) -> Vec<Option<T>> {
    member.terms().static_keys().iter().map(|_| None).collect()
}

fn put<T>(slots: &mut [Option<T>], position: Position, value: T) {
    if let Some(slot) = slots.get_mut(position.index()) {
        *slot = Some(value);
    }
}

fn get<T>(slots: &[Option<T>], position: Position) -> Option<&T> {
    slots.get(position.index()).and_then(Option::as_ref)
}

/// Waits for everyone's contribution to the context.
#[derive(Debug)]
pub struct Gathering {
    member: Member,
    attempt: Attempt,
    contributions: Vec<Option<Contribution>>,
}

impl Gathering {
    /// Starts an attempt: a number no smaller than any this official has taken part in, new for each try.
    ///
    /// # Errors
    /// [`ZeroNonce`] with the member, never in practice.
    pub fn start(
        member: Member,
        attempt: Attempt,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<(Self, Contribution), Unfinished<Member>> {
        match Contribution::new(&member, attempt, rng) {
            Ok(own) => {
                let mut contributions = empty(&member);
                put(&mut contributions, member.position(), own.clone());
                Ok((Self { member, attempt, contributions }, own))
            }
            Err(error) => Err(Unfinished { phase: Box::new(member), reason: error.into() }),
        }
    }

    /// Goes on after a restart with the own contribution that was recorded.
    ///
    /// # Errors
    /// [`Reason::Resume`] with the member where it is not this official's.
    pub fn resume(member: Member, own: Contribution) -> Result<Self, Unfinished<Member>> {
        if own.from != member.position() || !own.is_authentic(member.terms()) {
            let reason = Reason::Resume(Refusal::NotAuthentic { from: own.from });
            return Err(Unfinished { phase: Box::new(member), reason });
        }
        let mut contributions = empty(&member);
        let attempt = own.attempt;
        put(&mut contributions, member.position(), own);
        Ok(Self { member, attempt, contributions })
    }

    /// Takes one contribution.
    ///
    /// # Errors
    /// [`Refusal`]; nothing is changed then.
    pub fn accept(&mut self, contribution: &Contribution) -> Result<(), Refusal> {
        let from = contribution.from;
        self.member.terms().static_key(from)?;
        if contribution.attempt != self.attempt {
            return Err(Refusal::OtherAttempt { from, found: contribution.attempt, expected: self.attempt });
        }
        if !contribution.is_authentic(self.member.terms()) {
            return Err(Refusal::NotAuthentic { from });
        }
        match get(&self.contributions, from) {
            None => {
                put(&mut self.contributions, from, contribution.clone());
                Ok(())
            }
            Some(earlier) if earlier.nonce == contribution.nonce => Err(Refusal::Repeated { from }),
            Some(earlier) => Err(Refusal::Cheated {
                official: from,
                fault: Fault::Equivocation,
                evidence: Evidence::contributions(earlier, contribution),
            }),
        }
    }

    /// Who has not contributed yet.
    pub fn missing(&self) -> Vec<Position> {
        missing(&self.contributions, &self.member)
    }

    /// Ends this attempt.
    pub fn abandon(self) -> Member {
        self.member
    }

    /// Deals, once all have contributed.
    ///
    /// # Errors
    /// [`Unfinished`] with the unchanged phase.
    pub fn complete(self, rng: &mut (impl RngCore + CryptoRng)) -> Result<(Round1, Message1), Unfinished<Self>> {
        let session = match self.session() {
            Ok(session) => session,
            Err(reason) => return Err(Unfinished { phase: Box::new(self), reason }),
        };
        let own = match deal(&self.member, &session, rng) {
            Ok(own) => own,
            Err(error) => return Err(Unfinished { phase: Box::new(self), reason: error.into() }),
        };
        self.resume_round1(own)
    }

    /// Goes on after a restart with the own round 1 message that was recorded.
    ///
    /// # Errors
    /// [`Unfinished`] with the unchanged phase: contributions are missing, or other ones were accepted than before.
    pub fn resume_round1(self, own: Message1) -> Result<(Round1, Message1), Unfinished<Self>> {
        let session = match self.session() {
            Ok(session) if own.from == self.member.position() => session,
            Ok(_) => {
                let reason = Reason::Resume(Refusal::NotAuthentic { from: own.from });
                return Err(Unfinished { phase: Box::new(self), reason });
            }
            Err(reason) => return Err(Unfinished { phase: Box::new(self), reason }),
        };
        let Self { member, attempt, contributions } = self;
        let accepted = empty(&member);
        let mut round1 = Round1 { member, session, accepted };
        // The own message takes the same way as everyone's: a fault in the machine shows here, before it is sent.
        match round1.accept(&own) {
            Ok(()) => Ok((round1, own)),
            Err(refusal) => {
                let phase = Box::new(Self { member: round1.member, attempt, contributions });
                Err(Unfinished { phase, reason: Reason::Resume(refusal) })
            }
        }
    }

    fn session(&self) -> Result<Session, Reason> {
        let nonces = self.contributions.iter().flatten().map(|contribution| contribution.nonce).collect();
        // The only error is a wrong number of contributions.
        Session::new(self.member.terms().clone(), self.attempt, nonces).map_err(|_| Reason::Waiting(self.missing()))
    }
}

fn setting<'a>(member: &'a Member, session: &'a Session) -> Setting<'a> {
    Setting {
        threshold: member.terms().threshold(),
        static_keys: member.terms().static_keys(),
        context: session.context().as_bytes(),
        own: member.position(),
        secret: member.secret(),
    }
}

fn deal(member: &Member, session: &Session, rng: &mut (impl RngCore + CryptoRng)) -> Result<Message1, ZeroNonce> {
    let (dealt, ephemeral) = sharing::deal(&setting(member, session), rng, |_| &[])?;
    Message1::new(session, member.position(), member.secret(), &dealt, &ephemeral)
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
    accepted: Vec<Option<Accepted>>,
}

impl Round1 {
    /// The session, which evidence and late messages are judged by.
    pub const fn session(&self) -> &Session {
        &self.session
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
        let dealt: Vec<&Dealt> = all().map(|accepted| &accepted.dealt).collect();
        let (ciphertexts, agreed) = blame::transcript(&self.session, &dealt);
        let key = agreed.quorum_key()?;
        let share = ShareSummand::sum(all().map(|accepted| &accepted.summand)).ok_or(Degenerate)?;
        // Every summand was on its polynomial, so the sum is: a check against faults of the machine.
        if key.share(self.member.position()) != Ok(&Point::mul_generator(share.expose())) {
            return Err(Degenerate.into());
        }
        let outcome = Outcome {
            messages: all().map(|accepted| accepted.message.clone()).collect(),
            digests: all().map(|accepted| accepted.message.digest()).collect(),
            bundles: dealt
                .iter()
                .map(|message| sharing::bundle(message.ciphertexts.iter().map(Vec::as_slice)))
                .collect(),
            ciphertexts,
            transcript: agreed.encode(),
            key,
        };
        Ok((outcome, share))
    }
}

/// What a second round 1 message of one sender is: a repetition, something unsigned, or equivocation.
fn second(session: &Session, earlier: &Message1, message: &Message1) -> Refusal {
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
#[derive(Debug)]
struct Outcome {
    messages: Vec<Message1>,
    digests: Vec<Hash>,
    bundles: Vec<Vec<u8>>,
    ciphertexts: Hash,
    transcript: Vec<u8>,
    key: QuorumKey,
}

impl Outcome {
    fn check(&self, session: &Session, message: &Message3) -> Result<(), Refusal> {
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
        let signatures = certified.into_iter().flatten().collect();
        let certificate = Certificate::new(&session, outcome.ciphertexts, outcome.transcript, signatures);
        let recovery = RecoveryData::new(certificate, outcome.bundles);
        Ok(Certified { member, share, key: outcome.key, recovery })
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
