//! The first phase of a DKG: everyone contributes to the context, so that it is fresh for each (protocol.md §4.2).

use rand_core::{CryptoRng, RngCore};

use crate::protocol::{
    dkg::{
        blame::{Fault, Refusal},
        evidence::Evidence,
        message::{Contribution, Message1},
        phase::{Reason, Round1, Unfinished, empty, get, missing, put, setting},
        session::{Member, Session},
        sharing,
        suite::ZeroNonce,
    },
    ids::Attempt,
    quorum::Position,
};

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
    /// [`Unfinished`] with the member, never in practice.
    pub fn start(
        member: Member,
        attempt: Attempt,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<(Self, Contribution), Unfinished<Member>> {
        match Contribution::new(&member, attempt, rng) {
            // The own signature is verified like a stranger's before it is sent: a fault in the machine shows here.
            Ok(own) => Ok((Self::resume(member, own.clone())?, own)),
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
            Some(earlier) => Err(second_contribution(earlier, contribution)),
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
        let contributions = self.contributions.into_iter().flatten().collect();
        let mut round1 = Round1::new(self.member, session, contributions);
        // The own message takes the same way as everyone's: a fault in the machine shows here, before it is sent.
        match round1.accept(&own) {
            Ok(()) => Ok((round1, own)),
            Err(refusal) => {
                let contributions = round1.contributions().iter().cloned().map(Some).collect();
                let attempt = round1.session().attempt();
                let phase = Box::new(Self { member: round1.abandon(), attempt, contributions });
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

fn deal(member: &Member, session: &Session, rng: &mut (impl RngCore + CryptoRng)) -> Result<Message1, ZeroNonce> {
    let (dealt, ephemeral) = sharing::deal(&setting(member, session), rng, |_| &[])?;
    Message1::new(session, member.position(), member.secret(), &dealt, &ephemeral)
}

/// What a second authentic contribution of one sender is: a repetition, or equivocation.
pub(super) fn second_contribution(earlier: &Contribution, contribution: &Contribution) -> Refusal {
    let from = contribution.from;
    if earlier.nonce == contribution.nonce {
        Refusal::Repeated { from }
    } else {
        let evidence = Evidence::contributions(earlier, contribution);
        Refusal::Cheated { official: from, fault: Fault::Equivocation, evidence }
    }
}
