//! Counting gRPC calls, under the names that go-grpc-prometheus made common.

use super::exposition::Exposition;
use crate::logging::Rarely;
use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// gRPC's status codes by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

const CANCELED: usize = 1;
const UNKNOWN: usize = 2;

/// Upper bounds of handling time in milliseconds: Prometheus' default buckets.
const BUCKETS_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];

/// Between two warnings about slow requests. A slow disk makes all of them slow, and saying so for each
/// makes it slower.
const WARNING_PAUSE: Duration = Duration::from_secs(1);

/// How a method's messages flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// One request, one response.
    Unary,
    /// Many requests, one response.
    ClientStream,
    /// One request, many responses.
    ServerStream,
    /// Many of both.
    BidiStream,
}

impl CallKind {
    /// The kind by which sides stream.
    pub fn new(client_streams: bool, server_streams: bool) -> CallKind {
        match (client_streams, server_streams) {
            (false, false) => CallKind::Unary,
            (true, false) => CallKind::ClientStream,
            (false, true) => CallKind::ServerStream,
            (true, true) => CallKind::BidiStream,
        }
    }

    fn label(self) -> &'static str {
        match self {
            CallKind::Unary => "unary",
            CallKind::ClientStream => "client_stream",
            CallKind::ServerStream => "server_stream",
            CallKind::BidiStream => "bidi_stream",
        }
    }
}

/// A method that is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method {
    /// The service with its package.
    pub service: String,
    /// The method.
    pub name: String,
    /// How its messages flow.
    pub kind: CallKind,
}

#[derive(Debug)]
struct Counted {
    method: Method,
    started: AtomicU64,
    handled: [AtomicU64; CODES.len()],
    /// One more than the bounds, for what is above all of them.
    buckets: [AtomicU64; BUCKETS_MS.len() + 1],
    total_us: AtomicU64,
}

impl Counted {
    fn new(method: Method) -> Counted {
        Counted {
            method,
            started: AtomicU64::new(0),
            handled: Default::default(),
            buckets: Default::default(),
            total_us: AtomicU64::new(0),
        }
    }

    fn labels(&self) -> [(&str, &str); 3] {
        [
            ("grpc_method", &self.method.name),
            ("grpc_service", &self.method.service),
            ("grpc_type", self.method.kind.label()),
        ]
    }
}

/// All counters of gRPC.
#[derive(Debug)]
pub struct Calls {
    methods: HashMap<String, Arc<Counted>>,
    /// For calls of methods that do not exist: a client must not invent time series.
    other: Arc<Counted>,
    extensive: bool,
    warn_unary: Duration,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    warnings: Rarely,
}

impl Calls {
    /// Counters for these methods. `extensive` adds histograms of handling time; unary calls that take longer
    /// than `warn_unary` are logged unless it is zero.
    pub fn new(methods: impl IntoIterator<Item = Method>, extensive: bool, warn_unary: Duration) -> Calls {
        let other =
            Method { service: "unknown".to_owned(), name: "unknown".to_owned(), kind: CallKind::Unary };
        Calls {
            methods: methods
                .into_iter()
                .map(|method| {
                    (format!("/{}/{}", method.service, method.name), Arc::new(Counted::new(method)))
                })
                .collect(),
            other: Arc::new(Counted::new(other)),
            extensive,
            warn_unary,
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            warnings: Rarely::new(WARNING_PAUSE),
        }
    }

    /// A call of this path begins.
    pub(super) fn start(self: &Arc<Calls>, path: &str) -> Call {
        let counted = self.methods.get(path).unwrap_or(&self.other).clone();
        counted.started.fetch_add(1, Relaxed);
        Call { calls: self.clone(), counted, begun: Instant::now(), ended: false }
    }

    fn warn(&self, counted: &Counted, took: Duration) {
        if let Some(held_back) = self.warnings.due() {
            let method = &counted.method;
            tracing::warn!(
                method = format!("/{}/{}", method.service, method.name),
                took = crate::config::duration::format(took),
                expected = crate::config::duration::format(self.warn_unary),
                others_since_last_line = held_back,
                "request took too long"
            );
        }
    }

