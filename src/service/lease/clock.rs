//! The clock that leases live by: CLOCK_BOOTTIME, in agreement with the TPM's. It only goes forward, counts on while the
//! machine sleeps, and nobody on the machine can set it; the wall clock is the host's. Whoever runs the machine can slow it
//! or hold it, and not the TPM's with it: where that one has gone on further, it counts. protocol.md §17.4, decision 18.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::hardware::{Clock, TpmError};

/// So far may the TPM's clock be ahead before it counts: clocks are no two alike. A lease lasts at most this much longer.
pub const AGREEMENT: Duration = Duration::from_secs(10);

/// Time since the machine was booted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(Duration);

impl BootTime {
    /// So long after the boot.
    pub const fn new(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// How long before `self` that was; nothing where it was later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// So much later.
    #[must_use]
    pub const fn plus(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }

    /// So much earlier, and never before the boot.
    #[must_use]
    pub const fn minus(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(time))
    }
}

/// Where the boot's clock is read.
pub type BootClock = Arc<dyn Fn() -> BootTime + Send + Sync>;

/// The kernel's.
pub fn boot_clock() -> BootClock {
    Arc::new(|| {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        BootTime(Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0)))
    })
}

/// Where the TPM's clock is read. It may take a TPM's time: not on a thread that serves.
pub type TpmClock = Arc<dyn Fn() -> Result<Clock, TpmError> + Send + Sync>;

/// What a comparison showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// There was nothing to compare with: both clocks count from here.
    Begun,
    /// They agree, or the boot's is ahead.
    Agree,
    /// The TPM's was further ahead than [`AGREEMENT`], by so much more than was known, and counts.
    Ahead(Duration),
    /// The TPM was reset meanwhile: both count from here, and what was known to be ahead stays.
    Reset,
}

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
struct Moment {
    boot: BootTime,
    tpm: Duration,
    reset_count: u32,
}

/// Both clocks as one: the later.
pub struct Later {
    boot: BootClock,
    tpm: TpmClock,
    /// Milliseconds that are added to the boot's clock. It never shrinks: time does not go back.
    ahead: AtomicU64,
    began: Mutex<Option<(Moment, u64)>>,
}

impl Later {
    /// The boot's clock, until they are compared.
    pub const fn new(boot: BootClock, tpm: TpmClock) -> Self {
        Self { boot, tpm, ahead: AtomicU64::new(0), began: Mutex::new(None) }
    }

    /// Now. Asks no TPM.
    pub fn now(&self) -> BootTime {
        (self.boot)().plus(Duration::from_millis(self.ahead.load(Ordering::Acquire)))
    }

    /// There is nothing to compare for: the next comparison begins anew.
    pub fn forget(&self) {
        *self.began.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Asks the TPM, and goes by its clock from now on where it is too far ahead.
    ///
    /// # Errors
    /// The TPM's. Nothing changes then, and the next comparison covers this one's time as well.
    pub fn compare(&self) -> Result<Compared, TpmError> {
        let before = (self.boot)();
        let clock = (self.tpm)()?;
        let after = (self.boot)();
        let (tpm, reset_count) = (Duration::from_millis(clock.milliseconds), clock.reset_count);
        let mut held = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        // From before the first answer to after this one: the time that a slow TPM takes is not taken for a lead.
        let anew = Some((Moment { boot: before, tpm, reset_count }, self.ahead.load(Ordering::Acquire)));
        let Some((began, known)) = *held else {
            *held = anew;
            return Ok(Compared::Begun);
        };
        if began.reset_count != reset_count {
            *held = anew;
            return Ok(Compared::Reset);
        }
        let lead = tpm.saturating_sub(began.tpm).saturating_sub(after.since(began.boot));
        if lead <= AGREEMENT {
            return Ok(Compared::Agree);
        }
        let ahead = known.saturating_add(u64::try_from(lead.as_millis()).unwrap_or(u64::MAX));
        let earlier = self.ahead.fetch_max(ahead, Ordering::AcqRel);
        Ok(match ahead.saturating_sub(earlier) {
            0 => Compared::Agree,
            more => Compared::Ahead(Duration::from_millis(more)),
        })
    }
}
