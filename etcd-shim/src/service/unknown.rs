//! Calls of services and methods that do not exist, in grpc-go's words.

use crate::proto::DESCRIPTORS;
use http::{HeaderValue, Request, Response, StatusCode, header};
use prost::Message;
use prost_types::FileDescriptorSet;
use std::sync::Arc;
use tonic::Status;
use tonic::body::Body;

/// The methods of one service.
#[derive(Clone)]
pub struct Methods {
    service: &'static str,
    names: Arc<[(String, MethodKind)]>,
}

/// Which sides of a method send more than one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MethodKind {
    pub client_streams: bool,
    pub server_streams: bool,
}

impl Methods {
    /// Those that the definitions give `service`.
    pub fn of(service: &'static str) -> Self {
        // Compiled with this binary; a test reads them.
        let set = FileDescriptorSet::decode(DESCRIPTORS).expect("compiled descriptors are valid");
        let named = |package: &str, name: &str| {
            service.strip_prefix(package).and_then(|rest| rest.strip_prefix('.')) == Some(name)
        };
        let names = set
            .file
            .iter()
            .flat_map(|file| file.service.iter().filter(|found| named(file.package(), found.name())))
            .flat_map(|service| &service.method)
            .map(|method| {
                let (client_streams, server_streams) = (method.client_streaming(), method.server_streaming());
                (method.name().to_owned(), MethodKind { client_streams, server_streams })
            })
            .collect();
        Self { service, names }
    }

    /// How the messages of the method at this path flow.
    pub fn kind(&self, path: &str) -> MethodKind {
        let found = self.names.iter().find(|(name, _)| name == name_in(path));
        found.map(|(_, kind)| *kind).unwrap_or_default()
    }

    /// Refuses the path of a method that the service does not have.
    pub fn check(&self, path: &str) -> Result<(), Status> {
        let method = name_in(path);
        if self.names.iter().any(|(name, _)| name == method) {
            return Ok(());
        }
        Err(Status::unimplemented(format!("unknown method {method} for service {}", self.service)))
    }
}

/// The last part of a call's path.
fn name_in(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// The answer to what no service and no other route takes: a gRPC error, or a plain 404.
pub async fn fallback(request: Request<axum::body::Body>) -> Response<Body> {
    let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if content_type.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        let path = request.uri().path().trim_start_matches('/');
        return match path.rsplit_once('/') {
            Some((service, _)) => Status::unimplemented(format!("unknown service {service}")),
            None => Status::unimplemented(format!("malformed method name: {:?}", request.uri().path())),
        }
        .into_http();
    }
    let mut response = Response::new(Body::new("404 page not found\n".to_owned()));
    *response.status_mut() = StatusCode::NOT_FOUND;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_defined_methods_pass() {
        let kv = Methods::of("etcdserverpb.KV");
        assert!(kv.check("/etcdserverpb.KV/RangeStream").is_ok());
        for path in ["/etcdserverpb.KV/Nope", "/etcdserverpb.KV/", "/etcdserverpb.KV/Range/"] {
            assert!(kv.check(path).is_err(), "{path}");
        }
        assert_eq!(
            kv.check("/etcdserverpb.KV/Nope").unwrap_err().message(),
            "unknown method Nope for service etcdserverpb.KV"
        );
        assert!(!kv.kind("/etcdserverpb.KV/Range").server_streams);
        assert!(kv.kind("/etcdserverpb.KV/RangeStream").server_streams);
        assert!(Methods::of("etcdserverpb.Watch").kind("/etcdserverpb.Watch/Watch").client_streams);
        assert_eq!(Methods::of("v3electionpb.Election").names.len(), 5);
    }
}
