//! Every way in which a command ends without having done its work; each says what happened, who can act, and what to do next.

use std::io;

use chancery::{
    client::{
        ClientError,
        official::{DirectoryError, ReviewError},
    },
    keys::{KeyError, issue::IssueError, token::TokenError},
    protocol::{certificate::CertificateError, evidence::eventlog::EventLogError, wire::WireError},
};

use crate::cli::text::words;

/// Why a command refused. Names of files and text from them are already escaped.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The service did not start, or ended in an error.
    #[cfg(feature = "service")]
    #[error("{0}")]
    Serve(String),
    /// The input cannot be read.
    #[error("{name} cannot be read: {source}.\n{advice}")]
    Read { name: String, source: io::Error, advice: &'static str },
    /// The input is longer than anything of its kind.
    #[error("{name} has more than {bound} bytes, the most that {what} may have. The rest was not read.\n{advice}")]
    TooLong { name: String, bound: usize, what: &'static str, advice: &'static str },
    /// The event log does not parse.
    #[error(
        "{name} is refused: {error}.\nNothing of it is shown, since its events cannot be told apart. Copy the log from the \
         machine again, in binary; if it is refused again, the machine's administrator has to explain it"
    )]
    EventLog { name: String, error: EventLogError },
    /// The input does not open with a label.
    #[error(
        "{name} is not a chancery document: it does not open with a label.\nAsk its sender what it is. `chancery eventlog` \
         reads boot event logs; dataset files in the age format are for age"
    )]
    NoLabel { name: String },
    /// The input opens with a label that this version does not know.
    #[error(
        "{name} opens with the label {label}, which this version of chancery does not know.\nIf a newer chancery wrote it, \
         use that one; else ask its sender for it again"
    )]
    UnknownLabel { name: String, label: String },
    /// The input opens with a label that never stands at the head of a file.
    #[error(
        "{name} opens with the label {label}, which is for hashes, keys and signatures and never opens a file.\nAsk its \
         sender what it is"
    )]
    NoDocument { name: String, label: &'static str },
    /// The document's type is not in this build.
    #[error(
        "{name} opens with the label {label}: it is an embassy's store of its TPM, which this build without the TPM driver \
         does not read.\nUse the chancery that runs at the embassy"
    )]
    NeedsHardware { name: String, label: &'static str },
    /// The document does not decode.
    #[error(
        "{name} says that it is {kind}, but is refused: {error}.\nAsk its sender for it again; nothing of it is used"
    )]
    Document { name: String, kind: &'static str, error: WireError },
    /// The document decodes, but contradicts itself.
    #[error("{name} is {kind}, and it does not hold: {wrong}.\nDo not rely on it; ask its sender for another copy")]
    Wrong { name: String, kind: &'static str, wrong: String },
    /// A private key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// An official's directory does not give what is needed.
    #[error("{}", words(&.0.to_string()))]
    Directory(#[from] DirectoryError),
    /// An offer is not put before the official, or nothing was contributed to it.
    #[error("{}", words(&.0.to_string()))]
    Review(#[from] ReviewError),
    /// An embassy was not reached, not believed, or said no. Its own words may be among these.
    #[error("{}", words(&.0.to_string()))]
    Client(#[from] ClientError),
    /// A certificate was not made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// A certificate, request or list is not what it should be.
    #[error("{name}: {error}.\n{advice}")]
    Certificate { name: String, error: CertificateError, advice: &'static str },
    /// A passphrase or PIN cannot be had.
    #[error(
        "the {what} cannot be read: {source}.\nStart the command in a terminal, or give {option} N with an open file descriptor"
    )]
    Ask { what: String, source: io::Error, option: &'static str },
    /// Two entries of a new passphrase differ.
    #[error("the two entries of the {what} differ.\nStart again; no key was made")]
    Differ { what: String },
    /// A file cannot be written.
    #[error("{name} cannot be written: {source}.\n{advice}")]
    Save { name: String, source: io::Error, advice: &'static str },
    /// What was asked for is not possible, in one sentence, and what to do in a second.
    #[error("{0}.\n{1}")]
    Refused(String, &'static str),
    /// The policy says no.
    #[cfg(feature = "service")]
    #[error("no: {what}")]
    Denied { what: String },
    /// Standard output does not take what is written.
    #[error("standard output cannot be written: {0}.\nMake room, or send it elsewhere, and try again")]
    Output(io::Error),
}

impl From<io::Error> for Failure {
    /// Only writing gives a bare [`io::Error`]; reading goes through `input`, which names the file.
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
