//! Taking a certificate apart, and the rules that it keeps by itself, whoever issued it.

use std::collections::BTreeSet;

use p256::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
use x509_parser::{
    certificate::X509Certificate,
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension, X509Extension},
    prelude::FromDer,
    x509::{AlgorithmIdentifier, SubjectPublicKeyInfo, X509Name, X509Version},
};

use crate::protocol::{
    certificate::{CertificateError, Identity, Profile, Role, Rule, Serial, UnixTime, Which},
    charter::Country,
    group::Point,
    hash::Hash,
};

/// The longest certificate or request accepted. Ours have about 700 bytes.
pub const MAX_CERTIFICATE_BYTES: usize = 8 * 1024;

/// id-ecPublicKey, prime256v1 and ecdsa-with-SHA256 (RFC 5480, RFC 5758), dotted.
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const PRIME256V1: &str = "1.2.840.10045.3.1.7";
const ECDSA_WITH_SHA256: &str = "1.2.840.10045.4.3.2";

/// The algorithm identifier of ecdsa-with-SHA256, which has no parameters (RFC 5758 §3.2).
const ECDSA_WITH_SHA256_DER: [u8; 12] = [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// A certificate that reads and keeps the rules of one role. Nobody has checked who issued it.
pub(super) struct Sheet<'a> {
    pub(super) which: Which,
    pub(super) identity: Identity,
    pub(super) key: Point,
    pub(super) serial: Serial,
    pub(super) not_before: UnixTime,
    pub(super) not_after: UnixTime,
    pub(super) subject: &'a [u8],
    issuer: &'a [u8],
    subject_key_id: Option<&'a [u8]>,
    authority_key_id: Option<&'a [u8]>,
    signed: Signed,
}

/// A signature with the digest of what it covers.
pub(super) struct Signed {
    digest: Hash,
    signature: Signature,
}

impl Signed {
    /// Takes `whole` apart into what is covered, algorithm and signature, as x509-parser found them. That parser is lenient
    /// about what no signature covers (it takes a SET for a SEQUENCE, for one), so the whole is built again and compared:
    /// there is one encoding of each certificate. Both places that name the algorithm must name ours (RFC 5280 §4.1.1.2).
    pub(super) fn new(
        whole: &[u8],
        covered: &[u8],
        algorithms: [&AlgorithmIdentifier<'_>; 2],
        signature: &[u8],
    ) -> Result<Self, Rule> {
        let is_ours = |algorithm: &&AlgorithmIdentifier<'_>| {
            algorithm.algorithm.to_id_string() == ECDSA_WITH_SHA256 && algorithm.parameters.is_none()
        };
        if !algorithms.iter().all(is_ours) {
            return Err(Rule::Algorithm);
        }
        let signature = Signature::from_der(signature).map_err(|_| Rule::Signature)?;
        let bits = [&[0], signature.to_der().as_bytes()].concat();
        let body = [covered, &ECDSA_WITH_SHA256_DER, &der(0x03, &bits)].concat();
        if der(0x30, &body) != whole {
            return Err(Rule::Malformed);
        }
        Ok(Self { digest: Hash::of_bytes(covered), signature })
    }

    pub(super) fn verify(&self, key: &Point) -> Result<(), Rule> {
        VerifyingKey::from_affine(*key.affine())
            .and_then(|key| key.verify_prehash(self.digest.as_bytes(), &self.signature))
            .map_err(|_| Rule::Signature)
    }
}

/// One DER value: tag, length in its shortest form, content.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut out = Vec::with_capacity(content.len().saturating_add(10));
    out.push(tag);
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        // At most eight bytes of length.
        _ => {
            out.push(0x80 | u8::try_from(significant.len()).unwrap_or(8));
            out.extend_from_slice(&significant);
        }
    }
    out.extend_from_slice(content);
    out
}

/// What issued something: its name, key and key identifier.
pub(super) struct Issuer<'a> {
    pub(super) subject: &'a [u8],
    pub(super) key: &'a Point,
    pub(super) key_id: Option<&'a [u8]>,
}

/// Which role's rules a certificate is read under.
pub(super) enum As {
    /// Of this role.
    Role(Role),
    /// Of the role that its URI names.
    Named,
}

