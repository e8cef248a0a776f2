//! The random histories of `tests/cluster.rs` against the real pieces: the service itself with its driver, store and leases, on a
//! simulated TPM. Slower, so there are fewer of them, and the model finds more; what a model could hide shows here.
//!
//! Invariants, checked after each action, by what the store holds and what the service answers:
//!
//! - **no lease without k**: a lease and a release exist only where k distinct officials approved, by a ledger that the code under
//!   test does not see, that very statement and offer; and an agent is served only under such a lease;
//! - **nobody counts twice**, and nobody for and against;
//! - **no seed but in a live lease**: no seed, share or half in anything saved, sent or answered;
//! - **every outcome in the roll**, once, and as the service tells it;
//! - **honest work is never lost**: what counted counts after every restart, nothing right is refused, and when the host lets
//!   go, k honest officials open.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub
)]

#[path = "cluster/action.rs"]
mod action;
#[path = "cluster_service/embassy.rs"]
mod embassy;
#[path = "cluster_service/invariants.rs"]
mod invariants;
#[path = "cluster/people.rs"]
mod people;
#[path = "cluster/roll.rs"]
mod roll;
mod support;
#[path = "cluster_service/world.rs"]
mod world;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use age::Recipient as _;
use chancery::{
    client::{
        api::DocumentBody,
        ceremonies::CeremonyView,
        unwrap::{StanzaText, UnwrapRequest},
    },
    protocol::{
        certificate::{Role, UnixTime},
        dataset::TaggedStanza,
        hash::Hash,
        ids::CeremonyId,
        offer::SignedOffer,
        roll::Act,
        statement::{Mode, SignedStatement, Statement, StatementParts},
        wire::Document,
    },
};
use proptest::{
    prelude::Strategy,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use rand_core::{OsRng, RngCore};

use action::{Action, action};
use embassy::Embassy;
use people::{Message, People, Spoil};
use world::{EXPIRY_MAX, FIRST_HOSTILE, K, World};

/// Histories in a run, and the actions in each.
const HISTORIES: usize = 3;
const ACTIONS: usize = 40;
/// The service works behind its answers; far longer than a simulated TPM takes, also where it tries something again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Everything of one history.
pub struct Cluster<'w> {
    world: &'w World,
    embassy: Embassy,
    people: People<'w>,
    /// On the line, which is the host's.
    line: Vec<(CeremonyId, Message)>,
    /// Everything that ever was on it.
    overheard: Vec<(CeremonyId, Message)>,
    /// Whether honest officials agree to a statement.
    agreed: BTreeMap<CeremonyId, bool>,
    /// In the order they were opened, with their statements.
    opened: Vec<(CeremonyId, SignedStatement)>,
    /// When an offer was first seen, by the wall clock that the host moves.
    offered: BTreeMap<Hash, UnixTime>,
    /// How often an agent was served.
    served: usize,
}

impl<'w> Cluster<'w> {
    async fn new(world: &'w World, network: support::World) -> Self {
        Self {
            world,
            embassy: Embassy::new(network).await,
            people: People::new(world),
            line: Vec::new(),
            overheard: Vec::new(),
            agreed: BTreeMap::new(),
            opened: Vec::new(),
            offered: BTreeMap::new(),
            served: 0,
        }
    }

    fn pick(&self, ceremony: u8) -> Option<CeremonyId> {
        // Half of what happens happens to the latest one.
        let latest = self.opened.last().filter(|_| ceremony.is_multiple_of(2));
        let any = || self.opened.get(usize::from(ceremony) % self.opened.len().max(1));
        latest.or_else(any).map(|(id, _)| *id)
    }

    const fn honest(who: u8) -> usize {
        (who % (FIRST_HOSTILE - 1)) as usize
    }

    const fn hostile(who: u8) -> usize {
        (FIRST_HOSTILE - 1 + who % 2) as usize
    }

