//! The line to an embassy, listened to for the TLS alert with which it ends.
//!
//! A TLS 1.3 server refuses a client's certificate after the client has finished its part of the handshake, so the refusal
//! arrives as the end of a connection that was made, and the HTTP library tells of that end without its reason. The reason
//! is noted here as it passes by; nothing is changed.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use rustls::AlertDescription;
use tokio::net::TcpStream;
use tower_service::Service;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Inner = MaybeHttpsStream<TokioIo<TcpStream>>;

/// The last alert that came.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Mutex<Option<AlertDescription>>>);

impl Heard {
    fn note(&self, error: &io::Error) {
        if let Some(rustls::Error::AlertReceived(alert)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(*alert);
        }
    }

    /// Takes it, so that it explains one failure.
    pub(super) fn take(&self) -> Option<AlertDescription> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Makes lines that are listened to.
#[derive(Clone, Debug)]
pub(super) struct Listening {
    pub(super) inner: HttpsConnector<HttpConnector>,
    pub(super) heard: Heard,
}

impl Service<Uri> for Listening {
    type Response = Line;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Line, Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (connecting, heard) = (self.inner.call(to), self.heard.clone());
        Box::pin(async move { Ok(Line { inner: connecting.await?, heard }) })
    }
}

/// A line that is listened to.
#[derive(Debug)]
pub(super) struct Line {
    inner: Inner,
    heard: Heard,
}

impl Line {
    fn listen<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled {
            self.heard.note(error);
        }
        polled
    }
}

impl Read for Line {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(context, into);
        self.listen(polled)
    }
}

impl Write for Line {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.listen(polled)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(context);
        self.listen(polled)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_shutdown(context);
        self.listen(polled)
    }
    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.listen(polled)
    }
}

impl Connection for Line {
    fn connected(&self) -> Connected {
        self.inner.connected()
    }
}
