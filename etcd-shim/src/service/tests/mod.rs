//! The services as a client meets them: generated plain clients, straight into the router.

mod kv;
mod large_writes;
mod lease;
mod other;
mod watch;

use super::large_reads::LARGE_READS_AT_ONCE;
use super::{Identity, Services, Settings};
use crate::proto::plain::etcdserverpb as pb;
use kvstore::store::{Config, Placement, Store};
use pb::kv_client::KvClient;
use std::sync::Arc;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

/// A server with a fresh store.
struct Server {
    services: Services,
    routes: Routes,
    store: Store,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        Self::placed(settings, Placement::Thread)
    }

    /// With [`Placement::Caller`] nothing is written until the test runs the core.
    fn placed(settings: Settings, placement: Placement) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::new(directory.path().join("data"));
        config.max_request_bytes = settings.max_request_bytes * 2;
        config.max_txn_ops = settings.max_txn_ops;
        config.placement = placement;
        let store = Store::open(config).unwrap();
        let identity = Identity::single(
            "me",
            vec!["http://localhost:2380".into()],
            vec!["http://localhost:2379".into()],
            "etcd-cluster",
            "3.7.3",
        );
        let services = Services::new(store.clone(), identity, settings);
        Self { routes: services.routes(), services, store, _directory: directory }
    }

    fn kv(&self) -> KvClient<Routes> {
        KvClient::new(self.routes.clone()).max_decoding_message_size(usize::MAX)
    }

    async fn put(&self, key: &str, value: &str) -> i64 {
        let put = pb::PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..Default::default()
        };
        self.kv().put(put).await.unwrap().into_inner().header.unwrap().revision
    }

    async fn delete(&self, key: &str) -> i64 {
        let delete = pb::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() };
        self.kv().delete_range(delete).await.unwrap().into_inner().header.unwrap().revision
    }

    async fn compact(&self, revision: i64) {
        self.kv().compact(pb::CompactionRequest { revision, physical: true }).await.unwrap();
    }

    /// Keeps the threads beside busy until it is dropped.
    async fn take_all_turns(&self) -> Vec<std::sync::mpsc::Sender<()>> {
        let turns = (0..LARGE_READS_AT_ONCE).map(|_| {
            let shared = Arc::clone(&self.services.shared);
            let (end, ended) = std::sync::mpsc::channel::<()>();
            tokio::spawn(async move { shared.large_reads.step(move || ended.recv().is_err()).await });
            end
        });
        let turns = turns.collect();
        tokio::task::yield_now().await;
        turns
    }

    async fn stop(self) {
        self.store.stop().await;
    }
}

/// Code and text of a failure.
fn fault<T: std::fmt::Debug>(result: Result<Response<T>, Status>) -> (Code, String) {
    let status = result.unwrap_err();
    (status.code(), status.message().to_owned())
}

fn with_metadata<T>(message: T, key: &'static str, value: &'static str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(key, value.parse().unwrap());
    request
}
