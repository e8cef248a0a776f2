//! The contract of a store, run by every store; what SQLite and its disk add to it is in `store/sqlite.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

#[path = "store/race.rs"]
mod race;
#[path = "store/sqlite.rs"]
mod sqlite_file;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use chancery::store::{
    Batch, Call, Fault, Faulty, Key, Kind, MAX_ENTRIES, MAX_ENTRY_BYTES, MAX_ID_BYTES, MAX_PUTS, MAX_RECORD_BYTES,
    MAX_ROWS, MemoryStore, Put, Remedy, RollRow, SqliteStore, Store, StoreError,
};

/// A new store, and whatever must live as long.
struct Fresh {
    store: Arc<dyn Store>,
    /// Another handle to the same store.
    other: Arc<dyn Store>,
    _folder: Option<tempfile::TempDir>,
}

async fn memory() -> Fresh {
    let store = Arc::new(MemoryStore::new());
    Fresh { store: Arc::clone(&store) as _, other: store, _folder: None }
}

async fn sqlite() -> Fresh {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let store = Arc::new(SqliteStore::open(&path).await.unwrap());
    let other = Arc::new(SqliteStore::open(&path).await.unwrap());
    Fresh { store, other, _folder: Some(folder) }
}

macro_rules! contract {
    ($($promise:ident,)*) => {
        mod in_memory { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() { super::$promise(super::memory().await).await }
        )* }
        mod in_sqlite { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() { super::$promise(super::sqlite().await).await }
        )* }
    };
}

contract! {
    a_record_counts_its_versions,
    a_conflict_names_who_lost_and_changes_nothing,
    a_batch_is_all_or_nothing,
    the_roll_is_numbered_without_gaps_and_hashed_as_leaves,
    a_list_is_in_the_order_of_its_ids_and_goes_on_where_it_ended,
    what_is_too_much_is_refused_and_what_just_fits_is_kept,
    an_empty_batch_tells_the_next_sequence,
    another_handle_sees_what_was_committed,
    a_write_that_failed_before_or_after_it_took_effect_is_survived,
    a_dropped_commit_is_whole_or_absent,
}

fn key(id: &str) -> Key {
    Key::new(Kind::Ceremony, id)
}

fn put(id: &str, expected: Option<u64>, bytes: &[u8]) -> Put {
    Put { key: key(id), expected, bytes: bytes.to_vec() }
}

fn batch<const P: usize, const E: usize>(puts: [Put; P], entries: [&[u8]; E]) -> Batch {
    Batch { puts: puts.into(), entries: entries.map(<[u8]>::to_vec).into() }
}

/// What a record's version and bytes are.
async fn found(store: &dyn Store, id: &str) -> Option<(u64, Vec<u8>)> {
    store.get(&key(id)).await.unwrap().map(|record| (record.version, record.bytes))
}

/// The whole roll's bytes.
async fn entries(store: &dyn Store) -> Vec<Vec<u8>> {
    let mut all: Vec<RollRow> = Vec::new();
    loop {
        let more = store.roll(all.len() as u64, MAX_ROWS).await.unwrap();
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }
    assert_eq!(all.len() as u64, store.roll_size().await.unwrap());
    all.into_iter().map(|row| row.bytes).collect()
}

async fn a_record_counts_its_versions(fresh: Fresh) {
    let store = &*fresh.store;
    assert_eq!(found(store, "7f3a").await, None);
    store.commit(batch([put("7f3a", None, b"opened")], [])).await.unwrap();
    assert_eq!(found(store, "7f3a").await, Some((1, b"opened".to_vec())));
    store.commit(batch([put("7f3a", Some(1), b"")], [])).await.unwrap();
    assert_eq!(found(store, "7f3a").await, Some((2, Vec::new())));
    // Kinds are told apart, and ids byte for byte.
    assert_eq!(store.get(&Key::new(Kind::Lease, "7f3a")).await.unwrap(), None);
    assert_eq!(found(store, "7F3A").await, None);
}

