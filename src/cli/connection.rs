//! Speaking to an embassy, for data owners, agents and recipients: the files of one directory, and the embassy's address.
//!
//! The directory holds what `chancery keys` made and what home sent back: connection.key, connection.crt, home.crt, home.crl
//! and charters/. Which machine answers is judged by the client, against the identity key that the charter names.

use std::path::{Path, PathBuf};

use chancery::{
    client::{Client, ClientError, Exchange, OwnIdentity, Settings, Trust},
    keys::{
        KeyError, disk,
        file::{KeyFile, KeyKind},
    },
    protocol::{
        certificate::{HomeAuthority, MAX_CERTIFICATE_BYTES, MAX_LIST_BYTES, Revocations},
        ids::EmbassyName,
        secret::SecretVec,
    },
};
use clap::Args;
use tokio::runtime::{Builder, Runtime};

use crate::cli::{ask, failure::Failure, input, network::InForce, pem};

/// Which embassy to speak to.
#[derive(Args)]
#[group(id = "embassy-visit")]
pub(super) struct Visit {
    /// The embassy, as the charter calls it
    #[arg(long, value_name = "NAME", requires = "server")]
    pub(super) embassy: Option<EmbassyName>,
    /// Its address: https://embassy.example:8443
    #[arg(long, value_name = "URL", requires_all = ["embassy", "dir"])]
    server: Option<String>,
    /// Read the passphrase of connection.key from this open file descriptor instead of the terminal
    #[arg(long, value_name = "N", requires = "server")]
    connection_fd: Option<u32>,
}

/// A client, and what runs it: commands do one thing at a time.
pub(super) struct Line {
    pub(super) client: Client,
    runtime: Runtime,
    passphrase: SecretVec,
}

/// Home's revocation list, as it lies in a directory. Whether it is in date is asked each time it is used.
pub(super) fn revocations(home: &HomeAuthority, dir: &Path) -> Result<Revocations, Failure> {
    let path = dir.join("home.crl");
    let list = pem::read(&path, "a revocation list", MAX_LIST_BYTES, "Ask home for its revocation list, home.crl")?;
    home.revocations(&list).map_err(|error| Failure::Certificate {
        name: input::name(&path),
        error,
        advice: "Ask home for the newest list, home.crl",
    })
}

impl Visit {
    /// Prepares the connection; it is made with the first request.
    pub(super) fn open(&self, network: &InForce, dir: Option<&PathBuf>, exchange: Exchange) -> Result<Line, Failure> {
        let (Some(embassy), Some(server), Some(dir)) = (&self.embassy, &self.server, dir) else {
            return Err(Failure::Refused("no embassy is named".to_owned(), "Give --dir, --server and --embassy"));
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|source| {
            Failure::Refused(format!("this machine gives no way to wait for the network: {source}"), "Try again")
        })?;
        let file = connection_key(dir)?;
        let passphrase = ask::once(&format!("passphrase of {}", file.name()), self.connection_fd, "--connection-fd")?;
        let client = client(network, dir, (embassy, server), exchange, &passphrase)?;
        Ok(Line { client, runtime, passphrase })
    }

    /// Goes by what lies in the directory now, with the passphrase that was given.
    pub(super) fn renew(
        &self,
        line: &mut Line,
        network: &InForce,
        dir: &Path,
        exchange: Exchange,
    ) -> Result<(), Failure> {
        if let (Some(embassy), Some(server)) = (&self.embassy, &self.server) {
            line.client = client(network, dir, (embassy, server), exchange, &line.passphrase)?;
        }
        Ok(())
    }
}

fn connection_key(dir: &Path) -> Result<KeyFile, Failure> {
    let file = disk::load(&dir.join("connection.key"))?;
    if file.kind() != KeyKind::Connection {
        return Err(KeyError::Kind { found: file.kind(), expected: KeyKind::Connection }.into());
    }
    Ok(file)
}

fn client(
    network: &InForce,
    dir: &Path,
    (embassy, server): (&EmbassyName, &str),
    exchange: Exchange,
    passphrase: &SecretVec,
) -> Result<Client, Failure> {
    let parts = network.charter.charter().parts();
    if parts.embassies.iter().all(|known| known.name != *embassy) {
        let what = format!("the charter in force, version {}, has no embassy {embassy}", parts.version);
        return Err(Failure::Refused(what, "Check the name, or get the newest charters from home"));
    }
    let machines = parts.custody.iter().flat_map(|custody| &custody.machines);
    let pinned = machines.into_iter().find(|machine| machine.embassy == *embassy).map(|found| found.identity_key);
    let list = revocations(&network.home, dir)?;
    let certificate = pem::read(
        &dir.join("connection.crt"),
        "a certificate",
        MAX_CERTIFICATE_BYTES,
        "Home issues it for connection.pub: put it there",
    )?;
    let own = OwnIdentity::new(certificate, connection_key(dir)?.signer(KeyKind::Connection, passphrase)?);
    let trust = Trust::new(network.home.clone(), list, embassy.clone(), pinned);
    let settings = Settings { exchange, ..Settings::new(server, trust, Some(own)) };
    Ok(Client::new(settings)?)
}

impl Line {
    /// The passphrase of the directory's key files.
    pub(super) const fn passphrase(&self) -> &SecretVec {
        &self.passphrase
    }

    /// Waits for an answer.
    pub(super) fn wait<T>(&self, answer: impl Future<Output = Result<T, ClientError>>) -> Result<T, Failure> {
        Ok(self.runtime.block_on(answer)?)
    }
}
