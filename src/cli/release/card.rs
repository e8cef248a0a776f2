//! `chancery release card`: name, certificate and hybrid key of a recipient, signed by the certificate's key.

use std::{io::Write, path::PathBuf};

use chancery::{
    client::system_clock,
    keys::{
        KeyError, disk,
        file::{KeyKind, PublicKey},
    },
    protocol::{
        certificate::{MAX_CERTIFICATE_BYTES, certificate_key},
        recipient::RecipientCard,
        wire::Document,
    },
};
use clap::Args;

use crate::cli::{ask, connection, failure::Failure, input, network, output, pem};

/// Make the card that a ceremony names its recipient by
///
/// From connection.crt, connection.key and hybrid.key in your directory. Officials see the name in your certificate, and the hash of \
/// the card.
#[derive(Args)]
pub(super) struct Arguments {
    /// Your directory, as `chancery keys` made it, with what home sent back
    #[arg(long, value_name = "DIRECTORY")]
    dir: PathBuf,
    /// The card, a new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Read the passphrase from this open file descriptor instead of the terminal
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<u32>,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let Arguments { dir, out: to, passphrase_fd } = arguments;
    output::is_free(to)?;
    let home = network::home(&dir.join("home.crt"))?;
    let list = connection::revocations(&home, dir)?;
    let path = dir.join("connection.crt");
    let missing = "Home issues it for connection.pub: put it there";
    let certificate = pem::read(&path, "a certificate", MAX_CERTIFICATE_BYTES, missing)?;
    let wrong = |error| Failure::Certificate {
        name: input::name(&path),
        error,
        advice: "Ask home for a certificate of connection.pub; no card was made",
    };
    let certified = home.certify(&[&certificate], &list, system_clock()).map_err(wrong)?;
    let hybrid = disk::load(&dir.join("hybrid.key"))?;
    let PublicKey::Hybrid(public) = hybrid.public() else {
        return Err(KeyError::Kind { found: hybrid.kind(), expected: KeyKind::Hybrid }.into());
    };
    let file = disk::load(&dir.join("connection.key"))?;
    let passphrase = ask::once(&format!("passphrase of {}", file.name()), *passphrase_fd, "--passphrase-fd")?;
    // The public half in the key file is authentic once the file was opened: nobody else's key goes onto the card.
    hybrid.open(&passphrase)?;
    let signer = file.signer(KeyKind::Connection, &passphrase)?;
    if certificate_key(&certificate).map_err(wrong)? != *chancery::keys::IdentitySigner::public(&signer) {
        return Err(Failure::Refused(
            format!("{} is not a certificate of the key in connection.key", input::name(&path)),
            "Ask home for a certificate of connection.pub; no card was made",
        ));
    }
    let name = certified.identity().name.clone();
    let refused = |error: String| Failure::Refused(error, "No card was made");
    let card =
        RecipientCard::sign(name, certificate, public.clone(), &signer).map_err(|error| refused(error.to_string()))?;
    let recipient = card.verify(&home, &list, system_clock()).map_err(|error| refused(error.to_string()))?;
    output::create(to, &card.encode())?;
    writeln!(out, "card of {}: {}", recipient.identity(), input::name(to))?;
    writeln!(out, "card hash: {}", card.hash())?;
    writeln!(out)?;
    writeln!(out, "Next: give the card to the official who opens the ceremony, and read the hash to the officials.")?;
    Ok(())
}
