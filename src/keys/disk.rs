//! Key files on disk: readable by their owner alone, written whole or not at all, never in place of another key unasked.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::{
    keys::{KeyError, file::KeyFile},
    protocol::wire::Document,
};

const OWNER_ONLY: u32 = 0o600;

/// Reads a key file.
///
/// # Errors
/// [`KeyError::Exposed`] where group or others have any access; [`KeyError::NotAFile`], [`KeyError::Read`], and as
/// [`KeyFile::read_from`].
pub fn load(path: &Path) -> Result<KeyFile, KeyError> {
    let failed = |source| KeyError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    // Asked of the open file, so that nobody swaps it in between.
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(KeyError::NotAFile { path: path.to_owned() });
    }
    let mode = about.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    // One byte more than may be there, so that a longer file is refused and not cut.
    file.take(KeyFile::MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    KeyFile::read_from(&bytes)
}

/// Whether a key may replace another one that stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// Refuse.
    No,
    /// The person said so.
    Yes,
}

/// Writes a key file: to a temporary name beside it, durably, then to its own.
///
/// # Errors
/// [`KeyError::Exists`] and [`KeyError::Write`]; either way what stood there before stands there still.
pub fn store(path: &Path, key: &KeyFile, replace: Replace) -> Result<(), KeyError> {
    write(path, &key.encode(), replace)
}

/// Writes any file in the same way: whole, durable and for its owner alone, or not at all.
///
/// # Errors
/// As [`store`].
pub fn write(path: &Path, bytes: &[u8], replace: Replace) -> Result<(), KeyError> {
    let failed = |source| KeyError::Write { path: path.to_owned(), source };
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| failed(ErrorKind::InvalidInput.into()))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.new", std::process::id()));
    let temporary = Temporary(folder.join(temporary));

    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(&temporary.0).map_err(failed)?;
    file.set_permissions(Permissions::from_mode(OWNER_ONLY)).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    match replace {
        Replace::Yes => std::fs::rename(&temporary.0, path).map_err(failed)?,
        // A link fails where the name is taken, in one step; a rename would silently replace it.
        Replace::No => std::fs::hard_link(&temporary.0, path).map_err(|source| match source.kind() {
            ErrorKind::AlreadyExists => KeyError::Exists { path: path.to_owned() },
            _ => failed(source),
        })?,
    }
    drop(temporary);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// A name that does not outlive its use.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename it is gone already.
        let _ = std::fs::remove_file(&self.0);
    }
}
