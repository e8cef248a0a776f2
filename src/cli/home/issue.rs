//! `chancery home issue`: a certificate for a public key that somebody sent. Of a request only the key is taken; home
//! decides everything else.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use chancery::{
    keys::{
        IdentitySigner,
        file::KeyKind,
        issue::{self, IssuerName, Request},
    },
    protocol::{
        certificate::{HomeAuthority, Identity, Role, Serial, UnixTime},
        group::Point,
        ids::SubjectName,
    },
};
use clap::{Args, ValueEnum};
use rand_core::OsRng;

use super::{BACKDATED_SECONDS, after, authority, now};
use crate::cli::{
    failure::Failure,
    input, output, pem,
    public_key::{self, Form, Sent, key_hash},
    signer::KeyPlace,
};

/// Issue a certificate for a public key that somebody sent
#[derive(Args)]
pub(super) struct Issue {
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

/// The public key that somebody sent: the right official's, where it comes on a card.
fn requested_key(issue: &Issue) -> Result<Sent, Failure> {
    let sent = public_key::read(&issue.from)?;
    let name = input::name(&issue.from);
    match &sent.form {
        Form::Card(card) if !matches!(issue.role, Kind::Official) || card.name().as_str() != issue.name.as_str() => {
            let what = format!("{name} is the card of the official {}, not what this certificate is for", card.name());
            Err(Failure::Refused(what, "Check role and name; nothing was issued"))
        }
        Form::Certificate => {
            let what = format!("{name} is a certificate, and a certificate is no request for one");
            Err(Failure::Refused(what, "Ask for a card, a request or a public key; nothing was issued"))
        }
        _ => Ok(sent),
    }
}

pub(super) fn run(arguments: &Issue, out: &mut dyn Write) -> Result<(), Failure> {
    output::is_free(&arguments.out)?;
    let sent = requested_key(arguments)?;
    let signer = arguments.place.open(KeyKind::Home)?;
    let home = authority(&arguments.dir, &*signer)?;
    let identity = Identity {
        trust_domain: home.trust_domain().clone(),
        role: arguments.role.role(),
        name: arguments.name.clone(),
    };
    let issued = certify(&home, &*signer, &identity, sent.key, arguments.days, &arguments.out)?;

    writeln!(out, "issued {identity} ({}), valid until {}", identity.role, issued.until)?;
    writeln!(out, "  certificate    {}", input::name(&arguments.out))?;
    writeln!(out, "  serial number  {}", issued.serial)?;
    writeln!(out, "  key hash       {}", key_hash(&sent.key))?;
    writeln!(out, "  from           {}", sent.proof())?;
    Ok(())
}

/// What was issued.
pub(super) struct Issued {
    pub(super) serial: Serial,
    pub(super) until: UnixTime,
}

/// Issues a certificate into a new file.
pub(super) fn certify(
    home: &HomeAuthority,
    signer: &dyn IdentitySigner,
    identity: &Identity,
    key: Point,
    days: u16,
    out: &Path,
) -> Result<Issued, Failure> {
    if key.xy().0 == signer.public().xy().0 {
        let what = "this is the home authority's own key".to_owned();
        return Err(Failure::Refused(what, "Each key has one use: ask for another key"));
    }
    let from = UnixTime(now().0.saturating_sub(BACKDATED_SECONDS));
    let until = after(from, days);
    if until > home.until() {
        let what = format!("the certificate would outlive home's own, which ends at {}", home.until());
        return Err(Failure::Refused(what, "Choose fewer days; nothing was issued"));
    }
    let issuer = IssuerName { country: home.country(), identity: home.identity().clone() };
    let request = Request { identity: identity.clone(), key, not_before: from, not_after: until, places: Vec::new() };
    let certificate = issue::certificate(&issuer, signer, &request, &mut OsRng)?;
    let unreadable =
        |error| Failure::Certificate { name: "what was made".to_owned(), error, advice: "Nothing was written" };
    let serial = home.issued(&certificate).map_err(unreadable)?;
    output::create(out, pem::encode("CERTIFICATE", &certificate).as_bytes())?;
    Ok(Issued { serial, until })
}
