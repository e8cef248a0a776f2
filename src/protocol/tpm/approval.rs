//! An official's signature for one TPM command: what is hashed, what may be signed, and how it travels.
//!
//! protocol.md §8.5. TPM2_PolicySigned checks a signature over nonceTPM ‖ expiration ‖ cpHashA ‖ policyRef. Each may be
//! empty or zero for the TPM, and each would then bind nothing; so here each has a type that cannot be empty. Only an
//! [`ApprovalDigest`], which only [`ApprovalRequest`] makes, is ever signed. The nonce comes from the embassy's offer; the
//! command's hash and the policyRef are computed by the official's own machine from the charter.

use p256::ecdsa::Signature;

use crate::protocol::{
    group::Point,
    hash::Hash,
    quorum::Position,
    signer::{DigestSigner, SignError, signed_by},
    tpm::{cc, name::Name, policy::PolicyRef, sha256, tpm2b},
    wire::{Reader, Wire, WireError, Writer},
};

/// Why an approval is not made or not taken. Only the named official can give another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApprovalError {
    /// The nonce is not 32 bytes.
    #[error("the TPM's nonce has {found} bytes, not 32: an approval of it would not be bound to one session")]
    Nonce {
        /// Its length.
        found: usize,
    },
    /// No expiry, or too far away.
    #[error("an expiry of {seconds} s is outside 1 to {maximum} s, the charter's maximum")]
    Expiry {
        /// What was asked.
        seconds: u32,
        /// The charter's maximum.
        maximum: u32,
    },
    /// More bytes than an NV command takes.
    #[error("{found} bytes are more than one NV write takes ({MAX_NV_WRITE})")]
    NvData {
        /// Their number.
        found: usize,
    },
    /// The approval is for another command than the one waiting.
    #[error("the approval of {position} is for another TPM command than the one that waits")]
    OtherCommand {
        /// Who gave it.
        position: Position,
    },
    /// The signature does not verify.
    #[error("the signature of {position} does not verify for this session, command, expiry and purpose")]
    Signature {
        /// Who gave it.
        position: Position,
    },
}

/// The largest NV write approved, in bytes: the register's content is 34.
pub const MAX_NV_WRITE: usize = 64;

/// cpHash: H(command code ‖ Names of the handles ‖ parameters as sent) (TPM 2.0 Part 1, 16.7).
///
/// Only made from a command: it cannot be read from the wire, so nobody signs for a hash that somebody else computed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommandHash([u8; 32]);

impl CommandHash {
    /// TPM2_ECDH_ZGen of `point` by the key named `key`.
    pub fn ecdh_zgen(key: &Name, point: &Point) -> Self {
        let (x, y) = point.xy();
        let mut parameters = Writer::new();
        // TPM2B_ECC_POINT: the size covers both coordinates with theirs.
        parameters.u16(2 + 32 + 2 + 32);
        tpm2b(&mut parameters, &x);
        tpm2b(&mut parameters, &y);
        Self::of(cc::ECDH_ZGEN, &[key], &parameters.finish())
    }

    /// TPM2_NV_Write of `data` at offset 0, authorized by the index itself. For the first write, `index` is
    /// [`name_before_first_write`](crate::protocol::tpm::nv::NvPublic::name_before_first_write).
    ///
    /// # Errors
    /// [`ApprovalError::NvData`] for more than [`MAX_NV_WRITE`] bytes.
    pub fn nv_write(index: &Name, data: &[u8]) -> Result<Self, ApprovalError> {
        if data.len() > MAX_NV_WRITE {
            return Err(ApprovalError::NvData { found: data.len() });
        }
        let mut parameters = Writer::new();
        tpm2b(&mut parameters, data);
        parameters.u16(0);
        Ok(Self::of(cc::NV_WRITE, &[index, index], &parameters.finish()))
    }

    /// TPM2_NV_Increment, authorized by the index itself. For the first increment, `index` is
    /// [`name_before_first_write`](crate::protocol::tpm::nv::NvPublic::name_before_first_write).
    pub fn nv_increment(index: &Name) -> Self {
        Self::of(cc::NV_INCREMENT, &[index, index], &[])
    }

