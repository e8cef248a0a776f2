//! The watch over the thread that talks to the TPM: what it is doing since when, and whether it was given up.
//!
//! The TPM software stack never times out by itself: an answer that is swallowed on an open line blocks its thread for
//! ever. So each command is stamped here before it is sent; whoever waits looks at the stamp from outside, and once it is
//! too old, gives the thread up. A thread that was given up and wakes later finds that out before its next command, so it
//! never speaks to the TPM beside its successor.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Locks, also after a panic elsewhere: everything guarded so is a plain value that is valid after each statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread was given up; it must not speak to the TPM any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GivenUp;

#[derive(Debug, Default)]
struct Stamps {
    job: Option<Instant>,
    command: Option<Instant>,
    what: &'static str,
    given_up: bool,
}

/// One thread's stamps.
#[derive(Debug, Default)]
pub(crate) struct Watch(Mutex<Stamps>);

impl Watch {
    pub(crate) fn job_begins(&self) -> Result<(), GivenUp> {
        let mut stamps = lock(&self.0);
        if stamps.given_up {
            return Err(GivenUp);
        }
        stamps.job = Some(Instant::now());
        Ok(())
    }

    pub(crate) fn job_ends(&self) {
        let mut stamps = lock(&self.0);
        (stamps.job, stamps.command) = (None, None);
    }

    pub(crate) fn command_begins(&self, what: &'static str) -> Result<(), GivenUp> {
        let mut stamps = lock(&self.0);
        if stamps.given_up {
            return Err(GivenUp);
        }
        stamps.command = Some(Instant::now());
        stamps.what = what;
        Ok(())
    }

    /// An answer that comes after the thread was given up belongs to nobody.
    pub(crate) fn command_ends(&self) -> Result<(), GivenUp> {
        let mut stamps = lock(&self.0);
        stamps.command = None;
        if stamps.given_up { Err(GivenUp) } else { Ok(()) }
    }

    pub(crate) fn is_given_up(&self) -> bool {
        lock(&self.0).given_up
    }

    pub(crate) fn give_up(&self) {
        lock(&self.0).given_up = true;
    }

    /// The command the thread is busy with or was last.
    pub(crate) fn what(&self) -> &'static str {
        lock(&self.0).what
    }

    /// How long the command or job may still take; `None` where nothing runs, zero once it is over its time.
    pub(crate) fn left(&self, per_command: Duration, per_job: Duration) -> Option<Duration> {
        let stamps = lock(&self.0);
        let rest = |since: Option<Instant>, limit: Duration| since.map(|since| limit.saturating_sub(since.elapsed()));
        match (rest(stamps.command, per_command), rest(stamps.job, per_job)) {
            (Some(command), Some(job)) => Some(command.min(job)),
            (command, job) => command.or(job),
        }
    }
}
