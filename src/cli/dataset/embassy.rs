//! `chancery dataset publish | fetch`: records to an embassy and from it. What an embassy hands over is believed for its
//! owner's signature alone.

use std::{io::Write, path::PathBuf};

use chancery::{
    client::{
        Exchange, Repeat,
        api::{DocumentBody, Taken},
    },
    protocol::{
        dataset_version::DatasetVersionRecord,
        ids::{DatasetName, DatasetVersion},
        wire::Document,
    },
};
use clap::Args;

use super::create::version;
use crate::cli::{
    connection::Visit,
    failure::Failure,
    input,
    network::{Network, record},
    output::{self, Unfinished},
};

/// Hand a dataset version's record to an embassy, as its data owner
#[derive(Args)]
pub(super) struct Publish {
    /// The record
    #[arg(value_name = "RECORD")]
    record: PathBuf,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    visit: Visit,
}

pub(super) fn publish(arguments: &Publish, out: &mut dyn Write) -> Result<(), Failure> {
    let Publish { record: path, network: place, visit } = arguments;
    let network = place.open()?;
    let signed = network.take_record(&input::name(path), record(path)?)?;
    // Verified here first: an embassy refuses it anyway, and says less.
    let keys = network.sealing_keys()?;
    let verified = signed.verify_slots(&keys).map_err(|error| {
        Failure::Refused(
            format!("{} does not hold: {error}", input::name(path)),
            "Make a new version; nothing was sent",
        )
    })?;
    let line = visit.open(&network, place.dir.as_ref(), Exchange::HybridPreferred)?;
    let body = DocumentBody::of(verified.record());
    let taken: Taken = line.wait(line.client.post("/v1/datasets", &body, &Repeat::Safe))?;
    let description = verified.description();
    let how = if taken.new { "took" } else { "had already" };
    writeln!(
        out,
        "{} {how} {}, version {}: record {}",
        line.client.embassy(),
        description.dataset,
        description.version,
        taken.id
    )?;
    Ok(())
}

/// Fetch a dataset version's record from an embassy, and verify it
#[derive(Args)]
pub(super) struct Fetch {
    /// The dataset, as the charter calls it
    #[arg(value_name = "DATASET")]
    dataset: DatasetName,
    /// The version
    #[arg(long, value_name = "NUMBER", value_parser = version)]
    version: DatasetVersion,
    /// The record, a new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    visit: Visit,
}

pub(super) fn fetch(arguments: &Fetch, out: &mut dyn Write) -> Result<(), Failure> {
    let Fetch { dataset, version, out: to, network: place, visit } = arguments;
    output::is_free(to)?;
    let network = place.open()?;
    let line = visit.open(&network, place.dir.as_ref(), Exchange::HybridPreferred)?;
    let body: DocumentBody = line.wait(line.client.get(&format!("/v1/datasets/{dataset}/{version}")))?;
    let name = format!("what {} sent", line.client.embassy());
    let found: DatasetVersionRecord = body.read().map_err(|error| {
        Failure::Refused(
            format!("{name} does not read: {error}"),
            "Distrust this embassy; ask the data owner for the record",
        )
    })?;
    if found.unverified().dataset != *dataset || found.unverified().version != *version {
        return Err(Failure::Refused(
            format!("{name} is {}, version {}", found.unverified().dataset, found.unverified().version),
            "Distrust this embassy; ask the data owner for the record",
        ));
    }
    let mut file = Unfinished::begin(to)?;
    let signed = network.take_record(&name, found)?;
    file.write_all(&signed.record().encode()).map_err(|source| Failure::Save {
        name: input::name(to),
        source,
        advice: "Make room, and start again; nothing was left behind",
    })?;
    file.publish()?;
    writeln!(out, "{dataset}, version {version}, signed by {}: {}", signed.description().owner, input::name(to))?;
    Ok(())
}
