//! Sheets of private keys at rest, of which only the public half is shown, and of officials' cards.

use chancery::{
    client::official::{Carried, Memory},
    keys::file::{KeyFile, PublicKey},
    protocol::{card::OfficialCard, wire::Document},
};

use super::{
    Inspect,
    sheet::{Sheet, hybrid, point},
};

impl Inspect for KeyFile {
    const KIND: &'static str = "a private key at rest";

    fn sheet(&self) -> Sheet {
        let public = match self.public() {
            PublicKey::Point(key) => point(key),
            PublicKey::Hybrid(key) => hybrid(key),
        };
        let mut sheet = Sheet::new().fact("of", self.name()).fact("kind", self.kind());
        if let Some(share) = self.share_of() {
            sheet = sheet
                .fact("of the network", share.charter)
                .fact("quorum", share.quorum)
                .fact("generation", share.generation)
                .fact("place", share.position);
        }
        let (lock, takes) =
            if self.needs_token() { ("a key on a token", "that token") } else { ("a passphrase", "the passphrase") };
        let sheet = sheet
            .fact("public key", public)
            .fact("locked by", lock)
            .unchecked(format!("that the private key inside belongs to this public key: that takes {takes}"));
        match Self::read_from(&self.encode()) {
            Ok(_) => sheet.checked("it was not damaged since it was written"),
            Err(error) => sheet.wrong(error.to_string()),
        }
    }
}

impl Inspect for Memory {
    const KIND: &'static str = "what an official's machine has seen";

    fn sheet(&self) -> Sheet {
        let mut sheet = Sheet::new();
        if let Some(seen) = self.charter() {
            sheet = sheet.fact("charter seen", format!("version {}, {}", seen.version, seen.hash));
        }
        for seen in self.versions() {
            sheet = sheet.fact(format!("dataset {}", seen.dataset), format!("version {} seen", seen.version));
        }
        sheet.checked("no point of a slot stands in it twice").unchecked("that it is the last one of its machine")
    }
}

impl Inspect for Carried {
    const KIND: &'static str = "something for an embassy, that anyone may carry";

    fn sheet(&self) -> Sheet {
        Sheet::new()
            .fact("holds", &self.load)
            .fact("for the embassy", &self.embassy)
            .fact("ceremony", self.ceremony.0)
            .unchecked("the signature in it: the embassy checks it against its charter")
    }
}

impl Inspect for OfficialCard {
    const KIND: &'static str = "an official's public keys, for the charter";

    fn sheet(&self) -> Sheet {
        let official = self.official();
        Sheet::new()
            .fact("official", &official.name)
            .fact("card hash", self.hash())
            .fact("identity key", point(&official.identity))
            .fact("hybrid key", hybrid(&official.hybrid))
            .fact("DKG static key", point(&official.dkg))
            .checked("its identity key signed name and keys")
            .unchecked(
                "whose card it is: let the official read the card hash to you, face to face or by a voice you know",
            )
    }
}
