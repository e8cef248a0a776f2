//! A public key that somebody sent, in whatever form, and how much that form proves.
//!
//! An official's card, a certificate request, a certificate, or a bare key. None of them says whose the key is: that is
//! compared by voice, or in person.

use std::path::Path;

use chancery::protocol::{
    card::OfficialCard,
    certificate::{CertificateError, MAX_CERTIFICATE_BYTES, bare_key, certificate_key, request_key},
    group::Point,
    hash::Hash,
    wire::Document,
};

use crate::cli::{
    failure::Failure,
    input::{self, Expected},
    pem,
};

/// In which form a key came.
pub(super) enum Form {
    /// An official's card, signed by the identity key.
    Card(Box<OfficialCard>),
    /// A certificate request, signed by the key itself.
    Request,
    /// A certificate, of whatever issuer.
    Certificate,
    /// Nothing but the key.
    Bare,
}

/// A key as it came.
pub(super) struct Sent {
    pub(super) key: Point,
    pub(super) form: Form,
}

impl Sent {
    /// How much its form proves, in words.
    pub(super) fn proof(&self) -> String {
        match &self.form {
            Form::Card(card) => format!("the official's card. Its hash, to be compared by voice: {}", card.hash()),
            Form::Request => "a request, signed by the key itself. Compare its hash by voice".to_owned(),
            Form::Certificate => "a certificate. Compare its key's hash by voice".to_owned(),
            Form::Bare => {
                "a bare public key: NOTHING PROVES that its sender has the private one. Compare its hash by voice"
                    .to_owned()
            }
        }
    }
}

/// What is read out to compare a key by voice.
pub(super) fn key_hash(key: &Point) -> Hash {
    Hash::of_bytes(&key.encode())
}

/// Reads a key; an official's card gives the identity key.
pub(super) fn read(path: &Path) -> Result<Sent, Failure> {
    let name = input::name(path);
    let expected = Expected {
        what: "a card, request or public key",
        bound: 2 * MAX_CERTIFICATE_BYTES,
        missing: "Ask whoever has the key for it",
    };
    let bytes = input::read(path, &expected)?;
    if let Ok(card) = OfficialCard::decode(&bytes) {
        return Ok(Sent { key: card.official().identity, form: Form::Card(Box::new(card)) });
    }
    if let Some(key) = point(&bytes) {
        return Ok(Sent { key, form: Form::Bare });
    }
    let not_read =
        || Failure::Refused(format!("{name} is not a card, request or public key"), "Ask its sender for it again");
    let (label, der) = pem::decode(&bytes).ok_or_else(not_read)?;
    let wrong = |error| Failure::Certificate {
        name: name.clone(),
        error,
        advice: "Ask its sender for another; nothing was issued",
    };
    type Read = fn(&[u8]) -> Result<Point, CertificateError>;
    let read = |read: Read, form| read(&der).map(|key| Sent { key, form });
    match label.as_deref() {
        Some("PUBLIC KEY") => read(bare_key, Form::Bare).map_err(wrong),
        Some("CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") => read(request_key, Form::Request).map_err(wrong),
        Some("CERTIFICATE") => read(certificate_key, Form::Certificate).map_err(wrong),
        Some(_) => Err(not_read()),
        None => read(request_key, Form::Request)
            .or_else(|error| read(bare_key, Form::Bare).map_err(|_| error))
            .or_else(|error| read(certificate_key, Form::Certificate).map_err(|_| error))
            .map_err(wrong),
    }
}

/// A point by itself: SEC 1, compressed (33 bytes) or not (65).
fn point(bytes: &[u8]) -> Option<Point> {
    match bytes {
        [2 | 3, ..] if bytes.len() == 33 => Point::decode(bytes).ok(),
        [4, xy @ ..] if bytes.len() == 65 => {
            let (x, y) = xy.split_first_chunk::<32>()?;
            Point::from_xy(x, y.try_into().ok()?).ok()
        }
        _ => None,
    }
}
