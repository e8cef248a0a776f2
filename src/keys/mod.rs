//! People's private keys: in an encrypted file or on a PKCS#11 token, and certificates made with them.
//!
//! Holds what home, officials, agents and data owners sign with. Trusts the machine it runs on and the token that was
//! chosen; a file is believed only once its passphrase opened it, and a token's signature only once it verified. The
//! arrow is protocol → keys → client | cli | desk.

pub mod disk;
pub mod file;
pub mod issue;
pub mod token;

use std::path::PathBuf;

use p256::ecdsa::{
    Signature, SigningKey, VerifyingKey,
    signature::hazmat::{PrehashSigner, PrehashVerifier},
};

use crate::{
    keys::{file::KeyKind, token::TokenError},
    protocol::{
        group::Point,
        hash::Hash,
        secret::{Secret, SecretScalar},
        signer::{DigestSigner, SignError},
        wire::WireError,
    },
};

/// Why a private key cannot be used. Each says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {source}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("{path} cannot be written: {source}. Nothing was left behind", path = path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key stands there already.
    #[error(
        "{path} exists, and may hold the only copy of a key. Choose another name; to give that key up for ever, say --replace",
        path = path.display()
    )]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// Other users can read the file.
    #[error(
        "{path} can be read by others (mode {mode:03o}). Take that away (`chmod 600`), and ask yourself who may have copied it",
        path = path.display()
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a regular file: what stands in for one cannot be judged.
    #[error("{path} is not a regular file; name the key file itself", path = path.display())]
    NotAFile {
        /// Which file.
        path: PathBuf,
    },
    /// Not a key file.
    #[error("this is not a key file: {0}. Check the name, or take your other copy")]
    Format(WireError),
    /// A key file that was damaged after it was written.
    #[error("the key file is damaged: its checksum does not match. The passphrase was not tried; take your other copy")]
    Damaged,
    /// The cost of opening it is not within the bounds.
    #[error(
        "the key file asks for {memory_kib} KiB and {passes} passes of Argon2id; accepted are {low} to {high} KiB and {low_passes} to {high_passes} passes. chancery wrote no such file",
        low = file::MEMORY_KIB.0, high = file::MEMORY_KIB.1, low_passes = file::PASSES.0, high_passes = file::PASSES.1
    )]
    Cost {
        /// Memory, in KiB.
        memory_kib: u32,
        /// Passes over it.
        passes: u32,
    },
    /// The passphrase does not open the file.
    #[error(
        "the passphrase is wrong: the file is whole, and does not open with it. (Somebody who altered the file and its checksum on purpose would look the same)"
    )]
    Passphrase,
    /// The passphrase is too short to protect anything.
    #[error("a passphrase has at least {} characters; six random words are a good one", file::PASSPHRASE_MIN)]
    Short,
    /// Stretching the passphrase failed.
    #[error("there is not enough memory to open the key file; it takes {memory_kib} KiB")]
    Memory {
        /// Memory, in KiB.
        memory_kib: u32,
    },
    /// A key of another kind.
    #[error("this is {found}; {expected} is needed here")]
    Kind {
        /// What is there.
        found: KeyKind,
        /// What is needed.
        expected: KeyKind,
    },
    /// The file is locked by something else than what was tried.
    #[error("this key file is locked by {by}; use that")]
    Locked {
        /// What opens it.
        by: &'static str,
    },
    /// The file is locked by a key on another token.
    #[error(
        "this key file is locked by a key on another token. Take the token that it was made with; nothing was tried"
    )]
    OtherToken,
    /// The key gave no signature, or a wrong one.
    #[error("the key gave no signature that its public key verifies; do not use it, and tell home")]
    Signature,
    /// The token refused.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Someone's P-256 key that signs: where it lies is its own matter.
///
/// **Promise**, held by `tests/keys.rs` for every kind: a signature that is given verifies under [`IdentitySigner::public`] over
/// exactly the digest that was asked for, has the low s, and the private key never leaves where it lies.
pub trait IdentitySigner {
    /// The public key.
    fn public(&self) -> &Point;

    /// ECDSA over a SHA-256 digest.
    ///
    /// # Errors
    /// [`KeyError`] where the key cannot be reached, or its signature does not verify.
    fn sign(&self, digest: &Hash) -> Result<Signature, KeyError>;
}

impl<T: IdentitySigner + ?Sized> IdentitySigner for &T {
    fn public(&self) -> &Point {
        (**self).public()
    }
    fn sign(&self, digest: &Hash) -> Result<Signature, KeyError> {
        (**self).sign(digest)
    }
}

impl<T: IdentitySigner + ?Sized> IdentitySigner for Box<T> {
    fn public(&self) -> &Point {
        (**self).public()
    }
    fn sign(&self, digest: &Hash) -> Result<Signature, KeyError> {
        (**self).sign(digest)
    }
}

/// What the protocol asks of a key, every key here can do. A `&dyn IdentitySigner` or `Box` of one is passed as `&key`.
impl<T: IdentitySigner> DigestSigner for T {
    fn public_key(&self) -> Point {
        *self.public()
    }
    fn sign_digest(&self, digest: &Hash) -> Result<Signature, SignError> {
        self.sign(digest).map_err(|error| SignError { reason: error.to_string() })
    }
}

/// Someone's P-256 key that agrees with another one (ECDH), and does nothing else: what unlocks files at rest.
///
/// **Promise**: what is given is the x coordinate of the product of this private key and that point, and the private key never
/// leaves where it lies.
pub trait KeyAgreement {
    /// The public key.
    fn public(&self) -> &Point;

    /// The x coordinate of the common point.
    ///
    /// # Errors
    /// [`KeyError`] where the key cannot be reached.
    fn agree(&self, with: &Point) -> Result<Secret<32>, KeyError>;
}

/// A signing key in memory.
pub struct MemorySigner {
    key: SigningKey,
    public: Point,
}

impl MemorySigner {
    /// Takes a secret exponent.
    pub fn new(secret: &SecretScalar) -> Self {
        Self { key: SigningKey::from(*secret.expose()), public: Point::mul_generator(secret.expose()) }
    }
}

impl std::fmt::Debug for MemorySigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemorySigner({:?}, redacted)", self.public)
    }
}

impl IdentitySigner for MemorySigner {
    fn public(&self) -> &Point {
        &self.public
    }
    fn sign(&self, digest: &Hash) -> Result<Signature, KeyError> {
        let signature: Signature = self.key.sign_prehash(digest.as_bytes()).map_err(|_| KeyError::Signature)?;
        checked(&self.public, digest, signature)
    }
}

/// Gives a signature out only once it verified: a token may be faulty, or hold another key under that name.
fn checked(public: &Point, digest: &Hash, signature: Signature) -> Result<Signature, KeyError> {
    let signature = signature.normalize_s().unwrap_or(signature);
    VerifyingKey::from_affine(*public.affine())
        .and_then(|key| key.verify_prehash(digest.as_bytes(), &signature))
        .map_err(|_| KeyError::Signature)?;
    Ok(signature)
}
