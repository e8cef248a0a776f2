//! The reference store, in memory: what a store means, in as few lines as it can be said. For tests; it outlives nothing.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures_util::future::{BoxFuture, ready};

use crate::{
    protocol::roll::leaf_hash,
    store::{Batch, BoundedBatch, Committed, Key, Kind, MAX_ROWS, Put, Record, RollRow, Store, StoreError, check_id},
};

/// A store that ends with its process. Faults are put around it by [`Faulty`](crate::store::Faulty).
#[derive(Debug, Default)]
pub struct MemoryStore {
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    records: BTreeMap<Key, Record>,
    roll: Vec<RollRow>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        // Nothing below panics between the first change of a commit and its last.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn commit(&mut self, BoundedBatch(batch): BoundedBatch) -> Result<Committed, StoreError> {
        for Put { key, expected, .. } in &batch.puts {
            let found = self.records.get(key).map(|record| record.version);
            if found != *expected {
                return Err(StoreError::Conflict { key: key.clone(), found, expected: *expected });
            }
        }
        for Put { key, expected, bytes } in batch.puts {
            self.records.insert(key, Record { version: expected.unwrap_or(0).saturating_add(1), bytes });
        }
        let first_sequence = self.roll.len() as u64;
        let rows = batch.entries.into_iter().zip(first_sequence..);
        self.roll.extend(rows.map(|(bytes, sequence)| RollRow { sequence, leaf: leaf_hash(&bytes), bytes }));
        Ok(Committed { first_sequence })
    }
}

impl Store for MemoryStore {
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed, StoreError>> {
        Box::pin(async move { self.inside().commit(BoundedBatch::new(batch)?) })
    }

    fn get(&self, key: &Key) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        Box::pin(ready(check_id(&key.id).map(|()| self.inside().records.get(key).cloned())))
    }

    fn list(
        &self,
        kind: Kind,
        after: Option<&str>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<(String, Record)>, StoreError>> {
        let start = Bound::Excluded(Key::new(kind, after.unwrap_or_default()));
        let inside = self.inside();
        let behind = inside.records.range((start, Bound::Unbounded)).take_while(|(key, _)| key.kind == kind);
        let rows = behind.take(limit.min(MAX_ROWS) as usize).map(|(key, record)| (key.id.clone(), record.clone()));
        Box::pin(ready(Ok(rows.collect())))
    }

    fn roll_size(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(ready(Ok(self.inside().roll.len() as u64)))
    }

    fn roll(&self, from: u64, limit: u32) -> BoxFuture<'_, Result<Vec<RollRow>, StoreError>> {
        let inside = self.inside();
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let rows = inside.roll.iter().skip(from).take(limit.min(MAX_ROWS) as usize).cloned();
        Box::pin(ready(Ok(rows.collect())))
    }
}
