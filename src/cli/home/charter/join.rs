//! `chancery home charter join`: copies of one charter, signed apart, become one. A signature joins once it verified.

use std::{io::Write, path::PathBuf};

use chancery::protocol::{charter::SignedCharter, wire::Document};
use clap::Args;

use super::{lacks_signatures_only, sign::predecessor, write_standing};
use crate::cli::{failure::Failure, input, network, output};

/// Join copies of a charter that were signed apart
#[derive(Args)]
pub(super) struct Join {
    /// The copies
    #[arg(value_name = "CHARTER", required = true)]
    copies: Vec<PathBuf>,
    /// The home authority's certificate (home.crt)
    #[arg(long, value_name = "FILE")]
    home: PathBuf,
    /// The directory with the charters before it (*.charter); none for the founding one
    #[arg(long, value_name = "DIRECTORY")]
    charters: Option<PathBuf>,
    /// The charter with all signatures, a new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn run(arguments: &Join, out: &mut dyn Write) -> Result<(), Failure> {
    let Join { copies, home, charters, out: to } = arguments;
    output::is_free(to)?;
    let home = network::home(home)?;
    let chain = charters.as_deref().map(|folder| network::chain(&home, folder)).transpose()?.unwrap_or_default();
    let mut joined: Option<SignedCharter> = None;
    for path in copies {
        let copy = network::read(path)?;
        let last = predecessor(&chain, copy.unverified(), charters.as_deref())?;
        // Each copy by itself: a wrong signature is said with the file that it came in.
        if let Err(error) = network::follow(&home, last, copy.clone())
            && !lacks_signatures_only(&error, &copy)
        {
            return Err(network::refused(path, &error));
        }
        match &mut joined {
            None => joined = Some(copy),
            Some(joined) if joined.unverified() == copy.unverified() => {
                for (signer, signature) in copy.signatures() {
                    joined.add(signer.clone(), *signature);
                }
            }
            Some(joined) => {
                let (first, second) = (joined.unverified().hash(), copy.unverified().hash());
                return Err(Failure::Refused(
                    format!("{} is another charter: its hash is {second}, not {first}", input::name(path)),
                    "Find out who signed which; copies of one charter are joined",
                ));
            }
        }
    }
    // The command line's rules give at least one.
    let Some(joined) = joined else { return Ok(()) };
    let last = predecessor(&chain, joined.unverified(), charters.as_deref())?;
    let standing = network::follow(&home, last, joined.clone());
    output::create(to, &joined.encode())?;
    let parts = joined.unverified().parts();
    writeln!(out, "charter of {}, version {}, hash {}", parts.country, parts.version, joined.unverified().hash())?;
    write_standing(&joined, &standing, out)?;
    writeln!(out, "written: {}", input::name(to))?;
    Ok(())
}
