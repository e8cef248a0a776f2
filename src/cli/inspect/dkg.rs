//! Sheets of the messages and results of a DKG (protocol.md §4).

use chancery::protocol::{
    dkg::{Certificate, Contribution, Evidence, Message1, Message3, RecoveryData, transcript::Transcript},
    quorum::MAX_OFFICIALS,
    quorum::Position,
    wire::Document,
};

use super::{
    Inspect, quorum,
    sheet::{Sheet, point},
};
use crate::cli::text::hex;

impl Inspect for Contribution {
    const KIND: &'static str = "a DKG contribution (before round 1)";

    fn sheet(&self) -> Sheet {
        Sheet::new()
            .fact("from", self.from)
            .fact("attempt", self.attempt)
            .fact("randomness (public)", hex(&self.nonce))
            .unchecked("the signature: it needs the charter's static keys")
    }
}

impl Inspect for Message1 {
    const KIND: &'static str = "a DKG round 1 message";

    fn sheet(&self) -> Sheet {
        Sheet::new()
            .fact("from", self.from)
            .fact("digest, as round 3 names it", self.digest())
            .fact(
                "dealt",
                format!("{} bytes: commitment, proof, and a sealed share for each official", self.body.len()),
            )
            .unchecked("the two signatures, and what was dealt: they need the session (charter and contributions)")
    }
}

impl Inspect for Message3 {
    const KIND: &'static str = "a DKG round 3 message";

    fn sheet(&self) -> Sheet {
        Sheet::new()
            .fact("from", self.from)
            .each(places().zip(&self.accepted), |(place, digest)| {
                (format!("accepted from {place}"), digest.to_string())
            })
            .unchecked("the two signatures: they need the session (charter and contributions) and its transcript")
    }
}

impl Inspect for Evidence {
    const KIND: &'static str = "evidence that an official cheated in a DKG";

    fn sheet(&self) -> Sheet {
        Sheet::new()
            .fact("attempt", self.attempt())
            .fact("accuses", self.accused())
            .fact("of", self.accusation())
            .unchecked("whether it is true: it needs the charter's static keys. Until then it is an accusation")
    }
}

impl Inspect for Certificate {
    const KIND: &'static str = "a DKG success certificate";

    fn sheet(&self) -> Sheet {
        certificate(Sheet::new(), self)
    }
}

impl Inspect for RecoveryData {
    const KIND: &'static str = "DKG recovery data (rebuilds a lost share)";

    fn sheet(&self) -> Sheet {
        let bytes = self.encode().len().saturating_sub(self.certificate().encode().len());
        certificate(
            Sheet::new().fact("recorded ciphertexts", format!("{bytes} bytes, each sealed to its official")),
            self.certificate(),
        )
        .unchecked("whether the recorded ciphertexts are those agreed on: it needs the charter's static keys")
    }
}

/// A certificate names the keys that signed it, so the signatures can be checked; whose keys they are cannot.
fn certificate(sheet: Sheet, certificate: &Certificate) -> Sheet {
    let sheet = sheet.fact("attempt", certificate.attempt());
    let bytes = certificate.transcript();
    let agreed = match Transcript::parse(bytes) {
        Ok(agreed) => agreed,
        Err(error) => return sheet.unchecked("everything else").wrong(error.to_string()),
    };
    let sheet =
        sheet.fact("session context", hex(&agreed.context)).fact("transcript", format!("{} bytes", bytes.len()));
    let sheet =
        sheet.each(places().zip(&agreed.static_keys), |(place, key)| (format!("static key of {place}"), point(key)));
    let sheet = match agreed.quorum_key() {
        Ok(key) => quorum::facts(sheet, &key),
        Err(error) => return sheet.unchecked("everything else").wrong(error.to_string()),
    };
    let sheet = sheet.unchecked(
        "whether these are your charter's officials, in this generation and quorum: compare the static keys with the charter",
    );
    let (found, expected) = (certificate.signatures().len(), agreed.threshold.n());
    if found != usize::from(expected) {
        return sheet.wrong(format!("{found} signatures of {expected} officials"));
    }
    match agreed.first_unsigned(bytes, certificate.signatures()) {
        Some(place) => sheet.wrong(format!("{place} did not sign this transcript")),
        None => sheet.checked(format!("all {expected} officials it names signed it, with the static keys it names")),
    }
}

fn places() -> impl Iterator<Item = Position> {
    (1..=MAX_OFFICIALS).filter_map(Position::new)
}
