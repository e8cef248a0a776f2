//! The phases of an unseal, each with what it takes and where that leads (protocol.md §20.2, §18.3).

use std::collections::BTreeSet;

use crate::protocol::{
    ceremony::{
        Context, Event, Material, Out, Outcome, Refused, Reply, Trouble,
        unseal::{Case, Handed, Making, Unseal},
    },
    certificate::UnixTime,
    contribution::{CheckedOffer, Contribution},
    gathering::{Agreed, Gathering, NotQuorate, Refusal, SealedGathering},
    hash::Hash,
    hybrid::HybridSecretKey,
    ids::OfficialName,
    offer::SignedOffer,
    paragraph::Reason,
    partial::Receipt,
    quorum::Position,
    recipient::RecipientCard,
    roll::Act,
    slot::SeenPoints,
    statement::Mode,
    wire::Document,
};

/// The first pause before something is tried again by itself, in seconds; each further one is twice as long.
const PAUSE_SECONDS: i64 = 2;
/// The longest pause.
const PAUSE_SECONDS_MAX: i64 = 300;

/// Why an offer is made anew though nothing was lost.
const OUTLIVED: &str = "the offer is older than an approval may be";

/// Until when a TPM session that was begun now takes approvals: they count their time from its beginning.
fn good_until(context: &Context<'_>) -> UnixTime {
    UnixTime(context.now.0.saturating_add(i64::from(context.facts.expiry_max_seconds())))
}

/// What is known of an order that was given to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Its answer is waited for.
    Waiting,
    /// It failed, and is given again then.
    Again(UnixTime),
    /// It failed, and somebody must look first: a restart gives it again.
    Held,
}

/// When to try again after so many failures.
fn again(now: UnixTime, failures: u32) -> Asked {
    let pause = PAUSE_SECONDS.saturating_mul(1 << failures.min(10)).min(PAUSE_SECONDS_MAX);
    Asked::Again(UnixTime(now.0.saturating_add(pause)))
}

/// The embassy has to make an offer.
#[derive(Debug)]
pub struct AwaitingOffer {
    pub(super) case: Case,
    pub(super) asked: Asked,
    failures: u32,
}

impl AwaitingOffer {
    pub(super) const fn asked(case: Case) -> Self {
        Self { case, asked: Asked::Waiting, failures: 0 }
    }

    pub(super) fn on(mut self, event: Event, making: &mut Making<'_>) -> (Unseal, Reply) {
        match event {
            Event::Offered { offer, key } => return self.offered(*offer, key, making),
            Event::NotOffered { attempt, why, again: by_itself } if attempt == self.case.attempt => {
                self.failed(&why, by_itself, making);
            }
            Event::Tick if matches!(self.asked, Asked::Again(at) if at <= making.context.now) => {
                self.asked = Asked::Waiting;
                making.send(self.case.make_offer());
            }
            // An order that is being carried out may have parked its sessions before: whatever comes of it is of an attempt
            // that nobody waits for any more.
            Event::Restarted => {
                (self.asked, self.failures) = (Asked::Waiting, 0);
                self.case.attempt = self.case.attempt.saturating_add(1);
                making.send(self.case.make_offer());
            }
            Event::Contribution(_) => {
                return (Unseal::AwaitingOffer(self), Reply::Refused(Refused::NoOffer));
            }
            // The opening of an attempt that was given up meanwhile.
            Event::Opened { .. } => making.send(Out::Revoke),
            _ => {}
        }
        (Unseal::AwaitingOffer(self), Reply::Done)
    }

    fn failed(&mut self, why: &str, by_itself: bool, making: &mut Making<'_>) {
        let why = Reason::of(why);
        // The same trouble again is no news for the roll.
        if self.case.trouble.as_ref() != Some(&why) {
            let (ceremony, attempt) = (self.case.id, self.case.attempt);
            making.act(Act::NotOffered { ceremony, attempt, why: why.clone() });
        }
        self.case.trouble = Some(why);
        self.asked = if by_itself { again(making.context.now, self.failures) } else { Asked::Held };
        self.failures = self.failures.saturating_add(1);
    }

