//! Ceremonies under random histories: officials who are honest, absent or in the host's pay, an embassy whose host withholds,
//! replays, alters and asks the TPM behind everybody's back, and restarts of everything at any moment.
//!
//! What runs is the code that runs: the state machines behind a driver like the service's, the officials' own checks and
//! contributions, the recipient's combination. Only TPM and disk are models. Invariants, checked after each action:
//!
//! - **no lease without k**: a lease, a release and the TPM's half exist only where k distinct officials approved, by a ledger
//!   that the code under test does not see, that very statement, session and point;
//! - **nobody counts twice**, and nobody for and against;
//! - **no seed but in a live lease**: no seed, share or half in clear in anything saved, sent or shown;
//! - **every outcome in the roll**, once, and nothing else in it: the roll alone tells who counts;
//! - **honest work is never lost**: nobody's message ends a ceremony or undoes what another did, and whatever happened, when
//!   the host lets go, k honest officials open.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub
)]

#[path = "cluster/action.rs"]
mod action;
#[path = "cluster/embassy.rs"]
mod embassy;
#[path = "cluster/invariants.rs"]
mod invariants;
#[path = "cluster/people.rs"]
mod people;
#[path = "cluster/roll.rs"]
mod roll;
#[path = "cluster/stories.rs"]
mod stories;
#[path = "cluster/tpm.rs"]
mod tpm;
#[path = "cluster/world.rs"]
mod world;

use std::collections::BTreeMap;

use chancery::protocol::{
    ceremony::{Event, Outcome, Reply},
    certificate::UnixTime,
    contribution::Contribution,
    gathering::Gathering,
    hybrid,
    ids::{AgentName, CeremonyId},
    label::Label,
    notice::{Denial, Stop},
    offer::{Offer, Opening, SignedOffer},
    roll::{Act, Entry},
    secret::SharedPoint,
    statement::{DatasetAt, LeaseTerms, Mode, Purpose, SignedStatement, Statement, StatementParts},
    tpm::{
        approval::{ApprovalRequest, CommandHash, TpmApproval, TpmNonce},
        policy::{PolicyRef, Purpose as TpmPurpose},
    },
    wire::Document,
};
use proptest::prelude::*;

use action::{Action, action};
use embassy::Embassy;
use people::{Message, People, Spoil};
use world::{EXPIRY_MAX, FIRST_HOSTILE, K, World, world};

/// Everything of one run.
pub struct Cluster {
    pub world: &'static World,
    pub embassy: Embassy<'static>,
    pub people: People<'static>,
    /// On the line, which is the host's.
    pub line: Vec<(CeremonyId, Message)>,
    /// Everything that ever was on it.
    pub overheard: Vec<(CeremonyId, Message)>,
    /// Whether honest officials agree to a statement.
    pub agreed: BTreeMap<CeremonyId, bool>,
    /// In the order they were opened.
    opened: Vec<CeremonyId>,
    nonce: u8,
}

impl Default for Cluster {
    fn default() -> Self {
        let world = world();
        Self {
            world,
            embassy: Embassy::new(world),
            people: People::new(world),
            line: Vec::new(),
            overheard: Vec::new(),
            agreed: BTreeMap::new(),
            opened: Vec::new(),
            nonce: 0,
        }
    }
}

impl Cluster {
    /// A statement of the opener's, as the opener's tool makes it.
    pub fn statement(&mut self, who: usize, both: bool, release: bool, seconds: i64) -> SignedStatement {
        let World { people, facts, versions, card, .. } = self.world;
        self.nonce += 1;
        let datasets = versions.iter().take(if both { 2 } else { 1 }).map(|version| {
            let description = version.description();
            DatasetAt { dataset: description.dataset.clone(), version: description.version }
        });
        let lease =
            || LeaseTerms { agents: vec![AgentName::new("replicator").unwrap()], duration_seconds: 3600, unwraps: 100 };
        let statement = Statement::new(StatementParts {
            charter: facts.charter(),
            embassy: facts.embassy().clone(),
            generation: facts.generation(),
            purpose: Purpose::new("the courts go on in exile").unwrap(),
            datasets: datasets.collect(),
            mode: if release { Mode::Release { recipient: Box::new(card.clone()) } } else { Mode::Lease(lease()) },
            opener: people[who].name.clone(),
            opened_at: self.embassy.now,
            expires_at: UnixTime(self.embassy.now.0 + seconds),
            acknowledged: self.embassy.resets(),
            nonce: [self.nonce; 16],
        });
        SignedStatement::sign(statement.unwrap(), &people[who].identity).unwrap()
    }

