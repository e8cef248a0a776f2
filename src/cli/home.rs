//! `chancery home`: the home authority, offline. It founds itself, issues certificates, and revokes them.
//!
//! Trusts its own key and the person at the keyboard. Of what others send, only a public key is taken: home decides
//! everything else that stands in a certificate.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use chancery::{
    keys::{
        IdentitySigner,
        disk::Replace,
        file::KeyKind,
        issue::{self, IssuerName, Request},
    },
    protocol::{
        card::OfficialCard,
        certificate::{
            HomeAuthority, Identity, MAX_CERTIFICATE_BYTES, MAX_LIST_BYTES, Role, Serial, TrustDomain, UnixTime,
            bare_key, request_key,
        },
        charter::Country,
        group::Point,
        hash::Hash,
        ids::SubjectName,
        wire::Document,
    },
};
use clap::{Args, Subcommand, ValueEnum};
use rand_core::OsRng;

use crate::cli::{
    failure::Failure,
    input::{self, Expected},
    output, pem,
    signer::KeyPlace,
};

const DAY: i64 = 24 * 60 * 60;
/// Certificates begin a little before they are made, for clocks that are slow.
const BACKDATED_SECONDS: i64 = 300;

const AFTER_HELP: &str = "\
Examples:
  chancery home init --name registrar --country EE --trust-domain registers.example --key home.key --dir home
  chancery home issue official anna --from anna/card.bin --key home.key --dir home --out anna/anna.crt
  chancery home issue agent replicator --from request.csr --key home.key --dir home --out replicator.crt
  chancery home revoke anna/anna.crt --key home.key --dir home
  chancery home revoke --key home.key --dir home           (nobody: renews the list before it is out of date)

With a token instead of a key file: --module LIBRARY --token LABEL --token-key LABEL instead of --key.";

/// The home authority: found it, issue certificates, revoke them
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(Init),
    Issue(Issue),
    Revoke(Revoke),
}

/// Make the home authority's key, its certificate, and its first (empty) revocation list
#[derive(Args)]
struct Init {
    /// The authority's name
    #[arg(long, value_name = "NAME")]
    name: SubjectName,
    /// The country, as two capital letters (ISO 3166-1)
    #[arg(long, value_name = "CODE")]
    country: String,
    /// What all its identities begin with, like a DNS name: registers.example
    #[arg(long, value_name = "DOMAIN")]
    trust_domain: String,
    /// How long its certificate is valid
    #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,
    /// How long its first revocation list is valid
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=366))]
    list_days: u16,
    /// The directory for home.crt and home.crl; made if it is not there
    #[arg(long, value_name = "DIRECTORY")]
    dir: PathBuf,
    /// Give up the key that stands at --key, for ever
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    place: KeyPlace,
}

/// Issue a certificate for a public key that somebody sent
#[derive(Args)]
struct Issue {
    /// What it is for
    #[arg(value_name = "ROLE")]
    role: Kind,
    /// Whose it is
    #[arg(value_name = "NAME")]
    name: SubjectName,
    /// An official's card, a certificate request, or a public key; PEM or DER
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// How long it is valid
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,
    /// The directory with home.crt
    #[arg(long, value_name = "DIRECTORY")]
    dir: PathBuf,
    /// The certificate, a new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    place: KeyPlace,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Official,
    Agent,
    DataOwner,
    Auditor,
    Witness,
    /// The embassy's own authority, whose key is the identity key of its TPM
    Embassy,
}

impl Kind {
    const fn role(self) -> Role {
        match self {
            Self::Official => Role::Official,
            Self::Agent => Role::Agent,
            Self::DataOwner => Role::DataOwner,
            Self::Auditor => Role::Auditor,
            Self::Witness => Role::Witness,
            Self::Embassy => Role::EmbassyAuthority,
        }
    }
}

/// Revoke certificates, or renew the list
#[derive(Args)]
struct Revoke {
    /// The certificates; none to renew the list as it is
    #[arg(value_name = "CERTIFICATE")]
    certificates: Vec<PathBuf>,
    /// How long the new list is valid
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=366))]
    list_days: u16,
    /// The directory with home.crt and home.crl
    #[arg(long, value_name = "DIRECTORY")]
    dir: PathBuf,
    #[command(flatten)]
    place: KeyPlace,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    match &arguments.command {
        Command::Init(arguments) => init(arguments, out),
        Command::Issue(arguments) => issue(arguments, out),
        Command::Revoke(arguments) => revoke(arguments, out),
    }
}

fn now() -> UnixTime {
    // A clock before 1970 gives 0, and certificates that nobody accepts.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn after(from: UnixTime, days: u16) -> UnixTime {
    UnixTime(from.0.saturating_add(i64::from(days) * DAY))
}

fn key_hash(key: &Point) -> Hash {
    Hash::of_bytes(&key.encode())
}

