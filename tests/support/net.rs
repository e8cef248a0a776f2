//! A running embassy, and visitors who reach it over real TLS with whatever certificate and version a test wants.

use std::{net::SocketAddr, sync::Arc};

use bytes_of::Response;
use chancery::{
    protocol::certificate::UnixTime,
    service::{
        boot,
        directory::{Directory, Settings},
        trust::Clock,
    },
    store::{MemoryStore, Store},
};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::SupportedKxGroup,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Home, Site, Visitor, World, now};

pub mod bytes_of {
    //! What came back.

    use hyper::{HeaderMap, StatusCode};

    #[derive(Debug)]
    pub struct Response {
        pub status: StatusCode,
        pub headers: HeaderMap,
        pub body: Vec<u8>,
    }

    impl Response {
        pub fn json(&self) -> serde_json::Value {
            serde_json::from_slice(&self.body)
                .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
        }

        /// The stable code of a refusal, which must be one in the one shape.
        pub fn code(&self) -> String {
            let problem = self.json();
            assert_eq!(self.headers["content-type"], "application/problem+json", "{problem}");
            for member in ["type", "code", "title", "detail", "who_can_act", "what_next"] {
                assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
            }
            assert_eq!(problem["status"], self.status.as_u16(), "{problem}");
            problem["code"].as_str().unwrap().to_owned()
        }

        pub fn detail(&self) -> String {
            self.json()["detail"].as_str().unwrap().to_owned()
        }
    }
}

/// A clock that a test moves: seconds beside the machine's.
pub fn shifted(by: &Arc<std::sync::atomic::AtomicI64>) -> Clock {
    let by = Arc::clone(by);
    Arc::new(move || UnixTime(now().0 + by.load(std::sync::atomic::Ordering::SeqCst)))
}

/// A service that runs until it is dropped or stopped.
pub struct Running {
    pub address: SocketAddr,
    pub store: Arc<dyn Store>,
    pub stop: watch::Sender<bool>,
    pub served: JoinHandle<()>,
}

impl Running {
    /// Starts an embassy with an empty store.
    pub async fn start(site: &Site) -> Self {
        Self::start_with(site, Arc::new(MemoryStore::new()), boot_clock()).await.unwrap()
    }

    pub async fn start_with(site: &Site, store: Arc<dyn Store>, clock: Clock) -> Result<Self, boot::BootError> {
        let directory = Directory::new(&site.directory);
        let settings: Settings = directory.settings()?;
        let ready = boot::open(&directory, &settings, Arc::clone(&store), clock).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(async move { ready.serve(listener, stopped).await.unwrap() });
        Ok(Self { address, store, stop, served })
    }

    /// Ends it as SIGTERM does, and waits.
    pub async fn stop(self) {
        self.stop.send(true).unwrap();
        self.served.await.unwrap();
    }
}

pub fn boot_clock() -> Clock {
    Arc::new(now)
}

/// Whatever the server presents, as long as it is the embassy's by chancery's own rules.
#[derive(Debug)]
struct ByOurRules {
    home: chancery::protocol::certificate::HomeAuthority,
    list: chancery::protocol::certificate::Revocations,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for ByOurRules {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let path: Vec<&[u8]> = std::iter::once(leaf).chain(above).map(|certificate| certificate.as_ref()).collect();
        let judged = self.home.certify(&path, &self.list, now());
        judged.map(|_| ServerCertVerified::assertion()).map_err(|error| rustls::Error::General(error.to_string()))
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// How somebody connects.
pub struct Way {
    pub versions: Vec<&'static rustls::SupportedProtocolVersion>,
    pub groups: Vec<&'static dyn SupportedKxGroup>,
    pub alpn: Vec<Vec<u8>>,
}

impl Default for Way {
    fn default() -> Self {
        Self {
            versions: vec![&rustls::version::TLS13],
            groups: rustls::crypto::aws_lc_rs::default_provider().kx_groups,
            alpn: vec![b"http/1.1".to_vec()],
        }
    }
}

/// A TLS configuration that presents a visitor's certificates; sessions of one configuration are resumed.
pub fn client(world: &World, visitor: Option<&Visitor>, way: &Way) -> Arc<ClientConfig> {
    client_of(&world.home, &world.list, visitor, way)
}

/// The same where only home and its list are known.
pub fn client_of(home: &Home, list: &[u8], visitor: Option<&Visitor>, way: &Way) -> Arc<ClientConfig> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups.clone_from(&way.groups);
    let provider = Arc::new(provider);
    let list = home.authority().revocations(list).unwrap();
    let rules = ByOurRules { home: home.authority(), list, provider: Arc::clone(&provider) };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&way.versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(rules));
    let mut config = match visitor {
        None => builder.with_no_client_auth(),
        Some(visitor) => {
            let path = visitor.path.iter().map(|der| CertificateDer::from(der.clone())).collect();
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(visitor.key.pkcs8()));
            // As it is: also with a key that is not the certificate's.
            let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
            let presented = rustls::sign::CertifiedKey::new(path, key);
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(presented)))
        }
    };
    config.alpn_protocols.clone_from(&way.alpn);
    Arc::new(config)
}

/// One connection with HTTP/1.1 on it.
pub struct Line {
    pub sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    pub resumed: bool,
    pub group: Option<rustls::NamedGroup>,
    driver: JoinHandle<Option<String>>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Shakes hands; TLS 1.3 servers refuse a client's certificate only after the client is done, so an error may come later.
pub async fn handshake(address: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::clone(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

impl Line {
    pub async fn open(address: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<Self> {
        let stream = handshake(address, config).await?;
        let session = stream.get_ref().1;
        let resumed = session.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        let group = session.negotiated_key_exchange_group().map(SupportedKxGroup::name);
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        let driver = tokio::spawn(async move { connection.await.err().map(|error| chain(&error)) });
        Ok(Self { sender, resumed, group, driver })
    }

    pub async fn send(&mut self, request: hyper::Request<Full<Bytes>>) -> Result<Response, hyper::Error> {
        self.sender.ready().await?;
        let (parts, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes().to_vec();
        Ok(Response { status: parts.status, headers: parts.headers, body })
    }

    pub async fn get(&mut self, path: &str) -> Result<Response, hyper::Error> {
        self.send(request("GET", path, &[], b"")).await
    }

    pub async fn post(&mut self, path: &str, json: &serde_json::Value) -> Result<Response, hyper::Error> {
        let body = serde_json::to_vec(json).unwrap();
        self.send(request("POST", path, &[("content-type", "application/json")], &body)).await
    }
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> hyper::Request<Full<Bytes>> {
    let mut request = hyper::Request::builder().method(method).uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::copy_from_slice(body))).unwrap()
}

/// What a visitor is told at GET /v1/status: the answer, or why there is none.
pub async fn status(running: &Running, config: &Arc<ClientConfig>) -> Result<Response, String> {
    status_at(running.address, config).await
}

/// The same of whoever listens at an address.
pub async fn status_at(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<Response, String> {
    let mut line = Line::open(address, config).await.map_err(|error| chain(&error))?;
    match line.get("/v1/status").await {
        Ok(answer) => Ok(answer),
        // Whoever drives the connection saw why it ended.
        Err(error) => Err((&mut line.driver).await.ok().flatten().unwrap_or_else(|| chain(&error))),
    }
}

/// An error with all its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
