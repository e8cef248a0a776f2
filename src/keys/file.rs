//! The key file: one private key or share with its public half, locked by a passphrase or by a key on a token.
//!
//! A passphrase is stretched with Argon2id (RFC 9106), whose cost stands in the file within bounds. A token's key agrees
//! with an ephemeral one (ECDH on P-256, of which the token does its half), so that locking needs no token and unlocking
//! needs that one. Either way the key is sealed with AES-256-GCM, and everything readable in the file is bound to it. A
//! checksum tells damage from a wrong passphrase. protocol.md §13 has the layout.

use aes_gcm::{AeadInPlace, Aes256Gcm, KeyInit, Nonce, Tag};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use rand_core::{CryptoRng, RngCore};
use zeroize::Zeroize;

use crate::{
    keys::{KeyAgreement, KeyError, MemorySigner},
    protocol::{
        group::Point,
        hash::{Hash, derive},
        hybrid::{HybridPublicKey, HybridSecretKey},
        ids::{CharterId, Generation, QuorumKind, SubjectName},
        label::Label,
        quorum::Position,
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
    /// Proves who is on the line, in TLS. Never the identity key.
    Connection,
    /// A share of a quorum's key.
    Share,
    /// The seed of a dataset version, released to one recipient: opens what was sealed to it.
    Dataset,
    /// What an embassy's TPM authorizations are derived from. Home keeps it.
    Authorizations,
    /// An embassy's own authority while it is founded, before its TPM has an identity key.
    Founding,
}

impl KeyKind {
    const ALL: [(u8, Self, &'static str); 10] = [
        (1, Self::Identity, "an identity key"),
        (2, Self::Hybrid, "a hybrid key"),
        (3, Self::Dkg, "a DKG static key"),
        (4, Self::Home, "a home authority's key"),
        (5, Self::DataOwner, "a data owner's key"),
        (6, Self::Connection, "a connection key"),
        (7, Self::Share, "a share"),
        (8, Self::Dataset, "a dataset's key"),
        (9, Self::Authorizations, "a TPM's authorizations"),
        (10, Self::Founding, "a founding key"),
    ];

    /// Whether the private key is the seed of a hybrid one.
    const fn is_hybrid(self) -> bool {
        matches!(self, Self::Hybrid | Self::Dataset)
    }
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
        known.map(|(_, kind, _)| *kind).ok_or(WireError::Invalid { field: "key kind", reason: "none of the ten" })
    }
}

/// A private key in the clear, in memory.
#[derive(Debug)]
pub enum PrivateKey {
    /// Of every kind but [`KeyKind::Hybrid`] and [`KeyKind::Dataset`].
    Scalar(SecretScalar),
    /// Of those two.
    Hybrid(HybridSecretKey),
}

impl PrivateKey {
    /// A fresh key of a kind.
    pub fn random(kind: KeyKind, rng: &mut (impl RngCore + CryptoRng)) -> Self {
        match kind {
            kind if kind.is_hybrid() => Self::Hybrid(HybridSecretKey::random(rng)),
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
            kind if kind.is_hybrid() => Some(Self::Hybrid(HybridSecretKey::from_seed(bytes))),
            _ => SecretScalar::from_bytes(&bytes).map(Self::Scalar),
        }
    }
}

/// A public half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// Of every kind but [`KeyKind::Hybrid`] and [`KeyKind::Dataset`].
    Point(Point),
    /// Of those two.
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

/// Which quorum's share a file holds, and whose place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareOf {
    /// The network.
    pub charter: CharterId,
    /// Which of its quorums.
    pub quorum: QuorumKind,
    /// The generation of custody.
    pub generation: Generation,
    /// The place in that quorum.
    pub position: Position,
}

impl std::fmt::Display for ShareOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the share of {} in the {} quorum, generation {}", self.position, self.quorum, self.generation)
    }
}

impl Wire for ShareOf {
    fn write(&self, out: &mut Writer) {
        out.value(&self.charter).value(&self.quorum).value(&self.generation).value(&self.position);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            charter: input.value()?,
            quorum: input.value()?,
            generation: input.value()?,
            position: input.value()?,
        })
    }
}

/// With what a new file is locked.
#[derive(Clone, Copy, Debug)]
pub enum Lock<'a> {
    /// A passphrase, and what trying one is to cost.
    Passphrase(&'a SecretVec, Cost),
    /// The public half of a key that agrees, on a token.
    Token(&'a Point),
}

/// What unlocks a file.
#[derive(Clone, Copy)]
pub enum Unlock<'a> {
    /// The passphrase.
    Passphrase(&'a SecretVec),
    /// The key on the token.
    Token(&'a dyn KeyAgreement),
}

/// How a file is locked, as it stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Locked {
    Passphrase { cost: Cost, salt: [u8; SALT_BYTES] },
    Token { key: Point, ephemeral: Point },
}

impl Wire for Locked {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Passphrase { cost, salt } => {
                out.u8(1).u32(cost.memory_kib).u32(cost.passes).u8(cost.lanes).raw(salt);
            }
            Self::Token { key, ephemeral } => {
                out.u8(2).value(key).value(ephemeral);
            }
        }
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        match input.u8("lock")? {
            1 => {
                let (memory_kib, passes, lanes) = (input.u32("memory")?, input.u32("passes")?, input.u8("lanes")?);
                let cost = Cost::new(memory_kib, passes, lanes).map_err(|_| WireError::Invalid {
                    field: "cost",
                    reason: "not within the bounds of Argon2id's cost",
                })?;
                Ok(Self::Passphrase { cost, salt: input.array("salt")? })
            }
            2 => Ok(Self::Token { key: input.value()?, ephemeral: input.value()? }),
            _ => Err(WireError::Invalid { field: "lock", reason: "neither a passphrase (1) nor a token's key (2)" }),
        }
    }
}

