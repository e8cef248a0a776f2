//! TLS at the embassy: version 1.3 only, X25519MLKEM768 preferred, client certificates required, and a certificate of the
//! embassy's own that is made at each start.
//!
//! The certificate's key lives in this process alone and for a day at most; what vouches for it is the identity key in the
//! TPM, which works only in an approved boot state. The handshake refuses what webpki refuses: another authority, expired,
//! revoked. Roles are `peer.rs`'s matter. A configuration never changes: a new list or certificate makes a new one, in which
//! no earlier session can be resumed.

use std::{
    cell::RefCell,
    sync::{Arc, PoisonError, RwLock},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use p256::ecdsa::Signature;
use rand_core::{CryptoRng, RngCore};
use rustls::{
    CertificateError as Webpki, DigitallySignedStruct, DistinguishedName, NamedGroup, RootCertStore, ServerConfig,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs as suite},
    server::{
        ServerSessionMemoryCache, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::{
    hardware::{MachineTpm, TpmError},
    keys::{
        IdentitySigner, KeyError,
        issue::{self, IssueError, IssuerName, Request},
    },
    protocol::{
        certificate::{CertificateError, EMBASSY_LEAF_SECONDS_MAX, Identity, Role, UnixTime},
        group::Point,
        hash::Hash,
        ids::SubjectName,
    },
    service::{
        peer::Exchange,
        trust::{InForce, Trust},
    },
};

/// A certificate is valid from this long before it is made: clocks differ.
const BACKDATED_SECONDS: i64 = 5 * 60;

/// A certificate is renewed when less than this is left of it. Half a day: a TPM that is busy, or gone for hours, ends
/// nothing.
const RENEWED_SECONDS_BEFORE: i64 = EMBASSY_LEAF_SECONDS_MAX / 2;

/// Sessions that may be resumed. 4,096: some 2 MB, and far above the number of visitors.
const SESSIONS: usize = 4096;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The TPM did not sign.
    #[error("the TPM did not sign the embassy's TLS certificate: {0}")]
    Tpm(#[from] TpmError),
    /// The certificate was not made.
    #[error("the embassy's TLS certificate was not made: {0}")]
    Issue(#[from] IssueError),
    /// What was made, or the embassy's authority, breaks a rule.
    #[error("{0}. Ask home to issue the embassy's certificate anew (`chancery home enrol`)")]
    Certificate(#[from] CertificateError),
    /// The embassy's authority is of another key or embassy.
    #[error("embassy.crt is of {found}; this is {expected}. Ask home to enrol this machine (`chancery home enrol`)")]
    Another {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// No key was made.
    #[error("this machine made no TLS key; look at its source of randomness")]
    Key,
    /// rustls refused.
    #[error("TLS cannot be configured: {0}")]
    Config(String),
}

/// Whom the embassy's certificates are issued for, and by.
#[derive(Clone, Debug)]
pub struct Leafing {
    /// The embassy.
    pub embassy: SubjectName,
    /// The certificate of the embassy's own authority, DER, as home issued it.
    pub authority: Vec<u8>,
    /// The key that it must be of: the charter's.
    pub identity: Point,
    /// The names and addresses at which the embassy is reached.
    pub places: Vec<String>,
}

/// The embassy's TLS certificate with its key.
#[derive(Clone, Debug)]
pub struct Leaf {
    key: Arc<CertifiedKey>,
    public: Point,
    made: UnixTime,
    until: UnixTime,
}

impl Leaf {
    /// Makes a key, and has the embassy's authority certify it.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn issue(
        leafing: &Leafing,
        signer: &dyn IdentitySigner,
        trust: &Trust,
        now: UnixTime,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Self, TlsError> {
        let authority = trust.home().embassy_authority(&leafing.authority, trust.revocations(), now)?;
        let certified = authority.certified();
        let found = (certified.identity().name.clone(), *certified.key());
        if found != (leafing.embassy.clone(), leafing.identity) || *signer.public() != leafing.identity {
            let say = |name: &SubjectName, key: &Point| format!("{name} with the key {key:?}");
            let (found, expected) = (say(&found.0, &found.1), say(&leafing.embassy, &leafing.identity));
            return Err(TlsError::Another { found, expected });
        }
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
        let pkcs8 = pkcs8.map_err(|_| TlsError::Key)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref());
        let public = pair.map_err(|_| TlsError::Key)?;
        let from = UnixTime(now.0.saturating_sub(BACKDATED_SECONDS).max(0));
        let identity =
            |role| Identity { trust_domain: trust.home().trust_domain().clone(), role, name: leafing.embassy.clone() };
        // The leaf may not outlive what vouches for it.
        let until = UnixTime(from.0.saturating_add(EMBASSY_LEAF_SECONDS_MAX)).min(certified.until());
        let request = Request {
            identity: identity(Role::Embassy),
            key: uncompressed(public.public_key().as_ref()).ok_or(TlsError::Key)?,
            not_before: from,
            not_after: until,
            places: leafing.places.clone(),
        };
        let issuer = IssuerName { country: trust.home().country(), identity: identity(Role::EmbassyAuthority) };
        let leaf = issue::certificate(&issuer, signer, &request, rng)?;
        // Nothing is shown to visitors that they would refuse.
        trust.home().certify(&[&leaf, &leafing.authority], trust.revocations(), now)?;
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_ref()));
        let secret = suite::sign::any_ecdsa_type(&secret).map_err(|_| TlsError::Key)?;
        let chain = vec![CertificateDer::from(leaf), CertificateDer::from(leafing.authority.clone())];
        Ok(Self { key: Arc::new(CertifiedKey::new(chain, secret)), public: request.key, made: now, until })
    }

    /// Has the TPM's identity key certify it.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn issue_by_tpm(
        leafing: &Leafing,
        tpm: &dyn MachineTpm,
        trust: &Trust,
        now: UnixTime,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Self, TlsError> {
        let signer = TpmSigner { tpm, public: leafing.identity, failed: RefCell::new(None) };
        let issued = Self::issue(leafing, &signer, trust, now, rng);
        match signer.failed.into_inner() {
            Some(error) => Err(TlsError::Tpm(error)),
            None => issued,
        }
    }

    /// Until when it is valid.
    pub const fn until(&self) -> UnixTime {
        self.until
    }

    /// Whether it is time to make the next one, also after the clock was set back.
    pub const fn is_due(&self, now: UnixTime) -> bool {
        self.until.0.saturating_sub(now.0) < RENEWED_SECONDS_BEFORE || now.0 < self.made.0 - BACKDATED_SECONDS
    }

    /// SHA-256 of the public key (a point, uncompressed), for the roll.
    pub fn key_hash(&self) -> Hash {
        Hash::of_bytes(&self.public.encode_uncompressed())
    }
}

fn uncompressed(bytes: &[u8]) -> Option<Point> {
    let (tag, xy) = bytes.split_first()?;
    let (x, y) = xy.split_first_chunk::<32>()?;
    (*tag == 4).then(|| Point::from_xy(x, y.try_into().ok()?).ok()).flatten()
}

/// The TPM's identity key, as whoever issues takes it.
struct TpmSigner<'a> {
    tpm: &'a dyn MachineTpm,
    public: Point,
    failed: RefCell<Option<TpmError>>,
}

impl IdentitySigner for TpmSigner<'_> {
    fn public(&self) -> &Point {
        &self.public
    }
    fn sign(&self, digest: &Hash) -> Result<Signature, KeyError> {
        let signed = self.tpm.sign_as_embassy(digest.as_bytes()).map_err(|error| {
            *self.failed.borrow_mut() = Some(error);
            KeyError::Signature
        })?;
        let signature = Signature::from_slice(&signed).map_err(|_| KeyError::Signature)?;
        Ok(signature.normalize_s().unwrap_or(signature))
    }
}

