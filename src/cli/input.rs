//! Reading what a command is pointed at: a file or standard input, never more of it than its kind may have.

use std::{
    ffi::OsStr,
    fs::File,
    io::{ErrorKind, Read, stdin},
    path::Path,
};

use crate::cli::{failure::Failure, text::words};

/// What is expected, for errors.
pub(super) struct Expected {
    /// With its article.
    pub(super) what: &'static str,
    /// The longest accepted, in bytes.
    pub(super) bound: usize,
    /// What to do where there is no such file.
    pub(super) missing: &'static str,
}

/// The input as errors and output call it.
pub(super) fn name(path: &Path) -> String {
    if is_stdin(path) { "standard input".to_owned() } else { words(&path.to_string_lossy()) }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == OsStr::new("-")
}

/// Reads a file, or standard input for `-`.
pub(super) fn read(path: &Path, expected: &Expected) -> Result<Vec<u8>, Failure> {
    let Expected { what, bound, missing } = *expected;
    // One byte more than may be there: files below /sys and pipes do not say how long they are.
    let limit = u64::try_from(bound).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let outcome = if is_stdin(path) {
        stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    outcome.map_err(|source| {
        let advice = match source.kind() {
            ErrorKind::NotFound => missing,
            ErrorKind::PermissionDenied => "Whoever owns it, or root, can read it or copy it for you",
            ErrorKind::IsADirectory => "Name one file in it",
            _ => "Check the disk or the connection it is on, and try again",
        };
        Failure::Read { name: name(path), source, advice }
    })?;
    if bytes.len() > bound {
        return Err(Failure::TooLong { name: name(path), bound, what, advice: "Check that this is the right file" });
    }
    Ok(bytes)
}
