//! `chancery official review`: everything about one ceremony, checked by this machine. Nothing is signed.

use std::{io::Write, path::PathBuf};

use chancery::{
    client::{official::Reviewed, system_clock},
    protocol::wire::Document,
};
use clap::Args;

use super::{
    find::Wanted,
    place::{Place, wait},
    show,
};
use crate::cli::{failure::Failure, input, output};

const AFTER_HELP: &str = "\
Shows the statement in plain words with the words to read aloud, who has approved and who is missing, what this machine checked \
and what it cannot. Read the words to the others: whoever hears the same ten looks at the same statement.

With --offer FILE the offer is written to a file, for officials without a network: `approve --offline FILE`.

Examples:
  chancery official review 7f3a
  chancery official review 7f3a --offer offer.bin";

/// Show and check one ceremony; sign nothing
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    wanted: Wanted,
    /// Write the offer to a new file, for an official without a network
    #[arg(long, value_name = "FILE")]
    offer: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    if let Some(path) = &arguments.offer {
        output::is_free(path)?;
    }
    let mut directory = arguments.place.open()?;
    let keys = arguments.place.unlock(&directory)?;
    wait(async {
        let found = arguments.wanted.find(&mut directory, &keys, false).await?;
        let (visit, told) = (&found.visit, &found.told);
        let id = show::short(told);
        writeln!(out, "ceremony {}", told.id)?;
        show::standing(out, told, directory.name())?;
        writeln!(out)?;
        if told.view.phase != "collecting" {
            writeln!(out, "THE STATEMENT")?;
            show::statement(out, &told.statement)?;
            writeln!(out)?;
            if told.view.outcome.is_none() {
                show::ways_out(out, &id)?;
            }
            return Ok(());
        }
        visit.take_datasets(&mut directory, &told.statement).await?;
        let offer = visit.offer(&told.id).await?;
        let reviewed = Reviewed::of(&mut directory, &offer, system_clock())?;
        show::reviewed(out, &reviewed)?;
        writeln!(out)?;
        if let Some(path) = &arguments.offer {
            output::create(path, &offer.encode())?;
            writeln!(out, "offer written to {}", input::name(path))?;
        }
        if show::waits_for(told, directory.name()) {
            writeln!(out, "To agree:  `chancery official approve {id}`")?;
        }
        show::ways_out(out, &id)
    })
}