    async fn open(&mut self, who: usize, both: bool, release: bool, seconds: i64) -> Option<CeremonyId> {
        let resets = self.embassy.resets().await?;
        let network = &self.embassy.network;
        let mode =
            if release { Mode::Release { recipient: Box::new(self.world.card.clone()) } } else { network.lease() };
        let parts = network.parts(who, mode, if both { 2 } else { 1 }, resets);
        let now = self.embassy.now();
        let parts = StatementParts { opened_at: now, expires_at: UnixTime(now.0 + seconds), ..parts };
        let person = &self.world.people[who];
        let signed = SignedStatement::sign(Statement::new(parts).unwrap(), &person.identity).unwrap();
        let answer = self.embassy.open(person.name.as_str(), &signed).await;
        let id = signed.unverified().id();
        // Where the store failed, it may be there all the same.
        let there = answer.status == 200
            || (answer.status >= 500 && {
                let path = format!("/v1/ceremonies/{id}");
                self.embassy.get(Role::Official, person.name.as_str(), &path).await.status == 200
            });
        there.then(|| {
            self.opened.push((id, signed));
            id
        })
    }

    /// The offer as an official's machine fetches it.
    async fn offer(&mut self, id: &CeremonyId) -> Option<SignedOffer> {
        let offer = self.embassy.offer(id).await?;
        let now = self.embassy.now();
        self.offered.entry(offer.unverified().hash()).or_insert(now);
        Some(offer)
    }

    fn send(&mut self, ceremony: CeremonyId, message: Message) {
        self.overheard.push((ceremony, message.clone()));
        self.line.push((ceremony, message));
    }

    /// A message arrives. Gives the reply of the ceremony, or the code of its refusal.
    async fn arrive(&mut self, ceremony: CeremonyId, message: &Message) -> String {
        let view = self.embassy.view(&ceremony).await;
        let path = match message {
            Message::Contribution(_) => format!("/v1/ceremonies/{ceremony}/contributions"),
            Message::Denial(_) => format!("/v1/ceremonies/{ceremony}/denials"),
            Message::Stop(_) if view.lease.is_some() => format!("/v1/leases/{ceremony}/stops"),
            Message::Stop(_) => format!("/v1/ceremonies/{ceremony}/stops"),
        };
        let body = DocumentBody::of_bytes(message.bytes());
        let answer = self.embassy.post(Role::Official, "boris", &path, &body).await;
        let code = answer.code();
        code.unwrap_or_else(|| answer.json()["reply"].as_str().unwrap_or("taken").to_owned())
    }

    /// An honest official's machine fetches the offer, checks it, and answers as its owner wants.
    async fn review(&mut self, who: usize, id: CeremonyId) -> Option<Message> {
        let offer = self.offer(&id).await?;
        let now = self.embassy.now();
        let checked = self.people.check(who, &offer, now).ok()?;
        Some(match self.agreed.get(&id) {
            Some(true) => self.people.consent(who, &checked),
            _ => self.people.deny(who, id),
        })
    }

    /// What an honest official says is said, and nothing stands in its way but a store that fails or time.
    async fn says(&mut self, who: usize, id: CeremonyId) {
        let Some(message) = self.review(who, id).await else { return };
        self.overheard.push((id, message.clone()));
        let view = self.embassy.view(&id).await;
        let name = self.world.people[who].name.to_string();
        let may = self.embassy.offer(&id).await.is_some_and(|offer| {
            let made = self.offered.get(&offer.unverified().hash());
            view.phase == "collecting"
                && made == Some(&self.embassy.now())
                && !view.denied.contains(&name)
                && offer.unverified().attempt() == view.attempt
        });
        let faults = self.embassy.has_faults();
        let reply = self.arrive(id, &message).await;
        if may && !faults && matches!(message, Message::Contribution(_)) {
            let taken = matches!(reply.as_str(), "accepted" | "already-accepted");
            // A reset may have been noticed in between; then there is another offer, and all are asked again.
            let after = self.embassy.view(&id).await;
            let same = after.phase == "collecting" && after.attempt == view.attempt;
            assert!(taken || !same, "honest work is lost: {name}'s contribution to {view:?} was answered with {reply}");
        }
    }

