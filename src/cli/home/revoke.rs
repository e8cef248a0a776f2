//! `chancery home revoke`: home's list of revoked certificates gets its successor.

use std::{io::Write, path::PathBuf};

use chancery::{
    keys::{
        file::KeyKind,
        issue::{self, IssuerName},
    },
    protocol::certificate::{MAX_CERTIFICATE_BYTES, MAX_LIST_BYTES, Serial, UnixTime},
};
use clap::Args;

use super::{after, authority, now};
use crate::cli::{failure::Failure, input, output, pem, signer::KeyPlace};

/// Revoke certificates, or renew the list
#[derive(Args)]
pub(super) struct Revoke {
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

pub(super) fn run(arguments: &Revoke, out: &mut dyn Write) -> Result<(), Failure> {
    let signer = arguments.place.open(KeyKind::Home)?;
    let home = authority(&arguments.dir, &*signer)?;
    let mut added: Vec<Serial> = Vec::new();
    for path in &arguments.certificates {
        let der = pem::read(path, "a certificate", MAX_CERTIFICATE_BYTES, "Check the path")?;
        added.push(home.issued(&der).map_err(|error| Failure::Certificate {
            name: input::name(path),
            error,
            advice: "Nothing was revoked: a list names home's own certificates only",
        })?);
    }
    let path = arguments.dir.join("home.crl");
    let last = pem::read(
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
