//! `chancery official connect`: takes what home gave the official, and where the embassies are.

use std::{io::Write, path::PathBuf};

use chancery::{
    client::{
        official::{Directory, EmbassySettings},
        system_clock,
    },
    keys::{
        disk,
        file::{KeyFile, PublicKey},
    },
    protocol::{
        certificate::{HomeAuthority, MAX_CERTIFICATE_BYTES, MAX_LIST_BYTES, Role},
        charter::SignedCharter,
        dataset_version::DatasetVersionRecord,
        hash::Hash,
        ids::EmbassyName,
        wire::Document,
    },
};
use clap::Args;

use super::place::Place;
use crate::cli::{
    failure::Failure,
    input::{self, Expected},
    network, pem,
};

const AFTER_HELP: &str = "\
Home gives you three files: its certificate, its revocation list, and a certificate for your connection.pub. Its certificate is \
taken only with the key hash that home read to you in person: all trust begins with it. The rest is checked with it.

Options may be given one at a time, and again when something is new.

Examples:
  chancery official connect --home home.crt --key-hash 5b0c... --revocations home.crl --certificate anna.crt
  chancery official connect --embassy luxembourg=https://embassy.example:8443
  chancery official connect --charter 000001.charter --charter 000002.charter --dataset land-register.record";

/// Take home's certificate and list, your own certificate, and the embassies' addresses
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// The home authority's certificate
    #[arg(long = "home", value_name = "FILE", requires = "key_hash")]
    home: Option<PathBuf>,
    /// The hash of home's key, as home read it to you in person
    #[arg(long, value_name = "HASH", requires = "home")]
    key_hash: Option<String>,
    /// Home's revocation list
    #[arg(long, value_name = "FILE")]
    revocations: Option<PathBuf>,
    /// The certificate that home issued for your connection.pub
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// A charter in force or founding, signed; may be given several times, the oldest first
    #[arg(long, value_name = "FILE")]
    charter: Vec<PathBuf>,
    /// The signed record of a dataset version; may be given several times. Embassies hand them over too
    #[arg(long, value_name = "FILE")]
    dataset: Vec<PathBuf>,
    /// Where an embassy is; may be given several times
    #[arg(long, value_name = "NAME=URL", value_parser = embassy)]
    embassy: Vec<EmbassySettings>,
    #[command(flatten)]
    place: Place,
}

fn embassy(text: &str) -> Result<EmbassySettings, String> {
    let (name, url) = text.split_once('=').ok_or("give NAME=URL, as luxembourg=https://embassy.example:8443")?;
    let name = EmbassyName::new(name).map_err(|error| error.to_string())?;
    if !url.starts_with("https://") {
        return Err("an embassy's address begins with https://".to_owned());
    }
    Ok(EmbassySettings { name, url: url.to_owned() })
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let mut directory = arguments.place.open()?;
    if let (Some(path), Some(expected)) = (&arguments.home, &arguments.key_hash) {
        let home = take_home(&directory, path, expected)?;
        writeln!(out, "home authority {} of {}: its key is the one you compared", home.identity(), home.country())?;
    }
    if let Some(path) = &arguments.revocations {
        let der = pem::read(path, "a revocation list", MAX_LIST_BYTES, "Ask home for its list, home.crl")?;
        directory.take_list(&der)?;
        let list = directory.revocations()?;
        writeln!(out, "revocation list {}, until {}", list.number(), list.until())?;
    }
    if let Some(path) = &arguments.certificate {
        take_certificate(&directory, path)?;
        writeln!(out, "your certificate is the one of your connection key")?;
    }
    if !arguments.charter.is_empty() {
        let charters =
            arguments.charter.iter().map(|path| network::read(path)).collect::<Result<Vec<SignedCharter>, _>>()?;
        let (charter, _) = directory.take_charters(charters)?;
        writeln!(
            out,
            "charter version {} is in force here, {}: {}",
            charter.charter().parts().version,
            charter.authority(),
            charter.hash()
        )?;
    }
    for path in &arguments.dataset {
        let version = directory.take_dataset(&read_record(path)?)?;
        let description = version.description();
        writeln!(
            out,
            "dataset {} version {}: signed by {}, and all its {} slots hold",
            description.dataset,
            description.version,
            description.owner,
            version.slots().len()
        )?;
    }
    if !arguments.embassy.is_empty() {
        let mut settings = directory.settings().clone();
        for embassy in &arguments.embassy {
            settings.embassies.retain(|known| known.name != embassy.name);
            settings.embassies.push(embassy.clone());
        }
        settings.embassies.sort_by(|one, other| one.name.cmp(&other.name));
        directory.set(settings)?;
        for embassy in &arguments.embassy {
            writeln!(out, "embassy {} is looked for at {}", embassy.name, embassy.url)?;
        }
    }
    missing(&directory, out)
}

