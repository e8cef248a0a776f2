//! The store's file: what tells it from other files, its schema, and how an older schema becomes the present one.
//!
//! A file that is something else, or newer than this program, is left as it is.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::store::{StoreError, sqlite::explain};

/// How every SQLite file begins (sqlite.org/fileformat2.html §1.3).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// "Chnc": whose SQLite file it is.
const APPLICATION_ID: i32 = 0x4368_6e63;

/// What leads from each schema to the next; a schema's number is how many of these were done. What was released is never
/// changed: a change is a further element.
const MIGRATIONS: &[&[&str]] = &[&[
    // A record is kept with its digest: see `SqliteStore`. Only sealed bytes and public facts ever stand here.
    "CREATE TABLE records (
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        version INTEGER NOT NULL CHECK (version > 0),
        digest BLOB NOT NULL CHECK (length(digest) = 32),
        bytes BLOB NOT NULL,
        PRIMARY KEY (kind, id)
    ) STRICT",
    "CREATE TABLE roll (
        sequence INTEGER PRIMARY KEY CHECK (sequence >= 0),
        leaf BLOB NOT NULL CHECK (length(leaf) = 32),
        bytes BLOB NOT NULL
    ) STRICT",
    "CREATE TRIGGER roll_is_not_changed BEFORE UPDATE ON roll BEGIN SELECT RAISE(ABORT, 'the roll only grows'); END",
    "CREATE TRIGGER roll_is_not_cut BEFORE DELETE ON roll BEGIN SELECT RAISE(ABORT, 'the roll only grows'); END",
]];

pub(super) fn io_error(path: &Path, error: io::Error) -> StoreError {
    StoreError::Io { path: path.to_path_buf(), cause: error.to_string() }
}

/// Makes the file where there is none, readable by its owner alone; refuses one that is no SQLite file.
pub(super) fn ensure_file(path: &Path) -> Result<(), StoreError> {
    let made = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
    let mut head = Vec::with_capacity(MAGIC.len());
    let file = made.map_err(|error| io_error(path, error))?;
    file.take(MAGIC.len() as u64).read_to_end(&mut head).map_err(|error| io_error(path, error))?;
    if head.is_empty() || head == MAGIC { Ok(()) } else { Err(StoreError::NotAStore { path: path.to_path_buf() }) }
}

/// Looks whose file it is, before any setting that would change it.
pub(super) async fn look(path: &Path, options: SqliteConnectOptions) -> Result<(), StoreError> {
    let failed = |error| explain(path, error);
    let mut connection = SqliteConnection::connect_with(&options).await.map_err(failed)?;
    let ours = is_ours(path, &mut connection).await;
    connection.close().await.map_err(failed)?;
    ours.map(|_| ())
}

/// The schema's number, if the file is a store's, or empty (0).
async fn is_ours(path: &Path, connection: &mut SqliteConnection) -> Result<u32, StoreError> {
    let failed = |error| explain(path, error);
    // One statement is one moment, whoever else is making the file just now.
    let query = sqlx::query_as(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)
         FROM pragma_application_id, pragma_user_version",
    );
    let (application, schema, objects): (i32, i64, i64) = query.fetch_one(connection).await.map_err(failed)?;
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    match (application, u32::try_from(schema)) {
        (0, Ok(0)) if objects == 0 => Ok(0),
        (APPLICATION_ID, Ok(found)) if found > known => {
            Err(StoreError::Newer { path: path.to_path_buf(), found, known })
        }
        (APPLICATION_ID, Ok(found)) if found > 0 => Ok(found),
        _ => Err(StoreError::NotAStore { path: path.to_path_buf() }),
    }
}

/// Does the migrations that are missing, all or none; then checks that the file has the schema that they make, no less and
/// no more.
pub(super) async fn bring_up_to_date(path: &Path, connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let failed = |error| explain(path, error);
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *connection).await.map_err(failed)?;
    if mode != "wal" {
        let cause = format!("its disk allows no write-ahead log (SQLite stays with `{mode}`); use a local file system");
        return Err(StoreError::Io { path: path.to_path_buf(), cause });
    }
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let done = is_ours(path, &mut transaction).await?;
    migrate(&mut transaction, done as usize).await.map_err(failed)?;
    let found = described(&mut transaction).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)?;

    let mut reference = SqliteConnection::connect_with(&SqliteConnectOptions::new()).await.map_err(failed)?;
    migrate(&mut reference, 0).await.map_err(failed)?;
    let expected = described(&mut reference).await.map_err(failed)?;
    reference.close().await.map_err(failed)?;
    if found == expected {
        return Ok(());
    }
    let what = "its tables are not those that chancery made".to_owned();
    Err(StoreError::Corrupt { path: path.to_path_buf(), what })
}

async fn migrate(connection: &mut SqliteConnection, done: usize) -> Result<(), sqlx::Error> {
    for statement in MIGRATIONS.iter().skip(done).flat_map(|statements| statements.iter()) {
        sqlx::raw_sql(*statement).execute(&mut *connection).await?;
    }
    if done < MIGRATIONS.len() {
        let numbers = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {}", MIGRATIONS.len());
        sqlx::raw_sql(sqlx::AssertSqlSafe(numbers)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Everything that the schema holds.
async fn described(connection: &mut SqliteConnection) -> Result<Vec<(String, String, Option<String>)>, sqlx::Error> {
    sqlx::query_as("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name").fetch_all(connection).await
}

/// Makes the file's name itself durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| io_error(path, error))
}
