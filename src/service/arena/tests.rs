//! The arena from outside: keys go in, are lent, and are gone when they must be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::protocol::secret::Secret;

fn seed(byte: u8) -> DatasetSeed {
    DatasetSeed::new(Secret::take(&mut [byte; 32]))
}

#[test]
fn a_key_lies_in_the_arena_and_is_wiped_on_request_at_once() {
    let arena = Arena::new(2).unwrap();
    let kept = arena.keep(seed(7)).unwrap();
    assert_eq!(kept.recipient(), Some(&seed(7).key().recipient()));
    let found = kept.lend(|key| (*key.expose_seed(), key.recipient().clone())).unwrap();
    assert_eq!(found, ([7; 32], seed(7).key().recipient()));
    kept.wipe();
    assert_eq!(kept.lend(|_| ()), Err(ArenaError::Wiped));
    assert!(arena.cells.iter().all(|cell| cell.read().unwrap().bytes.iter().all(|byte| *byte == 0)));
    // The place is its owner's until that is dropped.
    assert_eq!(arena.free(), 1);
    drop(kept);
    assert_eq!(arena.free(), 2);
}

#[test]
fn a_full_arena_says_so_and_takes_again_after_a_lease_ended() {
    let arena = Arena::new(2).unwrap();
    let (first, _second) = (arena.keep(seed(1)).unwrap(), arena.keep(seed(2)).unwrap());
    assert_eq!(arena.keep(seed(3)).unwrap_err(), ArenaError::Full { cells: 2 });
    drop(first);
    let third = arena.keep(seed(3)).unwrap();
    assert_eq!(third.lend(|key| *key.expose_seed()).unwrap(), [3; 32]);
}

#[test]
fn dropping_a_key_leaves_no_byte_of_it() {
    let arena = Arena::new(1).unwrap();
    let kept = arena.keep(seed(9)).unwrap();
    assert!(arena.cells[0].read().unwrap().bytes.iter().any(|byte| *byte != 0));
    drop(kept);
    assert!(arena.cells[0].read().unwrap().bytes.iter().all(|byte| *byte == 0));
}

#[test]
fn a_user_that_panics_costs_the_key_and_nothing_else() {
    let arena = Arena::new(2).unwrap();
    let (used, other) = (arena.keep(seed(1)).unwrap(), arena.keep(seed(2)).unwrap());
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        used.lend(|_| panic!("a fault in whoever uses the key")).unwrap();
    }));
    assert!(panicked.is_err());
    assert_eq!(used.lend(|_| ()), Err(ArenaError::Wiped));
    assert_eq!(other.lend(|key| *key.expose_seed()).unwrap(), [2; 32]);
    drop(used);
    arena.keep(seed(3)).unwrap();
}

#[test]
fn a_key_is_used_by_many_at_once_and_by_nobody_after_it_was_wiped() {
    let arena = Arena::new(1).unwrap();
    let kept = arena.keep(seed(5)).unwrap();
    let wiped = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Ok(found) = kept.lend(|key| *key.expose_seed()) {
                    assert_eq!(found, [5; 32]);
                }
                // What ends a user's work is the wiping, and nothing else.
                assert!(wiped.load(std::sync::atomic::Ordering::SeqCst));
            });
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        wiped.store(true, std::sync::atomic::Ordering::SeqCst);
        kept.wipe();
    });
}

#[test]
fn a_program_started_later_does_not_inherit_secret_memory() {
    let arena = Arena::new(1).unwrap();
    let listed = std::process::Command::new("ls").args(["-l", "/proc/self/fd/"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("/proc/"), "the list of descriptors is there: {listed}");
    assert!(!listed.contains("secretmem"), "{listed}");
    drop(arena);
}

#[test]
fn no_size_of_zero_is_an_arena() {
    assert_eq!(Arena::new(0).unwrap_err(), ArenaError::Memory { bytes: 0 });
}

#[test]
fn nothing_shown_holds_a_key() {
    let arena = Arena::new(1).unwrap();
    let kept = arena.keep(seed(0xab)).unwrap();
    let shown = kept.lend(|key| format!("{key:?} {:?} {arena:?} {kept:?}", key.keys())).unwrap();
    assert!(!shown.contains("171") && !shown.contains("ab") && shown.contains("redacted"), "{shown}");
}
