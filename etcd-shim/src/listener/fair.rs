//! Reading, working and writing in turns.
//!
//! A connection reads as long as there is something to read, and all connections share a thread: fifty clients that
//! send 1.5 MiB each, or thousands of requests at once, would be read to their end one after the other before anybody
//! else's single request is looked at. So it is with writing: a client that takes a list of hundred megabytes as fast as
//! it comes would have the thread for itself. And so it is with the work on the requests.
//!
//! So each connection does a slice of everything in its turn ([`Turn`]), and those that want much wait in a line for
//! their turns ([`super::line`]).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that a connection reads in a turn: about a hundred small requests, or two thirds of a millisecond until they are
/// accepted.
pub const READ_SLICE_BYTES: usize = 16 << 10;

/// The same while the connection has [`MANY_REQUESTS`]: thirty heads of requests, or three small requests.
pub const CROWDED_READ_SLICE_BYTES: usize = 512;

/// Requests of a connection that wait for their answer, from which on it is read in smaller slices: more than an apiserver
/// usually has. Below it whole slices are read, so that a request that was given up at once is seen to be before it is
/// answered.
pub const MANY_REQUESTS: usize = 128;

/// Requests of a connection that are worked on in a turn: a tenth of a millisecond.
pub const REQUESTS_SLICE: usize = 16;

/// Bytes that a connection writes in a turn: what a system needs a tenth of a millisecond for, or two if client and
/// server share a machine. A page of 500 small objects passes at once.
pub const WRITE_SLICE_BYTES: usize = 256 << 10;

/// What a connection may still do in this turn. A turn is one poll of its task: hyper asks for more
/// after each request that it accepts, so that pauses which only one call of `poll_read` sees would bound nothing.
#[derive(Clone, Default)]
pub struct Turn(Arc<Left>);

#[derive(Default)]
struct Left {
    bytes_to_read: AtomicUsize,
    bytes_to_write: AtomicUsize,
    requests: AtomicUsize,
    /// There was more to do.
    is_used_up: AtomicBool,
    /// Requests whose answers have not begun: not of this turn, of the connection.
    unanswered: AtomicUsize,
}

impl Turn {
    pub fn begin(&self) {
        let is_crowded = self.0.unanswered.load(Ordering::Relaxed) >= MANY_REQUESTS;
        let to_read = if is_crowded { CROWDED_READ_SLICE_BYTES } else { READ_SLICE_BYTES };
        self.0.bytes_to_read.store(to_read, Ordering::Relaxed);
        self.0.bytes_to_write.store(WRITE_SLICE_BYTES, Ordering::Relaxed);
        self.0.requests.store(REQUESTS_SLICE, Ordering::Relaxed);
        self.0.is_used_up.store(false, Ordering::Relaxed);
    }

    /// Whether there is more to do than a turn allows.
    pub fn is_used_up(&self) -> bool {
        self.0.is_used_up.load(Ordering::Relaxed)
    }

    /// A request was accepted.
    pub fn accepted(&self) -> Unanswered {
        self.0.unanswered.fetch_add(1, Ordering::Relaxed);
        Unanswered(self.0.clone())
    }

    /// Whether one more request may be worked on.
    pub fn may_work(&self) -> bool {
        self.left(&self.0.requests).is_ready()
    }

    /// A request was worked on; whether it was the last one of the turn.
    pub fn worked(&self) -> bool {
        let left = self.0.requests.load(Ordering::Relaxed).saturating_sub(1);
        self.0.requests.store(left, Ordering::Relaxed);
        left == 0
    }

    /// The one write that passes the slice is not cut: h2 gives a frame or two at a time.
    fn wrote(&self, left: usize, written: &io::Result<usize>) {
        let count = *written.as_ref().unwrap_or(&0);
        self.0.bytes_to_write.store(left.saturating_sub(count), Ordering::Relaxed);
    }

    /// What is left of one kind. With nothing left the caller waits for the next turn, which nobody has to wake it for.
    fn left(&self, counter: &AtomicUsize) -> Poll<usize> {
        match counter.load(Ordering::Relaxed) {
            0 => {
                self.0.is_used_up.store(true, Ordering::Relaxed);
                Poll::Pending
            }
            left => Poll::Ready(left),
        }
    }
}

/// A request whose answer has not begun.
pub struct Unanswered(Arc<Left>);

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.unanswered.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that reads and writes a slice in each turn.
pub struct Fair<S> {
    stream: S,
    turn: Turn,
}

