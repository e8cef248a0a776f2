//! `chancery home charter show`: everything that a charter says, in words, whoever signed it or not.

use std::{io::Write, path::PathBuf};

use clap::Args;

use super::{sign::predecessor, write_changes, write_charter, write_standing};
use crate::cli::{failure::Failure, network};

/// Show a charter in words, what it changes, and who has signed it
#[derive(Args)]
pub(super) struct Show {
    /// The charter
    #[arg(value_name = "CHARTER")]
    charter: PathBuf,
    /// The home authority's certificate; without it no signature is checked
    #[arg(long, value_name = "FILE")]
    home: Option<PathBuf>,
    /// The directory with the charters before it (*.charter)
    #[arg(long, value_name = "DIRECTORY", requires = "home")]
    charters: Option<PathBuf>,
}

pub(super) fn run(arguments: &Show, out: &mut dyn Write) -> Result<(), Failure> {
    let signed = network::read(&arguments.charter)?;
    let Some(home) = &arguments.home else {
        write_charter(signed.unverified(), out)?;
        let signers: Vec<String> = signed.signers().map(ToString::to_string).collect();
        let signers = if signers.is_empty() { "nobody".to_owned() } else { signers.join(", ") };
        writeln!(out)?;
        writeln!(out, "signed by {signers}, as it says. Nothing was checked: that needs --home, and --charters")?;
        return Ok(());
    };
    let home = network::home(home)?;
    let folder = arguments.charters.as_deref();
    let mut chain = folder.map(|folder| network::chain(&home, folder)).transpose()?.unwrap_or_default();
    // It may stand in the directory itself, with others after it.
    chain.retain(|charter| charter.charter().parts().version < signed.unverified().parts().version);
    let last = predecessor(&chain, signed.unverified(), folder)?;
    write_charter(signed.unverified(), out)?;
    write_changes(last, signed.unverified(), out)?;
    writeln!(out)?;
    write_standing(&signed, &network::follow(&home, last, signed.clone()), out)
}
