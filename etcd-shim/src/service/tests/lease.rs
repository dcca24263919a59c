use super::super::extent::SMALL_READ_KEYS_MAX;
use super::*;
use kvstore::CallerId;
use kvstore::store::COMMANDS_IN_FLIGHT_MAX;
use pb::lease_client::LeaseClient;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;

const PATIENCE: Duration = Duration::from_secs(60);
/// No grant covers a renewal after this.
const A_MOMENT: Duration = Duration::from_millis(50);

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

/// What is too long for the thread that serves everybody is made beside, and is whole.
#[tokio::test]
async fn long_lists_of_leases_and_of_their_keys_wait_for_a_turn_beside() {
    const COUNT: i64 = SMALL_READ_KEYS_MAX as i64 + 1;
    let server = Server::start();
    let mut lease = client(&server);
    let (mut leases, mut keys) = (Vec::new(), Vec::<bytes::Bytes>::new());
    let mut made = tokio::task::JoinSet::new();
    let make = |made: &mut tokio::task::JoinSet<()>, id: i64| {
        let (mut lease, mut kv) = (lease.clone(), server.kv());
        made.spawn(async move {
            lease.lease_grant(pb::LeaseGrantRequest { ttl: 1000, id }).await.unwrap();
            let key = format!("{id:06}").into();
            kv.put(pb::PutRequest { key, lease: id, ..Default::default() }).await.unwrap();
            let key = format!("first's/{id:06}").into();
            kv.put(pb::PutRequest { key, lease: 1, ..Default::default() }).await.unwrap();
        });
    };
    make(&mut made, 1);
    made.join_next().await.unwrap().unwrap();
    (2..=COUNT).for_each(|id| make(&mut made, id));
    made.join_all().await;
    for id in 1..=COUNT {
        leases.push(pb::LeaseStatus { id });
        keys.push(format!("first's/{id:06}").into());
    }
    keys.insert(0, "000001".into());

    let turns = server.take_all_turns().await;
    let of = |id| pb::LeaseTimeToLiveRequest { id, keys: true };
    assert_eq!(lease.clone().lease_time_to_live(of(2)).await.unwrap().into_inner().keys.len(), 1);
    let (mut lister, mut asker) = (lease.clone(), lease.clone());
    let mut list = Box::pin(lister.lease_leases(pb::LeaseLeasesRequest {}));
    let mut ask = Box::pin(asker.lease_time_to_live(of(1)));
    assert!(tokio::time::timeout(Duration::from_millis(100), list.as_mut()).await.is_err());
    assert!(tokio::time::timeout(Duration::from_millis(100), ask.as_mut()).await.is_err());
    drop(turns);
    let mut all = list.await.unwrap().into_inner();
    all.leases.sort_by_key(|lease| lease.id);
    assert!(all.leases == leases && all.header.is_some());
    let left = ask.await.unwrap().into_inner();
    assert!(left.keys == keys && left.granted_ttl == 1000, "{} keys", left.keys.len());
    lease.lease_revoke(pb::LeaseRevokeRequest { id: 2 }).await.unwrap();
    let few = lease.lease_leases(pb::LeaseLeasesRequest {}).await.unwrap().into_inner();
    assert_eq!(few.leases.len() as i64, COUNT - 1);
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

/// A client has all of its leases on one stream: a log entry for each would be too slow for them.
#[tokio::test]
async fn keep_alives_that_have_arrived_are_renewed_together() {
    const LEASES: i64 = 300;
    let server = Server::start();
    let mut grants = JoinSet::new();
    for id in 1..=LEASES {
        let mut lease = client(&server);
        grants.spawn(async move { lease.lease_grant(pb::LeaseGrantRequest { ttl: 600, id }).await.unwrap() });
    }
    grants.join_all().await;
    tokio::time::sleep(A_MOMENT).await;
    let before = server.store.metrics().entries_proposed;
    let asked: Vec<i64> = (1..=LEASES).chain([LEASES + 1, 7, 7]).collect();
    let requests = tokio_stream::iter(asked.clone()).map(|id| pb::LeaseKeepAliveRequest { id });
    let mut answers = client(&server).lease_keep_alive(requests).await.unwrap().into_inner();
    let mut found = Vec::new();
    while let Some(answer) = tokio::time::timeout(PATIENCE, answers.message()).await.unwrap().unwrap() {
        assert_eq!(answer.header.unwrap().revision, 1);
        found.push((answer.id, answer.ttl));
    }
    let ttl = |id| if id <= LEASES { 600 } else { 0 };
    assert_eq!(found, asked.iter().map(|&id| (id, ttl(id))).collect::<Vec<_>>());
    let proposed = server.store.metrics().entries_proposed - before;
    assert!(proposed <= 20, "{proposed} entries for {} keep-alives", asked.len());
    server.stop().await;
}

/// One connection has all the room there is: others' leases and compactions are admitted all the same, and its own
/// keep-alives wait for room, because the end of their stream would help nobody.
#[tokio::test]
async fn who_asks_for_few_leases_is_admitted_beside_a_flood_of_them() {
    /// What is in flight of one connection beyond the bound for all.
    const RESERVED: usize = 8;
    fn of<T>(caller: u64, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(CallerId::new(caller));
        request
    }
    let server = Server::placed(Settings::default(), Placement::Caller);
    let mut core = Box::pin(server.store.take_core().unwrap());
    let mut first = client(&server);
    for id in 1..=3 {
        let granting = first.lease_grant(pb::LeaseGrantRequest { ttl: 6000, id });
        tokio::select! { granted = granting => granted.unwrap(), _ = &mut core => unreachable!() };
    }
    tokio::time::sleep(A_MOMENT).await;
    let any_lease = pb::LeaseGrantRequest { ttl: 6000, id: 0 };
    let mut flood = JoinSet::new();
    for _ in 0..COMMANDS_IN_FLIGHT_MAX + RESERVED {
        let mut lease = client(&server);
        flood.spawn(async move { lease.lease_grant(of(1, any_lease)).await });
    }
    let in_flight = async |count| {
        let wait = async {
            while server.store.commands_in_flight() < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("so much in flight");
        assert_eq!(server.store.commands_in_flight(), count);
    };
    in_flight(COMMANDS_IN_FLIGHT_MAX + RESERVED).await;
    let refused = first.lease_grant(of(1, any_lease)).await;
    assert_eq!(fault(refused), (Code::Unknown, "etcdserver: too many requests".into()));

    let keep_alive = async |caller: u64, id: i64| {
        let asked = tokio_stream::once(pb::LeaseKeepAliveRequest { id }).chain(tokio_stream::pending());
        client(&server).lease_keep_alive(of(caller, asked)).await.unwrap().into_inner()
    };
    let mut own = keep_alive(1, 1).await;
    let own = tokio::spawn(async move { own.message().await });
    // Long enough for it to be refused, and the stream to be ended.
    tokio::time::sleep(A_MOMENT).await;
    assert!(!own.is_finished(), "the stream of the connection that asks for too much has ended");
    let mut neighbours = keep_alive(2, 2).await;
    let neighbours = tokio::spawn(async move { neighbours.message().await });
    in_flight(COMMANDS_IN_FLIGHT_MAX + RESERVED + 1).await;
    let (mut lease, mut kv) = (client(&server), server.kv());
    let granted = tokio::spawn(async move { lease.lease_grant(of(2, any_lease)).await });
    let mut lease = client(&server);
    let revoked =
        tokio::spawn(async move { lease.lease_revoke(of(2, pb::LeaseRevokeRequest { id: 3 })).await });
    let compaction = pb::CompactionRequest { revision: 1, physical: false };
    let compacted = tokio::spawn(async move { kv.compact(of(2, compaction)).await });
    in_flight(COMMANDS_IN_FLIGHT_MAX + RESERVED + 4).await;

    let core = tokio::spawn(core);
    for (stream, id) in [(own, 1), (neighbours, 2)] {
        let answer = tokio::time::timeout(PATIENCE, stream).await.expect("an answer in time");
        let answer = answer.unwrap().unwrap().unwrap();
        assert_eq!((answer.id, answer.ttl), (id, 6000));
    }
    granted.await.unwrap().unwrap();
    revoked.await.unwrap().unwrap();
    compacted.await.unwrap().unwrap();
    for granted in flood.join_all().await {
        granted.unwrap();
    }
    server.stop().await;
    core.await.unwrap();
}
