//! `chancery keys`: the keys of agents, data owners, auditors and witnesses, and what home needs of their public halves.
//!
//! Each key has one use: the connection key says who is on the line, and signs nothing else. Officials have
//! `chancery official init`, home has `chancery home init`.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use chancery::{
    keys::{
        KeyError,
        disk::{self, Replace},
        file::{Cost, KeyFile, KeyKind, PrivateKey, PublicKey},
        issue::public_key_info,
    },
    protocol::{group::Point, ids::SubjectName, secret::SecretVec},
};
use clap::{Args, ValueEnum};
use rand_core::OsRng;

use crate::cli::{ask, failure::Failure, input, output, pem, public_key::key_hash, signer::TokenPlace};

const AFTER_HELP: &str = "\
What is made, each key for one use:
  connection.key  who you are to embassies; home issues a certificate for connection.pub
  hybrid.key      agents and data owners: receives a released dataset
  owner.key       data owners: signs datasets; the charter names owner.pub
  witness.key     witnesses: signs beats; the charter names witness.pub

Put what home sends back beside them: connection.crt, home.crt, home.crl, and the charters in charters/. Every command takes \
that directory as --dir.

Examples:
  chancery keys agent replicator --dir replicator
  chancery keys data-owner land-board --dir land-board --module LIBRARY --token LABEL --token-key owner";

/// Make the keys of an agent, data owner, auditor or witness
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Whose keys
    #[arg(value_name = "ROLE")]
    role: Holder,
    /// The name, as certificates and the charter will have it
    #[arg(value_name = "NAME")]
    name: SubjectName,
    /// The directory for the keys; made if it is not there
    #[arg(long, value_name = "DIRECTORY")]
    dir: PathBuf,
    /// Read the passphrase from this open file descriptor (0 is standard input) instead of the terminal
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<u32>,
    /// A data owner's or witness's signing key is born on this token
    #[command(flatten)]
    token: TokenPlace,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Holder {
    Agent,
    DataOwner,
    Auditor,
    Witness,
}

impl Holder {
    /// The key that signs, beside the connection's: its kind, and what its files are called.
    const fn signs(self) -> Option<(KeyKind, &'static str)> {
        match self {
            Self::DataOwner => Some((KeyKind::DataOwner, "owner")),
            Self::Witness => Some((KeyKind::Identity, "witness")),
            Self::Agent | Self::Auditor => None,
        }
    }

    /// Whether a dataset may be released to one.
    const fn receives(self) -> bool {
        matches!(self, Self::Agent | Self::DataOwner)
    }
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let Arguments { role, name, dir, passphrase_fd, token } = arguments;
    let path = |file: String| dir.join(file);
    let signing = role.signs();
    if token.is_named() && signing.is_none() {
        return Err(Failure::Refused(
            "this role has no key that signs for it, and its other keys stay in files".to_owned(),
            "Leave the token out",
        ));
    }
    let mut planned = vec![path("connection.key".to_owned()), path("connection.pub".to_owned())];
    if role.receives() {
        planned.push(path("hybrid.key".to_owned()));
    }
    if let Some((_, file)) = signing {
        planned.extend([path(format!("{file}.key")), path(format!("{file}.pub"))]);
    }
    // Asked before anything is made: half a set beside another half would be worse than none.
    if let Some(path) = planned.iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(Failure::Refused(
            format!("{} exists, and may hold the only copy of a key", input::name(path)),
            "Choose another directory; keys are never replaced here",
        ));
    }
    std::fs::create_dir_all(dir).map_err(|source| Failure::Save {
        name: input::name(dir),
        source,
        advice: "Choose a directory that you may write to",
    })?;
    // The token first: a wrong PIN then leaves nothing behind.
    let on_token = match token.open()? {
        Some((token, label)) => Some(*chancery::keys::IdentitySigner::public(&token.generate(label)?)),
        None => None,
    };
    let passphrase = ask::new("passphrase", *passphrase_fd, "--passphrase-fd")?;
    let make = |kind, file: &str| key(kind, name, &dir.join(file), &passphrase);
    let PublicKey::Point(connection) = make(KeyKind::Connection, "connection.key")? else {
        return Err(KeyError::Damaged.into());
    };
    public(dir, "connection.pub", &connection)?;
    if role.receives() {
        make(KeyKind::Hybrid, "hybrid.key")?;
    }
    writeln!(out, "{name} has keys now, in {}", input::name(dir))?;
    writeln!(out, "  for a certificate from home  connection.pub  hash {}", key_hash(&connection))?;
    if let Some((kind, file)) = signing {
        let key = match on_token {
            Some(key) => key,
            None => match make(kind, &format!("{file}.key"))? {
                PublicKey::Point(key) => key,
                PublicKey::Hybrid(_) => return Err(KeyError::Damaged.into()),
            },
        };
        public(dir, &format!("{file}.pub"), &key)?;
        writeln!(out, "  for the charter              {:14}  hash {}", format!("{file}.pub"), key_hash(&key))?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "Next: hand the public files to home and read the hashes to them yourself. Copy the key files to a second place."
    )?;
    Ok(())
}

fn key(kind: KeyKind, name: &SubjectName, path: &Path, passphrase: &SecretVec) -> Result<PublicKey, Failure> {
    let secret = PrivateKey::random(kind, &mut OsRng);
    let file = KeyFile::seal(kind, name.clone(), &secret, passphrase, Cost::STANDARD, &mut OsRng)?;
    disk::store(path, &file, Replace::No)?;
    Ok(file.public().clone())
}

fn public(dir: &Path, file: &str, key: &Point) -> Result<(), Failure> {
    output::create(&dir.join(file), pem::encode("PUBLIC KEY", &public_key_info(key)).as_bytes())
}
