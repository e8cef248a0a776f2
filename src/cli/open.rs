//! `chancery open`: a filter that decrypts an age file with a key that an embassy unwraps under a lease, or that was released.
//!
//! Under a lease the file's stanza goes to the embassy, the file's key comes back, over a hybrid exchange only; the rest
//! happens here. The file is untrusted: its header is bounded, and no byte of it comes out before the chunk that it stands in
//! was authenticated.

use std::{
    cell::{Cell, RefCell},
    io::{BufRead, BufReader, Error, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    rc::Rc,
};

use age::{DecryptError, Decryptor, armor::ArmoredReader};
use age_core::format::{FileKey, Stanza};
use chancery::{
    client::{Exchange, unwrap::unwrap},
    keys::{
        KeyError, disk,
        file::{KeyKind, PrivateKey},
    },
    protocol::{
        dataset::{DatasetKey, DatasetSeed, TaggedStanza},
        ids::{CeremonyId, DatasetName},
        secret::Secret,
    },
};
use clap::Args;

use crate::cli::{
    ask,
    connection::{Line, Visit},
    failure::Failure,
    input,
    memory::State,
    network::Whereabouts,
    output,
    stream::{self, Sink},
    text::{hash, words},
};

/// Longer than the header of a file for thirty datasets.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// The header's parser begins anew with each line: with more of them it would take minutes.
const HEADER_LINES_MAX: usize = 512;
/// An armoured file has lines of 64 characters.
const ARMOUR_LINE_MAX: usize = 1024;
/// As many stanzas of one file are sent: each costs the lease's budget one.
const STANZAS_MAX: usize = 16;

const AFTER_HELP: &str = "\
Examples:
  chancery open register.age --dir replicator --embassy luxembourg --server https://embassy.example:8443 \\
    --lease 5b0c... --dataset land-register --out register.dump
  chancery open --dir replicator ... < register.age | psql land
  chancery open register.age --key keys/land-register.1.key --out register.dump      (a dataset that was released to you)

The exit status is 0 only if all of it was opened. What comes out before a failure is authentic, and not all: a file named with \
--out appears when it is whole, and a reader of standard output has to wait for the exit status.";

/// Decrypt an age file: under a lease, or with a released key
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// What to decrypt; standard input without it
    #[arg(value_name = "FILE", default_value = "-")]
    input: PathBuf,
    /// The lease: the id of the ceremony that it came from
    #[arg(long, value_name = "ID", value_parser = lease, required_unless_present = "key", requires_all = ["dataset", "server"])]
    lease: Option<CeremonyId>,
    /// The dataset that the file is encrypted to
    #[arg(long, value_name = "DATASET", requires = "lease")]
    dataset: Option<DatasetName>,
    /// Instead of a lease: the key that `chancery release collect` wrote
    #[arg(long, value_name = "FILE", conflicts_with_all = ["lease", "server"])]
    key: Option<PathBuf>,
    /// Read the passphrase of --key from this open file descriptor instead of the terminal
    #[arg(long, value_name = "N", requires = "key")]
    passphrase_fd: Option<u32>,
    /// The decrypted file, a new one; standard output without it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Your directory, with home.crt, home.crl, connection.crt, connection.key and charters/ in it
    #[arg(long, value_name = "DIRECTORY", required_unless_present = "key", conflicts_with = "key")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    state: State,
    #[command(flatten)]
    visit: Visit,
}