    /// protocol.md §20.2: the embassy checks its own offer like a stranger's before anybody sees it.
    fn offered(mut self, offer: SignedOffer, key: Option<HybridSecretKey>, making: &mut Making<'_>) -> (Unseal, Reply) {
        let shown = offer.unverified();
        if shown.attempt() != self.case.attempt || shown.signed_statement() != &self.case.signed {
            // Of an attempt that was given up.
            making.send(Out::Forget { attempt: shown.attempt() });
            return (Unseal::AwaitingOffer(self), Reply::Done);
        }
        match Gathered::new(&offer, key, making.context) {
            Ok(gathered) => {
                making.act(Act::Offered { offer: Box::new(offer.clone()) });
                self.case.trouble = None;
                let good_until = good_until(making.context);
                let collecting = Collecting { case: self.case, offer, gathered, good_until };
                (Unseal::Collecting(collecting), Reply::Done)
            }
            Err(why) => {
                self.failed(&why, false, making);
                making.send(Out::Forget { attempt: self.case.attempt });
                (Unseal::AwaitingOffer(self), Reply::Done)
            }
        }
    }
}

/// Contributions to one offer, as far as this embassy can judge them.
#[derive(Debug)]
pub(super) enum Kind {
    /// The halves are for the ceremony key, which lives and dies here.
    Lease { gathering: Box<Gathering>, key: HybridSecretKey },
    /// The halves are for the recipient; or there are none, in an adoption.
    Sealed(Box<SealedGathering>),
}

#[derive(Debug)]
pub(super) struct Gathered {
    kind: Kind,
    /// Whom the roll names already for this attempt: one who floods is named once.
    named: BTreeSet<OfficialName>,
}

impl Gathered {
    fn new(offer: &SignedOffer, key: Option<HybridSecretKey>, context: &Context<'_>) -> Result<Self, String> {
        let checked = CheckedOffer::check(offer, &context.review(), &mut SeenPoints::new());
        let checked = checked.map_err(|error| error.to_string())?;
        let kind = match (checked.offer().statement().mode(), key) {
            (Mode::Lease(_), Some(key)) if Some(key.public()) == checked.offer().ceremony_key() => {
                let gathering = Gathering::new(checked, context.facts, context.quorum);
                Kind::Lease { gathering: Box::new(gathering.map_err(|error| error.to_string())?), key }
            }
            (Mode::Release { .. } | Mode::Adoption(_), None) => {
                let gathering = SealedGathering::new(checked, context.facts).map_err(|error| error.to_string())?;
                Kind::Sealed(Box::new(gathering))
            }
            _ => return Err("the ceremony key at hand is not the one in the offer".to_owned()),
        };
        Ok(Self { kind, named: BTreeSet::new() })
    }

    /// After a restart: what was sealed to the recipient is good still.
    pub(super) fn again(handed: &Handed, context: &Context<'_>) -> Result<Self, String> {
        let mut gathered = Self::new(&handed.offer, None, context)?;
        for contribution in &handed.contributions {
            gathered.receive(contribution).map_err(|refusal| refusal.to_string())?;
        }
        Ok(gathered)
    }

    fn receive(&mut self, contribution: &Contribution) -> Result<Receipt, Refusal> {
        match &mut self.kind {
            Kind::Lease { gathering, key } => gathering.receive(contribution, key),
            Kind::Sealed(gathering) => gathering.receive(contribution),
        }
    }

    pub(super) fn set_aside(&mut self, position: Position) -> bool {
        match &mut self.kind {
            Kind::Lease { gathering, .. } => gathering.set_aside(position),
            Kind::Sealed(gathering) => gathering.set_aside(position),
        }
    }

    pub(super) fn contributors(&self) -> Vec<OfficialName> {
        match &self.kind {
            Kind::Lease { gathering, .. } => gathering.contributors().cloned().collect(),
            Kind::Sealed(gathering) => gathering.contributors().cloned().collect(),
        }
    }

    fn quorate(&self) -> Result<Material, NotQuorate> {
        match &self.kind {
            Kind::Lease { gathering, .. } => gathering.quorate().map(Material::Lease),
            Kind::Sealed(gathering) => gathering.quorate().map(|agreed| match agreed {
                Agreed::Release(quorate) => Material::Release(quorate),
                Agreed::Adoption(quorate) => Material::Adoption(quorate),
            }),
        }
    }

