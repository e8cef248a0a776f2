//! The one place outside `hardware` with unsafe code: memory from the kernel that is secret, or at least locked.
//!
//! The crate memsec makes the system calls; its functions are unsafe because they give out raw memory. Here that memory
//! becomes one slice for the life of the process, which needs no unsafe code any more. docs/decisions/0010.
#![allow(unsafe_code)]

use std::{os::fd::BorrowedFd, path::Path, ptr::NonNull};

use super::Protection;

/// Memory of so many bytes, for as long as the process lives: `memfd_secret`, else locked pages, else nothing.
pub(super) fn allocate(bytes: usize) -> Option<(&'static mut [u8], Protection)> {
    if bytes == 0 {
        return None;
    }
    // SAFETY: memfd_secret_sized has no precondition; it gives a mapping of its own, or nothing.
    if let Some(memory) = unsafe { memsec::memfd_secret_sized(bytes) } {
        close_on_exec()?;
        return Some((own(memory), Protection::SecretMemory));
    }
    // SAFETY: as above.
    let memory = unsafe { memsec::malloc_sized(bytes) }?;
    // memsec goes on where it could not lock. Keys that can be swapped out are worse than none.
    // SAFETY: the range is the one just allocated; locking it again changes nothing.
    unsafe { memsec::mlock(memory.as_ptr().cast(), bytes) }.then(|| (own(memory), Protection::LockedPages))
}

fn own(mut memory: NonNull<[u8]>) -> &'static mut [u8] {
    // SAFETY: the block was just allocated with this length and filled, nobody else knows it, and it is never freed.
    unsafe { memory.as_mut() }
}

/// memsec opens the secret memory without the flag that keeps it from programs started later.
fn close_on_exec() -> Option<()> {
    let secret = |link: &Path| link.to_string_lossy().contains("secretmem");
    for entry in std::fs::read_dir("/proc/self/fd").ok()? {
        let path = entry.ok()?.path();
        if !std::fs::read_link(&path).is_ok_and(|link| secret(&link)) {
            continue;
        }
        let number = path.file_name()?.to_str()?.parse().ok()?;
        // SAFETY: memsec keeps this descriptor open for as long as the memory lives, which is for ever.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC).ok()?;
    }
    Some(())
}