fn lease(text: &str) -> Result<CeremonyId, &'static str> {
    hash(text).map(CeremonyId).ok_or("a lease's id has 64 hexadecimal digits; `chancery official status` shows it")
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let Arguments { input: from, out: to, key, passphrase_fd, .. } = arguments;
    if let Some(to) = to {
        output::is_free(to)?;
    }
    let (left, source) = (Rc::new(Cell::new(Some((HEADER_BYTES_MAX, HEADER_LINES_MAX)))), unarmoured(from)?);
    let bounded = Bounded { source, left: Rc::clone(&left) };
    let decryptor = Decryptor::new_buffered(BufReader::new(bounded)).map_err(|error| refused(from, &error))?;
    left.set(None);

    let mut reader = match key {
        Some(key) => {
            let key = released(key, *passphrase_fd)?;
            let identity: &dyn age::Identity = &key;
            decryptor.decrypt(std::iter::once(identity)).map_err(|error| match error {
                DecryptError::NoMatchingKeys => for_others(from, "this dataset version"),
                error => refused(from, &error),
            })?
        }
        None => {
            let identity = leased(arguments)?;
            let reader = decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity));
            match (reader, identity.failure.take()) {
                (_, Some(failure)) => return Err(failure),
                (Err(DecryptError::NoMatchingKeys), None) => {
                    return Err(for_others(
                        from,
                        &format!("{}, in the version that the lease opens", identity.dataset),
                    ));
                }
                (Err(error), None) => return Err(refused(from, &error)),
                (Ok(reader), None) => reader,
            }
        }
    };

    let mut room = stream::room();
    // The first chunk is authentic before anything is made that could be taken for an outcome.
    let mut length = stream::fill(&mut reader, &mut room).map_err(|error| altered(from, error))?;
    let mut sink = Sink::new(to.as_deref(), out)?;
    loop {
        sink.write_all(room.get(..length).unwrap_or_default()).map_err(|error| sink.failed(error))?;
        if length < room.len() {
            return sink.finish();
        }
        length = stream::fill(&mut reader, &mut room).map_err(|error| altered(from, error))?;
    }
}

fn for_others(path: &Path, whom: &str) -> Failure {
    Failure::Refused(
        format!("{} is not encrypted to {whom}", input::name(path)),
        "Ask whoever made it to which dataset and version it was sealed",
    )
}

/// A dataset's key that was released to whoever knows the passphrase.
fn released(path: &Path, passphrase_fd: Option<u32>) -> Result<DatasetKey, Failure> {
    let file = disk::load(path)?;
    if file.kind() != KeyKind::Dataset {
        return Err(KeyError::Kind { found: file.kind(), expected: KeyKind::Dataset }.into());
    }
    let passphrase = ask::once(&format!("passphrase of {}", file.name()), passphrase_fd, "--passphrase-fd")?;
    match file.open(&passphrase)? {
        PrivateKey::Hybrid(key) => {
            let mut copy = Secret::zeroed();
            copy.expose_mut().copy_from_slice(key.seed().expose());
            Ok(DatasetSeed::new(copy).key())
        }
        PrivateKey::Scalar(_) => Err(KeyError::Damaged.into()),
    }
}

/// The embassy that holds the lease, ready to be asked.
fn leased(arguments: &Arguments) -> Result<Leased, Failure> {
    let Arguments { lease: Some(lease), dataset: Some(dataset), dir: Some(dir), state, visit, .. } = arguments else {
        return Err(Failure::Refused(
            "no lease is named".to_owned(),
            "Give --lease, --dataset, --dir, --embassy and --server; or --key with a released key",
        ));
    };
    // The memory's lock is not held while the embassy is waited for.
    let line = {
        let in_force = Whereabouts { dir: Some(dir), home: None, charters: None, state }.open()?;
        visit.open(&in_force, Some(dir), Exchange::HybridRequired)?
    };
    let (asked, failure) = (Cell::new(0), RefCell::new(None));
    Ok(Leased { line, lease: *lease, dataset: dataset.clone(), asked, failure })
}

/// Has stanzas unwrapped by the embassy.
struct Leased {
    line: Line,
    lease: CeremonyId,
    dataset: DatasetName,
    asked: Cell<usize>,
    failure: RefCell<Option<Failure>>,
}