    /// Checks a contribution, and has the roll say what became of it.
    fn take(&mut self, contribution: &Contribution, case: &mut Case, making: &mut Making<'_>) -> Reply {
        let position = contribution.position();
        if let Some(denial) = case.denials.get(&position) {
            let official = denial.unverified_official().clone();
            return Reply::Refused(Refused::DeniedBefore { official });
        }
        let message = || Hash::of_bytes(&contribution.encode());
        match self.receive(contribution) {
            Ok(Receipt::AlreadyAccepted) => Reply::AlreadyAccepted,
            Ok(Receipt::Accepted { have, need }) => {
                let (ceremony, offer) = (case.id, *contribution.offer());
                let act = Act::Contributed { ceremony, offer, contribution: message() };
                match making.context.facts.unseal().member(position) {
                    Ok(member) => making.official(member.name.clone(), act),
                    // A contribution that was accepted is of a member.
                    Err(_) => making.act(act),
                }
                Reply::Accepted { have, need }
            }
            Err(refusal) => {
                if let Some(culprit) = refusal.culprit().cloned() {
                    if self.named.insert(culprit.clone()) {
                        let why = Reason::of(&refusal.to_string());
                        let (ceremony, message) = (case.id, message());
                        making.act(Act::Refused { ceremony, culprit: culprit.clone(), message, why });
                    }
                    case.culprits.insert(culprit);
                }
                Reply::Refused(refusal.into())
            }
        }
    }
}

/// Officials contribute.
#[derive(Debug)]
pub struct Collecting {
    pub(super) case: Case,
    pub(super) offer: SignedOffer,
    pub(super) gathered: Gathered,
    pub(super) good_until: UnixTime,
}

impl Collecting {
    pub(super) fn on(mut self, event: Event, making: &mut Making<'_>) -> (Unseal, Reply) {
        // protocol.md §20.3: a session older than an approval may be takes none any more, however fresh it is.
        if making.context.now >= self.good_until {
            let next = asked_again(self.case, OUTLIVED, making);
            return match (next, event) {
                // What was made for the old offer is refused by the phase that awaits the new one.
                (Unseal::AwaitingOffer(next), event @ (Event::Contribution(_) | Event::Opened { .. })) => {
                    next.on(event, making)
                }
                (next, _) => (next, Reply::Done),
            };
        }
        let reply = match event {
            Event::Contribution(contribution) => self.gathered.take(&contribution, &mut self.case, making),
            Event::Restarted => return (asked_again(self.case, "the TPM was reset", making), Reply::Done),
            Event::Opened { .. } => {
                making.send(Out::Revoke);
                Reply::Done
            }
            Event::Offered { offer, .. } => {
                forget_stray(&offer, &self.case, making);
                Reply::Done
            }
            _ => Reply::Done,
        };
        if !matches!(reply, Reply::Accepted { .. }) {
            return (Unseal::Collecting(self), reply);
        }
        (self.open(0, making), reply)
    }

    /// protocol.md §20.3: at k, the roll says so before the TPM is asked. Who voted against it meanwhile is not among them.
    fn open(mut self, failures: u32, making: &mut Making<'_>) -> Unseal {
        for position in self.case.denials.keys() {
            self.gathered.set_aside(*position);
        }
        match self.gathered.quorate() {
            // What is pinned never goes back: not even by approvals that were given before the next charter came.
            Ok(Material::Adoption(quorate)) if quorate.charter() != making.context.facts.in_force() => {
                let why = format!(
                    "charter {} came into force meanwhile. Stop this ceremony, and open one to adopt that",
                    making.context.facts.in_force()
                );
                held(self.case, &self.offer, &why, making)
            }
            Ok(material) => {
                let Self { case, offer, gathered, good_until } = self;
                let k = usize::from(case.statement().mode().threshold(making.context.facts).k());
                let given = gathered.contributors().into_iter().take(k).collect();
                let opening = Opening { case, offer, gathered, given, good_until, asked: Asked::Waiting, failures };
                opening.ask(material, making);
                Unseal::Opening(opening)
            }
            Err(NotQuorate::NotEnough { .. }) => Unseal::Collecting(self),
            // Each part was checked and they do not combine: this machine's memory is not to be trusted. Nobody is to blame.
            Err(unsound) => asked_again(self.case, &unsound.to_string(), making),
        }
    }
}