    async fn act(&mut self, action: &Action) {
        match *action {
            Action::Open { who, both, release, agreed, short } => {
                let seconds = if short { 900 } else { 200_000 };
                if let Some(id) = self.open(usize::from(who % 5), both, release, seconds).await {
                    self.agreed.insert(id, agreed);
                }
            }
            Action::Review { who, ceremony } => {
                if let Some(id) = self.pick(ceremony)
                    && let Some(message) = self.review(Self::honest(who), id).await
                {
                    self.send(id, message);
                }
            }
            Action::Together { ceremony } => {
                let Some(id) = self.pick(ceremony) else { return };
                for who in 0..usize::from(FIRST_HOSTILE - 1) {
                    self.says(who, id).await;
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
            Action::Spoil { who, ceremony, how } => self.spoil(Self::hostile(who), ceremony, how).await,
            Action::Forge { who, victim, ceremony, stop } => {
                if let Some(id) = self.pick(ceremony) {
                    let message = self.people.forge(Self::hostile(who), Self::honest(victim), id, stop);
                    self.send(id, message);
                }
            }
            Action::Deliver { message, twice, keep } => {
                if !self.line.is_empty() {
                    let at = usize::from(message) % self.line.len();
                    let (id, message) = if keep { self.line[at].clone() } else { self.line.remove(at) };
                    self.arrive(id, &message).await;
                    if twice && !self.embassy.has_faults() {
                        self.settle().await;
                        let reply = self.arrive(id, &message).await;
                        assert_ne!(reply, "accepted", "a repeat was taken as new");
                    }
                }
            }
            Action::Flip { message, at } => {
                if !self.line.is_empty() {
                    let (id, mut message) = self.line[usize::from(message) % self.line.len()].clone();
                    let bytes = message.bytes_mut();
                    let at = usize::from(at) % (bytes.len() * 8);
                    bytes[at / 8] ^= 1 << (at % 8);
                    let reply = self.arrive(id, &message).await;
                    let taken = matches!(reply.as_str(), "accepted" | "already-accepted" | "taken");
                    assert!(!taken, "an altered message was taken: {reply}");
                }
            }
            Action::Drop { message } => {
                if !self.line.is_empty() {
                    self.line.remove(usize::from(message) % self.line.len());
                }
            }
            Action::Alter { who, ceremony, at } => self.alter(Self::honest(who), ceremony, at).await,
            Action::Wait { seconds } => self.embassy.wait(i64::from(seconds)),
            Action::Reset { noticed } => {
                self.embassy.reset();
                if noticed {
                    self.embassy.restart(false).await;
                }
            }
            Action::Restart => self.embassy.restart(false).await,
            Action::StoreFails { times } => {
                // In both ways: it was not written, or it was and nobody was told.
                let (before, after) = if times.is_multiple_of(2) { (1, 1) } else { (0, 1) };
                self.embassy.faults(before, after);
            }
            // A crash, which the model has in every restart.
            Action::OwnSessions { .. } => self.embassy.restart(true).await,
            // Of this TPM nobody asks anything but the service. An agent asks the service instead.
            Action::AskTpm { dataset, .. } => self.unwrap(usize::from(dataset)).await,
            Action::Work { .. } | Action::TpmBusy { .. } => {}
        }
    }

    async fn spoil(&mut self, who: usize, ceremony: u8, how: u8) {
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
        let Some(offer) = self.offer(&id).await else { return };
        let now = self.embassy.now();
        let Ok(checked) = self.people.check(who, &offer, now) else { return };
        let way = WAYS[usize::from(how) % WAYS.len()];
        let message = self.people.spoil(who, &checked, way);
        self.send(id, message);
    }

    /// A bit of the offer is another one on its way to an official.
    async fn alter(&mut self, who: usize, ceremony: u8, at: u16) {
        let Some(id) = self.pick(ceremony) else { return };
        let Some(offer) = self.offer(&id).await else { return };
        let mut bytes = offer.encode();
        let at = usize::from(at) % (bytes.len() * 8);
        bytes[at / 8] ^= 1 << (at % 8);
        let Ok(altered) = SignedOffer::decode(&bytes) else { return };
        let verdict = self.people.check(who, &altered, self.embassy.now());
        assert!(verdict.is_err(), "an official's machine took an offer that the embassy had not signed");
    }

    /// An agent asks under every lease that there ever was. It is served under those that live, and under no other.
    async fn unwrap(&mut self, dataset: usize) {
        self.embassy.beat().await;
        let dataset = &self.embassy.network.datasets[dataset];
        let name = dataset.name.to_string();
        let recipient: age::tagpq::Recipient = dataset.seed.key().recipient().to_string().parse().unwrap();
        let (mut stanzas, _) = recipient.wrap_file_key(&age_core::format::FileKey::new(Box::new([7; 16]))).unwrap();
        let stanza = stanzas.remove(0);
        let arguments: Vec<&str> =
            std::iter::once(stanza.tag.as_str()).chain(stanza.args.iter().map(String::as_str)).collect();
        let stanza = TaggedStanza::parse(&arguments, &stanza.body).unwrap().unwrap();
        let request = UnwrapRequest { dataset: name.clone(), stanzas: vec![StanzaText::of(&stanza)] };
        for (id, signed) in self.opened.clone() {
            let leases = self.embassy.leases().await;
            let lease = leases.leases.into_iter().find(|lease| lease.id == id.to_string());
            let named = signed.unverified().datasets().iter().any(|at| at.dataset.as_str() == name);
            let lives = named && lease.is_some_and(|lease| lease.state == "live");
            let path = format!("/v1/leases/{id}/unwrap");
            let answer = self.embassy.post(Role::Agent, "replica-1", &path, &request).await;
            // Its seed may answer; it is the agent's to have.
            self.embassy.answers.pop();
            let served = answer.status == 200;
            self.served += usize::from(served);
            assert!(lives || !served, "no lease without k: an agent was served under {id}, which does not live");
            assert!(served || !lives || self.embassy.has_faults() || answer.status >= 500, "{}", answer.text);
        }
    }

    async fn views(&mut self) -> Vec<(CeremonyId, CeremonyView)> {
        let ids: Vec<CeremonyId> = self.opened.iter().map(|(id, _)| *id).collect();
        let mut views = Vec::new();
        for id in ids {
            views.push((id, self.embassy.view(&id).await));
        }
        views
    }

    /// Waits until the service has nothing to do. Where the store fails or the TPM was reset, it may go on trying.
    async fn settle(&mut self) {
        let began = Instant::now();
        loop {
            let views = self.views().await;
            let working = |view: &CeremonyView| matches!(view.phase.as_str(), "awaiting-offer" | "opening");
            if !views.iter().any(|(_, view)| working(view)) || began.elapsed() > PATIENCE {
                // Each offer is seen before the clock is moved again.
                for (id, _) in views.iter().filter(|(_, view)| view.phase == "collecting") {
                    self.offer(id).await;
                }
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The host lets go, perhaps after it reset the TPM once more. Whatever happened, the honest now open what they agree to.
    async fn the_host_lets_go(&mut self, after_a_reset: bool) {
        self.embassy.faults(0, 0);
        if after_a_reset {
            self.embassy.reset();
        }
        self.embassy.restart(true).await;
        self.line.clear();
        self.settle().await;
        let hopeful: Vec<CeremonyId> = {
            let views = self.views().await;
            views.into_iter().filter(|(id, view)| self.can_still_open(id, view)).map(|(id, _)| id).collect()
        };
        for _ in 0..4 {
            self.settle().await;
            for id in &hopeful {
                for who in 0..usize::from(FIRST_HOSTILE - 1) {
                    self.says(who, *id).await;
                }
            }
        }
        self.settle().await;
        for id in hopeful {
            let view = self.embassy.view(&id).await;
            let opened = view.phase == "released" || view.outcome.as_deref() == Some("a lease began");
            assert!(opened, "honest work is lost: k honest officials could not open {view:?}");
        }
    }

    /// Whether k honest officials agree, none of whom has voted against it, and there is time.
    fn can_still_open(&self, id: &CeremonyId, view: &CeremonyView) -> bool {
        let against = |name: &str| view.denied.iter().any(|by| by == name);
        let honest = self.world.people.iter().filter(|person| person.is_honest() && !against(person.name.as_str()));
        let statement =
            self.opened.iter().find(|(known, _)| known == id).map(|(_, signed)| signed.unverified()).unwrap();
        view.outcome.is_none()
            && self.agreed.get(id) == Some(&true)
            && honest.count() >= usize::from(K)
            && statement.expires_at().0 > self.embassy.now().0 + 3000
    }
}

fn history(seed: u64) -> Vec<Action> {
    let bytes = [seed.to_le_bytes(); 4].concat();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    // What the service does behind its answers, it does by itself.
    let acts = |action: &Action| !matches!(action, Action::Work { .. } | Action::TpmBusy { .. });
    let any = action().prop_filter("somebody's act", acts);
    let begin = |who| Action::Open { who, both: who == 1, release: who == 2, agreed: true, short: false };
    let later = proptest::collection::vec(any, ACTIONS).new_tree(&mut runner).unwrap().current();
    [begin(1), begin(2)].into_iter().chain(later).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_the_invariants_hold_of_the_real_pieces() {
    // A history is drawn from its seed; CHANCERY_HISTORY=SEED goes through one again.
    let again = std::env::var("CHANCERY_HISTORY").ok().map(|seed| seed.parse().unwrap());
    let seeds: Vec<u64> = again.map_or_else(|| (0..HISTORIES).map(|_| OsRng.next_u64()).collect(), |seed| vec![seed]);
    let mut network = support::World::new();
    let world = World::of(&network);
    assert_eq!(world.facts.expiry_max_seconds(), EXPIRY_MAX);
    for (count, seed) in seeds.into_iter().enumerate() {
        println!("CHANCERY_HISTORY={seed}");
        let actions = history(seed);
        let mut cluster = Cluster::new(&world, network).await;
        let mut done = 0;
        for action in &actions {
            println!("{action:?}");
            cluster.act(action).await;
            cluster.settle().await;
            cluster.check().await;
            done += 1;
        }
        cluster.the_host_lets_go(count.is_multiple_of(2)).await;
        cluster.unwrap(0).await;
        cluster.check().await;
        cluster.no_seed_but_in_a_live_lease().await;
        let roll = cluster.embassy.roll().await;
        let of = |name: &str| roll.iter().filter(|entry| entry.act.name() == name).count();
        println!(
            "{done} actions: {} ceremonies, {} offers, {} contributions, {} openings, {} leases, {} releases, {} served\n",
            cluster.opened.len(),
            of("offer made"),
            of("contributed"),
            of("opening"),
            of("leased"),
            of("released"),
            cluster.served
        );
        network = cluster.embassy.into_network().await;
    }
}

/// Whose agreement an entry rests on, where it gives something out.
fn gives(act: &Act) -> Option<(&CeremonyId, &Hash)> {
    match act {
        Act::Leased { ceremony, offer, .. } | Act::Released { ceremony, offer, .. } => Some((ceremony, offer)),
        _ => None,
    }
}
