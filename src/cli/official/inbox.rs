//! `chancery official inbox`: what goes on at the embassies, and what waits for this official.

use std::io::Write;

use chancery::{
    client::official::{Directory, DirectoryError, Keys, Visit},
    protocol::ids::EmbassyName,
};
use clap::Args;

use super::{
    find,
    place::{Place, wait},
    show,
};
use crate::cli::{failure::Failure, text::words};

const AFTER_HELP: &str = "\
Asks each embassy that you know. Charters, revocation lists and dataset records that are new come along, and are checked. \
Nothing is signed.

Examples:
  chancery official inbox
  chancery official inbox --embassy luxembourg --all";

/// What goes on, and what waits for you
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Ask only this embassy
    #[arg(long, value_name = "NAME")]
    embassy: Option<EmbassyName>,
    /// Show ceremonies that have ended, too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let mut directory = arguments.place.open()?;
    let embassies = find::embassies(&directory, arguments.embassy.as_ref())?;
    let keys = arguments.place.unlock(&directory)?;
    let mut unreached = None;
    for embassy in embassies {
        // The others are asked all the same: one that is cut off hides nothing of theirs.
        if let Err(error) = wait(one(arguments, &mut directory, &keys, &embassy, out)) {
            if matches!(error, Failure::Output(_)) {
                return Err(error);
            }
            writeln!(out, "{embassy}: not reached")?;
            writeln!(out)?;
            unreached = Some(error);
        }
    }
    unreached.map_or(Ok(()), Err)
}

async fn one(
    arguments: &Arguments,
    directory: &mut Directory,
    keys: &Keys,
    embassy: &EmbassyName,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (visit, news) = Visit::begin(directory, keys, embassy).await?;
    let charter = match directory.charter() {
        Ok(charter) => charter,
        Err(DirectoryError::NoCharter) => {
            writeln!(out, "{embassy}: there is no charter yet. Next: home founds one")?;
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    writeln!(out, "{embassy}: charter version {}", charter.charter().parts().version)?;
    for news in news {
        writeln!(out, "  NEW: {}", words(&news))?;
    }
    if charter.charter().facts(embassy).is_err() {
        writeln!(out, "  this embassy is being founded. Next: `chancery official genesis`")?;
        return Ok(());
    }
    let ceremonies = visit.ceremonies(directory, arguments.all).await?;
    if ceremonies.is_empty() {
        writeln!(out, "  no ceremony goes on. `chancery official open` opens one")?;
    }
    let own = directory.name();
    for told in &ceremonies {
        writeln!(out)?;
        writeln!(out, "{}  {}", show::short(told), show::state(told, own))?;
        show::line(out, "what", &words(&told.statement.to_string()))?;
        show::line(out, "opened by", told.statement.opener().as_str())?;
        show::line(out, "ends at", &told.statement.expires_at().to_string())?;
        if let Some(outcome) = &told.view.outcome {
            show::line(out, "outcome", &words(outcome))?;
        }
        if show::waits_for(told, own) {
            show::line(out, "next", &format!("`chancery official review {}`", show::short(told)))?;
        } else {
            show::line(out, "next", &words(&told.view.next))?;
        }
    }
    writeln!(out)?;
    Ok(())
}
