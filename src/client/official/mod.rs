//! An official's own machine: the directory with settings, keys, what was seen, and the embassies as this official knows them.
//!
//! Trusts home's certificate, whose key hash the official compared in person, and this machine. Everything else (charters,
//! revocation lists, dataset records) may come from anywhere and is taken only as far as its signatures go; nothing older
//! than what was seen is taken at all. One command at a time works in a directory.

mod carried;
mod error;
mod keys;
mod memory;
mod review;
mod settings;
mod visit;

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

pub use carried::{Carried, Load};
pub use error::DirectoryError;
pub use keys::{Keys, Means};
pub use memory::Memory;
pub use review::{ReviewError, Reviewed, Rise};
pub use settings::{EmbassySettings, Settings, TokenSettings};
pub use visit::{Told, Visit};

use crate::{
    client::{Client, OwnIdentity, Settings as ClientSettings, Trust},
    keys::disk::{self, Replace},
    protocol::{
        certificate::{HomeAuthority, MAX_CERTIFICATE_BYTES, MAX_LIST_BYTES, Revocations},
        charter::{SignedCharter, VerifiedCharter},
        dataset_version::{CharteredDataset, DatasetVersionRecord, SignedVersion, VerifiedVersion, VersionError},
        facts::CustodyFacts,
        hash::Hash,
        ids::{CharterAt, EmbassyName, OfficialName},
        wire::Document,
    },
};

const SETTINGS: &str = "official.toml";
const MEMORY: &str = "memory.bin";
const MAX_SETTINGS_BYTES: usize = 64 * 1024;
/// More versions than a network makes in a lifetime.
const MAX_FILES: usize = 4096;

/// What an adoption changes, by the charters that are kept here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopting {
    /// The charter that the embassy's TPM was told of last.
    pub from: CharterAt,
    /// The charter in force here.
    pub to: CharterAt,
    /// What the second changes of the first, a line each.
    pub changes: Vec<String>,
}

/// An official's directory, with nobody else at work in it.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    settings: Settings,
    memory: Memory,
    lock: Option<File>,
}

