//! The machine's memory for keys: from the kernel, secret, or at least locked.
//!
//! The crate memsec makes the system calls; its functions are unsafe because they give out raw memory. Here that memory
//! becomes one slice for the life of the process, which needs no unsafe code any more. docs/decisions/0010.
#![allow(unsafe_code)]

use std::{os::fd::BorrowedFd, path::Path, ptr::NonNull};

use rustix::mm::{Advice, madvise};

/// How memory for keys is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// `memfd_secret`: out of the kernel's own mapping, of core dumps, of `/proc/pid/mem` and of swap.
    SecretMemory,
    /// Locked pages that core dumps leave out. A process that may read this one's memory can read them.
    LockedPages,
}

impl std::fmt::Display for Protection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SecretMemory => "secret memory (memfd_secret)",
            Self::LockedPages => "locked pages only: this kernel has no memfd_secret",
        })
    }
}

/// Memory of so many bytes, for as long as the process lives: `memfd_secret`, else locked pages, else nothing.
pub fn allocate(bytes: usize) -> Option<(&'static mut [u8], Protection)> {
    if bytes == 0 {
        return None;
    }
    // SAFETY: memfd_secret_sized has no precondition; it gives a mapping of its own, or nothing.
    if let Some(memory) = unsafe { memsec::memfd_secret_sized(bytes) } {
        close_on_exec()?;
        return Some((own(memory)?, Protection::SecretMemory));
    }
    locked(bytes)
}

/// The second best: pages that are never swapped out, and that core dumps leave out.
pub fn locked(bytes: usize) -> Option<(&'static mut [u8], Protection)> {
    // SAFETY: malloc_sized has no precondition; it gives a block of its own on pages of its own, or nothing.
    let memory = unsafe { memsec::malloc_sized(bytes) }?;
    // memsec goes on where it could not lock. Keys that can be swapped out are worse than none.
    // SAFETY: the range is the one just allocated; locking it again changes nothing.
    let held = unsafe { memsec::mlock(memory.as_ptr().cast(), bytes) };
    held.then(|| own(memory))?.map(|memory| (memory, Protection::LockedPages))
}

/// One slice for ever, in this process alone: neither lock nor secrecy keeps pages from a child that is forked.
fn own(mut memory: NonNull<[u8]>) -> Option<&'static mut [u8]> {
    let into_page = memory.as_ptr().cast::<u8>().addr() % rustix::param::page_size();
    let length = memory.len() + into_page;
    // SAFETY: memsec lays the block on pages on which nothing else lies but its own mark in front; no child of this process
    // runs without a new program, so none misses them.
    unsafe { madvise(memory.as_ptr().cast::<u8>().sub(into_page).cast(), length, Advice::LinuxDontFork) }.ok()?;
    // SAFETY: the block was just allocated with this length and filled, nobody else knows it, and it is never freed.
    Some(unsafe { memory.as_mut() })
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
