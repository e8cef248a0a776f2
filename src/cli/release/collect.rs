//! `chancery release collect`: the halves of k officials and of the embassy's TPM become a dataset's key, here and nowhere else.

use std::{io::Write, path::PathBuf};

use chancery::{
    client::{Exchange, release::ReleaseBody, system_clock},
    keys::{
        KeyError,
        disk::{self, Replace},
        file::{Cost, KeyFile, KeyKind, PrivateKey},
    },
    protocol::{
        contribution::{Contribution, Review},
        dataset_version::VerifiedVersion,
        hybrid::HybridSecretKey,
        ids::{CeremonyId, SubjectName},
        offer::SignedOffer,
        partial::PreparedQuorum,
        recipient::RecipientCard,
        release::{Receiving, ReleaseParts},
        secret::{Secret, SecretVec},
        slot::SeenPoints,
        wire::Document,
    },
};
use clap::Args;
use rand_core::OsRng;

use crate::cli::{
    connection::{self, Visit},
    failure::Failure,
    input::{self, Expected},
    network::{InForce, Network, record},
    output,
    text::{hash, words},
};

/// Collect a released dataset: check everything, put it together, and keep the key in a file
#[derive(Args)]
pub(super) struct Arguments {
    /// The ceremony's id
    #[arg(value_name = "CEREMONY", value_parser = ceremony)]
    ceremony: CeremonyId,
    /// The card that the ceremony names
    #[arg(long, value_name = "FILE")]
    card: PathBuf,
    /// The data owner's record of each dataset version that is released
    #[arg(long = "record", value_name = "FILE", required = true)]
    records: Vec<PathBuf>,
    /// The directory for the keys, one file DATASET.VERSION.key each; made if it is not there
    #[arg(long, value_name = "DIRECTORY")]
    out: PathBuf,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    visit: Visit,
}

