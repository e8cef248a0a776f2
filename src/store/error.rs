//! Everything that can go wrong with a store, by who can do something about it.

use std::path::PathBuf;

use crate::store::Key;

/// What a caller can do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Read the record again, decide again, commit again.
    ReadAgain,
    /// The same call may succeed later.
    Retry,
    /// The caller's own mistake: no repetition helps.
    Correct,
    /// Someone must look: the disk, the file or the program's version is not what it should be.
    Examine,
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Someone else changed a record first. Nothing was written.
    #[error(
        "{key} has {}, not {}: someone else changed it first, and nothing was written. Read it again and decide anew",
        versioned(*.found), versioned(*.expected)
    )]
    Conflict {
        /// Which record.
        key: Key,
        /// The version it has; `None`: it does not exist.
        found: Option<u64>,
        /// The version that was expected; `None`: it should not exist.
        expected: Option<u64>,
    },
    /// More than a store takes. Nothing was written.
    #[error("{found} {what} are more than the {bound} that a store takes. Nothing was written; make it smaller")]
    Bounds {
        /// Of what there is too much.
        what: &'static str,
        /// How much.
        found: usize,
        /// The most.
        bound: usize,
    },
    /// An id that no record can have.
    #[error("{} is no record's id: ids are printable ASCII without spaces, and not empty", .id.escape_debug())]
    Id {
        /// The text.
        id: String,
    },
    /// One batch changes a record twice. Nothing was written.
    #[error("{key} stands twice in one commit. Nothing was written; change each record once")]
    Twice {
        /// Which record.
        key: Key,
    },
    /// The disk, or the file's bound, is full. Nothing was written.
    #[error("{}: no room is left, and nothing was written. Free space on its disk, then try again", .path.display())]
    Full {
        /// The store's file.
        path: PathBuf,
    },
    /// Another process or connection held the store too long. Nothing was written.
    #[error(
        "{}: it is in use, and was not free in time; nothing was written. Try again; if it goes on, look for another \
         process that has the file open", .path.display()
    )]
    Busy {
        /// The store's file.
        path: PathBuf,
    },
    /// What was read is not what was written.
    #[error(
        "{}: {what}. The file is damaged: stop the embassy, keep the file for those who examine it, check the disk, and put \
         back the newest backup", .path.display()
    )]
    Corrupt {
        /// The store's file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// A file that is something else.
    #[error("{}: this file is no store of chancery; it was left as it is. Name another file", .path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// A store of a newer chancery.
    #[error(
        "{}: a newer chancery made this store (schema {found}; this one knows up to {known}). It was left as it is; use the \
         newer chancery", .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema that this program knows.
        known: u32,
    },
    /// The disk or the operating system refused. Whether a commit took effect is not known.
    #[error(
        "{}: {cause}. Whether it took effect is not known: read again before deciding. Look at the file's disk, path and \
         permissions", .path.display()
    )]
    Io {
        /// The store's file.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
}

impl StoreError {
    /// What a caller can do about it.
    pub const fn remedy(&self) -> Remedy {
        match self {
            Self::Conflict { .. } => Remedy::ReadAgain,
            Self::Busy { .. } => Remedy::Retry,
            Self::Bounds { .. } | Self::Id { .. } | Self::Twice { .. } => Remedy::Correct,
            Self::Full { .. }
            | Self::Corrupt { .. }
            | Self::NotAStore { .. }
            | Self::Newer { .. }
            | Self::Io { .. } => Remedy::Examine,
        }
    }

    /// Whether a commit that ended so may nevertheless be there: the caller reads again before it acts.
    pub const fn may_have_taken_effect(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Corrupt { .. })
    }
}

fn versioned(version: Option<u64>) -> String {
    version.map_or_else(|| "no record".to_owned(), |version| format!("version {version}"))
}
