//! What a TPM computes, computed without one: Names, policy digests and command hashes (protocol.md §8).
//!
//! Officials' clients recompute with this what they approve, the embassy what its TPM is to run, auditors what the TPM must
//! have certified; all from the charter alone. The byte layouts are those of the TPM 2.0 Library Specification, Part 2
//! (structures) and Part 3 (commands); a property test compares every one with a TPM. There is one description of each
//! object, [`custody::Custody`]: its digests come from it here, and the hardware runs its steps on a session.

pub mod approval;
pub mod creation;
pub mod custody;
pub mod ladder;
pub mod name;
pub mod nv;
pub mod object;
pub mod pcr;
pub mod policy;

use sha2::{Digest, Sha256};

use crate::protocol::wire::Writer;

/// TPM_ALG_ID (TPM 2.0 Part 2, 6.3).
mod alg {
    pub(super) const AES: u16 = 0x0006;
    pub(super) const KEYEDHASH: u16 = 0x0008;
    pub(super) const SHA256: u16 = 0x000B;
    pub(super) const NULL: u16 = 0x0010;
    pub(super) const ECDSA: u16 = 0x0018;
    pub(super) const ECDH: u16 = 0x0019;
    pub(super) const ECC: u16 = 0x0023;
    pub(super) const CFB: u16 = 0x0043;
}

/// TPM_CC (TPM 2.0 Part 2, 6.5.2).
mod cc {
    pub(super) const NV_INCREMENT: u32 = 0x0134;
    pub(super) const NV_WRITE: u32 = 0x0137;
    pub(super) const POLICY_NV: u32 = 0x0149;
    pub(super) const ECDH_ZGEN: u32 = 0x0154;
    pub(super) const POLICY_SIGNED: u32 = 0x0160;
    pub(super) const POLICY_OR: u32 = 0x0171;
    pub(super) const POLICY_PCR: u32 = 0x017F;
    pub(super) const POLICY_AUTHORIZE_NV: u32 = 0x0192;
}

/// SHA-256 over bytes whose layout the TPM specification fixes.
fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// A TPM2B: 16-bit size, then the bytes. Nothing here is longer than 96 bytes.
fn tpm2b(out: &mut Writer, bytes: &[u8]) {
    out.u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX)).raw(bytes);
}

#[cfg(test)]
mod tests;
