//! `chancery roll`: what happened at an embassy, in the order in which it happened there.
//!
//! The embassy is not believed: each entry is decoded, its leaf hash computed here, and its number has to be the next one. That
//! no entry was changed or left out since somebody else looked is not shown by that: keep the leaf hashes, and compare.

use std::io::Write;

use chancery::{
    client::{
        Exchange,
        api::{DocumentBody, RollEntry, RollPage},
    },
    protocol::{
        roll::{Entry, leaf_hash},
        wire::Document,
    },
};
use clap::{Args, Subcommand};

use crate::cli::{connection::Visit, failure::Failure, network::Network, text::words};

const AFTER_HELP: &str = "\
Examples:
  chancery roll show --dir court-of-audit --embassy luxembourg --server https://embassy.example:8443
  chancery roll show --from 120 --dir court-of-audit --embassy luxembourg --server URL     what came since
  chancery roll show --leaves ... > leaves.txt     numbers and leaf hashes alone (RFC 6962), to keep and compare";

/// Read what happened at an embassy
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Show(Show),
}

/// Print the entries of an embassy's roll
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
struct Show {
    /// The number of the first entry
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    from: u64,
    /// Print numbers and leaf hashes alone
    #[arg(long)]
    leaves: bool,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    visit: Visit,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let Command::Show(arguments) = &arguments.command;
    let line = {
        let network = arguments.network.open()?;
        arguments.visit.open(&network, arguments.network.dir.as_ref(), Exchange::HybridPreferred)?
    };
    let mut next = arguments.from;
    loop {
        let page: RollPage = line.wait(line.client.get(&format!("/v1/roll?from={next}")))?;
        for shown in &page.entries {
            let entry = check(shown, next)?;
            if arguments.leaves {
                writeln!(out, "{next} {}", shown.leaf)?;
            } else {
                writeln!(out, "entry {next}  leaf {}", shown.leaf)?;
                for (label, text) in entry.lines() {
                    writeln!(out, "  {label:<12} {}", words(&text))?;
                }
            }
            next = next.saturating_add(1);
        }
        if page.entries.is_empty() || next >= page.size {
            return Ok(());
        }
    }
}

/// An entry, once it is the one with this number and has the leaf hash that it is shown with.
fn check(shown: &RollEntry, number: u64) -> Result<Entry, Failure> {
    let wrong = |what: String| Failure::Refused(what, "The embassy shows a roll that is none: tell the officials");
    if shown.sequence != number {
        return Err(wrong(format!("entry {} came where entry {number} was due", shown.sequence)));
    }
    let entry: Entry = DocumentBody { document: shown.document.clone() }
        .read()
        .map_err(|error| wrong(format!("entry {number} cannot be read: {error}")))?;
    let leaf = leaf_hash(&entry.encode());
    if shown.leaf != leaf.to_string() {
        return Err(wrong(format!("entry {number} has the leaf hash {leaf}, and is shown with another")));
    }
    Ok(entry)
}