impl<S> Fair<S> {
    pub fn new(stream: S, turn: Turn) -> Fair<S> {
        Fair { stream, turn }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Fair<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = ready!(self.turn.left(&self.turn.0.bytes_to_read));
        // The caller's buffer may hold many slices.
        let mut slice = buffer.take(left);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut slice))?;
        let count = slice.filled().len();
        // SAFETY: `slice` is the beginning of the unfilled part of `buffer`; its first `count` bytes are filled, so
        // they are initialised.
        unsafe { buffer.assume_init(count) };
        buffer.advance(count);
        self.turn.0.bytes_to_read.store(left - count, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Fair<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let left = ready!(self.turn.left(&self.turn.0.bytes_to_write));
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.turn.wrote(left, &written);
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let left = ready!(self.turn.left(&self.turn.0.bytes_to_write));
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bytes));
        self.turn.wrote(left, &written);
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::{Line, Turns};
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Two writers of one thread, to readers that take everything, take turns.
    #[tokio::test]
    async fn writers_take_turns() {
        const SLICES: usize = 8;
        let line = Line::new(1);
        let order = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
        let (mut writers, mut readers) = (Vec::new(), Vec::new());
        for name in 0..2 {
            let (from, mut to) = tokio::io::duplex(WRITE_SLICE_BYTES * SLICES);
            let mut turns = Turns::new(&line);
            let (mut writer, order) = (Fair::new(from, turns.turn()), order.clone());
            // Goes on within a turn whatever it is told, as hyper does.
            writers.push(tokio::spawn(poll_fn({
                let mut bytes = 0;
                move |context| {
                    turns.poll(context, |context| {
                        order.lock().push(name);
                        let before = bytes;
                        for step in 0..8 * SLICES {
                            let piece = [7; WRITE_SLICE_BYTES / 4];
                            let polled = match step % 2 {
                                0 => Pin::new(&mut writer).poll_write(context, &piece),
                                _ => Pin::new(&mut writer)
                                    .poll_write_vectored(context, &[io::IoSlice::new(&piece)]),
                            };
                            if let Poll::Ready(written) = polled {
                                bytes += written.unwrap();
                            }
                            if bytes == WRITE_SLICE_BYTES * SLICES {
                                return Poll::Ready(());
                            }
                        }
                        assert!(bytes - before <= WRITE_SLICE_BYTES, "{} bytes in a turn", bytes - before);
                        Poll::Pending
                    })
                }
            })));
            readers.push(tokio::spawn(async move {
                let mut got = Vec::new();
                to.read_to_end(&mut got).await.unwrap();
                got.len()
            }));
        }
        for (writer, reader) in writers.into_iter().zip(readers) {
            writer.await.unwrap();
            assert_eq!(reader.await.unwrap(), WRITE_SLICE_BYTES * SLICES, "nothing is lost");
        }
        let order = order.lock();
        let changes = order.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(changes >= SLICES, "{order:?}");
    }

    /// Two readers of one thread, each with much to read, take turns.
    #[tokio::test]
    async fn readers_take_turns() {
        const SLICES: usize = 8;
        let line = Line::new(1);
        let order = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
        let mut readers = Vec::new();
        for name in 0..2 {
            let (mut from, to) = tokio::io::duplex(READ_SLICE_BYTES * SLICES);
            from.write_all(&vec![7; READ_SLICE_BYTES * SLICES]).await.unwrap();
            drop(from);
            let mut turns = Turns::new(&line);
            let (mut reader, order) = (Fair::new(to, turns.turn()), order.clone());
            // Reads in small pieces, and goes on within a turn whatever it is told, as hyper does.
            readers.push(tokio::spawn(poll_fn({
                let mut bytes = 0;
                move |context| {
                    turns.poll(context, |context| {
                        order.lock().push(name);
                        let before = bytes;
                        for _ in 0..4 * SLICES {
                            let mut space = vec![0; READ_SLICE_BYTES / 4];
                            let mut buffer = ReadBuf::new(&mut space);
                            let polled = Pin::new(&mut reader).poll_read(context, &mut buffer);
                            bytes += buffer.filled().len();
                            if matches!(polled, Poll::Ready(Ok(()))) && buffer.filled().is_empty() {
                                return Poll::Ready(bytes);
                            }
                        }
                        assert!(bytes - before <= READ_SLICE_BYTES, "{} bytes in a turn", bytes - before);
                        Poll::Pending
                    })
                }
            })));
        }
        for reader in readers {
            assert_eq!(reader.await.unwrap(), READ_SLICE_BYTES * SLICES, "nothing is lost");
        }
        let order = order.lock();
        let changes = order.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(changes >= SLICES, "{order:?}");
    }
}
