//! The one HTTP client: bounded, timed, and typed in its errors; every tool speaks through it.
//!
//! Trusts what [`Trust`] trusts. An answer is read up to a bound, never longer than a deadline, and comes out as the type
//! that was asked for or as a [`ClientError`]. A request that may be repeated is repeated where only the network failed.

use std::{error::Error as StdError, io, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::client::{
    ClientError, Distrust,
    alert::{Heard, Listening},
    api::{PROBLEM_JSON, Problem},
    events::Events,
    tls::{Clock, Exchange, Judge, OwnIdentity, configure},
    trust::Trust,
};

/// The longest answer, in bytes: a list of charters, each at most half a megabyte, in base64.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// The longest refusal.
const MAX_PROBLEM_BYTES: usize = 64 * 1024;
/// The pauses before a request is sent a second and a third time.
const PAUSES: [Duration; 2] = [Duration::from_millis(150), Duration::from_millis(800)];

/// Where an embassy is, whom to believe there, and how patient to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `https://host:port`.
    pub url: String,
    /// Whom to take for the embassy.
    pub trust: Trust,
    /// Who we are; without it only what is open to everybody answers.
    pub own: Option<OwnIdentity>,
    /// How the connection's keys are exchanged.
    pub exchange: Exchange,
    /// The time.
    pub clock: Clock,
    /// How long to wait for a connection, in seconds.
    pub connect_seconds: u64,
    /// How long to wait for a whole answer, in seconds.
    pub answer_seconds: u64,
}

impl Settings {
    /// With the machine's clock, 10 s for a connection and 60 s for an answer: an opening waits for a TPM.
    pub fn new(url: &str, trust: Trust, own: Option<OwnIdentity>) -> Self {
        Self {
            url: url.to_owned(),
            trust,
            own,
            exchange: Exchange::HybridPreferred,
            clock: super::system_clock,
            connect_seconds: 10,
            answer_seconds: 60,
        }
    }
}

/// Whether a request may be sent again where nobody knows whether it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Yes: the same document a second time changes nothing.
    Safe,
    /// Yes, under this key: the embassy answers a second one as it answered the first.
    Keyed(String),
    /// No.
    Never,
}

/// A client of one embassy. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    pool: Pool<Listening, Full<Bytes>>,
    heard: Heard,
    judge: Arc<Judge>,
    settings: Arc<Settings>,
    base: String,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({} at {})", self.settings.trust.embassy(), self.base)
    }
}

