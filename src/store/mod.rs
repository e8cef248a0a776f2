//! What must outlive the process: records that change by compare-and-swap, and the roll's entries.
//!
//! The disk is the host's. What stands here is sealed or public; what it says is checked when it is read: a store finds
//! bytes that rotted, never bytes that someone forged. Every change goes through [`Store::commit`], in which records and
//! roll entries become durable together or not at all, so no act takes effect without its entry. Nothing here assumes that
//! one process writes alone: whoever saves says which version it has read.

mod error;
mod fault;
mod memory;
mod sqlite;

pub use error::{Remedy, StoreError};
pub use fault::{Call, Fault, Faulty};
use futures_util::future::BoxFuture;
pub use memory::MemoryStore;
pub use sqlite::SqliteStore;

use crate::protocol::{hash::Hash, roll::Entry, wire::Document};

/// The longest id of a record, in bytes: two names, two hashes in hexadecimal and their separators fit.
pub const MAX_ID_BYTES: usize = 200;
/// The longest record, in bytes. Far above any charter, list of revocations or dataset version; what is longer is a mistake.
pub const MAX_RECORD_BYTES: usize = 1 << 20;
/// The longest roll entry, in bytes: an entry's length has 16 bits in a log's tiles (c2sp.org/tlog-tiles). What is longer
/// stands in a record, and its hash in the entry.
pub const MAX_ENTRY_BYTES: usize = Entry::MAX_BYTES;
/// The most records one commit changes.
pub const MAX_PUTS: usize = 64;
/// The most roll entries one commit adds.
pub const MAX_ENTRIES: usize = 256;
/// The most rows one read returns, whatever its limit says. Who wants more asks again from where the answer ended.
pub const MAX_ROWS: u32 = 256;

/// What a record is about. Ids are told apart within a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A signed charter.
    Charter,
    /// A list of revocations.
    Revocations,
    /// A signed version of a dataset.
    DatasetVersion,
    /// A ceremony's record.
    Ceremony,
    /// A lease's public facts and budget; never a key.
    Lease,
    /// A genesis and its messages.
    Genesis,
    /// A signed offer.
    Offer,
    /// An official's contribution.
    Contribution,
    /// What the embassy knows of itself.
    Meta,
}

impl Kind {
    /// Every kind, in the order of their names' first use.
    pub const ALL: [Self; 9] = [
        Self::Charter,
        Self::Revocations,
        Self::DatasetVersion,
        Self::Ceremony,
        Self::Lease,
        Self::Genesis,
        Self::Offer,
        Self::Contribution,
        Self::Meta,
    ];

    /// The name under which it is stored; never changed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Charter => "charter",
            Self::Revocations => "revocations",
            Self::DatasetVersion => "dataset-version",
            Self::Ceremony => "ceremony",
            Self::Lease => "lease",
            Self::Genesis => "genesis",
            Self::Offer => "offer",
            Self::Contribution => "contribution",
            Self::Meta => "meta",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What it is about.
    pub kind: Kind,
    /// Its id: 1 to [`MAX_ID_BYTES`] bytes of printable ASCII.
    pub id: String,
}

impl Key {
    /// The record of this kind with this id. Ids are checked when the key is used.
    pub fn new(kind: Kind, id: impl Into<String>) -> Self {
        Self { kind, id: id.into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind, self.id.escape_default())
    }
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// How often it was written, from 1. Whoever changes it must name this version.
    pub version: u64,
    /// What was written last.
    pub bytes: Vec<u8>,
}

/// One record's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Which record.
    pub key: Key,
    /// The version it must have; `None`: it must not exist. Afterwards it has the next version, from 1.
    pub expected: Option<u64>,
    /// What it holds from then on.
    pub bytes: Vec<u8>,
}

/// What becomes durable together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The records that change; each key once.
    pub puts: Vec<Put>,
    /// Encoded roll entries, in their order.
    pub entries: Vec<Vec<u8>>,
}

/// What a commit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The sequence of the batch's first roll entry, the others following it without a gap; for a batch without entries, the
    /// sequence that the next one will have.
    pub first_sequence: u64,
}

/// One entry of the roll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollRow {
    /// Its place, from 0, without gaps.
    pub sequence: u64,
    /// The RFC 6962 leaf hash of its bytes.
    pub leaf: Hash,
    /// The encoded entry.
    pub bytes: Vec<u8>,
}

