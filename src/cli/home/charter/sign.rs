//! `chancery home charter sign`: one signature, in one capacity, by somebody who was shown everything.
//!
//! Home signs with home's key; officials sign with their identity keys, for the unseal quorum or for the recovery quorum.
//! Whoever signs is the one that the charter in force names for that capacity, and what is signed follows that charter. An
//! official does not sign for a quorum's key unless their own certificate of the key generation gives that key.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use chancery::{
    keys::file::KeyKind,
    protocol::{
        charter::{Charter, Signer, VerifiedCharter},
        group::Point,
        hash::Hash,
        ids::OfficialName,
        wire::Document,
        words::Words,
    },
};
use clap::Args;

use super::{complete, lacks_signatures_only, write_changes, write_charter, write_standing};
use crate::cli::{ask, failure::Failure, input, network, output, signer::KeyPlace};

/// Sign a charter in one's capacity, after reading it
///
/// Shows everything that the charter says, and everything that it changes; then asks for the beginning of its hash, which
/// you compare with what home reads to you.
#[derive(Args)]
pub(super) struct Sign {
    /// The charter to sign
    #[arg(value_name = "CHARTER")]
    charter: PathBuf,
    /// In which capacity: home, official:NAME or recovery:NAME
    #[arg(long = "as", value_name = "CAPACITY", default_value = "home", value_parser = capacity)]
    capacity: Signer,
    /// The home authority's certificate (home.crt), as home itself gave it to you
    #[arg(long, value_name = "FILE")]
    home: PathBuf,
    /// The directory with the charters before it (*.charter); none for the founding one
    #[arg(long, value_name = "DIRECTORY")]
    charters: Option<PathBuf>,
    /// Your certificate of a key generation, or your recovery data: for each new key of a quorum that you are in
    #[arg(long = "certificate", value_name = "FILE")]
    certificates: Vec<PathBuf>,
    /// Confirm here, instead of at the terminal: the hash's first 12 or more digits, or its first 5 or more words
    #[arg(long, value_name = "TEXT")]
    confirm: Option<String>,
    /// The charter with your signature added, a new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    place: KeyPlace,
}

fn capacity(text: &str) -> Result<Signer, String> {
    let name = |name| OfficialName::new(name).map_err(|error| error.to_string());
    match text.split_once(':') {
        None if text == "home" => Ok(Signer::Home),
        Some(("official", official)) => name(official).map(Signer::Official),
        Some(("recovery", official)) => name(official).map(Signer::Recovery),
        _ => Err("a capacity is home, official:NAME or recovery:NAME".to_owned()),
    }
}

pub(super) fn run(arguments: &Sign, out: &mut dyn Write) -> Result<(), Failure> {
    let Sign { charter: path, capacity, home, charters, certificates, confirm, out: to, place } = arguments;
    output::is_free(to)?;
    let home = network::home(home)?;
    let chain = charters.as_deref().map(|folder| network::chain(&home, folder)).transpose()?.unwrap_or_default();
    let mut signed = network::read(path)?;
    let last = predecessor(&chain, signed.unverified(), charters.as_deref())?;
    let standing = network::follow(&home, last, signed.clone());
    if let Err(error) = &standing
        && !lacks_signatures_only(error, &signed)
    {
        return Err(network::refused(path, error));
    }
    let expected = expected_key(capacity, last, signed.unverified())?;

    write_charter(signed.unverified(), out)?;
    write_changes(last, signed.unverified(), out)?;
    if let Signer::Official(name) | Signer::Recovery(name) = capacity {
        let agreed = check_custody(name, last, signed.unverified(), certificates)?;
        for line in agreed {
            writeln!(out, "{line}")?;
        }
    }
    writeln!(out)?;
    let hash = signed.unverified().hash();
    writeln!(out, "You sign it as {capacity}.")?;
    writeln!(out, "  hash   {hash}")?;
    writeln!(out, "  words  {}", Words::of(&hash))?;
    out.flush()?;
    confirmed(&hash, confirm.as_deref())?;

    let kind = if *capacity == Signer::Home { KeyKind::Home } else { KeyKind::Identity };
    let signer = place.open(kind)?;
    if *signer.public() != expected {
        return Err(Failure::Refused(
            format!("this is not the key that signs as {capacity}"),
            "Take the right key, or say the right capacity with --as; nothing was signed",
        ));
    }
    let signature = signer.sign(&signed.digest(capacity))?;
    signed.add(capacity.clone(), signature);
    let standing = network::follow(&home, last, signed.clone());
    if let Err(error) = &standing
        && !lacks_signatures_only(error, &signed)
    {
        return Err(network::refused(path, error));
    }
    output::create(to, &signed.encode())?;
    writeln!(out, "written: {}", input::name(to))?;
    write_standing(&signed, &standing, out)?;
    let next = match standing {
        Ok(_) => "hand it to everyone; `chancery home charter verify --add` puts it into their directories",
        Err(_) => "give it back to home, who joins the copies: `chancery home charter join`",
    };
    writeln!(out, "Next: {next}.")?;
    Ok(())
}