/// The TPM is asked.
#[derive(Debug)]
pub struct Opening {
    pub(super) case: Case,
    pub(super) offer: SignedOffer,
    pub(super) gathered: Gathered,
    /// Whose approvals the TPM is given: the first k, whoever contributes meanwhile.
    given: Vec<OfficialName>,
    pub(super) asked: Asked,
    good_until: UnixTime,
    failures: u32,
}

impl Opening {
    fn ask(&self, material: Material, making: &mut Making<'_>) {
        let (ceremony, attempt, offer) = (self.case.id, self.case.attempt, self.offer.unverified().hash());
        making.act(Act::Opening { ceremony, offer, officials: self.given.clone() });
        making.send(Out::Open { attempt, offer, material: Box::new(material) });
    }

    pub(super) fn on(mut self, event: Event, making: &mut Making<'_>) -> (Unseal, Reply) {
        match event {
            Event::Opened { attempt } if attempt == self.case.attempt => return (self.opened(making), Reply::Done),
            Event::Opened { .. } => making.send(Out::Revoke),
            Event::Offered { offer, .. } => forget_stray(&offer, &self.case, making),
            Event::NotOpened { attempt, trouble } if attempt == self.case.attempt => {
                return (self.not_opened(trouble, making), Reply::Done);
            }
            Event::Contribution(contribution) => {
                let reply = self.gathered.take(&contribution, &mut self.case, making);
                return (Unseal::Opening(self), reply);
            }
            Event::Tick if matches!(self.asked, Asked::Again(at) if at <= making.context.now) => {
                let Self { case, offer, gathered, good_until, failures, .. } = self;
                return (Collecting { case, offer, gathered, good_until }.open(failures, making), Reply::Done);
            }
            Event::Restarted => return (asked_again(self.case, "the TPM was reset", making), Reply::Done),
            _ => {}
        }
        (Unseal::Opening(self), Reply::Done)
    }

    fn opened(mut self, making: &mut Making<'_>) -> Unseal {
        self.case.trouble = None;
        let Some(card) = self.case.statement().mode().recipient().map(RecipientCard::hash) else {
            // The lease's own table has recorded that it began.
            return Unseal::Opening(self).end(Outcome::Leased, making);
        };
        let Self { case, offer, gathered, given, .. } = self;
        making.act(Act::Released {
            ceremony: case.id,
            offer: offer.unverified().hash(),
            officials: given,
            recipient: card,
        });
        making.send(Out::Forget { attempt: case.attempt });
        Unseal::Released(Released { case, offer, gathered })
    }

    fn not_opened(mut self, trouble: Trouble, making: &mut Making<'_>) -> Unseal {
        let (ceremony, offer) = (self.case.id, self.offer.unverified().hash());
        match trouble {
            Trouble::Retry { why } => {
                let why = Reason::of(&why);
                making.act(Act::NotOpened { ceremony, offer, why: why.clone() });
                self.case.trouble = Some(why);
                self.asked = again(making.context.now, self.failures);
                self.failures = self.failures.saturating_add(1);
                Unseal::Opening(self)
            }
            Trouble::FreshApprovals { why } => {
                making.act(Act::NotOpened { ceremony, offer, why: Reason::of(&why) });
                asked_again(self.case, &why, making)
            }
            Trouble::Refused { officials } => self.set_aside(&officials, making),
            Trouble::Examine { why } => held(self.case, &self.offer, &why, making),
        }
    }

