//! `chancery official carry`: brings an approval, denial or stop that another official signed to its embassy.

use std::{io::Write, path::PathBuf};

use chancery::{
    client::official::{Carried, DirectoryError, Visit},
    protocol::wire::Document,
};
use clap::Args;

use super::{
    place::{Place, wait},
    show,
};
use crate::cli::{
    failure::Failure,
    input::{self, Expected},
    text::words,
};

const AFTER_HELP: &str = "\
The file is signed, and what is secret in it is encrypted: you learn nothing by carrying it, and cannot change it. You need a \
certificate of your own to reach the embassy.

Examples:
  chancery official carry anna.approval";

/// Bring an official's signed file to its embassy
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// What `approve`, `deny` or `stop` wrote with --offline
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let expected = Expected {
        what: "an approval, denial or stop to be carried",
        bound: Carried::MAX_BYTES,
        missing: "`chancery official approve --offline` writes one",
    };
    let bytes = input::read(&arguments.file, &expected)?;
    let carried = Carried::decode(&bytes).map_err(|error| Failure::Document {
        name: input::name(&arguments.file),
        kind: "something for an embassy",
        error,
    })?;
    let mut directory = arguments.place.open()?;
    let keys = arguments.place.unlock(&directory)?;
    wait(async {
        let (visit, _) = Visit::begin(&mut directory, &keys, &carried.embassy).await?;
        let answer = visit.deliver(&carried).await.map_err(DirectoryError::from)?;
        let told = visit.told(&directory, answer.ceremony)?;
        writeln!(out, "{} took {} ({})", carried.embassy, carried.load, words(&answer.reply))?;
        writeln!(out, "ceremony {}", told.id)?;
        show::standing(out, &told, directory.name())
    })
}
