//! What can go wrong with the simulated hardware, and what to do about it.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// A failure of the simulation itself, or a refusal by a simulated TPM.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program the simulation is made of is not installed.
    #[error("{tool} was not found: run `make setup`, which installs it")]
    ToolMissing {
        /// The program or library.
        tool: String,
    },
    /// A program ran and failed.
    #[error("{tool} failed ({status}); it said:\n{output}")]
    ToolFailed {
        /// The program.
        tool: String,
        /// Its exit status.
        status: String,
        /// What it wrote, its end if that was long.
        output: String,
    },
    /// Something did not happen in time. The machine it concerns is best powered off and on again.
    #[error("{what} did not happen within {seconds} s: is this machine overloaded?", seconds = .after.as_secs_f32())]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
    },
    /// A file or socket operation failed.
    #[error("{what} {}: {source}", .path.display())]
    Io {
        /// What was attempted, as a verb.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The operating system refused something that has no path: a socket pair, a thread, random bytes.
    #[error("the operating system refused {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The machine has no power, so its TPM answers nothing: power it on first.
    #[error("machine {machine} is off: power it on first")]
    PoweredOff {
        /// Which machine.
        machine: String,
    },
    /// The machine is on, and the operation needs it off.
    #[error("machine {machine} is on: power it off first")]
    PoweredOn {
        /// Which machine.
        machine: String,
    },
    /// The TPM's process is gone, or stopped speaking, while the machine was on.
    #[error("the TPM of {machine} is gone ({why}): power the machine off and on again; its log is {}", .log.display())]
    TpmGone {
        /// Which machine.
        machine: String,
        /// What was seen.
        why: String,
        /// The TPM process's own log.
        log: PathBuf,
    },
    /// The TPM refused a command of the firmware or of the factory.
    #[error("the TPM refused {command} with response code {code:#05x}")]
    Refused {
        /// The command's name.
        command: &'static str,
        /// TPM 2.0 Library, part 2, section 6.6.
        code: u32,
    },
    /// The TPM answered something that does not parse.
    #[error("the TPM's answer to {command} is malformed")]
    Malformed {
        /// The command's name.
        command: &'static str,
    },
    /// Bytes that were to be sent to the TPM are not one whole command.
    #[error(
        "{length} bytes are not one TPM command: a header of 10 bytes that states the length, at most 4096, is needed"
    )]
    NotACommand {
        /// How many bytes there were.
        length: usize,
    },
    /// A name that cannot name a machine or token.
    #[error(
        "{name:?} cannot be a name here: use 1 to 32 letters, digits, '-', '_' or '.', starting with a letter or digit"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// A directory that the programs the simulation is made of could not be told about.
    #[error(
        "{path:?} cannot hold a rack: swtpm needs a path without commas and line ends, choose another directory or TMPDIR"
    )]
    BadDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// No socket path below the kernel's limit could be made.
    #[error("socket path {} has {length} bytes and the kernel allows 107: put the rack, or TMPDIR, somewhere shorter", .path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// Another process, or another value in this one, holds the machine.
    #[error("machine {machine} is held by someone else: it has one owner at a time, drop or end that first")]
    InUse {
        /// Which machine.
        machine: String,
    },
    /// A part of a boot profile that does not exist, or cannot have that value.
    #[error("{problem}")]
    BadSetting {
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A file that describes something to the simulation does not say it right.
    #[error("{}:{line}: {problem}", .path.display())]
    BadProfile {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    pub(crate) fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
