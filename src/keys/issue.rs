//! Making certificates and revocation lists with a key that lies in a file or on a token.
//!
//! The issuer decides everything that stands in a certificate: what a role must say comes from the one table that readers
//! check against (`protocol::certificate`). rcgen only writes the DER; it has no keys and no randomness here.

use p256::ecdsa::Signature;
use rand_core::{CryptoRng, RngCore};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    RevokedCertParams, SanType, SerialNumber, SignatureAlgorithm, SigningKey,
};
use time::OffsetDateTime;

use crate::{
    keys::{IdentitySigner, KeyError},
    protocol::{
        certificate::{Identity, KeyUsage, Role, Serial, UnixTime},
        charter::Country,
        group::Point,
        hash::Hash,
    },
};

/// Why a certificate or list was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The issuer's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A date that certificates cannot say.
    #[error("{0} cannot stand in a certificate; choose a shorter validity")]
    Time(UnixTime),
    /// The writer of the DER refused.
    #[error("the certificate could not be written: {0}")]
    Write(rcgen::Error),
}

/// Whose name stands over what is issued.
#[derive(Clone, Debug)]
pub struct IssuerName {
    /// The country.
    pub country: Country,
    /// Who issues.
    pub identity: Identity,
}

/// What a certificate is to say. The rest follows from the role.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whose it is. For an embassy's authority, [`Role::EmbassyAuthority`] in the role.
    pub identity: Identity,
    /// The key.
    pub key: Point,
    /// From when.
    pub not_before: UnixTime,
    /// Until when.
    pub not_after: UnixTime,
    /// Names under which an embassy's TLS certificate is reached; empty for every other role.
    pub places: Vec<String>,
}

/// A public key in the form that others' tools exchange: DER of SubjectPublicKeyInfo (RFC 5480 §2).
pub fn public_key_info(key: &Point) -> Vec<u8> {
    const HEAD: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
        0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    [HEAD.as_slice(), &key.encode_uncompressed()].concat()
}

/// A fresh serial number: 16 random bytes, positive and without leading zero.
pub fn fresh_serial(rng: &mut (impl RngCore + CryptoRng)) -> [u8; 16] {
    let mut serial = [0; 16];
    rng.fill_bytes(&mut serial);
    serial[0] = (serial[0] & 0x7f) | 0x40;
    serial
}

/// Issues a certificate; home's own where the request's key is the issuer's.
///
/// # Errors
/// [`IssueError`].
pub fn certificate(
    issuer: &IssuerName,
    signer: &dyn IdentitySigner,
    request: &Request,
    rng: &mut (impl RngCore + CryptoRng),
) -> Result<Vec<u8>, IssueError> {
    let params = params(issuer.country, request, &fresh_serial(rng))?;
    sign_params(issuer, signer, &request.key, &params)
}

/// What rcgen is told for a request. Apart from [`sign_params`], so that a test can issue what no home would.
///
/// # Errors
/// [`IssueError::Time`], [`IssueError::Write`].
pub fn params(country: Country, request: &Request, serial: &[u8]) -> Result<CertificateParams, IssueError> {
    let profile = request.identity.role.profile();
    let mut params = CertificateParams::default();
    params.not_before = date(request.not_before)?;
    params.not_after = date(request.not_after)?;
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.distinguished_name = distinguished(country, &request.identity)?;
    params.subject_alt_names = vec![SanType::URI(request.identity.to_string().try_into().map_err(IssueError::Write)?)];
    for place in &request.places {
        params.subject_alt_names.push(match place.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(place.clone().try_into().map_err(IssueError::Write)?),
        });
    }
    params.is_ca = match profile.authority {
        None => IsCa::ExplicitNoCa,
        Some(below) => IsCa::Ca(BasicConstraints::Constrained(u8::try_from(below).unwrap_or(u8::MAX))),
    };
    params.key_usages = match profile.key_usage {
        KeyUsage::Signs => vec![KeyUsagePurpose::DigitalSignature],
        KeyUsage::Issues => vec![KeyUsagePurpose::KeyCertSign],
        KeyUsage::IssuesAndRevokes => vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
    };
    let purposes =
        [(profile.server, ExtendedKeyUsagePurpose::ServerAuth), (profile.client, ExtendedKeyUsagePurpose::ClientAuth)];
    params.extended_key_usages = purposes.into_iter().filter(|(has, _)| *has).map(|(_, purpose)| purpose).collect();
    params.use_authority_key_identifier_extension = request.identity.role != Role::Home;
    params.key_identifier_method = key_id(&request.key);
    Ok(params)
}