/// Says what is still to come.
fn missing(directory: &Directory, out: &mut dyn Write) -> Result<(), Failure> {
    let has = |file: &str| directory.path().join(file).symlink_metadata().is_ok();
    let next = match () {
        () if !has("home.crt") => "home's certificate: --home FILE --key-hash HASH",
        () if !has("home.crl") => "home's revocation list: --revocations FILE",
        () if !has("connection.crt") => "the certificate of your connection.pub: --certificate FILE",
        () if directory.settings().embassies.is_empty() => "an embassy's address: --embassy NAME=URL",
        () => {
            writeln!(out)?;
            writeln!(out, "Nothing is missing. Next: `chancery official inbox`")?;
            return Ok(());
        }
    };
    writeln!(out)?;
    writeln!(out, "Still missing: {next}")?;
    Ok(())
}

fn read_record(path: &std::path::Path) -> Result<DatasetVersionRecord, Failure> {
    let expected = Expected {
        what: "a dataset version",
        bound: DatasetVersionRecord::MAX_BYTES,
        missing: "Ask its data owner for the record",
    };
    let bytes = input::read(path, &expected)?;
    DatasetVersionRecord::decode(&bytes).map_err(|error| Failure::Document {
        name: input::name(path),
        kind: "a dataset version",
        error,
    })
}

fn take_home(directory: &Directory, path: &std::path::Path, expected: &str) -> Result<HomeAuthority, Failure> {
    let der = pem::read(path, "a home authority's certificate", MAX_CERTIFICATE_BYTES, "Ask home for home.crt")?;
    let refused =
        |error| Failure::Certificate { name: input::name(path), error, advice: "Ask home for its certificate" };
    let home = HomeAuthority::known(&der).map_err(refused)?;
    let found = Hash::of_bytes(&home.key().encode()).to_string();
    if found != expected.trim().to_ascii_lowercase() {
        return Err(Failure::Refused(
            format!("{} has the key hash {found}, which is not the one you give", input::name(path)),
            "Compare it with home again, in person or by a voice you know. Do not go on before they are the same",
        ));
    }
    Ok(directory.take_home(&der)?)
}

fn take_certificate(directory: &Directory, path: &std::path::Path) -> Result<(), Failure> {
    let der = pem::read(path, "a certificate", MAX_CERTIFICATE_BYTES, "Ask home for it")?;
    let refused = |error| Failure::Certificate { name: input::name(path), error, advice: "Ask home for another" };
    let certified = directory
        .home()?
        .certify(&[&der], &directory.revocations()?, system_clock())
        .and_then(|certified| certified.in_role(&[Role::Official]))
        .map_err(refused)?;
    let not_ours = |what: &str| {
        let what = format!("{} is a certificate of {what}", input::name(path));
        Failure::Refused(what, "Ask home for one of your connection.pub, in your name")
    };
    if certified.identity().name.as_str() != directory.name().as_str() {
        return Err(not_ours(certified.identity().name.as_str()));
    }
    let file: KeyFile = disk::load(&directory.path().join("connection.key"))?;
    if *file.public() != PublicKey::Point(*certified.key()) {
        return Err(not_ours("another key than your connection key"));
    }
    Ok(directory.take_certificate(&der)?)
}
