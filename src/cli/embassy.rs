//! `chancery embassy`: preparing a machine at home, before it goes to the host country, and seeing what its directory lacks.
//!
//! Runs where home trusts the bus between processor and TPM. The authorizations that it sets are home's: they go into an
//! encrypted file that home keeps, and come to the embassy once more, for the founding.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use chancery::{
    hardware::{EmbassyTpm, Foundation, HierarchyAuth, HierarchyAuths, TpmAddress, TpmError},
    keys::{
        disk::{self, Replace},
        file::{Cost, KeyFile, KeyKind, PrivateKey, PublicKey, Unlock},
        issue::public_key_info,
    },
    protocol::{
        ceremony::genesis::{Ground, provisioning},
        hash::Hash,
        ids::{EmbassyName, SubjectName},
        secret::{SecretScalar, SecretVec},
        wire::Document,
        words::Words,
    },
};
use clap::{Args, Subcommand};
use rand_core::OsRng;

use crate::cli::{
    ask,
    failure::Failure,
    input,
    network::{self, Charters},
    output, pem,
};

const AFTER_HELP: &str = "\
An embassy's machine, from delivery to its first day:
  1. at home       chancery embassy found     its TPM gets its own two keys and authorizations that only home has
  2. at home       chancery home enrol --founding     certifies the founding key, for days
  3. at the host   chancery serve --auths FILE     relays the genesis; the officials run `chancery official genesis`
  4. at home       chancery home charter complete, sign     names what was made
  5. at home       chancery home enrol     certifies the TPM's identity key: the embassy serves
docs/genesis.md goes through it step by step.";

/// Prepare an embassy's machine
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Found(Box<Found>),
    Status(Status),
}

const FOUND_HELP: &str = "\
Sets new authorizations of the TPM's hierarchies, makes its storage root and attestation keys, defines the generation counter, \
and writes into --dir what `chancery serve` starts from. Run it at home, on a bus that home trusts: what is made here tells this \
TPM from every other, for ever.

The authorizations are derived from one secret in the file --auths, encrypted under the passphrase. Home keeps it, and a copy in \
another place; the embassy needs it once more, for the founding, and never afterwards.

A TPM that has authorizations already: give them with --delivered-fd, on one line: owner, endorsement and lockout, each in \
hexadecimal, or - for none.

Example:
  chancery embassy found luxembourg --dir embassy --tcti device:/dev/tpmrm0 --home home.crt --revocations home.crl \\
      --charters charters --auths luxembourg.auths";

/// Prepare a TPM at home: authorizations, its own two keys, the generation counter
#[derive(Args)]
#[command(after_long_help = FOUND_HELP)]
struct Found {
    /// The embassy, as the charter calls it
    #[arg(value_name = "EMBASSY")]
    embassy: EmbassyName,
    /// The embassy's directory; made if it is not there
    #[arg(long, value_name = "DIRECTORY")]
    dir: PathBuf,
    /// How to reach the TPM
    #[arg(long, value_name = "TCTI", default_value = "device:/dev/tpmrm0")]
    tcti: String,
    /// The home authority's certificate (home.crt)
    #[arg(long = "home", value_name = "FILE")]
    home: PathBuf,
    /// Home's revocation list (home.crl)
    #[arg(long, value_name = "FILE")]
    revocations: PathBuf,
    #[command(flatten)]
    charters: Charters,
    /// The encrypted file for the authorizations, which home keeps. One that is there is used again
    #[arg(long, value_name = "FILE")]
    auths: PathBuf,
    /// Read the passphrase from this open file descriptor (0 is standard input) instead of the terminal
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<u32>,
    /// Read the authorizations that the TPM was delivered with from this open file descriptor
    #[arg(long, value_name = "N")]
    delivered_fd: Option<u32>,
    /// Names and addresses at which visitors will reach the embassy; may be given several times
    #[arg(long = "place", value_name = "NAME")]
    places: Vec<String>,
}

/// What an embassy's directory has, and what it still lacks
#[derive(Args)]
struct Status {
    /// The embassy's directory
    #[arg(long, value_name = "DIRECTORY")]
    dir: PathBuf,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    match &arguments.command {
        Command::Found(arguments) => found(arguments, out),
        Command::Status(arguments) => status(arguments, out),
    }
}