    /// Writes everything counted.
    pub(super) fn expose(&self, out: &mut Exposition) {
        let mut all: Vec<&Counted> = self.methods.values().map(Arc::as_ref).collect();
        all.sort_by(|a, b| a.labels().cmp(&b.labels()));
        if self.other.started.load(Relaxed) > 0 {
            all.push(&self.other);
        }
        let help = "Total number of RPCs started on the server.";
        let mut family = out.family("grpc_server_started_total", help, "counter");
        for counted in &all {
            family.sample(&counted.labels(), counted.started.load(Relaxed) as f64);
        }
        let help = "Total number of RPCs completed on the server, regardless of success or failure.";
        let mut family = out.family("grpc_server_handled_total", help, "counter");
        for counted in &all {
            for (code, count) in CODES.iter().zip(&counted.handled) {
                let count = count.load(Relaxed);
                // The success of every method is there from the start, so that a rate over it works; each
                // further code appears with its first call.
                if count > 0 || *code == CODES[0] {
                    let [method, service, kind] = counted.labels();
                    family.sample(&[("grpc_code", code), method, service, kind], count as f64);
                }
            }
        }
        if self.extensive {
            let help = "Histogram of response latency (seconds) of gRPC that had been application-level handled by \
                        the server.";
            let mut family = out.family("grpc_server_handling_seconds", help, "histogram");
            for counted in &all {
                expose_handling(&mut family, counted);
            }
        }
        let sent = self.sent_bytes.load(Relaxed);
        let help = "The total number of bytes sent to grpc clients.";
        out.counter("etcd_network_client_grpc_sent_bytes_total", help, sent);
        let received = self.received_bytes.load(Relaxed);
        let help = "The total number of bytes received from grpc clients.";
        out.counter("etcd_network_client_grpc_received_bytes_total", help, received);
    }
}

fn expose_handling(family: &mut super::exposition::Family<'_>, counted: &Counted) {
    let mut below = 0;
    let mut buckets = [(0.0, 0); BUCKETS_MS.len()];
    for (at, bound_ms) in BUCKETS_MS.iter().enumerate() {
        below += counted.buckets[at].load(Relaxed);
        buckets[at] = (*bound_ms as f64 / 1e3, below);
    }
    let count = below + counted.buckets[BUCKETS_MS.len()].load(Relaxed);
    let sum_s = counted.total_us.load(Relaxed) as f64 / 1e6;
    family.histogram(&counted.labels(), &buckets, count, sum_s);
}

/// One call that is going on.
#[derive(Debug)]
pub(super) struct Call {
    calls: Arc<Calls>,
    counted: Arc<Counted>,
    begun: Instant,
    ended: bool,
}

impl Call {
    /// Wraps the request's body.
    pub(super) fn request<B>(&self, body: B) -> ReceivedBody<B> {
        ReceivedBody { body, calls: self.calls.clone() }
    }

    /// Wraps the response's body; its trailers, or the headers when there is no body, say how the call ended.
    pub(super) fn response<B>(mut self, headers: &HeaderMap, body: B) -> SentBody<B> {
        if headers.contains_key("grpc-status") {
            self.end(code(headers));
        }
        SentBody { body, call: self }
    }

    fn end(&mut self, code: usize) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.counted.handled[code].fetch_add(1, Relaxed);
        let calls = &self.calls;
        let warn = !calls.warn_unary.is_zero() && self.counted.method.kind == CallKind::Unary;
        if !calls.extensive && !warn {
            return;
        }
        let took = self.begun.elapsed();
        if calls.extensive {
            let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            let at = BUCKETS_MS.iter().position(|bound_ms| took_us <= bound_ms * 1000);
            self.counted.buckets[at.unwrap_or(BUCKETS_MS.len())].fetch_add(1, Relaxed);
            self.counted.total_us.fetch_add(took_us, Relaxed);
        }
        if warn && took > calls.warn_unary {
            calls.warn(&self.counted, took);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Whoever drops a call before its status left has seen the client go away.
        self.end(CANCELED);
    }
}

fn code(trailers: &HeaderMap) -> usize {
    let code = trailers.get("grpc-status").and_then(|code| code.to_str().ok()?.parse::<usize>().ok());
    code.filter(|code| *code < CODES.len()).unwrap_or(UNKNOWN)
}

/// A request's body that is counted.
#[derive(Debug)]
pub struct ReceivedBody<B> {
    body: B,
    calls: Arc<Calls>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for ReceivedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.calls.received_bytes.fetch_add(data.remaining() as u64, Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body that is counted, and whose trailers end the call.
#[derive(Debug)]
pub struct SentBody<B> {
    body: B,
    call: Call,
}

impl<B: Body<Data = Bytes> + Unpin> Body for SentBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.call.calls.sent_bytes.fetch_add(data.remaining() as u64, Relaxed);
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.call.end(code(trailers));
                }
            }
            Poll::Ready(Some(Err(_)) | None) => self.call.end(UNKNOWN),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
