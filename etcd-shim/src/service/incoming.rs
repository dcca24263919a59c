//! What arrives of requests: how large a message may be, how long it may take, and how much of unfinished ones is
//! kept in memory.

use crate::convert::status;
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;
use tonic::Status;

/// Bytes of messages that have begun to arrive and are not complete: a hundred of the largest ones. Beyond it the
/// next piece of any of them ends its call with "too many requests". HTTP/2's windows alone bound it by 8 MiB for
/// each connection, which is no bound with ten thousand of them.
pub const UNFINISHED_BYTES_MAX: usize = 256 << 20;

/// Unary calls whose message did not come with their head: etcd's clients send both together. Each takes about 6 KiB, so
/// that these are 100 MiB. Beyond it a call that waits is refused with "too many requests".
pub const UNFINISHED_CALLS_MAX: usize = 16_384;

/// How long the message of a unary call may take to arrive: etcd's clients send it with the headers. Whoever needs
/// longer holds memory and a place among the streams for nothing.
pub const MESSAGE_PATIENCE: Duration = Duration::from_secs(60);

/// Counts what is unfinished.
#[derive(Debug, Default)]
pub struct Incoming {
    bytes: AtomicUsize,
    calls: AtomicUsize,
}

/// A request body that ends with etcd's error as soon as a message announces itself as too large. tonic has a
/// limit of its own, but answers with another code and text.
pub struct MeasuredBody<B> {
    body: B,
    limit_bytes: u64,
    frames: Frames,
    incoming: Arc<Incoming>,
    /// What this body has counted in `incoming`.
    counted: usize,
    /// Whether it is one of the counted calls.
    waits: bool,
    patience: Patience,
}

/// The time that is left for a message.
enum Patience {
    /// There may be none for hours: the body of a stream.
    Endless,
    /// Nothing was missing so far.
    Fresh(Duration),
    Waiting(Pin<Box<Sleep>>),
}

/// Follows the gRPC frames through the chunks they arrive in.
#[derive(Default)]
struct Frames {
    prefix: [u8; PREFIX_BYTES],
    /// How much of the present frame's prefix is there.
    prefix_len: usize,
    /// How long its message is, and how much of it is still to come.
    message_len: u64,
    message_left: u64,
    /// Whether a whole message has come.
    whole: bool,
}

/// A compression flag and a big-endian length.
const PREFIX_BYTES: usize = 5;

impl Frames {
    /// Takes the next chunk; gives the length of a message that is longer than the limit.
    fn take(&mut self, mut chunk: &[u8], limit_bytes: u64) -> Result<(), u64> {
        while !chunk.is_empty() {
            if self.message_left > 0 {
                let step = self.message_left.min(chunk.len() as u64);
                self.message_left -= step;
                self.whole |= self.message_left == 0;
                chunk = &chunk[step as usize..];
                continue;
            }
            let step = (PREFIX_BYTES - self.prefix_len).min(chunk.len());
            self.prefix[self.prefix_len..self.prefix_len + step].copy_from_slice(&chunk[..step]);
            self.prefix_len += step;
            chunk = &chunk[step..];
            if self.prefix_len == PREFIX_BYTES {
                let [_, length @ ..] = self.prefix;
                self.message_len = u64::from(u32::from_be_bytes(length));
                self.message_left = self.message_len;
                self.prefix_len = 0;
                self.whole |= self.message_left == 0;
                if self.message_left > limit_bytes {
                    return Err(self.message_left);
                }
            }
        }
        Ok(())
    }

    /// What is kept of the message that is under way.
    fn unfinished(&self) -> usize {
        if self.message_left == 0 { 0 } else { (self.message_len - self.message_left) as usize }
    }
}

impl<B> MeasuredBody<B> {
    /// `streams` says that the client may take its time between messages.
    pub fn new(body: B, limit_bytes: u64, incoming: &Arc<Incoming>, streams: bool) -> Self {
        let patience = if streams { Patience::Endless } else { Patience::Fresh(MESSAGE_PATIENCE) };
        let incoming = Arc::clone(incoming);
        Self { body, limit_bytes, frames: Frames::default(), incoming, counted: 0, waits: false, patience }
    }

    fn arrived(&mut self, chunk: &[u8]) -> Result<(), Status> {
        let limit_bytes = self.limit_bytes;
        let taken = self.frames.take(chunk, limit_bytes);
        taken.map_err(|size_bytes| status::message_too_large(size_bytes, limit_bytes))?;
        if self.frames.whole {
            self.waits_no_more();
        }
        if self.count(self.frames.unfinished()) > UNFINISHED_BYTES_MAX {
            return Err(status::TOO_MANY_REQUESTS.into());
        }
        Ok(())
    }

    /// Counts what is unfinished here now; gives the sum of everybody's, or 0 when nothing has changed.
    fn count(&mut self, now: usize) -> usize {
        let before = std::mem::replace(&mut self.counted, now);
        if now == before {
            return 0;
        }
        // Wraps when it shrinks, as the counter does.
        let change = now.wrapping_sub(before);
        self.incoming.bytes.fetch_add(change, Ordering::Relaxed).wrapping_add(change)
    }

    fn waits_no_more(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.incoming.calls.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Ready when a unary call's message takes too long, or too many wait for theirs.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        if self.frames.whole {
            return Poll::Pending;
        }
        if let Patience::Fresh(patience) = self.patience {
            self.waits = true;
            if self.incoming.calls.fetch_add(1, Ordering::Relaxed) >= UNFINISHED_CALLS_MAX {
                return Poll::Ready(status::TOO_MANY_REQUESTS.into());
            }
            self.patience = Patience::Waiting(Box::pin(tokio::time::sleep(patience)));
        }
        match &mut self.patience {
            Patience::Waiting(sleep) => sleep.as_mut().poll(context).map(|()| status::TIMEOUT.into()),
            Patience::Endless | Patience::Fresh(_) => Poll::Pending,
        }
    }
}

