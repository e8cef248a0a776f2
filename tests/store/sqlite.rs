//! What only a store on a disk can suffer: a killed process, a full disk, a damaged file, a file that is something else.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use chancery::store::{Batch, Key, Kind, MAX_ROWS, Put, Remedy, SqliteStore, Store, StoreError};

use crate::{batch, entries, found, put};

/// Where a child process of this test finds its store.
const STORE: &str = "CHANCERY_TEST_STORE";

fn in_folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    (folder, path)
}

/// This test program again, running one test that only a parent starts.
fn child(test: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--ignored"]).env(STORE, path);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn child_path() -> Option<PathBuf> {
    std::env::var_os(STORE).map(PathBuf::from)
}

/// What the child commits as number `i`: one record of its own, one that it changes each time, and 1 to 4 entries.
fn story(i: u64) -> Batch {
    let expected = (i > 0).then_some(i);
    let entry = |part: u64| [i.to_be_bytes(), part.to_be_bytes()].concat();
    let mut changed = batch([put("last", expected, &i.to_be_bytes()), put(&i.to_string(), None, &entry(9))], []);
    changed.entries = (0..=i % 4).map(entry).collect();
    changed
}

#[tokio::test]
#[ignore = "the process that is killed by the test below"]
async fn child_commits_until_it_is_killed() {
    let Some(path) = child_path() else { return };
    let store = SqliteStore::open(path).await.unwrap();
    let first = found(&store, "last").await.map_or(0, |(version, _)| version);
    for i in first.. {
        let committed = store.commit(story(i)).await.unwrap();
        println!("acknowledged {i} {}", committed.first_sequence);
    }
}

fn killed_after(mut child: Child, acknowledged: usize) -> Vec<(u64, u64)> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut seen = Vec::new();
    for line in lines {
        let Some(rest) = line.strip_prefix("acknowledged ") else { continue };
        let (number, sequence) = rest.split_once(' ').unwrap();
        seen.push((number.parse().unwrap(), sequence.parse().unwrap()));
        if seen.len() == acknowledged {
            child.kill().unwrap();
            // What was said before the end is still in the pipe, and counts.
        }
    }
    assert!(!child.wait().unwrap().success());
    assert!(seen.len() >= acknowledged, "the child ended early");
    seen
}

#[tokio::test]
async fn what_was_acknowledged_before_a_kill_is_there_and_the_roll_has_no_gap() {
    let (_folder, path) = in_folder();
    let mut acknowledged = Vec::new();
    // Killed soon after it began, and in the middle of much work; each time the next one goes on.
    for after in [1, 7, 60, 2, 150, 33] {
        let started = child("sqlite_file::child_commits_until_it_is_killed", &path).spawn().unwrap();
        acknowledged.extend(killed_after(started, after));
        let store = SqliteStore::open(&path).await.unwrap();
        let (last, _) = found(&store, "last").await.unwrap();
        let said = acknowledged.last().unwrap().0 + 1;
        // At most the one commit that was under way is there unacknowledged.
        assert!(last == said || last == said + 1, "{last} commits are there, {said} were acknowledged");
        // Exactly the entries of those commits, in order; reading checks every leaf hash and that none is missing.
        let expected: Vec<Vec<u8>> = (0..last).flat_map(|i| story(i).entries).collect();
        assert!(entries(&store).await == expected, "the roll is not what was committed");
        for (number, sequence) in &acknowledged {
            let place = (0..*number).map(|i| story(i).entries.len() as u64).sum::<u64>();
            assert_eq!(*sequence, place);
            assert_eq!(found(&store, &number.to_string()).await.unwrap().0, 1);
        }
        store.close().await;
    }
}

#[tokio::test]
#[ignore = "the process that the test below starts on a disk of its own"]
async fn child_fills_its_disk() {
    let Some(path) = child_path() else { return };
    let store = SqliteStore::open(&path).await.unwrap();
    let mut written = 0;
    let error = loop {
        let change = batch([put(&written.to_string(), None, &[7; 10_000])], [&[8; 1_000]]);
        match store.commit(change).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("store.sqlite") && error.to_string().contains("Free space"), "{error}");
    assert_eq!((error.remedy(), error.may_have_taken_effect()), (Remedy::Examine, false));
    // Nothing of the refused commit, all of the others; and it stays so.
    assert!(matches!(store.commit(batch([], [&[8; 60_000]])).await, Err(StoreError::Full { .. })));
    assert_eq!(entries(&store).await.len(), written);
    assert_eq!(found(&store, &written.to_string()).await, None);
    // Room again: the same store goes on, without a restart.
    std::fs::remove_file(path.with_file_name("ballast")).unwrap();
    store.commit(batch([put(&written.to_string(), None, b"at last")], [b"at last"])).await.unwrap();
    store.close().await;
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(entries(&store).await.len(), written + 1);
    println!("filled after {written}");
}

