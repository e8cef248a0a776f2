//! `chancery home`: the home authority, offline. It founds itself, issues certificates, revokes them, enrols embassies and
//! writes the charter.
//!
//! Trusts its own key and the person at the keyboard. Of what others send, only public keys are taken: home decides
//! everything else that stands in a certificate, and officials sign what home writes into a charter.

mod charter;
mod enrol;
mod found;
mod issue;
mod revoke;

use std::{
    io::Write,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use chancery::{
    keys::IdentitySigner,
    protocol::certificate::{HomeAuthority, MAX_CERTIFICATE_BYTES, UnixTime},
};
use clap::{Args, Subcommand};

use crate::cli::{failure::Failure, input, pem};

const DAY: i64 = 24 * 60 * 60;
/// Certificates begin a little before they are made, for clocks that are slow.
const BACKDATED_SECONDS: i64 = 300;

const AFTER_HELP: &str = "\
Examples:
  chancery home init --name registrar --country EE --trust-domain registers.example --key home.key --dir home
  chancery home issue official anna --from anna/card.bin --key home.key --dir home --out anna/anna.crt
  chancery home issue agent replicator --from request.csr --key home.key --dir home --out replicator.crt
  chancery home revoke anna/anna.crt --key home.key --dir home
  chancery home revoke --key home.key --dir home           (nobody: renews the list before it is out of date)
  chancery home charter --help                             (write, sign, join and verify charters)
  chancery home enrol luxembourg --charters charters --key home.key --dir home --out luxembourg.crt

With a token instead of a key file: --module LIBRARY --token LABEL --token-key LABEL instead of --key.";

/// The home authority: found it, issue certificates, revoke them, write the charter
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(found::Init),
    Issue(issue::Issue),
    Revoke(revoke::Revoke),
    Enrol(enrol::Enrol),
    Charter(charter::Arguments),
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    match &arguments.command {
        Command::Init(arguments) => found::run(arguments, out),
        Command::Issue(arguments) => issue::run(arguments, out),
        Command::Revoke(arguments) => revoke::run(arguments, out),
        Command::Enrol(arguments) => enrol::run(arguments, out),
        Command::Charter(arguments) => charter::run(arguments, out),
    }
}

fn now() -> UnixTime {
    // A clock before 1970 gives 0, and certificates that nobody accepts.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn after(from: UnixTime, days: u16) -> UnixTime {
    UnixTime(from.0.saturating_add(i64::from(days) * DAY))
}

/// The authority of this directory, whose key `signer` is.
fn authority(dir: &Path, signer: &dyn IdentitySigner) -> Result<HomeAuthority, Failure> {
    let path = dir.join("home.crt");
    let der = pem::read(
        &path,
        "a home authority's certificate",
        MAX_CERTIFICATE_BYTES,
        "Give the directory that `chancery home init` wrote",
    )?;
    HomeAuthority::own(&der, signer.public()).map_err(|error| Failure::Certificate {
        name: input::name(&path),
        error,
        advice: "Check that key and directory belong together; nothing was issued",
    })
}
