//! `chancery official`: what an official does on their own machine; one file per command.
//!
//! Trusts this machine, the official's own keys, and the home key that was given in person. What an embassy or a file says
//! is checked here before anything is signed.

mod approve;
mod carry;
mod confirm;
mod connect;
mod find;
mod genesis;
mod inbox;
mod init;
mod object;
mod open;
pub(super) mod place;
mod review;
mod share;
mod show;
mod span;
mod status;
mod watch;

use std::io::Write;

use clap::{Args, Subcommand};

use crate::cli::failure::Failure;

const AFTER_HELP: &str = "\
A ceremony, from your side:
  chancery official inbox            what is there, and what waits for you
  chancery official review 7f3a      everything about one ceremony, checked by this machine
  chancery official approve 7f3a     the same, then your consent, if you give it
  chancery official deny 7f3a        your vote against it
  chancery official stop 7f3a        ends it, at once and alone; also ends the lease it gave
  chancery official watch 7f3a       what happens there, as it happens

7f3a is the beginning of a ceremony's id, or the first of its words. With no network: approve --offline, then carry.
--help of each command says more. docs/officials.md goes through it all on paper.";

/// What an official does on their own machine
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(init::Arguments),
    Connect(connect::Arguments),
    Genesis(Box<genesis::Arguments>),
    Rebuild(share::Rebuild),
    Inbox(inbox::Arguments),
    Open(open::Arguments),
    Review(review::Arguments),
    Approve(approve::Arguments),
    Deny(object::Deny),
    Stop(object::Stop),
    Carry(carry::Arguments),
    Status(status::Arguments),
    Watch(watch::Arguments),
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    match &arguments.command {
        Command::Init(arguments) => init::run(arguments, out),
        Command::Connect(arguments) => connect::run(arguments, out),
        Command::Genesis(arguments) => genesis::run(arguments, out),
        Command::Rebuild(arguments) => share::rebuild(arguments, out),
        Command::Inbox(arguments) => inbox::run(arguments, out),
        Command::Open(arguments) => open::run(arguments, out),
        Command::Review(arguments) => review::run(arguments, out),
        Command::Approve(arguments) => approve::run(arguments, out),
        Command::Deny(arguments) => object::deny(arguments, out),
        Command::Stop(arguments) => object::stop(arguments, out),
        Command::Carry(arguments) => carry::run(arguments, out),
        Command::Status(arguments) => status::run(arguments, out),
        Command::Watch(arguments) => watch::run(arguments, out),
    }
}
