//! A request's body that begins and never ends.

use bytes::Bytes;
use http_body::{Body, Frame};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Sends its bytes, then waits for ever.
pub struct Unfinished(Option<Bytes>);

impl Unfinished {
    pub fn new(bytes: Bytes) -> Unfinished {
        Unfinished(Some(bytes))
    }
}

impl Body for Unfinished {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        match self.0.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Poll::Pending,
        }
    }
}