/// The charter that a charter names as the one before it; none for a founding one.
pub(super) fn predecessor<'a>(
    chain: &'a [VerifiedCharter],
    next: &Charter,
    folder: Option<&Path>,
) -> Result<Option<&'a VerifiedCharter>, Failure> {
    let Some(previous) = next.parts().previous else { return Ok(None) };
    let found = chain.iter().find(|charter| charter.hash() == previous);
    if let Some(found) = found {
        // Whoever signs a second charter after the same one forks the network.
        let later = chain.iter().any(|charter| charter.charter().parts().version > found.charter().parts().version);
        return if later {
            let version = next.parts().version;
            Err(Failure::Refused(
                format!("another version {version} is in force already"),
                "A charter follows the last one: write it anew; nothing was signed",
            ))
        } else {
            Ok(Some(found))
        };
    }
    let (version, before) = (next.parts().version, next.parts().version.saturating_sub(1));
    let place = match folder {
        Some(folder) => format!("is not in {}", input::name(folder)),
        None => "is not given".to_owned(),
    };
    Err(Failure::Refused(
        format!("this is version {version}, and the version {before} that it follows {place}"),
        "Give --charters with all charters before it; home has them",
    ))
}

/// The key that signs in a capacity: the predecessor's, or for a founding charter the one it names as home's.
fn expected_key(capacity: &Signer, last: Option<&VerifiedCharter>, next: &Charter) -> Result<Point, Failure> {
    let stranger = |name: &OfficialName, quorum: &str| {
        Failure::Refused(
            format!("{name} is not in the {quorum} quorum of the charter in force"),
            "Check name and capacity (--as); nothing was signed",
        )
    };
    let Some(last) = last else {
        return match capacity {
            Signer::Home => Ok(next.parts().home),
            _ => Err(Failure::Refused(
                "a founding charter is signed by home alone".to_owned(),
                "Officials sign from version 2 on; nothing was signed",
            )),
        };
    };
    let parts = last.charter().parts();
    let (name, rule, quorum) = match capacity {
        Signer::Home => return Ok(parts.home),
        Signer::Official(name) => (name, &parts.unseal, "unseal"),
        Signer::Recovery(name) => (name, &parts.recovery, "recovery"),
    };
    let member = rule.members.contains(name).then(|| last.charter().official(name)).flatten();
    member.map(|official| official.identity).ok_or_else(|| stranger(name, quorum))
}

/// protocol.md §4.5: an official signs only for quorums' keys that their own certificates give.
fn check_custody(
    name: &OfficialName,
    last: Option<&VerifiedCharter>,
    next: &Charter,
    certificates: &[PathBuf],
) -> Result<Vec<String>, Failure> {
    let parts = next.parts();
    let Some(custody) = &parts.custody else { return Ok(Vec::new()) };
    let before = last.and_then(|last| last.charter().parts().custody.as_ref());
    let certificates: Vec<_> = certificates.iter().map(|path| complete::certificate(path)).collect::<Result<_, _>>()?;
    let mut agreed = Vec::new();
    for (kind, rule, key) in complete::quorums(parts, custody) {
        let known = before.is_some_and(|before| before.unseal == *key || before.recovery == *key);
        if known || !rule.members.contains(name) {
            continue;
        }
        let terms = complete::terms(next, kind, rule, custody.generation)?;
        let given = certificates.iter().any(|certificate| certificate.verify(&terms).is_ok_and(|given| given == *key));
        if !given {
            return Err(Failure::Refused(
                format!("this charter names a new {kind} key, and no --certificate of yours gives that key"),
                "Give the certificate or recovery data that you keep of the key generation. If it is another key, do not sign",
            ));
        }
        agreed.push(format!("The new {kind} key is the one that your certificate gives."));
    }
    Ok(agreed)
}

/// Fewest digits that say which hash was compared: 48 bits. Nobody makes another charter with the same while people wait.
const CONFIRM_DIGITS_MIN: usize = 12;
/// Fewest words: 55 bits.
const CONFIRM_WORDS_MIN: usize = 5;

fn confirmed(hash: &Hash, given: Option<&str>) -> Result<(), Failure> {
    let typed = match given {
        Some(text) => text.to_owned(),
        None => {
            ask::line("To sign, type the first 12 digits of the hash, or its first 5 words: ").map_err(|source| {
                Failure::Refused(
                    format!("nobody can be asked whether to sign: {source}"),
                    "Start the command in a terminal, or give --confirm with the first 12 digits of the hash",
                )
            })?
        }
    };
    let typed = typed.to_ascii_lowercase();
    let said: Vec<&str> = typed.split_whitespace().collect();
    let digits = said.concat();
    let by_digits = digits.len() >= CONFIRM_DIGITS_MIN && hash.to_string().starts_with(&digits);
    let words: Vec<&str> = Words::of(hash).iter().collect();
    let by_words = said.len() >= CONFIRM_WORDS_MIN && words.starts_with(&said);
    if by_digits || by_words {
        return Ok(());
    }
    Err(Failure::Refused(
        "what was typed is not the beginning of this charter's hash".to_owned(),
        "Nothing was signed. If somebody read you another hash, you have another charter: find out which is right",
    ))
}
