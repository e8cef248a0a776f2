//! Writing what a command makes: never over a file that is there, except where a list replaces its predecessor in one step.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
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

/// A new file under another name, which gets its own name once it is whole. Dropped before, it is gone.
pub(super) struct Unfinished {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Unfinished {
    /// Begins a file that only its owner may read.
    pub(super) fn begin(path: &Path) -> Result<Self, Failure> {
        is_free(path)?;
        let failed = |source| Failure::Save {
            name: name(path),
            source,
            advice: "Make room, or choose a directory that you may write to",
        };
        let file_name = path.file_name().ok_or_else(|| failed(ErrorKind::InvalidInput.into()))?;
        let mut temporary = OsString::from(".");
        temporary.push(file_name);
        temporary.push(format!(".{}.part", std::process::id()));
        let temporary = path.with_file_name(temporary);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(failed)?;
        Ok(Self { file, temporary, path: path.to_owned() })
    }

    /// Makes it durable under its name, which must still be free.
    pub(super) fn publish(self) -> Result<(), Failure> {
        let failed = |source| Failure::Save {
            name: name(&self.path),
            source,
            advice: "Nothing was left behind. Make room, or choose another name",
        };
        self.file.sync_all().map_err(failed)?;
        // A link fails where the name is taken, in one step; a rename would silently replace what stands there.
        std::fs::hard_link(&self.temporary, &self.path).map_err(failed)?;
        sync_folder(&self.path).map_err(failed)
    }
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Its other name, if it got that far, is the file; nobody is left to tell where this one cannot be removed.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all())
}

/// Puts a file in the place of its predecessor: readers see the old one or the new one.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |source| Failure::Save { name: name(path), source, advice: "The file that was there is unchanged" };
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    create(Path::new(&beside), bytes)?;
    std::fs::rename(&beside, path).map_err(failed)?;
    sync_folder(path).map_err(failed)
}
