//! Unseal: an official's statement, the embassy's offer, k officials' contributions, the TPM, and what came of it. The adoption
//! of a charter goes the same way (D§5), with the amend threshold and no slots.
//!
//! [`AwaitingOffer`] → [`Collecting`] → [`Opening`] → [`Ended`], or, in a release, [`Opening`] → [`Released`] → [`Ended`]: what
//! is sealed to the recipient cannot be judged here, so more officials may contribute while there is time. A lost session
//! leads back to the first with the next attempt; an approval that the TPM would not have, back to the second.

mod admit;
mod phase;
mod record;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::{
    ceremony::{Context, Event, Out, Outcome, Refused, Reply, Step},
    contribution::Contribution,
    ids::{CeremonyId, CharterAt, OfficialName},
    notice::{Denial, Stop},
    offer::SignedOffer,
    paragraph::Reason,
    quorum::Position,
    roll::{Act, Entry, Who},
    statement::{Adoption, SignedStatement, Statement},
};

pub use admit::{Admission, NotAdmitted};
pub use record::UnsealRecord;
pub use standing::{Phase, Standing};

use phase::{AwaitingOffer, Collecting, Ended, Opening, Released};

/// What belongs to the ceremony and not to one attempt: it outlives every restart.
#[derive(Debug)]
struct Case {
    id: CeremonyId,
    signed: SignedStatement,
    attempt: u32,
    denials: BTreeMap<Position, Denial>,
    culprits: BTreeSet<OfficialName>,
    trouble: Option<Reason>,
}

impl Case {
    const fn new(id: CeremonyId, signed: SignedStatement) -> Self {
        Self { id, signed, attempt: 1, denials: BTreeMap::new(), culprits: BTreeSet::new(), trouble: None }
    }

    const fn statement(&self) -> &Statement {
        self.signed.unverified()
    }

    fn make_offer(&self) -> Out {
        Out::MakeOffer { statement: Box::new(self.signed.clone()), attempt: self.attempt }
    }
}

/// What stands ready for the recipient of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    /// The offer that was opened.
    pub offer: SignedOffer,
    /// The officials' contributions, sealed to the recipient; k or more.
    pub contributions: Vec<Contribution>,
}

/// A ceremony to unseal, in its phase.
#[derive(Debug)]
pub enum Unseal {
    /// The embassy has to make an offer.
    AwaitingOffer(AwaitingOffer),
    /// Officials contribute.
    Collecting(Collecting),
    /// The TPM is asked.
    Opening(Opening),
    /// The recipient can fetch, and officials can still contribute.
    Released(Released),
    /// It is over.
    Ended(Ended),
}

/// What a step collects while it is made.
struct Making<'a> {
    context: &'a Context<'a>,
    entries: Vec<Entry>,
    outbox: Vec<Out>,
}

impl<'a> Making<'a> {
    const fn new(context: &'a Context<'a>) -> Self {
        Self { context, entries: Vec::new(), outbox: Vec::new() }
    }

    /// The embassy did something.
    fn act(&mut self, act: Act) {
        let by = Who::Embassy(self.context.facts.embassy().clone());
        self.entries.push(Entry { at: self.context.now, by, act });
    }

    /// An official did something.
    fn official(&mut self, official: OfficialName, act: Act) {
        self.entries.push(Entry { at: self.context.now, by: Who::Official(official), act });
    }

    fn send(&mut self, out: Out) {
        self.outbox.push(out);
    }

    fn step(mut self, next: Unseal) -> Step<Unseal> {
        if !self.entries.is_empty() || !self.outbox.is_empty() {
            self.outbox.push(Out::Notify);
        }
        Step { next, entries: self.entries, outbox: self.outbox }
    }
}

impl Unseal {
    /// Takes an event. Whatever is refused leaves the ceremony as it was.
    pub fn on(self, event: Event, context: &Context<'_>) -> (Step<Self>, Reply) {
        let mut making = Making::new(context);
        let me = self.past_its_time(&mut making);
        let (next, reply) = match event {
            Event::Denial(denial) => me.denied(denial, &mut making),
            Event::Stop(stop) => me.stopped(stop, &mut making),
            Event::Opened { .. } if me.statement().mode().adoption().is_some() => me.adopted(&mut making),
            event => match me {
                Self::AwaitingOffer(phase) => phase.on(event, &mut making),
                Self::Collecting(phase) => phase.on(event, &mut making),
                Self::Opening(phase) => phase.on(event, &mut making),
                Self::Released(phase) => phase.on(event, &mut making),
                Self::Ended(phase) => phase.on(event, &mut making),
            },
        };
        (making.step(next), reply)
    }

    /// Its name.
    pub fn id(&self) -> CeremonyId {
        self.case().id
    }

    /// What it is about.
    pub fn statement(&self) -> &Statement {
        self.case().statement()
    }

    /// The same, as its opener signed it.
    pub fn signed_statement(&self) -> &SignedStatement {
        &self.case().signed
    }

    /// The offer that officials can contribute to, or that was opened; none while there is none.
    pub const fn offer(&self) -> Option<&SignedOffer> {
        match self {
            Self::AwaitingOffer(_) => None,
            Self::Collecting(phase) => Some(&phase.offer),
            Self::Opening(phase) => Some(&phase.offer),
            Self::Released(phase) => Some(&phase.offer),
            Self::Ended(phase) => match &phase.handed {
                Some(handed) => Some(&handed.offer),
                None => None,
            },
        }
    }

    /// What the recipient of a release can fetch; nothing before the TPM has opened.
    pub fn handed(&self) -> Option<Handed> {
        match self {
            Self::Released(phase) => Some(phase.handed()),
            Self::Ended(phase) => phase.handed.clone(),
            Self::AwaitingOffer(_) | Self::Collecting(_) | Self::Opening(_) => None,
        }
    }

