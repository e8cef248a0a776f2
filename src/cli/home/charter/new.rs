//! `chancery home charter new`: a readable draft becomes a charter that somebody may sign.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use chancery::protocol::{
    charter::{Charter, SignedCharter},
    wire::Document,
};
use clap::Args;

use super::{draft::Draft, lacks_signatures_only, write_changes, write_charter};
use crate::cli::{
    failure::Failure,
    input::{self, Expected},
    network, output,
};

/// The commented example: also what newcomers read first.
const EXAMPLE: &str = include_str!("../../../../policy/charters/founding.toml");
/// 1,024 owners and datasets, each with its lines.
const DRAFT_BYTES_MAX: usize = 1024 * 1024;

/// Make a charter out of a draft in TOML, for signing
///
/// Without --charters the draft founds a network. With it, the charter follows the last one there: custody stays as it is, and
/// an entry without a key keeps the key it has.
#[derive(Args)]
pub(super) struct New {
    /// Print a draft with every field explained, and do nothing else
    #[arg(long, exclusive = true)]
    example: bool,
    /// The draft; paths in it are relative to where it lies
    #[arg(long, value_name = "FILE", required_unless_present = "example")]
    draft: Option<PathBuf>,
    /// The directory with the charters before it (*.charter)
    #[arg(long, value_name = "DIRECTORY", requires = "home")]
    charters: Option<PathBuf>,
    /// The home authority's certificate, for the charters before it
    #[arg(long, value_name = "FILE", requires = "charters")]
    home: Option<PathBuf>,
    /// The charter, a new file
    #[arg(long, value_name = "FILE", required_unless_present = "example")]
    out: Option<PathBuf>,
}

pub(super) fn run(arguments: &New, out: &mut dyn Write) -> Result<(), Failure> {
    let (Some(draft), Some(to)) = (&arguments.draft, &arguments.out) else {
        return Ok(out.write_all(EXAMPLE.as_bytes())?);
    };
    output::is_free(to)?;
    let chain = match (&arguments.charters, &arguments.home) {
        (Some(folder), Some(home)) => {
            let chain = network::chain(&network::home(home)?, folder)?;
            if chain.is_empty() {
                return Err(network::nothing(folder));
            }
            chain
        }
        _ => Vec::new(),
    };
    let last = chain.last();
    let expected = Expected {
        what: "a draft",
        bound: DRAFT_BYTES_MAX,
        missing: "`chancery home charter new --example` prints one to begin with",
    };
    let text = input::read(draft, &expected)?;
    let folder = draft.parent().unwrap_or(Path::new("."));
    let charter = Draft::read(&input::name(draft), &text)?.charter(folder, last)?;
    let signed = SignedCharter::unsigned(charter);
    if let Some(last) = last {
        // All that its signers would find wrong is found here, where it can be corrected.
        if let Err(error) = signed.clone().succeed(last)
            && !lacks_signatures_only(&error, &signed)
        {
            let what = format!("{} makes a charter that cannot follow: {error}", input::name(draft));
            return Err(Failure::Refused(what, "Correct the draft; nothing was written"));
        }
    }
    output::create(to, &signed.encode())?;
    write_charter(signed.unverified(), out)?;
    write_changes(last, signed.unverified(), out)?;
    writeln!(out)?;
    writeln!(out, "written, signed by nobody: {}", input::name(to))?;
    writeln!(out, "Next: {}", next(signed.unverified(), last.is_some()))?;
    Ok(())
}

/// Who has to sign.
pub(super) fn next(charter: &Charter, follows: bool) -> String {
    if !follows {
        return "sign it with home's key: `chancery home charter sign`.".to_owned();
    }
    format!(
        "give it to home and to {} officials of the version before (or to its recovery quorum alone), who sign it with \
         `chancery home charter sign`.",
        charter.parts().amend_k
    )
}
