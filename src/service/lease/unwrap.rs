//! Unwrapping under a lease: a stanza goes in, its file key comes out, and the dataset's key stays where it lies.
//!
//! The same function as [`DatasetKey::unwrap`](crate::protocol::dataset::DatasetKey::unwrap), with the same answers and the
//! same refusals, on aws-lc: ML-KEM-768, P-256 and ChaCha20-Poly1305 from there, HPKE's key schedule (RFC 9180 §5.1, base
//! mode) written out here because its library takes no shared secret. A property test holds the two together. What aws-lc
//! allocates for a private key it wipes itself when it is freed.

use std::sync::LazyLock;

use aws_lc_rs::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    agreement::{self, ECDH_P256, UnparsedPublicKey},
    kem::{Ciphertext, DecapsulationKey, ML_KEM_768},
};
use hkdf::Hkdf;
use sha2::Sha256;

use crate::{
    protocol::{
        dataset::{AGE_INFO, FileKey, Recipient, StanzaError, TaggedStanza},
        hybrid::{encapsulation_halves, join_shared_secrets},
        secret::{Secret, without_trace_of},
    },
    service::arena::{ArenaError, Kept, LentKey},
};

/// How many stanzas are unwrapped in one go before whoever wants to wipe the key gets its turn: about a millisecond.
const AT_ONCE: usize = 8;
/// What aws-lc's decapsulation and our own functions take of the stack, and room.
const STACK_BYTES: usize = 64 * 1024;

/// RFC 9180 §7: HPKE with KEM 0x0050 (MLKEM768-P256), KDF 0x0001 (HKDF-SHA256), AEAD 0x0003 (ChaCha20-Poly1305).
const SUITE: [u8; 10] = *b"HPKE\x00\x50\x00\x01\x00\x03";
/// Base mode: mode_base ‖ psk_id_hash ‖ info_hash, the same for every stanza.
static SCHEDULE_CONTEXT: LazyLock<[u8; 65]> = LazyLock::new(|| {
    let mut context = [0; 65];
    for (place, (label, value)) in
        context[1..].chunks_exact_mut(32).zip([("psk_id_hash", &b""[..]), ("info_hash", AGE_INFO)])
    {
        let (hash, _) = labeled_extract(&[], label, value);
        place.copy_from_slice(&hash);
    }
    context
});

/// What became of one stanza.
pub type Unwrapped = Result<Option<FileKey>, StanzaError>;

/// Unwraps stanzas with a kept key: `Ok(None)` where one is for another recipient.
///
/// # Errors
/// [`ArenaError::Wiped`] where the lease ended before the last of them; nothing is given out then.
pub fn unwrap(kept: &Kept, stanzas: &[TaggedStanza]) -> Result<Vec<Unwrapped>, ArenaError> {
    let mut unwrapped = Vec::with_capacity(stanzas.len());
    for some in stanzas.chunks(AT_ONCE) {
        let keys = kept.lend(|key| {
            without_trace_of::<STACK_BYTES, _>(|| {
                let open = Open::new(key);
                some.iter().map(|stanza| open.unwrap(stanza)).collect::<Vec<_>>()
            })
        })?;
        unwrapped.extend(keys);
    }
    Ok(unwrapped)
}

/// A kept key as aws-lc takes it, for as long as it is lent.
struct Open<'a> {
    recipient: &'a Recipient,
    keys: Option<(DecapsulationKey, agreement::PrivateKey)>,
}

impl<'a> Open<'a> {
    fn new(key: &LentKey<'a>) -> Self {
        let ml_kem = DecapsulationKey::new(&ML_KEM_768, key.keys().expose_ml_kem());
        let p256 = agreement::PrivateKey::from_private_key(&ECDH_P256, key.keys().expose_p256());
        Self { recipient: key.recipient(), keys: ml_kem.ok().zip(p256.ok()) }
    }

    fn unwrap(&self, stanza: &TaggedStanza) -> Unwrapped {
        if !stanza.is_addressed_to(self.recipient) {
            return Ok(None);
        }
        self.decapsulate(stanza)
            .and_then(|shared| open_body(&shared, stanza.body()))
            .map(|key| Some(FileKey::new(key)))
            .ok_or(StanzaError::DoesNotOpen)
    }

    fn decapsulate(&self, stanza: &TaggedStanza) -> Option<Secret<32>> {
        let (ml_kem, p256) = self.keys.as_ref()?;
        let (ciphertext, point) = encapsulation_halves(stanza.enc())?;
        let of_ml_kem = ml_kem.decapsulate(Ciphertext::from(ciphertext.as_slice())).ok()?;
        let peer = UnparsedPublicKey::new(&ECDH_P256, point);
        let x = agreement::agree(p256, peer, (), |x| Secret::from_slice(x).ok_or(())).ok()?;
        Some(join_shared_secrets(of_ml_kem.as_ref(), &x, point, self.recipient.key()))
    }
}

/// HPKE's OpenBase behind the decapsulation, for one message.
fn open_body(shared: &Secret<32>, body: &[u8; 32]) -> Option<Secret<16>> {
    let (_, secret) = labeled_extract(shared.expose(), "secret", b"");
    let (mut key, mut nonce) = (Secret::<32>::zeroed(), [0; 12]);
    labeled_expand(&secret, "key", key.expose_mut())?;
    labeled_expand(&secret, "base_nonce", &mut nonce)?;
    let aead = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key.expose()).ok()?);
    let mut opened = Secret::<32>::zeroed();
    opened.expose_mut().copy_from_slice(body);
    let file_key = aead.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::empty(), opened.expose_mut()).ok()?;
    Secret::from_slice(file_key)
}