impl Client {
    /// Prepares connections; makes none yet.
    ///
    /// # Errors
    /// [`ClientError::Address`], [`ClientError::OwnCertificate`].
    pub fn new(settings: Settings) -> Result<Self, ClientError> {
        let base = base_of(&settings.url)?;
        let (config, judge) =
            configure(settings.trust.clone(), settings.own.as_ref(), settings.exchange, settings.clock)?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(Duration::from_secs(settings.connect_seconds)));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_all_versions()
            .wrap_connector(tcp);
        let heard = Heard::default();
        let pool = Pool::builder(TokioExecutor::new()).build(Listening { inner: connector, heard: heard.clone() });
        Ok(Self { pool, heard, judge, settings: Arc::new(settings), base })
    }

    /// A client of the same embassy with connections of its own.
    ///
    /// # Errors
    /// Those of [`Client::new`].
    pub fn apart(&self) -> Result<Self, ClientError> {
        Self::new((*self.settings).clone())
    }

    /// The embassy that is spoken to.
    pub fn embassy(&self) -> &crate::protocol::ids::EmbassyName {
        self.settings.trust.embassy()
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// Asks for something; `path` begins with a slash.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.exchange(Method::GET, path, None, &Repeat::Safe).await
    }

    /// Sends something and takes the answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        repeat: &Repeat,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.unreadable(&error))?;
        self.exchange(Method::POST, path, Some(body.into()), repeat).await
    }

    /// Watches server-sent events; `after` is the id of the last one that was seen.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn events(&self, path: &str, after: Option<&str>) -> Result<Events, ClientError> {
        let mut request = self.request(&Method::GET, path, None, &Repeat::Safe)?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(after) = after.and_then(|id| HeaderValue::from_str(id).ok()) {
            request.headers_mut().insert("last-event-id", after);
        }
        let response = self.within(self.send(request)).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refusal(response).await);
        }
        let is_stream = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|found| found.as_bytes().starts_with(b"text/event-stream"));
        if !is_stream {
            return Err(self.unreadable(&"it is not a stream of events"));
        }
        Ok(Events::new(self.embassy().clone(), response.into_body()))
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        repeat: &Repeat,
    ) -> Result<T, ClientError> {
        let mut pauses = PAUSES.into_iter();
        loop {
            let request = self.request(&method, path, body.clone(), repeat)?;
            let failed = match self.within(self.answer(request)).await {
                Ok(bytes) => return serde_json::from_slice(&bytes).map_err(|error| self.unreadable(&error)),
                Err(failed) => failed,
            };
            let again = match repeat {
                // Nothing was sent where nobody answered.
                Repeat::Never => matches!(failed, ClientError::Connect { .. }),
                Repeat::Safe | Repeat::Keyed(_) => {
                    failed.is_passing() && !matches!(failed, ClientError::Timeout { .. })
                }
            };
            match pauses.next().filter(|_| again) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(failed),
            }
        }
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        body: Option<Bytes>,
        repeat: &Repeat,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        request = request.header(header::ACCEPT, "application/json, application/problem+json");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Repeat::Keyed(key) = repeat {
            request = request.header("idempotency-key", key);
        }
        request
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|_| ClientError::Address { url: format!("{}{path}", self.base), reason: "it is no URI" })
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        let seconds = self.settings.answer_seconds;
        match tokio::time::timeout(Duration::from_secs(seconds), work).await {
            Ok(done) => done,
            Err(_) => Err(ClientError::Timeout { embassy: self.embassy().clone(), seconds }),
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
        // TLS judges once per connection, and not on resumption; time and revocation are asked for each request.
        self.judge.still_stands().map_err(|reason| self.distrusted(reason))?;
        // What ended an earlier connection explains nothing of this one.
        let _ = self.heard.take();
        self.pool.request(request).await.map_err(|error| self.classify(&error, error.is_connect()))
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Result<Bytes, ClientError> {
        let response = self.send(request).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        self.body(response, MAX_ANSWER_BYTES).await
    }

    async fn refusal(&self, response: Response<Incoming>) -> ClientError {
        let (embassy, status) = (self.embassy().clone(), response.status().as_u16());
        let says_why = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|found| found.as_bytes().starts_with(PROBLEM_JSON.as_bytes()));
        if says_why
            && let Ok(bytes) = self.body(response, MAX_PROBLEM_BYTES).await
            && let Ok(problem) = serde_json::from_slice::<Problem>(&bytes)
        {
            return ClientError::Problem { embassy, problem: Box::new(problem) };
        }
        ClientError::Status { embassy, status }
    }

    async fn body(&self, response: Response<Incoming>, bound: usize) -> Result<Bytes, ClientError> {
        match Limited::new(response.into_body(), bound).collect().await {
            Ok(whole) => Ok(whole.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(ClientError::TooLong { embassy: self.embassy().clone(), bound })
            }
            Err(error) => Err(self.classify(error.as_ref(), false)),
        }
    }

    /// One table from what hyper and rustls report to what a person can do about it.
    fn classify(&self, error: &(dyn StdError + 'static), connecting: bool) -> ClientError {
        let (embassy, url) = (self.embassy().clone(), self.base.clone());
        let Some(tls) = find::<rustls::Error>(error) else {
            let reason = deepest(error);
            // Over HTTP/2 the library keeps an alert's words only. A TLS 1.3 server refuses a certificate after the client
            // has finished its part, so this is where that refusal arrives.
            if let Some(alert) = reason.strip_prefix("received fatal alert: ").filter(|_| !connecting) {
                return ClientError::Unwelcome { embassy, alert: alert.to_owned() };
            }
            if let Some(alert) = self.heard.take() {
                return ClientError::Unwelcome { embassy, alert: format!("{alert:?}") };
            }
            return if connecting {
                ClientError::Connect { embassy, url, reason }
            } else {
                ClientError::Lost { embassy, reason }
            };
        };
        match tls {
            rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => {
                match other.0.downcast_ref::<Distrust>() {
                    Some(reason) => self.distrusted(reason.clone()),
                    None => ClientError::Tls { embassy, url, reason: other.to_string(), advice: "Tell home" },
                }
            }
            rustls::Error::AlertReceived(alert) if !connecting || is_about_certificates(*alert) => {
                ClientError::Unwelcome { embassy, alert: format!("{alert:?}") }
            }
            other => {
                let advice = match self.settings.exchange {
                    Exchange::HybridRequired => {
                        "Here the exchange X25519MLKEM768 is required; whoever runs the embassy can say why it is not offered"
                    }
                    Exchange::HybridPreferred => "Whoever runs the embassy, or the network between, can look into it",
                };
                ClientError::Tls { embassy, url, reason: other.to_string(), advice }
            }
        }
    }

    fn distrusted(&self, reason: Distrust) -> ClientError {
        ClientError::Distrusted { embassy: self.embassy().clone(), url: self.base.clone(), reason }
    }

    fn unreadable(&self, reason: &dyn std::fmt::Display) -> ClientError {
        ClientError::Unreadable { embassy: self.embassy().clone(), reason: reason.to_string() }
    }
}

/// Alerts by which a peer refuses a certificate (RFC 8446 §6.2).
const fn is_about_certificates(alert: rustls::AlertDescription) -> bool {
    use rustls::AlertDescription as Alert;
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::CertificateRequired
    )
}

/// `https://host[:port]`, without a path: what every request's path is put behind.
fn base_of(url: &str) -> Result<String, ClientError> {
    let wrong = |reason| ClientError::Address { url: url.to_owned(), reason };
    let uri: Uri = url.parse().map_err(|_| wrong("it is no URI"))?;
    if uri.scheme_str() != Some("https") {
        return Err(wrong("it does not begin with https://"));
    }
    let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
    if !uri.path().trim_matches('/').is_empty() || uri.query().is_some() || authority.as_str().contains('@') {
        return Err(wrong("it has more than a host and a port"));
    }
    Ok(format!("https://{authority}"))
}

/// Finds a cause of one type. An [`io::Error`] hides the error it carries from `source`.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        at = inner(error);
    }
    None
}

fn inner<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(carried) => Some(carried),
        None => error.source(),
    }
}

/// The last cause says it best.
fn deepest(error: &(dyn StdError + 'static)) -> String {
    let mut at = error;
    while let Some(next) = inner(at) {
        at = next;
    }
    at.to_string()
}
