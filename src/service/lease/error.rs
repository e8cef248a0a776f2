//! Why an act on leases did not happen, and what happened instead: nothing.

use crate::{
    protocol::{beat::BeatError, notice::NoticeError},
    service::lease::table::{InstallError, UnwrapRefusal},
    store::StoreError,
};

/// The most stanzas in one request.
pub const MAX_STANZAS: usize = 256;

/// Why an act on leases did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// No lease begins.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// Nothing is unwrapped.
    #[error(transparent)]
    Unwrap(#[from] UnwrapRefusal),
    /// The beat is not taken.
    #[error(transparent)]
    Beat(#[from] BeatError),
    /// The stop is not taken.
    #[error(transparent)]
    Stop(#[from] NoticeError),
    /// More stanzas than one request may have.
    #[error("{found} stanzas; one request has 1 to {MAX_STANZAS}")]
    Stanzas {
        /// How many.
        found: usize,
    },
    /// The charter in force does not name this embassy.
    #[error("the charter in force does not name this embassy, so nothing can be said of leases here")]
    NoRules,
    /// It could not be written down, so it did not happen.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record that this program did not write.
    #[error("the record of lease {id} does not read: {error}. The store was written by another version, or is damaged")]
    Record {
        /// Which.
        id: String,
        /// Why.
        error: crate::protocol::wire::WireError,
    },
    /// A task of our own was lost.
    #[error("a fault of chancery's own")]
    Fault,
}
