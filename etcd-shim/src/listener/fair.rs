//! Reading, working and writing in turns.
//!
//! A connection reads as long as there is something to read, and all connections share a thread: fifty clients that
//! send 1.5 MiB each, or thousands of requests at once, would be read to their end one after the other before anybody
//! else's single request is looked at. So it is with writing: a client that takes a list of hundred megabytes as fast as
//! it comes would have the thread for itself. And so it is with the work on the requests.
//!
//! So each connection does a slice of everything in its turn ([`Turn`]), and those that want much wait in a line for
//! their turns ([`super::line`]).

use crate::turn::Turn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

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
        let left = ready!(self.turn.left_to_read());
        // The caller's buffer may hold many slices.
        let mut slice = buffer.take(left);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut slice))?;
        let count = slice.filled().len();
        // SAFETY: `slice` is the beginning of the unfilled part of `buffer`; its first `count` bytes are filled, so
        // they are initialised.
        unsafe { buffer.assume_init(count) };
        buffer.advance(count);
        self.turn.read(left, count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Fair<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let left = ready!(self.turn.left_to_write());
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.turn.wrote(left, &written);
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let left = ready!(self.turn.left_to_write());
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
    use crate::turn::{READ_SLICE_BYTES, WRITE_SLICE_BYTES};
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
