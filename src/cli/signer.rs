//! Which private key a command signs with: a key file, or a key on a token.

use std::path::{Path, PathBuf};

use chancery::{
    client::official::TokenSettings,
    keys::{
        IdentitySigner, KeyError,
        disk::{self, Replace},
        file::{Cost, KeyFile, KeyKind, PrivateKey},
        token::{OpenToken, Token, TokenChoice},
    },
    protocol::ids::SubjectName,
};
use clap::Args;
use rand_core::OsRng;

use crate::cli::{ask, failure::Failure, text::words};

/// Where a signing key lies.
#[derive(Args)]
#[group(id = "signing-key")]
pub(super) struct KeyPlace {
    /// The key file
    #[arg(long, value_name = "FILE", required_unless_present = "module", conflicts_with = "module")]
    pub(super) key: Option<PathBuf>,
    /// Read the passphrase from this open file descriptor (0 is standard input) instead of the terminal
    #[arg(long, value_name = "N")]
    pub(super) passphrase_fd: Option<u32>,
    #[command(flatten)]
    token: TokenPlace,
}

/// A key on a token, where one is named.
#[derive(Args)]
#[group(id = "token-key")]
pub(super) struct TokenPlace {
    /// The PKCS#11 module of the token that has the key
    #[arg(long, value_name = "LIBRARY", requires = "token_key")]
    module: Option<PathBuf>,
    /// The token's label
    #[arg(long, value_name = "LABEL", requires = "module")]
    token: Option<String>,
    /// The token's serial number, where several have one label
    #[arg(long, value_name = "NUMBER", conflicts_with = "token", requires = "module")]
    token_serial: Option<String>,
    /// The key's label on the token
    #[arg(long, value_name = "LABEL", requires = "module")]
    token_key: Option<String>,
    /// Read the PIN from this open file descriptor instead of the terminal
    #[arg(long, value_name = "N", requires = "module")]
    pin_fd: Option<u32>,
}

impl KeyPlace {
    /// Whether the key lies on a token.
    pub(super) const fn on_token(&self) -> bool {
        self.token.is_named()
    }

    /// Opens a key that is there.
    pub(super) fn open(&self, kind: KeyKind) -> Result<Box<dyn IdentitySigner>, Failure> {
        if let Some((token, key)) = self.token.open()? {
            return Ok(Box::new(token.key(key)?));
        }
        let path = self.file()?;
        let file = disk::load(path)?;
        if file.kind() != kind {
            return Err(KeyError::Kind { found: file.kind(), expected: kind }.into());
        }
        let passphrase = ask::once(&format!("passphrase of {}", file.name()), self.passphrase_fd, "--passphrase-fd")?;
        Ok(Box::new(file.signer(kind, &passphrase)?))
    }

    /// Makes a new key there.
    pub(super) fn make(
        &self,
        kind: KeyKind,
        name: &SubjectName,
        replace: Replace,
    ) -> Result<Box<dyn IdentitySigner>, Failure> {
        if let Some((token, key)) = self.token.open()? {
            return Ok(Box::new(token.generate(key)?));
        }
        let path = self.file()?;
        if replace == Replace::No && path.symlink_metadata().is_ok() {
            return Err(KeyError::Exists { path: path.to_owned() }.into());
        }
        let passphrase = ask::new("passphrase", self.passphrase_fd, "--passphrase-fd")?;
        let key = PrivateKey::random(kind, &mut OsRng);
        let file = KeyFile::seal(kind, name.clone(), &key, &passphrase, Cost::STANDARD, &mut OsRng)?;
        disk::store(path, &file, replace)?;
        Ok(Box::new(file.signer(kind, &passphrase)?))
    }

    fn file(&self) -> Result<&Path, Failure> {
        // The command line's rules leave one of the two; this keeps the function total.
        let missing = || Failure::Refused("no key is named".to_owned(), "Give --key FILE, or --module with a token");
        self.key.as_deref().ok_or_else(missing)
    }
}

impl TokenPlace {
    /// What finds the token again; `None` where no token is named.
    pub(super) fn settings(&self) -> Option<TokenSettings> {
        self.module.as_ref().map(|module| TokenSettings {
            // Absolute, since later commands may be started elsewhere.
            module: std::path::absolute(module).unwrap_or_else(|_| module.clone()),
            label: self.token.clone(),
            serial: self.token_serial.clone(),
            key: self.token_key.clone().unwrap_or_default(),
        })
    }

    /// Whether a token is named.
    pub(super) const fn is_named(&self) -> bool {
        self.module.is_some()
    }

    /// Finds the token and logs in; gives it with the key's label. `None` where no token is named.
    pub(super) fn open(&self) -> Result<Option<(OpenToken, &str)>, Failure> {
        let Some(module) = &self.module else { return Ok(None) };
        let choice = match (&self.token, &self.token_serial) {
            (Some(label), _) => TokenChoice::Label(label.clone()),
            (None, Some(serial)) => TokenChoice::Serial(serial.clone()),
            (None, None) => {
                let what = "no token is named".to_owned();
                return Err(Failure::Refused(what, "Give --token LABEL or --token-serial NUMBER"));
            }
        };
        let token = Token::find(module, &choice)?;
        let pin = ask::once(&format!("PIN of {}", words(token.label())), self.pin_fd, "--pin-fd")?;
        Ok(Some((token.login(&pin)?, self.token_key.as_deref().unwrap_or_default())))
    }
}
