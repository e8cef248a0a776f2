//! A kind of ceremony that nobody else has, driven with a store that fails: what the driver promises to every kind.
//!
//! People knock at a door. Each knock is written down, in a record that is replaced and in one that is added, and only then the
//! bell rings; that it rang is written down too. A whisper is an entry alone. So both ways of storing are there, and what no
//! present kind does all at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::VecDeque,
    sync::Mutex,
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, task::JoinHandle, time::sleep};

use super::*;
use crate::store::{Call, Fault, Faulty, Key, Kind as Record, MAX_RECORD_BYTES, MemoryStore};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough for whatever would be done too early to have been done.
const WHILE: Duration = Duration::from_millis(150);

type Hook = Box<dyn Fn(Call<'_>) -> Option<Fault> + Send + Sync>;
type Disk = Arc<Faulty<MemoryStore, Hook>>;

/// What the store does next.
#[derive(Default)]
struct Trouble {
    /// Each commit takes one of these, as long as there are some.
    commits: VecDeque<Option<Fault>>,
    /// And this after them.
    always: Option<Fault>,
    /// How many reads fail.
    reads: usize,
    /// How many commits were tried.
    tried: usize,
}

/// A door: how often somebody knocked, and how often the bell rang.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Door {
    knocks: u8,
    rung: u8,
    ticks: u8,
    open: bool,
}

#[derive(Debug)]
enum Event {
    Knock,
    Whisper,
    Rang,
    Open,
    /// More than a record holds.
    Shout,
    /// A mistake in the machine.
    Break,
    Tick,
}

#[derive(Debug)]
enum Out {
    Ring(u8),
    /// A mistake in the hands.
    Snap,
}

/// What was done outside, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Deed {
    /// The order was given, and whether the knock was in the store and in the roll by then.
    Rings { knock: u8, durable: bool },
    /// It was carried out.
    Rang(u8),
}

struct Doorman {
    disk: Disk,
    /// The record's version, once the step that is being made is saved.
    version: u64,
    deeds: Arc<Mutex<Vec<Deed>>>,
    /// How many orders may be carried out.
    may: Arc<Semaphore>,
    snaps: bool,
}

fn door_key() -> Key {
    Key::new(Record::Meta, "door")
}

fn knock_key(number: u8) -> Key {
    Key::new(Record::Meta, format!("knock/{number:03}"))
}

fn entry(what: &str, number: u8) -> Vec<u8> {
    format!("{what} {number}").into_bytes()
}

impl Doorman {
    fn put(&mut self, door: &Door) -> Put {
        let expected = (self.version > 0).then_some(self.version);
        self.version += 1;
        Put { key: door_key(), expected, bytes: vec![door.knocks, door.rung, u8::from(door.open)] }
    }
}

impl Kind for Doorman {
    type State = Door;
    type Event = Event;
    type Out = Out;
    type Reply = u8;
    type Done = Option<Event>;
    type View = Door;

    fn name(&self) -> String {
        "a door".to_owned()
    }

    async fn step(&mut self, mut door: Door, event: Event) -> Result<(Step<Self>, u8), JoinError> {
        let (mut puts, mut entries, mut outbox) = (Vec::new(), Vec::new(), Vec::new());
        match event {
            Event::Knock => {
                door.knocks += 1;
                puts.push(self.put(&door));
                puts.push(Put { key: knock_key(door.knocks), expected: None, bytes: vec![door.knocks] });
                entries.push(entry("knock", door.knocks));
                outbox.push(if self.snaps { Out::Snap } else { Out::Ring(door.knocks) });
            }
            Event::Whisper => entries.extend([entry("whisper", door.knocks), entry("still", door.knocks)]),
            Event::Rang => {
                door.rung += 1;
                puts.push(self.put(&door));
                entries.push(entry("rang", door.rung));
            }
            Event::Open => {
                door.open = true;
                puts.push(self.put(&door));
            }
            Event::Shout => {
                puts.push(Put { key: knock_key(0), expected: None, bytes: vec![0; MAX_RECORD_BYTES + 1] });
            }
            Event::Break => {
                tokio::spawn(async { panic!("a mistake that was asked for") }).await?;
            }
            Event::Tick => door.ticks = door.ticks.saturating_add(1),
        }
        let knocks = door.knocks;
        Ok((Step { next: door, puts, entries, outbox }, knocks))
    }

