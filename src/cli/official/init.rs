//! `chancery official init`: an official's keys, each for one use, and what home needs of their public halves.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use chancery::{
    client::official::{Directory, Settings},
    keys::{
        IdentitySigner, KeyAgreement, KeyError, MemorySigner,
        disk::{self, Replace},
        file::{Cost, KeyFile, KeyKind, Lock, PrivateKey, PublicKey},
        issue::public_key_info,
        token::TokenKeys,
    },
    protocol::{
        card::OfficialCard,
        charter::CharterOfficial,
        hash::Hash,
        ids::{OfficialName, SubjectName},
        secret::{SecretScalar, SecretVec},
        wire::Document,
    },
};
use clap::Args;
use rand_core::OsRng;

use crate::cli::{ask, failure::Failure, input, output, pem, signer::TokenPlace};

const AFTER_HELP: &str = "\
Four keys are made, each for one use:
  identity.key    signs what you say: approvals, denials, stops
  hybrid.key      receives your shares of datasets' keys
  dkg.key         takes part in making the quorum's key, and restores your share should you lose it
  connection.key  proves to embassies who is on the line; it approves nothing
card.bin holds the public halves of the first three, signed by the first; connection.pub is the public half of the last. Hand \
both to home, and read both hashes to them yourself. Home sends back a certificate for connection.pub.

All are locked by one passphrase. Without these files and their passphrase your part in every quorum is lost: keep a copy in \
another place.

With a token, the identity key is born there and never leaves it, and a second key there locks the other files: the token's \
PIN is all you need, and the files are of no use without that token. If the token is lost, so is your part, until the charter \
names new keys of yours.

Examples:
  chancery official init anna --dir ~/chancery
  chancery official init anna --dir ~/chancery --module LIBRARY --token LABEL --token-key identity";

/// Make an official's keys, and what home needs of their public halves
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
    #[arg(long, value_name = "N", conflicts_with = "module")]
    passphrase_fd: Option<u32>,
    #[command(flatten)]
    token: TokenPlace,
}

/// What the official's files are locked by, and what signs.
enum Means {
    Passphrase(SecretVec),
    Token(TokenKeys),
}

impl Means {
    fn lock(&self) -> Lock<'_> {
        match self {
            Self::Passphrase(passphrase) => Lock::Passphrase(passphrase, Cost::STANDARD),
            Self::Token(keys) => Lock::Token(KeyAgreement::public(keys)),
        }
    }
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let Arguments { name, dir, passphrase_fd, token } = arguments;
    let paths = ["identity.key", "hybrid.key", "dkg.key", "connection.key"].map(|file| dir.join(file));
    let [identity_path, hybrid_path, dkg_path, connection_path] = &paths;
    let (card_path, public_path) = (dir.join("card.bin"), dir.join("connection.pub"));
    // Asked before anything is made: half a set beside another half would be worse than none.
    if let Some(path) = paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(Failure::Refused(
            format!("{} exists, and may hold the only copy of a key", input::name(path)),
            "Choose another directory; keys are never replaced here",
        ));
    }
    output::is_free(&card_path)?;
    output::is_free(&public_path)?;
    std::fs::create_dir_all(dir).map_err(|source| Failure::Save {
        name: input::name(dir),
        source,
        advice: "Choose a directory that you may write to",
    })?;
    // The token first: a wrong PIN then leaves nothing behind.
    let means = match token.open()? {
        Some((token, key)) => Means::Token(token.generate_official(key)?),
        None => Means::Passphrase(ask::new("passphrase", *passphrase_fd, "--passphrase-fd")?),
    };
    let subject =
        SubjectName::new(name.as_str()).map_err(|error| Failure::Refused(error.to_string(), "Choose another name"))?;
    let make = |kind: KeyKind, path: &Path, key: &PrivateKey| -> Result<PublicKey, Failure> {
        let file = KeyFile::lock(kind, subject.clone(), key, means.lock(), &mut OsRng)?;
        disk::store(path, &file, Replace::No)?;
        Ok(file.public().clone())
    };
    let random = |kind: KeyKind, path: &Path| make(kind, path, &PrivateKey::random(kind, &mut OsRng));

    let in_memory;
    let signer: &dyn IdentitySigner = match &means {
        Means::Token(keys) => keys,
        Means::Passphrase(_) => {
            let secret = SecretScalar::random(&mut OsRng);
            in_memory = MemorySigner::new(&secret);
            make(KeyKind::Identity, identity_path, &PrivateKey::Scalar(secret))?;
            &in_memory
        }
    };
    let hybrid = random(KeyKind::Hybrid, hybrid_path)?;
    let dkg = random(KeyKind::Dkg, dkg_path)?;
    let connection = random(KeyKind::Connection, connection_path)?;
    let (PublicKey::Hybrid(hybrid), PublicKey::Point(dkg), PublicKey::Point(connection)) = (hybrid, dkg, connection)
    else {
        return Err(KeyError::Damaged.into());
    };
    let official = CharterOfficial { name: name.clone(), identity: *signer.public(), hybrid, dkg };
    let signature = signer.sign(&OfficialCard::digest(&official))?;
    let card = OfficialCard::new(official, signature).map_err(|error| {
        Failure::Refused(error.to_string(), "No card was written; start again in another directory")
    })?;
    Directory::begin(dir, &Settings { name: name.clone(), token: token.settings(), embassies: Vec::new() })?;
    output::create(&card_path, &card.encode())?;
    output::create(&public_path, pem::encode("PUBLIC KEY", &public_key_info(&connection)).as_bytes())?;

    writeln!(out, "{name} has keys now:")?;
    if token.is_named() {
        writeln!(out, "  the identity key, on the token, and a second key there that unlocks the files")?;
    }
    let skipped = usize::from(token.is_named());
    for path in paths.iter().skip(skipped) {
        writeln!(out, "  {}", input::name(path))?;
    }
    writeln!(out, "card for home:           {}", input::name(&card_path))?;
    writeln!(out, "card hash:               {}", card.hash())?;
    writeln!(out, "connection key for home: {}", input::name(&public_path))?;
    writeln!(out, "connection key hash:     {}", Hash::of_bytes(&connection.encode()))?;
    writeln!(out)?;
    writeln!(
        out,
        "Next: hand card and connection key to home and read both hashes to them yourself. Home gives you a certificate, its own \
         certificate and its revocation list; then `chancery official connect`."
    )?;
    if !token.is_named() {
        writeln!(out, "Copy the key files to a second place.")?;
    }
    Ok(())
}
