//! `chancery home enrol`: an embassy's identity key becomes an authority below home, for the embassy's own name only.
//!
//! The charter names the key, and k officials signed for it; home certifies that key and no other. Before there is such a
//! charter, a founding key may stand in for it, for days.

use std::{io::Write, path::PathBuf};

use chancery::{
    keys::file::KeyKind,
    protocol::{
        certificate::{Identity, Role},
        group::Point,
        ids::{EmbassyName, SubjectName},
    },
};
use clap::Args;

use super::{authority, issue};
use crate::cli::{
    failure::Failure,
    input,
    network::Charters,
    output,
    public_key::{self, Form, key_hash},
    signer::KeyPlace,
};

const DAYS: u16 = 365;
/// A founding is a matter of days, and its key is guarded by no platform state.
const FOUNDING_DAYS: u16 = 14;
const FOUNDING_DAYS_MAX: u16 = 60;

/// Certify an embassy's identity key: it then issues the embassy's TLS certificates, and nothing else
///
/// The key is the one that the charter in force names for the embassy's TPM. While the charter names none, --founding
/// certifies a founding key for a few days.
#[derive(Args)]
pub(super) struct Enrol {
    /// The embassy, as the charter calls it
    #[arg(value_name = "EMBASSY")]
    embassy: EmbassyName,
    /// The key as the embassy sent it: a request or public key. It must be the charter's
    #[arg(long, value_name = "FILE", required_if_eq("founding", "true"))]
    from: Option<PathBuf>,
    /// Certify a founding key, before the charter names the embassy's own
    #[arg(long)]
    founding: bool,
    /// How long the certificate is valid [default: 365, founding 14]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..))]
    days: Option<u16>,
    /// The directory with home.crt
    #[arg(long, value_name = "DIRECTORY")]
    dir: PathBuf,
    /// The certificate, a new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    charters: Charters,
    #[command(flatten)]
    place: KeyPlace,
}

pub(super) fn run(arguments: &Enrol, out: &mut dyn Write) -> Result<(), Failure> {
    output::is_free(&arguments.out)?;
    let home = crate::cli::network::home(&arguments.dir.join("home.crt"))?;
    let network = arguments.charters.open(home)?;
    let parts = network.charter.charter().parts();
    let name = &arguments.embassy;
    if parts.embassies.iter().all(|known| known.name != *name) {
        let what = format!("the charter in force, version {}, has no embassy {name}", parts.version);
        return Err(Failure::Refused(what, "Check the name, or amend the charter first; nothing was issued"));
    }
    let machines = parts.custody.iter().flat_map(|custody| &custody.machines);
    let chartered = machines.into_iter().find(|machine| machine.embassy == *name).map(|machine| machine.identity_key);
    let key = enrolled(arguments, chartered)?;
    let days = match (arguments.founding, arguments.days) {
        (false, days) => days.unwrap_or(DAYS),
        (true, days) => days.unwrap_or(FOUNDING_DAYS),
    };
    if arguments.founding && days > FOUNDING_DAYS_MAX {
        let what = format!("a founding key is certified for at most {FOUNDING_DAYS_MAX} days, not {days}");
        return Err(Failure::Refused(what, "No platform state guards it: choose fewer days"));
    }
    let signer = arguments.place.open(KeyKind::Home)?;
    let home = authority(&arguments.dir, &*signer)?;
    // Every embassy's name is a subject's.
    let subject = SubjectName::new(name.as_str())
        .map_err(|error| Failure::Refused(error.to_string(), "Check the name; nothing was issued"))?;
    let identity = Identity { trust_domain: home.trust_domain().clone(), role: Role::EmbassyAuthority, name: subject };
    let issued = issue::certify(&home, &*signer, &identity, key, days, &arguments.out)?;

    let what =
        if arguments.founding { "a founding key, until the charter names the TPM's" } else { "the charter's key" };
    writeln!(out, "enrolled embassy {name}: {identity}, valid until {}", issued.until)?;
    writeln!(out, "  certificate    {}", input::name(&arguments.out))?;
    writeln!(out, "  serial number  {}", issued.serial)?;
    writeln!(out, "  key            {what}")?;
    writeln!(out, "  key hash       {}", key_hash(&key))?;
    writeln!(out)?;
    writeln!(
        out,
        "Next: have the embassy read its key hash to you. If it reads another one: `chancery home revoke {}`.",
        input::name(&arguments.out)
    )?;
    Ok(())
}

/// The key to certify: the charter's, and what the embassy sent must be it.
fn enrolled(arguments: &Enrol, chartered: Option<Point>) -> Result<Point, Failure> {
    let name = &arguments.embassy;
    let sent = match &arguments.from {
        None => None,
        Some(path) => match public_key::read(path)? {
            sent if matches!(sent.form, Form::Card(_) | Form::Certificate) => {
                let what = format!("{} is no request or public key", input::name(path));
                return Err(Failure::Refused(what, "Ask the embassy for its identity key; nothing was issued"));
            }
            sent => Some(sent.key),
        },
    };
    match (chartered, sent, arguments.founding) {
        (Some(_), _, true) => Err(Failure::Refused(
            format!("the charter in force names the identity key of {name}"),
            "Enrol that one, without --founding; nothing was issued",
        )),
        (Some(key), None, false) => Ok(key),
        (Some(key), Some(sent), false) if key == sent => Ok(key),
        (Some(key), Some(sent), false) => Err(Failure::Refused(
            format!(
                "the embassy sent the key with hash {}; the charter in force names the one with hash {}",
                key_hash(&sent),
                key_hash(&key)
            ),
            "Ask the embassy which TPM it runs on; nothing was issued",
        )),
        (None, Some(sent), true) => Ok(sent),
        (None, _, false) => Err(Failure::Refused(
            format!("the charter in force names no identity key of {name}: its TPM is not provisioned"),
            "Complete the charter first, or certify a founding key with --founding; nothing was issued",
        )),
        (None, None, true) => {
            Err(Failure::Refused("no founding key is given".to_owned(), "Give --from with the embassy's founding key"))
        }
    }
}
