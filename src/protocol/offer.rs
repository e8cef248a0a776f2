//! The offer: the embassy's technical side of a statement, signed by its identity key (protocol.md §10.2).
//!
//! A [`SignedStatement`] says in words what officials agree to, as one of them opened it. An [`Offer`] adds what their
//! machines must sign and encrypt to: one TPM nonce per slot, the one-time ceremony key, and which slots; where a charter is
//! adopted, one nonce and that charter's hash. It comes from the embassy, which is not trusted: everything in it is checked by
//! `contribution.rs` against facts and slots that did not come with it.

use p256::ecdsa::Signature;

use crate::protocol::{
    group::Point,
    hash::Hash,
    hybrid::HybridPublicKey,
    ids::EmbassyName,
    label::Label,
    partial::MAX_POINTS,
    signer::{DigestSigner, SignError, low, read_signature, signed_by},
    statement::{Adoption, Mode, SignedStatement, Statement},
    tpm::approval::TpmNonce,
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// Why an offer cannot be made, or is not the embassy's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// The openings do not match what the statement is about, one to one.
    #[error("{found} openings for {expected} datasets or charters")]
    Openings {
        /// Openings in the offer.
        found: usize,
        /// Datasets in the statement, or its one charter.
        expected: usize,
    },
    /// The opening is of another charter than the statement adopts.
    #[error("the offer is for another charter than its statement adopts")]
    Charter,
    /// A nonce or slot is used for two openings.
    #[error("two openings share one {what}")]
    Repeated {
        /// Nonce or slot.
        what: &'static str,
    },
    /// In a release everything is sealed to the recipient's key and to no other; in a lease to a key made for it; where a
    /// charter is adopted nothing is sealed.
    #[error("the ceremony key is not one that this statement calls for")]
    CeremonyKey,
    /// The embassy's identity key did not sign this.
    #[error("the offer is not signed by the identity key of embassy {embassy}. Do not contribute; tell the others")]
    Signature {
        /// The embassy named in the facts.
        embassy: EmbassyName,
    },
}

/// One slot to open or one charter to adopt, with the TPM session that waits for its approvals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// What the TPM's command is about: hash of the slot's bytes, or of the charter's.
    pub subject: Hash,
    /// The parked session's authenticated nonce.
    pub nonce: TpmNonce,
}

impl Wire for Opening {
    fn write(&self, out: &mut Writer) {
        out.value(&self.subject).value(&self.nonce);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { subject: input.value()?, nonce: input.value()? })
    }
}

/// What the embassy asks officials to contribute to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    statement: SignedStatement,
    attempt: u32,
    ceremony_key: Option<HybridPublicKey>,
    openings: Vec<Opening>,
}

impl Offer {
    /// # Errors
    /// [`OfferError`] unless there is one opening per dataset, with nonces and slots all different, or one for the charter
    /// that is adopted, and the ceremony key is the one the mode calls for: a lease's own, the recipient's, or none.
    pub fn new(
        statement: SignedStatement,
        attempt: u32,
        ceremony_key: Option<HybridPublicKey>,
        openings: Vec<Opening>,
    ) -> Result<Self, OfferError> {
        let (datasets, mode) = (statement.unverified().datasets(), statement.unverified().mode());
        let (key_fits, expected) = match (mode, &ceremony_key) {
            (Mode::Lease(_), key) => (key.is_some(), datasets.len()),
            (Mode::Release { recipient }, key) => (key.as_ref() == Some(recipient.hybrid()), datasets.len()),
            (Mode::Adoption(_), key) => (key.is_none(), 1),
        };
        if !key_fits {
            return Err(OfferError::CeremonyKey);
        }
        if openings.len() != expected {
            return Err(OfferError::Openings { found: openings.len(), expected });
        }
        let other = |adoption: &Adoption| openings.iter().any(|opening| opening.subject != adoption.charter.hash);
        if mode.adoption().is_some_and(other) {
            return Err(OfferError::Charter);
        }
        for (index, opening) in openings.iter().enumerate() {
            for earlier in openings.iter().take(index) {
                if earlier.nonce == opening.nonce {
                    return Err(OfferError::Repeated { what: "nonce" });
                }
                if earlier.subject == opening.subject {
                    return Err(OfferError::Repeated { what: "slot" });
                }
            }
        }
        Ok(Self { statement, attempt, ceremony_key, openings })
    }

    /// What is agreed to.
    pub const fn statement(&self) -> &Statement {
        self.statement.unverified()
    }

    /// The same, with its opener's signature.
    pub const fn signed_statement(&self) -> &SignedStatement {
        &self.statement
    }

    /// Counts the offers made for one statement: a new one after a TPM reset.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The key to which contributions are encrypted: made once for a lease's offer, the recipient's in a release. There is none
    /// where a charter is adopted: approvals are no secret.
    pub const fn ceremony_key(&self) -> Option<&HybridPublicKey> {
        self.ceremony_key.as_ref()
    }

    /// One per dataset, in the statement's order; or the one for the charter that is adopted.
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
        out.value(&self.statement).u32(self.attempt);
        // Whether there is one follows from the statement, so nothing need say it.
        if let Some(key) = &self.ceremony_key {
            out.value(key);
        }
        out.list(&self.openings);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let statement: SignedStatement = input.value()?;
        let attempt = input.u32("attempt")?;
        let has_key = statement.unverified().mode().adoption().is_none();
        let ceremony_key = if has_key { Some(input.value()?) } else { None };
        let openings = input.list(MAX_POINTS, "openings")?;
        Self::new(statement, attempt, ceremony_key, openings)
            .map_err(|_| WireError::Invalid { field: "offer", reason: "it contradicts itself" })
    }
}

impl Document for Offer {
    const LABEL: Label = Label::OFFER;
    const MAX_BYTES: usize = SignedStatement::MAX_BYTES + 4 * 1024;
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
        Self { offer, signature: low(signature) }
    }

    /// Signs with a key at hand.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(offer: Offer, key: &dyn DigestSigner) -> Result<Self, SignError> {
        let signature = key.sign_digest(&offer.hash())?;
        Ok(Self::new(offer, signature))
    }

    /// The offer, once its signature is checked.
    ///
    /// # Errors
    /// [`OfferError::Signature`].
    pub fn verify(&self, embassy: &EmbassyName, identity: &Point) -> Result<&Offer, OfferError> {
        if signed_by(identity, &self.offer.hash(), &self.signature) {
            Ok(&self.offer)
        } else {
            Err(OfferError::Signature { embassy: embassy.clone() })
        }
    }

    /// The offer, unchecked: for showing, never for acting.
    pub const fn unverified(&self) -> &Offer {
        &self.offer
    }
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
    const MAX_BYTES: usize = Offer::MAX_BYTES + 128;
}
