//! Writing what a command makes: never over a file that is there, except where a list replaces its predecessor in one step.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Write},
    path::Path,
};

use crate::cli::{failure::Failure, input::name};

/// Writes a file that is not there yet.
pub(super) fn create(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |source: std::io::Error| {
        let advice = match source.kind() {
            ErrorKind::AlreadyExists => "Choose another name; nothing was changed",
            ErrorKind::NotFound => "Make the directory first",
            _ => "Make room, or choose a directory that you may write to",
        };
        Failure::Save { name: name(path), source, advice }
    };
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}

/// Whether a file could be made here, asked before anything that cannot be undone.
pub(super) fn is_free(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let source = ErrorKind::AlreadyExists.into();
    Err(Failure::Save { name: name(path), source, advice: "Choose another name; nothing was changed" })
}

/// Puts a file in the place of its predecessor: readers see the old one or the new one.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |source| Failure::Save { name: name(path), source, advice: "The file that was there is unchanged" };
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    create(Path::new(&beside), bytes)?;
    std::fs::rename(&beside, path).map_err(failed)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}
