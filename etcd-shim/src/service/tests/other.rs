use super::*;
use crate::proto::plain::{v3electionpb, v3lockpb};
use pb::auth_client::AuthClient;
use pb::cluster_client::ClusterClient;
use pb::maintenance_client::MaintenanceClient;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

fn maintenance(server: &Server) -> MaintenanceClient<Routes> {
    MaintenanceClient::new(server.routes.clone())
}

#[tokio::test]
async fn status_is_one_that_clients_can_read() {
    let server = Server::start();
    server.put("a", "1").await;
    let status = maintenance(&server).status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.header.unwrap().revision, 2);
    assert_eq!((&*status.version, &*status.storage_version), ("3.7.3", "3.7.0"));
    assert_eq!(status.leader, 0x8e9e05c52164694d);
    assert!(status.errors.is_empty() && status.raft_applied_index > 0 && status.raft_term > 0);
    assert!(status.db_size_in_use > 0);
    server.stop().await;
}

#[tokio::test]
async fn alarms() {
    let server = Server::start();
    let mut client = maintenance(&server);
    let request = |action: i32, alarm: i32| pb::AlarmRequest { action, member_id: 5, alarm };
    let (get, activate, deactivate) = (0, 1, 2);
    let corrupt = pb::AlarmMember { member_id: 5, alarm: 2 };
    for (asked, shown) in [
        (request(activate, 0), vec![]),
        (request(activate, 2), vec![corrupt]),
        (request(get, 0), vec![corrupt]),
        (request(get, 1), vec![]),
        (request(get, 2), vec![corrupt]),
        (request(deactivate, 1), vec![]),
        (request(deactivate, 2), vec![corrupt]),
        (request(deactivate, 2), vec![]),
        (request(get, 0), vec![]),
    ] {
        let answer = client.alarm(asked).await.unwrap().into_inner();
        assert_eq!(answer.alarms, shown, "{asked:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn hashes_and_defragmentation() {
    let server = Server::start();
    let mut client = maintenance(&server);
    let revision = server.put("a", "1").await;
    let first = client.hash_kv(pb::HashKvRequest { revision: 0 }).await.unwrap().into_inner();
    assert_eq!((first.compact_revision, first.hash_revision), (-1, revision));
    server.put("a", "2").await;
    let again = client.hash_kv(pb::HashKvRequest { revision }).await.unwrap().into_inner();
    assert_eq!((again.hash, again.header.unwrap().revision), (first.hash, revision + 1));
    assert_ne!(client.hash(pb::HashRequest {}).await.unwrap().into_inner().hash, first.hash);
    assert_eq!(
        fault(client.hash_kv(pb::HashKvRequest { revision: 99 }).await),
        (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision".into())
    );
    assert_eq!(client.defragment(pb::DefragmentRequest {}).await.unwrap().into_inner().header, None);
    server.stop().await;
}

#[tokio::test]
async fn the_only_member_lists_itself() {
    let server = Server::start();
    let mut client = ClusterClient::new(server.routes.clone());
    let list = client.member_list(pb::MemberListRequest { linearizable: true }).await.unwrap().into_inner();
    assert_eq!(list.header.unwrap().revision, 0);
    assert_eq!(list.members.len(), 1);
    let me = &list.members[0];
    assert_eq!((me.id, &*me.name, &*me.client_ur_ls[0]), (0x8e9e05c52164694d, "me", "http://localhost:2379"));
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_there_yet_says_so() {
    let server = Server::start();
    let text = |what: &str| {
        (Code::Unimplemented, format!("etcdserver: {what} is not supported yet by this server (Holdfast)"))
    };
    let mut auth = AuthClient::new(server.routes.clone());
    let status = auth.auth_status(pb::AuthStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.enabled, status.auth_revision), (false, 1));
    // With other words or another code, clients that have a name and a password do not connect.
    let named = pb::AuthenticateRequest { name: "root".into(), password: "x".into() };
    assert_eq!(
        fault(auth.authenticate(named).await),
        (Code::FailedPrecondition, "etcdserver: authentication is not enabled".into())
    );
    assert_eq!(fault(auth.auth_enable(pb::AuthEnableRequest {}).await), text("enabling authentication"));
    let mut lock = v3lockpb::lock_client::LockClient::new(server.routes.clone());
    assert_eq!(fault(lock.lock(v3lockpb::LockRequest::default()).await), text("the lock service"));
    let mut election = v3electionpb::election_client::ElectionClient::new(server.routes.clone());
    let observed = election.observe(v3electionpb::LeaderRequest::default()).await;
    assert_eq!(fault(observed), text("the election service"));
    assert_eq!(fault(maintenance(&server).snapshot(pb::SnapshotRequest {}).await), text("a snapshot"));
    server.stop().await;
}

#[tokio::test]
async fn health_knows_every_service() {
    let server = Server::start();
    let mut health = HealthClient::new(server.routes.clone());
    for service in ["", "etcdserverpb.KV", "etcdserverpb.Watch", "v3lockpb.Lock"] {
        let check = HealthCheckRequest { service: service.into() };
        assert_eq!(health.check(check).await.unwrap().into_inner().status, 1, "{service}");
    }
    let unknown = HealthCheckRequest { service: "none".into() };
    assert_eq!(fault(health.check(unknown).await).0, Code::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn unknown_methods_and_services_are_named() {
    let server = Server::start();
    let call = async |path: &'static str| {
        let mut grpc = tonic::client::Grpc::new(server.routes.clone());
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<pb::RangeRequest, pb::RangeResponse>::new();
        let request = Request::new(pb::RangeRequest::default());
        fault(grpc.unary(request, http::uri::PathAndQuery::from_static(path), codec).await)
    };
    assert_eq!(
        call("/etcdserverpb.KV/Nope").await,
        (Code::Unimplemented, "unknown method Nope for service etcdserverpb.KV".into())
    );
    assert_eq!(
        call("/etcdserverpb.Nope/Nope").await,
        (Code::Unimplemented, "unknown service etcdserverpb.Nope".into())
    );
    server.stop().await;
}
