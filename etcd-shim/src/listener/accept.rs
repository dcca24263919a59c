//! Taking connections from a socket.

use super::bind::{Bound, Socket, Stream, prepare};
use super::connection::{self, Http2Settings};
use super::shutdown::{Signal, permits};
use crate::tls::TlsSource;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a TLS handshake may take. Without a deadline peers that only connect would pile up.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// The pause after a first failure to accept, and the longest one. Out of file descriptors, trying at once
/// would keep a processor busy for nothing.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A bound on connections, shared by any number of listeners.
#[derive(Clone, Debug)]
pub struct Bounds {
    permits: Arc<Semaphore>,
}

impl Bounds {
    /// At most this many connections at a time.
    pub fn new(connections_max: usize) -> Bounds {
        Bounds { permits: permits(connections_max) }
    }
}

/// Accepts connections and serves them until `signal` says that the end has come.
pub async fn serve<S, B>(
    bound: Bound,
    tls: Option<Arc<TlsSource>>,
    settings: Http2Settings,
    bounds: Bounds,
    service: S,
    mut signal: Signal,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let tls = tls.filter(|_| bound.url().scheme.is_secure());
    assert!(tls.is_some() || !bound.url().scheme.is_secure(), "a secure URL is never served in the clear");
    let serve_one =
        ServeOne { builder: connection::builder(&settings), tls, service, signal: signal.clone() };
    tokio::select! {
        () = accept_forever(&bound, &bounds, &serve_one) => {}
        () = signal.draining() => {}
    }
}

async fn accept_forever<S, B>(bound: &Bound, bounds: &Bounds, serve_one: &ServeOne<S>)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut pause = PAUSE_MIN;
    loop {
        let permit = permit(bound, bounds).await;
        let accepted = match &bound.socket {
            Socket::Tcp(listener) => match listener.accept().await {
                Ok((stream, _)) => {
                    // Only a connection that is gone already refuses its options.
                    prepare(&stream).map(|()| serve_one.spawn(stream, permit))
                }
                Err(error) => Err(error),
            },
            Socket::Unix(listener, _) => {
                listener.accept().await.map(|(stream, _)| serve_one.spawn(stream, permit))
            }
        };
        match accepted {
            Ok(()) => pause = PAUSE_MIN,
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                tracing::warn!(url = %bound.url(), %error, "cannot accept connections; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

async fn permit(bound: &Bound, bounds: &Bounds) -> OwnedSemaphorePermit {
    if let Ok(permit) = bounds.permits.clone().try_acquire_owned() {
        return permit;
    }
    tracing::warn!(url = %bound.url(), "the bound on connections is reached; new ones wait until others end");
    bounds.permits.clone().acquire_owned().await.expect("the semaphore is never closed")
}

/// Whether only that one connection failed, before it was ours.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::NotConnected
            | ErrorKind::InvalidInput
    )
}

/// What every connection of a listener gets.
struct ServeOne<S> {
    builder: hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>,
    tls: Option<Arc<TlsSource>>,
    service: S,
    signal: Signal,
}

impl<S, B> ServeOne<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn spawn(&self, stream: impl Stream, permit: OwnedSemaphorePermit) {
        let (builder, service, mut signal) =
            (self.builder.clone(), self.service.clone(), self.signal.clone());
        let Some(tls) = self.tls.clone() else {
            tokio::spawn(async move {
                connection::serve(builder, stream, service, signal).await;
                drop(permit);
            });
            return;
        };
        tokio::spawn(async move {
            let handshake = tokio_rustls::TlsAcceptor::from(tls.current()).accept(stream);
            let shaken = tokio::select! {
                shaken = tokio::time::timeout(HANDSHAKE_PATIENCE, handshake) => shaken,
                () = signal.draining() => return,
            };
            match shaken {
                Ok(Ok(stream)) => connection::serve(builder, stream, service, signal).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            }
            drop(permit);
        });
    }
}
