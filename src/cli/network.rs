//! The network that a command works for: home's certificate, and the chain of charters that hangs on it.
//!
//! Trusts the certificate file, which the person at the keyboard was given by home itself, and this machine's memory.
//! Charters come from anywhere: only the chain from the founding one, signed as protocol.md §12 has it, is taken.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use chancery::protocol::{
    certificate::{HomeAuthority, MAX_CERTIFICATE_BYTES},
    charter::{ChainError, SignedCharter, VerifiedCharter},
    dataset_version::{CharteredDataset, DatasetVersionRecord, SignedVersion},
    ids::DatasetName,
    slot::SealingKeys,
    wire::Document,
};
use clap::Args;
use p256::ecdsa::VerifyingKey;

use crate::cli::{
    failure::Failure,
    input::{self, Expected},
    memory::{Memory, State},
    pem,
};

/// How the files of a chain's directory end.
const ENDING: &str = "charter";
/// More versions than a network makes in a lifetime, and few enough to read at once.
const CHARTERS_MAX: usize = 4096;

/// Which network, for whoever is not home.
#[derive(Args)]
pub(super) struct Network {
    /// Your directory, with home.crt and charters/ in it
    #[arg(long, value_name = "DIRECTORY")]
    pub(super) dir: Option<PathBuf>,
    /// The home authority's certificate, as home itself gave it to you [default: home.crt in --dir]
    #[arg(long = "home", value_name = "FILE", required_unless_present = "dir")]
    home: Option<PathBuf>,
    /// The directory with the network's signed charters (*.charter) [default: charters in --dir]
    #[arg(long, value_name = "DIRECTORY", required_unless_present = "dir")]
    charters: Option<PathBuf>,
    #[command(flatten)]
    state: State,
}

/// The charters that a command goes by.
#[derive(Args)]
pub(super) struct Charters {
    /// The directory with the network's signed charters (*.charter)
    #[arg(long, value_name = "DIRECTORY")]
    charters: PathBuf,
    #[command(flatten)]
    state: State,
}

/// A network whose charter is in force, with this machine's memory of it.
pub(super) struct InForce {
    pub(super) home: HomeAuthority,
    pub(super) charter: VerifiedCharter,
    pub(super) memory: Memory,
}

impl InForce {
    /// A dataset as the charter in force has it: what a record must be about, and who must have signed it.
    pub(super) fn dataset(&self, dataset: &DatasetName) -> Result<CharteredDataset, Failure> {
        let version = self.charter.charter().parts().version;
        let unknown = || {
            Failure::Refused(
                format!("the charter in force, version {version}, has no dataset {dataset}"),
                "Check the name, or amend the charter first",
            )
        };
        let owner = self.charter.charter().owner_of(dataset).ok_or_else(unknown)?;
        // Every point is a key; this keeps the function total.
        let owner_key = VerifyingKey::from_affine(*owner.key.affine()).map_err(|_| unknown())?;
        let (charter, owner) = (self.charter.id(), owner.name.clone());
        Ok(CharteredDataset { charter, owner, owner_key, dataset: dataset.clone() })
    }

    /// What slots are sealed to and checked against.
    pub(super) fn sealing_keys(&self) -> Result<SealingKeys, Failure> {
        let charter = self.charter.charter();
        let parts = charter.parts();
        let incomplete = || {
            Failure::Refused(
                format!("the charter in force, version {}, names no quorum's and no embassy's keys yet", parts.version),
                "Datasets come after custody: complete the charter first",
            )
        };
        // protocol.md §6.1: the keys are the same for each embassy, since each slot names all of them.
        let machine = parts.custody.as_ref().and_then(|custody| custody.machines.first()).ok_or_else(incomplete)?;
        let facts = charter.facts(&machine.embassy).map_err(|error| {
            Failure::Refused(error.to_string(), "Ask home for the charter again; nothing was sealed")
        })?;
        Ok(facts.sealing_keys().clone())
    }

    /// Takes a record whose data owner signed it, unless a higher version was seen; remembers it.
    pub(super) fn take_record(&self, name: &str, record: DatasetVersionRecord) -> Result<SignedVersion, Failure> {
        let dataset = self.dataset(&record.unverified().dataset)?;
        let signed = record.verify_signature(&dataset).map_err(|error| {
            Failure::Refused(
                format!("{name} is refused: {error}"),
                "Encrypt nothing to it; ask the data owner for the record",
            )
        })?;
        self.memory.take_version(&signed)?;
        Ok(signed)
    }
}

/// Reads a dataset version's record; nothing of it is checked but its form.
pub(super) fn record(path: &Path) -> Result<DatasetVersionRecord, Failure> {
    let expected = Expected {
        what: "a dataset version's record",
        bound: DatasetVersionRecord::MAX_BYTES,
        missing: "Ask the data owner for the record",
    };
    let bytes = input::read(path, &expected)?;
    DatasetVersionRecord::decode(&bytes).map_err(|error| Failure::Document {
        name: input::name(path),
        kind: "a dataset version, with its slots",
        error,
    })
}

impl Network {
    /// Verifies the chain and remembers its end.
    pub(super) fn open(&self) -> Result<InForce, Failure> {
        let Self { dir, home, charters, state } = self;
        Whereabouts { dir: dir.as_deref(), home: home.as_deref(), charters: charters.as_deref(), state }.open()
    }
}

