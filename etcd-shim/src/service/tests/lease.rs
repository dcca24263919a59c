use super::*;
use pb::lease_client::LeaseClient;

fn client(server: &Server) -> LeaseClient<Routes> {
    LeaseClient::new(server.routes.clone())
}

#[tokio::test]
async fn a_lease_from_grant_to_revoke() {
    let server = Server::start();
    let mut lease = client(&server);
    let granted = lease.lease_grant(pb::LeaseGrantRequest { ttl: 100, id: 7 }).await.unwrap().into_inner();
    assert_eq!((granted.id, granted.ttl, granted.header.unwrap().revision), (7, 100, 1));
    for key in ["b", "a"] {
        let put = pb::PutRequest { key: key.into(), lease: 7, ..Default::default() };
        server.kv().put(put).await.unwrap();
    }
    let asked = pb::LeaseTimeToLiveRequest { id: 7, keys: true };
    let left = lease.lease_time_to_live(asked).await.unwrap().into_inner();
    assert_eq!((left.granted_ttl, &left.keys[..]), (100, &["a".into(), "b".into()][..]));
    assert!((90..=100).contains(&left.ttl));
    let all = lease.lease_leases(pb::LeaseLeasesRequest {}).await.unwrap().into_inner();
    assert_eq!(all.leases, [pb::LeaseStatus { id: 7 }]);
    let revoked = lease.lease_revoke(pb::LeaseRevokeRequest { id: 7 }).await.unwrap().into_inner();
    assert_eq!(revoked.header.unwrap().revision, 4, "both keys go in one revision");
    let gone = lease.lease_time_to_live(asked).await.unwrap().into_inner();
    assert_eq!((gone.id, gone.ttl, gone.granted_ttl), (7, -1, 0));
    server.stop().await;
}

#[tokio::test]
async fn faults() {
    let server = Server::start();
    let mut lease = client(&server);
    lease.lease_grant(pb::LeaseGrantRequest { ttl: 100, id: 7 }).await.unwrap();
    assert_eq!(
        fault(lease.lease_grant(pb::LeaseGrantRequest { ttl: 100, id: 7 }).await),
        (Code::FailedPrecondition, "etcdserver: lease already exists".into())
    );
    assert_eq!(
        fault(lease.lease_grant(pb::LeaseGrantRequest { ttl: 9_000_000_001, id: 8 }).await),
        (Code::OutOfRange, "etcdserver: too large lease TTL".into())
    );
    assert_eq!(
        fault(lease.lease_revoke(pb::LeaseRevokeRequest { id: 8 }).await),
        (Code::NotFound, "etcdserver: requested lease not found".into())
    );
    let raised = lease.lease_grant(pb::LeaseGrantRequest { ttl: -1, id: 0 }).await.unwrap().into_inner();
    assert!(raised.id > 0 && raised.ttl == 2);
    server.stop().await;
}

#[tokio::test]
async fn keep_alives_are_answered_in_order_and_the_unknown_ones_too() {
    let server = Server::start();
    let mut lease = client(&server);
    lease.lease_grant(pb::LeaseGrantRequest { ttl: 100, id: 7 }).await.unwrap();
    let asked = tokio_stream::iter([7, 8, 7].map(|id| pb::LeaseKeepAliveRequest { id }));
    let mut answers = lease.lease_keep_alive(asked).await.unwrap().into_inner();
    let mut found = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        found.push((answer.id, answer.ttl));
    }
    assert_eq!(found, [(7, 100), (8, 0), (7, 100)]);
    server.stop().await;
}
