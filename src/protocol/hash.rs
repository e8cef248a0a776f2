//! Hashing and key derivation with injective input.
//!
//! Every input is encoded by [`Writer`], opened by its label, so two different inputs never have the same bytes
//! (protocol.md §2). SHA-256 (FIPS 180-4) and HKDF-SHA256 (RFC 5869) only.

use hkdf::Hkdf;
use rand_core::{CryptoRng, Error, RngCore};
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

use crate::protocol::{
    label::Label,
    secret::Secret,
    wire::{Reader, Wire, WireError, Writer},
};

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// SHA-256 over the label and what `fill` writes.
    pub fn of(label: Label, fill: impl FnOnce(&mut Writer)) -> Self {
        let mut input = Writer::new();
        input.label(label);
        fill(&mut input);
        Self(Sha256::digest(input.finish()).into())
    }

    /// SHA-256 over bytes that carry their own label, such as an encoded document.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl Wire for Hash {
    fn write(&self, out: &mut Writer) {
        out.raw(&self.0);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        input.array("hash").map(Self)
    }
}

/// A text is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 hexadecimal digits in lower case")]
pub struct NoHash;

impl std::str::FromStr for Hash {
    type Err = NoHash;

    /// Reads the one form in which it is shown.
    fn from_str(text: &str) -> Result<Self, NoHash> {
        let mut bytes = [0; 32];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return Err(NoHash);
        }
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            if !pair.iter().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(digit)) {
                return Err(NoHash);
            }
            let pair = std::str::from_utf8(pair).map_err(|_| NoHash)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NoHash)?;
        }
        Ok(Self(bytes))
    }
}

/// HKDF-SHA256: `N` bytes (at most 8,160) from `secret`, for the purpose `label` and the context that `fill` writes.
pub fn derive<const N: usize>(secret: &[u8], label: Label, fill: impl FnOnce(&mut Writer)) -> Secret<N> {
    const { assert!(N <= 255 * 32, "HKDF-SHA256 gives at most 255 blocks (RFC 5869 §2.3)") };
    let mut info = Writer::new();
    info.label(label);
    fill(&mut info);
    let mut out = Secret::zeroed();
    // The only error is a length over 255 blocks, which the assertion above excludes at compile time.
    let _ = Hkdf::<Sha256>::new(None, secret).expand(&info.finish(), out.expose_mut());
    out
}

/// A deterministic random generator: HKDF-SHA256 blocks of one secret, one label and one context.
///
/// For coins that must be derivable again (protocol.md §6). Cryptographically strong as long as the secret is.
pub struct DerivedRng {
    kdf: Hkdf<Sha256>,
    info: Vec<u8>,
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl DerivedRng {
    /// A stream for the purpose `label` and the context that `fill` writes.
    pub fn new(secret: &[u8], label: Label, fill: impl FnOnce(&mut Writer)) -> Self {
        let mut info = Writer::new();
        info.label(label);
        fill(&mut info);
        Self { kdf: Hkdf::new(None, secret), info: info.finish(), counter: 0, block: [0; 32], used: 32 }
    }

    fn next_byte(&mut self) -> u8 {
        if self.used >= self.block.len() {
            // 32 bytes are one block: never an error.
            let _ = self.kdf.expand_multi_info(&[&self.info, &self.counter.to_be_bytes()], &mut self.block);
            self.counter = self.counter.wrapping_add(1);
            self.used = 0;
        }
        let byte = self.block.get(self.used).copied().unwrap_or_default();
        self.used = self.used.saturating_add(1);
        byte
    }
}

impl Drop for DerivedRng {
    fn drop(&mut self) {
        self.block.zeroize();
    }
}

impl std::fmt::Debug for DerivedRng {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DerivedRng(redacted)")
    }
}

impl RngCore for DerivedRng {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_be_bytes(bytes)
    }
    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_be_bytes(bytes)
    }
    fn fill_bytes(&mut self, out: &mut [u8]) {
        out.iter_mut().for_each(|byte| *byte = self.next_byte());
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl CryptoRng for DerivedRng {}
