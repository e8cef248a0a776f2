//! Dataset keys as age recipients, so that anything that speaks age can encrypt to an embassy (protocol.md §7).
//!
//! The dataset's seed is the private key of the hybrid KEM; its public half is written `age1tagpq1…`; the embassy opens
//! stanzas `mlkem768p256tag`. The format is c2sp.org/age, the file itself is read by the crate age through the
//! [`age::Identity`] of [`DatasetKey`]. A stanza is untrusted; whoever can read the recipient can make one.

use age_core::format as age_format;
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use bech32::{Checksum, Hrp, primitives::decode::CheckedHrpstring};
use hkdf::Hkdf;
use hpke::aead::ChaCha20Poly1305;
use rand_core::{CryptoRng, RngCore};
use sha2::{Digest, Sha256};

use crate::protocol::{
    hybrid::{self, ENCAPSULATED_BYTES, HybridError, HybridPublicKey, HybridSecretKey, PUBLIC_KEY_BYTES},
    secret::Secret,
    wire::{Reader, Wire, WireError, Writer},
};

/// Length of a recipient string: `age1tagpq`, `1`, 1,999 characters of data, 6 of checksum.
pub const RECIPIENT_CHARACTERS: usize = 2015;
/// The first argument of the stanzas that dataset keys open.
pub const STANZA_KIND: &str = "mlkem768p256tag";

const PREFIX: Hrp = Hrp::parse_unchecked("age1tagpq");
/// Info of the HPKE encryption and salt of the tag, fixed by c2sp.org/age.
pub const AGE_INFO: &[u8] = b"age-encryption.org/mlkem768p256tag";
/// A wrapped file key: 16 bytes and the AEAD's tag.
const BODY_BYTES: usize = 32;

/// The secret from which a dataset version's key, and every slot of it, is computed.
#[derive(Debug, PartialEq, Eq)]
pub struct DatasetSeed(Secret<32>);

impl DatasetSeed {
    /// A fresh seed, for a new dataset version.
    pub fn random(rng: &mut (impl RngCore + CryptoRng)) -> Self {
        Self(Secret::random(rng))
    }

    /// A seed that came out of a slot or a store.
    pub const fn new(seed: Secret<32>) -> Self {
        Self(seed)
    }

    /// The key pair of this seed.
    pub fn key(&self) -> DatasetKey {
        let mut copy = Secret::zeroed();
        copy.expose_mut().copy_from_slice(self.0.expose());
        DatasetKey(HybridSecretKey::from_seed(copy))
    }

    /// The 32 bytes.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

/// A dataset version's private key, expanded: opens stanzas.
#[derive(Debug)]
pub struct DatasetKey(HybridSecretKey);

impl DatasetKey {
    /// What agents encrypt to.
    pub fn recipient(&self) -> Recipient {
        Recipient(self.0.public().clone())
    }

    /// Writes both private keys to a place that the caller owns; see [`HybridSecretKey::write_expanded`].
    pub fn write_expanded(&self, out: &mut [u8; hybrid::EXPANDED_BYTES]) {
        self.0.write_expanded(out);
    }

    /// Opens a stanza and gives the file key; `None` where its tag says that it is for another recipient.
    ///
    /// # Errors
    /// [`StanzaError::DoesNotOpen`] where the tag is this recipient's and the rest is not: a tag has 4 bytes and anyone who
    /// has the recipient can make one.
    pub fn unwrap(&self, stanza: &TaggedStanza) -> Result<Option<FileKey>, StanzaError> {
        if !stanza.is_for(self.0.public()) {
            return Ok(None);
        }
        let opened = hybrid::open_hpke::<ChaCha20Poly1305>(&self.0, AGE_INFO, b"", &stanza.enc, &stanza.body)
            .map_err(|_| StanzaError::DoesNotOpen)?;
        Secret::from_slice(opened.expose()).map(|key| Some(FileKey(key))).ok_or(StanzaError::DoesNotOpen)
    }
}

impl age::Identity for DatasetKey {
    fn unwrap_stanza(&self, stanza: &age_format::Stanza) -> Option<Result<age_format::FileKey, age::DecryptError>> {
        let arguments: Vec<&str> =
            std::iter::once(stanza.tag.as_str()).chain(stanza.args.iter().map(String::as_str)).collect();
        let unwrapped = match TaggedStanza::parse(&arguments, &stanza.body) {
            Ok(None) => return None,
            Ok(Some(stanza)) => self.unwrap(&stanza),
            Err(error) => Err(error),
        };
        match unwrapped {
            Ok(None) => None,
            Ok(Some(key)) => Some(Ok(key.into())),
            Err(StanzaError::DoesNotOpen) => Some(Err(age::DecryptError::DecryptionFailed)),
            Err(_) => Some(Err(age::DecryptError::InvalidHeader)),
        }
    }
}

/// The key of one age file.
#[derive(Debug, PartialEq, Eq)]
pub struct FileKey(Secret<16>);

impl FileKey {
    /// A file key that another library unwrapped.
    pub const fn new(key: Secret<16>) -> Self {
        Self(key)
    }

