//! The hybrid KEM MLKEM768-P256 and HPKE over it: what protects against both a broken P-256 and a broken ML-KEM.
//!
//! The KEM is that of draft-ietf-hpke-pq and draft-irtf-cfrg-concrete-hybrid-kems (KEM id 0x0050): the private key is a
//! 32-byte seed, the public key is an ML-KEM-768 encapsulation key (FIPS 203) followed by an uncompressed P-256 point, and
//! the shared secret hashes both halves. HPKE is base mode (RFC 9180) with HKDF-SHA256: AES-256-GCM for what chancery seals
//! itself, and ChaCha20-Poly1305 where age fixes it. Trusts the crates hpke, ml-kem and p256. protocol.md §6 and §7.

mod expanded;

use std::sync::Arc;

pub use expanded::{EXPANDED_BYTES, ExpandedKey, ML_KEM_SECRET_BYTES, encapsulation_halves, join_shared_secrets};
use hpke::{
    Deserializable, HpkeError, Kem, OpModeR, OpModeS, Serializable,
    aead::{Aead, AesGcm256},
    generic_array::{
        GenericArray,
        typenum::{Sum, U32, U129, U225, U1024},
    },
    kdf::HkdfSha256,
    kem::SharedSecret,
};
use ml_kem::{
    EncapsulateDeterministic, EncodedSizeUser, KemCore, MlKem768,
    kem::{Decapsulate, DecapsulationKey, EncapsulationKey},
};
use rand_core::{CryptoRng, RngCore};
use sha3::{
    Sha3_256, Shake256,
    digest::{ExtendableOutput, FixedOutput, Update, XofReader},
};
use zeroize::Zeroize;

use crate::protocol::{
    group::Point,
    label::Label,
    secret::{Secret, SecretScalar, SecretVec, SharedPoint},
    wire::{Reader, Wire, WireError, Writer},
};

/// Length of a public key: ML-KEM-768 encapsulation key, then the P-256 point, SEC 1 uncompressed.
pub const PUBLIC_KEY_BYTES: usize = ML_KEM_KEY_BYTES + POINT_BYTES;
/// Length of an encapsulation (HPKE's `enc`): ML-KEM-768 ciphertext, then the ephemeral P-256 point, SEC 1 uncompressed.
pub const ENCAPSULATED_BYTES: usize = ML_KEM_CIPHERTEXT_BYTES + POINT_BYTES;
/// How much longer a sealed message is than its plaintext: the encapsulation and the AEAD's tag.
pub const SEAL_OVERHEAD_BYTES: usize = ENCAPSULATED_BYTES + 16;

pub(crate) const ML_KEM_KEY_BYTES: usize = 1184;
const ML_KEM_CIPHERTEXT_BYTES: usize = 1088;
const POINT_BYTES: usize = 65;
const KEM_LABEL: &[u8] = b"MLKEM768-P256";

type MlKemSecret = DecapsulationKey<ml_kem::MlKem768Params>;
type MlKemPublic = EncapsulationKey<ml_kem::MlKem768Params>;

/// Why a hybrid key or message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HybridError {
    /// The public key has another length.
    #[error("a hybrid public key has {PUBLIC_KEY_BYTES} bytes, not {found}")]
    KeyLength {
        /// The length found.
        found: usize,
    },
    /// The ML-KEM half has a coefficient that is not reduced (FIPS 203 §7.2, modulus check).
    #[error("the ML-KEM half of the public key is not one that key generation makes; ask its owner for the key again")]
    MlKemKey,
    /// The P-256 half is not an uncompressed point of the curve.
    #[error("the P-256 half of the public key is not a point of the curve; ask its owner for the key again")]
    PointHalf,
    /// The message is shorter than the encapsulation and tag it must have.
    #[error("a sealed message has at least {SEAL_OVERHEAD_BYTES} bytes, not {found}")]
    TooShort {
        /// The length found.
        found: usize,
    },
    /// The message does not open: made for another key or another context, or altered.
    #[error("the message was not sealed to this key in this context, or was altered")]
    Open,
    /// The plaintext is longer than the AEAD takes.
    #[error("the message cannot be sealed: it is too long")]
    Seal,
}

/// The private half: 32 bytes, from which everything else is computed. Wiped when dropped.
pub struct HybridSecretKey(KemSecret);

impl HybridSecretKey {
    /// Expands a seed. Every 32 bytes are a private key.
    pub fn from_seed(seed: Secret<32>) -> Self {
        Self(KemSecret(Arc::new(Expanded::new(seed))))
    }

