//! The Name of a TPM object or NV index: the hash of its public area (TPM 2.0 Part 1, 16), which no other object has.

use crate::protocol::{
    tpm::{alg, sha256},
    wire::{Reader, Wire, WireError, Writer},
};

/// Length of a Name: the algorithm's 16-bit id and a SHA-256 digest.
pub const NAME_BYTES: usize = 34;

/// Why bytes are not a Name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a Name of 34 bytes under SHA-256; objects with another name algorithm are not used here")]
pub struct NameError;

/// nameAlg ‖ H(public area), with SHA-256 as nameAlg.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name([u8; NAME_BYTES]);

impl Name {
    /// The Name of a marshalled TPMT_PUBLIC or TPMS_NV_PUBLIC whose nameAlg is SHA-256.
    pub(super) fn of(public_area: &[u8]) -> Self {
        let mut name = [0; NAME_BYTES];
        let (algorithm, digest) = name.split_at_mut(2);
        algorithm.copy_from_slice(&alg::SHA256.to_be_bytes());
        digest.copy_from_slice(&sha256(&[public_area]));
        Self(name)
    }

    /// Reads a Name as a TPM returns it.
    ///
    /// # Errors
    /// [`NameError`] unless it has 34 bytes and opens with SHA-256's id.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NameError> {
        let name: [u8; NAME_BYTES] = bytes.try_into().map_err(|_| NameError)?;
        if name.starts_with(&alg::SHA256.to_be_bytes()) { Ok(Self(name)) } else { Err(NameError) }
    }

    /// The 34 bytes.
    pub const fn as_bytes(&self) -> &[u8; NAME_BYTES] {
        &self.0
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Name({self})")
    }
}

impl Wire for Name {
    fn write(&self, out: &mut Writer) {
        out.raw(&self.0);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Self::from_bytes(input.raw(NAME_BYTES, "Name")?)
            .map_err(|_| WireError::Invalid { field: "Name", reason: "its algorithm is not SHA-256" })
    }
}
