//! XAES-256-GCM (c2sp.org/XAES-256-GCM): AES-256-GCM under a key derived from a 256-bit key and half of a 192-bit nonce.
//!
//! The AEAD of COCKTAIL(P-256, SHA-256), without associated data. Keys and nonces come from the caller, who uses each pair
//! once.

use aes_gcm::{
    AeadInPlace, Aes256Gcm, KeyInit,
    aes::{Aes256, Block, cipher::BlockEncrypt},
};
use zeroize::{Zeroize, Zeroizing};

use crate::protocol::secret::{Secret, SecretVec};

/// Length of the tag that stands behind the ciphertext.
pub const TAG_BYTES: usize = 16;

/// The 24-byte nonce.
pub type Nonce = [u8; 24];

/// Encrypts `plaintext` in place and appends the tag. The plaintext is gone afterwards.
pub fn seal(key: &Secret<32>, nonce: &Nonce, mut plaintext: Zeroizing<Vec<u8>>) -> Vec<u8> {
    let (cipher, inner) = derive(key, nonce);
    // The only error of AES-GCM here is a plaintext over 64 GiB; an empty result is then refused by every reader.
    match cipher.encrypt_in_place_detached(&inner.into(), b"", plaintext.as_mut_slice()) {
        Ok(tag) => plaintext.iter().copied().chain(tag).collect(),
        Err(_) => Vec::new(),
    }
}

/// Decrypts; `None` where the tag does not fit.
pub fn open(key: &Secret<32>, nonce: &Nonce, ciphertext: &[u8]) -> Option<SecretVec> {
    let (cipher, inner) = derive(key, nonce);
    let (body, tag) = ciphertext.split_at_checked(ciphertext.len().checked_sub(TAG_BYTES)?)?;
    let tag: [u8; TAG_BYTES] = tag.try_into().ok()?;
    let mut plaintext = body.to_vec();
    match cipher.decrypt_in_place_detached(&inner.into(), b"", &mut plaintext, &tag.into()) {
        Ok(()) => Some(SecretVec::new(plaintext)),
        Err(_) => None,
    }
}

/// Steps 1 to 6 of the specification's key derivation.
fn derive(key: &Secret<32>, nonce: &Nonce) -> (Aes256Gcm, [u8; 12]) {
    let block_cipher = Aes256::new(key.expose().into());
    let mut mask = Block::default();
    block_cipher.encrypt_block(&mut mask);
    // L << 1, and the reduction polynomial where a bit fell out: without a branch, L is secret.
    let mut carry = 0;
    for byte in mask.iter_mut().rev() {
        let out = *byte >> 7;
        *byte = (*byte << 1) | carry;
        carry = out;
    }
    if let Some(last) = mask.last_mut() {
        *last ^= 0b1000_0111 & 0u8.wrapping_sub(carry);
    }
    let (head, tail) = nonce.split_at(12);
    let mut derived = Zeroizing::new([0; 32]);
    for (half, counter) in derived.chunks_exact_mut(16).zip([1, 2]) {
        let mut block = Block::default();
        let message = [0, counter, b'X', 0].into_iter().chain(head.iter().copied());
        block.iter_mut().zip(message).zip(&mask).for_each(|((out, byte), mask)| *out = byte ^ mask);
        block_cipher.encrypt_block(&mut block);
        half.copy_from_slice(&block);
        block.zeroize();
    }
    mask.zeroize();
    let mut inner = [0; 12];
    inner.copy_from_slice(tail);
    (<Aes256Gcm as KeyInit>::new((&*derived).into()), inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha3::{
        Shake128,
        digest::{ExtendableOutput, Update, XofReader},
    };

    #[test]
    fn the_specification_s_vectors_hold() {
        let key = Secret::from_slice(&[1; 32]).unwrap();
        let sealed = seal(&key, b"ABCDEFGHIJKLMNOPQRSTUVWX", Zeroizing::new(b"XAES-256-GCM".to_vec()));
        assert_eq!(hex::encode(&sealed), "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271");
        assert_eq!(open(&key, b"ABCDEFGHIJKLMNOPQRSTUVWX", &sealed).unwrap().expose(), b"XAES-256-GCM");
    }

    /// The specification's accumulated test has associated data too, which the DKG does not use: its derivation is checked
    /// with the cipher that [`derive`] returns.
    #[test]
    fn ten_thousand_random_seals_hash_as_published() {
        let mut stream = Shake128::default().finalize_xof();
        let mut hash = Shake128::default();
        let mut take = |count: usize| {
            let mut out = vec![0; count];
            stream.read(&mut out);
            out
        };
        for _ in 0..10_000 {
            let key = Secret::from_slice(&take(32)).unwrap();
            let nonce: Nonce = take(24).try_into().unwrap();
            let length = usize::from(take(1)[0]);
            let mut text = take(length);
            let length = usize::from(take(1)[0]);
            let aad = take(length);
            let (cipher, inner) = derive(&key, &nonce);
            let tag = cipher.encrypt_in_place_detached(&inner.into(), &aad, &mut text).unwrap();
            hash.update(&text);
            hash.update(&tag);
        }
        let mut out = [0; 32];
        hash.finalize_xof().read(&mut out);
        assert_eq!(hex::encode(out), "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939");
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_refused() {
        let (key, nonce) = (Secret::from_slice(&[3; 32]).unwrap(), [7; 24]);
        let sealed = seal(&key, &nonce, Zeroizing::new(b"share".to_vec()));
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(open(&key, &nonce, &bad).is_none(), "byte {at}");
            assert!(open(&key, &nonce, &sealed[..at]).is_none(), "cut at {at}");
        }
    }
}
