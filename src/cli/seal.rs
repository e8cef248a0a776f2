//! `chancery seal`: a filter that encrypts to a dataset's recipient, in the age format that everybody's age writes.
//!
//! Nothing is encrypted to a recipient that its data owner did not sign, nor to a lower version than this machine has seen.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use age::Encryptor;
use chancery::protocol::{dataset::Recipient, ids::DatasetName};
use clap::Args;

use crate::cli::{
    failure::Failure,
    input,
    memory::State,
    network::{Whereabouts, record},
    stream::{self, Sink},
};

const AFTER_HELP: &str = "\
Examples:
  pg_dump land | chancery seal --dataset land-register --record land-register.1.bin --dir replicator > land.age
  chancery seal --recipient age1tagpq1... register.dump --out register.age
  chancery dataset recipients land-register.1.bin --dir replicator > recipients.txt && age -R recipients.txt ...   (the same)";

/// Encrypt to a dataset, in the age format
///
/// Reads a file or standard input, writes a file or standard output. Only a quorum of officials can have it opened again.
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// What to encrypt; standard input without it
    #[arg(value_name = "FILE", default_value = "-")]
    input: PathBuf,
    /// The dataset, as the charter calls it
    #[arg(long, value_name = "DATASET", requires = "record", required_unless_present = "recipient")]
    dataset: Option<DatasetName>,
    /// The data owner's record of the dataset's version
    #[arg(long, value_name = "FILE", requires = "dataset")]
    record: Option<PathBuf>,
    /// Instead of a dataset: recipients that you have verified yourself
    #[arg(long, value_name = "AGE1TAGPQ1...", conflicts_with_all = ["dataset", "record"])]
    recipient: Vec<Recipient>,
    /// The encrypted file, a new one; standard output without it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Your directory, with home.crt and charters/ in it
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "recipient")]
    dir: Option<PathBuf>,
    /// The home authority's certificate [default: home.crt in --dir]
    #[arg(long, value_name = "FILE", conflicts_with = "recipient")]
    home: Option<PathBuf>,
    /// The directory with the network's signed charters (*.charter) [default: charters in --dir]
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "recipient")]
    charters: Option<PathBuf>,
    #[command(flatten)]
    state: State,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let Arguments { input: from, dataset, record, recipient, out: to, dir, home, charters, state } = arguments;
    stream::not_to_a_screen(to.as_deref())?;
    let recipients = match (dataset, record) {
        (Some(dataset), Some(record)) => {
            let network =
                Whereabouts { dir: dir.as_deref(), home: home.as_deref(), charters: charters.as_deref(), state };
            vec![of_dataset(dataset, record, &network)?]
        }
        _ => recipient.clone(),
    };
    let recipients: Vec<age::tagpq::Recipient> = recipients.iter().map(age_recipient).collect::<Result<_, _>>()?;
    let encryptor = Encryptor::with_recipients(recipients.iter().map(|recipient| recipient as &dyn age::Recipient))
        .map_err(|error| {
            Failure::Refused(format!("these recipients cannot be joined: {error}"), "Nothing was written")
        })?;

    let mut source = stream::source(from)?;
    let mut sink = Sink::new(to.as_deref(), out)?;
    let mut writer = match encryptor.wrap_output(&mut sink) {
        Ok(writer) => writer,
        Err(error) => return Err(sink.failed(error)),
    };
    let mut room = stream::room();
    let outcome = loop {
        let length = stream::fill(&mut *source, &mut room).map_err(|error| stream::broken(from, error))?;
        if let Err(error) = writer.write_all(room.get(..length).unwrap_or_default()) {
            break Err(error);
        }
        if length < room.len() {
            break writer.finish().map(drop);
        }
    };
    match outcome {
        Ok(()) => sink.finish(),
        Err(error) => Err(sink.failed(error)),
    }
}

/// The recipient of a dataset, once its owner's signature verified.
fn of_dataset(dataset: &DatasetName, path: &Path, network: &Whereabouts<'_>) -> Result<Recipient, Failure> {
    let network = network.open()?;
    let found = record(path)?;
    let name = input::name(path);
    if found.unverified().dataset != *dataset {
        return Err(Failure::Refused(
            format!("{name} is a record of {}, not of {dataset}", found.unverified().dataset),
            "Encrypt nothing to it; ask the data owner for the record",
        ));
    }
    let signed = network.take_record(&name, found)?;
    Ok(signed.description().recipient.clone())
}

/// The same recipient, as the age library has it.
fn age_recipient(recipient: &Recipient) -> Result<age::tagpq::Recipient, Failure> {
    recipient.to_string().parse().map_err(|error: &str| {
        Failure::Refused(format!("this recipient is none for age: {error}"), "Nothing was written")
    })
}