#[test]
fn a_full_disk_refuses_loses_nothing_and_is_left_behind() {
    let (folder, path) = in_folder();
    let test = child("sqlite_file::child_fills_its_disk", &path);
    // A disk of 1 MiB in a mount namespace of its own, which ends with the process. Half of it is ballast.
    let script =
        r#"mount -t tmpfs -o size=1m none "$0" && head -c 500000 /dev/zero >"$0/ballast" && echo mounted && exec "$@""#;
    let inside = |unshare: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(unshare).args(["sh", "-c", script]).arg(folder.path()).arg(test.get_program());
        command.args(test.get_args()).env(STORE, &path).output()
    };
    let mut refused = String::new();
    for unshare in [["--mount", "--"].as_slice(), &["--user", "--map-root-user", "--mount", "--"]] {
        match inside(unshare) {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stdout);
                let complained = String::from_utf8_lossy(&output.stderr);
                if said.contains("mounted") {
                    assert!(output.status.success() && said.contains("filled after"), "{said}\n{complained}");
                    return;
                }
                refused = complained.into_owned();
            }
            Err(error) => refused = error.to_string(),
        }
    }
    println!(
        "skipped: a small disk needs root or user namespaces with mounts, and this machine gives neither: {refused}"
    );
}

/// Finds `needle` in the file and changes one bit of it.
fn damage(path: &Path, needle: &[u8]) {
    let mut bytes = std::fs::read(path).unwrap();
    let places: Vec<usize> = (0..bytes.len() - needle.len()).filter(|i| bytes[*i..].starts_with(needle)).collect();
    assert_eq!(places.len(), 1, "the damage must be in one place");
    bytes[places[0]] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn rot_in_the_file_is_found_and_named_where_it_is_read() {
    let (_folder, path) = in_folder();
    let store = SqliteStore::open(&path).await.unwrap();
    store.commit(batch([put("a", None, b"the record of a"), put("b", None, b"whole")], [b"entry 0"])).await.unwrap();
    store.commit(batch([], [b"the entry that rots", b"entry 2"])).await.unwrap();
    store.close().await;
    damage(&path, b"the record of a");
    damage(&path, b"the entry that rots");

    let store = SqliteStore::open(&path).await.unwrap();
    let corrupt = |error: StoreError, named: &str| {
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(named) && text.contains("store.sqlite") && text.contains("backup"), "{text}");
    };
    corrupt(store.get(&Key::new(Kind::Ceremony, "a")).await.unwrap_err(), "ceremony/a is not what was written");
    corrupt(store.list(Kind::Ceremony, None, 9).await.unwrap_err(), "ceremony/a");
    corrupt(store.roll(0, 9).await.unwrap_err(), "entry 1 of the roll is not what was written");
    // What is whole is still readable.
    assert_eq!(found(&store, "b").await.unwrap().1, b"whole");
    assert_eq!(store.roll(2, 9).await.unwrap().len(), 1);
    assert_eq!(store.roll(0, 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_missing_entry_and_a_foreign_table_are_found() {
    let (_folder, path) = in_folder();
    let store = SqliteStore::open(&path).await.unwrap();
    store.commit(batch([], [b"0", b"1", b"2"])).await.unwrap();
    // The roll is not changed or cut by mistake, even with the file in hand.
    assert!(by_hand(&path, "DELETE FROM roll").await.unwrap_err().to_string().contains("the roll only grows"));
    assert!(by_hand(&path, "UPDATE roll SET bytes = x'00'").await.is_err());
    store.close().await;
    // On purpose it is, and then it shows.
    by_hand(&path, "DROP TRIGGER roll_is_not_cut; DELETE FROM roll WHERE sequence = 1").await.unwrap();
    let error = SqliteStore::open(&path).await.unwrap_err();
    assert!(error.to_string().contains("its tables are not those that chancery made"), "{error}");
    by_hand(
        &path,
        "CREATE TRIGGER roll_is_not_cut BEFORE DELETE ON roll BEGIN SELECT RAISE(ABORT, 'the roll only grows'); END",
    )
    .await
    .unwrap();
    let store = SqliteStore::open(&path).await.unwrap();
    let error = store.roll(0, MAX_ROWS).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Corrupt { .. }) && error.to_string().contains("entry 1 of the roll is missing")
    );
}

#[tokio::test]
async fn a_file_cut_short_is_corrupt_and_not_empty() {
    let (_folder, path) = in_folder();
    let store = SqliteStore::open(&path).await.unwrap();
    for i in 0..50_u8 {
        store.commit(batch([put(&i.to_string(), None, &[i; 3_000])], [&[i; 3_000]])).await.unwrap();
    }
    store.close().await;
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length / 2 / 4096 * 4096).unwrap();
    let read = match SqliteStore::open(&path).await {
        Ok(store) => store.roll(0, MAX_ROWS).await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
}

async fn by_hand(path: &Path, statements: &str) -> Result<(), sqlx::Error> {
    use sqlx::Connection;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned())).execute(&mut connection).await?;
    connection.close().await
}

