//! An official's shares: keeping one when a quorum's key is made, and rebuilding a lost one from recovery data.
//!
//! The recovery data is stored before the share: from it, with the own DKG key, the share comes back.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use chancery::{
    client::official::Keys,
    keys::{
        KeyError,
        disk::{self, Replace},
        file::ShareOf,
    },
    protocol::{
        ceremony::genesis::{Genesis, participant::Kept, run},
        dkg::RecoveryData,
        hash::Hash,
        ids::{Generation, QuorumKind},
        secret::SecretScalar,
        wire::Document,
    },
};
use clap::{Args, ValueEnum};

use super::place::Place;
use crate::cli::{
    failure::Failure,
    input::{self, Expected},
};

const REBUILD_HELP: &str = "\
Your DKG key (dkg.key) and recovery data, yours or any other official's copy, give your share again, the very same. Nobody else \
has to help, and nobody can do it without your DKG key.

Examples:
  chancery official rebuild unseal
  chancery official rebuild recovery --from boris/recovery-recovery-1.bin";

/// Rebuild a lost share from recovery data
#[derive(Args)]
#[command(after_long_help = REBUILD_HELP)]
pub(super) struct Rebuild {
    /// The share of which quorum
    #[arg(value_name = "QUORUM")]
    quorum: Quorum,
    /// The recovery data [default: your own copy]
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

pub(super) fn rebuild(arguments: &Rebuild, out: &mut dyn Write) -> Result<(), Failure> {
    let directory = arguments.place.open()?;
    let last = directory.charter()?;
    let kind = QuorumKind::from(arguments.quorum);
    let custody = last.charter().parts().custody.as_ref();
    let generation = custody.map_or(Generation::FIRST, |custody| custody.generation);
    let folder = directory.path().join("genesis");
    let path = arguments.from.clone().unwrap_or_else(|| recovery_path(&folder, kind, generation));
    let recovery = read_recovery(&path)?;
    let wrong = |error: &dyn std::fmt::Display| Failure::Refused(error.to_string(), "Take another official's copy");
    let terms = run::terms(last.charter(), kind, generation);
    let terms = terms.map_err(|error| wrong(&error))?;
    if let Some(custody) = custody {
        let certificate = Hash::of_bytes(&recovery.certificate().encode());
        let chartered = match kind {
            QuorumKind::Unseal => custody.unseal_certificate,
            QuorumKind::Recovery => custody.recovery_certificate,
        };
        if certificate != chartered {
            return Err(wrong(&format!("{} is of another attempt than the charter's key", input::name(&path))));
        }
    }
    let keys = arguments.place.unlock(&directory)?;
    let (position, share, _) = recovery.recover(&terms, &keys.dkg()?).map_err(|error| wrong(&error))?;
    let of = ShareOf { charter: last.id(), quorum: kind, generation, position };
    let stored = store_share(&keys, &folder, of, share)?;
    writeln!(out, "Your share of the {kind} quorum is rebuilt, the same as it was: {}", input::name(&stored))?;
    Ok(())
}

/// Which quorum.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Quorum {
    /// Opens datasets with an embassy
    Unseal,
    /// Opens them without
    Recovery,
}

impl From<Quorum> for QuorumKind {
    fn from(quorum: Quorum) -> Self {
        match quorum {
            Quorum::Unseal => Self::Unseal,
            Quorum::Recovery => Self::Recovery,
        }
    }
}

pub(super) fn recovery_path(folder: &Path, kind: QuorumKind, generation: Generation) -> PathBuf {
    folder.join(format!("recovery-{kind}-{generation}.bin"))
}

pub(super) fn read_recovery(path: &Path) -> Result<RecoveryData, Failure> {
    let missing = "Any official of that quorum has a copy";
    let bytes = input::read(path, &Expected { what: "recovery data", bound: RecoveryData::MAX_BYTES, missing })?;
    RecoveryData::decode(&bytes).map_err(|error| Failure::Document {
        name: input::name(path),
        kind: "DKG recovery data",
        error,
    })
}

/// Stores share and recovery data, durably, the data first: a share can be rebuilt from it.
pub(super) fn keep(
    keys: &Keys,
    folder: &Path,
    genesis: &Genesis,
    kept: Kept,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let plan = &genesis.board().ground().plan;
    let Kept { kind, position, share, recovery, .. } = kept;
    let path = recovery_path(folder, kind, plan.generation);
    disk::write(&path, &recovery.encode(), Replace::Yes)?;
    let of = ShareOf { charter: plan.charter, quorum: kind, generation: plan.generation, position };
    let stored = store_share(keys, folder, of, share)?;
    writeln!(out)?;
    writeln!(out, "The {kind} quorum's key is made. Your share: {}", input::name(&stored))?;
    writeln!(out, "  To rebuild it if it is lost: {} (copy it to another place)", input::name(&path))?;
    Ok(())
}

/// Keeps a share. The same one again, after an interruption, is well; one of an attempt that was given up steps aside.
fn store_share(keys: &Keys, folder: &Path, of: ShareOf, share: SecretScalar) -> Result<PathBuf, Failure> {
    let copy = SecretScalar::from_bytes(&share.to_bytes()).ok_or(KeyError::Damaged)?;
    match keys.keep_share(of, share) {
        Err(KeyError::Exists { path }) => {
            if keys.share(&of).is_ok_and(|there| there == copy) {
                return Ok(path);
            }
            let mut aside = folder.join(format!("given-up-{}-{}.key", of.quorum, of.generation));
            let mut number = 1_u32;
            while aside.symlink_metadata().is_ok() {
                aside = folder.join(format!("given-up-{}-{}-{number}.key", of.quorum, of.generation));
                number = number.saturating_add(1);
            }
            std::fs::rename(&path, &aside).map_err(|source| Failure::Save {
                name: input::name(&path),
                source,
                advice: "A share of an attempt that was given up stands there; move it away",
            })?;
            Ok(keys.keep_share(of, copy)?)
        }
        kept => Ok(kept?),
    }
}
