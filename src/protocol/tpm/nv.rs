//! NV indices: the platform register, the charter pin and the generation counter (TPM 2.0 Part 2, 13).
//!
//! An index has two Names, because the TPM sets the attribute WRITTEN at the first write and the Name covers it. Policies
//! name the written one; only the approval of the very first write or increment names the other.

use crate::protocol::{
    tpm::{alg, name::Name, policy::PolicyDigest, tpm2b},
    wire::{Reader, Wire, WireError, Writer},
};

/// TPMA_NV (TPM 2.0 Part 2, 13.4).
mod attribute {
    pub(super) const POLICYWRITE: u32 = 1 << 3;
    pub(super) const COUNTER: u32 = 1 << 4;
    pub(super) const AUTHREAD: u32 = 1 << 18;
    pub(super) const NO_DA: u32 = 1 << 25;
    pub(super) const WRITTEN: u32 = 1 << 29;
}

/// Exactly these: the quorum writes, everyone reads, and no failed authorization can lock it.
const GUARDED: u32 = attribute::POLICYWRITE | attribute::AUTHREAD | attribute::NO_DA;

/// Size of the platform register's content: a TPMT_HA under SHA-256.
pub const REGISTER_BYTES: u16 = 34;
/// Size of the charter pin: the charter's hash.
pub const CHARTER_PIN_BYTES: u16 = 32;
/// Size of a counter (TPM 2.0 Part 2, 13.2).
pub const COUNTER_BYTES: u16 = 8;

/// A handle outside the range of NV indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{handle:#010x} is not an NV index of the owner: those are 0x01800000 to 0x01bfffff")]
pub struct NvHandleError {
    /// The handle.
    pub handle: u32,
}

/// The handle of an NV index in the owner's range (TCG registry of reserved handles: 0x01800000 to 0x01BFFFFF).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NvHandle(u32);

impl NvHandle {
    /// # Errors
    /// [`NvHandleError`] outside the owner's range.
    pub const fn new(handle: u32) -> Result<Self, NvHandleError> {
        if handle >= 0x0180_0000 && handle <= 0x01BF_FFFF { Ok(Self(handle)) } else { Err(NvHandleError { handle }) }
    }

    /// The TPM_HANDLE.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl std::fmt::Debug for NvHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NvHandle({:#010x})", self.0)
    }
}

impl Wire for NvHandle {
    fn write(&self, out: &mut Writer) {
        out.u32(self.0);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Self::new(input.u32("NV handle")?)
            .map_err(|_| WireError::Invalid { field: "NV handle", reason: "not in the owner's range" })
    }
}

/// An index as policies refer to it: where it is, and the Name it has once written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NvReference {
    /// Where.
    pub handle: NvHandle,
    /// The Name after the first write.
    pub name: Name,
}

/// The public area of one of chancery's NV indices, before its first write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NvPublic {
    handle: NvHandle,
    attributes: u32,
    policy: PolicyDigest,
    size: u16,
}

impl NvPublic {
    /// The platform register.
    pub const fn register(handle: NvHandle, policy: PolicyDigest) -> Self {
        Self { handle, attributes: GUARDED, policy, size: REGISTER_BYTES }
    }

    /// The charter pin.
    pub const fn charter_pin(handle: NvHandle, policy: PolicyDigest) -> Self {
        Self { handle, attributes: GUARDED, policy, size: CHARTER_PIN_BYTES }
    }

    /// The generation counter. Not ORDERLY: an orderly counter jumps when power is lost.
    pub const fn counter(handle: NvHandle, policy: PolicyDigest) -> Self {
        Self { handle, attributes: GUARDED | attribute::COUNTER, policy, size: COUNTER_BYTES }
    }

    /// TPMS_NV_PUBLIC as given to TPM2_NV_DefineSpace (without the TPM2B's size).
    pub fn marshal(&self) -> Vec<u8> {
        self.marshal_with(self.attributes)
    }

    fn marshal_with(&self, attributes: u32) -> Vec<u8> {
        let mut out = Writer::new();
        out.u32(self.handle.get()).u16(alg::SHA256).u32(attributes);
        tpm2b(&mut out, self.policy.as_bytes());
        out.u16(self.size);
        out.finish()
    }

    /// Where the index is.
    pub const fn handle(&self) -> NvHandle {
        self.handle
    }

    /// TPMA_NV, as given to TPM2_NV_DefineSpace.
    pub const fn attributes(&self) -> u32 {
        self.attributes
    }

    /// The digest that writing must reach.
    pub const fn policy(&self) -> &PolicyDigest {
        &self.policy
    }

    /// Size of the content in bytes.
    pub const fn size(&self) -> u16 {
        self.size
    }

    /// The Name between definition and first write.
    pub fn name_before_first_write(&self) -> Name {
        Name::of(&self.marshal())
    }

    /// The Name from the first write on.
    pub fn name(&self) -> Name {
        Name::of(&self.marshal_with(self.attributes | attribute::WRITTEN))
    }

    /// Handle and Name for a policy.
    pub fn reference(&self) -> NvReference {
        NvReference { handle: self.handle, name: self.name() }
    }
}
