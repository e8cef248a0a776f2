//! Leases from outside: who is served, what ends them, what stands in the roll, and what a crash or a failing disk costs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use age::Recipient as _;
use p256::ecdsa::SigningKey;
use rand_core::OsRng;

use super::{
    beats::BeatRules,
    clock::{AGREEMENT, BootTime, Compared, Later},
    error::LeaseError,
    keeper::{Answer, Leases, Parts, TICK},
    once::Once,
    rules::LeaseRules,
    table::{InstallError, UnwrapRefusal},
};
use crate::{
    hardware::{Clock, TpmError},
    protocol::{
        beat::Beat,
        certificate::UnixTime,
        charter::{CharterWitness, HardwareClass},
        dataset::{Recipient, TaggedStanza},
        gathering::tests::{World, world},
        ids::{AgentName, CeremonyId, DatasetName, WitnessName},
        lease::{LeaseEnd, LeaseState},
        notice::NoticeError,
        roll::{Act, Entry},
        signer::DigestSigner,
        statement::LeaseTerms,
        wire::Document,
    },
    service::arena::Arena,
    store::{Call, Fault, Faulty, MemoryStore, Store, StoreError},
};

const HEARTBEAT: u64 = 60;
const HOUR: u32 = 3600;

/// For each kind of trouble, what becomes of a commit and of a read: nothing, it fails before, after, and after with no
/// reading to find out.
const FAULTS: [(Option<Fault>, Option<Fault>); 4] =
    [(None, None), (Some(Fault::Before), None), (Some(Fault::After), None), (Some(Fault::After), Some(Fault::Before))];

/// What the TPM says of its clock.
type TpmDouble = Arc<Mutex<Result<Clock, TpmError>>>;

struct Embassy {
    quorum: Arc<World>,
    arena: Arc<Arena>,
    store: Arc<dyn Store>,
    fault: Arc<AtomicU8>,
    now: Arc<Mutex<Duration>>,
    tpm: TpmDouble,
    asked: Arc<AtomicUsize>,
    rules: Arc<Mutex<LeaseRules>>,
    witness: SigningKey,
    leases: Arc<Leases>,
}

fn agent(name: &str) -> AgentName {
    AgentName::new(name).unwrap()
}

fn dataset(name: &str) -> DatasetName {
    DatasetName::new(name).unwrap()
}

fn terms(unwraps: u64) -> LeaseTerms {
    LeaseTerms { agents: vec![agent("replicator"), agent("court")], duration_seconds: HOUR, unwraps }
}

fn stanza(recipient: &Recipient) -> TaggedStanza {
    let stock: age::tagpq::Recipient = recipient.to_string().parse().unwrap();
    let file_key = age_core::format::FileKey::new(Box::new([7; 16]));
    let (mut stanzas, _) = stock.wrap_file_key(&file_key).unwrap();
    let stanza = stanzas.remove(0);
    let arguments: Vec<&str> =
        std::iter::once(stanza.tag.as_str()).chain(stanza.args.iter().map(String::as_str)).collect();
    TaggedStanza::parse(&arguments, &stanza.body).unwrap().unwrap()
}

