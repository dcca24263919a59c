//! All services as one router.

use super::auth::AuthService;
use super::cluster::ClusterService;
use super::election::ElectionService;
use super::guard::Guarded;
use super::kv::KvService;
use super::lease::LeaseService;
use super::lock::LockService;
use super::maintenance::MaintenanceService;
use super::watch::WatchService;
use super::{Services, Shared, unknown};
use crate::proto::DESCRIPTORS;
use crate::proto::etcdserverpb::auth_server::AuthServer;
use crate::proto::etcdserverpb::cluster_server::ClusterServer;
use crate::proto::etcdserverpb::kv_server::KvServer;
use crate::proto::etcdserverpb::lease_server::LeaseServer;
use crate::proto::etcdserverpb::maintenance_server::MaintenanceServer;
use crate::proto::etcdserverpb::watch_server::WatchServer;
use crate::proto::v3electionpb::election_server::ElectionServer;
use crate::proto::v3lockpb::lock_server::LockServer;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

impl Services {
    /// A router over all services, with gRPC health and reflection.
    pub fn routes(&self) -> Routes {
        self.routes_with_health().0
    }

    /// The same, and the handle with which health can be changed, for example before a stop.
    pub fn routes_with_health(&self) -> (Routes, HealthReporter) {
        let shared = &self.shared;
        let health = HealthReporter::new();
        let mut routes = Routes::builder();
        macro_rules! serve {
            ($server:ident, $service:expr) => {{
                let server = $server::new($service)
                    .max_decoding_message_size(shared.settings.max_message_bytes())
                    .max_encoding_message_size(usize::MAX);
                set_serving(&health, &server);
                routes.add_service(Guarded::new(server, shared));
            }};
        }
        let own = || Arc::clone(shared) as Arc<Shared>;
        serve!(KvServer, KvService { shared: own() });
        serve!(WatchServer, WatchService { shared: own() });
        serve!(LeaseServer, LeaseService { shared: own() });
        serve!(ClusterServer, ClusterService { shared: own() });
        serve!(MaintenanceServer, MaintenanceService { shared: own() });
        serve!(AuthServer, AuthService { shared: own() });
        serve!(LockServer, LockService);
        serve!(ElectionServer, ElectionService);
        routes.add_service(HealthServer::new(HealthService::from_health_reporter(health.clone())));
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        // The descriptors were compiled with this binary; a test builds them.
        routes.add_service(reflection().build_v1().expect("compiled descriptors are valid"));
        routes.add_service(reflection().build_v1alpha().expect("compiled descriptors are valid"));
        let router = routes.routes().prepare().into_axum_router().fallback(unknown::fallback);
        (Routes::from(router), health)
    }
}

fn set_serving<S: NamedService>(health: &HealthReporter, _: &S) {
    let set = pin!(health.set_service_status(S::NAME, ServingStatus::Serving));
    let done = set.poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(done, Poll::Ready(()), "nobody else holds the lock of a reporter that was just made");
}