    /// A fresh key.
    pub fn random(rng: &mut (impl RngCore + CryptoRng)) -> Self {
        Self::from_seed(Secret::random(rng))
    }

    /// The public half.
    pub fn public(&self) -> &HybridPublicKey {
        &self.0.0.public
    }

    /// The seed, to be stored encrypted.
    pub fn seed(&self) -> &Secret<32> {
        &self.0.0.seed
    }
}

impl std::fmt::Debug for HybridSecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HybridSecretKey(redacted)")
    }
}

/// The public half. A value of this type has passed the modulus check and holds a point of the curve.
#[derive(Clone, PartialEq, Eq)]
pub struct HybridPublicKey {
    ml_kem: Box<[u8; ML_KEM_KEY_BYTES]>,
    point: Point,
}

impl HybridPublicKey {
    /// Reads the 1,249 bytes of [`HybridPublicKey::encode`].
    ///
    /// # Errors
    /// [`HybridError`] for another length, an ML-KEM half that is not reduced, or a half that is not a point.
    pub fn decode(bytes: &[u8]) -> Result<Self, HybridError> {
        let wrong = HybridError::KeyLength { found: bytes.len() };
        let (ml_kem, point) = bytes.split_first_chunk::<ML_KEM_KEY_BYTES>().ok_or(wrong)?;
        let point: &[u8; POINT_BYTES] = point.try_into().map_err(|_| wrong)?;
        if !is_reduced(ml_kem) {
            return Err(HybridError::MlKemKey);
        }
        let point = read_uncompressed(point).ok_or(HybridError::PointHalf)?;
        Ok(Self { ml_kem: Box::new(*ml_kem), point })
    }

    /// ML-KEM-768 encapsulation key, then the P-256 point, uncompressed.
    pub fn encode(&self) -> [u8; PUBLIC_KEY_BYTES] {
        let mut out = [0; PUBLIC_KEY_BYTES];
        let (ml_kem, point) = out.split_at_mut(ML_KEM_KEY_BYTES);
        ml_kem.copy_from_slice(self.ml_kem.as_slice());
        point.copy_from_slice(&self.point.encode_uncompressed());
        out
    }

    /// Whether either half is the same, a point's sign aside: then one holder could open for both.
    pub fn shares_a_half_with(&self, other: &Self) -> bool {
        self.ml_kem == other.ml_kem || self.point.equals_up_to_sign(&other.point)
    }

    /// The P-256 half.
    pub const fn point(&self) -> &Point {
        &self.point
    }
}

impl std::fmt::Debug for HybridPublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The P-256 half tells keys apart; 2,400 more digits would hide the rest of a message.
        write!(f, "HybridPublicKey({:?}, ..)", self.point)
    }
}

impl std::hash::Hash for HybridPublicKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.encode().hash(state);
    }
}

impl Wire for HybridPublicKey {
    fn write(&self, out: &mut Writer) {
        out.raw(&self.encode());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Self::decode(input.raw(PUBLIC_KEY_BYTES, "hybrid public key")?)
            .map_err(|_| WireError::Invalid { field: "hybrid public key", reason: "not an MLKEM768-P256 public key" })
    }
}

/// Seals `plaintext` to one key: HPKE base mode with AES-256-GCM, info = label and context. Gives `enc ‖ ciphertext`,
/// [`SEAL_OVERHEAD_BYTES`] longer than the plaintext.
///
/// The result depends on nothing but the arguments and the bytes drawn from `rng`.
///
/// # Errors
/// [`HybridError::Seal`] for a plaintext over AES-GCM's bound of 64 GiB.
pub fn seal(
    to: &HybridPublicKey,
    label: Label,
    context: &[u8],
    aad: &[u8],
    plaintext: &[u8],
    rng: &mut (impl RngCore + CryptoRng),
) -> Result<Vec<u8>, HybridError> {
    let (enc, ciphertext) = hpke::single_shot_seal::<AesGcm256, HkdfSha256, MlKem768P256, _>(
        &OpModeS::Base,
        to,
        &info(label, context),
        plaintext,
        aad,
        rng,
    )
    .map_err(|_| HybridError::Seal)?;
    let mut sealed = Vec::with_capacity(ENCAPSULATED_BYTES.saturating_add(ciphertext.len()));
    sealed.extend_from_slice(enc.0.as_slice());
    sealed.extend_from_slice(&ciphertext);
    Ok(sealed)
}