impl Embassy {
    /// An embassy of two datasets, land and police, whose witness beat a moment ago.
    async fn new() -> Self {
        let fault = Arc::new(AtomicU8::new(0));
        let asked = Arc::clone(&fault);
        let hook = move |call: Call<'_>| {
            let (commit, get) = FAULTS[usize::from(asked.load(Ordering::SeqCst))];
            match call {
                Call::Commit(_) => commit,
                Call::Get(_) => get,
                _ => None,
            }
        };
        let witness = SigningKey::random(&mut OsRng);
        let quorum = Arc::new(world(&["land", "police"]));
        let rules = LeaseRules {
            class: HardwareClass::Firmware,
            allowed: true,
            beats: BeatRules {
                charter: quorum.facts().charter(),
                embassy: quorum.facts().embassy().clone(),
                witnesses: vec![CharterWitness {
                    name: WitnessName::new("tallinn").unwrap(),
                    key: witness.public_key(),
                }],
                heartbeat_seconds: HEARTBEAT as u32,
            },
        };
        let arena = Arena::new(8).unwrap();
        let store: Arc<dyn Store> = Arc::new(Faulty::new(MemoryStore::new(), hook));
        let now = Arc::new(Mutex::new(Duration::from_secs(10_000)));
        let tpm = Clock { milliseconds: 77_000, reset_count: 3, restart_count: 0, safe: true };
        let (tpm, asked) = (Arc::new(Mutex::new(Ok(tpm))), Arc::default());
        let rules = Arc::new(Mutex::new(rules));
        let leases = Leases::open(parts(&quorum, &arena, &store, (&now, &tpm, &asked), &rules)).await.unwrap();
        let embassy = Self { quorum, arena, store, fault, now, tpm, asked, rules, witness, leases };
        embassy.beat().await.unwrap();
        embassy
    }

    /// The process is killed and started again: memory is gone, the store is not.
    async fn restarted(self) -> Self {
        // Nothing is written on the way out.
        let Self { quorum, arena: _, store, fault, now, tpm, asked, rules, witness, leases: _ } = self;
        let arena = Arena::new(8).unwrap();
        let leases = Leases::open(parts(&quorum, &arena, &store, (&now, &tpm, &asked), &rules)).await.unwrap();
        let embassy = Self { quorum, arena, store, fault, now, tpm, asked, rules, witness, leases };
        embassy.beat().await.unwrap();
        embassy
    }

    /// Time passes, by both clocks.
    fn passes(&self, seconds: u64) {
        *self.now.lock().unwrap() += Duration::from_secs(seconds);
        self.passes_by_the_tpm(seconds);
    }

    /// Time passes, and somebody holds the machine's clock.
    fn passes_by_the_tpm(&self, seconds: u64) {
        if let Ok(clock) = self.tpm.lock().unwrap().as_mut() {
            clock.milliseconds += seconds * 1000;
        }
    }

    fn left(&self, id: CeremonyId) -> u64 {
        self.leases.show(Some(id), |lease, now| lease.left(now).as_secs()).remove(0)
    }

    fn fails(&self, fault: u8) {
        self.fault.store(fault, Ordering::SeqCst);
    }

    async fn beat(&self) -> Result<(), LeaseError> {
        let name = WitnessName::new("tallinn").unwrap();
        let request = self.leases.ask_for_beat(&name)?;
        let beat = Beat::sign(request, name, UnixTime(0), &self.witness).unwrap();
        self.leases.take_beat(&beat).await
    }

    async fn install(&self, unwraps: u64) -> Result<CeremonyId, LeaseError> {
        self.leases.install(self.quorum.opened(terms(unwraps), 1)).await
    }

    async fn unwrap(&self, id: CeremonyId, who: &str, what: &str, count: usize) -> Result<usize, LeaseError> {
        let index = usize::from(what == "police");
        let stanzas = vec![stanza(&self.quorum.recipient(index)); count];
        let answers = self.leases.unwrap(id, &agent(who), &dataset(what), stanzas).await?;
        assert!(answers.iter().all(|answer| matches!(answer, Answer::Key(key) if key.expose() == &[7; 16])));
        Ok(answers.len())
    }

    async fn refused(&self, id: CeremonyId, who: &str, what: &str, count: usize) -> UnwrapRefusal {
        match self.unwrap(id, who, what, count).await.unwrap_err() {
            LeaseError::Unwrap(refusal) => refusal,
            other => panic!("{other}"),
        }
    }

    fn state(&self, id: CeremonyId) -> LeaseState {
        self.leases.show(Some(id), |lease, _| lease.state().clone()).remove(0)
    }

    /// Every key is wiped and its place free.
    fn is_wiped(&self) -> bool {
        self.arena.free() == 8
    }

    /// The roll's acts about leases, in short.
    async fn roll(&self) -> Vec<String> {
        let rows = self.store.roll(0, 256).await.unwrap();
        rows.iter()
            .map(|row| match Entry::decode(&row.bytes).unwrap().act {
                Act::Leased { officials, .. } => format!("leased by {}", officials.len()),
                Act::LeaseSuspended { .. } => "suspended".to_owned(),
                Act::LeaseRevived { .. } => "revived".to_owned(),
                Act::Stopped { stop } => format!("stop of {}", stop.unverified_official()),
                Act::LeaseEnded { why, unwraps, .. } => format!("ended after {unwraps}: {why}"),
                Act::UnwrapsReserved { dataset, agent, count, .. } => format!("{agent} may {count} of {dataset}"),
                Act::UnwrapsUsed { dataset, agent, count, .. } => format!("{agent} did {count} of {dataset}"),
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

fn parts(
    quorum: &Arc<World>,
    arena: &Arc<Arena>,
    store: &Arc<dyn Store>,
    (now, tpm, asked): (&Arc<Mutex<Duration>>, &TpmDouble, &Arc<AtomicUsize>),
    rules: &Arc<Mutex<LeaseRules>>,
) -> Parts {
    let (now, rules) = (Arc::clone(now), Arc::clone(rules));
    let (tpm, asked) = (Arc::clone(tpm), Arc::clone(asked));
    Parts {
        embassy: quorum.facts().embassy().clone(),
        arena: Arc::clone(arena),
        store: Arc::clone(store),
        clock: Later::new(
            Arc::new(move || BootTime::new(*now.lock().unwrap())),
            Arc::new(move || {
                asked.fetch_add(1, Ordering::SeqCst);
                tpm.lock().unwrap().clone()
            }),
        ),
        wall_clock: Arc::new(|| UnixTime(1_800_014_400)),
        rules: Arc::new(move || Some(Arc::new(rules.lock().unwrap().clone()))),
    }
}

#[tokio::test]
async fn a_lease_serves_the_agents_it_names_until_its_time_is_over() {
    let embassy = Embassy::new().await;
    let id = embassy.install(5000).await.unwrap();
    assert_eq!(embassy.state(id), LeaseState::Live);
    assert_eq!(embassy.unwrap(id, "replicator", "land", 1).await.unwrap(), 1);
    assert_eq!(embassy.unwrap(id, "court", "police", 40).await.unwrap(), 40);
    let refusal = embassy.refused(id, "stranger", "land", 1).await;
    assert!(matches!(refusal, UnwrapRefusal::NotForYou { .. }), "{refusal}");
    let refusal = embassy.refused(id, "court", "taxes", 1).await;
    assert!(matches!(refusal, UnwrapRefusal::OtherDataset { .. }), "{refusal}");
    let nobody = CeremonyId(crate::protocol::hash::Hash([9; 32]));
    assert_eq!(embassy.refused(nobody, "court", "land", 1).await, UnwrapRefusal::NoSuchLease { ceremony: nobody });

    for _ in 0..HOUR / 60 {
        assert_eq!(embassy.state(id), LeaseState::Live);
        embassy.passes(60);
        embassy.beat().await.unwrap();
    }
    let over = UnwrapRefusal::Ended { why: LeaseEnd::Expired };
    assert_eq!(embassy.refused(id, "court", "police", 1).await, over);
    assert!(embassy.is_wiped());
    embassy.leases.tick().await.unwrap();
    assert_eq!(
        embassy.roll().await,
        [
            "leased by 3",
            "replicator may 1024 of land",
            "court may 1024 of police",
            "replicator did 1 of land",
            "court did 40 of police",
            "ended after 41: its time was over",
        ]
    );
}

#[tokio::test]
async fn a_machine_whose_clock_is_held_keeps_no_lease_beyond_its_time_by_the_tpm() {
    let embassy = Embassy::new().await;
    let id = embassy.install(100).await.unwrap();
    assert_eq!(embassy.leases.compare_clocks().await, Ok(Compared::Begun));
    // Clocks differ a little, and a machine's may well go faster.
    embassy.passes_by_the_tpm(AGREEMENT.as_secs());
    assert_eq!(embassy.leases.compare_clocks().await, Ok(Compared::Agree));
    assert_eq!(embassy.left(id), 3600);
    embassy.passes_by_the_tpm(20);
    assert_eq!(embassy.leases.compare_clocks().await, Ok(Compared::Ahead(Duration::from_secs(30))));
    assert_eq!(embassy.left(id), 3570);
    *embassy.now.lock().unwrap() += Duration::from_secs(30);
    assert_eq!(embassy.leases.compare_clocks().await, Ok(Compared::Agree), "what counted once goes on to count");
    assert_eq!(embassy.left(id), 3540);
    assert_eq!(embassy.state(id), LeaseState::Live);

    embassy.passes_by_the_tpm(u64::from(HOUR));
    assert_eq!(embassy.state(id), LeaseState::Live, "nobody has asked the TPM");
    assert!(matches!(embassy.leases.compare_clocks().await, Ok(Compared::Ahead(_))));
    embassy.leases.tick().await.unwrap();
    assert!(embassy.is_wiped());
    assert_eq!(embassy.state(id), LeaseState::Ended(LeaseEnd::Expired));
    assert_eq!(embassy.roll().await, ["leased by 3", "ended after 0: its time was over"]);
}

#[tokio::test]
async fn a_tpm_that_does_not_answer_ends_no_lease_and_its_silence_counts_once_it_does() {
    let embassy = Embassy::new().await;
    let id = embassy.install(100).await.unwrap();
    embassy.leases.compare_clocks().await.unwrap();
    let before = embassy.tpm.lock().unwrap().clone().unwrap();
    let busy = TpmError::Busy { waiting: 9 };
    *embassy.tpm.lock().unwrap() = Err(busy.clone());
    assert_eq!(embassy.leases.compare_clocks().await, Err(busy));
    embassy.leases.tick().await.unwrap();
    assert_eq!(embassy.unwrap(id, "court", "land", 1).await.unwrap(), 1);
    *embassy.tpm.lock().unwrap() = Ok(Clock { milliseconds: before.milliseconds + 40_000, ..before });
    assert_eq!(embassy.leases.compare_clocks().await, Ok(Compared::Ahead(Duration::from_secs(40))));
    assert_eq!(embassy.left(id), 3560);
}

#[tokio::test]
async fn a_reset_of_the_tpm_gives_back_no_time_and_the_clocks_are_compared_from_there() {
    let embassy = Embassy::new().await;
    let id = embassy.install(100).await.unwrap();
    embassy.leases.compare_clocks().await.unwrap();
    embassy.passes_by_the_tpm(40);
    embassy.leases.compare_clocks().await.unwrap();
    assert_eq!(embassy.left(id), 3560);
    // After a reset the clock may stand anywhere: far behind, or rounded up.
    for milliseconds in [5_000, 9_000_000_000] {
        let reset_count = embassy.tpm.lock().unwrap().as_ref().unwrap().reset_count + 1;
        *embassy.tpm.lock().unwrap() = Ok(Clock { milliseconds, reset_count, restart_count: 0, safe: false });
        assert_eq!(embassy.leases.compare_clocks().await, Ok(Compared::Reset));
        assert_eq!(embassy.left(id), 3560);
    }
    embassy.passes_by_the_tpm(20);
    assert_eq!(embassy.leases.compare_clocks().await, Ok(Compared::Ahead(Duration::from_secs(20))));
    assert_eq!(embassy.left(id), 3540);
}

#[tokio::test]
async fn the_running_keeper_compares_from_a_leases_beginning_and_leaves_the_tpm_alone_without_one() {
    let embassy = Embassy::new().await;
    let asked = || embassy.asked.load(Ordering::SeqCst);
    let running = tokio::spawn(Arc::clone(&embassy.leases).run(TICK));
    let passes = |ticks: u32| tokio::time::sleep(TICK * ticks);
    passes(2).await;
    assert_eq!(asked(), 0, "no lease stands");
    let id = embassy.install(100).await.unwrap();
    let until = async |what: &dyn Fn() -> bool| {
        for _ in 0..40 {
            if what() {
                return;
            }
            passes(1).await;
        }
        panic!("asked {} times, and the lease is {}", asked(), embassy.state(id));
    };
    until(&|| asked() > 0).await;
    // Nobody but the keeper asks for anything from here on.
    embassy.passes_by_the_tpm(u64::from(HOUR) + AGREEMENT.as_secs());
    until(&|| embassy.is_wiped()).await;
    assert_eq!(embassy.state(id), LeaseState::Ended(LeaseEnd::Expired));
    running.abort();
}

#[tokio::test]
async fn any_one_official_stops_a_lease_and_nobody_else_does() {
    let embassy = Embassy::new().await;
    let id = embassy.install(100).await.unwrap();
    embassy.unwrap(id, "court", "land", 3).await.unwrap();
    let facts = embassy.quorum.facts();
    for (place, name, wrong) in [(0, "boris", "another's name"), (0, "frieda", "no official")] {
        let stop = embassy.quorum.stop(place, name, id);
        assert!(matches!(embassy.leases.stop(id, &stop, facts).await, Err(LeaseError::Stop(_))), "{wrong}");
    }
    let other = CeremonyId(crate::protocol::hash::Hash([9; 32]));
    let elsewhere = embassy.quorum.stop(4, "eva", other);
    let refusal = embassy.leases.stop(id, &elsewhere, facts).await.unwrap_err();
    assert!(matches!(refusal, LeaseError::Stop(NoticeError::OtherCeremony { .. })), "{refusal}");
    assert_eq!(embassy.unwrap(id, "court", "land", 1).await.unwrap(), 1);

    let stop = embassy.quorum.stop(4, "eva", id);
    // The disk fails at the worst moment: the keys are gone all the same, and the roll hears of it later.
    embassy.fails(1);
    assert!(matches!(embassy.leases.stop(id, &stop, facts).await, Err(LeaseError::Store(_))));
    assert!(embassy.is_wiped());
    embassy.fails(0);
    let why = LeaseEnd::Stopped { official: crate::protocol::ids::OfficialName::new("eva").unwrap() };
    assert_eq!(embassy.refused(id, "court", "land", 1).await, UnwrapRefusal::Ended { why });
    embassy.leases.tick().await.unwrap();
    embassy.leases.stop(id, &stop, facts).await.unwrap();
    let roll = embassy.roll().await;
    assert_eq!(roll[2..], ["stop of eva", "court did 4 of land", "ended after 4: eva stopped it"], "{roll:?}");
}

#[tokio::test]
async fn a_lease_lives_on_beats() {
    let embassy = Embassy::new().await;
    let id = embassy.install(100).await.unwrap();
    embassy.passes(HEARTBEAT + 1);
    assert_eq!(embassy.refused(id, "court", "land", 1).await, UnwrapRefusal::Suspended);
    assert!(!embassy.is_wiped());
    // A beat revives it, once that is in the roll.
    embassy.fails(1);
    assert!(matches!(embassy.beat().await, Err(LeaseError::Store(_))));
    assert_eq!(embassy.refused(id, "court", "land", 1).await, UnwrapRefusal::Suspended);
    embassy.fails(0);
    embassy.leases.tick().await.unwrap();
    assert_eq!(embassy.unwrap(id, "court", "land", 1).await.unwrap(), 1);
    embassy.passes(2 * HEARTBEAT + 1);
    let silent = UnwrapRefusal::Ended { why: LeaseEnd::Silent };
    assert_eq!(embassy.refused(id, "court", "land", 1).await, silent);
    assert!(embassy.is_wiped());
    embassy.beat().await.unwrap();
    assert_eq!(embassy.refused(id, "court", "land", 1).await, silent, "what ended does not come back");
    let roll = embassy.roll().await;
    assert_eq!(roll[..3], ["leased by 3", "suspended", "revived"], "{roll:?}");
    assert!(roll.last().unwrap().starts_with("ended after 1: no witness"), "{roll:?}");
}

#[tokio::test]
async fn a_lease_that_begins_in_silence_serves_nobody_until_a_witness_is_heard() {
    let embassy = Embassy::new().await;
    embassy.passes(10 * HEARTBEAT);
    let id = embassy.install(100).await.unwrap();
    assert_eq!(embassy.refused(id, "court", "land", 1).await, UnwrapRefusal::Suspended);
    embassy.beat().await.unwrap();
    assert_eq!(embassy.unwrap(id, "court", "land", 1).await.unwrap(), 1);
    assert_eq!(embassy.roll().await[..3], ["leased by 3", "suspended", "revived"]);
}

#[tokio::test]
async fn the_budget_is_counted_exactly_whoever_uses_it() {
    let embassy = Embassy::new().await;
    let id = embassy.install(300).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for (who, index) in [("court", 0), ("replicator", 0), ("court", 1), ("replicator", 1)] {
        let (leases, recipient) = (Arc::clone(&embassy.leases), embassy.quorum.recipient(index));
        tasks.spawn(async move {
            let (what, mut made) = (["land", "police"][index], 0);
            for _ in 0..40 {
                let stanzas = vec![stanza(&recipient); 3];
                match leases.unwrap(id, &agent(who), &dataset(what), stanzas).await {
                    Ok(answers) => made += answers.len() as u64,
                    Err(LeaseError::Unwrap(UnwrapRefusal::Spent(_) | UnwrapRefusal::Ended { .. })) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            made
        });
    }
    let made: u64 = tasks.join_all().await.iter().sum();
    assert_eq!(made, 300);
    assert_eq!(embassy.state(id), LeaseState::Ended(LeaseEnd::Spent));
    assert!(embassy.is_wiped());
    embassy.leases.tick().await.unwrap();
    let roll = embassy.roll().await;
    let used = roll.iter().filter_map(|act| act.split_once(" did ")?.1.split_once(' ')?.0.parse::<u64>().ok());
    assert_eq!(used.sum::<u64>(), 300, "{roll:?}");
    assert_eq!(roll.last().unwrap(), "ended after 300: its unwraps were used up");
}

#[tokio::test]
async fn a_batch_over_the_rest_is_refused_whole_and_costs_nothing() {
    let embassy = Embassy::new().await;
    let id = embassy.install(10).await.unwrap();
    let refusal = embassy.refused(id, "court", "land", 11).await;
    assert!(refusal.to_string().starts_with("11 unwraps are asked for, and 10"), "{refusal}");
    assert_eq!(embassy.unwrap(id, "court", "land", 10).await.unwrap(), 10);
    assert_eq!(embassy.refused(id, "court", "land", 1).await, UnwrapRefusal::Ended { why: LeaseEnd::Spent });
    for count in [0, 257] {
        let found = embassy.unwrap(id, "court", "land", count).await.unwrap_err();
        assert!(matches!(found, LeaseError::Stanzas { found } if found == count));
    }
}

#[tokio::test]
async fn a_stanza_for_another_is_not_counted_and_one_that_does_not_open_is() {
    let embassy = Embassy::new().await;
    let id = embassy.install(2).await.unwrap();
    let (ours, other) = (stanza(&embassy.quorum.recipient(0)), stanza(&embassy.quorum.recipient(1)));
    let stanzas = vec![other.clone(), ours.clone(), other];
    let answers = embassy.leases.unwrap(id, &agent("court"), &dataset("land"), stanzas).await.unwrap();
    assert!(matches!(answers[..], [Answer::NotForThisDataset, Answer::Key(_), Answer::NotForThisDataset]));
    let arguments = ours.arguments();
    let mut body = *ours.body();
    body[0] ^= 1;
    let altered = TaggedStanza::parse(&arguments.each_ref().map(String::as_str), &body).unwrap().unwrap();
    let answers = embassy.leases.unwrap(id, &agent("court"), &dataset("land"), vec![altered]).await.unwrap();
    assert!(matches!(answers[..], [Answer::Refused(_)]));
    assert_eq!(embassy.refused(id, "court", "land", 1).await, UnwrapRefusal::Ended { why: LeaseEnd::Spent });
}

#[tokio::test]
async fn a_crash_loses_unwraps_and_never_gives_one_back() {
    let embassy = Embassy::new().await;
    let id = embassy.install(3000).await.unwrap();
    embassy.unwrap(id, "court", "land", 3).await.unwrap();
    embassy.unwrap(id, "replicator", "land", 5).await.unwrap();
    let embassy = embassy.restarted().await;
    // Nothing serves after a start, and what was reserved counts as used.
    let over = UnwrapRefusal::Ended { why: LeaseEnd::Restarted };
    assert_eq!(embassy.refused(id, "court", "land", 1).await, over);
    assert_eq!(embassy.roll().await.last().unwrap(), "ended after 2048: the embassy was started anew");
    // With fresh approvals the same ceremony has what is left, and not more.
    assert_eq!(embassy.install(3000).await.unwrap(), id);
    for _ in 0..3 {
        assert_eq!(embassy.unwrap(id, "court", "land", 256).await.unwrap(), 256);
    }
    let refusal = embassy.refused(id, "court", "land", 256).await.to_string();
    assert!(refusal.starts_with("256 unwraps are asked for, and 184"), "{refusal}");
}

#[tokio::test]
async fn a_lease_that_ended_otherwise_is_not_had_twice() {
    let embassy = Embassy::new().await;
    let id = embassy.install(100).await.unwrap();
    let again = embassy.install(100).await.unwrap_err();
    assert!(matches!(again, LeaseError::Install(InstallError::Had { state: LeaseState::Live, .. })), "{again}");
    let stop = embassy.quorum.stop(1, "boris", id);
    embassy.leases.stop(id, &stop, embassy.quorum.facts()).await.unwrap();
    let embassy = embassy.restarted().await;
    let again = embassy.install(100).await.unwrap_err();
    assert!(matches!(again, LeaseError::Install(InstallError::Had { .. })), "{again}");
    assert!(embassy.is_wiped(), "what was opened in vain is wiped");
}

#[tokio::test]
async fn nothing_serves_before_it_is_durable() {
    let embassy = Embassy::new().await;
    embassy.fails(1);
    assert!(matches!(embassy.install(100).await, Err(LeaseError::Store(StoreError::Io { .. }))));
    assert!(embassy.is_wiped());
    embassy.fails(0);
    let id = embassy.install(100).await.unwrap();
    embassy.fails(1);
    assert!(matches!(embassy.unwrap(id, "court", "land", 1).await, Err(LeaseError::Store(_))));
    // It is durable, and only the answer was lost: it serves.
    embassy.fails(2);
    assert_eq!(embassy.unwrap(id, "court", "land", 1).await.unwrap(), 1);
    embassy.fails(0);
    assert_eq!(embassy.unwrap(id, "court", "land", 9).await.unwrap(), 9);
    embassy.leases.shut_down().await.unwrap();
    assert_eq!(
        embassy.roll().await,
        ["leased by 3", "court may 100 of land", "court did 10 of land", "ended after 10: the embassy was stopped"]
    );
}

#[tokio::test]
async fn whether_the_last_writing_is_durable_may_be_unknown_and_is_found_out() {
    let embassy = Embassy::new().await;
    embassy.fails(2);
    let id = embassy.install(100).await.unwrap();
    embassy.fails(3);
    for _ in 0..2 {
        assert!(matches!(embassy.unwrap(id, "court", "land", 1).await, Err(LeaseError::Store(_))));
    }
    embassy.fails(0);
    assert_eq!(embassy.unwrap(id, "court", "land", 1).await.unwrap(), 1);
    assert_eq!(embassy.roll().await, ["leased by 3", "court may 100 of land"], "written once");
    // The same where it ends meanwhile: wiped at once, and in the roll once that can be.
    let other = embassy.leases.install(embassy.quorum.opened(terms(10), 2)).await.unwrap();
    embassy.fails(3);
    assert!(embassy.unwrap(other, "court", "police", 1).await.is_err());
    let stop = embassy.quorum.stop(2, "clara", other);
    assert!(embassy.leases.stop(other, &stop, embassy.quorum.facts()).await.is_err());
    assert_eq!(embassy.arena.free(), 6);
    embassy.fails(0);
    embassy.leases.tick().await.unwrap();
    assert_eq!(
        embassy.roll().await[2..],
        [
            "leased by 3",
            "court may 10 of police",
            "stop of clara",
            "court did 0 of police",
            "ended after 0: clara stopped it"
        ]
    );
    // A minute later the roll knows exactly.
    embassy.passes(61);
    embassy.beat().await.unwrap();
    embassy.leases.tick().await.unwrap();
    assert!(embassy.roll().await.contains(&"court did 1 of land".to_owned()));
}

#[tokio::test]
async fn an_orderly_stop_wipes_whatever_the_disk_says() {
    let embassy = Embassy::new().await;
    let id = embassy.install(100).await.unwrap();
    embassy.fails(1);
    assert!(embassy.leases.shut_down().await.is_err());
    assert!(embassy.is_wiped());
    assert_eq!(embassy.state(id), LeaseState::Ended(LeaseEnd::ShutDown));
    embassy.fails(0);
    let embassy = embassy.restarted().await;
    assert_eq!(embassy.roll().await.last().unwrap(), "ended after 0: the embassy was started anew");
}

#[tokio::test]
async fn no_lease_begins_or_goes_on_where_the_charter_allows_none() {
    let embassy = Embassy::new().await;
    let id = embassy.install(100).await.unwrap();
    {
        let mut rules = embassy.rules.lock().unwrap();
        rules.allowed = false;
        rules.class = HardwareClass::Discrete;
    }
    let over = UnwrapRefusal::Ended { why: LeaseEnd::NotAllowed };
    assert_eq!(embassy.refused(id, "court", "land", 1).await, over);
    assert!(embassy.is_wiped());
    let refused = embassy.leases.install(embassy.quorum.opened(terms(10), 2)).await.unwrap_err();
    assert!(refused.to_string().contains("class discrete"), "{refused}");
    assert!(embassy.is_wiped());
}

#[tokio::test]
async fn a_lease_takes_all_the_openings_of_one_statement_and_no_others() {
    let embassy = Embassy::new().await;
    let refused = |error: LeaseError| matches!(error, LeaseError::Install(InstallError::Datasets));
    assert!(refused(embassy.leases.install(vec![]).await.unwrap_err()));
    let mut half = embassy.quorum.opened(terms(10), 1);
    half.pop();
    assert!(refused(embassy.leases.install(half).await.unwrap_err()));
    let (mut one, mut two) = (embassy.quorum.opened(terms(10), 1), embassy.quorum.opened(terms(99), 2));
    let mixed = vec![one.remove(0), two.remove(1)];
    assert!(refused(embassy.leases.install(mixed).await.unwrap_err()));
    let turned = embassy.quorum.opened(terms(10), 1).into_iter().rev().collect();
    assert!(refused(embassy.leases.install(turned).await.unwrap_err()));
    assert!(embassy.is_wiped());
}

#[tokio::test]
async fn a_full_arena_refuses_one_lease_and_leaves_the_others() {
    let embassy = Embassy::new().await;
    for nonce in 1..=4 {
        embassy.leases.install(embassy.quorum.opened(terms(10), nonce)).await.unwrap();
    }
    let refused = embassy.leases.install(embassy.quorum.opened(terms(10), 5)).await.unwrap_err();
    assert!(matches!(refused, LeaseError::Install(InstallError::Arena(_))), "{refused}");
    assert_eq!(embassy.leases.standing(), 4);
}

#[tokio::test]
async fn an_opening_that_came_too_late_leaves_no_lease() {
    let embassy = Embassy::new().await;
    let id = embassy.install(100).await.unwrap();
    embassy.leases.revoke(id).await.unwrap();
    assert!(embassy.is_wiped());
    assert_eq!(embassy.refused(id, "court", "land", 1).await, UnwrapRefusal::Ended { why: LeaseEnd::Late });
    embassy.leases.revoke(CeremonyId(crate::protocol::hash::Hash([9; 32]))).await.unwrap();
    assert_eq!(embassy.roll().await, ["leased by 3", "ended after 0: its ceremony had ended before it was opened"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_is_answered_and_draws_nothing() {
    let embassy = Embassy::new().await;
    let id = embassy.install(3).await.unwrap();
    let asked = vec![stanza(&embassy.quorum.recipient(0)); 2];
    let ask = |who: &str, key: &str, request: &str, stanzas: &Vec<TaggedStanza>| {
        let (leases, stanzas, who) = (Arc::clone(&embassy.leases), stanzas.clone(), agent(who));
        let once = Once::new(&who, key.as_bytes(), request.as_bytes()).unwrap();
        async move { leases.unwrap_once(id, &who, &dataset("land"), stanzas, Some(once)).await }
    };
    let used = || embassy.leases.show(Some(id), |lease, _| lease.account().used()).remove(0);
    let opened = |answers: &[Answer]| {
        answers.iter().all(|answer| matches!(answer, Answer::Key(key) if key.expose() == &[7; 16]))
    };

    // What could not be written down was not drawn: the repeat is a first one.
    embassy.fails(1);
    assert!(matches!(ask("court", "k1", "two of land", &asked).await, Err(LeaseError::Store(_))));
    embassy.fails(0);
    assert_eq!(used(), 0);
    // The same at the same time, many times over: one draws.
    let together = futures_util::future::join_all((0..8).map(|_| ask("court", "k1", "two of land", &asked))).await;
    for answers in together {
        let answers = answers.unwrap();
        assert!(answers.len() == 2 && opened(&answers));
    }
    assert_eq!(used(), 2);
    // Another request under that key is refused, and costs nothing; another's key is another.
    let reused = ask("court", "k1", "something else", &asked).await.unwrap_err();
    assert!(matches!(reused, LeaseError::Unwrap(UnwrapRefusal::KeyReused)), "{reused}");
    assert!(matches!(
        ask("replicator", "k1", "two of land", &asked).await,
        Err(LeaseError::Unwrap(UnwrapRefusal::Spent(_)))
    ));
    assert_eq!(used(), 2);
    assert!(opened(&ask("court", "k1", "two of land", &asked).await.unwrap()));
    // The last of the budget ends it, and then nothing is repeated either.
    assert!(opened(&ask("court", "k2", "one of land", &asked[..1].to_vec()).await.unwrap()));
    assert!(embassy.is_wiped());
    let over = ask("court", "k2", "one of land", &asked[..1].to_vec()).await.unwrap_err();
    assert!(matches!(over, LeaseError::Unwrap(UnwrapRefusal::Ended { why: LeaseEnd::Spent })), "{over}");
    assert_eq!(used(), 3);
}
