//! A deadline for the first bytes of a connection.
//!
//! Whether a connection speaks HTTP/1 or HTTP/2 shows in its first bytes, and hyper waits for them without a
//! limit. Once enough has come to tell, HTTP/1 has its own deadline for a request's head, and HTTP/2 its pings.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose reads fail when the protocol cannot be told in time.
pub struct FirstBytes<S> {
    stream: S,
    /// None once the protocol is clear.
    deadline: Option<Deadline>,
    /// Bytes of the preface that came so far.
    matched: usize,
}

enum Deadline {
    /// From the first look on: before that the stream was ours to read, and perhaps not in its turn.
    Within(Duration),
    At(Pin<Box<Sleep>>),
}

impl Deadline {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Deadline::Within(patience) = self {
            *self = Deadline::At(Box::pin(tokio::time::sleep(*patience)));
        }
        match self {
            Deadline::At(sleep) => sleep.as_mut().poll(context),
            Deadline::Within(_) => unreachable!("it was set just now"),
        }
    }
}

impl<S> FirstBytes<S> {
    /// Wraps a stream that was just opened.
    pub fn new(stream: S, patience: Duration) -> FirstBytes<S> {
        FirstBytes { stream, deadline: Some(Deadline::Within(patience)), matched: 0 }
    }

    fn look_at(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if PREFACE.get(self.matched) != Some(byte) {
                self.deadline = None;
                return;
            }
            self.matched += 1;
        }
        if self.matched == PREFACE.len() {
            self.deadline = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstBytes<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(deadline) = &mut self.deadline else {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        };
        if deadline.poll(context).is_ready() {
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.look_at(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstBytes<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
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
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn read_after(written: &[u8], limit: Duration, wait: Duration) -> io::Result<usize> {
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = FirstBytes::new(server, limit);
        client.write_all(written).await.unwrap();
        if !written.is_empty() {
            let mut buffer = vec![0; written.len()];
            server.read_exact(&mut buffer).await.unwrap();
        }
        let later = async {
            tokio::time::sleep(wait).await;
            client.write_all(b"later").await.unwrap();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = server.read_u8() => result.map(usize::from),
            () = later => unreachable!(),
        }
    }

    #[tokio::test]
    async fn silence_ends_and_a_clear_protocol_does_not() {
        let (short, longer) = (Duration::from_millis(100), Duration::from_millis(300));
        let never = Duration::from_secs(600);
        let timed_out = |result: io::Result<usize>| result.unwrap_err().kind() == ErrorKind::TimedOut;
        assert!(read_after(b"", never, short).await.is_ok());
        assert!(timed_out(read_after(b"", short, never).await));
        assert!(timed_out(read_after(b"PRI * HTTP/2.0", short, never).await), "half a preface says nothing");
        assert!(read_after(PREFACE, short, longer).await.is_ok());
        assert!(read_after(b"G", short, longer).await.is_ok());
        assert!(read_after(b"PRI x", short, longer).await.is_ok());
    }
}