/// RFC 9180 §4: LabeledExtract.
fn labeled_extract(salt: &[u8], label: &str, value: &[u8]) -> ([u8; 32], Hkdf<Sha256>) {
    let mut extract = hkdf::HkdfExtract::<Sha256>::new(Some(salt));
    for part in [b"HPKE-v1".as_slice(), &SUITE, label.as_bytes(), value] {
        extract.input_ikm(part);
    }
    let (hash, hkdf) = extract.finalize();
    (hash.into(), hkdf)
}

/// RFC 9180 §4: LabeledExpand, with the schedule's context as info.
fn labeled_expand(secret: &Hkdf<Sha256>, label: &str, out: &mut [u8]) -> Option<()> {
    let length = u16::try_from(out.len()).ok()?.to_be_bytes();
    let info: [&[u8]; 5] = [&length, b"HPKE-v1", &SUITE, label.as_bytes(), SCHEDULE_CONTEXT.as_slice()];
    secret.expand_multi_info(&info, out).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use age::Recipient as _;
    use age_core::format as age_format;
    use proptest::prelude::*;
    use rand_core::OsRng;

    use super::*;
    use crate::{
        protocol::{dataset::DatasetSeed, hybrid::ENCAPSULATED_BYTES},
        service::arena::Arena,
    };

    /// A stanza as stock age makes it, taken apart.
    fn stanza(recipient: &Recipient, file_key: [u8; 16]) -> (String, Vec<u8>, Vec<u8>) {
        let stock: age::tagpq::Recipient = recipient.to_string().parse().unwrap();
        let file_key = age_format::FileKey::new(Box::new(file_key));
        let (stanzas, _) = stock.wrap_file_key(&file_key).unwrap();
        let enc = decode(&stanzas[0].args[1]);
        (stanzas[0].args[0].clone(), enc, stanzas[0].body.clone())
    }

    fn decode(text: &str) -> Vec<u8> {
        use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
        BASE64_STANDARD_NO_PAD.decode(text).unwrap()
    }

    /// Puts a stanza together; the tag is that of (enc, recipient), whatever enc is.
    fn addressed(recipient: &Recipient, enc: &[u8], body: &[u8]) -> TaggedStanza {
        use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
        use sha2::Digest;
        let point = Sha256::digest(recipient.key().point().encode_uncompressed());
        let (tag, _) = Hkdf::<Sha256>::extract(Some(AGE_INFO), &[enc, &point[..4]].concat());
        let encode = |bytes: &[u8]| BASE64_STANDARD_NO_PAD.encode(bytes);
        TaggedStanza::parse(&["mlkem768p256tag", &encode(&tag[..4]), &encode(enc)], body).unwrap().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// The embassy's path and the portable one are one function: same file keys, same refusals.
        #[test]
        fn both_paths_give_the_same_answer_to_every_stanza(
            file_key: [u8; 16],
            at in 0..ENCAPSULATED_BYTES + 32,
            bit in 0..8_u8,
            form in prop::sample::select(vec![0_u8, 2, 3, 4, 5, 6, 7, 0xff]),
        ) {
            let (seed, other) = (DatasetSeed::random(&mut OsRng), DatasetSeed::random(&mut OsRng));
            let (portable, recipient) = (seed.key(), seed.key().recipient());
            let kept = Arena::new(1).unwrap().keep(seed).unwrap();

            let (_, enc, body) = stanza(&recipient, file_key);
            let good = addressed(&recipient, &enc, &body);
            // One bit anywhere, in enc or in the body; another form of the point; a point off the curve; another's stanza.
            let (mut changed_enc, mut changed_body) = (enc.clone(), body.clone());
            match at.checked_sub(ENCAPSULATED_BYTES) {
                None => changed_enc[at] ^= 1 << bit,
                Some(at) => changed_body[at] ^= 1 << bit,
            }
            let mut formed = enc.clone();
            formed[1088] = form;
            let mut origin = enc.clone();
            origin[1089..].fill(0);
            let (_, foreign_enc, foreign_body) = stanza(&other.key().recipient(), file_key);
            let stanzas = [
                good,
                addressed(&recipient, &changed_enc, &changed_body),
                addressed(&recipient, &formed, &body),
                addressed(&recipient, &origin, &body),
                addressed(&recipient, &foreign_enc, &foreign_body),
                addressed(&other.key().recipient(), &foreign_enc, &foreign_body),
            ];
            let fast = unwrap(&kept, &stanzas).unwrap();
            for (index, (stanza, fast)) in stanzas.iter().zip(&fast).enumerate() {
                prop_assert_eq!(fast, &portable.unwrap(stanza), "stanza {}", index);
            }
            prop_assert_eq!(fast[0].as_ref().unwrap().as_ref().unwrap().expose(), &file_key);
            prop_assert_eq!(fast[1].as_ref(), Err(&StanzaError::DoesNotOpen));
            prop_assert_eq!(fast[5].as_ref(), Ok(&None));
        }
    }

    #[test]
    fn a_batch_whose_key_is_wiped_gives_nothing() {
        let seed = DatasetSeed::random(&mut OsRng);
        let recipient = seed.key().recipient();
        let (_, enc, body) = stanza(&recipient, [1; 16]);
        let kept = Arena::new(1).unwrap().keep(seed).unwrap();
        let stanzas = vec![addressed(&recipient, &enc, &body); 20];
        assert_eq!(unwrap(&kept, &stanzas).unwrap().len(), 20);
        kept.wipe();
        assert_eq!(unwrap(&kept, &stanzas).unwrap_err(), ArenaError::Wiped);
    }
}