impl<'a> Sheet<'a> {
    pub(super) fn read(
        bytes: &'a [u8],
        which: Which,
        read_as: &As,
        country: Country,
    ) -> Result<Self, CertificateError> {
        Self::try_read(bytes, which, read_as, country).map_err(|rule| rule.of(which))
    }

    fn try_read(bytes: &'a [u8], which: Which, read_as: &As, country: Country) -> Result<Self, Rule> {
        bounded(bytes, MAX_CERTIFICATE_BYTES)?;
        let (rest, certificate) = X509Certificate::from_der(bytes).map_err(|_| Rule::Malformed)?;
        if !rest.is_empty() {
            return Err(Rule::Malformed);
        }
        let tbs = certificate.tbs_certificate;
        if tbs.version != X509Version::V3 {
            return Err(Rule::Version);
        }
        let signed = Signed::new(
            bytes,
            tbs.as_ref(),
            [&tbs.signature, &certificate.signature_algorithm],
            &certificate.signature_value.data,
        )?;
        let extensions = Extensions::read(tbs.extensions())?;
        let mut identity = extensions.identity()?;
        match read_as {
            As::Role(role) if role.segment() == identity.role.segment() => identity.role = *role,
            As::Role(role) => {
                return Err(Rule::Role { found: identity.role, expected: role.to_string() });
            }
            As::Named => {}
        }
        let profile = identity.role.profile();
        extensions.keep(&profile, identity.role)?;
        check_subject(&tbs.subject, country, &identity)?;
        let (not_before, not_after) =
            (UnixTime(tbs.validity.not_before.timestamp()), UnixTime(tbs.validity.not_after.timestamp()));
        let seconds = not_after.0.saturating_sub(not_before.0);
        if let Some(bound) = profile.seconds_max.filter(|bound| seconds > *bound) {
            return Err(Rule::Lifetime { seconds, bound });
        }
        Ok(Self {
            which,
            key: point(&tbs.subject_pki)?,
            serial: Serial::new(tbs.raw_serial()).ok_or(Rule::Serial)?,
            not_before,
            not_after,
            subject: tbs.subject.as_raw(),
            issuer: tbs.issuer.as_raw(),
            subject_key_id: extensions.subject_key_id,
            authority_key_id: extensions.authority_key_id,
            signed,
            identity,
        })
    }

    pub(super) fn as_issuer(&self) -> Issuer<'_> {
        Issuer { subject: self.subject, key: &self.key, key_id: self.subject_key_id }
    }

    pub(super) const fn key_id(&self) -> Option<&'a [u8]> {
        self.subject_key_id
    }

    pub(super) fn check_issued_by(&self, issuer: &Issuer<'_>) -> Result<(), CertificateError> {
        check_issuer(self.issuer, self.authority_key_id, issuer)
            .and_then(|()| self.signed.verify(issuer.key))
            .map_err(|rule| rule.of(self.which))
    }
}

/// The issuer's name byte for byte, and the key identifier where both have one.
pub(super) fn check_issuer(name: &[u8], key_id: Option<&[u8]>, issuer: &Issuer<'_>) -> Result<(), Rule> {
    let other_key = matches!((key_id, issuer.key_id), (Some(named), Some(known)) if named != known);
    if name != issuer.subject || other_key { Err(Rule::Issuer) } else { Ok(()) }
}

pub(super) const fn bounded(bytes: &[u8], bound: usize) -> Result<(), Rule> {
    if bytes.len() > bound { Err(Rule::TooLong { found: bytes.len(), bound }) } else { Ok(()) }
}

