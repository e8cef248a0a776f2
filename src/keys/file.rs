//! The key file: one private key with its public half, encrypted under a passphrase.
//!
//! The passphrase is stretched with Argon2id (RFC 9106), whose cost stands in the file within bounds; the key is sealed
//! with AES-256-GCM. Everything readable in the file is bound to it. A checksum tells damage from a wrong passphrase.
//! Layout: label, kind, name, public key, memory in KiB (u32), passes (u32), lanes (u8), salt (16), sealed key (48),
//! SHA-256 of all that.

use aes_gcm::{AeadInPlace, Aes256Gcm, KeyInit, Nonce, Tag};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use rand_core::{CryptoRng, RngCore};
use zeroize::Zeroize;

use crate::{
    keys::{KeyError, MemorySigner},
    protocol::{
        group::Point,
        hash::{Hash, derive},
        hybrid::{HybridPublicKey, HybridSecretKey},
        ids::SubjectName,
        label::Label,
        secret::{Secret, SecretScalar, SecretVec},
        wire::{Document, Reader, Wire, WireError, Writer},
    },
};

/// Least and most memory, in KiB. Below 19 MiB guessing is too cheap (RFC 9106 §4 and common practice); above 1 GiB a
/// stranger's file would only stop the machine.
pub const MEMORY_KIB: (u32, u32) = (19 * 1024, 1024 * 1024);
/// Fewest and most passes over the memory.
pub const PASSES: (u32, u32) = (2, 16);
/// Fewest characters of a passphrase.
pub const PASSPHRASE_MIN: usize = 8;
const LANES: (u8, u8) = (1, 16);
const SALT_BYTES: usize = 16;
const SEALED_BYTES: usize = 32 + 16;

/// What a key is for. Each key has one use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Signs what an official, agent, auditor or witness says.
    Identity,
    /// The seed of a hybrid key: receives shares of w.
    Hybrid,
    /// The static key of one generation's key generation.
    Dkg,
    /// The home authority's.
    Home,
    /// Signs dataset versions.
    DataOwner,
}

impl KeyKind {
    const ALL: [(u8, Self, &'static str); 5] = [
        (1, Self::Identity, "an identity key"),
        (2, Self::Hybrid, "a hybrid key"),
        (3, Self::Dkg, "a DKG static key"),
        (4, Self::Home, "a home authority's key"),
        (5, Self::DataOwner, "a data owner's key"),
    ];
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Self::ALL.iter().filter(|(_, kind, _)| kind == self).try_for_each(|(_, _, name)| f.write_str(name))
    }
}

impl Wire for KeyKind {
    fn write(&self, out: &mut Writer) {
        for (code, _, _) in Self::ALL.iter().filter(|(_, kind, _)| kind == self) {
            out.u8(*code);
        }
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let found = input.u8("key kind")?;
        let known = Self::ALL.iter().find(|(code, _, _)| *code == found);
        known.map(|(_, kind, _)| *kind).ok_or(WireError::Invalid { field: "key kind", reason: "none of the five" })
    }
}

/// A private key in the clear, in memory.
#[derive(Debug)]
pub enum PrivateKey {
    /// Of every kind but [`KeyKind::Hybrid`].
    Scalar(SecretScalar),
    /// Of [`KeyKind::Hybrid`].
    Hybrid(HybridSecretKey),
}

impl PrivateKey {
    /// A fresh key of a kind.
    pub fn random(kind: KeyKind, rng: &mut (impl RngCore + CryptoRng)) -> Self {
        match kind {
            KeyKind::Hybrid => Self::Hybrid(HybridSecretKey::random(rng)),
            _ => Self::Scalar(SecretScalar::random(rng)),
        }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        match self {
            Self::Scalar(secret) => PublicKey::Point(Point::mul_generator(secret.expose())),
            Self::Hybrid(key) => PublicKey::Hybrid(key.public().clone()),
        }
    }

    fn bytes(&self) -> Secret<32> {
        match self {
            Self::Scalar(secret) => secret.to_bytes(),
            Self::Hybrid(key) => {
                let mut bytes = *key.seed().expose();
                Secret::take(&mut bytes)
            }
        }
    }

    fn from_bytes(kind: KeyKind, bytes: Secret<32>) -> Option<Self> {
        match kind {
            KeyKind::Hybrid => Some(Self::Hybrid(HybridSecretKey::from_seed(bytes))),
            _ => SecretScalar::from_bytes(&bytes).map(Self::Scalar),
        }
    }
}

