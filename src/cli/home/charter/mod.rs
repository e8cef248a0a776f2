//! `chancery home charter`: write a charter, sign it in one's capacity, join copies signed apart, verify the chain.
//!
//! Home writes; home, officials and the recovery quorum sign, each where their key lies. Nobody signs what was not shown.

mod complete;
mod draft;
mod join;
mod new;
mod show;
mod sign;
mod verify;

use std::io::Write;

use chancery::protocol::charter::{ChainError, Charter, SignedCharter, Signer, VerifiedCharter};
use clap::{Args, Subcommand};

use crate::cli::{failure::Failure, text::words};

const AFTER_HELP: &str = "\
Examples:
  chancery home charter new --example > founding.toml     (a draft with every field explained)
  chancery home charter new --draft founding.toml --out founding.charter
  chancery home charter sign founding.charter --home home/home.crt --key home.key --out signed.charter
  chancery home charter verify signed.charter --home home/home.crt --charters charters --add
  chancery home charter sign next.charter --as official:anna --home home.crt --charters charters --key identity.key --out anna.charter
  chancery home charter join anna.charter boris.charter clara.charter --home home.crt --charters charters --out next.charter
  chancery home charter show next.charter --home home.crt --charters charters";

/// Write, sign, join, show and verify charters
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    New(new::New),
    Complete(complete::Complete),
    Sign(sign::Sign),
    Join(join::Join),
    Show(show::Show),
    Verify(verify::Verify),
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    match &arguments.command {
        Command::New(arguments) => new::run(arguments, out),
        Command::Complete(arguments) => complete::run(arguments, out),
        Command::Sign(arguments) => sign::run(arguments, out),
        Command::Join(arguments) => join::run(arguments, out),
        Command::Show(arguments) => show::run(arguments, out),
        Command::Verify(arguments) => verify::run(arguments, out),
    }
}

/// Everything that a charter says, in words.
fn write_charter(charter: &Charter, out: &mut dyn Write) -> Result<(), Failure> {
    for line in charter.to_string().lines() {
        writeln!(out, "{}", words(line))?;
    }
    Ok(())
}

/// What a charter changes, or that it founds.
fn write_changes(last: Option<&VerifiedCharter>, next: &Charter, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out)?;
    let Some(last) = last else {
        writeln!(out, "It founds the network: there is no charter before it.")?;
        return Ok(());
    };
    writeln!(out, "What it changes of version {}, which is in force:", last.charter().parts().version)?;
    for line in last.charter().changes(next) {
        writeln!(out, "  {}", words(&line))?;
    }
    Ok(())
}

/// Who has signed, and what is missing still.
fn write_standing(
    signed: &SignedCharter,
    standing: &Result<VerifiedCharter, ChainError>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let signers: Vec<String> = signed.signers().map(Signer::to_string).collect();
    let signers = if signers.is_empty() { "nobody".to_owned() } else { signers.join(", ") };
    writeln!(out, "signed by {signers}")?;
    match standing {
        Ok(verified) => writeln!(out, "in force: {}", verified.authority())?,
        Err(error) => writeln!(out, "{error}")?,
    }
    Ok(())
}

/// Whether a charter is right in everything but that more have to sign: what may be shown, signed and joined.
const fn lacks_signatures_only(error: &ChainError, signed: &SignedCharter) -> bool {
    match error {
        ChainError::TooFew { .. } => true,
        // A founding charter lacks home's, which is its only one; a wrong signature is another matter.
        ChainError::Signature { signer: Signer::Home } => signed.is_unsigned(),
        _ => false,
    }
}