impl Directory {
    /// Begins a directory: settings are written where none are.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn begin(path: &Path, settings: &Settings) -> Result<(), DirectoryError> {
        write_settings(path, settings, Replace::No)
    }

    /// Opens a directory and keeps other commands out until it is dropped.
    ///
    /// # Errors
    /// [`DirectoryError::Missing`] where it is none; [`DirectoryError::Busy`]; [`DirectoryError::Damaged`].
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let settings_path = path.join(SETTINGS);
        let advice = "Give the directory that `chancery official init` made, with --dir";
        let text = read(&settings_path, MAX_SETTINGS_BYTES)?
            .ok_or_else(|| DirectoryError::Missing { path: settings_path.clone(), advice })?;
        let settings = std::str::from_utf8(&text)
            .map_err(|error| error.to_string())
            .and_then(|text| toml::from_str(text).map_err(|error| error.message().to_owned()))
            .map_err(|reason| DirectoryError::Damaged { path: settings_path, reason, advice: "Correct it" })?;
        let lock_path = path.join("lock");
        let failed = |source| DirectoryError::Read { path: lock_path.clone(), source };
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => DirectoryError::Busy { path: path.to_owned() },
            TryLockError::Error(source) => failed(source),
        })?;
        let memory_path = path.join(MEMORY);
        let memory = match read(&memory_path, Memory::MAX_BYTES)? {
            None => Memory::default(),
            Some(bytes) => Memory::decode(&bytes).map_err(|error| DirectoryError::Damaged {
                path: memory_path,
                reason: error.to_string(),
                advice: "It is what keeps you from being shown old things: find out what happened to it, and take your other copy",
            })?,
        };
        Ok(Self { path: path.to_owned(), settings, memory, lock: Some(lock) })
    }

    /// Lets other commands in; from here on this one only reads.
    #[must_use]
    pub fn unlocked(self) -> ReadOnly {
        let Self { lock, .. } = &self;
        if let Some(lock) = lock {
            // Closing the file would do it as well; it stays open for as long as the value lives.
            let _ = lock.unlock();
        }
        ReadOnly(Self { lock: None, ..self })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The settings.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes the settings.
    ///
    /// # Errors
    /// [`DirectoryError::Key`] where they cannot be written.
    pub fn set(&mut self, settings: Settings) -> Result<(), DirectoryError> {
        write_settings(&self.path, &settings, Replace::Yes)?;
        self.settings = settings;
        Ok(())
    }

    /// The official's name.
    pub const fn name(&self) -> &OfficialName {
        &self.settings.name
    }

    /// What was seen.
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Changes what was seen, durably before it returns.
    ///
    /// # Errors
    /// [`DirectoryError::Key`] where it cannot be written; then nothing has changed.
    pub fn remember<T>(
        &mut self,
        change: impl FnOnce(&mut Memory) -> Result<T, DirectoryError>,
    ) -> Result<T, DirectoryError> {
        let mut memory = self.memory.clone();
        let done = change(&mut memory)?;
        if memory != self.memory {
            disk::write(&self.path.join(MEMORY), &memory.encode(), Replace::Yes)?;
            self.memory = memory;
        }
        Ok(done)
    }

    /// The keys, unlocked by these means.
    pub fn keys(&self, means: Means) -> Keys {
        Keys::new(&self.path, self.name(), means)
    }

    /// Takes home's certificate, in DER; the caller has compared its key hash, or it is the one that is here.
    ///
    /// # Errors
    /// [`DirectoryError::Certificate`].
    pub fn take_home(&self, der: &[u8]) -> Result<HomeAuthority, DirectoryError> {
        let path = self.path.join("home.crt");
        let home =
            HomeAuthority::known(der).map_err(|error| DirectoryError::Certificate { path: path.clone(), error })?;
        disk::write(&path, der, Replace::Yes)?;
        Ok(home)
    }

    /// The home authority.
    ///
    /// # Errors
    /// [`DirectoryError::Missing`], [`DirectoryError::Certificate`].
    pub fn home(&self) -> Result<HomeAuthority, DirectoryError> {
        let (path, der) = self.must_read("home.crt", MAX_CERTIFICATE_BYTES, CONNECT)?;
        HomeAuthority::known(&der).map_err(|error| DirectoryError::Certificate { path, error })
    }

    /// Takes a revocation list of home's, in DER, unless a later one was seen. Gives whether it is news.
    ///
    /// # Errors
    /// [`DirectoryError::Certificate`], [`DirectoryError::OldList`].
    pub fn take_list(&mut self, der: &[u8]) -> Result<bool, DirectoryError> {
        let path = self.path.join("home.crl");
        let list = self.home()?.revocations(der);
        let list = list.map_err(|error| DirectoryError::Certificate { path: path.clone(), error })?;
        let offered = list.number();
        let news = self
            .remember(|memory| memory.take_list(offered).map_err(|seen| DirectoryError::OldList { seen, offered }))?;
        if news || path.symlink_metadata().is_err() {
            disk::write(&path, der, Replace::Yes)?;
        }
        Ok(news)
    }

    /// Home's revocation list.
    ///
    /// # Errors
    /// [`DirectoryError::Missing`], [`DirectoryError::Certificate`], [`DirectoryError::OldList`].
    pub fn revocations(&self) -> Result<Revocations, DirectoryError> {
        let (path, der) = self.must_read("home.crl", MAX_LIST_BYTES, CONNECT)?;
        self.home()?.revocations(&der).map_err(|error| DirectoryError::Certificate { path, error })
    }

    /// Takes the certificate that home issued for the connection key, in DER.
    ///
    /// # Errors
    /// [`DirectoryError::Key`] where it cannot be written.
    pub fn take_certificate(&self, der: &[u8]) -> Result<(), DirectoryError> {
        Ok(disk::write(&self.path.join("connection.crt"), der, Replace::Yes)?)
    }

    /// The chain of charters that is kept here, the founding one first; empty where none is.
    ///
    /// # Errors
    /// [`DirectoryError::Damaged`], [`DirectoryError::Chain`].
    pub fn charters(&self) -> Result<Vec<VerifiedCharter>, DirectoryError> {
        let home = self.home()?;
        let mut chain: Vec<VerifiedCharter> = Vec::new();
        for (path, bytes) in self.files("charters", "charter", SignedCharter::MAX_BYTES)? {
            let advice = "Remove it; the embassies and home have it too";
            let signed = SignedCharter::decode(&bytes).map_err(|error| DirectoryError::Damaged {
                path,
                reason: error.to_string(),
                advice,
            })?;
            let next = match chain.last() {
                None => signed.found(home.country(), home.key()),
                Some(last) => signed.succeed(last),
            };
            chain.push(next?);
        }
        Ok(chain)
    }

    /// The charter in force, as far as this machine knows.
    ///
    /// # Errors
    /// [`DirectoryError::NoCharter`], and as [`Directory::charters`]; [`ChainError::Older`](crate::protocol::charter::ChainError::Older)
    /// where files were taken away.
    pub fn charter(&self) -> Result<VerifiedCharter, DirectoryError> {
        let last = self.charters()?.pop().ok_or(DirectoryError::NoCharter)?;
        self.memory.clone().take_charter(&last)?;
        Ok(last)
    }

    /// Takes charters from wherever: those that are known must be the same, later ones must follow. Gives the one in force and
    /// whether it is news.
    ///
    /// # Errors
    /// [`DirectoryError::Chain`].
    pub fn take_charters(
        &mut self,
        offered: impl IntoIterator<Item = SignedCharter>,
    ) -> Result<(VerifiedCharter, bool), DirectoryError> {
        let home = self.home()?;
        let mut chain = self.charters()?;
        let known = chain.len();
        for signed in offered {
            let version = signed.unverified().parts().version;
            let have = chain.iter().find(|charter| charter.charter().parts().version == version);
            if have.is_some_and(|have| have.hash() == signed.unverified().hash()) {
                continue;
            }
            let next = match chain.last() {
                None => signed.found(home.country(), home.key()),
                Some(last) => signed.succeed(last),
            };
            chain.push(next?);
        }
        let last = chain.last().cloned().ok_or(DirectoryError::NoCharter)?;
        let news = self.remember(|memory| Ok(memory.take_charter(&last)?))?;
        let folder = self.folder("charters")?;
        for charter in chain.iter().skip(known) {
            let file = folder.join(format!("{:06}.charter", charter.charter().parts().version));
            disk::write(&file, &charter.signed().encode(), Replace::Yes)?;
        }
        Ok((last, news))
    }

    /// The facts of one embassy, from the charter in force.
    ///
    /// # Errors
    /// [`DirectoryError::Charter`] before custody is made.
    pub fn facts(&self, embassy: &EmbassyName) -> Result<CustodyFacts, DirectoryError> {
        Ok(self.charter()?.charter().facts(embassy)?)
    }

    /// What adopting the charter in force changes at an embassy whose TPM was told of this one last.
    ///
    /// # Errors
    /// [`DirectoryError::PinnedUnknown`] where it is no charter of the chain that is kept here.
    pub fn adoption(&self, embassy: &EmbassyName, pinned: &Hash) -> Result<Adopting, DirectoryError> {
        let (chain, charter) = (self.charters()?, self.charter()?);
        let told = chain.iter().find(|known| known.hash() == *pinned);
        let unknown = || DirectoryError::PinnedUnknown { embassy: embassy.clone(), pinned: Box::new(*pinned) };
        let told = told.ok_or_else(unknown)?.charter();
        Ok(Adopting { from: told.at(), to: charter.charter().at(), changes: told.changes(charter.charter()) })
    }

    /// Takes a dataset's record: signed by its owner, for this generation, every slot proven. Gives it verified.
    ///
    /// # Errors
    /// [`DirectoryError::Dataset`].
    pub fn take_dataset(&mut self, record: &DatasetVersionRecord) -> Result<VerifiedVersion, DirectoryError> {
        let charter = self.charter()?;
        let (signed, verified) = verify_dataset(&charter, record)?;
        let description = verified.description();
        let (dataset, version) = (description.dataset.clone(), description.version);
        self.remember(|memory| {
            let refused = |error| DirectoryError::Dataset { dataset: dataset.to_string(), error };
            memory.take_version(&signed).map_err(refused)
        })?;
        let generation = charter.charter().parts().custody.as_ref().map_or(0, |custody| custody.generation.get());
        let file = self.folder("datasets")?.join(format!("{dataset}-{version}-{generation}.dataset"));
        disk::write(&file, &record.encode(), Replace::Yes)?;
        Ok(verified)
    }

    /// The dataset records that are kept here and are of the generation in force.
    ///
    /// # Errors
    /// [`DirectoryError::Damaged`].
    pub fn datasets(&self) -> Result<Vec<VerifiedVersion>, DirectoryError> {
        let charter = self.charter()?;
        let mut found = Vec::new();
        for (path, bytes) in self.files("datasets", "dataset", DatasetVersionRecord::MAX_BYTES)? {
            let advice = "Remove it; the embassies and its data owner have it too";
            let record = DatasetVersionRecord::decode(&bytes).map_err(|error| DirectoryError::Damaged {
                path,
                reason: error.to_string(),
                advice,
            })?;
            // Records of earlier generations stay for later readers; they do not verify against the present one.
            found.extend(verify_dataset(&charter, &record).map(|(_, verified)| verified));
        }
        Ok(found)
    }

    /// Where an embassy is.
    ///
    /// # Errors
    /// [`DirectoryError::NoEmbassy`].
    pub fn embassy(&self, name: &EmbassyName) -> Result<&EmbassySettings, DirectoryError> {
        self.settings.embassies.iter().find(|embassy| embassy.name == *name).ok_or_else(|| {
            let known: Vec<&str> = self.settings.embassies.iter().map(|embassy| embassy.name.as_str()).collect();
            let known = if known.is_empty() { "none is".to_owned() } else { format!("known: {}", known.join(", ")) };
            DirectoryError::NoEmbassy { name: name.clone(), known }
        })
    }

    /// A client of one embassy, with this official's connection key.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn client(&self, embassy: &EmbassyName, keys: &Keys) -> Result<Client, DirectoryError> {
        let (_, certificate) = self.must_read("connection.crt", MAX_CERTIFICATE_BYTES, CONNECT)?;
        let own = OwnIdentity::new(certificate, keys.connection()?);
        self.client_as(embassy, Some(own))
    }

    /// A client of one embassy, as somebody.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn client_as(&self, embassy: &EmbassyName, own: Option<OwnIdentity>) -> Result<Client, DirectoryError> {
        let place = self.embassy(embassy)?;
        // Once a charter names the machine, home alone cannot put another in its place.
        let pinned = match self.charter() {
            Ok(charter) => charter.charter().facts(embassy).ok().map(|facts| facts.machine().identity_key),
            Err(DirectoryError::NoCharter) => None,
            Err(error) => return Err(error),
        };
        let trust = Trust::new(self.home()?, self.revocations()?, embassy.clone(), pinned);
        Ok(Client::new(ClientSettings::new(&place.url, trust, own))?)
    }

    fn must_read(&self, file: &str, bound: usize, advice: &'static str) -> Result<(PathBuf, Vec<u8>), DirectoryError> {
        let path = self.path.join(file);
        match read(&path, bound)? {
            Some(bytes) => Ok((path, bytes)),
            None => Err(DirectoryError::Missing { path, advice }),
        }
    }

    fn folder(&self, name: &str) -> Result<PathBuf, DirectoryError> {
        let folder = self.path.join(name);
        std::fs::create_dir_all(&folder).map_err(|source| DirectoryError::Read { path: folder.clone(), source })?;
        Ok(folder)
    }

    /// The files of a folder with this ending, in order of their names.
    fn files(&self, folder: &str, ending: &str, bound: usize) -> Result<Vec<(PathBuf, Vec<u8>)>, DirectoryError> {
        let folder = self.path.join(folder);
        let failed = |source| DirectoryError::Read { path: folder.clone(), source };
        let listing = match std::fs::read_dir(&folder) {
            Ok(listing) => listing,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut paths = Vec::new();
        for entry in listing.take(MAX_FILES) {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|found| found == ending) {
                paths.push(path);
            }
        }
        paths.sort();
        let mut found = Vec::new();
        for path in paths {
            if let Some(bytes) = read(&path, bound)? {
                found.push((path, bytes));
            }
        }
        Ok(found)
    }
}