/// Each extension at most once, all of them readable, none critical that is not `known`.
pub(super) fn check_extensions(
    extensions: &[X509Extension<'_>],
    known: fn(&ParsedExtension<'_>) -> bool,
) -> Result<(), Rule> {
    let mut seen = BTreeSet::new();
    for extension in extensions {
        let oid = extension.oid.to_id_string();
        if matches!(extension.parsed_extension(), ParsedExtension::ParseError { .. }) {
            return Err(Rule::Extension { oid });
        }
        if extension.critical && !known(extension.parsed_extension()) {
            return Err(Rule::UnknownCritical { oid });
        }
        if !seen.insert(oid.clone()) {
            return Err(Rule::Repeated { oid });
        }
    }
    Ok(())
}

/// The extensions that the rules speak of.
#[derive(Default)]
struct Extensions<'a> {
    authority: Option<(bool, bool, Option<u32>)>,
    key_usage: Option<(bool, u16)>,
    purposes: Option<(bool, bool, bool)>,
    uris: Vec<&'a str>,
    other_names: usize,
    other_kinds: usize,
    subject_key_id: Option<&'a [u8]>,
    authority_key_id: Option<&'a [u8]>,
}

impl<'a> Extensions<'a> {
    fn read(extensions: &[X509Extension<'a>]) -> Result<Self, Rule> {
        check_extensions(extensions, |parsed| {
            use ParsedExtension::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName};
            matches!(parsed, BasicConstraints(_) | KeyUsage(_) | ExtendedKeyUsage(_) | SubjectAlternativeName(_))
        })?;
        let mut found = Self::default();
        for extension in extensions {
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(constraints) => {
                    found.authority = Some((extension.critical, constraints.ca, constraints.path_len_constraint));
                }
                ParsedExtension::KeyUsage(usage) => found.key_usage = Some((extension.critical, usage.flags)),
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    let others = usage.any
                        || usage.code_signing
                        || usage.email_protection
                        || usage.time_stamping
                        || usage.ocsp_signing
                        || !usage.other.is_empty();
                    found.purposes = Some((usage.server_auth, usage.client_auth, others));
                }
                ParsedExtension::SubjectAlternativeName(names) => {
                    for name in &names.general_names {
                        match name {
                            GeneralName::URI(uri) => found.uris.push(*uri),
                            GeneralName::DNSName(_) | GeneralName::IPAddress(_) => found.other_names += 1,
                            _ => found.other_kinds += 1,
                        }
                    }
                }
                ParsedExtension::SubjectKeyIdentifier(id) => found.subject_key_id = Some(id.0),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    found.authority_key_id = id.key_identifier.as_ref().map(|id| id.0);
                }
                _ => {}
            }
        }
        Ok(found)
    }

    fn identity(&self) -> Result<Identity, Rule> {
        match self.uris.as_slice() {
            [uri] => Identity::parse(uri),
            uris => Err(Rule::Uris { found: uris.len() }),
        }
    }

    fn keep(&self, profile: &Profile, role: Role) -> Result<(), Rule> {
        let expected = profile.authority.is_some();
        let kept = match (self.authority, profile.authority) {
            (None | Some((_, false, None)), None) => true,
            // Home may leave its path length open: what stands below it is checked by roles anyway.
            (Some((true, true, None)), Some(_)) => role == Role::Home,
            (Some((true, true, Some(length))), Some(expected)) => length == expected,
            _ => false,
        };
        if !kept {
            return Err(Rule::Authority { expected });
        }
        if self.key_usage != Some((true, profile.key_usage.flags())) {
            return Err(Rule::KeyUsage { expected: profile.key_usage });
        }
        let none = !profile.server && !profile.client;
        let kept = match self.purposes {
            None => none,
            Some((server, client, others)) => !none && !others && (server, client) == (profile.server, profile.client),
        };
        if !kept {
            return Err(Rule::ExtendedKeyUsage { expected: profile.purposes() });
        }
        // An embassy's TLS certificate may say where it is reached; who it is says the URI alone.
        let places = if role == Role::Embassy { 8 } else { 0 };
        if self.other_kinds > 0 || self.other_names > places {
            return Err(Rule::OtherNames);
        }
        Ok(())
    }
}

fn check_subject(subject: &X509Name<'_>, country: Country, identity: &Identity) -> Result<(), Rule> {
    let text = |found: Option<&x509_parser::x509::AttributeTypeAndValue<'_>>| {
        found.and_then(|value| value.as_str().ok()).map(str::to_owned)
    };
    let mut countries = subject.iter_country();
    if text(countries.next()) != Some(country.to_string()) || countries.next().is_some() {
        return Err(Rule::Country { expected: country });
    }
    let is_name = text(subject.iter_common_name().next()).as_deref() == Some(identity.name.as_str());
    if !is_name || subject.iter_attributes().count() != 2 { Err(Rule::Subject) } else { Ok(()) }
}

