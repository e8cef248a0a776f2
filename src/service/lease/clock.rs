//! The clock that leases live by: CLOCK_BOOTTIME. It only goes forward, counts on while the machine sleeps, and nobody can
//! set it; the wall clock is the host's.

use std::{sync::Arc, time::Duration};

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
