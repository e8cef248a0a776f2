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

/// What the kernel says of the mapping that the arena's first cell lies in: its flags, and how much of it is locked.
fn mapping(arena: &Arena) -> (Vec<String>, String) {
    let at = arena.cells[0].read().unwrap().bytes.as_ptr().addr();
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut inside, mut locked) = (false, String::new());
    for line in smaps.lines() {
        let (first, rest) = line.split_once(' ').unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        match first.split_once('-') {
            Some((from, to)) => inside = (number(from)..number(to)).contains(&at),
            None if inside && first == "Locked:" => rest.trim().clone_into(&mut locked),
            None if inside && first == "VmFlags:" => {
                return (rest.split_whitespace().map(str::to_owned).collect(), locked);
            }
            None => {}
        }
    }
    panic!("no mapping holds {at:x}:\n{smaps}");
}

#[test]
fn locked_pages_are_locked_left_out_of_cores_and_kept_from_children_that_are_forked() {
    let arena = Arena::over(memory::locked(2 * CELL_BYTES).unwrap());
    assert_eq!(arena.protection(), Protection::LockedPages);
    let (flags, locked) = mapping(&arena);
    // lo: locked; dd: not in a core; dc: not in a child that is forked (proc_pid_smaps(5)).
    for flag in ["lo", "dd", "dc"] {
        assert!(flags.iter().any(|there| there == flag), "{flag} is not among {flags:?}");
    }
    let kib: usize = locked.strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(kib * 1024 >= 2 * CELL_BYTES, "only {locked} of {} bytes are held in memory", 2 * CELL_BYTES);
}

#[test]
fn secret_memory_is_kept_from_cores_and_from_children_that_are_forked() {
    let arena = Arena::new(2).unwrap();
    let (flags, _) = mapping(&arena);
    for flag in ["lo", "dd", "dc"] {
        assert!(flags.iter().any(|there| there == flag), "{flag} is not among {flags:?} of {}", arena.protection());
    }
}

#[test]
fn locked_pages_take_keys_and_are_wiped_as_secret_memory_is() {
    let arena = Arena::over(memory::locked(2 * CELL_BYTES).unwrap());
    let (first, second) = (arena.keep(seed(7)).unwrap(), arena.keep(seed(8)).unwrap());
    assert_eq!(second.lend(|key| *key.expose_seed()).unwrap(), [8; 32]);
    let used = |at: usize| arena.cells[at].read().unwrap().bytes.iter().filter(|byte| **byte != 0).count();
    // Keys look like noise: of so many bytes one in 256 is zero by chance.
    assert!(used(0) > CELL_BYTES * 9 / 10 && used(1) > CELL_BYTES * 9 / 10);
    drop(first);
    assert_eq!((used(0), arena.free()), (0, 1));
    second.wipe();
    assert_eq!((used(1), second.lend(|_| ())), (0, Err(ArenaError::Wiped)));
}

#[test]
fn what_the_kernel_refuses_is_an_error_that_says_who_can_act() {
    // More than any machine has.
    let refused = Arena::new(usize::MAX / CELL_BYTES / 4).unwrap_err();
    assert!(matches!(refused, ArenaError::Memory { .. }), "{refused}");
    assert!(refused.to_string().contains("LimitMEMLOCK"), "{refused}");
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