fn init(arguments: &Init, out: &mut dyn Write) -> Result<(), Failure> {
    let Init { name, country, trust_domain, days, list_days, dir, replace, place } = arguments;
    let refused = |error: String| Failure::Refused(error, "Correct it; nothing was made");
    let country = Country::new(country).map_err(|error| refused(error.to_string()))?;
    let domain = TrustDomain::new(trust_domain)
        .ok_or_else(|| refused("a trust domain has 1 to 255 characters of a-z, 0-9, '.', '-' and '_'".to_owned()))?;
    let (certificate_path, list_path) = (dir.join("home.crt"), dir.join("home.crl"));
    output::is_free(&certificate_path)?;
    output::is_free(&list_path)?;
    std::fs::create_dir_all(dir).map_err(|source| Failure::Save {
        name: input::name(dir),
        source,
        advice: "Choose a directory that you may write to",
    })?;
    let signer = place.make(KeyKind::Home, name, if *replace { Replace::Yes } else { Replace::No })?;

    let identity = Identity { trust_domain: domain, role: Role::Home, name: name.clone() };
    let issuer = IssuerName { country, identity: identity.clone() };
    let from = UnixTime(now().0.saturating_sub(BACKDATED_SECONDS));
    let (key, until) = (*signer.public(), after(from, *days));
    let request = Request { identity: identity.clone(), key, not_before: from, not_after: until, places: Vec::new() };
    let root = issue::certificate(&issuer, &*signer, &request, &mut OsRng)?;
    let list = issue::revocation_list(&issuer, &*signer, 1, &[], from, after(from, *list_days))?;
    // Read by the same code as everybody's: what home cannot read itself leaves no trace.
    let certificate =
        |error| Failure::Certificate { name: "home.crt".to_owned(), error, advice: "Nothing was written" };
    HomeAuthority::read(&root, country, &key).and_then(|home| home.revocations(&list)).map_err(certificate)?;
    output::create(&certificate_path, pem::encode("CERTIFICATE", &root).as_bytes())?;
    output::create(&list_path, pem::encode("X509 CRL", &list).as_bytes())?;

    writeln!(out, "home authority {identity} of {country}, valid until {until}")?;
    writeln!(out, "  certificate      {}", input::name(&certificate_path))?;
    writeln!(out, "  revocation list  {}, until {}", input::name(&list_path), after(from, *list_days))?;
    writeln!(out, "  key hash         {}", key_hash(&key))?;
    writeln!(out)?;
    let keep = if place.on_token() {
        "Keep the token offline"
    } else {
        "Keep the key file offline, and a copy in a second place"
    };
    writeln!(out, "Next: {keep}. Read the key hash to every official in person: all trust begins with it.")?;
    Ok(())
}

/// The authority of this directory, whose key `signer` is.
fn authority(dir: &Path, signer: &dyn IdentitySigner) -> Result<HomeAuthority, Failure> {
    let path = dir.join("home.crt");
    let der = read_der(
        &path,
        "a home authority's certificate",
        MAX_CERTIFICATE_BYTES,
        "Give the directory that `chancery home init` wrote",
    )?;
    HomeAuthority::own(&der, signer.public()).map_err(|error| Failure::Certificate {
        name: input::name(&path),
        error,
        advice: "Check that key and directory belong together; nothing was issued",
    })
}

fn read_der(path: &Path, what: &'static str, bound: usize, missing: &'static str) -> Result<Vec<u8>, Failure> {
    // PEM is a third longer, and may have words around it.
    let bytes = input::read(path, &Expected { what, bound: bound.saturating_mul(2), missing })?;
    let unreadable = || Failure::Refused(format!("{} is not {what}", input::name(path)), "Ask its sender for it again");
    pem::decode(&bytes).map(|(_, der)| der).ok_or_else(unreadable)
}

/// The public key that somebody sent, and how much it proves.
fn requested_key(issue: &Issue) -> Result<(Point, String), Failure> {
    let name = input::name(&issue.from);
    let expected = Expected {
        what: "a card, request or public key",
        bound: 2 * MAX_CERTIFICATE_BYTES,
        missing: "Ask whoever wants the certificate for it",
    };
    let bytes = input::read(&issue.from, &expected)?;
    if let Ok(card) = OfficialCard::decode(&bytes) {
        if !matches!(issue.role, Kind::Official) || card.name().as_str() != issue.name.as_str() {
            let what = format!("{name} is the card of the official {}, not what this certificate is for", card.name());
            return Err(Failure::Refused(what, "Check role and name; nothing was issued"));
        }
        let proof = format!("the official's card. Its hash, to be compared by voice: {}", card.hash());
        return Ok((card.official().identity, proof));
    }
    let not_read =
        || Failure::Refused(format!("{name} is not a card, request or public key"), "Ask its sender for it again");
    let (label, der) = pem::decode(&bytes).ok_or_else(not_read)?;
    let wrong = |error| Failure::Certificate {
        name: name.clone(),
        error,
        advice: "Ask its sender for another; nothing was issued",
    };
    let request = |der: &[u8]| {
        request_key(der).map(|key| (key, "a request, signed by the key itself. Compare its hash by voice".to_owned()))
    };
    let bare = |der: &[u8]| {
        let proof = "a bare public key: NOTHING PROVES that its sender has the private one. Compare its hash by voice";
        bare_key(der).map(|key| (key, proof.to_owned()))
    };
    match label.as_deref() {
        Some("PUBLIC KEY") => bare(&der).map_err(wrong),
        Some("CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") => request(&der).map_err(wrong),
        Some(_) => Err(not_read()),
        None => request(&der).or_else(|error| bare(&der).map_err(|_| error)).map_err(wrong),
    }
}

