//! An official's keys, unlocked for one command: by the passphrase, or by the token and its PIN.

use std::path::{Path, PathBuf};

use rand_core::OsRng;

use crate::{
    client::official::DirectoryError,
    keys::{
        IdentitySigner, KeyAgreement, KeyError, MemorySigner,
        disk::{self, Replace},
        file::{Cost, KeyFile, KeyKind, Lock, PrivateKey, ShareOf, Unlock},
        token::TokenKeys,
    },
    protocol::{
        hybrid::HybridSecretKey,
        ids::{Generation, OfficialName, QuorumKind, SubjectName},
        secret::{SecretScalar, SecretVec},
    },
};

/// What unlocks an official's keys.
pub enum Means {
    /// The passphrase of all key files.
    Passphrase(SecretVec),
    /// The token, logged in: it has the identity key, and unlocks the rest.
    Token(TokenKeys),
}

impl std::fmt::Debug for Means {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Means::Passphrase(redacted)",
            Self::Token(_) => "Means::Token",
        })
    }
}

/// The keys in an official's directory, each unlocked when it is asked for.
#[derive(Debug)]
pub struct Keys {
    folder: PathBuf,
    name: OfficialName,
    means: Means,
}

impl Keys {
    pub(super) fn new(folder: &Path, name: &OfficialName, means: Means) -> Self {
        Self { folder: folder.to_owned(), name: name.clone(), means }
    }

    /// The identity key.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn identity(&self) -> Result<Box<dyn IdentitySigner + '_>, KeyError> {
        match &self.means {
            Means::Token(token) => Ok(Box::new(token)),
            Means::Passphrase(_) => Ok(Box::new(self.signer("identity.key", KeyKind::Identity)?)),
        }
    }

    /// The connection key, for TLS.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn connection(&self) -> Result<MemorySigner, KeyError> {
        self.signer("connection.key", KeyKind::Connection)
    }

    /// The hybrid key.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn hybrid(&self) -> Result<HybridSecretKey, KeyError> {
        let file = disk::load(&self.folder.join("hybrid.key"))?;
        match file.unlock(self.unlock())? {
            PrivateKey::Hybrid(key) => Ok(key),
            PrivateKey::Scalar(_) => Err(KeyError::Kind { found: file.kind(), expected: KeyKind::Hybrid }),
        }
    }

    /// The DKG static key.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn dkg(&self) -> Result<SecretScalar, KeyError> {
        disk::load(&self.folder.join("dkg.key"))?.unlock_scalar(KeyKind::Dkg, self.unlock())
    }

    /// This official's share of a quorum's key. The caller names all that it is bound to; another one is refused.
    ///
    /// # Errors
    /// [`DirectoryError::Missing`], [`DirectoryError::Damaged`], [`KeyError`].
    pub fn share(&self, of: &ShareOf) -> Result<SecretScalar, DirectoryError> {
        let path = self.share_path(of.quorum, of.generation);
        if path.symlink_metadata().is_err() {
            let advice = "It was made at the genesis of this generation. `chancery official rebuild` makes it again from the \
                          record of that genesis and dkg.key; or take your other copy";
            return Err(DirectoryError::Missing { path, advice });
        }
        let file = disk::load(&path)?;
        if file.share_of() != Some(of) {
            let found = file.share_of().map_or_else(|| file.kind().to_string(), ToString::to_string);
            let advice = "Take the file of this generation and network";
            return Err(DirectoryError::Damaged {
                path,
                reason: format!("it holds {found}, and {of} is needed"),
                advice,
            });
        }
        Ok(file.unlock_scalar(KeyKind::Share, self.unlock())?)
    }

    /// Keeps a share, locked as the other keys are, and gives where.
    ///
    /// # Errors
    /// [`KeyError::Exists`] where one of this quorum and generation is there already; [`KeyError::Write`].
    pub fn keep_share(&self, of: ShareOf, share: SecretScalar) -> Result<PathBuf, KeyError> {
        let path = self.share_path(of.quorum, of.generation);
        // An official's name is a subject's name: the same characters and length.
        let name = SubjectName::new(self.name.as_str()).map_err(|_| KeyError::Damaged)?;
        let lock = match &self.means {
            Means::Passphrase(passphrase) => Lock::Passphrase(passphrase, Cost::STANDARD),
            Means::Token(token) => Lock::Token(KeyAgreement::public(token)),
        };
        let file = KeyFile::lock_share(of, name, share, lock, &mut OsRng)?;
        disk::store(&path, &file, Replace::No)?;
        Ok(path)
    }

    /// Whether a share of this quorum and generation is kept here.
    pub fn has_share(&self, quorum: QuorumKind, generation: Generation) -> bool {
        self.share_path(quorum, generation).symlink_metadata().is_ok()
    }

    fn share_path(&self, quorum: QuorumKind, generation: Generation) -> PathBuf {
        self.folder.join(format!("share-{quorum}-{generation}.key"))
    }

    fn signer(&self, file: &str, kind: KeyKind) -> Result<MemorySigner, KeyError> {
        disk::load(&self.folder.join(file))?.unlock_signer(kind, self.unlock())
    }

    const fn unlock(&self) -> Unlock<'_> {
        match &self.means {
            Means::Passphrase(passphrase) => Unlock::Passphrase(passphrase),
            Means::Token(token) => Unlock::Token(token),
        }
    }
}
