//! The command line: what commands there are, and what becomes of their outcome.
//!
//! Trusts the person at the keyboard, and nothing that is read from a file. Commands write to a handle they are given and
//! return a [`Failure`]; only this file knows standard output, standard error and exit codes (`docs/cli.md`).

mod ask;
mod bench;
mod completions;
mod connection;
mod dataset;
#[cfg(feature = "service")]
mod embassy;
mod eventlog;
mod failure;
#[cfg(feature = "service")]
mod founding;
mod home;
mod input;
mod inspect;
mod keys;
mod memory;
mod network;
mod official;
mod open;
mod output;
mod pem;
mod policy;
mod public_key;
mod release;
mod roll;
mod seal;
#[cfg(feature = "service")]
mod serve;
mod signer;
mod stream;
mod text;
mod witness;

use std::{
    io::{BufWriter, ErrorKind, Write, stderr, stdout},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand};
use failure::Failure;

const LONG_ABOUT: &str = "\
Key custody and attestation for data embassies.

What is sealed at home opens only when a quorum of officials agrees and the embassy's own TPM, in a boot state that the \
same quorum approved, adds its half. These are the tools of home, officials, data owners, agents and auditors, and the embassy's \
own service. Only the service needs a TPM.";

const AFTER_HELP: &str = "\
Examples:
  chancery inspect charter.bin          what is this file, and what does it hold?
  sudo chancery eventlog                what did this machine measure while it booted?
  chancery eventlog copied.bin --json   the same of another machine, for programs
  chancery official --help              officials: keys, and a ceremony from the inbox to the end of its lease
  chancery home --help                  found a home authority; certificates, charters, embassies
  chancery keys --help                  the keys of agents, data owners, auditors and witnesses
  chancery dataset --help               make datasets, and what is encrypted to them
  chancery seal --help                  encrypt to a dataset; `chancery open` decrypts under a lease
  chancery completions bash             completion of commands in the shell

Exit status:
  0  done
  1  refused: the input cannot be read, or is not what it should be
  2  the command line is not understood

What was read is never trusted: text from a file is printed escaped, and whatever was not checked is said to be unchecked.";

#[derive(Parser)]
#[command(
    name = "chancery",
    version,
    about = "Key custody and attestation for data embassies",
    long_about = LONG_ABOUT,
    after_long_help = AFTER_HELP,
    after_help = "`chancery --help` and `chancery COMMAND --help` say more, with examples.",
    color = clap::ColorChoice::Never,
    max_term_width = 100,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Eventlog(eventlog::Arguments),
    Inspect(inspect::Arguments),
    Home(home::Arguments),
    Official(official::Arguments),
    Keys(keys::Arguments),
    Dataset(dataset::Arguments),
    Policy(policy::Arguments),
    Seal(seal::Arguments),
    Roll(roll::Arguments),
    Bench(bench::Arguments),
    Open(open::Arguments),
    Witness(witness::Arguments),
    Release(release::Arguments),
    #[cfg(feature = "service")]
    Embassy(embassy::Arguments),
    #[cfg(feature = "service")]
    Serve(serve::Arguments),
    Completions(completions::Arguments),
}

impl Command {
    fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Self::Eventlog(arguments) => eventlog::run(arguments, out),
            Self::Inspect(arguments) => inspect::run(arguments, out),
            Self::Home(arguments) => home::run(arguments, out),
            Self::Official(arguments) => official::run(arguments, out),
            Self::Keys(arguments) => keys::run(arguments, out),
            Self::Dataset(arguments) => dataset::run(arguments, out),
            Self::Policy(arguments) => policy::run(arguments, out),
            Self::Seal(arguments) => seal::run(arguments, out),
            Self::Roll(arguments) => roll::run(arguments, out),
            Self::Bench(arguments) => bench::run(arguments, out),
            Self::Open(arguments) => open::run(arguments, out),
            Self::Witness(arguments) => witness::run(arguments, out),
            Self::Release(arguments) => release::run(arguments, out),
            #[cfg(feature = "service")]
            Self::Embassy(arguments) => embassy::run(arguments, out),
            #[cfg(feature = "service")]
            Self::Serve(arguments) => serve::run(arguments),
            Self::Completions(arguments) => completions::run(arguments, &mut Cli::command(), out),
        }
    }
}

/// Runs the command line of this process.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version are "errors" too, with exit code 0 and for standard output; clap knows which is which. Nobody is
        // left to tell where its own printing fails.
        Err(usage) => {
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    let mut out = BufWriter::new(stdout().lock());
    let done = cli.command.run(&mut out);
    // What was said before a refusal belongs before it on the screen.
    let flushed = out.flush().map_err(Failure::Output);
    match done.and(flushed) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough: `chancery eventlog | head -1`.
        Err(Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(stderr().lock(), "chancery: {failure}");
            ExitCode::FAILURE
        }
    }
}
