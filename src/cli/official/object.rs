//! `chancery official deny` and `stop`: a vote against a ceremony, and its end. Both are quick: less is shown and asked than for
//! an approval, because nothing opens by them.

use std::{io::Write, path::PathBuf};

use chancery::{
    client::official::{Carried, Directory, DirectoryError, Keys, Load},
    protocol::{ids::CeremonyId, notice, paragraph::Reason, statement::Statement, wire::Document},
};
use clap::Args;

use super::{
    approve::read_offer,
    confirm,
    find::Wanted,
    place::{Place, wait},
    show,
};
use crate::cli::{failure::Failure, input, output, text::words};

const DENY_HELP: &str = "\
A denial is a vote. It does not end the ceremony by itself, unless so many have denied that the rest cannot reach the quorum. It \
stands in the roll with its reason, and cannot be taken back: who changes their mind asks for a new ceremony.

Examples:
  chancery official deny 7f3a --reason \"the registrar knows nothing of this\"
  chancery official deny --offline offer.bin --out anna.denial --reason \"...\"";

const STOP_HELP: &str = "\
One official's stop ends a ceremony at once, whatever it has reached; where it has given a lease, the lease ends and its keys are \
wiped. Use it when something is wrong. What was released to a recipient is not called back by it. It stands in the roll with \
its reason.

Examples:
  chancery official stop 7f3a --reason \"the machine room was entered\"
  chancery official stop --offline offer.bin --out anna.stop --reason \"...\"";

/// Vote against a ceremony
#[derive(Args)]
#[command(after_long_help = DENY_HELP)]
pub(super) struct Deny {
    #[command(flatten)]
    objection: Objection,
}

/// End a ceremony, or the lease it gave, at once and alone
#[derive(Args)]
#[command(after_long_help = STOP_HELP)]
pub(super) struct Stop {
    #[command(flatten)]
    objection: Objection,
}

#[derive(Args)]
struct Objection {
    #[command(flatten)]
    wanted: Wanted,
    /// Why; it stands in the roll
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Reason,
    /// Do not ask again
    #[arg(long)]
    yes: bool,
    /// Use the offer in this file, and no network
    #[arg(long, value_name = "OFFER_FILE", requires = "out", conflicts_with_all = ["ceremony", "embassy"])]
    offline: Option<PathBuf>,
    /// Write it to this new file, for anyone to carry
    #[arg(long, value_name = "FILE", requires = "offline")]
    out: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

fn reason(text: &str) -> Result<Reason, String> {
    Reason::new(text).map_err(|error| error.to_string())
}

/// What is to be said.
#[derive(Clone, Copy)]
enum Say {
    No,
    Stop,
}

impl Say {
    const fn question(self) -> &'static str {
        match self {
            Self::No => "Vote against this ceremony, for good?",
            Self::Stop => "End this ceremony, and the lease if it gave one, now?",
        }
    }

    fn sign(self, directory: &Directory, keys: &Keys, id: CeremonyId, reason: &Reason) -> Result<Load, Failure> {
        let (name, reason) = (directory.name().clone(), reason.clone());
        let identity = keys.identity()?;
        let signed = match self {
            Self::No => notice::Denial::sign(id, name, reason, &identity).map(Load::Denial),
            Self::Stop => notice::Stop::sign(id, name, reason, &identity).map(Load::Stop),
        };
        signed.map_err(|error| {
            Failure::Refused(error.to_string(), "Nothing was sent; check the token or file and try again")
        })
    }
}

pub(super) fn deny(arguments: &Deny, out: &mut dyn Write) -> Result<(), Failure> {
    object(&arguments.objection, Say::No, out)
}

pub(super) fn stop(arguments: &Stop, out: &mut dyn Write) -> Result<(), Failure> {
    object(&arguments.objection, Say::Stop, out)
}

fn object(arguments: &Objection, say: Say, out: &mut dyn Write) -> Result<(), Failure> {
    let mut directory = arguments.place.open()?;
    if let (Some(offer), Some(to)) = (&arguments.offline, &arguments.out) {
        output::is_free(to)?;
        let offer = read_offer(offer)?;
        let statement = offer.unverified().statement();
        let facts = directory.facts(statement.embassy())?;
        let statement =
            offer.unverified().signed_statement().verify(&facts).map_err(|error| {
                Failure::Refused(error.to_string(), "Ask who gave you the file. Nothing was signed")
            })?;
        ask(arguments, say, statement, out)?;
        let keys = arguments.place.unlock(&directory)?;
        let load = say.sign(&directory, &keys, statement.id(), &arguments.reason)?;
        let carried = Carried { embassy: statement.embassy().clone(), ceremony: statement.id(), load };
        output::create(to, &carried.encode())?;
        writeln!(out, "written to {}. Nothing was sent.", input::name(to))?;
        writeln!(out, "Next: anyone with a network carries it: `chancery official carry {}`", input::name(to))?;
        return Ok(());
    }
    let keys = arguments.place.unlock(&directory)?;
    wait(async {
        // A stop reaches the lease of a ceremony that has ended.
        let found = arguments.wanted.find(&mut directory, &keys, true).await?;
        let (visit, told) = (&found.visit, &found.told);
        ask(arguments, say, &told.statement, out)?;
        let load = say.sign(&directory, &keys, told.id, &arguments.reason)?;
        let carried = Carried { embassy: told.statement.embassy().clone(), ceremony: told.id, load };
        let answer = visit.deliver(&carried).await.map_err(DirectoryError::from)?;
        let now = visit.told(&directory, answer.ceremony)?;
        writeln!(out, "It is in ({}).", words(&answer.reply))?;
        show::standing(out, &now, directory.name())
    })
}

fn ask(arguments: &Objection, say: Say, statement: &Statement, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "ceremony {}", statement.id())?;
    show::statement(out, statement)?;
    writeln!(out)?;
    confirm::yes(say.question(), arguments.yes, out)
}
