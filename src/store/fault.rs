//! A store that fails when it is told to, around any other: for tests of whoever writes.
//!
//! A write can fail in two ways, and whoever relies on it must survive both: it never happened, or it happened and nobody
//! was told.

use futures_util::future::{BoxFuture, ready};

use crate::store::{Batch, Committed, Key, Kind, Record, RollRow, Store, StoreError};

/// What is about to be done.
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    /// A commit of this batch.
    Commit(&'a Batch),
    /// A read of this record.
    Get(&'a Key),
    /// A read of the records of this kind.
    List(Kind),
    /// A read of the roll or its size.
    Roll,
}

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Before it took effect.
    Before,
    /// After it took effect: the caller is told of an error, and yet it is done.
    After,
}

/// A store whose calls fail where `hook` says so.
pub struct Faulty<S, H> {
    store: S,
    hook: H,
}

impl<S, H> Faulty<S, H>
where
    S: Store,
    H: Fn(Call<'_>) -> Option<Fault> + Send + Sync,
{
    /// Asks `hook` before every call; a call for which it answers `None` goes through unharmed.
    pub const fn new(store: S, hook: H) -> Self {
        Self { store, hook }
    }

    /// The store inside, which does not fail.
    pub const fn inner(&self) -> &S {
        &self.store
    }

    fn read<'a, T: Send + 'a>(
        &'a self,
        call: Call<'_>,
        answer: impl FnOnce(&'a S) -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        match (self.hook)(call) {
            Some(_) => Box::pin(ready(Err(asked_for()))),
            None => answer(&self.store),
        }
    }
}

impl<S, H> Store for Faulty<S, H>
where
    S: Store,
    H: Fn(Call<'_>) -> Option<Fault> + Send + Sync,
{
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed, StoreError>> {
        match (self.hook)(Call::Commit(&batch)) {
            None => self.store.commit(batch),
            Some(Fault::Before) => Box::pin(ready(Err(asked_for()))),
            Some(Fault::After) => Box::pin(async move {
                // A commit that the store itself refuses has no effect to be hidden.
                self.store.commit(batch).await?;
                Err(asked_for())
            }),
        }
    }
    fn get(&self, key: &Key) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        self.read(Call::Get(key), |store| store.get(key))
    }
    fn list(
        &self,
        kind: Kind,
        after: Option<&str>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<(String, Record)>, StoreError>> {
        self.read(Call::List(kind), |store| store.list(kind, after, limit))
    }
    fn roll_size(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.read(Call::Roll, Store::roll_size)
    }
    fn roll(&self, from: u64, limit: u32) -> BoxFuture<'_, Result<Vec<RollRow>, StoreError>> {
        self.read(Call::Roll, |store| store.roll(from, limit))
    }
}

fn asked_for() -> StoreError {
    StoreError::Io { path: "a store under test".into(), cause: "a fault that was asked for".to_owned() }
}
