//! `chancery dataset list | show | recipients`: what the charter and the owners' records say, once it is verified.

use std::{io::Write, path::PathBuf};

use chancery::protocol::hash::Hash;
use clap::Args;

use crate::cli::{
    failure::Failure,
    input,
    network::{Network, record},
};

/// List the charter's datasets, whose they are, and the highest version that this machine has seen
#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    network: Network,
}

pub(super) fn list(arguments: &List, out: &mut dyn Write) -> Result<(), Failure> {
    let network = arguments.network.open()?;
    let datasets = &network.charter.charter().parts().datasets;
    if datasets.is_empty() {
        writeln!(out, "the charter in force names no dataset")?;
    }
    let width = datasets.iter().map(|dataset| dataset.name.as_str().len()).max().unwrap_or_default();
    for dataset in datasets {
        let seen = network.memory.version(&dataset.name)?;
        let seen = seen.map_or("no version seen here".to_owned(), |seen| format!("version {} seen", seen.version));
        writeln!(out, "{:width$}  of {}  {seen}", dataset.name.as_str(), dataset.owner)?;
    }
    Ok(())
}

/// Show a dataset version, after verifying its owner's signature and every slot
#[derive(Args)]
pub(super) struct Show {
    /// The record
    #[arg(value_name = "RECORD")]
    record: PathBuf,
    #[command(flatten)]
    network: Network,
}

pub(super) fn show(arguments: &Show, out: &mut dyn Write) -> Result<(), Failure> {
    let network = arguments.network.open()?;
    let name = input::name(&arguments.record);
    let signed = network.take_record(&name, record(&arguments.record)?)?;
    let keys = network.sealing_keys()?;
    let verified = signed.verify_slots(&keys).map_err(|error| {
        Failure::Refused(
            format!("{name} is signed by its owner, and does not hold: {error}"),
            "No quorum opens it. Ask the data owner for a record that is made under the charter in force",
        )
    })?;
    let description = verified.description();
    let recipient = description.recipient.to_string();
    writeln!(out, "dataset {} of {}, version {}", description.dataset, description.owner, description.version)?;
    writeln!(out, "  network     {}", description.charter)?;
    writeln!(out, "  generation  {}", keys.generation())?;
    writeln!(
        out,
        "  recipient   {}..., SHA-256 {}",
        recipient.get(..16).unwrap_or_default(),
        Hash::of_bytes(recipient.as_bytes())
    )?;
    for slot in verified.slots() {
        writeln!(out, "  slot for {}  {}", slot.context().kind().sealed_for(), slot.id())?;
    }
    writeln!(
        out,
        "Verified: the owner's signature, every slot's proof, and that it is not older than what was seen here."
    )?;
    Ok(())
}

/// Print the recipients of dataset versions, for `age -R`, after verifying each owner's signature
#[derive(Args)]
pub(super) struct Recipients {
    /// The records
    #[arg(value_name = "RECORD", required = true)]
    records: Vec<PathBuf>,
    #[command(flatten)]
    network: Network,
}

pub(super) fn recipients(arguments: &Recipients, out: &mut dyn Write) -> Result<(), Failure> {
    let network = arguments.network.open()?;
    let mut lines = Vec::new();
    for path in &arguments.records {
        let signed = network.take_record(&input::name(path), record(path)?)?;
        let description = signed.description();
        lines.push(format!("# {}, version {}\n{}", description.dataset, description.version, description.recipient));
    }
    // All or none: whoever encrypts to half of them would not notice.
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(())
}
