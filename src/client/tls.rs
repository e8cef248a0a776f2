//! TLS 1.3 for the one client: our judgement in place of the library's, our own connection key, the hybrid exchange first.
//!
//! rustls does the handshake and aws-lc the arithmetic. Who the peer is, only [`Trust`] says; the key that proves who we are
//! stays in its own type. Sessions are resumed within this process and kept nowhere else.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureAlgorithm, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime as TlsTime},
    sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey},
    version::TLS13,
};

use crate::{
    client::{ClientError, trust::Trust},
    keys::{IdentitySigner, MemorySigner},
    protocol::{
        certificate::{Certified, UnixTime},
        hash::Hash,
    },
};

/// Who we are on the line: a certificate that home issued for a connection key, and that key.
#[derive(Clone, Debug)]
pub struct OwnIdentity {
    certificate: Vec<u8>,
    key: Arc<MemorySigner>,
}

impl OwnIdentity {
    /// `certificate` in DER, directly under home. Whether it is this key's is found out by the other side.
    pub fn new(certificate: Vec<u8>, key: MemorySigner) -> Self {
        Self { certificate, key: Arc::new(key) }
    }
}

/// How the connection's keys are exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// X25519MLKEM768 first, X25519 and P-256 where the other side knows nothing better.
    HybridPreferred,
    /// X25519MLKEM768 or no connection: wherever unwrapped keys travel.
    HybridRequired,
}

/// The time, handed in so that tests can set it.
pub type Clock = fn() -> UnixTime;

/// The judgement of the server, and whom it was passed on last.
#[derive(Debug)]
pub(super) struct Judge {
    trust: Trust,
    clock: Clock,
    algorithms: WebPkiSupportedAlgorithms,
    certified: Mutex<Option<Certified>>,
}

impl Judge {
    /// Whether the peer that was judged last still stands; also where nobody was judged yet.
    pub(super) fn still_stands(&self) -> Result<(), super::Distrust> {
        let certified = self.certified.lock().unwrap_or_else(PoisonError::into_inner).clone();
        certified.map_or(Ok(()), |certified| self.trust.still_stands(&certified, (self.clock)()))
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: TlsTime,
    ) -> Result<ServerCertVerified, Error> {
        let path: Vec<&[u8]> =
            std::iter::once(end_entity).chain(intermediates).map(|certificate| certificate.as_ref()).collect();
        let certified = self.trust.judge(&path, (self.clock)()).map_err(|distrust| {
            Error::InvalidCertificate(rustls::CertificateError::Other(OtherError(Arc::new(distrust))))
        })?;
        *self.certified.lock().unwrap_or_else(PoisonError::into_inner) = Some(certified);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// Builds what each connection is made from, and gives the judge that sits in it.
pub(super) fn configure(
    trust: Trust,
    own: Option<&OwnIdentity>,
    exchange: Exchange,
    clock: Clock,
) -> Result<(ClientConfig, Arc<Judge>), ClientError> {
    let mut provider: CryptoProvider = aws_lc_rs::default_provider();
    if exchange == Exchange::HybridRequired {
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768];
    }
    let algorithms = provider.signature_verification_algorithms;
    let judge = Arc::new(Judge { trust, clock, algorithms, certified: Mutex::new(None) });
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| ClientError::OwnCertificate { reason: error.to_string() })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&judge) as Arc<dyn ServerCertVerifier>);
    let config = match own {
        None => config.with_no_client_auth(),
        Some(OwnIdentity { certificate, key }) => {
            let key: Arc<dyn SigningKey> = Arc::new(ConnectionKey(Arc::clone(key)));
            let pair = CertifiedKey::new(vec![CertificateDer::from(certificate.clone())], key);
            let resolver: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(pair));
            config.with_client_cert_resolver(resolver)
        }
    };
    Ok((config, judge))
}

/// The connection key as rustls takes it: the private half stays in its own type.
#[derive(Clone, Debug)]
struct ConnectionKey(Arc<MemorySigner>);

impl SigningKey for ConnectionKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::ECDSA_NISTP256_SHA256).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }
    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for ConnectionKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = self.0.sign(&Hash::of_bytes(message));
        signature
            .map(|signature| signature.to_der().as_bytes().to_vec())
            .map_err(|_| Error::General("the connection key gave no signature".to_owned()))
    }
    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}
