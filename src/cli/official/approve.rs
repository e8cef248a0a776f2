//! `chancery official approve`: everything is checked and shown, and with the person's words the contribution is made.

use std::{io::Write, path::PathBuf};

use chancery::{
    client::{
        official::{Carried, Load, Reviewed},
        system_clock,
    },
    protocol::{ids::EmbassyName, offer::SignedOffer, wire::Document},
};
use clap::Args;

use super::{
    confirm,
    find::Wanted,
    place::{Place, wait},
    show,
};
use crate::cli::{
    failure::Failure,
    input::{self, Expected},
    output,
    text::words,
};

const AFTER_HELP: &str = "\
This machine checks the charter, the statement, the offer, every slot, and what was seen before, and computes each hash that gets \
signed. It shows the statement, and asks for its ten words: read them to the others before you type them.

Without a network: `review 7f3a --offer FILE` on a machine that has one, bring the file here, `approve --offline FILE --out \
APPROVAL`, and let anyone carry the approval: `chancery official carry APPROVAL`. An approval is good for a few minutes only (the \
charter says how many), counted from the offer.

In a script, --yes-i-read takes the words: a script has to know which statement it agrees to.

Examples:
  chancery official approve 7f3a
  chancery official approve --offline offer.bin --out anna.approval";

/// Check and show one ceremony, and agree to it
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    wanted: Wanted,
    /// Use the offer in this file, and no network
    #[arg(long, value_name = "OFFER_FILE", requires = "out", conflicts_with_all = ["ceremony", "embassy"])]
    offline: Option<PathBuf>,
    /// Write the approval to this new file, for anyone to carry
    #[arg(long, value_name = "FILE", requires = "offline")]
    out: Option<PathBuf>,
    /// The ten words of the statement, where nobody is at a terminal
    #[arg(long, value_name = "WORDS")]
    yes_i_read: Option<String>,
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    match (&arguments.offline, &arguments.out) {
        (Some(offer), Some(to)) => offline(arguments, offer, to, out),
        _ => online(arguments, out),
    }
}

fn online(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let mut directory = arguments.place.open()?;
    let keys = arguments.place.unlock(&directory)?;
    wait(async {
        let found = arguments.wanted.find(&mut directory, &keys, false).await?;
        let (visit, told) = (&found.visit, &found.told);
        let (id, own) = (show::short(told), directory.name().clone());
        writeln!(out, "ceremony {}", told.id)?;
        show::standing(out, told, &own)?;
        writeln!(out)?;
        if told.view.contributed.iter().any(|name| name == own.as_str()) {
            writeln!(
                out,
                "You have approved this one already. Nothing to do: `chancery official watch {id}` shows how it goes on."
            )?;
            return Ok(());
        }
        if told.view.phase != "collecting" {
            let what = format!("{id} takes no approvals now: {}", show::state(told, &own));
            return Err(Failure::Refused(what, "`chancery official watch` shows how it goes on. Nothing was signed"));
        }
        visit.take_datasets(&mut directory, &told.statement).await?;
        let offer = visit.offer(&told.id).await?;
        let reviewed = Reviewed::of(&mut directory, &offer, system_clock())?;
        if reviewed.statement().id() != told.id {
            let what = format!("the embassy offers another statement under the name of {id}");
            return Err(Failure::Refused(what, "Do not contribute; tell the others. Nothing was signed"));
        }
        show::reviewed(out, &reviewed)?;
        writeln!(out)?;
        show::ways_out(out, &id)?;
        writeln!(out)?;
        confirm::words(reviewed.statement().words(), arguments.yes_i_read.as_deref(), out)?;
        let contribution = reviewed.contribute(&mut directory, &keys)?;
        let carried =
            Carried { embassy: reviewed.embassy().clone(), ceremony: told.id, load: Load::Approval(contribution) };
        let answer = visit.deliver(&carried).await?;
        let now = visit.told(&directory, answer.ceremony)?;
        writeln!(out, "Your approval is in ({}).", words(&answer.reply))?;
        show::standing(out, &now, &own)?;
        writeln!(out)?;
        writeln!(
            out,
            "`chancery official watch {id}` shows how it goes on. `chancery official stop {id}` still ends it."
        )?;
        Ok(())
    })
}

fn offline(
    arguments: &Arguments,
    offer: &std::path::Path,
    to: &std::path::Path,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    output::is_free(to)?;
    let mut directory = arguments.place.open()?;
    let offer = read_offer(offer)?;
    let reviewed = Reviewed::of(&mut directory, &offer, system_clock())?;
    writeln!(out, "ceremony {}, from a file: who has approved so far is not known here", reviewed.statement().id())?;
    writeln!(out)?;
    show::reviewed(out, &reviewed)?;
    writeln!(out)?;
    confirm::words(reviewed.statement().words(), arguments.yes_i_read.as_deref(), out)?;
    let keys = arguments.place.unlock(&directory)?;
    let contribution = reviewed.contribute(&mut directory, &keys)?;
    let (embassy, ceremony): (EmbassyName, _) = (reviewed.embassy().clone(), reviewed.statement().id());
    let carried = Carried { embassy, ceremony, load: Load::Approval(contribution) };
    output::create(to, &carried.encode())?;
    writeln!(out, "approval written to {}. Nothing was sent.", input::name(to))?;
    writeln!(out)?;
    writeln!(out, "Next: anyone with a network carries it: `chancery official carry {}`", input::name(to))?;
    writeln!(
        out,
        "It holds good for {} minutes from the offer at most.",
        reviewed.checked().expiry_max_seconds() / 60
    )?;
    Ok(())
}

/// Reads an offer that somebody brought.
pub(super) fn read_offer(path: &std::path::Path) -> Result<SignedOffer, Failure> {
    let expected = Expected {
        what: "an offer",
        bound: SignedOffer::MAX_BYTES,
        missing: "`chancery official review CEREMONY --offer FILE` writes one, on a machine with a network",
    };
    let bytes = input::read(path, &expected)?;
    SignedOffer::decode(&bytes).map_err(|error| Failure::Document { name: input::name(path), kind: "an offer", error })
}