    /// protocol.md §20.3: the sessions are good still; whose approval the TPM would not have may approve again.
    fn set_aside(mut self, refused: &[(Position, String)], making: &mut Making<'_>) -> Unseal {
        let members = making.context.facts.unseal();
        let mut officials = Vec::new();
        let mut whys = Vec::new();
        for (position, why) in refused {
            if self.gathered.set_aside(*position)
                && let Ok(member) = members.member(*position)
            {
                officials.push(member.name.clone());
                whys.push(format!("{}: {why}", member.name));
            }
        }
        if officials.is_empty() {
            let why = "the TPM refused approvals of nobody who had contributed".to_owned();
            return self.not_opened(Trouble::Retry { why }, making);
        }
        let why = Reason::of(&whys.join("; "));
        self.case.trouble = Some(why.clone());
        making.act(Act::SetAside { ceremony: self.case.id, officials, why });
        let Self { case, offer, gathered, good_until, .. } = self;
        if making.context.now >= good_until {
            return asked_again(case, OUTLIVED, making);
        }
        Collecting { case, offer, gathered, good_until }.open(0, making)
    }
}

/// The recipient can fetch; who has not contributed still can.
#[derive(Debug)]
pub struct Released {
    pub(super) case: Case,
    pub(super) offer: SignedOffer,
    pub(super) gathered: Gathered,
}

impl Released {
    pub(super) fn on(mut self, event: Event, making: &mut Making<'_>) -> (Unseal, Reply) {
        let reply = match event {
            Event::Contribution(contribution) => self.gathered.take(&contribution, &mut self.case, making),
            Event::Offered { offer, .. } => {
                forget_stray(&offer, &self.case, making);
                Reply::Done
            }
            _ => Reply::Done,
        };
        (Unseal::Released(self), reply)
    }

    pub(super) fn handed(&self) -> Handed {
        let contributions = match &self.gathered.kind {
            Kind::Sealed(gathering) => gathering.contributions().cloned().collect(),
            Kind::Lease { .. } => Vec::new(),
        };
        Handed { offer: self.offer.clone(), contributions }
    }
}

/// It is over.
#[derive(Debug)]
pub struct Ended {
    pub(super) case: Case,
    pub(super) outcome: Outcome,
    /// Whose contributions counted when it ended.
    pub(super) approved: Vec<OfficialName>,
    pub(super) handed: Option<Handed>,
}

impl Ended {
    pub(super) fn on(self, event: Event, making: &mut Making<'_>) -> (Unseal, Reply) {
        let reply = match event {
            Event::Contribution(_) => Reply::Refused(Refused::Over { outcome: self.outcome.clone() }),
            // It came through while somebody stopped it, or its time ran out.
            Event::Opened { .. } if !matches!(self.outcome, Outcome::Leased | Outcome::Released) => {
                making.send(Out::Revoke);
                Reply::Done
            }
            Event::Offered { offer, .. } => {
                making.send(Out::Forget { attempt: offer.unverified().attempt() });
                Reply::Done
            }
            _ => Reply::Done,
        };
        (Unseal::Ended(self), reply)
    }
}

/// An offer that came when none was waited for: the sessions of another attempt than the present one are dropped.
fn forget_stray(offer: &SignedOffer, case: &Case, making: &mut Making<'_>) {
    let attempt = offer.unverified().attempt();
    if attempt != case.attempt {
        making.send(Out::Forget { attempt });
    }
}

/// Nothing goes on before somebody has looked at it.
fn held(mut case: Case, offer: &SignedOffer, why: &str, making: &mut Making<'_>) -> Unseal {
    let why = Reason::of(why);
    making.act(Act::NotOpened { ceremony: case.id, offer: offer.unverified().hash(), why: why.clone() });
    making.send(Out::Forget { attempt: case.attempt });
    case.attempt = case.attempt.saturating_add(1);
    case.trouble = Some(why);
    Unseal::AwaitingOffer(AwaitingOffer { case, asked: Asked::Held, failures: 0 })
}

/// Fresh approvals: a new attempt, and nothing else is lost.
pub(super) fn asked_again(mut case: Case, why: &str, making: &mut Making<'_>) -> Unseal {
    making.send(Out::Forget { attempt: case.attempt });
    case.attempt = case.attempt.saturating_add(1);
    let why = Reason::of(why);
    making.act(Act::AskedAgain { ceremony: case.id, attempt: case.attempt, why: why.clone() });
    case.trouble = Some(why);
    making.send(case.make_offer());
    Unseal::AwaitingOffer(AwaitingOffer::asked(case))
}