/// Where a network's files are, for a command that can do without a network.
pub(super) struct Whereabouts<'a> {
    pub(super) dir: Option<&'a Path>,
    pub(super) home: Option<&'a Path>,
    pub(super) charters: Option<&'a Path>,
    pub(super) state: &'a State,
}

impl Whereabouts<'_> {
    /// Verifies the chain and remembers its end.
    pub(super) fn open(&self) -> Result<InForce, Failure> {
        let within = |given: Option<&Path>, name| {
            given.map(Path::to_owned).or_else(|| self.dir.map(|dir| dir.join(name))).ok_or_else(|| {
                Failure::Refused("no network is named".to_owned(), "Give --dir, or --home and --charters")
            })
        };
        in_force(home(&within(self.home, "home.crt")?)?, &within(self.charters, "charters")?, self.state)
    }
}

impl Charters {
    /// The files of the chain, whatever is in them.
    #[cfg(feature = "service")]
    pub(super) fn files(&self) -> Result<Vec<PathBuf>, Failure> {
        files(&self.charters)
    }

    /// Verifies the chain under a home authority and remembers its end.
    pub(super) fn open(&self, home: HomeAuthority) -> Result<InForce, Failure> {
        in_force(home, &self.charters, &self.state)
    }
}

fn in_force(home: HomeAuthority, folder: &Path, state: &State) -> Result<InForce, Failure> {
    let charter = chain(&home, folder)?.pop().ok_or_else(|| nothing(folder))?;
    let memory = state.open(charter.id())?;
    memory.take_charter(&charter)?;
    Ok(InForce { home, charter, memory })
}

/// Reads home's certificate, from which country and key are learnt.
pub(super) fn home(path: &Path) -> Result<HomeAuthority, Failure> {
    let what = "a home authority's certificate";
    let der = pem::read(path, what, MAX_CERTIFICATE_BYTES, "Ask home for its certificate, home.crt")?;
    HomeAuthority::known(&der).map_err(|error| Failure::Certificate {
        name: input::name(path),
        error,
        advice: "Ask home for its certificate, and compare the key hash by voice",
    })
}

/// Reads a charter that is signed, or to be signed; nothing of it is checked but that it contradicts itself nowhere.
pub(super) fn read(path: &Path) -> Result<SignedCharter, Failure> {
    let expected =
        Expected { what: "a signed charter", bound: SignedCharter::MAX_BYTES, missing: "Ask home for the charter" };
    let bytes = input::read(path, &expected)?;
    SignedCharter::decode(&bytes).map_err(|error| Failure::Document {
        name: input::name(path),
        kind: "a charter, with signatures",
        error,
    })
}

/// Verifies the charters of a directory; gives them all, the founding one first. None where there is no directory.
pub(super) fn chain(home: &HomeAuthority, folder: &Path) -> Result<Vec<VerifiedCharter>, Failure> {
    let mut charters: Vec<(PathBuf, SignedCharter)> = Vec::new();
    for path in files(folder)? {
        let charter = read(&path)?;
        charters.push((path, charter));
    }
    charters.sort_by_key(|(_, charter)| charter.unverified().parts().version);
    let mut chain: Vec<VerifiedCharter> = Vec::new();
    for (path, charter) in charters {
        let next = follow(home, chain.last(), charter);
        chain.push(next.map_err(|error| refused(&path, &error))?);
    }
    Ok(chain)
}

/// Takes the next charter of a chain, or the founding one.
pub(super) fn follow(
    home: &HomeAuthority,
    last: Option<&VerifiedCharter>,
    next: SignedCharter,
) -> Result<VerifiedCharter, ChainError> {
    match last {
        None => next.found(home.country(), home.key()),
        Some(last) => next.succeed(last),
    }
}

/// A charter that is not in force.
pub(super) fn refused(path: &Path, error: &ChainError) -> Failure {
    let advice = match error {
        ChainError::Country { .. } | ChainError::Home => {
            "It is another network's, or a forgery. Compare home's key hash by voice; nothing of it is used"
        }
        ChainError::Gap { .. } => "Put every version into the directory, each once; home has them",
        ChainError::TooFew { .. } => "Have the others sign it; `chancery home charter join` joins their copies",
        _ => "Ask home for the charter again; nothing of it is used",
    };
    Failure::Refused(format!("{} is refused: {error}", input::name(path)), advice)
}

/// A directory without charters.
pub(super) fn nothing(folder: &Path) -> Failure {
    let what = format!("there is no charter in {}", input::name(folder));
    Failure::Refused(what, "Give the directory with the network's signed charters (*.charter); home has them")
}

/// What a charter's file is called in a chain's directory.
pub(super) fn file_name(version: u32) -> String {
    format!("{version:04}.{ENDING}")
}

pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |source| Failure::Read {
        name: input::name(folder),
        source,
        advice: "Give the directory with the network's signed charters",
    };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|ending| ending == ENDING) {
            found.push(path);
        }
        if found.len() > CHARTERS_MAX {
            let what = format!("{} has more than {CHARTERS_MAX} charters", input::name(folder));
            return Err(Failure::Refused(what, "No network has that many: find out who put them there"));
        }
    }
    Ok(found)
}
