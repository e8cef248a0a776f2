//! What `seal` and `open` share: bytes from a file or standard input, through, to a new file or standard output.

use std::{
    ffi::OsStr,
    fs::File,
    io::{ErrorKind, IsTerminal, Read, Write, stdin, stdout},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::cli::{failure::Failure, input, output::Unfinished};

/// As many bytes as one chunk of the age format holds.
const CHUNK_BYTES: usize = 64 * 1024;

/// Opens a file, or standard input for `-`.
pub(super) fn source(path: &Path) -> Result<Box<dyn Read>, Failure> {
    if path.as_os_str() == OsStr::new("-") {
        return Ok(Box::new(stdin().lock()));
    }
    let file = File::open(path).map_err(|source| unread(path, source))?;
    Ok(Box::new(file))
}

fn unread(path: &Path, source: std::io::Error) -> Failure {
    let advice = match source.kind() {
        ErrorKind::NotFound => "Check the path",
        ErrorKind::PermissionDenied => "Whoever owns it, or root, can read it or copy it for you",
        _ => "Check the disk or the connection it is on, and try again; what was written is not whole",
    };
    Failure::Read { name: input::name(path), source, advice }
}

/// Where the outcome goes. A new file has its name only once it is whole.
pub(super) enum Sink<'a> {
    File { file: Unfinished, path: PathBuf },
    Output(&'a mut dyn Write),
}

impl<'a> Sink<'a> {
    /// A file that is not there yet, or standard output.
    pub(super) fn new(path: Option<&Path>, out: &'a mut dyn Write) -> Result<Self, Failure> {
        match path {
            Some(path) => Ok(Self::File { file: Unfinished::begin(path)?, path: path.to_owned() }),
            None => Ok(Self::Output(out)),
        }
    }

    /// Ends it: the file gets its name.
    pub(super) fn finish(self) -> Result<(), Failure> {
        match self {
            Self::File { file, .. } => file.publish(),
            Self::Output(out) => out.flush().map_err(not_taken),
        }
    }

    /// What it means that a write failed.
    pub(super) fn failed(&self, source: std::io::Error) -> Failure {
        match self {
            Self::File { path, .. } => Failure::Save {
                name: input::name(path),
                source,
                advice: "Nothing was left behind. Make room, and start again",
            },
            Self::Output(_) => not_taken(source),
        }
    }
}

/// A reader that stops reading ends other commands quietly; here it has half of something.
fn not_taken(source: std::io::Error) -> Failure {
    Failure::Refused(
        format!("standard output does not take what is written: {source}"),
        "What was written is not whole: throw it away, and start again",
    )
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::File { file, .. } => file.write(bytes),
            Self::Output(out) => out.write(bytes),
        }
    }
    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::File { file, .. } => file.flush(),
            Self::Output(out) => out.flush(),
        }
    }
}

/// A chunk's room, wiped at the end.
pub(super) fn room() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(vec![0; CHUNK_BYTES])
}

/// Reads until the room is full or the source has ended; gives how much there is.
pub(super) fn fill(source: &mut dyn Read, room: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = room.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// The input failed in the middle.
pub(super) fn broken(path: &Path, source: std::io::Error) -> Failure {
    unread(path, source)
}

/// Refuses to fill a screen with bytes that are no text.
pub(super) fn not_to_a_screen(path: Option<&Path>) -> Result<(), Failure> {
    if path.is_none() && stdout().is_terminal() {
        return Err(Failure::Refused(
            "what comes out is no text, and standard output is a terminal".to_owned(),
            "Give --out FILE, or send it elsewhere",
        ));
    }
    Ok(())
}
