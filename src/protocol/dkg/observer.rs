//! One attempt of a DKG as anyone follows it who has no key in it: the relay, an auditor, an official who looks before it
//! sends (protocol.md §4).
//!
//! An [`Observer`] checks all that needs no secret: who signed, form, proofs, certifications. So the first good message of
//! each is kept, what is wrong in a signed one comes back as evidence, and when all have certified it has what they have but
//! for the shares. A bad share only its recipient can see, and shows.

use crate::protocol::{
    dkg::{
        blame::{self, Fault, Refusal},
        certificate::RecoveryData,
        evidence::Evidence,
        gathering::second_contribution,
        message::{Contribution, Message1, Message3},
        phase::{Outcome, get, put, second},
        session::{Session, Terms},
        sharing::Dealt,
    },
    ids::Attempt,
    quorum::Position,
    quorum_key::QuorumKey,
};

/// Why an observer does not take a message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotTaken {
    /// The message belongs to a round whose predecessor is not complete here, so it cannot be judged.
    #[error("not yet: {} must speak first", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Early(Vec<Position>),
    /// Judged, and refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Never in practice: the sums of this attempt are no quorum's key. Start another.
    #[error(transparent)]
    Degenerate(#[from] crate::protocol::dkg::sharing::Degenerate),
}

/// One attempt, as far as it has come.
#[derive(Clone, Debug)]
pub struct Observer {
    terms: Terms,
    attempt: Attempt,
    contributions: Vec<Option<Contribution>>,
    session: Option<Session>,
    dealt: Vec<Option<(Message1, Dealt)>>,
    outcome: Option<Outcome>,
    /// The first authentic certification of each, right or wrong.
    heard: Vec<Option<Message3>>,
    certified: Vec<Option<Message3>>,
}

impl Observer {
    /// An attempt at which nobody has spoken.
    pub fn new(terms: Terms, attempt: Attempt) -> Self {
        fn none<T>(n: u8) -> Vec<Option<T>> {
            (0..n).map(|_| None).collect()
        }
        let n = terms.threshold().n();
        Self {
            attempt,
            contributions: none(n),
            session: None,
            dealt: none(n),
            outcome: None,
            heard: none(n),
            certified: none(n),
            terms,
        }
    }

    /// Which try.
    pub const fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// What the charter says.
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The session, once everyone has contributed.
    pub const fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// The contributions taken, in order of position.
    pub fn contributions(&self) -> impl Iterator<Item = &Contribution> {
        self.contributions.iter().flatten()
    }

    /// The round 1 messages taken, in order of position.
    pub fn round1(&self) -> impl Iterator<Item = &Message1> {
        self.dealt.iter().flatten().map(|(message, _)| message)
    }

    /// The certifications that hold, in order of position.
    pub fn round3(&self) -> impl Iterator<Item = &Message3> {
        self.certified.iter().flatten()
    }

    /// Who has not contributed; then who has not dealt; then who has not certified.
    pub fn missing(&self) -> Missing {
        let absent = |has: &dyn Fn(usize) -> bool| -> Vec<Position> {
            self.terms.threshold().positions().filter(|position| !has(position.index())).collect()
        };
        let there = |index: usize, of: &[bool]| of.get(index).copied().unwrap_or(false);
        let flags = [
            self.contributions.iter().map(Option::is_some).collect::<Vec<_>>(),
            self.dealt.iter().map(Option::is_some).collect(),
            self.certified.iter().map(Option::is_some).collect(),
        ];
        let [contributions, round1, round3] = flags.map(|flags| absent(&|index| there(index, &flags)));
        match (contributions.is_empty(), round1.is_empty(), round3.is_empty()) {
            (false, _, _) => Missing::Contributions(contributions),
            (_, false, _) => Missing::Round1(round1),
            (_, _, false) => Missing::Round3(round3),
            _ => Missing::Nobody,
        }
    }