    /// The 16 bytes.
    pub fn expose(&self) -> &[u8; 16] {
        self.0.expose()
    }
}

impl From<FileKey> for age_format::FileKey {
    fn from(key: FileKey) -> Self {
        Self::init_with_mut(|out| out.copy_from_slice(key.expose()))
    }
}

/// A file key that was unwrapped elsewhere (by the embassy, under a lease): the crate age reads the file with it.
///
/// It answers to the one stanza it was unwrapped from, and to no other.
#[derive(Debug)]
pub struct UnwrappedStanza {
    stanza: TaggedStanza,
    key: FileKey,
}

impl UnwrappedStanza {
    /// Joins a stanza with the key that it wraps.
    pub const fn new(stanza: TaggedStanza, key: FileKey) -> Self {
        Self { stanza, key }
    }
}

impl age::Identity for UnwrappedStanza {
    fn unwrap_stanza(&self, stanza: &age_format::Stanza) -> Option<Result<age_format::FileKey, age::DecryptError>> {
        let arguments: Vec<&str> =
            std::iter::once(stanza.tag.as_str()).chain(stanza.args.iter().map(String::as_str)).collect();
        match TaggedStanza::parse(&arguments, &stanza.body) {
            Ok(Some(found)) if found == self.stanza => {
                Some(Ok(age_format::FileKey::init_with_mut(|out| out.copy_from_slice(self.key.expose()))))
            }
            _ => None,
        }
    }
}

/// Why a stanza of this kind was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StanzaError {
    /// Not exactly three arguments.
    #[error("a stanza {STANZA_KIND} has three arguments, not {found}")]
    Arguments {
        /// The number found.
        found: usize,
    },
    /// The second argument.
    #[error("the stanza's tag is not 4 bytes in canonical base64 without padding")]
    Tag,
    /// The third argument.
    #[error("the stanza's encapsulated key is not {ENCAPSULATED_BYTES} bytes in canonical base64 without padding")]
    Enc,
    /// The body has another length.
    #[error("the stanza's body has {found} bytes; {BODY_BYTES} are accepted")]
    Body {
        /// The length found.
        found: usize,
    },
    /// Addressed to this dataset, but not encrypted to it.
    #[error("the stanza carries this dataset's tag but does not open with its key: it was altered, or made in error")]
    DoesNotOpen,
}

/// A well-formed stanza `mlkem768p256tag`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaggedStanza {
    tag: [u8; 4],
    enc: Box<[u8; ENCAPSULATED_BYTES]>,
    body: [u8; BODY_BYTES],
}

impl TaggedStanza {
    /// Reads a stanza: all its arguments, the kind among them, and its decoded body. `None` for another kind.
    ///
    /// # Errors
    /// [`StanzaError`] for a stanza of this kind that is not exactly of the form that c2sp.org/age prescribes.
    pub fn parse(arguments: &[&str], body: &[u8]) -> Result<Option<Self>, StanzaError> {
        if arguments.first() != Some(&STANZA_KIND) {
            return Ok(None);
        }
        let &[_, tag, enc] = arguments else { return Err(StanzaError::Arguments { found: arguments.len() }) };
        let tag = base64_exact(tag).ok_or(StanzaError::Tag)?;
        let enc = base64_exact(enc).map(Box::new).ok_or(StanzaError::Enc)?;
        // Checked before anything is decrypted, against partitioning oracles.
        let body = body.try_into().map_err(|_| StanzaError::Body { found: body.len() })?;
        Ok(Some(Self { tag, enc, body }))
    }

    /// The encapsulated key.
    pub const fn enc(&self) -> &[u8; ENCAPSULATED_BYTES] {
        &self.enc
    }

    /// The wrapped file key: 16 bytes and the tag of ChaCha20-Poly1305.
    pub const fn body(&self) -> &[u8; BODY_BYTES] {
        &self.body
    }

