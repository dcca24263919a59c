//! What is settled around a call of any service: its metadata, its deadline, the size of its messages, and who sends
//! its reply.

use super::Shared;
use super::deadline::{self, UntilDeadline};
use super::incoming::MeasuredBody;
use super::pieces::{Instead, ReplyBody};
use super::stream_end::requires_leader;
use super::unknown::Methods;
use crate::convert::status;
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
        let kind = self.methods.kind(request.uri().path());
        let timeout = deadline::timeout_of(request.headers());
        let answer =
            self.inner.call(request.map(|body| {
                MeasuredBody::new(body, limit_bytes, &self.shared.incoming, kind.client_streams)
            }));
        Box::pin(async move {
            let Some(timeout) = timeout else { return answer.await.map(with_reply) };
            let mut deadline = Box::pin(tokio::time::sleep(timeout));
            let response = tokio::select! {
                biased;
                response = answer => response.map(with_reply)?,
                () = deadline.as_mut() => return Ok(deadline::exceeded().into_http()),
            };
            if !kind.server_streams {
                return Ok(response);
            }
            Ok(response.map(|body| tonic::body::Body::new(UntilDeadline::new(body, deadline))))
        })
    }
}

/// Puts the reply that was encoded beforehand into the place of an empty one.
fn with_reply(mut response: Response) -> Response {
    if let Some(reply) = response.extensions_mut().remove::<Instead>() {
        *response.body_mut() = tonic::body::Body::new(ReplyBody::new(reply));
    }
    response
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