/// The country that a certificate names, unchecked.
pub(super) fn country_of(bytes: &[u8]) -> Result<Country, Rule> {
    bounded(bytes, MAX_CERTIFICATE_BYTES)?;
    let (_, certificate) = X509Certificate::from_der(bytes).map_err(|_| Rule::Malformed)?;
    let text = certificate.subject().iter_country().next().and_then(|country| country.as_str().ok());
    text.and_then(|text| Country::new(text).ok()).ok_or(Rule::Subject)
}

/// The serial number of a certificate that an issuer signed, whatever it says and however old it is.
pub(super) fn issued_by(bytes: &[u8], issuer: &Issuer<'_>) -> Result<Serial, CertificateError> {
    let read = || {
        bounded(bytes, MAX_CERTIFICATE_BYTES)?;
        let (_, certificate) = X509Certificate::from_der(bytes).map_err(|_| Rule::Malformed)?;
        let tbs = &certificate.tbs_certificate;
        check_issuer(tbs.issuer.as_raw(), None, issuer)?;
        let algorithms = [&tbs.signature, &certificate.signature_algorithm];
        Signed::new(bytes, tbs.as_ref(), algorithms, &certificate.signature_value.data)?.verify(issuer.key)?;
        Serial::new(tbs.raw_serial()).ok_or(Rule::Serial)
    };
    read().map_err(|rule: Rule| rule.of(Which::Leaf))
}

/// A bare public key (SubjectPublicKeyInfo, DER). Nothing proves that whoever sends it has the private one.
///
/// # Errors
/// [`CertificateError`] for anything but a P-256 key.
pub fn bare_key(bytes: &[u8]) -> Result<Point, CertificateError> {
    let read = || {
        bounded(bytes, MAX_CERTIFICATE_BYTES)?;
        match SubjectPublicKeyInfo::from_der(bytes) {
            Ok(([], info)) => point(&info),
            _ => Err(Rule::Malformed),
        }
    };
    read().map_err(|rule: Rule| rule.of(Which::Request))
}

/// The key in a certificate, whoever issued it: as much as a bare public key says, and no more.
///
/// # Errors
/// [`CertificateError`] for anything but a certificate of a P-256 key.
pub fn certificate_key(bytes: &[u8]) -> Result<Point, CertificateError> {
    let read = || {
        bounded(bytes, MAX_CERTIFICATE_BYTES)?;
        match X509Certificate::from_der(bytes) {
            Ok(([], certificate)) => point(certificate.public_key()),
            _ => Err(Rule::Malformed),
        }
    };
    read().map_err(|rule: Rule| rule.of(Which::Leaf))
}

fn point(info: &SubjectPublicKeyInfo<'_>) -> Result<Point, Rule> {
    let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    if info.algorithm.algorithm.to_id_string() != EC_PUBLIC_KEY
        || curve.is_none_or(|curve| curve.to_id_string() != PRIME256V1)
    {
        return Err(Rule::Algorithm);
    }
    let uncompressed = info.subject_public_key.data.split_first().and_then(|(tag, xy)| {
        let (x, y) = xy.split_first_chunk::<32>()?;
        if *tag == 4 { Point::from_xy(x, y.try_into().ok()?).ok() } else { None }
    });
    uncompressed.ok_or(Rule::Algorithm)
}

/// The key of a certificate request (PKCS #10, DER), whose own signature proves that the requester has it. Nothing else of
/// a request is used: home says what stands in a certificate.
///
/// # Errors
/// [`CertificateError`] for anything but a P-256 request with a right signature.
pub fn request_key(bytes: &[u8]) -> Result<Point, CertificateError> {
    let read = || {
        bounded(bytes, MAX_CERTIFICATE_BYTES)?;
        let (rest, request) = X509CertificationRequest::from_der(bytes).map_err(|_| Rule::Malformed)?;
        if !rest.is_empty() {
            return Err(Rule::Malformed);
        }
        let info = &request.certification_request_info;
        let key = point(&info.subject_pki)?;
        let algorithm = &request.signature_algorithm;
        Signed::new(bytes, info.raw, [algorithm, algorithm], &request.signature_value.data)?.verify(&key)?;
        Ok(key)
    };
    read().map_err(|rule: Rule| rule.of(Which::Request))
}
