//! Programs on a worse machine: a kernel that refuses a call, or a user who may do no more than the files' modes say. What is set
//! up holds for one thread and whatever it starts, and ends with them.

use rustix::{process::geteuid, thread::CapabilitySet};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// "No such call", what a kernel without it answers (errno(3)).
pub const ENOSYS: u32 = 38;
/// "No space left on device".
pub const ENOSPC: u32 = 28;

/// The number of `memfd_secret`: one wherever Linux runs (include/uapi/asm-generic/unistd.h).
pub const MEMFD_SECRET: i64 = 447;

/// The number of `fsync`, which differs.
pub fn fsync() -> i64 {
    if cfg!(target_arch = "x86_64") { 74 } else { 82 }
}

/// Runs something that starts programs for which a system call fails.
pub fn refusing<R: Send>(call: i64, error: u32, start: impl FnOnce() -> R + Send) -> R {
    let rules = [(call, Vec::new())].into_iter().collect();
    let (other, this) = (SeccompAction::Allow, SeccompAction::Errno(error));
    let filter = SeccompFilter::new(rules, other, this, std::env::consts::ARCH.try_into().unwrap()).unwrap();
    let filter: BpfProgram = filter.try_into().unwrap();
    aside(|| {
        seccompiler::apply_filter(&filter).unwrap();
        start()
    })
}

/// Runs something that starts programs without a right that root has and others have not.
pub fn without<R: Send>(right: CapabilitySet, start: impl FnOnce() -> R + Send) -> R {
    aside(|| {
        if geteuid().is_root() {
            rustix::thread::remove_capability_from_bounding_set(right).unwrap();
        }
        start()
    })
}

fn aside<R: Send>(act: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| scope.spawn(act).join().unwrap())
}
