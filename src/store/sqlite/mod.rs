//! The embassy's own store: one SQLite file with a write-ahead log, whose every commit has reached the disk when it returns.
//!
//! Trusts SQLite, and the disk not to lose what it said it had synced. Each record stands with a digest and each roll entry
//! with its leaf hash, and both are computed again at every read, because SQLite's pages carry no checksums: rot is found
//! where it is read. One connection writes, in transactions that lock before they look; a few others read.

mod schema;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use sqlx::{
    Connection, Error, QueryBuilder, Row, Sqlite, SqliteConnection, SqlitePool,
    pool::{PoolConnection, PoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous},
};

use crate::{
    protocol::{hash::Hash, roll::leaf_hash},
    store::{Batch, BoundedBatch, Committed, Key, Kind, MAX_ROWS, Put, Record, RollRow, Store, StoreError, check_id},
};

/// How long a call waits for its turn: for a connection of its own, and for another process's lock.
const TURN: Duration = Duration::from_secs(5);
/// Between two tries where SQLite does not wait.
const PAUSE: Duration = Duration::from_millis(10);
/// Readers. Hot paths read memory; what is left is people who look.
const READERS: u32 = 4;
/// To what length the write-ahead log is cut back, in bytes, once all of it is in the file.
const LOG_BYTES_KEPT: &str = "16777216";

