//! Public areas of TPM objects: the fixed templates of the embassy's keys, and an official's key as the TPM sees it.
//!
//! A template has one encoding (TPM 2.0 Part 2, 12.2.4, TPMT_PUBLIC) with the unique part left for the TPM to fill. What a
//! TPM returns is accepted only if it is that template to the byte, with coordinates padded to 32 bytes.

use crate::protocol::{
    group::Point,
    tpm::{alg, name::Name, policy::PolicyDigest, tpm2b},
    wire::{Reader, WireError, Writer},
};

/// TPMA_OBJECT (TPM 2.0 Part 2, 8.3).
mod attribute {
    pub(super) const FIXED_TPM: u32 = 1 << 1;
    pub(super) const FIXED_PARENT: u32 = 1 << 4;
    pub(super) const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    pub(super) const USER_WITH_AUTH: u32 = 1 << 6;
    pub(super) const ADMIN_WITH_POLICY: u32 = 1 << 7;
    pub(super) const NO_DA: u32 = 1 << 10;
    pub(super) const RESTRICTED: u32 = 1 << 16;
    pub(super) const DECRYPT: u32 = 1 << 17;
    pub(super) const SIGN: u32 = 1 << 18;
}
use attribute::{
    ADMIN_WITH_POLICY, DECRYPT, FIXED_PARENT, FIXED_TPM, NO_DA, RESTRICTED, SENSITIVE_DATA_ORIGIN, SIGN, USER_WITH_AUTH,
};

/// TPM_ECC_NIST_P256 (TPM 2.0 Part 2, 6.4).
const NIST_P256: u16 = 0x0003;

/// A public area that is not the expected one: the object was not made from this template, or by another TPM's habits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// Type, attributes, policy, scheme or parameters differ, or bytes are missing or left over.
    #[error("the public area differs from its template at byte {at}: the object is not the one the charter describes")]
    NotTheTemplate {
        /// The first differing byte.
        at: usize,
    },
    /// The unique part is no padded point of P-256.
    #[error("the public area ends in no point of P-256 with coordinates of 32 bytes: make the key again")]
    NoPoint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// AES-128-CFB for children, no scheme.
    Storage,
    EcdhSha256,
    EcdsaSha256,
}

/// The template of a P-256 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTemplate {
    attributes: u32,
    policy: Option<PolicyDigest>,
    scheme: Scheme,
}

impl KeyTemplate {
    /// The storage root key, primary in the owner hierarchy: parent of every key and salt of every session.
    pub const STORAGE_ROOT: Self = Self {
        attributes: FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | USER_WITH_AUTH | NO_DA | RESTRICTED | DECRYPT,
        policy: None,
        scheme: Scheme::Storage,
    };

    /// The attestation key, primary in the endorsement hierarchy: no policy, it must be able to tell of a bad state too.
    pub const ATTESTATION: Self = Self {
        attributes: FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | USER_WITH_AUTH | NO_DA | RESTRICTED | SIGN,
        policy: None,
        scheme: Scheme::EcdsaSha256,
    };

    /// The custody key T.
    pub const fn custody(policy: PolicyDigest) -> Self {
        Self {
            attributes: FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | ADMIN_WITH_POLICY | NO_DA | DECRYPT,
            policy: Some(policy),
            scheme: Scheme::EcdhSha256,
        }
    }

    /// The identity key.
    pub const fn identity(policy: PolicyDigest) -> Self {
        Self {
            attributes: FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | ADMIN_WITH_POLICY | NO_DA | SIGN,
            policy: Some(policy),
            scheme: Scheme::EcdsaSha256,
        }
    }

    /// An official's public key as given to TPM2_LoadExternal.
    const OFFICIAL: Self = Self { attributes: SIGN | USER_WITH_AUTH, policy: None, scheme: Scheme::EcdsaSha256 };

    /// TPMA_OBJECT.
    pub const fn attributes(&self) -> u32 {
        self.attributes
    }

    /// TPMT_PUBLIC with an empty unique part, as given to TPM2_Create and TPM2_CreatePrimary (without the TPM2B's size).
    pub fn marshal(&self) -> Vec<u8> {
        let mut out = self.head();
        tpm2b(&mut out, &[]);
        tpm2b(&mut out, &[]);
        out.finish()
    }

    /// TPMT_PUBLIC of the key with this public point.
    pub fn marshal_with(&self, point: &Point) -> Vec<u8> {
        let (x, y) = point.xy();
        let mut out = self.head();
        tpm2b(&mut out, &x);
        tpm2b(&mut out, &y);
        out.finish()
    }

    /// The Name of the key with this public point.
    pub fn name(&self, point: &Point) -> Name {
        Name::of(&self.marshal_with(point))
    }

