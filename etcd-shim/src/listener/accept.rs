//! Taking connections from a socket.

use super::bind::{Bound, Socket, Stream, prepare};
use super::connection::{self, Http2Settings};
use super::line::Line;
use super::shutdown::Signal;
use crate::arrivals::Arrivals;
use crate::logging::Rarely;
use crate::tls::TlsSource;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use std::convert::Infallible;
use std::future::poll_fn;
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

/// Between two lines about handshakes that failed, or about the bound.
const WARNING_PAUSE: Duration = Duration::from_secs(1);

/// A bound on connections, shared by any number of listeners.
#[derive(Clone, Debug)]
pub struct Bounds {
    permits: Arc<Semaphore>,
    line: Line,
    warnings: Arc<Rarely>,
}

impl Bounds {
    /// At most this many connections are served at a time, by so many threads. Each listener holds one more that waits.
    pub fn new(connections_max: usize, threads: usize) -> Bounds {
        let permits = Arc::new(Semaphore::new(connections_max.clamp(1, Semaphore::MAX_PERMITS)));
        Bounds { permits, line: Line::new(threads), warnings: Arc::new(Rarely::new(WARNING_PAUSE)) }
    }

    /// Taken after a connection was accepted, not before: an idle listener must not keep a permit from
    /// another one.
    async fn permit(&self, bound: &Bound) -> OwnedSemaphorePermit {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return permit;
        }
        if self.warnings.due().is_some() {
            tracing::warn!(url = %bound.url(), "the bound on connections is reached; new ones wait for others' end");
        }
        self.permits.clone().acquire_owned().await.expect("the semaphore is never closed")
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
    let rejections = Rejections { rarely: Rarely::new(WARNING_PAUSE) };
    let tls = tls.map(|tls| (tls, Arc::new(rejections)));
    let line = bounds.line.clone();
    let serve_one = ServeOne { settings, line, tls, service, signal: signal.clone() };
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
    let mut arrivals = Arrivals::default();
    loop {
        // Thousands that come at once come one by one for everybody else.
        poll_fn(|context| arrivals.poll(context)).await;
        let accepted = match &bound.socket {
            Socket::Tcp(listener) => match listener.accept().await {
                Ok((stream, peer)) => match prepare(&stream) {
                    Ok(()) => {
                        let permit = bounds.permit(bound).await;
                        serve_one.spawn(stream, peer.to_string(), permit);
                        Ok(())
                    }
                    // Only a connection that is gone already refuses its options.
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            },
            Socket::Unix(listener, _) => match listener.accept().await {
                Ok((stream, _)) => {
                    let permit = bounds.permit(bound).await;
                    serve_one.spawn(stream, bound.url().to_string(), permit);
                    Ok(())
                }
                Err(error) => Err(error),
            },
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
    settings: Http2Settings,
    line: Line,
    tls: Option<(Arc<TlsSource>, Arc<Rejections>)>,
    service: S,
    signal: Signal,
}

/// Reports handshakes that failed: an operator who rolled out a wrong certificate looks for them.
struct Rejections {
    rarely: Rarely,
}

impl Rejections {
    fn report(&self, peer: &str, error: &io::Error) {
        // A probe that only connects says nothing and leaves; that is no failure.
        if error.kind() == ErrorKind::UnexpectedEof {
            tracing::debug!(remote_addr = peer, "a peer left during the TLS handshake");
        } else if let Some(held_back) = self.rarely.due() {
            tracing::warn!(
                remote_addr = peer,
                %error,
                others_since_last_line = held_back,
                "rejected connection on client endpoint"
            );
        }
    }
}

impl<S, B> ServeOne<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn spawn(&self, stream: impl Stream, peer: String, permit: OwnedSemaphorePermit) {
        let (settings, line) = (self.settings.clone(), self.line.clone());
        let (service, mut signal) = (self.service.clone(), self.signal.clone());
        let Some((tls, rejections)) = self.tls.clone() else {
            tokio::spawn(async move {
                connection::serve(&settings, &line, stream, service, signal).await;
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
                Ok(Ok(stream)) => connection::serve(&settings, &line, stream, service, signal).await,
                Ok(Err(error)) => rejections.report(&peer, &error),
                Err(_) => rejections.report(&peer, &ErrorKind::TimedOut.into()),
            }
            drop(permit);
        });
    }
}