fn found(arguments: &Found, out: &mut dyn Write) -> Result<(), Failure> {
    let Found { embassy, dir, tcti, auths, passphrase_fd, delivered_fd, .. } = arguments;
    let home = network::home(&arguments.home)?;
    let list = pem::read(
        &arguments.revocations,
        "a revocation list",
        chancery::protocol::certificate::MAX_LIST_BYTES,
        "Ask home for its list, home.crl",
    )?;
    home.revocations(&list).map_err(|error| Failure::Certificate {
        name: input::name(&arguments.revocations),
        error,
        advice: "Make a new list: `chancery home revoke`",
    })?;
    let network = arguments.charters.open(home)?;
    let charter = network.charter.charter();
    let machines = charter.parts().custody.iter().flat_map(|custody| &custody.machines);
    if machines.into_iter().any(|machine| machine.embassy == *embassy) {
        return Err(Failure::Refused(
            format!("the charter in force names a machine for {embassy}"),
            "Another machine makes a new generation: that takes an amend ceremony. Nothing was changed",
        ));
    }
    let ground = Ground::new(charter, embassy).map_err(|error| {
        Failure::Refused(error.to_string(), "Check the name, or amend the charter first. Nothing was changed")
    })?;
    let paths = ["foundation.bin", "founding.key", "founding.pub"].map(|file| dir.join(file));
    for path in &paths {
        output::is_free(path)?;
    }
    let [foundation_path, key_path, public_path] = &paths;
    std::fs::create_dir_all(dir.join("charters")).map_err(|source| Failure::Save {
        name: input::name(dir),
        source,
        advice: "Choose a directory that you may write to",
    })?;
    let delivered = match delivered_fd {
        Some(fd) => parse_delivered(&ask::once("authorizations of delivery", Some(*fd), "--delivered-fd")?)?,
        None => HierarchyAuths::empty(),
    };
    let (secret, passphrase) = authorizations(auths, embassy, *passphrase_fd)?;
    let new = || HierarchyAuths::derived(&secret, embassy);

    // The file is durable before the TPM hears of what is in it.
    let address = TpmAddress::new(tcti);
    let tpm = |error: TpmError| {
        Failure::Refused(error.to_string(), "The authorizations in the file are good for another try")
    };
    let foundation = match EmbassyTpm::found(&address, &delivered, &new()) {
        // An earlier try got as far as the authorizations.
        Err(TpmError::Unauthorized { .. }) => EmbassyTpm::found(&address, &new(), &new()),
        other => other,
    };
    let foundation = foundation.map_err(tpm)?;
    let opened = EmbassyTpm::open(&address, foundation, ground.plan.clone(), None).map_err(tpm)?;
    opened.define_counter(&new().owner).map_err(tpm)?;

    let key = PrivateKey::random(KeyKind::Founding, &mut OsRng);
    let name = SubjectName::new(embassy.as_str())
        .map_err(|error| Failure::Refused(error.to_string(), "Choose another name"))?;
    let file = KeyFile::seal(KeyKind::Founding, name, &key, &passphrase, Cost::STANDARD, &mut OsRng)?;
    let PublicKey::Point(public) = file.public().clone() else { return Err(chancery::keys::KeyError::Damaged.into()) };
    output::create(foundation_path, &foundation.encode())?;
    disk::store(key_path, &file, Replace::No)?;
    output::create(public_path, pem::encode("PUBLIC KEY", &public_key_info(&public)).as_bytes())?;
    lay_out(arguments, &network.charter)?;

    writeln!(out, "the TPM of {embassy} is prepared:")?;
    writeln!(out, "  its authorizations     {}: home keeps this file, and a copy elsewhere", input::name(auths))?;
    writeln!(out, "  its own two keys       {}", input::name(foundation_path))?;
    writeln!(out, "  the machine, in words  {}", machine_words(&foundation))?;
    writeln!(out, "  founding key           {}", input::name(public_path))?;
    writeln!(out, "  its hash               {}", Hash::of_bytes(&public.encode()))?;
    writeln!(out)?;
    writeln!(out, "Write the words down at home: officials will ask for them before they approve anything.")?;
    writeln!(
        out,
        "Next: `chancery home enrol {embassy} --founding --from {} --out {}`, with home's key",
        input::name(public_path),
        input::name(&dir.join("embassy.crt"))
    )?;
    Ok(())
}

/// What people read to each other of a machine: its TPM's own two keys.
fn machine_words(foundation: &Foundation) -> Words {
    provisioning::machine_words(&foundation.storage_root, &foundation.attestation)
}

/// The one secret of which the authorizations are derived: a new one, or the one of an earlier try.
fn authorizations(
    path: &Path,
    embassy: &EmbassyName,
    passphrase_fd: Option<u32>,
) -> Result<(SecretScalar, SecretVec), Failure> {
    let what = format!("passphrase of {embassy}'s founding");
    if path.symlink_metadata().is_ok() {
        let file = disk::load(path)?;
        if file.name().as_str() != embassy.as_str() {
            return Err(Failure::Refused(
                format!("{} holds the authorizations of {}", input::name(path), file.name()),
                "Each machine has its own: choose another file",
            ));
        }
        let passphrase = ask::once(&what, passphrase_fd, "--passphrase-fd")?;
        let secret = file.unlock_scalar(KeyKind::Authorizations, Unlock::Passphrase(&passphrase))?;
        return Ok((secret, passphrase));
    }
    let passphrase = ask::new(&what, passphrase_fd, "--passphrase-fd")?;
    let name = SubjectName::new(embassy.as_str())
        .map_err(|error| Failure::Refused(error.to_string(), "Choose another name"))?;
    let secret = PrivateKey::random(KeyKind::Authorizations, &mut OsRng);
    let file = KeyFile::seal(KeyKind::Authorizations, name, &secret, &passphrase, Cost::STANDARD, &mut OsRng)?;
    disk::store(path, &file, Replace::No)?;
    match secret {
        PrivateKey::Scalar(secret) => Ok((secret, passphrase)),
        PrivateKey::Hybrid(_) => Err(chancery::keys::KeyError::Damaged.into()),
    }
}