/// One suite for all certificates: ECDSA P-256 with SHA-256.
static SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[webpki::aws_lc_rs::ECDSA_P256_SHA256],
    mapping: &[(SignatureScheme::ECDSA_NISTP256_SHA256, &[webpki::aws_lc_rs::ECDSA_P256_SHA256])],
};

/// What chancery's TLS is made of, the hybrid key exchange first.
pub fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            suite::cipher_suite::TLS13_AES_256_GCM_SHA384,
            suite::cipher_suite::TLS13_AES_128_GCM_SHA256,
            suite::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![suite::kx_group::X25519MLKEM768, suite::kx_group::X25519, suite::kx_group::SECP256R1],
        signature_verification_algorithms: SIGNATURES,
        ..suite::default_provider()
    }
}

/// Which kind of exchange a connection had.
pub fn exchange(group: Option<NamedGroup>) -> Exchange {
    if group == Some(NamedGroup::X25519MLKEM768) { Exchange::Hybrid } else { Exchange::Classical }
}

/// webpki's judgement with an alert that lets the visitor tell an outdated list of the embassy's from a stranger's certificate;
/// rustls has one alert for both. What webpki refuses is refused.
#[derive(Debug)]
struct Telling(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Telling {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }
    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }
    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: rustls_pki_types::UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.0.verify_client_cert(leaf, above, now).map_err(|error| {
            tracing::info!(%error, "a visitor's certificate was refused");
            match error {
                rustls::Error::InvalidCertificate(
                    Webpki::ExpiredRevocationList
                    | Webpki::ExpiredRevocationListContext { .. }
                    | Webpki::UnknownRevocationStatus,
                ) => rustls::Error::InvalidCertificate(Webpki::ApplicationVerificationFailure),
                other => other,
            }
        })
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// A configuration for what is in force now. Its sessions are its own: none of an earlier configuration can be resumed.
///
/// # Errors
/// [`TlsError::Config`].
pub fn config(trust: &Trust, leaf: &Leaf) -> Result<Arc<ServerConfig>, TlsError> {
    let failed = |error: &dyn std::fmt::Display| TlsError::Config(error.to_string());
    let provider = Arc::new(provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(trust.home_certificate().to_vec())).map_err(|error| failed(&error))?;
    // An expired list vouches for nobody.
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .with_crls([CertificateRevocationListDer::from(trust.list().to_vec())])
        .enforce_revocation_expiration()
        .build()
        .map_err(|error| failed(&error))?;
    let verifier = Arc::new(Telling(verifier));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| failed(&error))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&leaf.key))));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    Ok(Arc::new(config))
}