    /// How it ended; `None` while it goes on.
    pub const fn outcome(&self) -> Option<&Outcome> {
        match self {
            Self::Ended(phase) => Some(&phase.outcome),
            _ => None,
        }
    }

    /// Whether it still goes on.
    pub const fn is_open(&self) -> bool {
        self.outcome().is_none()
    }

    const fn case(&self) -> &Case {
        match self {
            Self::AwaitingOffer(phase) => &phase.case,
            Self::Collecting(phase) => &phase.case,
            Self::Opening(phase) => &phase.case,
            Self::Released(phase) => &phase.case,
            Self::Ended(phase) => &phase.case,
        }
    }

    /// Everything but what belongs to the ceremony is dropped here, and with it the ceremony key and every half.
    fn into_case(self) -> Case {
        match self {
            Self::AwaitingOffer(phase) => phase.case,
            Self::Collecting(phase) => phase.case,
            Self::Opening(phase) => phase.case,
            Self::Released(phase) => phase.case,
            Self::Ended(phase) => phase.case,
        }
    }

    /// Whose contributions count for the present offer, or counted when it ended.
    fn approved(&self) -> Vec<OfficialName> {
        match self {
            Self::AwaitingOffer(_) => Vec::new(),
            Self::Collecting(phase) => phase.gathered.contributors(),
            Self::Opening(phase) => phase.gathered.contributors(),
            Self::Released(phase) => phase.gathered.contributors(),
            Self::Ended(phase) => phase.approved.clone(),
        }
    }

    fn end(self, outcome: Outcome, making: &mut Making<'_>) -> Self {
        // What was released stays with the recipient; what is taken back is taken back.
        let handed = self.handed().filter(|_| outcome == Outcome::Released);
        let revoked = matches!(self, Self::Released(_)) && handed.is_none();
        let approved = self.approved();
        let case = self.into_case();
        making.act(Act::CeremonyEnded { ceremony: case.id, outcome: outcome.clone() });
        making.send(Out::Forget { attempt: case.attempt });
        if revoked {
            making.send(Out::Revoke);
        }
        Self::Ended(Ended { case, outcome, approved, handed })
    }

    /// protocol.md §20.4: nothing is taken after the statement's time.
    fn past_its_time(self, making: &mut Making<'_>) -> Self {
        if !self.is_open() || making.context.now < self.statement().expires_at() {
            return self;
        }
        let outcome = if matches!(self, Self::Released(_)) { Outcome::Released } else { Outcome::Expired };
        self.end(outcome, making)
    }

    /// protocol.md §20.6: a pin that was moved stays moved, whatever became of the ceremony meanwhile; the roll says so.
    fn adopted(self, making: &mut Making<'_>) -> (Self, Reply) {
        let Some(Adoption { charter, .. }) = self.statement().mode().adoption().copied() else {
            return (self, Reply::Done);
        };
        let CharterAt { version, hash } = charter;
        making.act(Act::CharterAdopted { ceremony: self.id(), version, charter: hash });
        let next = if self.is_open() { self.end(Outcome::Adopted, making) } else { self };
        (next, Reply::Done)
    }

    fn denied(mut self, denial: Denial, making: &mut Making<'_>) -> (Self, Reply) {
        if let Some(outcome) = self.outcome() {
            let outcome = outcome.clone();
            return (self, Reply::Refused(Refused::Over { outcome }));
        }
        let facts = making.context.facts;
        let position = match denial.verify(&self.id(), facts) {
            Ok(position) => position,
            Err(error) => return (self, Reply::Refused(error.into())),
        };
        if self.case().denials.contains_key(&position) {
            return (self, Reply::AlreadyAccepted);
        }
        making.official(denial.unverified_official().clone(), Act::Denied { denial: denial.clone() });
        // A vote against takes back one for it, while nothing was opened with it.
        if let Self::Collecting(phase) = &mut self {
            phase.gathered.set_aside(position);
        }
        self.case_mut().denials.insert(position, denial);
        let against = self.case().denials.len();
        if against < usize::from(self.statement().mode().threshold(facts).denials_that_end()) {
            return (self, Reply::Taken);
        }
        let names = self.case().denials.values().map(|denial| denial.unverified_official().clone());
        let outcome = Outcome::Denied { officials: names.collect() };
        (self.end(outcome, making), Reply::Taken)
    }

    fn stopped(self, stop: Stop, making: &mut Making<'_>) -> (Self, Reply) {
        if let Some(outcome) = self.outcome() {
            let again = matches!(outcome, Outcome::Stopped { by, .. } if by == stop.unverified_official());
            let reply = match stop.verify(&self.id(), making.context.facts) {
                Ok(_) if again => Reply::AlreadyAccepted,
                _ => Reply::Refused(Refused::Over { outcome: outcome.clone() }),
            };
            return (self, reply);
        }
        let by = match stop.verify(&self.id(), making.context.facts) {
            Ok(by) => by.clone(),
            Err(error) => return (self, Reply::Refused(error.into())),
        };
        let outcome = Outcome::Stopped { by: by.clone(), reason: stop.reason().clone() };
        making.official(by, Act::Stopped { stop });
        (self.end(outcome, making), Reply::Taken)
    }

    const fn case_mut(&mut self) -> &mut Case {
        match self {
            Self::AwaitingOffer(phase) => &mut phase.case,
            Self::Collecting(phase) => &mut phase.case,
            Self::Opening(phase) => &mut phase.case,
            Self::Released(phase) => &mut phase.case,
            Self::Ended(phase) => &mut phase.case,
        }
    }
}
