//! `chancery home init`: the home authority founds itself.

use std::{io::Write, path::PathBuf};

use chancery::{
    keys::{
        disk::Replace,
        file::KeyKind,
        issue::{self, IssuerName, Request},
    },
    protocol::{
        certificate::{HomeAuthority, Identity, Role, TrustDomain, UnixTime},
        charter::Country,
        ids::SubjectName,
    },
};
use clap::Args;
use rand_core::OsRng;

use super::{BACKDATED_SECONDS, after, now};
use crate::cli::{failure::Failure, input, output, pem, public_key::key_hash, signer::KeyPlace};

/// Make the home authority's key, its certificate, and its first (empty) revocation list
#[derive(Args)]
pub(super) struct Init {
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

pub(super) fn run(arguments: &Init, out: &mut dyn Write) -> Result<(), Failure> {
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