/// Keeps records and the roll.
///
/// Promises, proven for every store by `tests/store.rs`:
/// - [`commit`](Self::commit) is atomic: all its records and entries are there, or none;
/// - it is durable before it returns `Ok`;
/// - of two commits that expect the same version of a record, at most one succeeds; the other gets
///   [`StoreError::Conflict`] and has changed nothing;
/// - entries are numbered from 0 without gaps, in the order of their commits, and never change;
/// - after `Ok`, every later read sees it, from any handle to the same store;
/// - reads of one record, one list or one stretch of the roll see one moment, never half a commit.
///
/// After an error for which [`StoreError::may_have_taken_effect`] is true, and after a commit's future was dropped, the
/// caller reads again before it decides anything. To repeat the same batch is safe when it expects a version of any record.
pub trait Store: Send + Sync {
    /// Writes a batch.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] names the first record, in the batch's order, that has another version;
    /// [`StoreError::Bounds`] what is too long or twice; the rest is the store's own trouble.
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed, StoreError>>;

    /// Reads one record; `None`: it was never written.
    ///
    /// # Errors
    /// [`StoreError::Bounds`] for an id that none can have; [`StoreError::Corrupt`] where its bytes are not those that were
    /// written; the rest is the store's own trouble.
    fn get(&self, key: &Key) -> BoxFuture<'_, Result<Option<Record>, StoreError>>;

    /// Reads the records of a kind in the byte order of their ids, behind `after`: at most `limit` and at most [`MAX_ROWS`].
    /// An empty answer (for a limit above 0) is the end.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn list(
        &self,
        kind: Kind,
        after: Option<&str>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<(String, Record)>, StoreError>>;

    /// How many entries the roll has, which is the sequence of the next.
    ///
    /// # Errors
    /// The store's own trouble.
    fn roll_size(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Reads the roll from an entry on: at most `limit` and at most [`MAX_ROWS`]. An empty answer (for a limit above 0) is
    /// the end.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where an entry is missing or is not what its leaf hash says; the rest is the store's own
    /// trouble.
    fn roll(&self, from: u64, limit: u32) -> BoxFuture<'_, Result<Vec<RollRow>, StoreError>>;
}

impl<S: Store + ?Sized> Store for std::sync::Arc<S> {
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed, StoreError>> {
        (**self).commit(batch)
    }
    fn get(&self, key: &Key) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        (**self).get(key)
    }
    fn list(
        &self,
        kind: Kind,
        after: Option<&str>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<(String, Record)>, StoreError>> {
        (**self).list(kind, after, limit)
    }
    fn roll_size(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        (**self).roll_size()
    }
    fn roll(&self, from: u64, limit: u32) -> BoxFuture<'_, Result<Vec<RollRow>, StoreError>> {
        (**self).roll(from, limit)
    }
}

/// A batch within its bounds, each key once. Only such a one reaches a store's inside.
struct BoundedBatch(Batch);

impl BoundedBatch {
    fn new(batch: Batch) -> Result<Self, StoreError> {
        let bounds = |what, found, bound| StoreError::Bounds { what, found, bound };
        if batch.puts.len() > MAX_PUTS {
            return Err(bounds("records in one commit", batch.puts.len(), MAX_PUTS));
        }
        if batch.entries.len() > MAX_ENTRIES {
            return Err(bounds("roll entries in one commit", batch.entries.len(), MAX_ENTRIES));
        }
        let mut keys = std::collections::BTreeSet::new();
        for put in &batch.puts {
            check_id(&put.key.id)?;
            if put.bytes.len() > MAX_RECORD_BYTES {
                return Err(bounds("bytes in one record", put.bytes.len(), MAX_RECORD_BYTES));
            }
            if !keys.insert(&put.key) {
                return Err(StoreError::Twice { key: put.key.clone() });
            }
        }
        match batch.entries.iter().map(Vec::len).max() {
            Some(longest) if longest > MAX_ENTRY_BYTES => {
                Err(bounds("bytes in one roll entry", longest, MAX_ENTRY_BYTES))
            }
            _ => Ok(Self(batch)),
        }
    }
}

fn check_id(id: &str) -> Result<(), StoreError> {
    if id.len() > MAX_ID_BYTES {
        return Err(StoreError::Bounds { what: "bytes in an id", found: id.len(), bound: MAX_ID_BYTES });
    }
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(StoreError::Id { id: id.to_owned() });
    }
    Ok(())
}