/// A store in one file.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    path: PathBuf,
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens the store in this file; makes it, for its owner alone, where there is none; brings an older schema up to date.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`] and [`StoreError::Newer`] leave the file as it is; the rest is the disk's trouble.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        // Absolute, so that SQLite takes no name for a URI.
        let path = std::path::absolute(path.as_ref()).map_err(|error| schema::io_error(path.as_ref(), error))?;
        schema::ensure_file(&path)?;
        schema::look(&path, options(&path)).await?;
        let pool = |size, options| {
            let pool = PoolOptions::new().max_connections(size).acquire_timeout(TURN).test_before_acquire(false);
            // A connection that works is kept: opening one costs more than a commit.
            pool.idle_timeout(None).max_lifetime(None).connect_lazy_with(options)
        };
        let writing = options(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("journal_size_limit", LOG_BYTES_KEPT);
        let store =
            Self { writer: pool(1, writing), readers: pool(READERS, options(&path).pragma("query_only", "on")), path };
        let mut writer = store.first_writer().await?;
        schema::bring_up_to_date(&store.path, &mut writer).await?;
        drop(writer);
        schema::sync_directory(&store.path)?;
        Ok(store)
    }

    /// Switching a new file to a write-ahead log is the one step for which SQLite does not wait by itself.
    async fn first_writer(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        let deadline = Instant::now() + TURN;
        loop {
            match self.writer.acquire().await.map_err(|error| explain(&self.path, error)) {
                Err(StoreError::Busy { .. }) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
                outcome => return outcome,
            }
        }
    }

    /// Ends the store's connections. What was committed is on the disk either way; this only tidies the log away.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn write(&self, BoundedBatch(batch): BoundedBatch) -> Result<Committed, StoreError> {
        let mut connection = self.writer.acquire().await.map_err(|error| explain(&self.path, error))?;
        let outcome = transact(&self.path, &mut connection, &batch).await;
        if outcome.as_ref().is_err_and(|error| !matches!(error, StoreError::Conflict { .. })) {
            // SQLite ends some failed transactions by itself, and sqlx goes on counting them: this connection is no good.
            connection.close_on_drop();
        }
        outcome
    }

    fn corrupt(&self, what: String) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), what }
    }

    /// A record whose digest is that of its bytes; its columns are `version`, `digest`, `bytes`.
    fn record(&self, kind: Kind, id: &str, row: &SqliteRow) -> Result<Record, StoreError> {
        let get =
            || -> Result<_, Error> { Ok((row.try_get("version")?, row.try_get("digest")?, row.try_get("bytes")?)) };
        let (version, digest, bytes): (i64, Vec<u8>, Vec<u8>) = get().map_err(|error| explain(&self.path, error))?;
        match u64::try_from(version) {
            Ok(version) if Hash::of_bytes(&bytes).as_bytes().as_slice() == digest => Ok(Record { version, bytes }),
            _ => Err(self.corrupt(format!("{} is not what was written", Key::new(kind, id)))),
        }
    }

    /// The entry that must stand at this place of the roll; its columns are `sequence`, `leaf`, `bytes`.
    fn roll_row(&self, sequence: u64, row: &SqliteRow) -> Result<RollRow, StoreError> {
        let get =
            || -> Result<_, Error> { Ok((row.try_get("sequence")?, row.try_get("leaf")?, row.try_get("bytes")?)) };
        let (found, written, bytes): (i64, Vec<u8>, Vec<u8>) = get().map_err(|error| explain(&self.path, error))?;
        if u64::try_from(found) != Ok(sequence) {
            return Err(self.corrupt(format!("entry {sequence} of the roll is missing")));
        }
        let leaf = leaf_hash(&bytes);
        if leaf.as_bytes().as_slice() != written {
            return Err(self.corrupt(format!("entry {sequence} of the roll is not what was written")));
        }
        Ok(RollRow { sequence, leaf, bytes })
    }
}

impl Store for SqliteStore {
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed, StoreError>> {
        Box::pin(async move { self.write(BoundedBatch::new(batch)?).await })
    }

    fn get(&self, key: &Key) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        let Key { kind, id } = key.clone();
        Box::pin(async move {
            check_id(&id)?;
            let query = sqlx::query("SELECT version, digest, bytes FROM records WHERE kind = ? AND id = ?");
            let row = query.bind(kind.as_str()).bind(&id).fetch_optional(&self.readers).await;
            let row = row.map_err(|error| explain(&self.path, error))?;
            row.map(|row| self.record(kind, &id, &row)).transpose()
        })
    }

    fn list(
        &self,
        kind: Kind,
        after: Option<&str>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<(String, Record)>, StoreError>> {
        let after = after.unwrap_or_default().to_owned();
        Box::pin(async move {
            let query = sqlx::query(
                "SELECT id, version, digest, bytes FROM records WHERE kind = ? AND id > ? ORDER BY id LIMIT ?",
            );
            let rows = query.bind(kind.as_str()).bind(after).bind(limit.min(MAX_ROWS)).fetch_all(&self.readers).await;
            let rows = rows.map_err(|error| explain(&self.path, error))?;
            let record = |row: &SqliteRow| {
                let id: String = row.try_get("id").map_err(|error| explain(&self.path, error))?;
                let record = self.record(kind, &id, row)?;
                Ok((id, record))
            };
            rows.iter().map(record).collect()
        })
    }

    fn roll_size(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let mut connection = self.readers.acquire().await.map_err(|error| explain(&self.path, error))?;
            roll_size(&self.path, &mut connection).await
        })
    }

    fn roll(&self, from: u64, limit: u32) -> BoxFuture<'_, Result<Vec<RollRow>, StoreError>> {
        Box::pin(async move {
            // No sequence is above what a column holds.
            let Ok(first) = i64::try_from(from) else { return Ok(Vec::new()) };
            let query =
                sqlx::query("SELECT sequence, leaf, bytes FROM roll WHERE sequence >= ? ORDER BY sequence LIMIT ?");
            let rows = query.bind(first).bind(limit.min(MAX_ROWS)).fetch_all(&self.readers).await;
            let rows = rows.map_err(|error| explain(&self.path, error))?;
            rows.iter().zip(from..).map(|(row, sequence)| self.roll_row(sequence, row)).collect()
        })
    }
}

/// What every connection has. `trusted_schema` and `cell_size_check`: the disk is the host's, and so is what the file says.
fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .busy_timeout(TURN)
        .pragma("trusted_schema", "off")
        .pragma("cell_size_check", "on")
}

/// One batch, in one transaction that has the lock before it looks at any version.
async fn transact(path: &Path, connection: &mut SqliteConnection, batch: &Batch) -> Result<Committed, StoreError> {
    let failed = |error| explain(path, error);
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    if let Some(conflict) = conflict(path, &mut transaction, &batch.puts).await? {
        transaction.rollback().await.map_err(failed)?;
        return Err(conflict);
    }
    put(path, &mut transaction, &batch.puts).await?;
    let first_sequence = roll_size(path, &mut transaction).await?;
    append(path, &mut transaction, first_sequence, &batch.entries).await?;
    transaction.commit().await.map_err(failed)?;
    Ok(Committed { first_sequence })
}

/// The first record, in the batch's order, that has another version than expected.
async fn conflict(
    path: &Path,
    connection: &mut SqliteConnection,
    puts: &[Put],
) -> Result<Option<StoreError>, StoreError> {
    if puts.is_empty() {
        return Ok(None);
    }
    let mut query = QueryBuilder::<Sqlite>::new("SELECT kind, id, version FROM records WHERE (kind, id) IN (");
    query.push_values(puts, |mut row, put| {
        row.push_bind(put.key.kind.as_str()).push_bind(put.key.id.as_str());
    });
    let rows: Vec<(String, String, i64)> =
        query.push(")").build_query_as().fetch_all(connection).await.map_err(|error| explain(path, error))?;
    let found = |key: &Key| {
        let row = rows.iter().find(|(kind, id, _)| kind == key.kind.as_str() && *id == key.id);
        row.and_then(|(_, _, version)| u64::try_from(*version).ok())
    };
    let conflict = puts.iter().map(|put| (put, found(&put.key))).find(|(put, found)| *found != put.expected);
    Ok(conflict.map(|(put, found)| StoreError::Conflict { key: put.key.clone(), found, expected: put.expected }))
}

/// Writes records whose versions were checked in this transaction, in one statement.
async fn put(path: &Path, connection: &mut SqliteConnection, puts: &[Put]) -> Result<(), StoreError> {
    if puts.is_empty() {
        return Ok(());
    }
    let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO records (kind, id, version, digest, bytes) ");
    query.push_values(puts, |mut row, Put { key, expected, bytes }| {
        row.push_bind(key.kind.as_str())
            .push_bind(key.id.as_str())
            .push_bind(expected.unwrap_or(0).saturating_add(1).cast_signed())
            .push_bind(Hash::of_bytes(bytes).as_bytes().to_vec())
            .push_bind(bytes.as_slice());
    });
    query.push(
        " ON CONFLICT (kind, id) DO UPDATE SET version = excluded.version, digest = excluded.digest, bytes = excluded.bytes",
    );
    let done = query.build().execute(connection).await.map_err(|error| explain(path, error))?;
    all_written(path, done.rows_affected(), puts.len())
}

/// Adds entries behind the roll's last, in one statement.
async fn append(
    path: &Path,
    connection: &mut SqliteConnection,
    first_sequence: u64,
    entries: &[Vec<u8>],
) -> Result<(), StoreError> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO roll (sequence, leaf, bytes) ");
    query.push_values((first_sequence..).zip(entries), |mut row, (sequence, bytes)| {
        row.push_bind(sequence.cast_signed())
            .push_bind(leaf_hash(bytes).as_bytes().to_vec())
            .push_bind(bytes.as_slice());
    });
    let done = query.build().execute(connection).await.map_err(|error| explain(path, error))?;
    all_written(path, done.rows_affected(), entries.len())
}

async fn roll_size(path: &Path, connection: &mut SqliteConnection) -> Result<u64, StoreError> {
    let query = sqlx::query_scalar("SELECT coalesce(max(sequence) + 1, 0) FROM roll");
    let size: i64 = query.fetch_one(connection).await.map_err(|error| explain(path, error))?;
    u64::try_from(size)
        .map_err(|_| StoreError::Corrupt { path: path.to_path_buf(), what: "the roll's size is negative".to_owned() })
}

/// A file can hold a trigger of someone's that swallows rows.
fn all_written(path: &Path, written: u64, asked: usize) -> Result<(), StoreError> {
    if written == asked as u64 {
        return Ok(());
    }
    let what = format!("{written} of {asked} rows were written");
    Err(StoreError::Corrupt { path: path.to_path_buf(), what })
}

/// SQLite's primary result codes (sqlite.org/rescode.html), and one extended.
fn explain(path: &Path, error: Error) -> StoreError {
    let path = path.to_path_buf();
    let code = error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<u32>().ok());
    // The low eight bits are the primary code; 522 is a short read: the file ends too early.
    match (code, code.map(|code| code & 0xff)) {
        (_, Some(5 | 6)) => return StoreError::Busy { path },
        (_, Some(13)) => return StoreError::Full { path },
        (Some(522), _) | (_, Some(11 | 26)) => return StoreError::Corrupt { path, what: error.to_string() },
        _ => {}
    }
    match error {
        // Before any statement ran: no connection was free, or the one that was had not been put in order yet.
        Error::PoolTimedOut | Error::InvalidSavePointStatement | Error::BeginFailed => StoreError::Busy { path },
        Error::ColumnDecode { .. } | Error::ColumnNotFound(_) | Error::Decode(_) => {
            StoreError::Corrupt { path, what: error.to_string() }
        }
        other => StoreError::Io { path, cause: other.to_string() },
    }
}
