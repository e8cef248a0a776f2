//! The slot's inner encryption: the seed under a key that needs Z_Y, Z_T (except for recovery) and w, all of them.

use aes_gcm::{AeadInPlace, Aes256Gcm, KeyInit};

use crate::protocol::{
    group::Point,
    hash::derive,
    label::Label,
    secret::{Secret, SharedPoint},
    slot::{SlotContext, share::W},
    wire::Writer,
};

/// The encrypted seed and its tag.
pub(super) const CIPHERTEXT_BYTES: usize = 48;

/// One key encrypts one seed, ever: it is derived from the context, from C, and from values that are themselves derived
/// from that seed. So the nonce can be constant.
const NONCE: [u8; 12] = [0; 12];

/// KEK = HKDF(Z_Y.x ‖ Z_T.x ‖ w; context, C), and without Z_T.x for recovery. The lengths differ, and the context says
/// which kind it is, so no input of one kind is an input of the other.
pub(super) fn key_encryption_key(
    context: &SlotContext,
    c: &Point,
    z_y: &SharedPoint,
    z_t: Option<&SharedPoint>,
    w: &W,
) -> Secret<32> {
    let info = |out: &mut Writer| {
        out.value(&context.id()).value(c);
    };
    match z_t {
        Some(z_t) => derive(join::<96>(&[&z_y.x(), &z_t.x(), w.expose()]).expose(), Label::SLOT_KEK, info),
        None => derive(join::<64>(&[&z_y.x(), w.expose()]).expose(), Label::SLOT_KEK, info),
    }
}

fn join<const N: usize>(parts: &[&Secret<32>]) -> Secret<N> {
    let mut out = Secret::zeroed();
    for (place, part) in out.expose_mut().chunks_exact_mut(32).zip(parts) {
        place.copy_from_slice(part.expose());
    }
    out
}

/// Encrypts the seed with AES-256-GCM; aad is the context. `None` never happens at this length.
pub(super) fn encrypt(kek: &Secret<32>, context: &SlotContext, seed: &[u8; 32]) -> Option<[u8; CIPHERTEXT_BYTES]> {
    let mut buffer = Secret::<32>::zeroed();
    buffer.expose_mut().copy_from_slice(seed);
    let aead = Aes256Gcm::new(kek.expose().into());
    let tag = aead.encrypt_in_place_detached(&NONCE.into(), context.id().as_bytes(), buffer.expose_mut()).ok()?;
    let mut out = [0; CIPHERTEXT_BYTES];
    let (text, end) = out.split_at_mut(32);
    text.copy_from_slice(buffer.expose());
    end.copy_from_slice(&tag);
    Some(out)
}

/// Decrypts the seed; `None` where key, context or ciphertext is wrong.
pub(super) fn decrypt(
    kek: &Secret<32>,
    context: &SlotContext,
    ciphertext: &[u8; CIPHERTEXT_BYTES],
) -> Option<Secret<32>> {
    let (text, tag) = ciphertext.split_first_chunk::<32>()?;
    let mut buffer = Secret::zeroed();
    buffer.expose_mut().copy_from_slice(text);
    Aes256Gcm::new(kek.expose().into())
        .decrypt_in_place_detached(&NONCE.into(), context.id().as_bytes(), buffer.expose_mut(), tag.into())
        .ok()?;
    Some(buffer)
}
