//! What a durable commit to the store costs: alone, in a large batch, and with several writers; and what a read costs.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{hint::black_box, sync::atomic::AtomicU64, sync::atomic::Ordering};

use chancery::store::{Batch, Key, Kind, Put, SqliteStore, Store};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// New records and entries of the size that ceremonies have.
fn batch(puts: usize, entries: usize) -> Batch {
    let put = |_| Put {
        key: Key::new(Kind::Ceremony, NEXT.fetch_add(1, Ordering::Relaxed).to_string()),
        expected: None,
        bytes: vec![7; 4_000],
    };
    Batch { puts: (0..puts).map(put).collect(), entries: vec![vec![8; 500]; entries] }
}

fn store(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = runtime.block_on(SqliteStore::open(folder.path().join("store.sqlite"))).unwrap();
    for (puts, entries) in [(1, 1), (8, 8), (64, 256)] {
        let mut group = c.benchmark_group("store");
        group.throughput(Throughput::Elements((puts + entries) as u64));
        group.bench_function(format!("commit, {puts} records and {entries} entries"), |b| {
            b.iter(|| runtime.block_on(store.commit(batch(puts, entries))).unwrap());
        });
    }
    c.bench_function("store/8 commits at once, 1 record and 1 entry each", |b| {
        b.iter(|| {
            let outcomes = runtime.block_on(join_all((0..8).map(|_| store.commit(batch(1, 1)))));
            assert!(outcomes.iter().all(Result::is_ok));
        });
    });
    let key = Key::new(Kind::Ceremony, "0");
    c.bench_function("store/read one record", |b| b.iter(|| black_box(runtime.block_on(store.get(&key)).unwrap())));
}

criterion_group!(benches, store);
criterion_main!(benches);
