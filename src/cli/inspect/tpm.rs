//! Sheets of what an embassy stores of its TPM. Built only where the TPM driver is, whose types these are.

use chancery::hardware::{EmbassyKeys, Foundation, SealedObject};
use sha2::{Digest, Sha256};

use super::{
    Inspect,
    sheet::{Sheet, point},
};
use crate::cli::text::hex;

impl Inspect for Foundation {
    const KIND: &'static str = "a TPM's foundation: which TPM an embassy has";

    fn sheet(&self) -> Sheet {
        Sheet::new()
            .fact("storage root key", point(&self.storage_root))
            .fact("attestation key", point(&self.attestation))
            .unchecked("whether any TPM holds these keys: only that TPM, and its maker's certificate, can show it")
    }
}

impl Inspect for EmbassyKeys {
    const KIND: &'static str = "the TPM keys of one generation, sealed";

    fn sheet(&self) -> Sheet {
        Sheet::new()
            .fact("generation counter", format!("at {} for as long as this generation lasts", self.counter_first))
            .fact("custody key T", object(&self.custody))
            .fact("identity key", object(&self.identity))
            .fact("roll key's seed", object(&self.roll))
            .unchecked("whether the keys are the charter's: it needs the custody facts, which give each public area")
            .unchecked("the certificates of their creation: they need the attestation key")
            .unchecked("whether the sealed parts open: only the TPM that made them can")
    }
}

/// An object by its Name (TPM 2.0 Part 1, 16): SHA-256's identifier, then the hash of the public area.
fn object(object: &SealedObject) -> String {
    let name = hex(&Sha256::digest(&object.public));
    format!("Name 000b{name}, {} bytes that only its TPM can open", object.private.len())
}
