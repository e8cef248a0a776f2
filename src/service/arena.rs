//! One locked arena for the keys of all leases: memory that no core dump, no other process and no swap ever sees.
//!
//! A dataset's seed goes in, is expanded there, and is used where it lies: no copy of it stays on the heap. Cells are wiped
//! when their lease ends, when a user of them panics, and when their owner is dropped. Trusts the kernel: `memfd_secret`
//! takes the pages out of every other mapping, the kernel's own included; where a kernel has none, the pages are locked and
//! left out of core dumps, which is less and is said so ([`Protection`]). Neither is handed to a child that is forked.
//! docs/decisions/0010.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use zeroize::Zeroize;

pub use crate::hardware::memory::Protection;
pub use crate::protocol::secret::without_trace;
use crate::{
    hardware::memory,
    protocol::{
        dataset::{DatasetSeed, Recipient},
        hybrid::{EXPANDED_BYTES, ExpandedKey},
    },
};

/// How many dataset keys an arena holds unless told otherwise: sixteen leases of four datasets. 160 KiB, far below the
/// 8 MiB that a process may lock everywhere.
pub const CELLS: usize = 64;

/// What lies in a cell: the seed, then the keys that follow from it.
const CELL_BYTES: usize = SEED_BYTES + EXPANDED_BYTES;
const SEED_BYTES: usize = 32;

/// Why the arena cannot be made or does not take a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArenaError {
    /// Neither secret nor locked memory is to be had.
    #[error(
        "{bytes} bytes of memory cannot be locked, and keys are kept in no other. Raise the limit (LimitMEMLOCK= of the \
         unit, or ulimit -l)"
    )]
    Memory {
        /// How much was asked for.
        bytes: usize,
    },
    /// Every cell is taken.
    #[error("all {cells} places for dataset keys are taken. End a lease, or wait until one ends")]
    Full {
        /// How many there are.
        cells: usize,
    },
    /// The key was wiped before it could be used.
    #[error("the key was wiped: its lease has ended")]
    Wiped,
}

struct Cell {
    bytes: &'static mut [u8; CELL_BYTES],
    filled: bool,
}

impl Cell {
    fn wipe(&mut self) {
        self.bytes.zeroize();
        self.filled = false;
    }
}

/// The memory. One per process: its pages are given back to the kernel when the process ends, wiped long before.
pub struct Arena {
    cells: Vec<RwLock<Cell>>,
    free: Mutex<Vec<usize>>,
    protection: Protection,
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Arena({} of {} free, {})", self.free(), self.cells.len(), self.protection)
    }
}

impl Arena {
    /// An arena for `cells` keys.
    ///
    /// # Errors
    /// [`ArenaError::Memory`].
    pub fn new(cells: usize) -> Result<Arc<Self>, ArenaError> {
        let bytes = cells.saturating_mul(CELL_BYTES);
        memory::allocate(bytes).map(Self::over).ok_or(ArenaError::Memory { bytes })
    }

    fn over((memory, protection): (&'static mut [u8], Protection)) -> Arc<Self> {
        memory.fill(0);
        let (chunks, _) = memory.as_chunks_mut::<CELL_BYTES>();
        let cells: Vec<_> = chunks.iter_mut().map(|bytes| RwLock::new(Cell { bytes, filled: false })).collect();
        let free = Mutex::new((0..cells.len()).rev().collect());
        Arc::new(Self { cells, free, protection })
    }

    /// How its memory is protected.
    pub const fn protection(&self) -> Protection {
        self.protection
    }

    /// How many more keys it takes.
    pub fn free(&self) -> usize {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Takes a seed in, expands it where it lies, and wipes the place that it came from.
    ///
    /// # Errors
    /// [`ArenaError::Full`].
    pub fn keep(self: &Arc<Self>, seed: DatasetSeed) -> Result<Kept, ArenaError> {
        let full = ArenaError::Full { cells: self.cells.len() };
        let at = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop().ok_or(full)?;
        // From here on dropping gives the cell back.
        let mut kept = Kept { arena: Arc::clone(self), at, recipient: None };
        let recipient = without_trace(|| {
            let key = seed.key();
            self.write(at, |cell| {
                let (of_seed, of_keys) = cell.bytes.split_at_mut(SEED_BYTES);
                of_seed.copy_from_slice(seed.expose());
                if let Ok(of_keys) = of_keys.try_into() {
                    key.write_expanded(of_keys);
                }
                cell.filled = true;
            });
            let recipient = key.recipient();
            drop((key, seed));
            recipient
        });
        kept.recipient = Some(recipient);
        Ok(kept)
    }

    fn write(&self, at: usize, change: impl FnOnce(&mut Cell)) {
        if let Some(cell) = self.cells.get(at) {
            change(&mut cell.write().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        (0..self.cells.len()).for_each(|at| self.write(at, Cell::wipe));
    }
}

/// A dataset's key in the arena. Dropping it wipes the cell and gives it back.
pub struct Kept {
    arena: Arc<Arena>,
    at: usize,
    /// `None` only while the seed is being taken in.
    recipient: Option<Recipient>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept(redacted)")
    }
}

impl Kept {
    /// The public half.
    pub const fn recipient(&self) -> Option<&Recipient> {
        self.recipient.as_ref()
    }

    /// Lends the key where it lies. Should `user` panic, the key is wiped.
    ///
    /// # Errors
    /// [`ArenaError::Wiped`] once it was wiped.
    pub fn lend<R>(&self, user: impl FnOnce(&LentKey<'_>) -> R) -> Result<R, ArenaError> {
        // Dropped after the guard below: wiping needs the cell to itself.
        let _on_panic = WipeOnPanic(self);
        let cell = self.arena.cells.get(self.at).ok_or(ArenaError::Wiped)?;
        let cell = cell.read().unwrap_or_else(PoisonError::into_inner);
        let recipient = self.recipient.as_ref().filter(|_| cell.filled).ok_or(ArenaError::Wiped)?;
        let (seed, keys) = cell.bytes.split_first_chunk::<SEED_BYTES>().ok_or(ArenaError::Wiped)?;
        let keys = ExpandedKey::new(keys.try_into().map_err(|_| ArenaError::Wiped)?);
        Ok(user(&LentKey { seed, keys, recipient }))
    }

    /// Wipes the key now. Waits for whoever is using it, which is never longer than one unwrap; nobody uses it after.
    pub fn wipe(&self) {
        self.arena.write(self.at, Cell::wipe);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.wipe();
        self.arena.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.at);
    }
}

struct WipeOnPanic<'a>(&'a Kept);

impl Drop for WipeOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.wipe();
        }
    }
}

/// A key as it lies in the arena.
pub struct LentKey<'a> {
    seed: &'a [u8; SEED_BYTES],
    keys: ExpandedKey<'a>,
    recipient: &'a Recipient,
}

impl std::fmt::Debug for LentKey<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LentKey(redacted)")
    }
}

impl<'a> LentKey<'a> {
    /// The seed. It must not be copied to where it is not wiped.
    pub const fn expose_seed(&self) -> &'a [u8; SEED_BYTES] {
        self.seed
    }

    /// The two private keys that follow from it.
    pub const fn keys(&self) -> ExpandedKey<'a> {
        self.keys
    }

    /// Their public half.
    pub const fn recipient(&self) -> &'a Recipient {
        self.recipient
    }
}

#[cfg(test)]
mod tests;
