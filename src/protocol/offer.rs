//! The offer: the embassy's technical side of a statement, signed by its identity key (protocol.md §10.2).
//!
//! A [`Statement`] says in words what officials agree to. An [`Offer`] adds what their machines must sign and encrypt to:
//! one TPM nonce per slot, the one-time ceremony key, and which slots. It comes from the embassy, which is not trusted:
//! everything in it is checked by `contribution.rs` against facts and slots that did not come with it.

use p256::ecdsa::{
    Signature, SigningKey, VerifyingKey,
    signature::hazmat::{PrehashSigner, PrehashVerifier},
};

use crate::protocol::{
    group::Point,
    hash::Hash,
    hybrid::HybridPublicKey,
    ids::{CharterId, DatasetName, DatasetVersion, EmbassyName, Generation},
    label::Label,
    partial::MAX_POINTS,
    tpm::approval::TpmNonce,
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// The longest purpose, in bytes: a paragraph that can be read aloud.
pub const MAX_PURPOSE_BYTES: usize = 600;

/// Why a statement or offer cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// The purpose is empty, too long, or has characters that a screen could show wrongly.
    #[error("a purpose has 1 to {MAX_PURPOSE_BYTES} bytes of printable text without control or direction characters")]
    Purpose,
    /// No dataset, or too many.
    #[error("{found} datasets; a ceremony opens 1 to {MAX_POINTS}")]
    Datasets {
        /// How many.
        found: usize,
    },
    /// One dataset stands twice.
    #[error("dataset {dataset} is named twice")]
    DatasetTwice {
        /// Which.
        dataset: DatasetName,
    },
    /// The openings do not match the statement's datasets one to one.
    #[error("{found} openings for {expected} datasets")]
    Openings {
        /// Openings in the offer.
        found: usize,
        /// Datasets in the statement.
        expected: usize,
    },
    /// A nonce or slot is used for two openings.
    #[error("two openings share one {what}")]
    Repeated {
        /// Nonce or slot.
        what: &'static str,
    },
    /// The embassy's identity key did not sign this.
    #[error("the offer is not signed by the identity key of embassy {embassy}. Do not contribute; tell the others")]
    Signature {
        /// The embassy named in the facts.
        embassy: EmbassyName,
    },
    /// The signing key gave no signature.
    #[error("the identity key gave no signature")]
    Signer,
}

/// What a ceremony is for, in words that officials read aloud. Printable, one paragraph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purpose(String);

impl Purpose {
    /// # Errors
    /// [`OfferError::Purpose`] for empty or overlong text, and for control and direction characters.
    pub fn new(text: &str) -> Result<Self, OfferError> {
        // Direction marks could make a screen show other words than were signed, and what no screen shows is not read.
        let hidden = |c: char| {
            c.is_control()
                || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}')
                || matches!(c, '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
                || matches!(c, '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}')
                || matches!(c, '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
        };
        if text.trim().is_empty() || text.len() > MAX_PURPOSE_BYTES || text.chars().any(hidden) {
            return Err(OfferError::Purpose);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A dataset at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetAt {
    /// Which dataset.
    pub dataset: DatasetName,
    /// Which version of its key.
    pub version: DatasetVersion,
}

impl Wire for DatasetAt {
    fn write(&self, out: &mut Writer) {
        out.value(&self.dataset).value(&self.version);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { dataset: input.value()?, version: input.value()? })
    }
}

/// What officials agree to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    charter: CharterId,
    embassy: EmbassyName,
    generation: Generation,
    purpose: Purpose,
    datasets: Vec<DatasetAt>,
}

impl Statement {
    /// # Errors
    /// [`OfferError`] unless 1 to 8 datasets are named, each once.
    pub fn new(
        charter: CharterId,
        embassy: EmbassyName,
        generation: Generation,
        purpose: Purpose,
        datasets: Vec<DatasetAt>,
    ) -> Result<Self, OfferError> {
        if datasets.is_empty() || datasets.len() > MAX_POINTS {
            return Err(OfferError::Datasets { found: datasets.len() });
        }
        for (index, at) in datasets.iter().enumerate() {
            if datasets.iter().take(index).any(|earlier| earlier.dataset == at.dataset) {
                return Err(OfferError::DatasetTwice { dataset: at.dataset.clone() });
            }
        }
        Ok(Self { charter, embassy, generation, purpose, datasets })
    }

    /// The network.
    pub const fn charter(&self) -> CharterId {
        self.charter
    }

    /// The embassy that is to open.
    pub const fn embassy(&self) -> &EmbassyName {
        &self.embassy
    }

    /// The generation of custody.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// What for.
    pub const fn purpose(&self) -> &Purpose {
        &self.purpose
    }

    /// Which datasets, in the order of the offer's openings.
    pub fn datasets(&self) -> &[DatasetAt] {
        &self.datasets
    }
}

impl std::fmt::Display for Statement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "embassy {} is to open ", self.embassy)?;
        for (index, at) in self.datasets.iter().enumerate() {
            write!(f, "{}{} (version {})", if index == 0 { "" } else { ", " }, at.dataset, at.version)?;
        }
        write!(f, ": {}", self.purpose.as_str())
    }
}