/// A directory in which other commands may be at work: only for reading.
#[derive(Debug)]
pub struct ReadOnly(Directory);

impl std::ops::Deref for ReadOnly {
    type Target = Directory;
    fn deref(&self) -> &Directory {
        &self.0
    }
}

const CONNECT: &str = "Home gives you its certificate, its revocation list and a certificate for connection.pub; \
                       `chancery official connect` takes them";

fn write_settings(path: &Path, settings: &Settings, replace: Replace) -> Result<(), DirectoryError> {
    let file = path.join(SETTINGS);
    let text = toml::to_string(settings).map_err(|error| DirectoryError::Damaged {
        path: file.clone(),
        reason: error.to_string(),
        advice: "Choose plainer names for module and key",
    })?;
    Ok(disk::write(&file, text.as_bytes(), replace)?)
}

/// Checks a record as every reader does: owner and dataset from the charter, slots against its keys.
fn verify_dataset(
    charter: &VerifiedCharter,
    record: &DatasetVersionRecord,
) -> Result<(SignedVersion, VerifiedVersion), DirectoryError> {
    let dataset = record.unverified().dataset.clone();
    let refused = |error| DirectoryError::Dataset { dataset: dataset.to_string(), error };
    let known = charter.charter();
    let owner = known.owner_of(&dataset);
    let owner = owner.ok_or_else(|| refused(VersionError::Another { what: "dataset" }))?;
    let owner_key = p256::ecdsa::VerifyingKey::from_affine(*owner.key.affine());
    let owner_key = owner_key.map_err(|_| refused(VersionError::Another { what: "data owner" }))?;
    let chartered =
        CharteredDataset { charter: charter.id(), owner: owner.name.clone(), owner_key, dataset: dataset.clone() };
    let machine = known.parts().custody.as_ref().and_then(|custody| custody.machines.first());
    let embassy = machine.map(|machine| machine.embassy.clone()).ok_or(DirectoryError::NoCharter)?;
    let facts = known.facts(&embassy)?;
    let signed = record.clone().verify_signature(&chartered).map_err(refused)?;
    let verified = signed.clone().verify_slots(facts.sealing_keys()).map_err(refused)?;
    Ok((signed, verified))
}

/// Reads a file whole; `None` where there is none.
fn read(path: &Path, bound: usize) -> Result<Option<Vec<u8>>, DirectoryError> {
    let failed = |source| DirectoryError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    // One byte more than may be there, so that a longer file is refused and not cut.
    file.take(bound as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > bound {
        let reason = format!("it has more than {bound} bytes");
        return Err(DirectoryError::Damaged { path: path.to_owned(), reason, advice: "Check what put it there" });
    }
    Ok(Some(bytes))
}