/// Opens what [`seal`] made for this key under the same label, context and aad.
///
/// # Errors
/// [`HybridError::TooShort`] and [`HybridError::Open`].
pub fn open(
    key: &HybridSecretKey,
    label: Label,
    context: &[u8],
    aad: &[u8],
    sealed: &[u8],
) -> Result<SecretVec, HybridError> {
    let wrong = HybridError::TooShort { found: sealed.len() };
    if sealed.len() < SEAL_OVERHEAD_BYTES {
        return Err(wrong);
    }
    let (enc, ciphertext) = sealed.split_first_chunk::<ENCAPSULATED_BYTES>().ok_or(wrong)?;
    open_hpke::<AesGcm256>(key, &info(label, context), aad, enc, ciphertext)
}

/// HPKE OpenBase with HKDF-SHA256, for the info of a foreign standard.
pub(crate) fn open_hpke<A: Aead>(
    key: &HybridSecretKey,
    info: &[u8],
    aad: &[u8],
    enc: &[u8; ENCAPSULATED_BYTES],
    ciphertext: &[u8],
) -> Result<SecretVec, HybridError> {
    let enc = Encapsulated(Box::new(*enc));
    hpke::single_shot_open::<A, HkdfSha256, MlKem768P256>(&OpModeR::Base, &key.0, &enc, info, ciphertext, aad)
        .map(SecretVec::new)
        .map_err(|_| HybridError::Open)
}

fn info(label: Label, context: &[u8]) -> Vec<u8> {
    let mut info = Writer::new();
    info.label(label).bytes(context);
    info.finish()
}

/// FIPS 203 §7.2: all coefficients, packed as pairs of 12 bits in 3 bytes, are below q. The last 32 bytes are a seed and
/// may be anything.
fn is_reduced(key: &[u8; ML_KEM_KEY_BYTES]) -> bool {
    const Q: u16 = 3329;
    let (packed, _seed) = key.split_at(ML_KEM_KEY_BYTES - 32);
    packed.as_chunks::<3>().0.iter().all(|&[low, middle, high]| {
        let first = u16::from(low) | (u16::from(middle & 0x0f) << 8);
        let second = u16::from(middle >> 4) | (u16::from(high) << 4);
        first < Q && second < Q
    })
}

fn read_uncompressed(bytes: &[u8; POINT_BYTES]) -> Option<Point> {
    let (&tag, xy) = bytes.split_first()?;
    let (x, y) = xy.split_first_chunk::<32>()?;
    if tag == 4 { Point::from_xy(x, y.try_into().ok()?).ok() } else { None }
}

/// A seed with everything computed from it.
struct Expanded {
    seed: Secret<32>,
    ml_kem: MlKemSecret,
    p256: SecretScalar,
    public: HybridPublicKey,
}

impl Expanded {
    fn new(seed: Secret<32>) -> Self {
        let mut stream = Shake256::default().chain(seed.expose()).finalize_xof();
        let (mut d, mut z) = (Secret::<32>::zeroed(), Secret::<32>::zeroed());
        stream.read(d.expose_mut());
        stream.read(z.expose_mut());
        let (mut d_array, mut z_array) = ((*d.expose()).into(), (*z.expose()).into());
        let (ml_kem, ml_kem_public) = MlKem768::generate_deterministic(&d_array, &z_array);
        wipe(&mut d_array);
        wipe(&mut z_array);
        // The first candidate below the group order wins. The draft gives up after four; no seed that anyone can find
        // needs a fifth (each candidate is refused with probability 2^-32), and reading on keeps this function total.
        let p256 = loop {
            let mut candidate = Secret::zeroed();
            stream.read(candidate.expose_mut());
            if let Some(scalar) = SecretScalar::from_bytes(&candidate) {
                break scalar;
            }
        };
        let public = HybridPublicKey {
            ml_kem: Box::new(ml_kem_public.as_bytes().into()),
            point: Point::mul_generator(p256.expose()),
        };
        Self { seed, ml_kem, p256, public }
    }
}

fn wipe(array: &mut ml_kem::B32) {
    array.as_mut_slice().zeroize();
}

/// The KEM, as the crate hpke takes it. It asks for `Clone`, which here shares the key instead of copying it.
#[derive(Clone)]
pub(crate) struct KemSecret(Arc<Expanded>);

impl PartialEq for KemSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.seed == other.0.seed
    }
}

impl Eq for KemSecret {}

impl Serializable for KemSecret {
    type OutputSize = U32;
    fn write_exact(&self, out: &mut [u8]) {
        out.copy_from_slice(self.0.seed.expose());
    }
}