    fn pick(&self, ceremony: u8) -> Option<CeremonyId> {
        // Half of what happens happens to the latest one.
        let latest = self.opened.last().copied().filter(|_| ceremony.is_multiple_of(2));
        latest.or_else(|| self.opened.get(usize::from(ceremony) % self.opened.len().max(1)).copied())
    }

    const fn honest(who: u8) -> usize {
        (who % (FIRST_HOSTILE - 1)) as usize
    }

    const fn hostile(who: u8) -> usize {
        (FIRST_HOSTILE - 1 + who % 2) as usize
    }

    pub fn send(&mut self, ceremony: CeremonyId, message: Message) {
        self.overheard.push((ceremony, message.clone()));
        self.line.push((ceremony, message));
    }

    /// A message arrives. What does not read is nobody's.
    pub fn arrive(&mut self, ceremony: CeremonyId, message: &Message) -> Option<Reply> {
        let event = match message {
            Message::Contribution(bytes) => Event::Contribution(Box::new(Contribution::decode(bytes).ok()?)),
            Message::Denial(bytes) => Event::Denial(Denial::decode(bytes).ok()?),
            Message::Stop(bytes) => Event::Stop(Stop::decode(bytes).ok()?),
        };
        let before = self.embassy.store.roll.len();
        let approve_by =
            self.embassy.unseal(&ceremony).and_then(|unseal| unseal.standing(&self.world.facts).approve_by);
        let outlived = approve_by.is_none_or(|by| by <= self.embassy.now);
        let reply = self.embassy.feed(ceremony, event);
        let again = |entry: &Entry| matches!(entry.act, Act::AskedAgain { .. });
        let asked = self.embassy.store.roll[before..].iter().any(again);
        assert!(!asked || outlived, "honest work is lost: a message has everybody approve again");
        reply
    }

    /// An honest official's machine fetches the offer, checks it, and answers as its owner wants.
    pub fn review(&mut self, who: usize, ceremony: CeremonyId) -> Option<Message> {
        let offer = SignedOffer::decode(&self.embassy.offer(&ceremony)?.encode()).unwrap();
        self.answer(who, &offer)
    }

