//! `chancery dataset create`: a fresh seed, sealed for everyone whom the charter names, and signed by the data owner.

use std::{io::Write, path::PathBuf};

use chancery::{
    keys::file::KeyKind,
    protocol::{
        dataset::DatasetSeed,
        dataset_version::{DatasetVersionRecord, UnsignedVersion},
        group::Point,
        ids::{DatasetName, DatasetVersion},
        wire::Document,
    },
};
use clap::Args;
use rand_core::OsRng;

use crate::cli::{
    failure::Failure,
    input,
    network::{InForce, Network},
    output::Unfinished,
    signer::KeyPlace,
};

/// Make a new version of a dataset: a new key, sealed for every embassy and for recovery
#[derive(Args)]
pub(super) struct Create {
    /// The dataset, as the charter calls it
    #[arg(value_name = "DATASET")]
    dataset: DatasetName,
    /// The version, where this machine does not remember the last one; else it is the next
    #[arg(long, value_name = "NUMBER", value_parser = version)]
    version: Option<DatasetVersion>,
    /// The record, a new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    place: KeyPlace,
}

pub(super) fn version(text: &str) -> Result<DatasetVersion, String> {
    text.parse().ok().and_then(DatasetVersion::new).ok_or_else(|| "a version is a number from 1".to_owned())
}

pub(super) fn run(arguments: &Create, out: &mut dyn Write) -> Result<(), Failure> {
    let Create { dataset, version, out: to, network, place } = arguments;
    let network = network.open()?;
    let chartered = network.dataset(dataset)?;
    let keys = network.sealing_keys()?;
    let version = next(&network, dataset, *version)?;
    // Begun before the key is asked for: a full disk is found before anything is made.
    let mut file = Unfinished::begin(to)?;
    let signer = place.open(KeyKind::DataOwner)?;
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::Refused(format!("the dataset was not made: {error}"), "Nothing was written")
    };
    if *signer.public() != Point::of_key(&chartered.owner_key) {
        return Err(Failure::Refused(
            format!("this is not the key of the data owner {}, whose dataset {dataset} is", chartered.owner),
            "Take the key that the charter names; nothing was made",
        ));
    }

    let unsigned = {
        // In this block alone the seed exists.
        let seed = DatasetSeed::random(&mut OsRng);
        UnsignedVersion::create(&seed, chartered.owner.clone(), dataset.clone(), version, &keys)
            .map_err(|error| wrong(&error))?
    };
    let signature = signer.sign(&unsigned.digest())?;
    let record = unsigned.signed(&signature, &chartered.owner_key).map_err(|error| wrong(&error))?;
    // What leaves is what everybody reads: taken as a stranger's would be, every slot and its proof.
    let bytes = record.encode();
    let signed = DatasetVersionRecord::decode(&bytes)
        .map_err(|error| wrong(&error))?
        .verify_signature(&chartered)
        .map_err(|error| wrong(&error))?;
    let verified = signed.clone().verify_slots(&keys).map_err(|error| wrong(&error))?;
    file.write_all(&bytes).map_err(|source| Failure::Save {
        name: input::name(to),
        source,
        advice: "Make room, and start again; nothing was made",
    })?;
    // Remembered before it is published: a version that was never seen is a gap, one that was made twice is a fork.
    network.memory.take_version(&signed)?;
    file.publish()?;

    writeln!(out, "dataset {dataset} of {}, version {version}, generation {}", chartered.owner, keys.generation())?;
    for slot in verified.slots() {
        writeln!(out, "  slot for {}  {}", slot.context().kind().sealed_for(), slot.id())?;
    }
    writeln!(out, "  record {}", input::name(to))?;
    writeln!(out)?;
    writeln!(
        out,
        "The seed was wiped: from now on only the quorum opens it. Next: give the record to every embassy and to the agents."
    )?;
    Ok(())
}

/// One above the highest version that is known, or the one that was asked for where that is higher.
fn next(network: &InForce, dataset: &DatasetName, asked: Option<DatasetVersion>) -> Result<DatasetVersion, Failure> {
    let seen = network.memory.version(dataset)?;
    match (seen, asked) {
        (None, asked) => Ok(asked.unwrap_or(DatasetVersion::FIRST)),
        (Some(seen), Some(asked)) if asked <= seen.version => Err(Failure::Refused(
            format!("version {asked} of {dataset} is not above version {}, which was seen", seen.version),
            "Versions only increase. Leave --version out; nothing was made",
        )),
        (Some(_), Some(asked)) => Ok(asked),
        (Some(seen), None) => seen
            .version
            .next()
            .ok_or_else(|| Failure::Refused("there is no version after the last".to_owned(), "Nothing was made")),
    }
}