/// The configuration for the next handshake, made of what is in force when it begins.
///
/// Nobody has to tell it of a new list or charter: it looks. So no handshake that begins after a list came into force goes by
/// the list before, and no session of before is resumed.
pub struct Tls {
    trust: Arc<InForce>,
    current: RwLock<Current>,
}

struct Current {
    leaf: Leaf,
    /// What `config` was made of.
    of: Arc<Trust>,
    config: Arc<ServerConfig>,
}

impl Tls {
    /// Begins with a certificate.
    ///
    /// # Errors
    /// [`TlsError::Config`].
    pub fn new(trust: Arc<InForce>, leaf: Leaf) -> Result<Self, TlsError> {
        let of = trust.get();
        let config = config(&of, &leaf)?;
        Ok(Self { trust, current: RwLock::new(Current { leaf, of, config }) })
    }

    /// For the next handshake.
    ///
    /// # Errors
    /// [`TlsError::Config`]: nobody is let in by what is no longer in force.
    pub fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current.of, &self.trust.get()) {
            return Ok(Arc::clone(&current.config));
        }
        drop(current);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let trust = self.trust.get();
        if !Arc::ptr_eq(&current.of, &trust) {
            current.config = config(&trust, &current.leaf)?;
            current.of = trust;
        }
        Ok(Arc::clone(&current.config))
    }

    /// The certificate in use.
    pub fn leaf(&self) -> Leaf {
        self.current.read().unwrap_or_else(PoisonError::into_inner).leaf.clone()
    }

    /// Shows another certificate from the next handshake on.
    ///
    /// # Errors
    /// [`TlsError::Config`]; then everything stays as it was.
    pub fn renew(&self, leaf: Leaf) -> Result<(), TlsError> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let of = self.trust.get();
        let config = config(&of, &leaf)?;
        *current = Current { leaf, of, config };
        Ok(())
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tls(until {})", self.leaf().until())
    }
}