/// A key file, not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    kind: KeyKind,
    name: SubjectName,
    share_of: Option<ShareOf>,
    public: PublicKey,
    locked: Locked,
    sealed: [u8; SEALED_BYTES],
}

impl KeyFile {
    /// Seals a key under a passphrase.
    ///
    /// # Errors
    /// As [`KeyFile::lock`].
    pub fn seal(
        kind: KeyKind,
        name: SubjectName,
        key: &PrivateKey,
        passphrase: &SecretVec,
        cost: Cost,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Self, KeyError> {
        Self::lock(kind, name, key, Lock::Passphrase(passphrase, cost), rng)
    }

    /// Locks a key away. Shares have [`KeyFile::lock_share`].
    ///
    /// # Errors
    /// [`KeyError::Short`] for a passphrase under [`PASSPHRASE_MIN`] characters, [`KeyError::Kind`] where key and kind
    /// do not go together, [`KeyError::Memory`].
    pub fn lock(
        kind: KeyKind,
        name: SubjectName,
        key: &PrivateKey,
        lock: Lock<'_>,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Self, KeyError> {
        let found = match key {
            PrivateKey::Hybrid(_) if kind.is_hybrid() => kind,
            PrivateKey::Hybrid(_) => KeyKind::Hybrid,
            PrivateKey::Scalar(_) if kind.is_hybrid() || kind == KeyKind::Share => KeyKind::Identity,
            PrivateKey::Scalar(_) => kind,
        };
        if found != kind {
            return Err(KeyError::Kind { found, expected: kind });
        }
        Self::locked(kind, name, None, key, lock, rng)
    }

    /// Locks a share away; whose and which it is, is bound to it.
    ///
    /// # Errors
    /// As [`KeyFile::lock`].
    pub fn lock_share(
        of: ShareOf,
        name: SubjectName,
        share: SecretScalar,
        lock: Lock<'_>,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Self, KeyError> {
        Self::locked(KeyKind::Share, name, Some(of), &PrivateKey::Scalar(share), lock, rng)
    }

    fn locked(
        kind: KeyKind,
        name: SubjectName,
        share_of: Option<ShareOf>,
        key: &PrivateKey,
        lock: Lock<'_>,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Self, KeyError> {
        let public = key.public();
        let (locked, secret) = match lock {
            Lock::Passphrase(passphrase, cost) => {
                let characters = std::str::from_utf8(passphrase.expose()).map_or(0, |text| text.chars().count());
                if characters < PASSPHRASE_MIN {
                    return Err(KeyError::Short);
                }
                let mut salt = [0; SALT_BYTES];
                rng.fill_bytes(&mut salt);
                (Locked::Passphrase { cost, salt }, cost.stretch(passphrase, &salt)?)
            }
            Lock::Token(token) => {
                // Ephemeral-static: whoever has the public half locks, only the token unlocks.
                let ephemeral = SecretScalar::random(rng);
                let locked = Locked::Token { key: *token, ephemeral: Point::mul_generator(ephemeral.expose()) };
                let mut agreed = token.mul(ephemeral.expose());
                let secret = agreed.secret_x();
                agreed.zeroize();
                (locked, secret)
            }
        };
        let mut file = Self { kind, name, share_of, public, locked, sealed: [0; SEALED_BYTES] };
        let header = file.header();
        let mut bytes = key.bytes();
        let tag = file
            .cipher(&secret, &header)
            .encrypt_in_place_detached(&one_use_nonce(), &header, bytes.expose_mut())
            .map_err(|_| KeyError::Damaged)?;
        let (sealed, end) = file.sealed.split_at_mut(32);
        sealed.copy_from_slice(bytes.expose());
        end.copy_from_slice(&tag);
        Ok(file)
    }

    /// Opens a file that a passphrase locks.
    ///
    /// # Errors
    /// As [`KeyFile::unlock`].
    pub fn open(&self, passphrase: &SecretVec) -> Result<PrivateKey, KeyError> {
        self.unlock(Unlock::Passphrase(passphrase))
    }

    /// Opens it.
    ///
    /// # Errors
    /// [`KeyError::Passphrase`], [`KeyError::Memory`], [`KeyError::Locked`] where it takes the other means,
    /// [`KeyError::OtherToken`], and what the token says.
    pub fn unlock(&self, with: Unlock<'_>) -> Result<PrivateKey, KeyError> {
        let header = self.header();
        let (secret, wrong) = match (self.locked, with) {
            (Locked::Passphrase { cost, salt }, Unlock::Passphrase(passphrase)) => {
                (cost.stretch(passphrase, &salt)?, KeyError::Passphrase)
            }
            (Locked::Token { key, ephemeral }, Unlock::Token(token)) => {
                // Told before the token is asked: another card in the reader is the usual mistake.
                if *token.public() != key {
                    return Err(KeyError::OtherToken);
                }
                (token.agree(&ephemeral)?, KeyError::Damaged)
            }
            (Locked::Passphrase { .. }, Unlock::Token(_)) => return Err(KeyError::Locked { by: "a passphrase" }),
            (Locked::Token { .. }, Unlock::Passphrase(_)) => return Err(KeyError::Locked { by: "a key on a token" }),
        };
        let (sealed, tag) = self.sealed.split_at(32);
        let mut bytes = Secret::from_slice(sealed).ok_or(KeyError::Damaged)?;
        self.cipher(&secret, &header)
            .decrypt_in_place_detached(&one_use_nonce(), &header, bytes.expose_mut(), Tag::from_slice(tag))
            .map_err(|_| wrong)?;
        let key = PrivateKey::from_bytes(self.kind, bytes).ok_or(KeyError::Damaged)?;
        // Sealed together with its public half by whoever knew the passphrase; it still has to be that half.
        if key.public() == self.public { Ok(key) } else { Err(KeyError::Damaged) }
    }

    /// Opens a key that signs.
    ///
    /// # Errors
    /// [`KeyError::Kind`] for another kind, and as [`KeyFile::open`].
    pub fn signer(&self, expected: KeyKind, passphrase: &SecretVec) -> Result<MemorySigner, KeyError> {
        self.unlock_signer(expected, Unlock::Passphrase(passphrase))
    }

    /// Opens a key that signs, by either means.
    ///
    /// # Errors
    /// [`KeyError::Kind`] for another kind, and as [`KeyFile::unlock`].
    pub fn unlock_signer(&self, expected: KeyKind, with: Unlock<'_>) -> Result<MemorySigner, KeyError> {
        self.unlock_scalar(expected, with).map(|secret| MemorySigner::new(&secret))
    }

    /// Opens an exponent: a DKG static key or a share.
    ///
    /// # Errors
    /// [`KeyError::Kind`] for another kind, and as [`KeyFile::unlock`].
    pub fn unlock_scalar(&self, expected: KeyKind, with: Unlock<'_>) -> Result<SecretScalar, KeyError> {
        let wrong = KeyError::Kind { found: self.kind, expected };
        if self.kind != expected {
            return Err(wrong);
        }
        match self.unlock(with)? {
            PrivateKey::Scalar(secret) => Ok(secret),
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

    /// Which share it is. Not authentic until the file was opened.
    pub const fn share_of(&self) -> Option<&ShareOf> {
        self.share_of.as_ref()
    }

    /// Whether a key on a token opens it, instead of a passphrase.
    pub const fn needs_token(&self) -> bool {
        self.token_key().is_some()
    }

    /// The public half of the token's key that opens it; none where a passphrase does. Not authentic until the file was opened.
    pub const fn token_key(&self) -> Option<&Point> {
        match &self.locked {
            Locked::Token { key, .. } => Some(key),
            Locked::Passphrase { .. } => None,
        }
    }

    fn cipher(&self, secret: &Secret<32>, header: &[u8]) -> Aes256Gcm {
        let label = match self.locked {
            Locked::Passphrase { .. } => Label::KEY_FILE_SEAL,
            Locked::Token { .. } => Label::KEY_FILE_WRAP,
        };
        let key = derive::<32>(secret.expose(), label, |out| {
            out.bytes(header);
        });
        Aes256Gcm::new(key.expose().into())
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
        if let Some(of) = &self.share_of {
            out.value(of);
        }
        match &self.public {
            PublicKey::Point(point) => out.value(point),
            PublicKey::Hybrid(key) => out.value(key),
        };
        out.value(&self.locked);
    }
}

/// Salt or ephemeral key is fresh for each file, so each AES key seals once and the nonce may stand still.
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
        let (kind, name): (KeyKind, _) = (input.value()?, input.value()?);
        let share_of = if kind == KeyKind::Share { Some(input.value()?) } else { None };
        let public = match kind {
            kind if kind.is_hybrid() => PublicKey::Hybrid(input.value()?),
            _ => PublicKey::Point(input.value()?),
        };
        let locked = input.value()?;
        let file = Self { kind, name, share_of, public, locked, sealed: input.array("sealed key")? };
        // Its value is checked by encoding again.
        let _: Hash = input.value()?;
        Ok(file)
    }
}

impl Document for KeyFile {
    const LABEL: Label = Label::KEY_FILE;
    const MAX_BYTES: usize = 2048;
}