/// A public half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// Of every kind but [`KeyKind::Hybrid`].
    Point(Point),
    /// Of [`KeyKind::Hybrid`].
    Hybrid(HybridPublicKey),
}

/// What stretching the passphrase costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u8,
}

impl Cost {
    /// RFC 9106 §4, second recommended option: 64 MiB, three passes, four lanes.
    pub const STANDARD: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 };

    /// # Errors
    /// [`KeyError::Cost`] outside [`MEMORY_KIB`] and [`PASSES`], or for more than 16 lanes.
    pub fn new(memory_kib: u32, passes: u32, lanes: u8) -> Result<Self, KeyError> {
        let within = (MEMORY_KIB.0..=MEMORY_KIB.1).contains(&memory_kib)
            && (PASSES.0..=PASSES.1).contains(&passes)
            && (LANES.0..=LANES.1).contains(&lanes);
        if within { Ok(Self { memory_kib, passes, lanes }) } else { Err(KeyError::Cost { memory_kib, passes }) }
    }

    fn stretch(self, passphrase: &SecretVec, salt: &[u8; SALT_BYTES]) -> Result<Secret<32>, KeyError> {
        let refused = KeyError::Memory { memory_kib: self.memory_kib };
        let params = Params::new(self.memory_kib, self.passes, u32::from(self.lanes), Some(32));
        let Ok(params) = params else { return Err(refused) };
        let mut memory: Vec<Block> = Vec::new();
        if memory.try_reserve_exact(params.block_count()).is_err() {
            return Err(refused);
        }
        memory.resize(params.block_count(), Block::new());
        let mut out = Secret::zeroed();
        let done = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into_with_memory(
            passphrase.expose(),
            salt,
            out.expose_mut(),
            &mut memory,
        );
        memory.iter_mut().for_each(Zeroize::zeroize);
        done.map(|()| out).map_err(|_| refused)
    }
}

/// A key file, not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    kind: KeyKind,
    name: SubjectName,
    public: PublicKey,
    cost: Cost,
    salt: [u8; SALT_BYTES],
    sealed: [u8; SEALED_BYTES],
}

