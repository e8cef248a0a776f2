//! A server for tests of clients: TLS with whatever certificates, and answers from a function that may lie, hang up or be silent.
#![allow(dead_code, unreachable_pub, reason = "each test uses its own part")]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use chancery::{
    keys::{IdentitySigner, MemorySigner},
    protocol::hash::Hash,
};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::{
    DistinguishedName, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, UnixTime as TlsTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

#[derive(Clone, Debug)]
struct TlsKey(Arc<MemorySigner>);

impl SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme()).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }
    fn algorithm(&self) -> rustls::SignatureAlgorithm {
        rustls::SignatureAlgorithm::ECDSA
    }
}

impl Signer for TlsKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(self.0.sign(&Hash::of_bytes(message)).unwrap().to_der().as_bytes().to_vec())
    }
    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

/// Takes every visitor's certificate, or none.
#[derive(Debug)]
struct Doorkeeper {
    lets_in: bool,
}

impl ClientCertVerifier for Doorkeeper {
    fn client_auth_mandatory(&self) -> bool {
        false
    }
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: TlsTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if self.lets_in {
            return Ok(ClientCertVerified::assertion());
        }
        Err(rustls::Error::InvalidCertificate(rustls::CertificateError::Revoked))
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &known)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

type Answer = Arc<dyn Fn(usize, &str, &str) -> Answered + Send + Sync>;

/// What the server does with a request.
pub enum Answered {
    With(u16, &'static str, String),
    /// The connection is dropped without a word.
    HangUp,
    /// Nothing comes.
    Silence,
}

/// A server on this machine, and what it saw.
pub struct Server {
    pub url: String,
    pub requests: Arc<AtomicUsize>,
    pub connections: Arc<AtomicUsize>,
    pub groups: Arc<Mutex<Vec<String>>>,
}

/// How a server is to be.
pub struct Setup {
    pub path: Vec<Vec<u8>>,
    pub key: Arc<MemorySigner>,
    /// Offers X25519 only.
    pub classical: bool,
    /// Speaks no version that the client does.
    pub old_tls: bool,
    /// Whether visitors' certificates are taken.
    pub lets_in: bool,
}

impl Setup {
    pub fn of(path: Vec<Vec<u8>>, key: Arc<MemorySigner>) -> Self {
        Self { path, key, classical: false, old_tls: false, lets_in: true }
    }

    pub async fn start(self, answer: impl Fn(usize, &str, &str) -> Answered + Send + Sync + 'static) -> Server {
        let mut provider: CryptoProvider = aws_lc_rs::default_provider();
        if self.classical {
            provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
        }
        let versions: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
        let path = self.path.into_iter().map(CertificateDer::from).collect();
        let pair = CertifiedKey::new(path, Arc::new(TlsKey(self.key)));
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(Arc::new(Doorkeeper { lets_in: self.lets_in }))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let answer: Answer = Arc::new(answer);
        let server = Server { url, requests: Arc::default(), connections: Arc::default(), groups: Arc::default() };
        let (requests, connections, groups) =
            (Arc::clone(&server.requests), Arc::clone(&server.connections), Arc::clone(&server.groups));
        let old_tls = self.old_tls;
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                if old_tls {
                    // A handshake_failure alert is what a peer says that has no version in common.
                    use tokio::io::AsyncWriteExt;
                    let mut stream = stream;
                    let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, 70]).await;
                    continue;
                }
                let (acceptor, answer, requests, groups) =
                    (acceptor.clone(), Arc::clone(&answer), Arc::clone(&requests), Arc::clone(&groups));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let group = stream.get_ref().1.negotiated_key_exchange_group().map(|group| group.name());
                    groups.lock().unwrap().push(format!("{:?}", group.unwrap()));
                    let service = service_fn(|request| respond(request, Arc::clone(&answer), Arc::clone(&requests)));
                    let _ =
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        server
    }
}

async fn respond(
    request: Request<Incoming>,
    answer: Answer,
    requests: Arc<AtomicUsize>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let number = requests.fetch_add(1, Ordering::SeqCst);
    let path = request.uri().path().to_owned();
    let key = request.headers().get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
    let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
    let body = format!("{}{}", String::from_utf8_lossy(&body), key.map_or(String::new(), |key| format!(" key={key}")));
    match answer(number, &path, &body) {
        Answered::With(status, kind, text) => {
            let response = Response::builder().status(status).header("content-type", kind);
            Ok(response.body(Full::new(Bytes::from(text))).unwrap())
        }
        Answered::HangUp => Err(std::io::Error::other("hang up")),
        Answered::Silence => std::future::pending().await,
    }
}
