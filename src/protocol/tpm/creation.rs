//! TPM2_CertifyCreation: an attestation key's word that its TPM made an object (TPM 2.0 Part 2, 10.12.12).
//!
//! The statement is read to its end and its signature checked; what it says of clock and firmware is the verifier's matter.

use p256::ecdsa::Signature;

use crate::protocol::{
    group::Point,
    hash::Hash,
    signer::signed_by,
    tpm::name::Name,
    wire::{Reader, WireError},
};

/// TPM_GENERATED_VALUE.
const GENERATED: u32 = 0xff54_4347;
/// TPM_ST_ATTEST_CREATION.
const ATTEST_CREATION: u16 = 0x801A;
/// The longest part of a statement: a Name, a nonce or a digest.
const MAX_PART: usize = 66;

/// Why a statement is not that a TPM made this object. Do not use the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreationError {
    /// It does not read.
    #[error("the statement is not what a TPM says of a creation: {0}")]
    Form(#[from] WireError),
    /// The attestation key did not sign it.
    #[error("the attestation key did not sign this statement")]
    Signature,
    /// It is about another object.
    #[error("the statement is about another object")]
    OtherObject,
}

/// Checks that the attestation key says: my TPM made the object with this Name.
///
/// # Errors
/// [`CreationError`].
pub fn check(statement: &[u8], signature: &[u8; 64], attestation: &Point, name: &Name) -> Result<(), CreationError> {
    let signature = Signature::from_slice(signature).map_err(|_| CreationError::Signature)?;
    if !signed_by(attestation, &Hash::of_bytes(statement), &signature) {
        return Err(CreationError::Signature);
    }
    if created(statement)? == name.as_bytes() { Ok(()) } else { Err(CreationError::OtherObject) }
}

/// The Name of the object that a statement is about.
fn created(statement: &[u8]) -> Result<&[u8], WireError> {
    let mut input = Reader::new(statement);
    if input.u32("magic")? != GENERATED || input.u16("kind")? != ATTEST_CREATION {
        return Err(WireError::Invalid { field: "statement", reason: "not of a creation, or not made by a TPM" });
    }
    sized(&mut input, "signer")?;
    sized(&mut input, "extra data")?;
    // Clock, reset count, restart count, safe; firmware version.
    input.raw(8 + 4 + 4 + 1 + 8, "clock and firmware")?;
    let name = sized(&mut input, "object's Name")?;
    sized(&mut input, "creation hash")?;
    input.finish()?;
    Ok(name)
}

fn sized<'a>(input: &mut Reader<'a>, field: &'static str) -> Result<&'a [u8], WireError> {
    let length = usize::from(input.u16(field)?);
    if length > MAX_PART {
        return Err(WireError::TooLong { field, length, bound: MAX_PART });
    }
    input.raw(length, field)
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::{SigningKey, signature::hazmat::PrehashSigner};
    use rand_core::OsRng;

    use super::*;
    use crate::protocol::wire::Writer;

    fn statement(kind: u16, name: &Name) -> Vec<u8> {
        let mut out = Writer::new();
        out.u32(GENERATED).u16(kind).u16(34).raw(&[7; 34]).u16(0).raw(&[1; 25]);
        out.u16(34).raw(name.as_bytes()).u16(32).raw(&[9; 32]);
        out.finish()
    }

    #[test]
    fn only_the_attestation_key_s_word_about_this_very_object_counts() {
        let (key, other) = (SigningKey::random(&mut OsRng), SigningKey::random(&mut OsRng));
        let [attestation, stranger] = [&key, &other].map(|key| Point::of_key(key.verifying_key()));
        let (name, another) = (Name::of(b"T"), Name::of(b"another"));
        let sign = |bytes: &[u8]| -> [u8; 64] {
            let signature: Signature = key.sign_prehash(Hash::of_bytes(bytes).as_bytes()).unwrap();
            signature.to_bytes().into()
        };
        let good = statement(ATTEST_CREATION, &name);
        assert_eq!(check(&good, &sign(&good), &attestation, &name), Ok(()));
        assert_eq!(check(&good, &sign(&good), &stranger, &name), Err(CreationError::Signature));
        assert_eq!(check(&good, &sign(&good), &attestation, &another), Err(CreationError::OtherObject));
        // TPM_ST_ATTEST_CERTIFY says that a TPM has an object, not that it made it.
        let certify = statement(0x8017, &name);
        assert!(matches!(check(&certify, &sign(&certify), &attestation, &name), Err(CreationError::Form(_))));
        for end in 0..good.len() {
            let cut = &good[..end];
            assert!(matches!(check(cut, &sign(cut), &attestation, &name), Err(CreationError::Form(_))), "{end}");
        }
    }
}
