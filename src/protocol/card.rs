//! An official's card: the three public keys that the charter will name, signed by the first of them.
//!
//! The official hands it to home, who compares its hash with the official's own voice. The signature proves that whoever
//! made the card has the identity key and wants it to stand beside the others; who that is, only home can tell.

use p256::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};

use crate::protocol::{
    charter::CharterOfficial,
    hash::Hash,
    ids::OfficialName,
    label::Label,
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// Why a card is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// The identity key did not sign these keys.
    #[error("the card of this official is not signed by its own identity key; ask for a new one")]
    Signature,
    /// One key for two purposes.
    #[error("identity key and DKG key are one; each key has one use")]
    OneKey,
}

/// An official's public keys, with a signature that held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfficialCard {
    official: CharterOfficial,
    signature: Signature,
}

impl OfficialCard {
    /// What the identity key signs.
    pub fn digest(official: &CharterOfficial) -> Hash {
        Hash::of(Label::OFFICIAL_CARD_SIGNATURE, |out| {
            out.value(official);
        })
    }

    /// Joins keys and signature.
    ///
    /// # Errors
    /// [`CardError`].
    pub fn new(official: CharterOfficial, signature: Signature) -> Result<Self, CardError> {
        // A key and its negative have one x, and whoever knows the one knows the other.
        if official.identity.xy().0 == official.dkg.xy().0 {
            return Err(CardError::OneKey);
        }
        let signature = signature.normalize_s().unwrap_or(signature);
        VerifyingKey::from_affine(*official.identity.affine())
            .and_then(|key| key.verify_prehash(Self::digest(&official).as_bytes(), &signature))
            .map_err(|_| CardError::Signature)?;
        Ok(Self { official, signature })
    }

    /// Name and keys, as the charter will have them.
    pub const fn official(&self) -> &CharterOfficial {
        &self.official
    }

    /// The name.
    pub const fn name(&self) -> &OfficialName {
        &self.official.name
    }

    /// What the official reads to home: the hash of name and keys.
    pub fn hash(&self) -> Hash {
        Self::digest(&self.official)
    }
}

impl Wire for OfficialCard {
    fn write(&self, out: &mut Writer) {
        out.value(&self.official).raw(&self.signature.to_bytes());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let official = input.value()?;
        let invalid = WireError::Invalid { field: "card", reason: "its identity key did not sign it" };
        let signature = Signature::from_slice(input.raw(64, "signature")?).map_err(|_| invalid.clone())?;
        Self::new(official, signature).map_err(|_| invalid)
    }
}

impl Document for OfficialCard {
    const LABEL: Label = Label::OFFICIAL_CARD;
    const MAX_BYTES: usize = 2048;
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::{SigningKey, signature::hazmat::PrehashSigner};
    use rand_core::OsRng;

    use super::*;
    use crate::protocol::{group::Point, hybrid::HybridSecretKey, secret::SecretScalar};

    fn point(key: &SigningKey) -> Point {
        Point::decode(key.verifying_key().to_encoded_point(true).as_bytes()).unwrap()
    }

    #[test]
    fn a_card_stands_for_exactly_the_keys_that_its_identity_key_signed() {
        let (identity, dkg) = (SigningKey::random(&mut OsRng), SecretScalar::random(&mut OsRng));
        let official = CharterOfficial {
            name: OfficialName::new("anna").unwrap(),
            identity: point(&identity),
            hybrid: HybridSecretKey::random(&mut OsRng).public().clone(),
            dkg: Point::mul_generator(dkg.expose()),
        };
        let sign = |official: &CharterOfficial, key: &SigningKey| -> Signature {
            key.sign_prehash(OfficialCard::digest(official).as_bytes()).unwrap()
        };
        let card = OfficialCard::new(official.clone(), sign(&official, &identity)).unwrap();
        let bytes = card.encode();
        assert_eq!(OfficialCard::decode(&bytes).unwrap(), card);
        for at in (0..bytes.len()).step_by(13) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(OfficialCard::decode(&changed).is_err(), "byte {at}");
        }
        let stranger = SigningKey::random(&mut OsRng);
        assert_eq!(OfficialCard::new(official.clone(), sign(&official, &stranger)), Err(CardError::Signature));
        let one = CharterOfficial { dkg: point(&identity), ..official };
        assert_eq!(OfficialCard::new(one.clone(), sign(&one, &identity)), Err(CardError::OneKey));
    }
}