    async fn perform(&mut self, _: &Door, out: Out) -> Option<BoxFuture<'static, Option<Event>>> {
        let Out::Ring(knock) = out else { return Some(Box::pin(async { panic!("a mistake that was asked for") })) };
        let record = self.disk.inner().get(&knock_key(knock)).await.unwrap();
        let durable = record.is_some() && roll(&self.disk).await.contains(&entry("knock", knock));
        self.deeds.lock().unwrap().push(Deed::Rings { knock, durable });
        let (deeds, may) = (Arc::clone(&self.deeds), Arc::clone(&self.may));
        Some(Box::pin(async move {
            may.acquire().await.unwrap().forget();
            deeds.lock().unwrap().push(Deed::Rang(knock));
            Some(Event::Rang)
        }))
    }

    fn came(&mut self, done: Option<Event>) -> Option<Event> {
        done
    }

    fn tick(&self, _: &Door) -> Option<Event> {
        Some(Event::Tick)
    }

    fn is_over(door: &Door) -> bool {
        door.open
    }

    fn view(&self, door: &Door) -> Door {
        door.clone()
    }
}

async fn roll(disk: &Disk) -> Vec<Vec<u8>> {
    disk.inner().roll(0, MAX_ROWS).await.unwrap().into_iter().map(|row| row.bytes).collect()
}

async fn record(disk: &Disk, key: &Key) -> Option<(u64, Vec<u8>)> {
    disk.inner().get(key).await.unwrap().map(|record| (record.version, record.bytes))
}

/// A house with a door, and somebody who drives it.
struct House {
    disk: Disk,
    trouble: Arc<Mutex<Trouble>>,
    deeds: Arc<Mutex<Vec<Deed>>>,
    may: Arc<Semaphore>,
    stop: watch::Sender<bool>,
    line: Line<Doorman>,
    task: JoinHandle<End>,
}

impl House {
    fn new() -> Self {
        let trouble = Arc::new(Mutex::new(Trouble::default()));
        let asked = Arc::clone(&trouble);
        let hook: Hook = Box::new(move |call| {
            let mut trouble = asked.lock().unwrap();
            match call {
                Call::Commit(_) => {
                    trouble.tried += 1;
                    let always = trouble.always;
                    trouble.commits.pop_front().unwrap_or(always)
                }
                _ => trouble.reads.checked_sub(1).map(|left| {
                    trouble.reads = left;
                    Fault::Before
                }),
            }
        });
        let disk: Disk = Arc::new(Faulty::new(MemoryStore::new(), hook));
        Self::on(disk, trouble, false, |door, _| door)
    }

