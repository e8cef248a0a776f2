//! `chancery policy`: the access policy's digest for a charter, its check, and what it answers to a case.
//!
//! The digest needs no more than the text; checking and asking need Cedar, which comes with the embassy's chancery.

use std::{io::Write, path::PathBuf};

use chancery::{access, protocol::access::AccessText};
use clap::{Args, Subcommand};

#[cfg(feature = "service")]
use crate::cli::input;
use crate::cli::{failure::Failure, text::words};

const AFTER_HELP: &str = "\
Examples:
  chancery policy digest                          what a charter's `policy` says for the policy of this chancery
  chancery policy digest ./policy                 the same for a policy of one's own
  chancery policy check ./policy                  is it one? (at the embassy's chancery)
  chancery policy ask case.json --policy ./policy who may do what? policy/cases shows how a case looks

Without a directory it is the policy that comes with this program, which the source has in policy/.";

/// Who may ask what of an embassy: digest, check, and questions
#[derive(Args)]
#[command(after_long_help = AFTER_HELP, arg_required_else_help = true, disable_help_subcommand = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the digest by which a charter names a policy
    Digest {
        /// The policy's directory [default: the policy of this program]
        #[arg(value_name = "DIRECTORY")]
        directory: Option<PathBuf>,
    },
    /// Check a policy as an embassy does before it serves; say what each of its rules is for
    #[cfg(feature = "service")]
    Check {
        /// The policy's directory [default: the policy of this program]
        #[arg(value_name = "DIRECTORY")]
        directory: Option<PathBuf>,
    },
    /// Ask a policy about a case: exit code 0 is yes, 1 is no
    #[cfg(feature = "service")]
    Ask {
        /// The case, in JSON; `-` is standard input
        #[arg(value_name = "CASE")]
        case: PathBuf,
        /// The policy's directory [default: the policy of this program]
        #[arg(long, value_name = "DIRECTORY")]
        policy: Option<PathBuf>,
    },
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    match &arguments.command {
        Command::Digest { directory } => Ok(writeln!(out, "{}", text(directory.as_ref())?.digest())?),
        #[cfg(feature = "service")]
        Command::Check { directory } => check(directory.as_ref(), out),
        #[cfg(feature = "service")]
        Command::Ask { case, policy } => ask(case, policy.as_ref(), out),
    }
}

fn text(directory: Option<&PathBuf>) -> Result<AccessText, Failure> {
    let advice = "Name the directory of a policy; policy/ in chancery's source shows how one looks";
    match directory {
        None => Ok(AccessText::embedded()),
        Some(directory) => access::read(directory).map_err(|error| Failure::Refused(words(&error.to_string()), advice)),
    }
}

#[cfg(feature = "service")]
fn checked(directory: Option<&PathBuf>) -> Result<chancery::service::policy::Policy, Failure> {
    let text = text(directory)?;
    chancery::service::policy::Policy::new(text)
        .map_err(|error| Failure::Refused(words(&error.to_string()), "An embassy would not start with it"))
}

#[cfg(feature = "service")]
fn check(directory: Option<&PathBuf>, out: &mut dyn Write) -> Result<(), Failure> {
    let policy = checked(directory)?;
    for (id, permits, why) in policy.policies() {
        writeln!(out, "{} {id}: {}", if permits { "permit" } else { "forbid" }, words(why))?;
    }
    Ok(writeln!(out, "\nThe policy holds. Its digest, for the charter: {}", policy.digest())?)
}

#[cfg(feature = "service")]
fn ask(case: &std::path::Path, directory: Option<&PathBuf>, out: &mut dyn Write) -> Result<(), Failure> {
    use chancery::service::policy::Case;

    let policy = checked(directory)?;
    let expected = input::Expected {
        what: "a case",
        bound: Case::MAX_BYTES,
        missing: "Name a file; policy/cases in chancery's source shows how one looks",
    };
    let bytes = input::read(case, &expected)?;
    let advice = "Correct the case";
    let refused = |error: &dyn std::fmt::Display| Failure::Refused(words(&error.to_string()), advice);
    let asked = Case::read(&bytes).map_err(|error| refused(&error))?;
    let answer = asked.ask(&policy).map_err(|error| refused(&error))?;
    writeln!(out, "{}", words(&asked.title))?;
    match answer {
        Ok(yes) => Ok(writeln!(out, "Yes, by the policy {}: {}.", yes.policy(), words(yes.why()))?),
        Err(no) => Err(Failure::Denied { what: words(&no.to_string()) }),
    }
}
