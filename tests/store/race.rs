//! Many who write at once, and the reference against SQLite: random stories for the store's contract.

use std::sync::Arc;

use chancery::store::{Batch, Key, Kind, MemoryStore, Put, SqliteStore, Store, StoreError};
use proptest::prelude::*;

use crate::{Fresh, entries, key, memory, sqlite};

/// One move of budget from one lease to another.
#[derive(Clone, Debug)]
struct Move {
    from: usize,
    to: usize,
    amount: u64,
}

const LEASES: usize = 4;
const BUDGET: u64 = 1_000;

fn lease(index: usize) -> Key {
    Key::new(Kind::Lease, index.to_string())
}

fn moves() -> impl Strategy<Value = Vec<Vec<Move>>> {
    let one = (0..LEASES, 1..LEASES, 1..200_u64).prop_map(|(from, step, amount)| Move {
        from,
        to: (from + step) % LEASES,
        amount,
    });
    prop::collection::vec(prop::collection::vec(one, 1..8), 2..6)
}

/// Several people move budgets between leases, each reading, deciding and committing, all at once.
async fn race(fresh: Fresh, people: Vec<Vec<Move>>) {
    let puts = (0..LEASES).map(|i| Put { key: lease(i), expected: None, bytes: BUDGET.to_be_bytes().to_vec() });
    fresh.store.commit(Batch { puts: puts.collect(), entries: Vec::new() }).await.unwrap();
    let tasks = people.into_iter().enumerate().map(|(person, moves)| {
        // Half of them through another handle to the same store.
        let store = Arc::clone(if person % 2 == 0 { &fresh.store } else { &fresh.other });
        tokio::spawn(async move {
            let mut done = Vec::new();
            for (number, change) in moves.into_iter().enumerate() {
                let entry = format!("{person}.{number}").into_bytes();
                if let Some(sequence) = carry_out(&*store, &change, &entry).await {
                    done.push((sequence, entry));
                }
            }
            done
        })
    });
    let mut acknowledged = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        acknowledged.extend(task.await.unwrap());
    }
    acknowledged.sort();

    // The roll has exactly the acknowledged moves, each in the place that its commit was told.
    let rolled: Vec<(u64, Vec<u8>)> = (0..).zip(entries(&*fresh.store).await).collect();
    assert_eq!(rolled, acknowledged);
    // No move was lost or half done: budgets add up, and each move wrote exactly two records.
    let mut total = 0;
    let mut versions = 0;
    for index in 0..LEASES {
        let record = fresh.store.get(&lease(index)).await.unwrap().unwrap();
        total += amount(&record.bytes);
        versions += record.version;
    }
    assert_eq!(total, BUDGET * LEASES as u64);
    assert_eq!(versions, LEASES as u64 + 2 * acknowledged.len() as u64);
}

fn amount(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().unwrap())
}

/// The sequence of the move's entry; `None`: not enough budget was left.
async fn carry_out(store: &dyn Store, change: &Move, entry: &[u8]) -> Option<u64> {
    loop {
        let from = store.get(&lease(change.from)).await.unwrap().unwrap();
        let to = store.get(&lease(change.to)).await.unwrap().unwrap();
        let left = amount(&from.bytes).checked_sub(change.amount)?;
        let more = amount(&to.bytes) + change.amount;
        let put = |index, version, bytes: u64| Put {
            key: lease(index),
            expected: Some(version),
            bytes: bytes.to_be_bytes().to_vec(),
        };
        let puts = vec![put(change.from, from.version, left), put(change.to, to.version, more)];
        match store.commit(Batch { puts, entries: vec![entry.to_vec()] }).await {
            Ok(committed) => return Some(committed.first_sequence),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap()
}

/// A commit in a story of one writer: which records, how far off their expected versions are, and how many entries.
#[derive(Clone, Debug)]
struct Wish {
    puts: Vec<(u8, i64)>,
    entries: u8,
}

fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    let off = prop_oneof![6 => Just(0_i64), 1 => Just(1), 1 => Just(-1)];
    let wish =
        (prop::collection::vec((0..6_u8, off), 0..5), 0..4_u8).prop_map(|(puts, entries)| Wish { puts, entries });
    prop::collection::vec(wish, 1..12)
}

/// What a store answered, told so that two stores can be compared.
async fn told(store: &dyn Store, wish: &Wish, round: usize) -> String {
    let mut puts = Vec::new();
    for (id, off) in &wish.puts {
        let has = store.get(&key(&id.to_string())).await.unwrap().map_or(0, |record| record.version);
        let expected = has.saturating_add_signed(*off);
        let expected = (expected > 0).then_some(expected);
        puts.push(Put { key: key(&id.to_string()), expected, bytes: vec![*id; round] });
    }
    let entries = (0..wish.entries).map(|i| vec![i; round]).collect();
    format!("{:?}", store.commit(Batch { puts, entries }).await)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn no_move_is_lost_or_half_done_when_many_write_at_once(people in moves()) {
        runtime().block_on(async {
            race(memory().await, people.clone()).await;
            race(sqlite().await, people).await;
        });
    }

    #[test]
    fn sqlite_answers_as_the_reference_does(wishes in wishes()) {
        runtime().block_on(async {
            let reference = MemoryStore::new();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("store.sqlite");
            let mut store = SqliteStore::open(&path).await.unwrap();
            for (round, wish) in wishes.iter().enumerate() {
                assert_eq!(told(&store, wish, round).await, told(&reference, wish, round).await, "round {round}: {wish:?}");
                if round % 5 == 4 {
                    store.close().await;
                    store = SqliteStore::open(&path).await.unwrap();
                }
            }
            let everything = reference.list(Kind::Ceremony, None, 99).await.unwrap();
            assert_eq!(store.list(Kind::Ceremony, None, 99).await.unwrap(), everything);
            assert_eq!(store.roll(0, 99).await.unwrap(), reference.roll(0, 99).await.unwrap());
        });
    }
}