async fn a_conflict_names_who_lost_and_changes_nothing(fresh: Fresh) {
    let store = &*fresh.store;
    store.commit(batch([put("a", None, b"1"), put("b", None, b"1")], [b"first"])).await.unwrap();
    store.commit(batch([put("b", Some(1), b"2")], [])).await.unwrap();
    let cases = [
        (put("b", None, b"x"), Some(2)),
        (put("b", Some(1), b"x"), Some(2)),
        (put("b", Some(3), b"x"), Some(2)),
        (put("b", Some(u64::MAX), b"x"), Some(2)),
        (put("b", Some(0), b"x"), Some(2)),
        (put("c", Some(1), b"x"), None),
        (put("c", Some(0), b"x"), None),
    ];
    for (wrong, has) in cases {
        let expected = wrong.expected;
        let lost = wrong.key.clone();
        // A good change stands before it, and another wrong one behind it: the first wrong one is named.
        let batch = batch([put("a", Some(1), b"x"), wrong, put("z", Some(9), b"x")], [b"never"]);
        match store.commit(batch).await.unwrap_err() {
            error @ StoreError::Conflict { .. } => {
                assert_eq!((error.remedy(), error.may_have_taken_effect()), (Remedy::ReadAgain, false));
                let StoreError::Conflict { key, found, expected: named } = error else { unreachable!() };
                assert_eq!((key, found, named), (lost, has, expected));
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(found(store, "a").await, Some((1, b"1".to_vec())));
    assert_eq!(found(store, "b").await, Some((2, b"2".to_vec())));
    assert_eq!(entries(store).await, [b"first"]);
    let error = store.commit(batch([put("b", None, b"x")], [])).await.unwrap_err().to_string();
    assert!(error.contains("ceremony/b has version 2, not no record") && error.contains("Read it again"), "{error}");
}

async fn a_batch_is_all_or_nothing(fresh: Fresh) {
    let store = &*fresh.store;
    let many: Vec<Put> = (0..MAX_PUTS).map(|i| put(&format!("c{i:02}"), None, &[i as u8; 9])).collect();
    let entries_in: Vec<Vec<u8>> = (0..MAX_ENTRIES).map(|i| vec![i as u8; i % 7]).collect();
    let whole = Batch { puts: many.clone(), entries: entries_in.clone() };
    assert_eq!(store.commit(whole.clone()).await.unwrap().first_sequence, 0);
    assert_eq!(entries(store).await, entries_in);
    for put in &many {
        assert_eq!(store.get(&put.key).await.unwrap().unwrap().bytes, put.bytes);
    }
    // The same batch again acts no second time.
    assert!(matches!(store.commit(whole).await, Err(StoreError::Conflict { key, .. }) if key == many[0].key));
    assert_eq!(store.roll_size().await.unwrap(), MAX_ENTRIES as u64);
}

async fn the_roll_is_numbered_without_gaps_and_hashed_as_leaves(fresh: Fresh) {
    let store = &*fresh.store;
    assert_eq!(store.roll_size().await.unwrap(), 0);
    assert_eq!(store.roll(0, 10).await.unwrap(), []);
    assert_eq!(store.commit(batch([], [b"", b"a"])).await.unwrap().first_sequence, 0);
    assert_eq!(store.commit(batch([], [b"b"])).await.unwrap().first_sequence, 2);
    let rows = store.roll(0, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.sequence).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(rows.iter().map(|row| row.bytes.as_slice()).collect::<Vec<_>>(), [b"".as_slice(), b"a", b"b"]);
    // RFC 6962 §2.1: SHA-256 over one zero byte and the entry; these two are published and computed elsewhere.
    assert_eq!(rows[0].leaf.to_string(), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
    assert_eq!(rows[1].leaf.to_string(), "022a6979e6dab7aa5ae4c3e5e45f7e977112a7e63593820dbec1ec738a24f93c");
    assert_eq!(store.roll(1, 1).await.unwrap(), rows[1..2]);
    assert_eq!(store.roll(3, 10).await.unwrap(), []);
    assert_eq!(store.roll(u64::MAX, 10).await.unwrap(), []);
    assert_eq!(store.roll(0, 0).await.unwrap(), []);
}

async fn a_list_is_in_the_order_of_its_ids_and_goes_on_where_it_ended(fresh: Fresh) {
    let store = &*fresh.store;
    for chunk in (0..MAX_ROWS + 44).collect::<Vec<_>>().chunks(MAX_PUTS) {
        let puts = chunk.iter().map(|i| put(&format!("{i:04}"), None, &i.to_be_bytes())).collect();
        store.commit(Batch { puts, entries: Vec::new() }).await.unwrap();
    }
    // Neighbours in the order of kinds, and ids that sort differently as text of a language.
    for (kind, id) in [(Kind::DatasetVersion, "zzz"), (Kind::Lease, "0000"), (Kind::Offer, "b"), (Kind::Offer, "B")] {
        let put = Put { key: Key::new(kind, id), expected: None, bytes: b"other".to_vec() };
        store.commit(Batch { puts: vec![put], entries: Vec::new() }).await.unwrap();
    }
    let all = store.list(Kind::Ceremony, None, u32::MAX).await.unwrap();
    assert_eq!(all.len(), MAX_ROWS as usize);
    assert_eq!((all[0].0.as_str(), all[0].1.version), ("0000", 1));
    let rest = store.list(Kind::Ceremony, Some(&all.last().unwrap().0), 1000).await.unwrap();
    assert_eq!(rest.len(), 44);
    assert_eq!((rest[43].0.as_str(), rest[43].1.bytes.as_slice()), ("0299", 299_u32.to_be_bytes().as_slice()));
    assert_eq!(store.list(Kind::Ceremony, Some("0299"), 9).await.unwrap(), []);
    assert_eq!(store.list(Kind::Ceremony, None, 0).await.unwrap(), []);
    assert_eq!(store.list(Kind::Meta, None, 9).await.unwrap(), []);
    let ids = store.list(Kind::Offer, None, 9).await.unwrap().into_iter().map(|(id, _)| id);
    assert_eq!(ids.collect::<Vec<_>>(), ["B", "b"]);
}

async fn what_is_too_much_is_refused_and_what_just_fits_is_kept(fresh: Fresh) {
    let store = &*fresh.store;
    let longest_id = "i".repeat(MAX_ID_BYTES);
    let just = batch([put(&longest_id, None, &vec![7; MAX_RECORD_BYTES])], [&vec![8; MAX_ENTRY_BYTES]]);
    store.commit(just).await.unwrap();
    assert_eq!(found(store, &longest_id).await, Some((1, vec![7; MAX_RECORD_BYTES])));
    assert_eq!(entries(store).await, [vec![8; MAX_ENTRY_BYTES]]);

    let many_puts = (0..=MAX_PUTS).map(|i| put(&i.to_string(), None, b"")).collect();
    let too_much = [
        ("bytes in an id", batch([put(&"i".repeat(MAX_ID_BYTES + 1), None, b"")], [])),
        ("no record's id", batch([put("", None, b"")], [])),
        ("no record's id", batch([put("two words", None, b"")], [])),
        ("no record's id", batch([put("line\n", None, b"")], [])),
        ("no record's id", batch([put("é", None, b"")], [])),
        ("bytes in one record", batch([put("r", None, &vec![0; MAX_RECORD_BYTES + 1])], [])),
        ("bytes in one roll entry", batch([], [b"good", &vec![0; MAX_ENTRY_BYTES + 1]])),
        ("records in one commit", Batch { puts: many_puts, entries: Vec::new() }),
        ("roll entries in one commit", Batch { puts: Vec::new(), entries: vec![Vec::new(); MAX_ENTRIES + 1] }),
        ("stands twice", batch([put("t", None, b"1"), put("t", Some(1), b"2")], [])),
    ];
    for (what, batch) in too_much {
        let error = store.commit(batch).await.unwrap_err();
        assert!(error.to_string().contains(what), "{what}: {error}");
        assert_eq!((error.remedy(), error.may_have_taken_effect()), (Remedy::Correct, false), "{what}");
    }
    assert!(matches!(store.get(&key("")).await, Err(StoreError::Id { .. })));
    assert_eq!(store.roll_size().await.unwrap(), 1);
    assert_eq!(store.list(Kind::Ceremony, None, 9).await.unwrap().len(), 1);
}

async fn an_empty_batch_tells_the_next_sequence(fresh: Fresh) {
    let store = &*fresh.store;
    assert_eq!(store.commit(Batch::default()).await.unwrap().first_sequence, 0);
    store.commit(batch([], [b"a", b"b"])).await.unwrap();
    assert_eq!(store.commit(batch([put("a", None, b"")], [])).await.unwrap().first_sequence, 2);
}

async fn another_handle_sees_what_was_committed(fresh: Fresh) {
    for version in 0..20_u64 {
        let expected = (version > 0).then_some(version);
        fresh.store.commit(batch([put("a", expected, &version.to_be_bytes())], [b"entry"])).await.unwrap();
        assert_eq!(found(&*fresh.other, "a").await, Some((version + 1, version.to_be_bytes().to_vec())));
        assert_eq!(fresh.other.roll_size().await.unwrap(), version + 1);
    }
    // And it writes behind what the first one wrote.
    let stale = fresh.other.commit(batch([put("a", Some(19), b"stale")], [])).await;
    assert!(matches!(stale, Err(StoreError::Conflict { found: Some(20), .. })), "{stale:?}");
    assert_eq!(fresh.other.commit(batch([], [b"mine"])).await.unwrap().first_sequence, 20);
}

/// Reserves one block of a lease's budget, in the way that every writer has to: read, decide, commit; and where the answer
/// does not tell whether it is done, read again.
async fn reserve(store: &dyn Store) {
    loop {
        let Ok(before) = store.get(&key("lease")).await else { continue };
        let version = before.as_ref().map(|record| record.version);
        let count = version.unwrap_or(0) + 1;
        let wanted = batch([put("lease", version, &count.to_be_bytes())], [&count.to_be_bytes()]);
        match store.commit(wanted).await {
            Ok(_) => return,
            Err(error) if error.may_have_taken_effect() => {
                let after = loop {
                    if let Ok(after) = store.get(&key("lease")).await {
                        break after;
                    }
                };
                if after.map(|record| record.version) > version {
                    return;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn a_write_that_failed_before_or_after_it_took_effect_is_survived(fresh: Fresh) {
    for fault in [Fault::Before, Fault::After] {
        let calls = AtomicU64::new(0);
        let faulty = Faulty::new(Arc::clone(&fresh.store), |_: Call<'_>| {
            // The sequence of Thue and Morse: half of all calls fail, in no rhythm that a loop could fall into.
            (calls.fetch_add(1, Ordering::Relaxed).count_ones() % 2 == 1).then_some(fault)
        });
        let before = fresh.store.roll_size().await.unwrap();
        for _ in 0..20 {
            reserve(&faulty).await;
        }
        assert_eq!(fresh.store.roll_size().await.unwrap(), before + 20, "{fault:?}");
        assert_eq!(found(&*fresh.store, "lease").await.unwrap().0, before + 20);
    }
    // One fault by one: before, nothing is there; after, all is.
    for (fault, there) in [(Fault::Before, false), (Fault::After, true)] {
        let id = format!("{fault:?}");
        let faulty = Faulty::new(Arc::clone(&fresh.store), |_: Call<'_>| Some(fault));
        let size = fresh.store.roll_size().await.unwrap();
        let error = faulty.commit(batch([put(&id, None, b"x")], [b"x"])).await.unwrap_err();
        assert!(error.may_have_taken_effect(), "{error}");
        assert_eq!(found(&*fresh.store, &id).await.is_some(), there);
        assert_eq!(fresh.store.roll_size().await.unwrap(), size + u64::from(there));
        assert!(faulty.get(&key(&id)).await.is_err() && faulty.roll(0, 1).await.is_err());
        assert!(faulty.roll_size().await.is_err() && faulty.list(Kind::Ceremony, None, 1).await.is_err());
        // A fault hides no refusal of the store itself.
        let refused = faulty.commit(batch([put("lease", None, b"x")], [])).await.unwrap_err();
        assert_eq!(matches!(refused, StoreError::Conflict { .. }), there, "{refused}");
    }
}

async fn a_dropped_commit_is_whole_or_absent(fresh: Fresh) {
    let store = &*fresh.store;
    let mut whole = 0;
    for i in 0..40_u64 {
        let size = store.roll_size().await.unwrap();
        let commit = store.commit(batch([put(&i.to_string(), None, b"x")], [b"x", b"y"]));
        // From never polled to long done.
        let _ = tokio::time::timeout(std::time::Duration::from_micros(i * 25), commit).await;
        // The next commit waits for its turn behind the dropped one.
        let next = store.commit(Batch::default()).await.unwrap().first_sequence;
        let there = found(store, &i.to_string()).await.is_some();
        assert_eq!(next, size + if there { 2 } else { 0 }, "round {i}");
        whole += u64::from(there);
    }
    assert_eq!(entries(store).await.len() as u64, whole * 2);
}
