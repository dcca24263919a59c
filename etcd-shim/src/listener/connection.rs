//! One connection: HTTP/1 or HTTP/2, whichever the peer speaks.

use super::fair::Fair;
use super::first_bytes::FirstBytes;
use super::line::{Line, Turns};
use super::requests::{Accepted, Requests};
use super::shutdown::Signal;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use kvstore::CallerId;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// How long a peer may take to show which protocol it speaks, or to send the head of an HTTP/1 request.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// Bytes a peer may send on one stream before it must wait for us: the largest request of the default
/// settings (1.5 MiB) arrives without a pause.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;

/// The same for all streams of a connection. It is also what one connection can make us hold.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// The largest HTTP/2 frame we take; fewer frames for large puts.
const FRAME_BYTES_MAX: u32 = 64 << 10;

/// Bytes of one stream's replies that wait for the peer's window; bursts of watch events fit.
const SEND_BUFFER_BYTES: usize = 1 << 20;

/// Size of a request's header fields. Tokens and Kubernetes' metadata are far below.
const HEADER_BYTES_MAX: u32 = 64 << 10;

/// Streams that were opened and reset again before we saw them. h2's 20 is soon reached by a client that
/// gives up on a few dozen requests at once; a flood of them still ends the connection.
const RESET_STREAMS_MAX: usize = 1024;

/// Numbers connections, so that the store can treat them alike. 0 is nobody.
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// What the flags say about HTTP/2.
#[derive(Clone, Debug)]
pub struct Http2Settings {
    /// Streams that a connection may have open at a time.
    pub max_concurrent_streams: u32,
    /// Time between pings of the server; none turns them off.
    pub keepalive_interval: Option<Duration>,
    /// How long the answer to a ping may take.
    pub keepalive_timeout: Duration,
}

/// The builder that serves a connection.
fn builder(settings: &Http2Settings, accepted: Accepted) -> auto::Builder<Accepted> {
    let mut builder = auto::Builder::new(accepted);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE).keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .max_concurrent_streams(settings.max_concurrent_streams)
        .keep_alive_interval(settings.keepalive_interval)
        .keep_alive_timeout(settings.keepalive_timeout);
    builder
}

/// Serves a connection until the peer leaves or the end comes.
pub(super) async fn serve<I, S, B>(
    settings: &Http2Settings,
    line: &Line,
    stream: I,
    service: S,
    mut signal: Signal,
) where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let caller = CallerId::new(CONNECTIONS.fetch_add(1, Ordering::Relaxed));
    let mut turns = Turns::new(line);
    let turn = turns.turn();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(turn.clone());
        let unanswered = turn.accepted();
        let response = service.call(request);
        async move {
            let response = response.await;
            drop(unanswered);
            response
        }
    });
    let accepted = Accepted::default();
    let mut requests = Requests::new(accepted.clone(), turns.turn());
    let stream = TokioIo::new(Fair::new(FirstBytes::new(stream, HEAD_PATIENCE), turns.turn()));
    let builder = builder(settings, accepted);
    let mut connection = std::pin::pin!(builder.serve_connection(stream, service));
    let ended = tokio::select! {
        biased;
        ended = in_turns(&mut turns, &mut requests, connection.as_mut()) => Some(ended),
        () = signal.draining() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                ended = in_turns(&mut turns, &mut requests, connection.as_mut()) => ended,
                () = signal.dropping() => return,
            }
        }
    };
    if let Err(error) = ended {
        // Peers that vanish or misbehave are everyday life; who looks for them asks for it.
        tracing::debug!(%error, "a connection ended with an error");
    }
}

/// Polls a connection and its requests in turns.
async fn in_turns<F: Future>(
    turns: &mut Turns,
    requests: &mut Requests,
    mut connection: Pin<&mut F>,
) -> F::Output {
    let ear = Arc::new(Ear::default());
    let heard_by = Waker::from(ear.clone());
    poll_fn(|context| {
        ear.listen_for(context.waker());
        let mut its_context = Context::from_waker(&heard_by);
        turns.poll(context, |context| {
            // Answers first: the connection writes them right away.
            ear.during_work(|| requests.work(context));
            loop {
                if let Poll::Ready(ended) = connection.as_mut().poll(&mut its_context) {
                    return Poll::Ready(ended);
                }
                if !ear.during_work(|| requests.work_on_new(context)) {
                    return Poll::Pending;
                }
            }
        })
    })
    .await
}

/// What wakes a connection. Its own requests do, whenever they have something to send; while they are worked on
/// nobody needs to be woken, because the connection is polled next.
#[derive(Default)]
struct Ear {
    task: AtomicWaker,
    state: AtomicU8,
}

/// Wakes go to the task.
const LISTENS: u8 = 0;
/// Requests are worked on.
const WORKS: u8 = 1;
/// The same, and somebody has woken the connection.
const HAS_HEARD: u8 = 2;

impl Ear {
    fn listen_for(&self, task: &Waker) {
        self.task.register(task);
    }

    /// Whether something is to be done for the connection.
    fn during_work(&self, work: impl FnOnce()) -> bool {
        self.state.store(WORKS, Ordering::Release);
        work();
        self.state.swap(LISTENS, Ordering::AcqRel) == HAS_HEARD
    }
}

impl Wake for Ear {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // One step, since other threads wake, too: what comes just after the work must reach the task.
        let hears = |state| (state != LISTENS).then_some(HAS_HEARD);
        if self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, hears).is_err() {
            self.task.wake();
        }
    }
}
