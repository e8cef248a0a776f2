//! The listener: accepts connections, shakes hands, and ends whatever no longer stands.
//!
//! Everything a stranger can make it do has a bound: how many connections, how long a handshake, a header, a request. The
//! peer of a connection is judged once when it comes, again before each request (`peer.rs`), and whenever list or charter
//! change while it is open.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::service::{
    peer::{Connection, Door, Peer, Refusal},
    tls::{self, Tls},
};

/// How long somebody who was refused is listened to, and how many bytes.
const PARTING: Duration = Duration::from_secs(1);
const PARTING_BYTES: u64 = 64 * 1024;

/// What strangers may take up.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at once. Who comes when there are as many waits in the kernel's queue.
    pub connections: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the head of a request.
    pub head: Duration,
    /// For the head of a request, in bytes.
    pub head_bytes: u32,
    /// Header fields of a request.
    pub headers: usize,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
    /// Between two looks at an open connection's certificates, where nothing else changed.
    pub look: Duration,
    /// For what is under way when the service stops.
    pub stop: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 1024,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            head_bytes: 16 * 1024,
            headers: 64,
            streams: 64,
            look: Duration::from_secs(5),
            stop: Duration::from_secs(5),
        }
    }
}

/// Accepts until `stop` says so, then lets what is under way end.
pub async fn serve<D: Door>(
    listener: TcpListener,
    door: D,
    router: Router,
    tls: Arc<Tls>,
    bounds: Bounds,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let mut connections = JoinSet::new();
    loop {
        let place = Arc::clone(&places);
        let accepted = tokio::select! {
            // A stop comes first, then what has ended, then new ones.
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = accept(&listener, place) => accepted,
        };
        let Some((stream, from, permit)) = accepted else { continue };
        let line = Line { door: door.clone(), router: router.clone(), bounds, stop: stop.clone() };
        let acceptor = match tls.config() {
            Ok(config) => TlsAcceptor::from(config),
            Err(error) => {
                tracing::error!(%from, %error, "a connection was closed: there is no TLS for what is in force");
                continue;
            }
        };
        connections.spawn(async move {
            line.run(acceptor, stream, from).await;
            drop(permit);
        });
    }
    drop(listener);
    let ended = timeout(bounds.stop, async { while connections.join_next().await.is_some() {} });
    if ended.await.is_err() {
        tracing::warn!("connections were cut: they did not end in time");
        connections.shutdown().await;
    }
}

/// A connection and a place for it.
async fn accept(
    listener: &TcpListener,
    places: Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = places.acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, from)) => {
            // Answers are small and awaited.
            let _ = stream.set_nodelay(true);
            Some((stream, from, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            // Most often there are no file descriptors left: let some be given back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

/// Lets whoever was refused read why. A client of TLS 1.3 has sent its request by then; were the connection closed with that
/// unread, the kernel would reset it, and the alert be lost with it.
async fn part(mut stream: TcpStream) {
    let heard = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(PARTING_BYTES), &mut tokio::io::sink()).await
    };
    let _ = timeout(PARTING, heard).await;
}

/// One connection's surroundings.
struct Line<D> {
    door: D,
    router: Router,
    bounds: Bounds,
    stop: watch::Receiver<bool>,
}

impl<D: Door> Line<D> {
    async fn run(self, acceptor: TlsAcceptor, stream: TcpStream, from: SocketAddr) {
        let stream = match timeout(self.bounds.handshake, acceptor.accept(stream).into_fallible()).await {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, stream))) => {
                tracing::info!(%from, %error, "a handshake failed");
                return part(stream).await;
            }
            Err(_) => return tracing::info!(%from, "a handshake took too long"),
        };
        let judged = self.judge(&stream);
        match &judged {
            Ok(peer) => tracing::debug!(%from, role = %peer.role(), name = %peer.name(), "connected"),
            Err(refusal) => tracing::info!(%from, %refusal, "a peer was refused"),
        }
        self.http(stream, judged).await;
    }

    fn judge(&self, stream: &TlsStream<TcpStream>) -> Result<Peer, Refusal> {
        let (_, session) = stream.get_ref();
        let path: Vec<&[u8]> =
            session.peer_certificates().unwrap_or_default().iter().map(|certificate| certificate.as_ref()).collect();
        let group = session.negotiated_key_exchange_group().map(rustls::crypto::SupportedKxGroup::name);
        Peer::admit(&path, tls::exchange(group), &self.door.trust().get(), self.door.now())
    }

    async fn http(mut self, stream: TlsStream<TcpStream>, judged: Result<Peer, Refusal>) {
        let connection = Connection(Arc::new(judged));
        let (router, extension) = (TowerToHyperService::new(self.router.clone()), connection.clone());
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(extension.clone());
            router.call(request)
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        let Bounds { head, head_bytes, headers, streams, .. } = self.bounds;
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(head)
            .max_headers(headers)
            .max_buf_size(usize::try_from(head_bytes).unwrap_or(usize::MAX));
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(head_bytes)
            .max_concurrent_streams(streams)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20));
        let served = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(served);
        let mut changes = self.door.trust().changes();
        let mut looks = tokio::time::interval(self.bounds.look);
        let mut stopping = false;
        loop {
            tokio::select! {
                ended = served.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection broke");
                    }
                    return;
                }
                _ = self.stop.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    served.as_mut().graceful_shutdown();
                }
                _ = changes.changed() => {}
                _ = looks.tick() => {}
            }
            if let Ok(peer) = connection.0.as_ref()
                && let Err(refusal) = peer.still_stands(&self.door.trust().get(), self.door.now())
            {
                tracing::info!(role = %peer.role(), name = %peer.name(), %refusal, "a connection was ended");
                return;
            }
        }
    }
}