impl Leased {
    fn ask(&self, stanza: &TaggedStanza) -> Result<Option<FileKey>, Failure> {
        self.asked.set(self.asked.get().saturating_add(1));
        if self.asked.get() > STANZAS_MAX {
            return Err(Failure::Refused(
                format!("the file is for more than {STANZAS_MAX} datasets, and the first {STANZAS_MAX} are others"),
                "Ask whoever made it to seal to fewer",
            ));
        }
        match self.line.wait(unwrap(&self.line.client, &self.lease, &self.dataset, stanza))? {
            Ok(key) => Ok(key.map(FileKey::from)),
            Err(why) => Err(Failure::Refused(
                format!("{} refused the file's stanza: {}", self.line.client.embassy(), words(&why)),
                "The file was altered, or made in error: ask whoever made it for it again",
            )),
        }
    }
}

impl age::Identity for Leased {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        let arguments: Vec<&str> =
            std::iter::once(stanza.tag.as_str()).chain(stanza.args.iter().map(String::as_str)).collect();
        let asked = match TaggedStanza::parse(&arguments, &stanza.body) {
            Ok(None) => return None,
            Ok(Some(stanza)) => self.ask(&stanza),
            Err(error) => Err(Failure::Refused(
                format!("the file's header is not what it should be: {error}"),
                "Ask whoever made the file for it again",
            )),
        };
        match asked {
            Ok(key) => key.map(Ok),
            Err(failure) => {
                self.failure.replace(Some(failure));
                Some(Err(DecryptError::DecryptionFailed))
            }
        }
    }
}

/// The file without its armour, if it has one.
fn unarmoured(path: &Path) -> Result<Box<dyn Read>, Failure> {
    let mut source = BufReader::new(stream::source(path)?);
    let start = source.fill_buf().map_err(|error| stream::broken(path, error))?;
    if start.starts_with(b"-----BEGIN") {
        return Ok(Box::new(ArmoredReader::new(Lines { source, column: 0 })));
    }
    Ok(Box::new(source))
}

/// A reader that refuses lines without an end, which whoever reads line by line would keep in memory.
struct Lines<R> {
    source: R,
    column: usize,
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        // No more at once than a line may have: none is passed over.
        let bound = room.len().min(ARMOUR_LINE_MAX);
        let count = self.source.read(room.get_mut(..bound).unwrap_or_default())?;
        let read = room.get(..count).unwrap_or_default();
        self.column = match read.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => count.saturating_sub(end),
            None => self.column.saturating_add(count),
        };
        if self.column > 2 * ARMOUR_LINE_MAX {
            return Err(Error::other("it is armoured, and has a line without an end"));
        }
        Ok(count)
    }
}

/// A reader that gives no more bytes and lines than a header may have, until the header was read.
struct Bounded {
    source: Box<dyn Read>,
    left: Rc<Cell<Option<(usize, usize)>>>,
}

impl Read for Bounded {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        let Some((bytes, lines)) = self.left.get() else { return self.source.read(room) };
        let bound = bytes.min(room.len());
        if bound == 0 || lines == 0 {
            return Err(Error::other("its header has no end"));
        }
        let count = self.source.read(room.get_mut(..bound).unwrap_or_default())?;
        let ends = room.iter().take(count).filter(|byte| **byte == b'\n').count();
        // More is asked for only where the header did not end in what there was.
        self.left.set(Some((bytes.saturating_sub(count), lines.saturating_sub(ends))));
        Ok(count)
    }
}

fn refused(path: &Path, error: &DecryptError) -> Failure {
    let name = input::name(path);
    let (what, advice) = match error {
        DecryptError::Io(error) if error.kind() != ErrorKind::UnexpectedEof => (
            format!("{name} cannot be read as an age file: {error}"),
            "Check that it is all there; nothing was written",
        ),
        DecryptError::Io(_) | DecryptError::InvalidHeader | DecryptError::UnknownFormat => (
            format!("{name} is not a file in the age format, or ends in its header"),
            "Check that this is the right file, and all of it; nothing was written",
        ),
        _ => (
            format!("{name} does not open with its key: its header was altered"),
            "Take another copy; nothing was written",
        ),
    };
    Failure::Refused(what, advice)
}

fn altered(path: &Path, error: Error) -> Failure {
    Failure::Refused(
        format!("{} was altered or is cut off: {error}", input::name(path)),
        "Take another copy. No file was left behind; what went to standard output before is not all of it",
    )
}
