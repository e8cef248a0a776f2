//! `chancery release`: a dataset's key for one named recipient, without any embassy ever having it.
//!
//! The recipient's card says to which key officials and embassy seal their halves. What they send is checked here, all of it,
//! and put together here; the key then lies in a file under a passphrase.

mod card;
mod collect;

use std::io::Write;

use clap::{Args, Subcommand};

use crate::cli::failure::Failure;

const AFTER_HELP: &str = "\
Examples:
  chancery release card --dir replicator --out replicator.card
  chancery official open --release replicator.card ...          (an official opens the ceremony, others approve)
  chancery release collect 5b0c... --dir replicator --card replicator.card --record land-register.1.bin \\
    --embassy luxembourg --server https://embassy.example:8443 --out keys
  chancery open register.age --key keys/land-register.1.key --out register.dump

The key that is collected opens everything that was ever sealed to that version. When it has served its purpose, have the data \
owner make a new version.";

/// Receive a dataset's key, as the recipient whom a ceremony names
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Card(card::Arguments),
    Collect(collect::Arguments),
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    match &arguments.command {
        Command::Card(arguments) => card::run(arguments, out),
        Command::Collect(arguments) => collect::run(arguments, out),
    }
}