    /// Takes a marshalled TPMT_PUBLIC that a TPM returned, and gives the key's point and Name.
    ///
    /// # Errors
    /// [`ObjectError`] where it is not this template with a padded point.
    pub fn accept(&self, public_area: &[u8]) -> Result<(Point, Name), ObjectError> {
        let unique = after_head(public_area, &self.head().finish())?;
        let point = read_padded_point(unique).map_err(|_| ObjectError::NoPoint)?.ok_or(ObjectError::NoPoint)?;
        Ok((point, Name::of(public_area)))
    }

    fn head(&self) -> Writer {
        let mut out = public_head(alg::ECC, self.attributes, self.policy.as_ref());
        // TPMS_ECC_PARMS: symmetric, scheme, curve, kdf.
        match self.scheme {
            Scheme::Storage => out.u16(alg::AES).u16(128).u16(alg::CFB).u16(alg::NULL),
            Scheme::EcdhSha256 => out.u16(alg::NULL).u16(alg::ECDH).u16(alg::SHA256),
            Scheme::EcdsaSha256 => out.u16(alg::NULL).u16(alg::ECDSA).u16(alg::SHA256),
        };
        out.u16(NIST_P256).u16(alg::NULL);
        out
    }
}

/// The template of sealed bytes: the roll key's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealTemplate {
    attributes: u32,
    policy: PolicyDigest,
}

impl SealTemplate {
    /// The roll key. Its seed is handed to the TPM, so it has no sensitiveDataOrigin.
    pub const fn roll(policy: PolicyDigest) -> Self {
        Self { attributes: FIXED_TPM | FIXED_PARENT | ADMIN_WITH_POLICY | NO_DA, policy }
    }

    /// TPMA_OBJECT.
    pub const fn attributes(&self) -> u32 {
        self.attributes
    }

    /// TPMT_PUBLIC with an empty unique part, as given to TPM2_Create (without the TPM2B's size).
    pub fn marshal(&self) -> Vec<u8> {
        let mut out = self.head();
        tpm2b(&mut out, &[]);
        out.finish()
    }

    /// Takes a marshalled TPMT_PUBLIC that a TPM returned, and gives the object's Name.
    ///
    /// # Errors
    /// [`ObjectError`] where it is not this template with a unique part of 32 bytes.
    pub fn accept(&self, public_area: &[u8]) -> Result<Name, ObjectError> {
        let head = self.head().finish();
        let unique = after_head(public_area, &head)?;
        match unique.split_first_chunk::<2>() {
            Some((&[0, 32], digest)) if digest.len() == 32 => Ok(Name::of(public_area)),
            _ => Err(ObjectError::NotTheTemplate { at: head.len() }),
        }
    }

    fn head(&self) -> Writer {
        let mut out = public_head(alg::KEYEDHASH, self.attributes, Some(&self.policy));
        out.u16(alg::NULL);
        out
    }
}

/// An official's identity key as a TPM sees it when it checks an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfficialKey {
    point: Point,
    name: Name,
}

impl OfficialKey {
    /// The key with the point of the official's certificate.
    pub fn new(point: Point) -> Self {
        Self { point, name: KeyTemplate::OFFICIAL.name(&point) }
    }

    /// The point.
    pub const fn point(&self) -> &Point {
        &self.point
    }

    /// The Name that LoadExternal gives it.
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// TPMT_PUBLIC for TPM2_LoadExternal (without the TPM2B's size).
    pub fn marshal(&self) -> Vec<u8> {
        KeyTemplate::OFFICIAL.marshal_with(&self.point)
    }
}

fn public_head(kind: u16, attributes: u32, policy: Option<&PolicyDigest>) -> Writer {
    let mut out = Writer::new();
    out.u16(kind).u16(alg::SHA256).u32(attributes);
    tpm2b(&mut out, policy.map_or(&[], |policy| policy.as_bytes()));
    out
}

fn after_head<'a>(public_area: &'a [u8], head: &[u8]) -> Result<&'a [u8], ObjectError> {
    public_area.strip_prefix(head).ok_or_else(|| ObjectError::NotTheTemplate {
        at: public_area.iter().zip(head).take_while(|(found, expected)| found == expected).count(),
    })
}

fn read_padded_point(unique: &[u8]) -> Result<Option<Point>, WireError> {
    let mut input = Reader::new(unique);
    let mut coordinate = || match input.u16("coordinate")? {
        32 => input.array::<32>("coordinate"),
        _ => Err(WireError::Invalid { field: "coordinate", reason: "not padded to 32 bytes" }),
    };
    let (x, y) = (coordinate()?, coordinate()?);
    input.finish()?;
    Ok(Point::from_xy(&x, &y).ok())
}
