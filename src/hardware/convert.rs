//! Between the protocol's bytes and the stack's structures. Both speak the TPM's own encoding, so this is mostly that.

use tss_esapi::{
    interface_types::algorithm::HashingAlgorithm,
    structures::{
        EccParameter, EccPoint, EccSignature, HashScheme, PcrSelectionList, PcrSelectionListBuilder, PcrSlot, Public,
        Signature, SignatureScheme,
    },
    traits::{Marshall, UnMarshall},
};

use crate::{
    hardware::error::TpmError,
    protocol::{group::Point, secret::SharedPoint, tpm::pcr::PcrSelection},
};

pub(crate) fn public(area: &[u8]) -> Result<Public, TpmError> {
    Public::unmarshall(area).map_err(|_| TpmError::Request("the stack cannot read this public area"))
}

pub(crate) fn public_bytes(public: &Public) -> Result<Vec<u8>, TpmError> {
    public.marshall().map_err(|_| TpmError::Altered { during: "reading a public area" })
}

pub(crate) fn parameter(bytes: &[u8; 32]) -> Result<EccParameter, TpmError> {
    EccParameter::from_bytes(bytes).map_err(|_| TpmError::Request("not a coordinate"))
}

pub(crate) fn ecc_point(point: &Point) -> Result<EccPoint, TpmError> {
    let (x, y) = point.xy();
    Ok(EccPoint::new(parameter(&x)?, parameter(&y)?))
}

/// The point of a TPM2_ECDH_ZGen answer. The stack's own copy wipes itself.
pub(crate) fn shared_point(point: &EccPoint) -> Result<SharedPoint, TpmError> {
    let altered = TpmError::Altered { during: "ECDH_ZGen" };
    let coordinate = |bytes: &EccParameter| <[u8; 32]>::try_from(bytes.as_bytes()).map_err(|_| altered.clone());
    let (mut x, mut y) = (coordinate(point.x())?, coordinate(point.y())?);
    let point = Point::from_xy(&x, &y);
    zeroize::Zeroize::zeroize(&mut x);
    zeroize::Zeroize::zeroize(&mut y);
    let mut point = point.map_err(|_| altered)?;
    Ok(SharedPoint::take(&mut point))
}

pub(crate) fn ecdsa(r: &[u8; 32], s: &[u8; 32]) -> Result<Signature, TpmError> {
    EccSignature::create(HashingAlgorithm::Sha256, parameter(r)?, parameter(s)?)
        .map(Signature::EcDsa)
        .map_err(|_| TpmError::Request("not a signature"))
}

/// r ‖ s of a signature that the TPM made.
pub(crate) fn r_s(signature: &Signature, during: &'static str) -> Result<[u8; 64], TpmError> {
    let Signature::EcDsa(signature) = signature else { return Err(TpmError::Altered { during }) };
    let mut out = [0; 64];
    for (half, part) in out.chunks_exact_mut(32).zip([signature.signature_r(), signature.signature_s()]) {
        let part = part.as_bytes();
        let at = half.len().checked_sub(part.len()).ok_or(TpmError::Altered { during })?;
        half.iter_mut().skip(at).zip(part).for_each(|(to, from)| *to = *from);
    }
    Ok(out)
}

pub(crate) const fn ecdsa_scheme() -> SignatureScheme {
    SignatureScheme::EcDsa { scheme: HashScheme::new(HashingAlgorithm::Sha256) }
}

pub(crate) fn selection(pcrs: impl Iterator<Item = u8>) -> Result<PcrSelectionList, TpmError> {
    let slots: Result<Vec<PcrSlot>, _> = pcrs.map(|pcr| PcrSlot::try_from(1u32 << pcr)).collect();
    let slots = slots.map_err(|_| TpmError::Request("no such PCR"))?;
    PcrSelectionListBuilder::new()
        .with_selection(HashingAlgorithm::Sha256, &slots)
        .build()
        .map_err(|_| TpmError::Request("no such PCR selection"))
}

pub(crate) fn platform(selection_of: PcrSelection) -> Result<PcrSelectionList, TpmError> {
    selection(selection_of.pcrs())
}
