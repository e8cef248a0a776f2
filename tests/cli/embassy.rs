//! An embassy of the tests' own: TLS 1.3 with the certificates that home issued, and one answer for whatever is asked.
//!
//! It is as strict as the real one in what it shows (a leaf signed by the enrolled identity key), and knows nothing of
//! ceremonies.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
};

use chancery::{
    keys::{
        IdentitySigner, MemorySigner,
        issue::{self, IssuerName, Request},
    },
    protocol::{
        certificate::{Identity, Role, TrustDomain, UnixTime},
        charter::Country,
        hash::Hash,
        ids::SubjectName,
    },
};
use rand_core::OsRng;
use rustls::{
    ServerConfig, ServerConnection, SignatureScheme, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::CertificateDer,
    sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey},
};

use super::network::secret;

/// What was asked, and what is answered: status and JSON.
pub type Answer = Box<dyn Fn(&str, &str) -> (u16, String) + Send + Sync>;

pub struct Embassy {
    pub url: String,
    /// Path and body of each request.
    pub asked: Arc<Mutex<Vec<(String, String)>>>,
}

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

fn der(path: &Path) -> Vec<u8> {
    let text = std::fs::read_to_string(path).unwrap();
    x509_parser::pem::parse_x509_pem(text.as_bytes()).unwrap().1.contents
}

/// Starts an embassy whose authority stands in `authority`, with the identity key of [`super::network::made`].
pub fn start(authority: &Path, answer: Answer) -> Embassy {
    start_as(authority, "embassy identity", answer)
}

/// The same, with the identity key of whoever stands there.
pub fn start_as(authority: &Path, identity: &str, answer: Answer) -> Embassy {
    let identity_key = MemorySigner::new(&secret(identity));
    let leaf_key = MemorySigner::new(&secret("embassy leaf"));
    let of = |role| Identity {
        trust_domain: TrustDomain::new("registers.example").unwrap(),
        role,
        name: SubjectName::new("luxembourg").unwrap(),
    };
    let issuer = IssuerName { country: Country::new("EE").unwrap(), identity: of(Role::EmbassyAuthority) };
    let now =
        i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let request = Request {
        identity: of(Role::Embassy),
        key: *leaf_key.public(),
        not_before: UnixTime(now - 60),
        not_after: UnixTime(now + 3600),
        places: Vec::new(),
    };
    let leaf = issue::certificate(&issuer, &identity_key, &request, &mut OsRng).unwrap();
    let path = vec![CertificateDer::from(leaf), CertificateDer::from(der(authority))];
    let pair = CertifiedKey::new(path, Arc::new(TlsKey(Arc::new(leaf_key))));
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let config = Arc::new(config);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let seen = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            // A visitor who hangs up is no fault of the embassy's.
            let _ = serve(stream, &config, &answer, &seen);
        }
    });
    Embassy { url, asked }
}

fn serve(
    stream: TcpStream,
    config: &Arc<ServerConfig>,
    answer: &Answer,
    seen: &Mutex<Vec<(String, String)>>,
) -> std::io::Result<()> {
    let connection = ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    loop {
        let mut first = String::new();
        if stream.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let (path, body) = (first.split(' ').nth(1).unwrap_or_default().to_owned(), String::from_utf8_lossy(&body));
        let (status, text) = answer(&path, &body);
        seen.lock().unwrap().push((path, body.into_owned()));
        let kind = if status < 400 { "application/json" } else { "application/problem+json" };
        let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", text.len());
        stream.get_mut().write_all(head.as_bytes())?;
        stream.get_mut().write_all(text.as_bytes())?;
        stream.get_mut().flush()?;
    }
}