    fn answer(&mut self, who: usize, offer: &SignedOffer) -> Option<Message> {
        let checked = self.people.check(who, offer, self.embassy.now).ok()?;
        let id = checked.offer().statement().id();
        match self.agreed.get(&id) {
            Some(true) => Some(self.people.consent(who, &checked)),
            _ => Some(self.people.deny(who, id)),
        }
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Open { who, both, release, agreed, short } => {
                let who = usize::from(who % 5);
                let signed = self.statement(who, both, release, if short { 900 } else { 200_000 });
                if let Ok(id) = self.embassy.open(signed, true) {
                    self.agreed.insert(id, agreed);
                    self.opened.push(id);
                    self.embassy.work(id);
                }
            }
            Action::Work { ceremony, orders } => {
                if let Some(id) = self.pick(ceremony) {
                    for _ in 0..orders {
                        self.embassy.work(id);
                    }
                }
            }
            Action::Review { who, ceremony } => {
                if let Some(id) = self.pick(ceremony)
                    && let Some(message) = self.review(Self::honest(who), id)
                {
                    self.send(id, message);
                }
            }
            Action::Together { ceremony } => {
                let Some(id) = self.pick(ceremony) else { return };
                for who in 0..usize::from(FIRST_HOSTILE - 1) {
                    if let Some(message) = self.review(who, id) {
                        self.overheard.push((id, message.clone()));
                        self.arrive(id, &message);
                    }
                }
            }
            Action::Deny { who, ceremony } => {
                if let Some(id) = self.pick(ceremony) {
                    let message = self.people.deny(usize::from(who % 5), id);
                    self.send(id, message);
                }
            }
            Action::Stop { who, ceremony } => {
                // Rarely, or nothing would ever be opened.
                if who % 4 == 0
                    && let Some(id) = self.pick(ceremony)
                {
                    let message = self.people.stop(usize::from(who % 5), id);
                    self.send(id, message);
                }
            }
            Action::Spoil { who, ceremony, how } => self.spoil(Self::hostile(who), ceremony, how),
            Action::Forge { who, victim, ceremony, stop } => {
                let (who, victim) = (Self::hostile(who), Self::honest(victim));
                if let Some(id) = self.pick(ceremony) {
                    let message = self.people.forge(who, victim, id, stop);
                    self.send(id, message);
                }
            }
            Action::Deliver { message, twice, keep } => {
                if !self.line.is_empty() {
                    let at = usize::from(message) % self.line.len();
                    let (id, message) = if keep { self.line[at].clone() } else { self.line.remove(at) };
                    let reply = self.arrive(id, &message);
                    if twice && reply.is_some() {
                        self.the_very_same_changes_nothing(id, &message);
                    }
                }
            }
            Action::Flip { message, at } => {
                if !self.line.is_empty() {
                    let (id, mut message) = self.line[usize::from(message) % self.line.len()].clone();
                    let bytes = message.bytes_mut();
                    let at = usize::from(at) % (bytes.len() * 8);
                    bytes[at / 8] ^= 1 << (at % 8);
                    let reply = self.arrive(id, &message);
                    let unmoved = matches!(reply, None | Some(Reply::Refused(_)));
                    assert!(unmoved, "an altered message was taken: {reply:?}");
                }
            }
            Action::Drop { message } => {
                if !self.line.is_empty() {
                    self.line.remove(usize::from(message) % self.line.len());
                }
            }
            Action::Alter { who, ceremony, at } => self.alter(Self::honest(who), ceremony, at),
            Action::OwnSessions { who, ceremony } => self.own_sessions(Self::honest(who), ceremony),
            Action::AskTpm { nonce, dataset, thrice } => self.ask_tpm(nonce, usize::from(dataset), thrice),
            Action::Wait { seconds } => {
                self.embassy.now.0 += i64::from(seconds);
                self.tick();
            }
            Action::Reset { noticed } => {
                self.embassy.tpm.reset();
                if noticed {
                    for id in self.embassy.ids() {
                        self.embassy.feed(id, Event::Restarted);
                    }
                }
            }
            Action::Restart => self.embassy.restart(),
            Action::StoreFails { times } => self.embassy.store.fails = times,
            Action::TpmBusy { calls } => self.embassy.tpm.busy = calls,
        }
    }

    pub fn tick(&mut self) {
        for id in self.embassy.ids() {
            self.embassy.feed(id, Event::Tick);
        }
    }

    fn the_very_same_changes_nothing(&mut self, id: CeremonyId, message: &Message) {
        let before = self.embassy.store.roll.len();
        let reply = self.arrive(id, message);
        let taken_again = matches!(reply, Some(Reply::Accepted { .. } | Reply::Taken));
        assert!(!taken_again, "a repeat was taken as new: {reply:?}");
        let since = &self.embassy.store.roll[before..];
        assert!(since.is_empty(), "a repeat left a trace in the roll: {since:?}");
    }

    fn spoil(&mut self, who: usize, ceremony: u8, how: u8) {
        const WAYS: [Spoil; 8] = [
            Spoil::Honest,
            Spoil::Rubbish,
            Spoil::Share,
            Spoil::Halves,
            Spoil::Nonce,
            Spoil::Few,
            Spoil::Name,
            Spoil::Short,
        ];
        let Some(id) = self.pick(ceremony) else { return };
        let Some(offer) = self.embassy.offer(&id) else { return };
        let Ok(checked) = self.people.check(who, &offer, self.embassy.now) else { return };
        let message = self.people.spoil(who, &checked, WAYS[usize::from(how) % WAYS.len()]);
        self.send(id, message);
    }

    /// A bit of the offer is another one on its way to an official.
    fn alter(&mut self, who: usize, ceremony: u8, at: u16) {
        let Some(offer) = self.pick(ceremony).and_then(|id| self.embassy.offer(&id)) else { return };
        let mut bytes = offer.encode();
        let at = usize::from(at) % (bytes.len() * 8);
        bytes[at / 8] ^= 1 << (at % 8);
        let Ok(altered) = SignedOffer::decode(&bytes) else { return };
        let verdict = self.people.check(who, &altered, self.embassy.now);
        assert!(verdict.is_err(), "an official's machine took an offer that the embassy had not signed");
    }

    fn own_sessions(&mut self, who: usize, ceremony: u8) {
        let Some(id) = self.pick(ceremony) else { return };
        let Some(offer) = self.embassy.offer(&id) else { return };
        let Embassy { tpm, now, rng, .. } = &mut self.embassy;
        let sessions: Result<Vec<_>, _> = offer.unverified().openings().iter().map(|_| tpm.park(now.0, rng)).collect();
        let Ok(sessions) = sessions else { return };
        let other = with_other_nonces(self.world, &offer, &sessions);
        if let Some(message) = self.answer(who, &other) {
            self.send(id, message);
        }
    }

    /// With everything overheard, in one session, for one point.
    fn ask_tpm(&mut self, nonce: u8, dataset: usize, thrice: bool) {
        let nonces = self.embassy.tpm.nonces();
        if nonces.is_empty() {
            return;
        }
        let nonce = nonces[usize::from(nonce) % nonces.len()];
        let point = *self.world.slot(dataset).point();
        let mut approvals = Vec::new();
        for (_, message) in &self.overheard {
            if let Message::Contribution(bytes) = message
                && let Ok(contribution) = Contribution::decode(bytes)
            {
                approvals.extend_from_slice(contribution.approvals());
            }
        }
        if thrice {
            // One official's word that holds here, said three times.
            let facts = &self.world.facts;
            let command = CommandHash::ecdh_zgen(&facts.custody_key_name(), &point);
            let policy_ref = PolicyRef::new(TpmPurpose::Unseal, facts.charter(), facts.embassy(), facts.generation());
            let request = ApprovalRequest { nonce, command, policy_ref };
            let holds = |approval: &TpmApproval| {
                let member = facts.unseal().member(approval.position());
                member.is_ok_and(|member| approval.verify(&request, &member.identity, EXPIRY_MAX).is_ok())
            };
            approvals = approvals.into_iter().find(holds).map_or_else(Vec::new, |one| vec![one; 3]);
        }
        let now = self.embassy.now.0;
        // Whether it was right to answer, the invariant on what T gave decides.
        drop(self.embassy.tpm.decapsulate(&nonce, &point, &approvals, now));
    }

    /// Carries out every order there is.
    pub fn settle(&mut self) {
        for _ in 0..200 {
            let orders = self.embassy.ids().into_iter().filter(|id| self.embassy.work(*id)).count();
            if orders == 0 {
                return;
            }
        }
        panic!("the embassy's orders never end");
    }

    /// The host lets go, perhaps after it reset the TPM once more. Whatever happened, the honest now open what they agree to.
    fn the_host_lets_go(&mut self, after_a_reset: bool) {
        if after_a_reset {
            self.embassy.tpm.reset();
        }
        self.embassy.store.fails = 0;
        self.embassy.tpm.busy = 0;
        self.line.clear();
        let hopeful: Vec<CeremonyId> = self.embassy.ids().into_iter().filter(|id| self.can_still_open(id)).collect();
        for _ in 0..4 {
            self.embassy.now.0 += 301;
            self.tick();
            self.settle();
            for id in &hopeful {
                for who in 0..usize::from(FIRST_HOSTILE - 1) {
                    if let Some(message) = self.review(who, *id) {
                        self.overheard.push((*id, message.clone()));
                        self.arrive(*id, &message);
                    }
                }
            }
            self.settle();
        }
        for id in &hopeful {
            let unseal = self.embassy.unseal(id).unwrap();
            if unseal.statement().mode().recipient().is_some() {
                self.the_recipient_opens(id);
            } else {
                let standing = unseal.standing(&self.world.facts);
                let leased = unseal.outcome() == Some(&Outcome::Leased);
                assert!(leased, "honest work is lost: k honest officials could not open {id}: {standing:?}");
            }
        }
    }

    /// Whether k honest officials agree, none of whom has voted against it, and there is time.
    fn can_still_open(&self, id: &CeremonyId) -> bool {
        let Some(unseal) = self.embassy.unseal(id) else { return false };
        let standing = unseal.standing(&self.world.facts);
        let against = |name| standing.denied.iter().any(|(by, _)| by == name);
        let honest = self.world.people.iter().filter(|person| person.is_honest() && !against(&person.name)).count();
        unseal.is_open()
            && self.agreed.get(id) == Some(&true)
            && honest >= usize::from(K)
            && unseal.statement().expires_at().0 > self.embassy.now.0 + 3000
    }

    /// The recipient takes what the embassy hands out, judges it, and opens.
    pub fn the_recipient_opens(&mut self, id: &CeremonyId) {
        let unseal = self.embassy.unseal(id).unwrap();
        let standing = unseal.standing(&self.world.facts);
        let handed = unseal.handed().unwrap_or_else(|| panic!("honest work is lost: {id} not released: {standing:?}"));
        let now = self.embassy.now;
        let checked = self.people.check(0, &handed.offer, now).unwrap();
        let hash = *checked.hash();
        let mut gathering = Gathering::new(checked, &self.world.facts, &self.world.quorum).unwrap();
        for contribution in &handed.contributions {
            // Bad halves are refused by name; enough others are there.
            drop(gathering.receive(contribution, &self.world.ministry));
        }
        let openings = gathering.quorate().unwrap().into_openings();
        let sealed = &self.embassy.store.records[&format!("release/{id}")];
        let plain = hybrid::open(&self.world.ministry, Label::RELEASE_SEAL, hash.as_bytes(), b"", sealed).unwrap();
        for (opening, half) in openings.into_iter().zip(plain.expose().chunks(33)) {
            let mut half = chancery::protocol::group::Point::decode(half).unwrap();
            let version = self.world.version_of(opening.slot());
            let opened = opening.open(&SharedPoint::take(&mut half), version).unwrap();
            let name = opened.dataset().dataset.clone();
            assert_eq!(opened.into_seed().expose(), self.world.seed_of(&name).expose());
        }
    }
}

/// The same statement in an offer with sessions of the host's own, signed by the identity key that the host got to work.
fn with_other_nonces(world: &World, honest: &SignedOffer, nonces: &[TpmNonce]) -> SignedOffer {
    let offer = honest.unverified();
    let openings: Vec<Opening> = offer
        .openings()
        .iter()
        .zip(nonces)
        .map(|(opening, nonce)| Opening { subject: opening.subject, nonce: *nonce })
        .collect();
    let statement = offer.signed_statement().clone();
    let changed = Offer::new(statement, offer.attempt(), offer.ceremony_key().cloned(), openings).unwrap();
    SignedOffer::sign(changed, &world.embassy).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn whatever_happens_the_invariants_hold(actions in prop::collection::vec(action(), 1..100)) {
        let mut cluster = Cluster::default();
        for action in &actions {
            cluster.act(action);
            cluster.check();
        }
        cluster.no_seed_but_in_a_live_lease();
        cluster.the_host_lets_go(actions.len().is_multiple_of(2));
        cluster.check();
        cluster.no_seed_but_in_a_live_lease();
    }
}