    /// Its arguments as they stand in a file, the kind first.
    pub fn arguments(&self) -> [String; 3] {
        let encode = |bytes: &[u8]| BASE64_STANDARD_NO_PAD.encode(bytes);
        [STANZA_KIND.to_owned(), encode(&self.tag), encode(self.enc.as_slice())]
    }

    /// Whether the tag is that of `recipient`. A hint: it can be so by chance, or because somebody made it so.
    pub fn is_addressed_to(&self, recipient: &Recipient) -> bool {
        self.is_for(&recipient.0)
    }

    fn is_for(&self, recipient: &HybridPublicKey) -> bool {
        // Everything here is public.
        let point = Sha256::digest(recipient.point().encode_uncompressed());
        let mut input = self.enc.to_vec();
        input.extend(point.iter().take(4));
        let (tag, _) = Hkdf::<Sha256>::extract(Some(AGE_INFO), &input);
        tag.starts_with(&self.tag)
    }
}

/// Decodes unpadded base64 of exactly `N` bytes. The engine refuses padding and bits that an encoder leaves zero.
fn base64_exact<const N: usize>(text: &str) -> Option<[u8; N]> {
    // Bounded before it is decoded.
    if text.len() != N.saturating_mul(4).div_ceil(3) {
        return None;
    }
    BASE64_STANDARD_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// Why text is not a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipientError {
    /// Another length.
    #[error("a dataset's recipient has {RECIPIENT_CHARACTERS} characters, not {found}; copy it whole")]
    Length {
        /// The length found.
        found: usize,
    },
    /// Wrong characters or checksum.
    #[error("the recipient is mistyped or cut: its checksum is wrong; copy it again")]
    Checksum,
    /// Another kind of recipient.
    #[error("a dataset's recipient begins with age1tagpq1")]
    Prefix,
    /// Not the one way to write it.
    #[error("the recipient is not written as chancery writes it: in lower case, without leftover bits")]
    NotCanonical,
    /// The data is not a key.
    #[error(transparent)]
    Key(#[from] HybridError),
}

/// The public half of a dataset key: what agents encrypt to, written `age1tagpq1…`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Recipient(HybridPublicKey);

impl Recipient {
    /// The key.
    pub const fn key(&self) -> &HybridPublicKey {
        &self.0
    }
}

/// Bech32 (BIP 173) without its limit of 90 characters, as c2sp.org/age uses it.
enum LongBech32 {}

impl Checksum for LongBech32 {
    type MidstateRepr = <bech32::Bech32 as Checksum>::MidstateRepr;
    const CODE_LENGTH: usize = usize::MAX;
    const CHECKSUM_LENGTH: usize = bech32::Bech32::CHECKSUM_LENGTH;
    const GENERATOR_SH: [u32; 5] = bech32::Bech32::GENERATOR_SH;
    const TARGET_RESIDUE: u32 = bech32::Bech32::TARGET_RESIDUE;
}

impl std::fmt::Display for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        bech32::encode_lower_to_fmt::<LongBech32, _>(f, PREFIX, &self.0.encode()).map_err(|_| std::fmt::Error)
    }
}

impl std::fmt::Debug for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recipient({:?})", self.0)
    }
}

impl std::str::FromStr for Recipient {
    type Err = RecipientError;

    fn from_str(text: &str) -> Result<Self, RecipientError> {
        if !text.starts_with("age1tagpq1") && !text.starts_with("AGE1TAGPQ1") {
            return Err(RecipientError::Prefix);
        }
        if text.len() != RECIPIENT_CHARACTERS {
            return Err(RecipientError::Length { found: text.len() });
        }
        let parsed = CheckedHrpstring::new::<LongBech32>(text).map_err(|_| RecipientError::Checksum)?;
        let bytes: Vec<u8> = parsed.byte_iter().take(PUBLIC_KEY_BYTES.saturating_add(1)).collect();
        let recipient = Self(HybridPublicKey::decode(&bytes)?);
        // Catches upper case and bits left over in the last character, which the checksum covers but the key does not.
        if recipient.to_string() == text { Ok(recipient) } else { Err(RecipientError::NotCanonical) }
    }
}

impl Wire for Recipient {
    fn write(&self, out: &mut Writer) {
        self.0.write(out);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        HybridPublicKey::read(input).map(Self)
    }
}

#[cfg(test)]
mod tests;