fn issue(arguments: &Issue, out: &mut dyn Write) -> Result<(), Failure> {
    output::is_free(&arguments.out)?;
    let (key, proof) = requested_key(arguments)?;
    let signer = arguments.place.open(KeyKind::Home)?;
    let home = authority(&arguments.dir, &*signer)?;
    if key.xy().0 == signer.public().xy().0 {
        let what = "this is the home authority's own key".to_owned();
        return Err(Failure::Refused(what, "Each key has one use: ask for another key"));
    }
    let role = arguments.role.role();
    let identity = Identity { trust_domain: home.trust_domain().clone(), role, name: arguments.name.clone() };
    let from = UnixTime(now().0.saturating_sub(BACKDATED_SECONDS));
    let until = after(from, arguments.days);
    if until > home.until() {
        let what = format!("the certificate would outlive home's own, which ends at {}", home.until());
        return Err(Failure::Refused(what, "Choose fewer days; nothing was issued"));
    }
    let issuer = IssuerName { country: home.country(), identity: home.identity().clone() };
    let request = Request { identity: identity.clone(), key, not_before: from, not_after: until, places: Vec::new() };
    let certificate = issue::certificate(&issuer, &*signer, &request, &mut OsRng)?;
    let unreadable =
        |error| Failure::Certificate { name: "what was made".to_owned(), error, advice: "Nothing was written" };
    let serial = home.issued(&certificate).map_err(unreadable)?;
    output::create(&arguments.out, pem::encode("CERTIFICATE", &certificate).as_bytes())?;

    writeln!(out, "issued {identity} ({role}), valid until {until}")?;
    writeln!(out, "  certificate    {}", input::name(&arguments.out))?;
    writeln!(out, "  serial number  {serial}")?;
    writeln!(out, "  key hash       {}", key_hash(&key))?;
    writeln!(out, "  from           {proof}")?;
    Ok(())
}

fn revoke(arguments: &Revoke, out: &mut dyn Write) -> Result<(), Failure> {
    let signer = arguments.place.open(KeyKind::Home)?;
    let home = authority(&arguments.dir, &*signer)?;
    let mut added: Vec<Serial> = Vec::new();
    for path in &arguments.certificates {
        let der = read_der(path, "a certificate", MAX_CERTIFICATE_BYTES, "Check the path")?;
        added.push(home.issued(&der).map_err(|error| Failure::Certificate {
            name: input::name(path),
            error,
            advice: "Nothing was revoked: a list names home's own certificates only",
        })?);
    }
    let path = arguments.dir.join("home.crl");
    let last = read_der(
        &path,
        "a revocation list",
        MAX_LIST_BYTES,
        "Take it from where it is published: a list that starts anew would forget",
    )?;
    let last = home.revocations(&last).map_err(|error| Failure::Certificate {
        name: input::name(&path),
        error,
        advice: "Take the last list from where it is published; nothing was revoked",
    })?;
    let from = now();
    let mut revoked: Vec<(Serial, UnixTime)> = last.entries().map(|(serial, at)| (serial.clone(), at)).collect();
    for serial in added {
        if revoked.iter().all(|(known, _)| *known != serial) {
            revoked.push((serial, from));
        }
    }
    let issuer = IssuerName { country: home.country(), identity: home.identity().clone() };
    let (number, until) = (last.number().saturating_add(1), after(from, arguments.list_days));
    let list = issue::revocation_list(&issuer, &*signer, number, &revoked, from, until)?;
    home.revocations(&list).map_err(|error| Failure::Certificate {
        name: "the new list".to_owned(),
        error,
        advice: "It was not written; the old one stands",
    })?;
    output::replace(&path, pem::encode("X509 CRL", &list).as_bytes())?;
    writeln!(out, "revocation list {number}, valid until {until}: {} revoked", revoked.len())?;
    for (serial, at) in &revoked {
        writeln!(out, "  {serial}  since {at}")?;
    }
    writeln!(out)?;
    writeln!(out, "Next: publish {}. Nobody is refused before they have it.", input::name(&path))?;
    Ok(())
}
