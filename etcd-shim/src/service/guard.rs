//! What is settled before a call reaches its service: its metadata, and the size of its messages.

use super::Shared;
use super::stream_end::requires_leader;
use super::unknown::Methods;
use crate::convert::status;
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::server::NamedService;
use tower::Service;

/// The metadata key in which clients name the version of their API.
const CLIENT_VERSION: &str = "client-api-version";

type Response = http::Response<tonic::body::Body>;
type Answer = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// A service behind the checks that all calls pass.
#[derive(Clone)]
pub struct Guarded<S> {
    inner: S,
    methods: Methods,
    shared: Arc<Shared>,
}

impl<S: NamedService> Guarded<S> {
    pub fn new(inner: S, shared: &Arc<Shared>) -> Self {
        Self { inner, methods: Methods::of(S::NAME), shared: Arc::clone(shared) }
    }
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<tonic::body::Body>> for Guarded<S>
where
    S: Service<
            http::Request<MeasuredBody<tonic::body::Body>>,
            Response = Response,
            Error = Infallible,
            Future = Answer,
        >,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Answer {
        let checked = self.methods.check(request.uri().path());
        if let Err(status) = checked.and_then(|()| check(request.headers(), &self.shared)) {
            return Box::pin(std::future::ready(Ok(status.into_http())));
        }
        let limit_bytes = self.shared.settings.max_message_bytes() as u64;
        self.inner.call(request.map(|body| MeasuredBody::new(body, limit_bytes)))
    }
}

fn check(metadata: &http::HeaderMap, shared: &Shared) -> Result<(), Status> {
    if let Some(version) = metadata.get(CLIENT_VERSION)
        && std::str::from_utf8(version.as_bytes()).is_err()
    {
        return Err(status::INVALID_CLIENT_VERSION.into());
    }
    if requires_leader(metadata) && shared.store.leader().is_none() {
        return Err(status::NO_LEADER.into());
    }
    Ok(())
}

/// A request body that ends with etcd's error as soon as a message announces itself as too large. tonic has a
/// limit of its own, but answers with another code and text.
pub struct MeasuredBody<B> {
    body: B,
    limit_bytes: u64,
    frames: Frames,
}

/// Follows the gRPC frames through the chunks they arrive in.
#[derive(Default)]
struct Frames {
    prefix: [u8; PREFIX_BYTES],
    /// How much of the present frame's prefix is there.
    prefix_len: usize,
    /// How much of its message is still to come.
    message_left: u64,
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
                chunk = &chunk[step as usize..];
                continue;
            }
            let step = (PREFIX_BYTES - self.prefix_len).min(chunk.len());
            self.prefix[self.prefix_len..self.prefix_len + step].copy_from_slice(&chunk[..step]);
            self.prefix_len += step;
            chunk = &chunk[step..];
            if self.prefix_len == PREFIX_BYTES {
                let [_, length @ ..] = self.prefix;
                self.message_left = u64::from(u32::from_be_bytes(length));
                self.prefix_len = 0;
                if self.message_left > limit_bytes {
                    return Err(self.message_left);
                }
            }
        }
        Ok(())
    }
}

impl<B> MeasuredBody<B> {
    fn new(body: B, limit_bytes: u64) -> Self {
        Self { body, limit_bytes, frames: Frames::default() }
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
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let limit_bytes = self.limit_bytes;
            if let Err(size_bytes) = self.frames.take(data.chunk(), limit_bytes) {
                return Poll::Ready(Some(Err(status::message_too_large(size_bytes, limit_bytes))));
            }
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

    fn frame(length: u32, sent: usize) -> Vec<u8> {
        let mut out = vec![0];
        out.extend(length.to_be_bytes());
        out.extend(std::iter::repeat_n(0xff, sent));
        out
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
}