impl Wire for Statement {
    fn write(&self, out: &mut Writer) {
        out.value(&self.charter).value(&self.embassy).value(&self.generation);
        out.bytes(self.purpose.0.as_bytes()).list(&self.datasets);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let (charter, embassy, generation) = (input.value()?, input.value()?, input.value()?);
        let purpose = std::str::from_utf8(input.bytes(MAX_PURPOSE_BYTES, "purpose")?)
            .ok()
            .and_then(|text| Purpose::new(text).ok())
            .ok_or(WireError::Invalid { field: "purpose", reason: "not one paragraph of printable text" })?;
        let datasets = input.list(MAX_POINTS, "datasets")?;
        Self::new(charter, embassy, generation, purpose, datasets)
            .map_err(|_| WireError::Invalid { field: "datasets", reason: "not 1 to 8 different ones" })
    }
}

impl Document for Statement {
    const LABEL: Label = Label::STATEMENT;
    const MAX_BYTES: usize = 2048;
}

/// One slot to open, with the TPM session that waits for its approvals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Hash of the slot's bytes.
    pub slot: Hash,
    /// The parked session's authenticated nonce.
    pub nonce: TpmNonce,
}

impl Wire for Opening {
    fn write(&self, out: &mut Writer) {
        out.value(&self.slot).value(&self.nonce);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { slot: input.value()?, nonce: input.value()? })
    }
}

/// What the embassy asks officials to contribute to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    statement: Statement,
    attempt: u32,
    ceremony_key: HybridPublicKey,
    openings: Vec<Opening>,
}

impl Offer {
    /// # Errors
    /// [`OfferError`] unless there is one opening per dataset, with nonces and slots all different.
    pub fn new(
        statement: Statement,
        attempt: u32,
        ceremony_key: HybridPublicKey,
        openings: Vec<Opening>,
    ) -> Result<Self, OfferError> {
        let expected = statement.datasets.len();
        if openings.len() != expected {
            return Err(OfferError::Openings { found: openings.len(), expected });
        }
        for (index, opening) in openings.iter().enumerate() {
            for earlier in openings.iter().take(index) {
                if earlier.nonce == opening.nonce {
                    return Err(OfferError::Repeated { what: "nonce" });
                }
                if earlier.slot == opening.slot {
                    return Err(OfferError::Repeated { what: "slot" });
                }
            }
        }
        Ok(Self { statement, attempt, ceremony_key, openings })
    }

    /// What is agreed to.
    pub const fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Counts the offers made for one statement: a new one after a TPM reset.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The one-time key to which contributions are encrypted.
    pub const fn ceremony_key(&self) -> &HybridPublicKey {
        &self.ceremony_key
    }

    /// One per dataset, in the statement's order.
    pub fn openings(&self) -> &[Opening] {
        &self.openings
    }

    /// What every contribution names: SHA-256 of the offer's bytes.
    pub fn hash(&self) -> Hash {
        Hash::of_bytes(&self.encode())
    }
}

impl Wire for Offer {
    fn write(&self, out: &mut Writer) {
        out.value(&self.statement).u32(self.attempt).value(&self.ceremony_key).list(&self.openings);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let (statement, attempt) = (input.value()?, input.u32("attempt")?);
        let (ceremony_key, openings) = (input.value()?, input.list(MAX_POINTS, "openings")?);
        Self::new(statement, attempt, ceremony_key, openings)
            .map_err(|_| WireError::Invalid { field: "openings", reason: "not one of its own for each dataset" })
    }
}

impl Document for Offer {
    const LABEL: Label = Label::OFFER;
    const MAX_BYTES: usize = 8 * 1024;
}

/// An offer with the signature of the embassy's identity key, which works only in an approved boot state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedOffer {
    offer: Offer,
    signature: Signature,
}

impl SignedOffer {
    /// Puts a signature made elsewhere (by the TPM) beside the offer it is for, in its form with the low s.
    pub fn new(offer: Offer, signature: Signature) -> Self {
        Self { offer, signature: signature.normalize_s().unwrap_or(signature) }
    }

    /// Signs with a key in memory, as an embassy without a TPM for its identity would.
    ///
    /// # Errors
    /// [`OfferError::Signer`].
    pub fn sign(offer: Offer, key: &SigningKey) -> Result<Self, OfferError> {
        let signature: Signature = key.sign_prehash(offer.hash().as_bytes()).map_err(|_| OfferError::Signer)?;
        Ok(Self::new(offer, signature))
    }

    /// The offer, once its signature is checked.
    ///
    /// # Errors
    /// [`OfferError::Signature`].
    pub fn verify(&self, embassy: &EmbassyName, identity: &Point) -> Result<&Offer, OfferError> {
        VerifyingKey::from_affine(*identity.affine())
            .and_then(|key| key.verify_prehash(self.offer.hash().as_bytes(), &self.signature))
            .map(|()| &self.offer)
            .map_err(|_| OfferError::Signature { embassy: embassy.clone() })
    }

    /// The offer, unchecked: for showing, never for acting.
    pub const fn unverified(&self) -> &Offer {
        &self.offer
    }
}

/// Reads a signature in its one form: with s also n - s verifies, and of the two the low one is accepted.
pub(super) fn read_signature(input: &mut Reader<'_>) -> Result<Signature, WireError> {
    let signature = Signature::from_slice(input.raw(64, "signature")?).ok();
    signature
        .filter(|signature| signature.normalize_s().is_none())
        .ok_or(WireError::Invalid { field: "signature", reason: "not two exponents with the low s" })
}

impl Wire for SignedOffer {
    fn write(&self, out: &mut Writer) {
        out.value(&self.offer).raw(&self.signature.to_bytes());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let offer = input.value()?;
        let signature = read_signature(input)?;
        Ok(Self { offer, signature })
    }
}

impl Document for SignedOffer {
    const LABEL: Label = Label::SIGNED_OFFER;
    const MAX_BYTES: usize = 8 * 1024 + 256;
}
