//! The owner with a device that is no TPM: what a TPM cannot be made to do on purpose, such as a panic in a job of ours.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicU32, Ordering},
    },
    thread::{scope, sleep},
    time::{Duration, Instant},
};

use super::{Device, Limits, Owner};
use crate::hardware::{error::TpmError, watch::Watch};

#[derive(Default)]
struct Counts {
    opened: AtomicU32,
    abandoned: AtomicU32,
    panics_to_come: AtomicU32,
}

/// Counts, sleeps, and breaks when told to.
struct Toy {
    counts: Arc<Counts>,
    watch: Arc<Watch>,
    sound: bool,
}

impl Device for Toy {
    type Settings = Arc<Counts>;

    fn open(counts: &Arc<Counts>, watch: &Arc<Watch>) -> Result<Self, TpmError> {
        counts.opened.fetch_add(1, Ordering::SeqCst);
        let due = counts.panics_to_come.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(due.is_err(), "a panic while opening");
        Ok(Self { counts: Arc::clone(counts), watch: Arc::clone(watch), sound: true })
    }
    fn settle(&mut self) -> Result<(), TpmError> {
        Ok(())
    }
    fn is_sound(&self) -> bool {
        self.sound
    }
    fn abandon(self) {
        self.counts.abandoned.fetch_add(1, Ordering::SeqCst);
    }
}

impl Toy {
    fn command(&mut self, time: Duration) -> Result<u32, TpmError> {
        self.watch.command_begins("a toy's command").map_err(|_| TpmError::gone("a toy's command"))?;
        sleep(time);
        self.watch.command_ends().map_err(|_| TpmError::gone("a toy's command"))?;
        Ok(self.counts.opened.load(Ordering::SeqCst))
    }
}

/// Test time: long enough that a busy machine does not overrun by itself what a test lets overrun on purpose.
const fn ms(count: u64) -> Duration {
    Duration::from_millis(8 * count)
}

fn limits() -> Limits {
    Limits { command: ms(100), call: ms(400), queue: 2, pause_min: ms(40), pause_max: ms(80) }
}

fn owner() -> (Owner<Toy>, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    (Owner::new(Arc::clone(&counts), limits()), counts)
}

const QUICK: Duration = ms(1);

#[test]
fn a_panic_in_a_job_costs_only_that_job() {
    let (owner, counts) = owner();
    let together = Arc::new(Barrier::new(2));
    let ready = Arc::clone(&together);
    scope(|scope| {
        let behind = scope.spawn(|| {
            together.wait();
            sleep(ms(15));
            owner.call(|toy| toy.command(QUICK))
        });
        let failed = owner.call(move |toy| -> Result<(), TpmError> {
            ready.wait();
            toy.command(ms(50))?;
            panic!("a fault in this job")
        });
        assert_eq!(failed, Err(TpmError::Fault { during: "a toy's command" }));
        assert_eq!(behind.join().unwrap(), Ok(2), "who waited behind is served by a fresh device");
    });
    counts.panics_to_come.store(0, Ordering::SeqCst);
    assert_eq!(owner.call(|toy| toy.command(QUICK)), Ok(2));
}

#[test]
fn a_panic_while_opening_is_that_callers_error_and_hangs_nobody() {
    let (owner, counts) = owner();
    counts.panics_to_come.store(1, Ordering::SeqCst);
    let start = Instant::now();
    assert!(matches!(owner.call(|toy| toy.command(QUICK)), Err(TpmError::Fault { .. })));
    assert_eq!(owner.call(|toy| toy.command(QUICK)), Ok(2));
    assert!(start.elapsed() < limits().command, "took {:?}", start.elapsed());
}

#[test]
fn the_queue_is_bounded_and_a_stuck_command_ends_all_who_wait() {
    let (owner, counts) = owner();
    let start = Instant::now();
    scope(|scope| {
        let stuck = scope.spawn(|| owner.call(|toy| toy.command(ms(250))));
        sleep(ms(20));
        let waiting: Vec<_> = (0..2).map(|_| scope.spawn(|| owner.call(|toy| toy.command(QUICK)))).collect();
        sleep(ms(20));
        assert_eq!(owner.call(|toy| toy.command(QUICK)), Err(TpmError::Busy { waiting: 2 }));
        assert!(matches!(stuck.join().unwrap(), Err(TpmError::Gone { started: true, .. })));
        for caller in waiting {
            let error = caller.join().unwrap().unwrap_err();
            assert!(matches!(error, TpmError::Gone { started: false, .. }), "{error}");
        }
    });
    // Long before the stuck command would have ended by itself.
    assert!(start.elapsed() < ms(240), "took {:?}", start.elapsed());
    let Err(TpmError::Gone { retry_after, started: false, .. }) = owner.call(|toy| toy.command(QUICK)) else {
        panic!("no pause after a failure")
    };
    assert!(!retry_after.is_zero());
    sleep(retry_after);
    assert_eq!(owner.call(|toy| toy.command(QUICK)), Ok(2));
    sleep(ms(200));
    assert_eq!(counts.abandoned.load(Ordering::SeqCst), 1, "the thread that was given up woke, and ended");
    assert_eq!(owner.call(|toy| toy.command(QUICK)), Ok(2));
}

#[test]
fn many_quick_commands_that_never_end_are_ended_by_the_calls_own_limit() {
    let (owner, _) = owner();
    let start = Instant::now();
    let outcome = owner.call(|toy| -> Result<(), TpmError> {
        loop {
            toy.command(ms(10))?;
        }
    });
    assert!(matches!(outcome, Err(TpmError::Gone { started: true, .. })));
    assert!((ms(350)..ms(800)).contains(&start.elapsed()), "took {:?}", start.elapsed());
}

#[test]
fn a_lost_line_says_when_to_retry_and_pauses_grow_until_it_serves_again() {
    let (owner, _) = owner();
    let lose = |owner: &Owner<Toy>| {
        let outcome = owner.call(|toy| -> Result<(), TpmError> {
            toy.sound = false;
            Err(TpmError::gone("a toy's command"))
        });
        let Err(TpmError::Gone { retry_after, .. }) = outcome else { panic!("{outcome:?}") };
        // Who does not wait finds the pause, not a thread about to end.
        assert!(matches!(owner.call(|_| Ok(())), Err(TpmError::Gone { started: false, .. })));
        sleep(retry_after);
        retry_after
    };
    let pauses: Vec<_> = (0..4).map(|_| lose(&owner)).collect();
    assert!(pauses[0] <= limits().pause_min && pauses[1] > limits().pause_min, "{pauses:?}");
    assert!(pauses.iter().all(|pause| !pause.is_zero() && *pause <= limits().pause_max), "{pauses:?}");
    // A refusal is an answer: the line serves again.
    assert_eq!(owner.call(|_| Err::<(), _>(TpmError::PlatformRefused)), Err(TpmError::PlatformRefused));
    assert!(lose(&owner) <= limits().pause_min);
}

#[test]
fn a_command_that_begins_while_a_caller_sleeps_has_its_own_deadline() {
    let counts = Arc::new(Counts::default());
    let owner: Owner<Toy> = Owner::new(counts, Limits { call: Duration::from_secs(20), ..limits() });
    let start = Instant::now();
    let outcome = owner.call(|toy| {
        // Between two commands: the caller looks now, and sees a job that has a lot of time left.
        sleep(Duration::from_millis(60));
        toy.command(Duration::from_secs(10))
    });
    assert!(matches!(outcome, Err(TpmError::Gone { started: true, .. })), "{outcome:?}");
    assert!(start.elapsed() < Duration::from_secs(3), "took {:?}", start.elapsed());
}
