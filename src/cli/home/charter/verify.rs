//! `chancery home charter verify`: is this the charter in force? The chain from the founding one, and what was seen before.

use std::{io::Write, path::PathBuf};

use chancery::protocol::{
    charter::{Authority, VerifiedCharter},
    wire::Document,
};
use clap::Args;

use crate::cli::{
    failure::Failure,
    input,
    memory::State,
    network::{self, file_name},
    output,
};

/// Verify the chain of charters, and that none was shown before that is newer
#[derive(Args)]
pub(super) struct Verify {
    /// The charter that follows those in the directory; without it the directory alone is verified
    #[arg(value_name = "CHARTER")]
    charter: Option<PathBuf>,
    /// Put the charter into the directory, once it is verified
    #[arg(long, requires = "charter")]
    add: bool,
    /// The home authority's certificate (home.crt), as home itself gave it to you
    #[arg(long, value_name = "FILE")]
    home: PathBuf,
    /// The directory with the network's signed charters (*.charter); made by --add if it is not there
    #[arg(long, value_name = "DIRECTORY")]
    charters: PathBuf,
    #[command(flatten)]
    state: State,
}

pub(super) fn run(arguments: &Verify, out: &mut dyn Write) -> Result<(), Failure> {
    let Verify { charter, add, home, charters: folder, state } = arguments;
    let home = network::home(home)?;
    let mut chain = network::chain(&home, folder)?;
    let mut added = false;
    if let Some(path) = charter {
        let next = network::read(path)?;
        // Verifying what is there already is no mistake.
        if chain.last().is_none_or(|last| last.signed() != &next) {
            let verified = network::follow(&home, chain.last(), next);
            chain.push(verified.map_err(|error| network::refused(path, &error))?);
            added = *add;
        }
    }
    let last = chain.last().ok_or_else(|| network::nothing(folder))?;
    state.open(last.id())?.take_charter(last)?;
    if added {
        std::fs::create_dir_all(folder).map_err(|source| Failure::Save {
            name: input::name(folder),
            source,
            advice: "Choose a directory that you may write to",
        })?;
        output::create(&folder.join(file_name(last.charter().parts().version)), &last.signed().encode())?;
    }
    writeln!(out, "network {}", last.id())?;
    for verified in &chain {
        write_link(verified, out)?;
    }
    let parts = last.charter().parts();
    writeln!(out, "in force: version {} of {}, hash {}", parts.version, parts.country, last.hash())?;
    if added {
        writeln!(out, "added to {}", input::name(folder))?;
    }
    Ok(())
}

fn write_link(verified: &VerifiedCharter, out: &mut dyn Write) -> Result<(), Failure> {
    // What a recovery quorum did without home is loud in the words themselves.
    let mark = if matches!(verified.authority(), Authority::RecoveryAlone(_)) { "ATTENTION: " } else { "" };
    writeln!(out, "  version {}  {mark}{}", verified.charter().parts().version, verified.authority())?;
    Ok(())
}
