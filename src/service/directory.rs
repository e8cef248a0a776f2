//! The directory of an embassy: its settings, and the files that home, the officials and the TPM left there.
//!
//! The disk is the host's. Nothing is believed because it stands here: charters are checked against each other and the
//! TPM's pin, certificates and lists against the charter, keys by the TPM itself.

use std::{
    io::{ErrorKind, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject};
use serde::Deserialize;

use crate::{
    hardware::EmbassyKeys,
    protocol::{
        certificate::{MAX_CERTIFICATE_BYTES, MAX_LIST_BYTES},
        charter::SignedCharter,
        ids::EmbassyName,
        wire::{Document, WireError},
    },
    service::policy::{Policy, PolicyError},
};

/// The longest settings file.
const MAX_SETTINGS_BYTES: usize = 64 * 1024;
/// The most charters that are read: a network that amends each week for a hundred years has as many.
const MAX_CHARTERS: usize = 5200;

/// The names of what stands in the directory (docs/service.md).
pub const SETTINGS: &str = "chancery.toml";
/// The folder of signed charters.
pub const CHARTERS: &str = "charters";
/// The embassy's stored TPM keys; none before the founding is done.
pub const KEYS: &str = "keys.bin";
/// The TPM's own two keys, as home made them.
pub const FOUNDATION: &str = "foundation.bin";
/// The founding key; gone once the TPM's identity key has taken over.
pub const FOUNDING_KEY: &str = "founding.key";
/// Home's certificate.
pub const HOME: &str = "home.crt";
/// Home's revocation list.
pub const LIST: &str = "home.crl";
/// The certificate of the embassy's own authority.
pub const AUTHORITY: &str = "embassy.crt";
/// The access policy, where it is not the one that chancery brings.
pub const POLICY: &str = "policy";
/// The store.
pub const STORE: &str = "store.sqlite";

/// Why the directory cannot be used. Each says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// A file is not there.
    #[error("{path} is not there. {advice}", path = path.display())]
    Missing {
        /// Which.
        path: PathBuf,
        /// Where it comes from.
        advice: &'static str,
    },
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is longer than any of its kind.
    #[error("{path} has more than {bound} bytes, the most that such a file may have", path = path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
        /// The bound.
        bound: usize,
    },
    /// Settings that do not read.
    #[error("{path} does not read: {reason}", path = path.display())]
    Settings {
        /// Which.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// A document that does not read.
    #[error("{path}: {source}. Get it again from whoever made it", path = path.display())]
    Document {
        /// Which.
        path: PathBuf,
        /// Why.
        source: WireError,
    },
    /// Neither PEM nor DER of its kind.
    #[error("{path} is neither PEM nor DER of {what}", path = path.display())]
    Certificate {
        /// Which.
        path: PathBuf,
        /// What was expected.
        what: &'static str,
    },
    /// Two files hold different charters of one version.
    #[error("{path}: another charter of version {version} stands in the same folder; keep the right one", path = path.display())]
    TwoCharters {
        /// The second one.
        path: PathBuf,
        /// Their version.
        version: u32,
    },
    /// More charters than are ever read.
    #[error("{path} holds more than {MAX_CHARTERS} charters", path = path.display())]
    ManyCharters {
        /// The folder.
        path: PathBuf,
    },
}

/// `chancery.toml`: what only the operator knows. Nothing in it can weaken a check.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The embassy's name, as the charter has it.
    pub embassy: String,
    /// Where to listen.
    #[serde(default = "listen")]
    pub listen: SocketAddr,
    /// How to reach the TPM.
    #[serde(default = "tcti")]
    pub tcti: String,
    /// Names and addresses at which visitors reach the embassy: they stand in its certificate. At most eight.
    #[serde(default)]
    pub places: Vec<String>,
    /// Connections at once.
    #[serde(default = "connections")]
    pub connections: usize,
}

fn listen() -> SocketAddr {
    SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 8443))
}

fn tcti() -> String {
    "device:/dev/tpmrm0".to_owned()
}

const fn connections() -> usize {
    1024
}

/// An embassy's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory(PathBuf);

impl Directory {
    /// Takes the path.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Reads the settings.
    ///
    /// # Errors
    /// [`DirectoryError`], with the line at fault.
    pub fn settings(&self) -> Result<Settings, DirectoryError> {
        let bytes = self.need(SETTINGS, MAX_SETTINGS_BYTES, "Write one; docs/service.md has an example.")?;
        let failed = |reason: String| DirectoryError::Settings { path: self.path(SETTINGS), reason };
        let text = String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8".to_owned()))?;
        let settings: Settings = toml::from_str(&text).map_err(|error| failed(error.to_string()))?;
        if EmbassyName::new(&settings.embassy).is_err() {
            return Err(failed(format!("embassy: {:?} is not a name", settings.embassy)));
        }
        if settings.places.len() > 8 {
            return Err(failed("places: at most eight".to_owned()));
        }
        if !(1..=65_536).contains(&settings.connections) {
            return Err(failed("connections: 1 to 65536".to_owned()));
        }
        Ok(settings)
    }

