//! A call's deadline, as the client has sent it.
//!
//! The client's own library gives up at the same time. What the server gains is that it stops working for nobody:
//! the call's future is dropped, and with it a write that was not proposed yet, a read that waits for its turn, and
//! what has arrived of a request.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;
use tonic::Status;

/// The metadata key of the time that a call may take.
const TIMEOUT: &str = "grpc-timeout";

/// Digits of a timeout (gRPC's number).
const DIGITS_MAX: usize = 8;

/// The time that a call may take; `None` without one, and when it cannot be read.
pub fn timeout_of(metadata: &HeaderMap) -> Option<Duration> {
    let text = metadata.get(TIMEOUT).map(HeaderValue::as_bytes)?;
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = digits.iter().fold(0, |amount: u64, digit| amount * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(amount * 3600)),
        b'M' => Some(Duration::from_secs(amount * 60)),
        b'S' => Some(Duration::from_secs(amount)),
        b'm' => Some(Duration::from_millis(amount)),
        b'u' => Some(Duration::from_micros(amount)),
        b'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// What a call is told whose time is up, in the words of Go's clients.
pub fn exceeded() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}

/// The body of a stream that ends at its deadline.
pub struct UntilDeadline<B> {
    body: B,
    deadline: Pin<Box<Sleep>>,
    ended: bool,
}

impl<B> UntilDeadline<B> {
    pub fn new(body: B, deadline: Pin<Box<Sleep>>) -> Self {
        Self { body, deadline, ended: false }
    }
}

impl<B> Body for UntilDeadline<B>
where
    B: Body<Data = Bytes, Error = Status> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.deadline.as_mut().poll(context).is_pending() {
            return Pin::new(&mut self.body).poll_frame(context);
        }
        self.ended = true;
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(exceeded().add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Option<Duration> {
        timeout_of(&HeaderMap::from_iter([(
            http::HeaderName::from_static(TIMEOUT),
            HeaderValue::from_static(text),
        )]))
    }

    #[test]
    fn timeouts_are_read_in_every_unit() {
        assert_eq!(read("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(read("3M"), Some(Duration::from_secs(180)));
        assert_eq!(read("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("7u"), Some(Duration::from_micros(7)));
        assert_eq!(read("1n"), Some(Duration::from_nanos(1)));
        for wrong in ["", "S", "1", "1s", "-1S", "1.5S", "123456789S", "1 S"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
        assert_eq!(timeout_of(&HeaderMap::new()), None);
    }
}