fn ceremony(text: &str) -> Result<CeremonyId, &'static str> {
    hash(text).map(CeremonyId).ok_or("a ceremony's id has 64 hexadecimal digits")
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let Arguments { ceremony, card, records, out: folder, network: place, visit } = arguments;
    let network = place.open()?;
    let card = read_card(card)?;
    let versions = versions(&network, records)?;
    let dir = place.dir.as_ref().ok_or_else(|| {
        Failure::Refused("no directory is named".to_owned(), "Give --dir with your keys and certificates")
    })?;
    let names = versions.iter().map(|version| {
        let description = version.description();
        format!("{}.{}.key", description.dataset, description.version)
    });
    let files: Vec<PathBuf> = names.map(|name| folder.join(name)).collect();
    for file in &files {
        output::is_free(file)?;
    }
    let line = visit.open(&network, Some(dir), Exchange::HybridRequired)?;
    let embassy = line.client.embassy().clone();
    let hybrid_file = disk::load(&dir.join("hybrid.key"))?;
    let own = hybrid_key(&hybrid_file, line.passphrase())?;

    let body: ReleaseBody = line.wait(line.client.get(&format!("/v1/ceremonies/{ceremony}/release")))?;
    let unreadable = |what: &str| {
        Failure::Refused(
            format!("{embassy} sent {what} that does not read"),
            "Distrust this embassy, and tell the officials; nothing was kept",
        )
    };
    let offer: SignedOffer = body.offer.read().map_err(|_| unreadable("an offer"))?;
    let parts: ReleaseParts = body.parts.read().map_err(|_| unreadable("halves"))?;
    let refused = |error: &dyn std::fmt::Display| {
        Failure::Refused(error.to_string(), "No key was kept. Show this to the officials of the ceremony")
    };
    if offer.unverified().statement().id() != *ceremony {
        return Err(refused(&format!("{embassy} sent the release of another ceremony")));
    }
    let charter = network.charter.charter();
    let facts = charter.facts(&embassy).map_err(|error| refused(&error))?;
    let recipient = card
        .verify(&network.home, &connection::revocations(&network.home, dir)?, system_clock())
        .map_err(|error| refused(&error))?;
    let review = Review { facts: &facts, versions: &versions, now: system_clock(), recipient: Some(&recipient) };
    let quorum = PreparedQuorum::new(&facts.unseal().key);
    let mut receiving = Receiving::begin(&offer, &card, &own, &review, &mut SeenPoints::new(), &quorum)
        .map_err(|error| refused(&error))?;
    for contribution in &body.contributions {
        let contribution: Contribution = contribution.read().map_err(|_| unreadable("a contribution"))?;
        // One bad contribution ends nothing: others may be enough.
        if let Err(error) = receiving.receive(&contribution) {
            writeln!(out, "not counted: {}", words(&error.to_string()))?;
        }
    }
    let opened = receiving.open(&parts).map_err(|error| refused(&error))?;

    std::fs::create_dir_all(folder).map_err(|source| Failure::Save {
        name: input::name(folder),
        source,
        advice: "Choose a directory that you may write to",
    })?;
    for opened in opened {
        let description = opened.dataset().clone();
        let file = folder.join(format!("{}.{}.key", description.dataset, description.version));
        let officials: Vec<String> = opened.officials().iter().map(ToString::to_string).collect();
        let purpose = words(opened.statement().purpose().as_str());
        let name = SubjectName::new(description.dataset.as_str()).map_err(|error| refused(&error))?;
        let seed = opened.into_seed();
        let mut copy = Secret::zeroed();
        copy.expose_mut().copy_from_slice(seed.expose());
        let key = PrivateKey::Hybrid(HybridSecretKey::from_seed(copy));
        let sealed = KeyFile::seal(KeyKind::Dataset, name, &key, line.passphrase(), Cost::STANDARD, &mut OsRng)?;
        disk::store(&file, &sealed, Replace::No)?;
        writeln!(out, "dataset {}, version {}: {}", description.dataset, description.version, input::name(&file))?;
        writeln!(out, "  released by {}, for: {purpose}", officials.join(", "))?;
    }
    writeln!(
        out,
        "Every slot of each version was made again from its seed, and is the one that the data owner signed."
    )?;
    writeln!(out)?;
    writeln!(out, "Next: `chancery open FILE --key KEY`. The key files have the passphrase of your other keys.")?;
    Ok(())
}

fn hybrid_key(file: &KeyFile, passphrase: &SecretVec) -> Result<HybridSecretKey, Failure> {
    if file.kind() != KeyKind::Hybrid {
        return Err(KeyError::Kind { found: file.kind(), expected: KeyKind::Hybrid }.into());
    }
    match file.open(passphrase)? {
        PrivateKey::Hybrid(key) => Ok(key),
        PrivateKey::Scalar(_) => Err(KeyError::Damaged.into()),
    }
}

fn read_card(path: &std::path::Path) -> Result<RecipientCard, Failure> {
    let expected = Expected {
        what: "a recipient's card",
        bound: RecipientCard::MAX_BYTES,
        missing: "`chancery release card` makes it; take the one that the ceremony names",
    };
    let bytes = input::read(path, &expected)?;
    RecipientCard::decode(&bytes).map_err(|error| Failure::Document {
        name: input::name(path),
        kind: "a recipient's card",
        error,
    })
}

fn versions(network: &InForce, records: &[PathBuf]) -> Result<Vec<VerifiedVersion>, Failure> {
    let keys = network.sealing_keys()?;
    let mut versions = Vec::new();
    for path in records {
        let (name, found) = (input::name(path), record(path)?);
        let dataset = network.dataset(&found.unverified().dataset)?;
        // An older version may be released too: nothing is encrypted to it here.
        let verified = found.verify_signature(&dataset).and_then(|signed| signed.verify_slots(&keys));
        versions.push(verified.map_err(|error| {
            Failure::Refused(
                format!("{name} is refused: {error}"),
                "Ask the data owner for the record; no key was kept",
            )
        })?);
    }
    Ok(versions)
}