impl Deserializable for KemSecret {
    fn from_bytes(bytes: &[u8]) -> Result<Self, HpkeError> {
        let seed = Secret::from_slice(bytes).ok_or(HpkeError::IncorrectInputLength(32, bytes.len()))?;
        Ok(Self(Arc::new(Expanded::new(seed))))
    }
}

impl Serializable for HybridPublicKey {
    type OutputSize = Sum<U1024, U225>;
    fn write_exact(&self, out: &mut [u8]) {
        out.copy_from_slice(&self.encode());
    }
}

impl Deserializable for HybridPublicKey {
    fn from_bytes(bytes: &[u8]) -> Result<Self, HpkeError> {
        Self::decode(bytes).map_err(|_| HpkeError::ValidationError)
    }
}

/// HPKE's `enc`. Its point is checked by the decapsulation.
#[derive(Clone)]
pub(crate) struct Encapsulated(Box<[u8; ENCAPSULATED_BYTES]>);

impl Serializable for Encapsulated {
    type OutputSize = Sum<U1024, U129>;
    fn write_exact(&self, out: &mut [u8]) {
        out.copy_from_slice(self.0.as_slice());
    }
}

impl Deserializable for Encapsulated {
    fn from_bytes(bytes: &[u8]) -> Result<Self, HpkeError> {
        let exact = bytes.try_into().map_err(|_| HpkeError::IncorrectInputLength(ENCAPSULATED_BYTES, bytes.len()))?;
        Ok(Self(Box::new(exact)))
    }
}

pub(crate) struct MlKem768P256;

impl Kem for MlKem768P256 {
    type PublicKey = HybridPublicKey;
    type PrivateKey = KemSecret;
    type EncappedKey = Encapsulated;
    type NSecret = U32;
    const KEM_ID: u16 = 0x0050;

    fn sk_to_pk(key: &KemSecret) -> HybridPublicKey {
        key.0.public.clone()
    }

    /// draft-ietf-hpke-pq: the seed is SHAKE256's LabeledDerive of the input. Dataset keys do not come this way: their
    /// seed is the private key itself.
    fn derive_keypair(input: &[u8]) -> (KemSecret, HybridPublicKey) {
        const NAME: &[u8] = b"DeriveKeyPair";
        let mut seed = Secret::zeroed();
        Shake256::default()
            .chain(input)
            .chain(b"HPKE-v1KEM")
            .chain(Self::KEM_ID.to_be_bytes())
            .chain((NAME.len() as u16).to_be_bytes())
            .chain(NAME)
            .chain(32_u16.to_be_bytes())
            .finalize_xof()
            .read(seed.expose_mut());
        let key = KemSecret(Arc::new(Expanded::new(seed)));
        let public = Self::sk_to_pk(&key);
        (key, public)
    }

    fn decap(
        key: &KemSecret,
        sender: Option<&HybridPublicKey>,
        enc: &Encapsulated,
    ) -> Result<SharedSecret<Self>, HpkeError> {
        // The KEM has no authenticated mode.
        if sender.is_some() {
            return Err(HpkeError::DecapError);
        }
        let (ciphertext, point) = enc.0.split_first_chunk::<ML_KEM_CIPHERTEXT_BYTES>().ok_or(HpkeError::DecapError)?;
        let point: &[u8; POINT_BYTES] = point.try_into().map_err(|_| HpkeError::DecapError)?;
        let ephemeral = read_uncompressed(point).ok_or(HpkeError::DecapError)?;
        let mut ml_kem = key.0.ml_kem.decapsulate(&(*ciphertext).into()).map_err(|()| HpkeError::DecapError)?;
        let x = SharedPoint::take(&mut ephemeral.mul(key.0.p256.expose())).x();
        let shared = combine(&ml_kem, &x, point, &key.0.public.point.encode_uncompressed());
        wipe(&mut ml_kem);
        Ok(shared)
    }

