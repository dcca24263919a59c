//! Leases that end by themselves, by the real clock.

use crate::subject::small;
use kvstore::command::{Operation, Put, PutLease, PutValue, RangeQuery, Transaction};
use kvstore::store::{Config, Consistency, Delivery, EventKind, Keyspace, Placement, Store, WatchOptions};
use kvstore::{KeyRange, KeyspaceId, LeaseId};
use std::time::{Duration, Instant};

/// How late a machine under load may be.
const SLACK: Duration = Duration::from_secs(30);
/// Long enough that a machine which stands still for seconds does not miss what has to be done within it.
const TTL_S: i64 = 4;
const TTL: Duration = Duration::from_secs(TTL_S as u64);

fn quick(directory: &tempfile::TempDir) -> Config {
    // An election timeout this short allows a time to live of one second.
    Config { heartbeat_ms: 20, election_ms: 200, ..small(directory, Placement::Thread) }
}

async fn put_on(kv: &Keyspace, key: &'static str, lease: i64) {
    let put = Put {
        key: key.into(),
        value: PutValue::Set("v".into()),
        lease: PutLease::Set(LeaseId::new(lease)),
        want_previous: false,
    };
    let transaction = Transaction { success: vec![Operation::Put(put)], ..Default::default() };
    kv.transact(transaction).await.expect("a put on a lease");
}

async fn count(kv: &Keyspace) -> u64 {
    let query = RangeQuery::new(KeyRange::all());
    kv.range(query, Consistency::Linearizable).await.expect("a read").result.count
}

async fn ended(kv: &Keyspace, id: i64, limit: Duration) -> Duration {
    let started = Instant::now();
    while kv.lease_time_to_live(LeaseId::new(id), false).unwrap().is_some() {
        assert!(started.elapsed() < limit, "lease {id} does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    started.elapsed()
}

#[tokio::test]
async fn a_lease_ends_with_all_its_keys_in_one_revision_and_a_renewal_puts_it_off() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(quick(&directory)).expect("the store opens");
    let kv = store.keyspace(KeyspaceId::DEFAULT);
    let began = Instant::now();
    for (id, asked_s, granted_s) in [(1, TTL_S, TTL_S), (2, TTL_S, TTL_S), (3, 0, 1)] {
        let granted = kv.lease_grant(LeaseId::new(id), asked_s).await.expect("a grant");
        assert_eq!(granted.ttl_s, granted_s, "as asked, or raised to the least");
    }
    for key in ["z", "a", "m"] {
        put_on(&kv, key, 1).await;
    }
    put_on(&kv, "kept", 2).await;
    let session = kv.watch();
    session.create(WatchOptions::new(KeyRange::all())).expect("a watch");

    while kv.lease_time_to_live(LeaseId::new(1), false).unwrap().is_some() {
        assert_eq!(kv.lease_keep_alive(LeaseId::new(2)).await, Ok(Some(TTL_S)));
        assert!(began.elapsed() < SLACK, "the lease does not end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(began.elapsed() >= TTL, "ended after {:?}", began.elapsed());
    assert_eq!(count(&kv).await, 1, "the renewed lease's key is there");
    assert_eq!(kv.lease_keep_alive(LeaseId::new(1)).await, Ok(None));

    let told = async {
        loop {
            if let Delivery::Events { events, .. } = session.next().await {
                return events;
            }
        }
    };
    let events = tokio::time::timeout(SLACK, told).await.expect("the watch is told");
    assert!(events.iter().all(|told| told.event.kind == EventKind::Delete));
    assert!(events.iter().all(|told| told.event.revision() == events[0].event.revision()));
    assert_eq!(events.iter().map(|told| told.event.key()).collect::<Vec<_>>(), [b"a", b"m", b"z"]);

    ended(&kv, 2, SLACK).await;
    assert_eq!(count(&kv).await, 0);
    store.stop().await;
}

#[tokio::test]
async fn a_restart_neither_ends_a_lease_nor_renews_it_for_ever() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(quick(&directory)).expect("the store opens");
    let kv = store.keyspace(KeyspaceId::DEFAULT);
    let began = Instant::now();
    kv.lease_grant(LeaseId::new(7), TTL_S).await.expect("a grant");
    put_on(&kv, "a", 7).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    store.stop().await;
    let up = began.elapsed();
    drop((kv, store));
    // Down for longer than its time to live: nobody could have renewed it, so this does not count.
    tokio::time::sleep(TTL + Duration::from_millis(300)).await;

    let again = Instant::now();
    let store = Store::open(quick(&directory)).expect("the store opens again");
    let kv = store.keyspace(KeyspaceId::DEFAULT);
    assert_eq!(count(&kv).await, 1, "the key is there");
    let info = kv.lease_time_to_live(LeaseId::new(7), true).unwrap().expect("the lease is there");
    assert_eq!((info.granted_ttl_s, info.keys.len()), (TTL_S, 1));
    ended(&kv, 7, SLACK).await;
    let lived = up + again.elapsed();
    assert!(lived >= TTL, "lived only {lived:?}");
    assert_eq!(count(&kv).await, 0);
    store.stop().await;
}

#[tokio::test]
async fn a_renewal_covers_those_that_follow_soon_and_what_it_promised_survives() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = quick(&directory);
    let store = Store::open(config.clone()).expect("the store opens");
    let kv = store.keyspace(KeyspaceId::DEFAULT);
    const LONG_TTL_S: i64 = 30;
    const RENEWALS: u64 = 200;
    let id = LeaseId::new(7);
    kv.lease_grant(id, LONG_TTL_S).await.expect("a grant");
    let (entries, began, mut renewals) = (store.status().applied, Instant::now(), 0);
    while renewals < RENEWALS || began.elapsed() < Duration::from_millis(500) {
        assert_eq!(kv.lease_keep_alive(id).await, Ok(Some(LONG_TTL_S)));
        renewals += 1;
    }
    // One at once, then one for each second; the clock's own entries are rare.
    let written = store.status().applied.get() - entries.get();
    let took = began.elapsed();
    assert!(written <= 3 + 2 * took.as_secs(), "{renewals} renewals in {took:?} wrote {written} entries");

    let promised = Instant::now();
    assert_eq!(kv.lease_keep_alive(id).await, Ok(Some(LONG_TTL_S)));
    store.stop().await;
    drop((kv, store));
    let store = Store::open(config).expect("the store opens again");
    let info = store
        .keyspace(KeyspaceId::DEFAULT)
        .lease_time_to_live(id, false)
        .unwrap()
        .expect("the lease is there");
    let passed = promised.elapsed().as_secs() as i64;
    assert!(
        info.remaining_ttl_s >= LONG_TTL_S - 1 - passed && info.remaining_ttl_s <= LONG_TTL_S,
        "{info:?}"
    );
    store.stop().await;
}