#[tokio::test]
async fn a_file_that_is_something_else_or_newer_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("notes.txt"), "meeting at nine, in the map room").unwrap();
    std::fs::write(path("short"), "SQLite").unwrap();
    std::fs::write(path("other.sqlite"), "").unwrap();
    by_hand(&path("other.sqlite"), "CREATE TABLE birds (name TEXT)").await.unwrap();
    std::fs::write(path("named.sqlite"), "").unwrap();
    by_hand(&path("named.sqlite"), "PRAGMA application_id = 99").await.unwrap();
    SqliteStore::open(path("newer.sqlite")).await.unwrap().close().await;
    by_hand(&path("newer.sqlite"), "PRAGMA user_version = 900").await.unwrap();

    for name in ["notes.txt", "short", "other.sqlite", "named.sqlite", "newer.sqlite"] {
        let before = std::fs::read(path(name)).unwrap();
        let error = SqliteStore::open(path(name)).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(name), "{text}");
        match error {
            StoreError::Newer { found, known, .. } => assert!(name == "newer.sqlite" && found == 900 && known < 900),
            StoreError::NotAStore { .. } => assert!(name != "newer.sqlite" && text.contains("Name another file")),
            other => panic!("{name}: {other:?}"),
        }
        assert!(std::fs::read(path(name)).unwrap() == before, "{name} was changed");
    }
    let error = SqliteStore::open(path("nowhere/store.sqlite")).await.unwrap_err().to_string();
    assert!(error.contains("nowhere/store.sqlite") && error.contains("permissions"), "{error}");
    assert!(SqliteStore::open(folder.path()).await.is_err(), "a directory is no store");
}

#[tokio::test]
async fn a_new_store_is_its_owners_alone_and_opens_many_times_at_once() {
    let (_folder, path) = in_folder();
    let opened = (0..8_u8).map(|i| {
        let path = path.clone();
        tokio::spawn(async move {
            let store = SqliteStore::open(path).await.unwrap();
            let change = Put { key: Key::new(Kind::Meta, i.to_string()), expected: None, bytes: vec![i] };
            store.commit(Batch { puts: vec![change], entries: vec![vec![i]] }).await.unwrap();
            store.close().await;
        })
    });
    for task in opened.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.roll_size().await.unwrap(), 8);
    assert_eq!(store.list(Kind::Meta, None, 99).await.unwrap().len(), 8);
}

#[tokio::test]
async fn a_store_that_another_process_holds_says_that_it_is_busy() {
    use sqlx::Connection;
    let (_folder, path) = in_folder();
    let store = SqliteStore::open(&path).await.unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut holder = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    let held = holder.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let error = store.commit(batch([put("a", None, b"x")], [])).await.unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error:?}");
    assert_eq!((error.remedy(), error.may_have_taken_effect()), (Remedy::Retry, false));
    // Readers do not wait for whoever writes, and afterwards all is as before.
    assert_eq!(found(&store, "a").await, None);
    held.rollback().await.unwrap();
    store.commit(batch([put("a", None, b"x")], [])).await.unwrap();
}
