//! `chancery official init`: an official's keys, each for one use, and the card of their public halves for home.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use chancery::{
    keys::{
        IdentitySigner, KeyError,
        disk::{self, Replace},
        file::{Cost, KeyFile, KeyKind, PrivateKey, PublicKey},
    },
    protocol::{
        card::OfficialCard,
        charter::CharterOfficial,
        ids::{OfficialName, SubjectName},
        secret::SecretVec,
        wire::Document,
    },
};
use clap::Args;
use rand_core::OsRng;

use crate::cli::{ask, failure::Failure, input, output, signer::TokenPlace};

const AFTER_HELP: &str = "\
Three keys are made, each for one use, and encrypted under one passphrase:
  identity.key  signs what you say: approvals, denials, stops
  hybrid.key    receives your shares of datasets' keys
  dkg.key       takes part in making the quorum's key, and restores your share should you lose it
card.bin holds their public halves, signed by the first. Hand it to home, and read the card hash to them yourself.

Without these files and their passphrase your part in every quorum is lost: keep a copy in another place.

The identity key may be born on a token instead, and never leave it: then there is no identity.key.

Examples:
  chancery official init anna --dir ~/chancery
  chancery official init anna --dir ~/chancery --module LIBRARY --token LABEL --token-key identity";

/// Make an official's keys, and the card of their public halves for home
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// The official's name, as the charter will have it
    #[arg(value_name = "NAME")]
    name: OfficialName,
    /// The directory for the keys; made if it is not there
    #[arg(long, value_name = "DIRECTORY")]
    dir: PathBuf,
    /// Read the passphrase from this open file descriptor (0 is standard input) instead of the terminal
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<u32>,
    #[command(flatten)]
    token: TokenPlace,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let Arguments { name, dir, passphrase_fd, token } = arguments;
    let paths = ["identity.key", "hybrid.key", "dkg.key"].map(|file| dir.join(file));
    let [identity_path, hybrid_path, dkg_path] = &paths;
    let card_path = dir.join("card.bin");
    // Asked before anything is made: half a set beside another half would be worse than none.
    if let Some(path) = paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(Failure::Refused(
            format!("{} exists, and may hold the only copy of a key", input::name(path)),
            "Choose another directory; keys are never replaced here",
        ));
    }
    output::is_free(&card_path)?;
    std::fs::create_dir_all(dir).map_err(|source| Failure::Save {
        name: input::name(dir),
        source,
        advice: "Choose a directory that you may write to",
    })?;
    let passphrase = ask::new("passphrase", *passphrase_fd, "--passphrase-fd")?;
    let make = |kind, path: &Path| key(kind, name, path, &passphrase);

    // The token first: a wrong PIN then leaves nothing behind.
    let signer: Box<dyn IdentitySigner> = match token.open()? {
        Some((token, key)) => Box::new(token.generate(key)?),
        None => Box::new(make(KeyKind::Identity, identity_path)?.signer(KeyKind::Identity, &passphrase)?),
    };
    let hybrid = make(KeyKind::Hybrid, hybrid_path)?;
    let dkg = make(KeyKind::Dkg, dkg_path)?;
    let (PublicKey::Hybrid(hybrid), PublicKey::Point(dkg)) = (hybrid.public().clone(), dkg.public().clone()) else {
        return Err(KeyError::Damaged.into());
    };
    let official = CharterOfficial { name: name.clone(), identity: *signer.public(), hybrid, dkg };
    let signature = signer.sign(&OfficialCard::digest(&official))?;
    let card = OfficialCard::new(official, signature).map_err(|error| {
        Failure::Refused(error.to_string(), "No card was written; start again in another directory")
    })?;
    output::create(&card_path, &card.encode())?;

    writeln!(out, "{name} has keys now:")?;
    if token.is_named() {
        writeln!(out, "  the identity key, on the token")?;
    }
    let skipped = usize::from(token.is_named());
    for path in paths.iter().skip(skipped) {
        writeln!(out, "  {}", input::name(path))?;
    }
    writeln!(out, "card for home: {}", input::name(&card_path))?;
    writeln!(out, "card hash:     {}", card.hash())?;
    writeln!(out)?;
    writeln!(
        out,
        "Next: hand the card to home and read the hash to them yourself. Copy the key files to a second place."
    )?;
    Ok(())
}

fn key(kind: KeyKind, name: &OfficialName, path: &Path, passphrase: &SecretVec) -> Result<KeyFile, Failure> {
    let name =
        SubjectName::new(name.as_str()).map_err(|error| Failure::Refused(error.to_string(), "Choose another name"))?;
    let secret = PrivateKey::random(kind, &mut OsRng);
    let file = KeyFile::seal(kind, name, &secret, passphrase, Cost::STANDARD, &mut OsRng)?;
    disk::store(path, &file, Replace::No)?;
    Ok(file)
}
