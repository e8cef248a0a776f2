//! `chancery official`: what an official does on their own machine; one file per command.
//!
//! Trusts this machine, the official's own keys, and the home key that was given in person. What an embassy or a file says
//! is checked here before anything is signed.

mod connect;
mod init;
mod place;

use std::io::Write;

use clap::{Args, Subcommand};

use crate::cli::failure::Failure;

/// What an official does on their own machine
#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(init::Arguments),
    Connect(connect::Arguments),
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    match &arguments.command {
        Command::Init(arguments) => init::run(arguments, out),
        Command::Connect(arguments) => connect::run(arguments, out),
    }
}