impl<B> Drop for MeasuredBody<B> {
    fn drop(&mut self) {
        self.count(0);
        self.waits_no_more();
    }
}

impl<B> Body for MeasuredBody<B>
where
    B: Body<Data = Bytes, Error = Status> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref()
                    && let Err(status) = self.arrived(data.chunk())
                {
                    return Poll::Ready(Some(Err(status)));
                }
            }
            Poll::Pending => {
                if let Poll::Ready(status) = self.poll_patience(context) {
                    return Poll::Ready(Some(Err(status)));
                }
            }
            _ => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::collections::VecDeque;

    fn frame(length: u32, sent: usize) -> Vec<u8> {
        let mut out = vec![0];
        out.extend(length.to_be_bytes());
        out.extend(std::iter::repeat_n(0xff, sent));
        out
    }

    /// A body of which nothing ever comes.
    struct Silent;

    impl Body for Silent {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn calls_without_a_message_are_bounded_in_number() {
        let incoming = Arc::new(Incoming::default());
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut begin = || {
            let mut body = MeasuredBody::new(Silent, 200, &incoming, false);
            let refused = match Pin::new(&mut body).poll_frame(&mut context) {
                Poll::Pending => None,
                Poll::Ready(end) => Some(end.unwrap().unwrap_err()),
            };
            (body, refused)
        };
        let mut waiting: Vec<_> = (0..UNFINISHED_CALLS_MAX).map(|_| begin()).collect();
        assert!(waiting.iter().all(|(_, refused)| refused.is_none()));
        let (_, refused) = begin();
        assert!(refused.unwrap().message().contains("too many requests"));
        waiting.pop();
        assert!(begin().1.is_none(), "there is room again");
        // Streams may be silent for hours.
        let mut stream = MeasuredBody::new(Silent, 200, &incoming, true);
        assert!(Pin::new(&mut stream).poll_frame(&mut context).is_pending());
    }

    #[test]
    fn frames_are_followed_through_any_chunks() {
        let mut bytes = frame(100, 100);
        bytes.extend(frame(0, 0));
        bytes.extend(frame(200, 200));
        bytes.extend(frame(201, 0));
        for size in [1, 2, 3, 7, 105, 1000] {
            let mut frames = Frames::default();
            let found: Vec<u64> =
                bytes.chunks(size).filter_map(|chunk| frames.take(chunk, 200).err()).collect();
            assert_eq!(found, [201], "chunks of {size}");
        }
    }

    /// Chunks, then silence.
    struct Sent(VecDeque<Vec<u8>>);

    impl Body for Sent {
        type Data = Bytes;
        type Error = Status;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            match self.0.pop_front() {
                Some(chunk) => Poll::Ready(Some(Ok(Frame::data(chunk.into())))),
                None => Poll::Pending,
            }
        }
    }

    fn body(incoming: &Arc<Incoming>, streams: bool, chunks: &[Vec<u8>]) -> MeasuredBody<Sent> {
        let mut body = MeasuredBody::new(Sent(chunks.to_vec().into()), 1 << 30, incoming, streams);
        if !streams {
            body.patience = Patience::Fresh(Duration::from_millis(20));
        }
        body
    }

    #[tokio::test]
    async fn what_is_unfinished_is_counted_and_bounded() {
        let incoming = Arc::new(Incoming::default());
        let held = || incoming.bytes.load(Ordering::Relaxed);
        let half = UNFINISHED_BYTES_MAX / 2;
        let begun = frame(half as u32 + 100, half);
        let mut first = body(&incoming, true, &[begun.clone(), vec![1; 100], frame(10, 5)]);
        assert!(first.frame().await.unwrap().is_ok());
        assert_eq!(held(), half);
        let mut second = body(&incoming, true, std::slice::from_ref(&begun));
        assert!(second.frame().await.unwrap().is_ok());
        let mut third = body(&incoming, true, &[frame(10, 5)]);
        let refused = third.frame().await.unwrap().unwrap_err();
        assert_eq!(refused.message(), "etcdserver: too many requests");
        drop((second, third));
        assert!(first.frame().await.unwrap().is_ok());
        assert_eq!(held(), 0, "a whole message is the next one's business");
        assert!(first.frame().await.unwrap().is_ok());
        assert_eq!(held(), 5);
        drop(first);
        assert_eq!(held(), 0);
    }

    #[tokio::test]
    async fn the_message_of_a_unary_call_must_arrive() {
        let incoming = Arc::new(Incoming::default());
        for chunks in [vec![], vec![frame(10, 5)], vec![vec![0]]] {
            let mut slow = body(&incoming, false, &chunks);
            for _ in 0..chunks.len() {
                assert!(slow.frame().await.unwrap().is_ok());
            }
            let ended = slow.frame().await.unwrap().unwrap_err();
            assert_eq!(ended.message(), "etcdserver: request timed out");
        }
        let patient = async |mut body: MeasuredBody<Sent>| {
            assert!(body.frame().await.unwrap().is_ok());
            tokio::time::timeout(Duration::from_millis(100), body.frame()).await.is_err()
        };
        assert!(patient(body(&incoming, false, &[frame(0, 0)])).await, "an empty message is whole");
        assert!(patient(body(&incoming, true, &[frame(10, 5)])).await, "a stream may rest");
    }
}
