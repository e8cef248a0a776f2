//! Where an official's directory is, and what unlocks the keys in it: the same for every command that acts.

use std::path::PathBuf;

use chancery::{
    client::official::{Directory, Keys, Means},
    keys::{file::PASSPHRASE_MIN, token::Token},
};
use clap::Args;

use crate::cli::{ask, failure::Failure, text::words};

/// The official's directory.
#[derive(Args)]
#[group(id = "official-place")]
pub(super) struct Place {
    /// The official's directory, as `chancery official init` made it [default: the current one]
    #[arg(long, value_name = "DIRECTORY", default_value = ".", hide_default_value = true)]
    dir: PathBuf,
    /// Read the passphrase from this open file descriptor (0 is standard input) instead of the terminal
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<u32>,
    /// Read the token's PIN from this open file descriptor instead of the terminal
    #[arg(long, value_name = "N")]
    pin_fd: Option<u32>,
}

impl Place {
    /// Opens the directory; no key is unlocked.
    pub(super) fn open(&self) -> Result<Directory, Failure> {
        Ok(Directory::open(&self.dir)?)
    }

    /// Asks for the passphrase, or for the token's PIN.
    pub(super) fn unlock(&self, directory: &Directory) -> Result<Keys, Failure> {
        let Some(settings) = &directory.settings().token else {
            let what = format!("passphrase of {}", directory.name());
            let passphrase = ask::once(&what, self.passphrase_fd, "--passphrase-fd")?;
            // A line that cannot be it is told at once, before minutes are spent on a wrong guess.
            if passphrase.expose().len() < PASSPHRASE_MIN {
                return Err(chancery::keys::KeyError::Passphrase.into());
            }
            return Ok(directory.keys(Means::Passphrase(passphrase)));
        };
        let token = Token::find(&settings.module, &settings.choice())?;
        let pin = ask::once(&format!("PIN of {}", words(token.label())), self.pin_fd, "--pin-fd")?;
        let keys = token.login(&pin)?.official(&settings.key)?;
        Ok(directory.keys(Means::Token(keys)))
    }
}

/// Runs what waits for the network, on this thread.
pub(in crate::cli) fn wait<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::Refused(format!("this machine gives no means to wait for the network: {error}"), "Try again")
    })?;
    runtime.block_on(work)
}