    fn of(command: u32, names: &[&Name], parameters: &[u8]) -> Self {
        let command = command.to_be_bytes();
        let mut parts: Vec<&[u8]> = vec![&command];
        parts.extend(names.iter().map(|name| name.as_bytes().as_slice()));
        parts.push(parameters);
        Self(sha256(&parts))
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for CommandHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CommandHash(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// The nonceTPM of one policy session: exactly 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TpmNonce([u8; 32]);

impl TpmNonce {
    /// # Errors
    /// [`ApprovalError::Nonce`] for any length but 32.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ApprovalError> {
        bytes.try_into().map(Self).map_err(|_| ApprovalError::Nonce { found: bytes.len() })
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Wire for TpmNonce {
    fn write(&self, out: &mut Writer) {
        out.raw(&self.0);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        input.array("TPM nonce").map(Self)
    }
}

/// Seconds from the session's start until an approval is void: never 0, and never negative, which would make the TPM hand
/// out a ticket that lives beyond the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expiry(u32);

impl Expiry {
    /// # Errors
    /// [`ApprovalError::Expiry`] outside 1 to `maximum`, or beyond 31 bits.
    pub const fn new(seconds: u32, maximum: u32) -> Result<Self, ApprovalError> {
        if seconds == 0 || seconds > maximum || seconds > i32::MAX.unsigned_abs() {
            return Err(ApprovalError::Expiry { seconds, maximum });
        }
        Ok(Self(seconds))
    }

    /// Seconds.
    pub const fn seconds(self) -> u32 {
        self.0
    }
}

/// What an official is asked to sign for: one command, in one session, for one purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApprovalRequest {
    /// The session's authenticated nonce.
    pub nonce: TpmNonce,
    /// The command.
    pub command: CommandHash,
    /// The purpose, charter, embassy and generation.
    pub policy_ref: PolicyRef,
}

impl ApprovalRequest {
    /// aHash (TPM 2.0 Part 3, 23.3): the only thing an official's key signs for a TPM.
    pub fn digest(&self, expiry: Expiry) -> ApprovalDigest {
        let expiration = expiry.seconds().to_be_bytes();
        ApprovalDigest(sha256(&[
            self.nonce.as_bytes(),
            &expiration,
            self.command.as_bytes(),
            self.policy_ref.as_bytes(),
        ]))
    }

    /// Signs with an official's key, wherever it lies.
    ///
    /// # Errors
    /// [`SignError`] where the key gives no signature.
    pub fn sign(&self, position: Position, expiry: Expiry, key: &dyn DigestSigner) -> Result<TpmApproval, SignError> {
        let signature = key.sign_digest(&Hash(self.digest(expiry).0))?;
        Ok(self.signed(position, expiry, signature))
    }

    /// Takes a signature that was made over [`ApprovalRequest::digest`].
    pub fn signed(&self, position: Position, expiry: Expiry, signature: Signature) -> TpmApproval {
        TpmApproval { position, command: self.command, expiry_seconds: expiry.seconds(), signature }
    }
}

/// A hash that an official's key may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApprovalDigest([u8; 32]);

impl ApprovalDigest {
    /// The 32 bytes, signed as they are: no further hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// An official's approval of one TPM command, as sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmApproval {
    position: Position,
    command: CommandHash,
    expiry_seconds: u32,
    signature: Signature,
}

impl TpmApproval {
    /// Whose it is.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// The hash of the command that its signer says it is for: a claim until [`TpmApproval::verify`] compares it.
    pub const fn command(&self) -> &[u8; 32] {
        &self.command.0
    }

    /// Seconds from the session's start until it is void, 1 to 2^31 - 1.
    pub const fn expiry_seconds(&self) -> u32 {
        self.expiry_seconds
    }

    /// The expiration parameter of TPM2_PolicySigned.
    pub fn expiration(&self) -> i32 {
        // At most 2^31 - 1 by Expiry and by decoding.
        i32::try_from(self.expiry_seconds).unwrap_or(i32::MAX)
    }

    /// The signature's r and s, big-endian, 32 bytes each.
    pub fn r_s(&self) -> ([u8; 32], [u8; 32]) {
        let (r, s) = self.signature.split_bytes();
        (r.into(), s.into())
    }

    /// Checks what the TPM will check, before it is asked: a wrong signature is refused here and attributed.
    ///
    /// # Errors
    /// [`ApprovalError`] where it is for another command, expires too late, or is not signed by `key`.
    pub fn verify(&self, request: &ApprovalRequest, key: &Point, expiry_maximum: u32) -> Result<(), ApprovalError> {
        let position = self.position;
        if self.command != request.command {
            return Err(ApprovalError::OtherCommand { position });
        }
        let expiry = Expiry::new(self.expiry_seconds, expiry_maximum)?;
        let digest = Hash(request.digest(expiry).0);
        if signed_by(key, &digest, &self.signature) { Ok(()) } else { Err(ApprovalError::Signature { position }) }
    }
}

impl Wire for TpmApproval {
    fn write(&self, out: &mut Writer) {
        out.value(&self.position).raw(&self.command.0).u32(self.expiry_seconds).raw(&self.signature.to_bytes());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let (position, command) = (input.value()?, CommandHash(input.array("command hash")?));
        let expiry = Expiry::new(input.u32("expiry")?, i32::MAX.unsigned_abs())
            .map_err(|_| WireError::Invalid { field: "expiry", reason: "not 1 to 2^31 - 1 seconds" })?;
        let signature = Signature::from_slice(input.raw(64, "signature")?).map_err(|_| WireError::Invalid {
            field: "signature",
            reason: "r or s is zero or not below the group order",
        })?;
        Ok(Self { position, command, expiry_seconds: expiry.seconds(), signature })
    }
}
