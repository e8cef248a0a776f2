//! What the embassy stores of its TPM: public facts, and blobs that only that TPM can open. No secret in clear.
//!
//! The disk belongs to the host, so nothing here is believed because it was stored: on opening, each public area must be
//! the template that the charter's plan gives, to the byte, and the TPM must hold or load an object of that very Name.

use crate::protocol::{
    group::Point,
    label::Label,
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// The largest blob, public area or attestation accepted, in bytes.
const MAX_BLOB: usize = 1024;

/// A TPM's own two keys: which TPM this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foundation {
    /// The storage root key's point; its template is fixed, so this is its Name.
    pub storage_root: Point,
    /// The attestation key's point.
    pub attestation: Point,
}

impl Wire for Foundation {
    fn write(&self, out: &mut Writer) {
        out.value(&self.storage_root).value(&self.attestation);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { storage_root: input.value()?, attestation: input.value()? })
    }
}

impl Document for Foundation {
    const LABEL: Label = Label::TPM_FOUNDATION;
    const MAX_BYTES: usize = 256;
}

/// An object as TPM2_Create returned it: its public area, and its private part sealed to the storage root key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedObject {
    /// TPMT_PUBLIC.
    pub public: Vec<u8>,
    /// TPM2B_PRIVATE, with its size.
    pub private: Vec<u8>,
}

impl Wire for SealedObject {
    fn write(&self, out: &mut Writer) {
        out.bytes(&self.public).bytes(&self.private);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let public = input.bytes(MAX_BLOB, "public area")?.to_vec();
        Ok(Self { public, private: input.bytes(MAX_BLOB, "private blob")?.to_vec() })
    }
}

/// A statement of the attestation key: TPMS_ATTEST and its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    /// TPMS_ATTEST.
    pub statement: Vec<u8>,
    /// ECDSA P-256 over its SHA-256: r ‖ s.
    pub signature: [u8; 64],
}

impl Wire for Attestation {
    fn write(&self, out: &mut Writer) {
        out.bytes(&self.statement).raw(&self.signature);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let statement = input.bytes(MAX_BLOB, "attestation")?.to_vec();
        Ok(Self { statement, signature: input.array("attestation signature")? })
    }
}

/// How an object was born: what lets the attestation key certify its creation, at this boot and at every later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Birth {
    /// TPMS_CREATION_DATA: PCRs at the creation, parent, hierarchy.
    pub data: Vec<u8>,
    /// The hierarchy in the creation ticket (TPM_RH).
    pub ticket_hierarchy: u32,
    /// The creation ticket's HMAC, which only that TPM can check.
    pub ticket_digest: Vec<u8>,
    /// CertifyCreation, made right after the creation.
    pub certified: Attestation,
}

impl Wire for Birth {
    fn write(&self, out: &mut Writer) {
        out.bytes(&self.data).u32(self.ticket_hierarchy).bytes(&self.ticket_digest).value(&self.certified);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let data = input.bytes(MAX_BLOB, "creation data")?.to_vec();
        let ticket_hierarchy = input.u32("creation ticket's hierarchy")?;
        let ticket_digest = input.bytes(64, "creation ticket's digest")?.to_vec();
        Ok(Self { data, ticket_hierarchy, ticket_digest, certified: input.value()? })
    }
}

/// The keys of one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbassyKeys {
    /// The generation counter's first value, which the policies name.
    pub counter_first: u64,
    /// T.
    pub custody: SealedObject,
    /// T's birth.
    pub custody_birth: Birth,
    /// The identity key.
    pub identity: SealedObject,
    /// The identity key's birth.
    pub identity_birth: Birth,
    /// The roll key's seed.
    pub roll: SealedObject,
}

impl Wire for EmbassyKeys {
    fn write(&self, out: &mut Writer) {
        out.u64(self.counter_first).value(&self.custody).value(&self.custody_birth);
        out.value(&self.identity).value(&self.identity_birth).value(&self.roll);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            counter_first: input.u64("generation counter")?,
            custody: input.value()?,
            custody_birth: input.value()?,
            identity: input.value()?,
            identity_birth: input.value()?,
            roll: input.value()?,
        })
    }
}

impl Document for EmbassyKeys {
    const LABEL: Label = Label::TPM_KEYS;
    const MAX_BYTES: usize = 8 * 1024;
}
