//! What this machine has seen of a network, kept so that an older charter or a lower dataset version is noticed.
//!
//! One small document each, in a directory of the network's, behind a lock, so that two commands at a time never lower what
//! a third one saw. Whoever can write to the directory can make this machine forget: keep it where only its owner can.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use chancery::protocol::{
    charter::{CharterSeen, VerifiedCharter},
    dataset_version::{SeenVersion, SignedVersion},
    ids::{CharterId, DatasetName},
    wire::Document,
};
use clap::Args;

use crate::cli::{
    failure::Failure,
    input::{self, Expected},
    output,
};

/// Where this machine keeps what it has seen.
#[derive(Args)]
pub(super) struct State {
    /// Where this machine remembers what it has seen [default: ~/.local/state/chancery]
    #[arg(long, value_name = "DIRECTORY")]
    state: Option<PathBuf>,
}

impl State {
    /// The directory, named or where such things belong (XDG Base Directory Specification).
    pub(super) fn directory(&self) -> Result<PathBuf, Failure> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        self.state
            .clone()
            .or_else(|| absolute("XDG_STATE_HOME").map(|state| state.join("chancery")))
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state/chancery")))
            .ok_or_else(|| {
                Failure::Refused(
                    "there is no home directory to remember in what was seen".to_owned(),
                    "Give --state DIRECTORY, the same one each time",
                )
            })
    }

    /// Opens the memory of one network, and keeps others out until it is dropped.
    pub(super) fn open(&self, network: CharterId) -> Result<Memory, Failure> {
        Memory::open(&self.directory()?, network)
    }
}

/// The memory of one network, locked.
pub(super) struct Memory {
    folder: PathBuf,
    network: CharterId,
    _lock: File,
}

impl Memory {
    fn open(state: &Path, network: CharterId) -> Result<Self, Failure> {
        let folder = state.join(network.to_string());
        let failed = |source| Failure::Save {
            name: input::name(&folder),
            source,
            advice: "Without a memory an older charter would not be noticed. Give --state with a directory of yours",
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
        let path = folder.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        lock.lock().map_err(failed)?;
        Ok(Self { folder, network, _lock: lock })
    }

    /// Takes a charter in force, unless a later or another one was seen before.
    pub(super) fn take_charter(&self, offered: &VerifiedCharter) -> Result<(), Failure> {
        let seen: Option<CharterSeen> = self.read("charter.seen")?;
        let now = CharterSeen::check(seen.as_ref(), offered).map_err(|error| {
            Failure::Refused(error.to_string(), "Get the newest charters from home, and ask who gave you these")
        })?;
        self.write("charter.seen", seen.as_ref(), &now)
    }

    /// The highest version of a dataset that was seen.
    pub(super) fn version(&self, dataset: &DatasetName) -> Result<Option<SeenVersion>, Failure> {
        let seen: Option<SeenVersion> = self.read(&file_of(dataset))?;
        match seen {
            Some(seen) if seen.charter != self.network || seen.dataset != *dataset => Err(self.damaged(dataset)),
            seen => Ok(seen),
        }
    }

    /// Takes a version that its owner signed, unless a higher one or another recipient was seen before.
    pub(super) fn take_version(&self, offered: &SignedVersion) -> Result<(), Failure> {
        let dataset = &offered.description().dataset;
        let seen = self.version(dataset)?;
        let now = SeenVersion::check_not_lower(seen.as_ref(), offered).map_err(|error| {
            Failure::Refused(error.to_string(), "Encrypt nothing to it. Get the newest record from the data owner")
        })?;
        self.write(&file_of(dataset), seen.as_ref(), &now)
    }

    fn damaged(&self, dataset: &DatasetName) -> Failure {
        let what = format!("{} is of another dataset", input::name(&self.folder.join(file_of(dataset))));
        Failure::Refused(what, "Find out who put it there. Once you know what was seen last, remove it")
    }

    fn read<T: Document>(&self, file: &str) -> Result<Option<T>, Failure> {
        let path = self.folder.join(file);
        if let Err(error) = path.symlink_metadata() {
            // Anything but its plain absence would silently be a forgotten memory.
            return match error.kind() {
                ErrorKind::NotFound => Ok(None),
                _ => Err(Failure::Read {
                    name: input::name(&path),
                    source: error,
                    advice: "Check the disk that it is on, and try again",
                }),
            };
        }
        let expected = Expected { what: "what was seen", bound: T::MAX_BYTES, missing: "Try again" };
        let bytes = input::read(&path, &expected)?;
        T::decode(&bytes).map(Some).map_err(|error| {
            let what = format!("{} is damaged: {error}", input::name(&path));
            Failure::Refused(what, "Find out why. Once you know what was seen last, remove it")
        })
    }

    fn write<T: Document + PartialEq>(&self, file: &str, seen: Option<&T>, now: &T) -> Result<(), Failure> {
        if seen == Some(now) {
            return Ok(());
        }
        output::replace(&self.folder.join(file), &now.encode())
    }
}

fn file_of(dataset: &DatasetName) -> String {
    format!("dataset-{dataset}.seen")
}