/// Issues home's list of revoked certificates.
///
/// # Errors
/// [`IssueError`].
pub fn revocation_list(
    issuer: &IssuerName,
    signer: &dyn IdentitySigner,
    number: u64,
    revoked: &[(Serial, UnixTime)],
    from: UnixTime,
    until: UnixTime,
) -> Result<Vec<u8>, IssueError> {
    let revoked = revoked.iter().map(|(serial, at)| {
        Ok(RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial.as_bytes()),
            revocation_time: date(*at)?,
            reason_code: None,
            invalidity_date: None,
        })
    });
    let params = CertificateRevocationListParams {
        this_update: date(from)?,
        next_update: date(until)?,
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect::<Result<_, IssueError>>()?,
        key_identifier_method: key_id(signer.public()),
    };
    sign_with(issuer, signer, |rcgen_issuer| params.signed_by(rcgen_issuer)).map(|list| list.der().to_vec())
}

/// Runs rcgen with a signer whose own error is worth more than the one word rcgen has for it.
fn sign_with<T>(
    issuer: &IssuerName,
    signer: &dyn IdentitySigner,
    issue: impl FnOnce(&rcgen::Issuer<'_, &Remote<'_>>) -> Result<T, rcgen::Error>,
) -> Result<T, IssueError> {
    let remote = Remote { signer, public: Public::new(signer.public()), failed: std::cell::RefCell::new(None) };
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished(issuer.country, &issuer.identity)?;
    params.key_identifier_method = key_id(signer.public());
    let done = issue(&rcgen::Issuer::new(params, &remote));
    match (done, remote.failed.take()) {
        (Ok(made), None) => Ok(made),
        (_, Some(error)) => Err(IssueError::Key(error)),
        (Err(error), None) => Err(IssueError::Write(error)),
    }
}

/// Issues what [`params`] gave, as it is.
///
/// # Errors
/// [`IssueError`].
pub fn sign_params(
    issuer: &IssuerName,
    signer: &dyn IdentitySigner,
    key: &Point,
    params: &CertificateParams,
) -> Result<Vec<u8>, IssueError> {
    sign_with(issuer, signer, |rcgen_issuer| params.signed_by(&Public::new(key), rcgen_issuer))
        .map(|certificate| certificate.der().to_vec())
}

fn distinguished(country: Country, identity: &Identity) -> Result<DistinguishedName, IssueError> {
    let mut name = DistinguishedName::new();
    let code = country.to_string().try_into().map_err(IssueError::Write)?;
    name.push(DnType::CountryName, DnValue::PrintableString(code));
    name.push(DnType::CommonName, identity.name.as_str());
    Ok(name)
}

/// The first 20 bytes of the point's hash (RFC 5280 §4.2.1.2 leaves the method free).
fn key_id(key: &Point) -> KeyIdMethod {
    let Hash(digest) = Hash::of_bytes(&key.encode_uncompressed());
    KeyIdMethod::PreSpecified(digest.iter().copied().take(20).collect())
}

fn date(at: UnixTime) -> Result<OffsetDateTime, IssueError> {
    OffsetDateTime::from_unix_timestamp(at.0).map_err(|_| IssueError::Time(at))
}

/// A public key, as rcgen takes it.
struct Public([u8; 65]);

impl Public {
    fn new(key: &Point) -> Self {
        Self(key.encode_uncompressed())
    }
}

impl PublicKeyData for Public {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// A signer that lies elsewhere, as rcgen takes it.
struct Remote<'a> {
    signer: &'a dyn IdentitySigner,
    public: Public,
    failed: std::cell::RefCell<Option<KeyError>>,
}

impl PublicKeyData for Remote<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.public.der_bytes()
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.public.algorithm()
    }
}

impl SigningKey for Remote<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        // rcgen hands over the message; ECDSA with SHA-256 signs its digest.
        let signed: Result<Signature, KeyError> = self.signer.sign(&Hash::of_bytes(message));
        signed.map(|signature| signature.to_der().as_bytes().to_vec()).map_err(|error| {
            *self.failed.borrow_mut() = Some(error);
            rcgen::Error::RemoteKeyError
        })
    }
}
