//! The service of every listener: gRPC to the services, the rest to the router.

use super::calls::{Calls, SentBody};
use super::router::Router;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::service::Routes;
use tower::Service as _;

/// What a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// gRPC and HTTP.
    Everything,
    /// gRPC only: HTTP has addresses of its own.
    Grpc,
    /// HTTP only.
    Http,
    /// Health and metrics only.
    Metrics,
}

/// The service of one listener.
#[derive(Clone)]
pub struct Front {
    role: Role,
    is_plain: bool,
    routes: Routes,
    router: Arc<Router>,
    calls: Arc<Calls>,
}

impl Front {
    /// A front for a listener with this role; `is_plain` says that it has no TLS.
    pub fn new(role: Role, is_plain: bool, routes: Routes, router: Arc<Router>, calls: Arc<Calls>) -> Front {
        Front { role, is_plain, routes, router, calls }
    }

    fn serves_grpc(&self) -> bool {
        matches!(self.role, Role::Everything | Role::Grpc)
    }
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    request.version() == Version::HTTP_2
        && content_type.is_some_and(|content_type| content_type.starts_with(b"application/grpc"))
}

impl<B> hyper::service::Service<Request<B>> for Front
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<FrontBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<FrontBody>, Infallible>> + Send>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        if self.serves_grpc() && is_grpc(&request) {
            let call = self.calls.start(request.uri().path());
            let answer = self.routes.clone().call(request.map(|body| call.request(body)));
            return Box::pin(async move {
                let (head, body) = answer.await?.into_parts();
                let body = call.response(&head.headers, body);
                Ok(Response::from_parts(head, FrontBody::Grpc(body)))
            });
        }
        // No path of the router reads a body; hyper ends the connection of a client that insists on sending.
        let (request, _) = request.into_parts();
        let (router, role, is_plain) = (self.router.clone(), self.role, self.is_plain);
        Box::pin(async move {
            let reply = match role {
                Role::Grpc => {
                    let text = "only gRPC is served here; see --listen-client-http-urls\n".to_owned();
                    super::router::Reply::text(http::StatusCode::NOT_FOUND, text)
                }
                _ => router.answer(&request, role == Role::Metrics, is_plain).await,
            };
            Ok(reply.into_response().map(FrontBody::Plain))
        })
    }
}

/// The body of either kind of response.
#[derive(Debug)]
pub enum FrontBody {
    /// Of a call.
    Grpc(SentBody<tonic::body::Body>),
    /// Of everything else.
    Plain(Full<Bytes>),
}

impl Body for FrontBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.get_mut() {
            FrontBody::Grpc(body) => Pin::new(body).poll_frame(context),
            FrontBody::Plain(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            FrontBody::Grpc(body) => body.is_end_stream(),
            FrontBody::Plain(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            FrontBody::Grpc(body) => body.size_hint(),
            FrontBody::Plain(body) => body.size_hint(),
        }
    }
}

/// What the listeners hand in.
const _: fn() = || {
    fn is_service<S: hyper::service::Service<Request<Incoming>>>() {}
    is_service::<Front>();
};
