//! `chancery dataset`: what a data owner makes, and what everybody may know of a dataset.
//!
//! The seed is made here and wiped here; what leaves is sealed for the embassies and the recovery quorum, and signed by the
//! data owner. Readers believe the charter for who that is, and remember the highest version they saw.

mod create;
mod embassy;
mod show;

use std::io::Write;

use clap::{Args, Subcommand};

use crate::cli::failure::Failure;

const AFTER_HELP: &str = "\
Examples:
  chancery dataset list --home home.crt --charters charters
  chancery dataset create land-register --home home.crt --charters charters --key owner.key --out land-register.1.bin
  chancery dataset show land-register.1.bin --home home.crt --charters charters
  chancery dataset recipients land-register.1.bin --home home.crt --charters charters > recipients.txt
  chancery dataset publish land-register.1.bin --dir land-board --embassy luxembourg --server https://embassy.example:8443
  chancery dataset fetch land-register --version 1 --dir replicator --embassy luxembourg --server URL --out land-register.1.bin
  age -R recipients.txt < register.dump > register.age      (any age that knows age1tagpq)";

/// Make and show datasets: the keys that registers are encrypted to
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Create(create::Create),
    List(show::List),
    Show(show::Show),
    Recipients(show::Recipients),
    Publish(embassy::Publish),
    Fetch(embassy::Fetch),
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    match &arguments.command {
        Command::Create(arguments) => create::run(arguments, out),
        Command::List(arguments) => show::list(arguments, out),
        Command::Show(arguments) => show::show(arguments, out),
        Command::Recipients(arguments) => show::recipients(arguments, out),
        Command::Publish(arguments) => embassy::publish(arguments, out),
        Command::Fetch(arguments) => embassy::fetch(arguments, out),
    }
}