    fn encap<R: CryptoRng + RngCore>(
        to: &HybridPublicKey,
        sender: Option<(&KemSecret, &HybridPublicKey)>,
        rng: &mut R,
    ) -> Result<(SharedSecret<Self>, Encapsulated), HpkeError> {
        if sender.is_some() {
            return Err(HpkeError::EncapError);
        }
        let mut coins: ml_kem::B32 = [0; 32].into();
        rng.fill_bytes(&mut coins);
        let key = MlKemPublic::from_bytes(&(*to.ml_kem).into());
        let (ciphertext, mut ml_kem) = key.encapsulate_deterministic(&coins).map_err(|()| HpkeError::EncapError)?;
        wipe(&mut coins);
        let ephemeral = SecretScalar::random(rng);
        let point = Point::mul_generator(ephemeral.expose()).encode_uncompressed();
        let x = SharedPoint::take(&mut to.point.mul(ephemeral.expose())).x();
        let shared = combine(&ml_kem, &x, &point, &to.point.encode_uncompressed());
        wipe(&mut ml_kem);
        let mut enc = Box::new([0; ENCAPSULATED_BYTES]);
        let (first, second) = enc.split_at_mut(ML_KEM_CIPHERTEXT_BYTES);
        first.copy_from_slice(&ciphertext);
        second.copy_from_slice(&point);
        Ok((shared, Encapsulated(enc)))
    }
}