fn parse_delivered(line: &SecretVec) -> Result<HierarchyAuths, Failure> {
    let wrong = || {
        Failure::Refused(
            "the authorizations of delivery do not read".to_owned(),
            "Give one line: owner, endorsement and lockout, each in hexadecimal, or - for none. Nothing was changed",
        )
    };
    let text = std::str::from_utf8(line.expose()).map_err(|_| wrong())?;
    let mut parts = text.split_ascii_whitespace().map(|part| {
        let mut bytes = Vec::with_capacity(32);
        let digits = if part == "-" { "" } else { part };
        for pair in digits.as_bytes().chunks(2) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            bytes.push(u8::from_str_radix(pair, 16).map_err(|_| wrong())?);
        }
        HierarchyAuth::new(SecretVec::new(bytes)).map_err(|_| wrong())
    });
    let mut next = || parts.next().ok_or_else(wrong)?;
    let auths = HierarchyAuths { owner: next()?, endorsement: next()?, lockout: next()? };
    if parts.next().is_some() { Err(wrong()) } else { Ok(auths) }
}

/// Puts beside it what `chancery serve` starts from, where it is not there yet.
fn lay_out(arguments: &Found, charter: &chancery::protocol::charter::VerifiedCharter) -> Result<(), Failure> {
    let Found { embassy, dir, tcti, .. } = arguments;
    for (from, to) in [(&arguments.home, "home.crt"), (&arguments.revocations, "home.crl")] {
        let to = dir.join(to);
        if output::is_free(&to).is_ok() {
            std::fs::copy(from, &to).map_err(|source| Failure::Save {
                name: input::name(&to),
                source,
                advice: "Make room, and copy it there yourself",
            })?;
        }
    }
    for path in arguments.charters.files()? {
        let signed = network::read(&path)?;
        let to = dir.join("charters").join(format!("{:06}.charter", signed.unverified().parts().version));
        if signed.unverified().parts().version <= charter.charter().parts().version && output::is_free(&to).is_ok() {
            output::create(&to, &signed.encode())?;
        }
    }
    let settings = dir.join("chancery.toml");
    if output::is_free(&settings).is_ok() {
        let places: Vec<String> = arguments.places.iter().map(|place| format!("{place:?}")).collect();
        let text = format!("embassy = \"{embassy}\"\ntcti = {tcti:?}\nplaces = [{}]\n", places.join(", "));
        output::create(&settings, text.as_bytes())?;
    }
    Ok(())
}

fn status(arguments: &Status, out: &mut dyn Write) -> Result<(), Failure> {
    let dir = &arguments.dir;
    let has = |file: &str| dir.join(file).symlink_metadata().is_ok();
    for (file, what) in [
        ("chancery.toml", "settings"),
        ("foundation.bin", "the TPM's own two keys, made at home"),
        ("home.crt", "home's certificate"),
        ("home.crl", "home's revocation list"),
        ("embassy.crt", "home's certificate for the embassy's own authority"),
        ("keys.bin", "the TPM's keys of this generation"),
        ("founding.key", "the founding key, until the TPM's identity key takes over"),
    ] {
        writeln!(out, "  {}  {file:15} {what}", if has(file) { "there  " } else { "missing" })?;
    }
    if has("foundation.bin")
        && let Ok(bytes) = std::fs::read(dir.join("foundation.bin"))
        && let Ok(foundation) = Foundation::decode(&bytes)
    {
        writeln!(out, "the machine, in words: {}", machine_words(&foundation))?;
    }
    let mut versions: Vec<(u32, bool)> = Vec::new();
    if has("charters") {
        for path in network::files(&dir.join("charters"))? {
            let parts = network::read(&path)?;
            let parts = parts.unverified().parts();
            versions.push((parts.version, parts.custody.is_some()));
        }
    }
    versions.sort_unstable();
    let newest = versions.last().copied();
    match newest {
        Some((version, custody)) => {
            let what = if custody { "names the quorums' keys" } else { "founding: no keys yet" };
            writeln!(out, "newest charter here: version {version} ({what}); its signatures are checked at the start")?;
        }
        None => writeln!(out, "no charter here")?,
    }
    if has("keys.bin") {
        let said = "which charter the TPM was told of, the TPM alone knows: each start compares it and logs it";
        writeln!(out, "{said}; `chancery official status` shows it, and whether one is still to be adopted")?;
    }
    writeln!(out)?;
    let next = match () {
        () if !has("foundation.bin") => "at home, `chancery embassy found`",
        () if !has("embassy.crt") => "home certifies founding.pub: `chancery home enrol --founding`",
        () if newest.is_none_or(|(_, custody)| !custody) => {
            "`chancery serve --auths FILE`, and the officials run `chancery official genesis`"
        }
        () if has("founding.key") => "home enrols the TPM's identity key: `chancery home enrol`; then `chancery serve`",
        () => "`chancery serve`",
    };
    writeln!(out, "Next: {next}")?;
    Ok(())
}