impl KeyFile {
    /// Seals a key under a passphrase.
    ///
    /// # Errors
    /// [`KeyError::Short`] for a passphrase under [`PASSPHRASE_MIN`] characters, [`KeyError::Kind`] where key and kind
    /// do not go together, [`KeyError::Memory`].
    pub fn seal(
        kind: KeyKind,
        name: SubjectName,
        key: &PrivateKey,
        passphrase: &SecretVec,
        cost: Cost,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Self, KeyError> {
        let found = if matches!(key, PrivateKey::Hybrid(_)) { KeyKind::Hybrid } else { KeyKind::Identity };
        if (found == KeyKind::Hybrid) != (kind == KeyKind::Hybrid) {
            return Err(KeyError::Kind { found, expected: kind });
        }
        let characters = std::str::from_utf8(passphrase.expose()).map_or(0, |text| text.chars().count());
        if characters < PASSPHRASE_MIN {
            return Err(KeyError::Short);
        }
        let mut salt = [0; SALT_BYTES];
        rng.fill_bytes(&mut salt);
        let mut file = Self { kind, name, public: key.public(), cost, salt, sealed: [0; SEALED_BYTES] };
        let header = file.header();
        let cipher = file.cipher(passphrase, &header)?;
        let mut bytes = key.bytes();
        let tag = cipher
            .encrypt_in_place_detached(&one_use_nonce(), &header, bytes.expose_mut())
            .map_err(|_| KeyError::Memory { memory_kib: cost.memory_kib })?;
        let (sealed, end) = file.sealed.split_at_mut(32);
        sealed.copy_from_slice(bytes.expose());
        end.copy_from_slice(&tag);
        Ok(file)
    }

    /// Opens it.
    ///
    /// # Errors
    /// [`KeyError::Passphrase`] and [`KeyError::Memory`].
    pub fn open(&self, passphrase: &SecretVec) -> Result<PrivateKey, KeyError> {
        let header = self.header();
        let cipher = self.cipher(passphrase, &header)?;
        let (sealed, tag) = self.sealed.split_at(32);
        let mut bytes = Secret::from_slice(sealed).ok_or(KeyError::Damaged)?;
        cipher
            .decrypt_in_place_detached(&one_use_nonce(), &header, bytes.expose_mut(), Tag::from_slice(tag))
            .map_err(|_| KeyError::Passphrase)?;
        let key = PrivateKey::from_bytes(self.kind, bytes).ok_or(KeyError::Damaged)?;
        // Sealed together with its public half by whoever knew the passphrase; it still has to be that half.
        if key.public() == self.public { Ok(key) } else { Err(KeyError::Damaged) }
    }

    /// Opens a key that signs.
    ///
    /// # Errors
    /// [`KeyError::Kind`] for another kind, and as [`KeyFile::open`].
    pub fn signer(&self, expected: KeyKind, passphrase: &SecretVec) -> Result<MemorySigner, KeyError> {
        let wrong = KeyError::Kind { found: self.kind, expected };
        if self.kind != expected {
            return Err(wrong);
        }
        match self.open(passphrase)? {
            PrivateKey::Scalar(secret) => Ok(MemorySigner::new(&secret)),
            PrivateKey::Hybrid(_) => Err(wrong),
        }
    }

    /// Reads a file, and tells one that was damaged from one that is something else.
    ///
    /// # Errors
    /// [`KeyError::Damaged`], [`KeyError::Cost`] and [`KeyError::Format`].
    pub fn read_from(bytes: &[u8]) -> Result<Self, KeyError> {
        let opens = Reader::new(bytes).label(Label::KEY_FILE);
        opens.map_err(KeyError::Format)?;
        let (body, sum) = bytes.split_last_chunk::<32>().ok_or(KeyError::Damaged)?;
        if Hash::of_bytes(body).0 != *sum {
            return Err(KeyError::Damaged);
        }
        Self::decode(bytes).map_err(KeyError::Format)
    }

    /// What the key is for.
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Whose it is. Not authentic until the file was opened.
    pub const fn name(&self) -> &SubjectName {
        &self.name
    }

    /// The public half. Not authentic until the file was opened.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    fn cipher(&self, passphrase: &SecretVec, header: &[u8]) -> Result<Aes256Gcm, KeyError> {
        let stretched = self.cost.stretch(passphrase, &self.salt)?;
        let key = derive::<32>(stretched.expose(), Label::KEY_FILE_SEAL, |out| {
            out.bytes(header);
        });
        Ok(Aes256Gcm::new(key.expose().into()))
    }

    /// All that is readable: bound to the key by derivation and as associated data.
    fn header(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.label(Label::KEY_FILE);
        self.write_header(&mut out);
        out.finish()
    }

    fn write_header(&self, out: &mut Writer) {
        out.value(&self.kind).value(&self.name);
        match &self.public {
            PublicKey::Point(point) => out.value(point),
            PublicKey::Hybrid(key) => out.value(key),
        };
        out.u32(self.cost.memory_kib).u32(self.cost.passes).u8(self.cost.lanes).raw(&self.salt);
    }
}

/// The salt is fresh for each file, so each AES key seals once and the nonce may stand still.
fn one_use_nonce() -> Nonce<aes_gcm::aead::consts::U12> {
    Nonce::default()
}

impl Wire for KeyFile {
    fn write(&self, out: &mut Writer) {
        self.write_header(out);
        out.raw(&self.sealed);
        let mut body = self.header();
        body.extend_from_slice(&self.sealed);
        out.value(&Hash::of_bytes(&body));
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let (kind, name) = (input.value()?, input.value()?);
        let public = match kind {
            KeyKind::Hybrid => PublicKey::Hybrid(input.value()?),
            _ => PublicKey::Point(input.value()?),
        };
        let (memory_kib, passes, lanes) = (input.u32("memory")?, input.u32("passes")?, input.u8("lanes")?);
        let cost = Cost::new(memory_kib, passes, lanes)
            .map_err(|_| WireError::Invalid { field: "cost", reason: "not within the bounds of Argon2id's cost" })?;
        let file = Self { kind, name, public, cost, salt: input.array("salt")?, sealed: input.array("sealed key")? };
        // Its value is checked by encoding again.
        let _: Hash = input.value()?;
        Ok(file)
    }
}

impl Document for KeyFile {
    const LABEL: Label = Label::KEY_FILE;
    const MAX_BYTES: usize = 2048;
}