/// SHA3-256 over both shared secrets, the P-256 half of the encapsulation and of the public key, and the KEM's label.
fn combine(
    ml_kem: &[u8],
    x: &Secret<32>,
    ephemeral: &[u8; POINT_BYTES],
    recipient: &[u8; POINT_BYTES],
) -> SharedSecret<MlKem768P256> {
    let mut shared = SharedSecret(GenericArray::default());
    Sha3_256::default()
        .chain(ml_kem)
        .chain(x.expose())
        .chain(ephemeral)
        .chain(recipient)
        .chain(KEM_LABEL)
        .finalize_into(&mut shared.0);
    shared
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::hash::Hash;
    use hpke::aead::AesGcm128;
    use rand_core::OsRng;

    /// Gives out fixed bytes once.
    struct Fixed(std::vec::IntoIter<u8>);

    impl RngCore for Fixed {
        fn next_u32(&mut self) -> u32 {
            rand_core::impls::next_u32_via_fill(self)
        }
        fn next_u64(&mut self) -> u64 {
            rand_core::impls::next_u64_via_fill(self)
        }
        fn fill_bytes(&mut self, out: &mut [u8]) {
            out.iter_mut().for_each(|byte| *byte = self.0.next().expect("no randomness is left"));
        }
        fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rand_core::Error> {
            self.fill_bytes(out);
            Ok(())
        }
    }

    impl CryptoRng for Fixed {}

    /// draft-ietf-hpke-pq's vector for MLKEM768-P256, HKDF-SHA256, AES-128-GCM: long values by their SHA-256.
    #[test]
    fn the_drafts_vector_comes_out() {
        let bytes = |text: &str| hex::decode(text).unwrap();
        let (key, public) =
            MlKem768P256::derive_keypair(&bytes("5e28a96731c6665f07bb00811cd70f0d3d6c44666ca54cddbb7e5946053b6415"));
        assert_eq!(hex::encode(key.to_bytes()), "724eed44c3843d1f260f79b142ce633d602f7989a53ffc9fd4a68690c8e7baa5");
        assert_eq!(
            Hash::of_bytes(&public.encode()).to_string(),
            "f1e1000a59e126ef85a7b85720c2d24bc10c2412db23e2120ef44cfae64abec2"
        );
        let coins = "0ec0fee6a71457a9dac898a1c161bf1068e68de093f07754155bb8b8b378c17ed09ead96300cc402a6371b58928592dd\
                     93565834a19839e7dda048d8e04ff65c7b645f36738c370fbb2d684f59e16ea08aea04444762fdf3a70a114ecf0ba435\
                     c9a1e869578142b445398f49093bcca618f0ae5e810163b1503faf3eeaff0bdc";
        let (shared, enc) = MlKem768P256::encap(&public, None, &mut Fixed(bytes(coins).into_iter())).unwrap();
        assert_eq!(
            Hash::of_bytes(enc.0.as_slice()).to_string(),
            "6959c57471177c588d3ef3558c83602c9769a40fdce9e51dd70435458aebfcf7"
        );
        let expected = "26c25e807a24354387a7385bc374953539001fcb7eb99eb8d63ec7fdb8441f46";
        assert_eq!(hex::encode(shared.0), expected);
        assert_eq!(hex::encode(MlKem768P256::decap(&key, None, &enc).unwrap().0), expected);
        let opened = open_hpke::<AesGcm128>(
            &HybridSecretKey(key),
            b"4f6465206f6e2061204772656369616e2055726e",
            b"Count-0",
            &enc.0,
            &bytes(
                "766437e462397ec6d4b78c755a6f41cce023100641c04102fe935b1495cba6aa31323a97af05190a024bd0718581d48c71ff69\
                 d06523f6127ffb8f0cffde5b0bc0986fba65bfbbd6c7ff",
            ),
        );
        assert_eq!(opened.unwrap().expose(), b"4265617574792069732074727574682c20747275746820626561757479");
    }

    #[test]
    fn only_the_same_key_label_context_and_aad_open() {
        let key = HybridSecretKey::random(&mut OsRng);
        let sealed = seal(key.public(), Label::SLOT_SHARE, b"context", b"aad", b"share", &mut OsRng).unwrap();
        assert_eq!(sealed.len(), 5 + SEAL_OVERHEAD_BYTES);
        assert_eq!(open(&key, Label::SLOT_SHARE, b"context", b"aad", &sealed).unwrap().expose(), b"share");
        let other = HybridSecretKey::random(&mut OsRng);
        let refused = Some(HybridError::Open);
        assert_eq!(open(&other, Label::SLOT_SHARE, b"context", b"aad", &sealed).err(), refused);
        assert_eq!(open(&key, Label::CONTRIBUTION_SEAL, b"context", b"aad", &sealed).err(), refused);
        assert_eq!(open(&key, Label::SLOT_SHARE, b"contexts", b"aad", &sealed).err(), refused);
        assert_eq!(open(&key, Label::SLOT_SHARE, b"context", b"", &sealed).err(), refused);
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_refused() {
        let key = HybridSecretKey::random(&mut OsRng);
        let sealed = seal(key.public(), Label::SLOT_SHARE, b"", b"", b"w", &mut OsRng).unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1 << (at % 8);
            assert_eq!(open(&key, Label::SLOT_SHARE, b"", b"", &changed).err(), Some(HybridError::Open), "byte {at}");
        }
        for end in [0, 1, ENCAPSULATED_BYTES, SEAL_OVERHEAD_BYTES - 1] {
            let error = open(&key, Label::SLOT_SHARE, b"", b"", &sealed[..end]).unwrap_err();
            assert_eq!(error, HybridError::TooShort { found: end });
        }
        assert!(open(&key, Label::SLOT_SHARE, b"", b"", &sealed[..SEAL_OVERHEAD_BYTES]).is_err());
    }

    #[test]
    fn one_seed_gives_one_key_and_equal_coins_give_equal_bytes() {
        let key = HybridSecretKey::random(&mut OsRng);
        let again = HybridSecretKey::from_seed(Secret::take(&mut key.seed().expose().to_owned()));
        assert_eq!(again.public(), key.public());
        let coins = || Fixed([7; 128].to_vec().into_iter());
        let sealed = |rng| seal(key.public(), Label::SLOT_SHARE, b"", b"", b"w", &mut { rng }).unwrap();
        assert_eq!(sealed(coins()), sealed(coins()));
        assert_eq!(format!("{key:?}"), "HybridSecretKey(redacted)");
    }

    #[test]
    fn only_public_keys_that_could_exist_are_read() {
        let good = HybridSecretKey::random(&mut OsRng).public().encode();
        assert_eq!(HybridPublicKey::decode(&good).unwrap().encode(), good);
        for length in [0, 1184, 1248] {
            assert_eq!(HybridPublicKey::decode(&good[..length]), Err(HybridError::KeyLength { found: length }));
        }
        // The first coefficient, then the last, set to q = 0xd01 and to the largest 12-bit number.
        for (first, last) in [([0x01, 0x0d], [0x10, 0xd0]), ([0xff, 0x0f], [0xf0, 0xff])] {
            let mut bad = good;
            bad[0] = first[0];
            bad[1] = (bad[1] & 0xf0) | first[1];
            assert_eq!(HybridPublicKey::decode(&bad), Err(HybridError::MlKemKey));
            let mut bad = good;
            bad[1150] = (bad[1150] & 0x0f) | last[0];
            bad[1151] = last[1];
            assert_eq!(HybridPublicKey::decode(&bad), Err(HybridError::MlKemKey));
        }
        for (at, value) in [(1184, 0), (1184, 2), (1184, 5), (1248, good[1248] ^ 1)] {
            let mut bad = good;
            bad[at] = value;
            assert_eq!(HybridPublicKey::decode(&bad), Err(HybridError::PointHalf), "byte {at} = {value}");
        }
        let mut identity = good;
        identity[1184..].fill(0);
        assert_eq!(HybridPublicKey::decode(&identity), Err(HybridError::PointHalf));
    }
}