    /// Somebody drives what stands on a disk.
    fn on(
        disk: Disk,
        trouble: Arc<Mutex<Trouble>>,
        snaps: bool,
        read: impl FnOnce(Door, &mut Doorman) -> Door,
    ) -> Self {
        let (deeds, may) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Semaphore::new(0)));
        let (stop, stopped) = watch::channel(false);
        let mut doorman =
            Doorman { disk: Arc::clone(&disk), version: 0, deeds: Arc::clone(&deeds), may: Arc::clone(&may), snaps };
        let door = read(Door { knocks: 0, rung: 0, ticks: 0, open: false }, &mut doorman);
        // What was not done yet is ordered again.
        let outbox = (door.rung..door.knocks).map(|before| Out::Ring(before + 1)).collect();
        let (mut task, line) = Task::new(doorman, &door, Arc::<Faulty<MemoryStore, Hook>>::clone(&disk), stopped);
        let first = Step { next: door, puts: Vec::new(), entries: Vec::new(), outbox };
        let task = tokio::spawn(async move { task.run(first).await });
        Self { disk, trouble, deeds, may, stop, line, task }
    }

    fn ask(&self, event: Event) -> JoinHandle<Result<u8, Problem>> {
        let line = self.line.clone();
        tokio::spawn(async move { line.ask(event).await.map(|(knocks, _)| knocks) })
    }

    fn deeds(&self) -> Vec<Deed> {
        self.deeds.lock().unwrap().clone()
    }

    async fn seen(&self, what: &str, is_so: impl FnMut(&Door) -> bool) {
        let mut shown = self.line.watch();
        let came = tokio::time::timeout(PATIENCE, shown.wait_for(is_so)).await;
        assert!(matches!(came, Ok(Ok(_))), "{what} was never shown: {:?}", self.line.seen());
    }

    async fn tried(&self, commits: usize) {
        let began = Instant::now();
        while self.trouble.lock().unwrap().tried < commits {
            assert!(began.elapsed() < PATIENCE, "no {commits} commits were tried");
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn ended(self) -> End {
        tokio::time::timeout(PATIENCE, self.task).await.expect("the task ends").unwrap()
    }
}

fn rings(knock: u8) -> Deed {
    Deed::Rings { knock, durable: true }
}

#[tokio::test]
async fn a_step_is_saved_whole_then_done_and_what_came_of_it_is_the_next_step() {
    let house = House::new();
    house.may.add_permits(1);
    assert_eq!(house.ask(Event::Knock).await.unwrap().unwrap(), 1);
    house.seen("that it rang", |door| door.rung == 1).await;
    assert_eq!(house.deeds(), [rings(1), Deed::Rang(1)]);
    assert_eq!(record(&house.disk, &door_key()).await, Some((2, vec![1, 1, 0])));
    assert_eq!(record(&house.disk, &knock_key(1)).await, Some((1, vec![1])));
    assert_eq!(roll(&house.disk).await, [entry("knock", 1), entry("rang", 1)]);
    assert_eq!(house.trouble.lock().unwrap().tried, 2, "one commit for each step");
}

#[tokio::test]
async fn nothing_is_done_shown_or_answered_before_it_is_durable() {
    let house = House::new();
    house.may.add_permits(9);
    house.trouble.lock().unwrap().always = Some(Fault::Before);
    let asked = house.ask(Event::Knock);
    house.tried(3).await;
    sleep(WHILE).await;
    assert!(!asked.is_finished(), "answered before it was durable");
    assert_eq!(house.deeds(), [], "done before it was durable");
    assert_eq!(house.line.seen().knocks, 0, "shown before it was durable");
    assert_eq!((record(&house.disk, &door_key()).await, roll(&house.disk).await.len()), (None, 0));
    // The disk is well again: the very same is saved, once.
    house.trouble.lock().unwrap().always = None;
    assert_eq!(asked.await.unwrap().unwrap(), 1);
    assert_eq!(house.line.seen().knocks, 1);
    house.seen("that it rang", |door| door.rung == 1).await;
    assert_eq!(house.deeds(), [rings(1), Deed::Rang(1)]);
    assert_eq!(roll(&house.disk).await, [entry("knock", 1), entry("rang", 1)]);
}

#[tokio::test]
async fn a_commit_that_took_effect_and_said_otherwise_is_found_and_not_made_again() {
    for reads in [0, 3] {
        let house = House::new();
        {
            let mut trouble = house.trouble.lock().unwrap();
            (trouble.commits, trouble.reads) = (VecDeque::from([Some(Fault::After)]), reads);
        }
        let asked = house.ask(Event::Knock);
        assert_eq!(asked.await.unwrap().unwrap(), 1);
        assert_eq!(house.deeds(), [rings(1)]);
        assert_eq!(record(&house.disk, &door_key()).await, Some((1, vec![1, 0, 0])));
        assert_eq!(roll(&house.disk).await, [entry("knock", 1)]);
        assert_eq!(house.trouble.lock().unwrap().tried, 1, "what is there is not written again");
    }
}

#[tokio::test]
async fn entries_alone_are_written_once_whatever_fails() {
    for fault in [None, Some(Fault::Before), Some(Fault::After)] {
        for reads in [0, 1, 2] {
            let house = House::new();
            // The same was said before: it is not taken for what is written now.
            house.ask(Event::Whisper).await.unwrap().unwrap();
            {
                let mut trouble = house.trouble.lock().unwrap();
                (trouble.commits, trouble.reads) = (VecDeque::from([fault, fault]), reads);
            }
            house.ask(Event::Whisper).await.unwrap().unwrap();
            let twice = [entry("whisper", 0), entry("still", 0), entry("whisper", 0), entry("still", 0)];
            assert_eq!(roll(&house.disk).await, twice, "{fault:?}, {reads} reads fail");
        }
    }
}

#[tokio::test]
async fn entries_alone_are_found_among_those_of_others() {
    let house = House::new();
    let other = |what: &str| Batch { puts: Vec::new(), entries: vec![what.as_bytes().to_vec()] };
    house.disk.inner().commit(other("before")).await.unwrap();
    // It takes effect, others write, and only then it can be looked for.
    {
        let mut trouble = house.trouble.lock().unwrap();
        // The length of the roll is read before the first commit.
        (trouble.commits, trouble.reads) = (VecDeque::from([Some(Fault::After)]), 0);
    }
    let (disk, trouble) = (Arc::clone(&house.disk), Arc::clone(&house.trouble));
    let writes = tokio::spawn(async move {
        while trouble.lock().unwrap().tried == 0 {
            tokio::task::yield_now().await;
        }
        disk.inner().commit(other("after")).await.unwrap();
    });
    house.ask(Event::Whisper).await.unwrap().unwrap();
    writes.await.unwrap();
    let expected = [b"before".to_vec(), entry("whisper", 0), entry("still", 0), b"after".to_vec()];
    assert_eq!(roll(&house.disk).await, expected);
}

#[tokio::test]
async fn another_process_takes_it_over_and_nothing_more_is_done_here() {
    for reads in [0, 3] {
        let house = House::new();
        house.ask(Event::Knock).await.unwrap().unwrap();
        let theirs = Put { key: door_key(), expected: Some(1), bytes: vec![7, 7, 0] };
        house.disk.inner().commit(Batch { puts: vec![theirs], entries: Vec::new() }).await.unwrap();
        house.trouble.lock().unwrap().reads = reads;
        let refused = house.ask(Event::Knock).await.unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::Busy);
        assert_eq!(house.deeds(), [rings(1)], "what was not saved is not done");
        assert_eq!(house.line.seen().knocks, 1);
        assert_eq!(record(&house.disk, &door_key()).await, Some((2, vec![7, 7, 0])), "theirs stands");
        assert_eq!(record(&house.disk, &knock_key(2)).await, None, "of a batch nothing is written");
        assert_eq!(roll(&house.disk).await, [entry("knock", 1)]);
        assert!(house.line.ask(Event::Tick).await.is_err(), "nobody drives it here");
        assert!(matches!(house.ended().await, End::Lost));
    }
}