    /// The signed charters, by version. Nothing of them is checked.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn charters(&self) -> Result<Vec<SignedCharter>, DirectoryError> {
        let folder = self.path(CHARTERS);
        let entries = std::fs::read_dir(&folder).map_err(|source| match source.kind() {
            ErrorKind::NotFound => {
                DirectoryError::Missing { path: folder.clone(), advice: "Put the network's charters there." }
            }
            _ => DirectoryError::Read { path: folder.clone(), source },
        })?;
        let mut found = std::collections::BTreeMap::new();
        for entry in entries {
            let path = entry.map_err(|source| DirectoryError::Read { path: folder.clone(), source })?.path();
            if path.extension().is_none_or(|extension| extension != "charter") {
                continue;
            }
            let bytes = read(&path, SignedCharter::MAX_BYTES, "")?;
            let charter = SignedCharter::decode(&bytes)
                .map_err(|source| DirectoryError::Document { path: path.clone(), source })?;
            let version = charter.unverified().parts().version;
            if let Some(other) = found.insert(version, charter.clone())
                && other != charter
            {
                return Err(DirectoryError::TwoCharters { path, version });
            }
            if found.len() > MAX_CHARTERS {
                return Err(DirectoryError::ManyCharters { path: folder });
            }
        }
        Ok(found.into_values().collect())
    }

    /// The access policy: that of the folder, or, where there is none, the one that chancery brings.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn policy(&self) -> Result<Policy, PolicyError> {
        let folder = self.path(POLICY);
        if folder.is_dir() { Policy::load(&folder) } else { Policy::embedded() }
    }

    /// The embassy's keys; `None` where they are not made yet.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn keys(&self) -> Result<Option<EmbassyKeys>, DirectoryError> {
        let path = self.path(KEYS);
        match read(&path, EmbassyKeys::MAX_BYTES, "") {
            Ok(bytes) => {
                EmbassyKeys::decode(&bytes).map(Some).map_err(|source| DirectoryError::Document { path, source })
            }
            Err(DirectoryError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Home's certificate, DER.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn home(&self) -> Result<Vec<u8>, DirectoryError> {
        self.certificate(HOME, "Get home's certificate from home.")
    }

    /// The certificate of the embassy's own authority, DER.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn authority(&self) -> Result<Vec<u8>, DirectoryError> {
        self.certificate(AUTHORITY, "Home makes it: `chancery home enrol`.")
    }

    /// Home's revocation list, DER.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn list(&self) -> Result<Vec<u8>, DirectoryError> {
        // Base64 is a third longer, with its line ends.
        let bytes = self.need(LIST, MAX_LIST_BYTES * 3 / 2, "Get home's revocation list from home.")?;
        if !is_pem(&bytes) {
            return Ok(bytes);
        }
        let list = CertificateRevocationListDer::from_pem_slice(&bytes);
        let what = "a revocation list";
        list.map(|list| list.as_ref().to_vec()).map_err(|_| DirectoryError::Certificate { path: self.path(LIST), what })
    }

    fn certificate(&self, name: &str, advice: &'static str) -> Result<Vec<u8>, DirectoryError> {
        let bytes = self.need(name, MAX_CERTIFICATE_BYTES * 2, advice)?;
        if !is_pem(&bytes) {
            return Ok(bytes);
        }
        let certificate = CertificateDer::from_pem_slice(&bytes);
        let what = "a certificate";
        certificate
            .map(|certificate| certificate.as_ref().to_vec())
            .map_err(|_| DirectoryError::Certificate { path: self.path(name), what })
    }

    fn need(&self, name: &str, bound: usize, advice: &'static str) -> Result<Vec<u8>, DirectoryError> {
        read(&self.path(name), bound, advice)
    }
}

fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(11).any(|window| window == b"-----BEGIN ")
}

/// Reads a file, and no more of it than it may have.
fn read(path: &Path, bound: usize, advice: &'static str) -> Result<Vec<u8>, DirectoryError> {
    let failed = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => DirectoryError::Missing { path: path.to_owned(), advice },
        _ => DirectoryError::Read { path: path.to_owned(), source },
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    let one_more = u64::try_from(bound).unwrap_or(u64::MAX).saturating_add(1);
    file.take(one_more).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > bound {
        return Err(DirectoryError::TooLong { path: path.to_owned(), bound });
    }
    Ok(bytes)
}
