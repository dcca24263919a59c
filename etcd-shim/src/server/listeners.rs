//! Binding the URLs and giving each listener its part.

use super::descriptors;
use super::member::StoreMember;
use crate::config::{Config, Listen, TlsSettings, Url};
use crate::http::{Calls, Front, Role, Router, RouterSettings};
use crate::listener::{Bounds, Http2Settings, Shutdown, bind, serve};
use crate::tls::TlsSource;
use kvstore::store::Store;
use std::sync::Arc;
use std::time::Duration;
use tonic::service::Routes;

/// Connections to --listen-metrics-urls at a time. They have a bound of their own, so that probes still come
/// through when clients have used up theirs.
const METRICS_CONNECTIONS_MAX: usize = 128;

/// etcd's patience with a health check: five seconds and two election timeouts.
const HEALTH_PATIENCE: Duration = Duration::from_secs(5);

/// What is served.
pub struct Parts {
    pub store: Store,
    pub member_id: u64,
    pub routes: Routes,
    pub calls: Arc<Calls>,
}

/// Whether any URL of clients has TLS.
pub fn need_tls(listen: &Listen) -> bool {
    listen.client.iter().chain(&listen.client_http).chain(&listen.metrics).any(|url| url.scheme.is_secure())
}

/// Binds every URL, then accepts on all of them. Gives the URLs of clients with the ports the system chose.
pub async fn start(
    config: &Config,
    tls: TlsSettings,
    descriptors: u64,
    parts: Parts,
    shutdown: &Shutdown,
) -> Result<Vec<Url>, String> {
    let listen = &config.listen;
    let tls = match need_tls(listen) {
        true => Some(Arc::new(TlsSource::open(tls).map_err(|error| error.to_string())?)),
        false => None,
    };
    let client_role = if listen.client_http.is_empty() { Role::Everything } else { Role::Grpc };
    let mut bound = Vec::new();
    for (role, urls) in
        [(client_role, &listen.client), (Role::Http, &listen.client_http), (Role::Metrics, &listen.metrics)]
    {
        for url in urls {
            bound.push((role, bind(url, listen.reuse_port).await?));
        }
    }
    let election = Duration::from_millis(config.cluster.election_ms);
    let settings = RouterSettings {
        health_deadline: HEALTH_PATIENCE + 2 * election,
        host_allow: listen.host_allow.clone(),
        cors: listen.cors.clone(),
        feature_gates: config.feature_gates.clone(),
        member_id: parts.member_id,
    };
    let member = Arc::new(StoreMember::new(parts.store));
    let router = Arc::new(Router::new(member, parts.calls.clone(), settings));
    let http2 = Http2Settings {
        max_concurrent_streams: config.limits.max_concurrent_streams,
        keepalive_interval: Some(config.keepalive.interval).filter(|interval| !interval.is_zero()),
        keepalive_timeout: config.keepalive.timeout,
    };
    let connections_max = descriptors::connections_max(descriptors, config.limits.max_connections);
    let bounds = |connections_max| Bounds::new(connections_max, config.rpc_threads);
    let (for_clients, for_metrics) = (bounds(connections_max), bounds(METRICS_CONNECTIONS_MAX));
    let mut client_urls = Vec::new();
    for (role, bound) in bound {
        let url = bound.url().clone();
        let bounds = if role == Role::Metrics { &for_metrics } else { &for_clients };
        let front = Front::new(
            role,
            !url.scheme.is_secure(),
            parts.routes.clone(),
            router.clone(),
            parts.calls.clone(),
        );
        tokio::spawn(serve(bound, tls.clone(), http2.clone(), bounds.clone(), front, shutdown.signal()));
        match role {
            Role::Metrics => tracing::info!(address = %url, "serving metrics"),
            _ => client_urls.push(url),
        }
    }
    Ok(client_urls)
}