#[tokio::test]
async fn a_commit_in_doubt_that_another_process_overtook_is_not_taken_for_ours() {
    // What would have been written, and one version later; and something else in its place.
    for theirs in [vec![vec![9, 0, 0]], vec![vec![9, 0, 0], vec![1, 0, 1]]] {
        let house = House::new();
        house.ask(Event::Knock).await.unwrap().unwrap();
        // Fails without effect; before the next try another process writes.
        house.trouble.lock().unwrap().always = Some(Fault::Before);
        let asked = house.ask(Event::Open);
        house.tried(3).await;
        for (bytes, version) in theirs.iter().zip(1..) {
            let put = Put { key: door_key(), expected: Some(version), bytes: bytes.clone() };
            house.disk.inner().commit(Batch { puts: vec![put], entries: Vec::new() }).await.unwrap();
        }
        house.trouble.lock().unwrap().always = None;
        assert_eq!(asked.await.unwrap().unwrap_err().code(), Code::Busy);
        assert!(!house.line.seen().open);
        let stands = record(&house.disk, &door_key()).await;
        assert_eq!(stands, theirs.last().map(|bytes| (1 + theirs.len() as u64, bytes.clone())));
        assert_eq!((house.deeds(), roll(&house.disk).await), (vec![rings(1)], vec![entry("knock", 1)]));
        assert!(matches!(house.ended().await, End::Lost));
    }
}

#[tokio::test]
async fn a_stop_comes_through_while_the_disk_is_ill_and_nothing_half_is_left() {
    let house = House::new();
    house.trouble.lock().unwrap().always = Some(Fault::Before);
    let asked = house.ask(Event::Knock);
    house.tried(2).await;
    house.stop.send_replace(true);
    assert_eq!(asked.await.unwrap().unwrap_err().code(), Code::Busy);
    assert_eq!((house.deeds(), roll(&house.disk).await), (vec![], vec![]));
    assert_eq!(record(&house.disk, &door_key()).await, None);
    assert!(matches!(house.ended().await, End::Stopped));
}