    /// Takes a contribution.
    ///
    /// # Errors
    /// [`NotTaken`]; nothing is changed then.
    pub fn contribution(&mut self, contribution: &Contribution) -> Result<(), NotTaken> {
        let from = contribution.from;
        self.terms.static_key(from).map_err(Refusal::from)?;
        if contribution.attempt != self.attempt {
            let (found, expected) = (contribution.attempt, self.attempt);
            return Err(Refusal::OtherAttempt { from, found, expected }.into());
        }
        if !contribution.is_authentic(&self.terms) {
            return Err(Refusal::NotAuthentic { from }.into());
        }
        if let Some(earlier) = get(&self.contributions, from) {
            return Err(second_contribution(earlier, contribution).into());
        }
        put(&mut self.contributions, from, contribution.clone());
        if self.contributions.iter().all(Option::is_some) {
            let nonces = self.contributions.iter().flatten().map(|contribution| contribution.nonce).collect();
            self.session = Session::new(self.terms.clone(), self.attempt, nonces).ok();
        }
        Ok(())
    }

    /// Takes a round 1 message, as far as it can be judged without a key.
    ///
    /// # Errors
    /// [`NotTaken`]; nothing is changed then.
    pub fn message1(&mut self, message: &Message1) -> Result<(), NotTaken> {
        let from = message.from;
        self.terms.static_key(from).map_err(Refusal::from)?;
        let session = self.session.as_ref().ok_or_else(|| NotTaken::Early(self.missing().who()))?;
        if let Some((earlier, _)) = get(&self.dealt, from) {
            return Err(second(session, earlier, message).into());
        }
        if !message.is_authentic(session) {
            return Err(Refusal::NotAuthentic { from }.into());
        }
        let dealt = blame::inspect(session, message).map_err(|fault| Refusal::Cheated {
            official: from,
            fault,
            evidence: Evidence::message(session, message),
        })?;
        put(&mut self.dealt, from, (message.clone(), dealt));
        if self.dealt.iter().all(Option::is_some) {
            let all = self.dealt.iter().flatten().map(|(message, dealt)| (message, dealt));
            self.outcome = Some(Outcome::of(session, all)?);
        }
        Ok(())
    }

    /// Takes a certification.
    ///
    /// # Errors
    /// [`NotTaken`]; what was taken before stays.
    pub fn message3(&mut self, message: &Message3) -> Result<(), NotTaken> {
        let from = message.from;
        self.terms.static_key(from).map_err(Refusal::from)?;
        let (Some(session), Some(outcome)) = (&self.session, &self.outcome) else {
            return Err(NotTaken::Early(self.missing().who()));
        };
        let checked = outcome.check(session, message);
        if let Err(refusal @ (Refusal::NoSuchOfficial(_) | Refusal::NotAuthentic { .. })) = checked {
            return Err(refusal.into());
        }
        match get(&self.heard, from) {
            Some(earlier) if earlier.accepted != message.accepted => {
                let evidence = Evidence::certifications(session, earlier, message);
                return Err(Refusal::Cheated { official: from, fault: Fault::Equivocation, evidence }.into());
            }
            Some(_) => {}
            None => put(&mut self.heard, from, message.clone()),
        }
        checked?;
        if get(&self.certified, from).is_some() {
            return Err(Refusal::Repeated { from }.into());
        }
        put(&mut self.certified, from, message.clone());
        Ok(())
    }

    /// Key and recovery data, once all have certified.
    pub fn finished(&self) -> Option<(QuorumKey, RecoveryData)> {
        let (session, outcome) = (self.session.as_ref()?, self.outcome.as_ref()?);
        let signatures = self.certified.iter().map(|message| message.as_ref().map(|message| message.certified));
        Some(outcome.clone().certified(session, signatures.collect::<Option<_>>()?))
    }
}

/// What an attempt waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Randomness for the context.
    Contributions(Vec<Position>),
    /// Polynomials.
    Round1(Vec<Position>),
    /// Certifications.
    Round3(Vec<Position>),
    /// It is finished.
    Nobody,
}

impl Missing {
    /// Whom it waits for.
    pub fn who(self) -> Vec<Position> {
        match self {
            Self::Contributions(who) | Self::Round1(who) | Self::Round3(who) => who,
            Self::Nobody => Vec::new(),
        }
    }
}
