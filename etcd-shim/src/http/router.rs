//! From a path to an answer.

use super::calls::Calls;
use super::exposition;
use super::health::{Health, Member};
use super::metrics;
use crate::config::feature_gates::FeatureGate;
use crate::version::{CLUSTER_VERSION, ETCD_VERSION};
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW,
    CONTENT_TYPE, HOST, HeaderName, HeaderValue, ORIGIN, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use std::sync::Arc;
use std::time::Duration;

/// What the router must be told.
#[derive(Clone, Debug)]
pub struct RouterSettings {
    /// How long one health check may take.
    pub health_deadline: Duration,
    /// Host names that plain requests may use; empty means any.
    pub host_allow: Vec<String>,
    /// Origins whose pages may read our answers; `*` means any.
    pub cors: Vec<String>,
    /// Gates as the operator set them.
    pub feature_gates: Vec<FeatureGate>,
    /// The member's id, as `etcd_server_id` shows it.
    pub member_id: u64,
}

/// Answers what is not gRPC.
pub struct Router {
    member: Arc<dyn Member>,
    calls: Arc<Calls>,
    health: Health,
    settings: RouterSettings,
}

impl Router {
    /// A router over this member, whose calls are counted in `calls`.
    pub fn new(member: Arc<dyn Member>, calls: Arc<Calls>, settings: RouterSettings) -> Router {
        Router { member, calls, health: Health::new(settings.health_deadline), settings }
    }

    /// Answers a request. `only_metrics` leaves health and metrics; `is_plain` says that it came without TLS.
    pub async fn answer(&self, request: &Parts, only_metrics: bool, is_plain: bool) -> Reply {
        if only_metrics {
            return self.route(request, true).await;
        }
        if is_plain && !self.host_is_allowed(request) {
            let text = "the host name of this request is not in --host-whitelist\n";
            return Reply::text(StatusCode::MISDIRECTED_REQUEST, text.to_owned());
        }
        let reply = match request.method {
            // A browser asks so before it sends anything; the headers below are the answer.
            Method::OPTIONS => Reply { status: StatusCode::OK, headers: Vec::new(), body: String::new() },
            _ => self.route(request, false).await,
        };
        self.with_cors(request, reply)
    }

    async fn route(&self, request: &Parts, only_metrics: bool) -> Reply {
        let path = request.uri.path();
        if !only_metrics && is_gateway(path) {
            return Reply::json(StatusCode::NOT_IMPLEMENTED, GATEWAY.to_owned());
        }
        if path == "/metrics" {
            return self.metrics();
        }
        let version_here = path == "/version" && !only_metrics;
        if !(path == "/health" || version_here || self.health.has(path)) {
            return Reply::text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned());
        }
        if request.method != Method::GET {
            return Reply::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n".to_owned())
                .with(ALLOW, HeaderValue::from_static("GET"));
        }
        let query = request.uri.query().unwrap_or_default();
        match path {
            "/health" => self.health.health(self.member.as_ref(), query).await,
            "/version" => version(),
            _ => self.health.checks(self.member.as_ref(), path, query).await,
        }
    }

    fn with_cors(&self, request: &Parts, reply: Reply) -> Reply {
        let any = self.settings.cors.iter().any(|origin| origin == "*");
        let origin = match request.headers.get(ORIGIN) {
            _ if any => HeaderValue::from_static("*"),
            Some(origin) if self.settings.cors.iter().any(|allowed| origin == allowed.as_str()) => {
                origin.clone()
            }
            _ => return reply,
        };
        let methods = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
        let headers = HeaderValue::from_static("accept, content-type, authorization");
        reply
            .with(ACCESS_CONTROL_ALLOW_METHODS, methods)
            .with(ACCESS_CONTROL_ALLOW_ORIGIN, origin)
            .with(ACCESS_CONTROL_ALLOW_HEADERS, headers)
    }

    fn metrics(&self) -> Reply {
        let text = metrics::page(self.member.as_ref(), &self.calls, &self.health, &self.settings);
        Reply::text(StatusCode::OK, text)
            .with(CONTENT_TYPE, HeaderValue::from_static(exposition::CONTENT_TYPE))
    }

    /// A page on another origin can make a browser ask us under its own name (DNS rebinding); a list of the
    /// names that are ours ends that.
    fn host_is_allowed(&self, request: &Parts) -> bool {
        if self.settings.host_allow.is_empty() {
            return true;
        }
        let named = request.uri.authority().map(|authority| authority.as_str());
        let named = named.or_else(|| request.headers.get(HOST)?.to_str().ok()).unwrap_or_default();
        let host = match named.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => named,
        };
        self.settings.host_allow.iter().any(|allowed| allowed == host)
    }
}

fn is_gateway(path: &str) -> bool {
    ["/v3/", "/v3beta/", "/v3alpha/"].iter().any(|prefix| path.starts_with(prefix))
}

/// gRPC's number for "unimplemented", in the form of the gateway's errors.
const GATEWAY: &str = "{\"code\":12,\"message\":\"etcdserver: the JSON gateway is not there yet; use gRPC on the same \
                       port\",\"details\":[]}";

fn version() -> Reply {
    // Written out, because the order of the names is etcd's.
    Reply::json(
        StatusCode::OK,
        format!(
            "{{\"etcdserver\":\"{ETCD_VERSION}\",\"etcdcluster\":\"{CLUSTER_VERSION}\",\"storage\":\"{CLUSTER_VERSION}\"}}"
        ),
    )
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: String,
}

impl Reply {
    /// Plain text.
    pub(super) fn text(status: StatusCode, body: String) -> Reply {
        Reply { status, headers: Vec::new(), body }
            .with(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))
            .with(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
    }

    fn json(status: StatusCode, body: String) -> Reply {
        Reply { status, headers: Vec::new(), body }
            .with(CONTENT_TYPE, HeaderValue::from_static("application/json"))
    }

    /// Sets a header.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Reply {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value));
        self
    }

    /// As HTTP.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// The values of a name in a query. Names of alarms and checks never need percent-encoding.
pub(super) fn query_values<'a>(query: &'a str, name: &str) -> Vec<&'a str> {
    let parts = query.split('&').filter_map(|part| part.split_once('='));
    parts.filter(|(found, _)| *found == name).map(|(_, value)| value).collect()
}

/// Whether a name is in a query, with a value or without.
pub(super) fn query_has(query: &str, name: &str) -> bool {
    query.split('&').any(|part| part.split('=').next() == Some(name))
}