#[tokio::test]
async fn after_a_stop_in_the_middle_what_was_not_done_is_done_by_the_next() {
    let house = House::new();
    assert_eq!(house.ask(Event::Knock).await.unwrap().unwrap(), 1);
    assert_eq!(house.deeds(), [rings(1)], "it is under way");
    house.stop.send_replace(true);
    let (disk, trouble) = (Arc::clone(&house.disk), Arc::clone(&house.trouble));
    assert!(matches!(house.ended().await, End::Stopped));

    let (version, bytes) = record(&disk, &door_key()).await.unwrap();
    let house = House::on(disk, trouble, false, |door, doorman| {
        doorman.version = version;
        Door { knocks: bytes[0], rung: bytes[1], ..door }
    });
    assert_eq!(house.line.seen().knocks, 1);
    house.may.add_permits(9);
    house.seen("that it rang", |door| door.rung == 1).await;
    assert_eq!(house.ask(Event::Knock).await.unwrap().unwrap(), 2);
    house.seen("that it rang again", |door| door.rung == 2).await;
    assert_eq!(house.deeds(), [rings(1), Deed::Rang(1), rings(2), Deed::Rang(2)]);
    let all = ["knock 1", "rang 1", "knock 2", "rang 2"].map(|entry| entry.as_bytes().to_vec());
    assert_eq!(roll(&house.disk).await, all);
}

#[tokio::test]
async fn whoever_comes_while_an_order_is_under_way_is_heard_and_a_flood_is_not() {
    let house = House::new();
    house.ask(Event::Knock).await.unwrap().unwrap();
    // The bell hangs. Nobody waits for it.
    for knocks in 2..=4 {
        assert_eq!(house.ask(Event::Knock).await.unwrap().unwrap(), knocks);
    }
    assert_eq!(house.deeds(), [rings(1), rings(2), rings(3), rings(4)]);
    house.seen("a tick", |door| door.ticks > 1).await;
    // The disk hangs. As many wait as may; the others are told at once.
    house.trouble.lock().unwrap().always = Some(Fault::Before);
    let first = house.ask(Event::Knock);
    let tried = house.trouble.lock().unwrap().tried;
    house.tried(tried + 1).await;
    let waiting: Vec<_> = (0..WAITING).map(|_| house.ask(Event::Whisper)).collect();
    sleep(WHILE).await;
    assert_eq!(house.ask(Event::Whisper).await.unwrap().unwrap_err().code(), Code::Busy);
    assert!(waiting.iter().all(|asked| !asked.is_finished()));
    house.trouble.lock().unwrap().always = None;
    assert_eq!(first.await.unwrap().unwrap(), 5);
    for asked in waiting {
        assert_eq!(asked.await.unwrap().unwrap(), 5);
    }
}

#[tokio::test]
async fn it_ends_when_it_is_over_and_everything_ordered_has_come_back() {
    let house = House::new();
    house.ask(Event::Knock).await.unwrap().unwrap();
    house.ask(Event::Open).await.unwrap().unwrap();
    sleep(WHILE).await;
    assert!(!house.task.is_finished(), "an order is under way");
    house.may.add_permits(1);
    let disk = Arc::clone(&house.disk);
    assert!(matches!(house.ended().await, End::Over));
    assert_eq!(record(&disk, &door_key()).await, Some((3, vec![1, 1, 1])), "what came back is saved");
}

#[tokio::test]
async fn what_can_never_be_saved_is_told_to_who_asked_and_is_not_tried_for_ever() {
    let house = House::new();
    let refused = house.ask(Event::Shout).await.unwrap().unwrap_err();
    assert_ne!(refused.code(), Code::Busy, "it is not that it has ended");
    assert_eq!(record(&house.disk, &knock_key(0)).await, None);
    assert!(matches!(house.ended().await, End::Lost));
    let house = House::new();
    house.line.tell(Event::Shout).await;
    assert!(matches!(house.ended().await, End::Unsaved(StoreError::Bounds { .. })));
}

#[tokio::test]
async fn a_mistake_in_a_kind_ends_its_ceremony_and_what_was_saved_stands() {
    let house = House::new();
    house.ask(Event::Knock).await.unwrap().unwrap();
    assert_eq!(house.ask(Event::Break).await.unwrap().unwrap_err().code(), Code::Busy);
    assert_eq!(record(&house.disk, &door_key()).await, Some((1, vec![1, 0, 0])));
    assert!(matches!(house.ended().await, End::Lost));

    let disk: Disk = Arc::new(Faulty::new(MemoryStore::new(), Box::new(|_| None)));
    let house = House::on(disk, Arc::default(), true, |door, _| door);
    house.ask(Event::Knock).await.unwrap().unwrap();
    let disk = Arc::clone(&house.disk);
    assert!(matches!(house.ended().await, End::Lost), "an order that never comes back is noticed");
    assert_eq!(record(&disk, &door_key()).await, Some((1, vec![1, 0, 0])));
}
