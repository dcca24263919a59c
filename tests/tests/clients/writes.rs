//! Writes that are too large, too many, or that nobody waits for; whose responses nobody reads; and leases that end together.

use crate::attack::{Attacked, unread};
use holdfast_tests::Setup;
use holdfast_tests::wire::etcdserverpb::lease_client::LeaseClient;
use holdfast_tests::wire::etcdserverpb::{
    LeaseGrantRequest, LeaseLeasesRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse,
    request_op::Request as OpRequest,
};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};

/// A value that fits a request of the default size just so.
const LARGE_VALUE_BYTES: usize = 1_572_864 - 512;

fn put(key: String, value_bytes: usize) -> PutRequest {
    PutRequest { key: key.into(), value: vec![7; value_bytes].into(), ..Default::default() }
}

/// etcd's words for more than it takes at a time; without a code, as they leave etcd.
fn is_too_many_requests(status: &Status) -> bool {
    (status.code(), status.message()) == (Code::Unknown, "etcdserver: too many requests")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_values_at_once_are_taken_or_refused_in_etcds_words() {
    const CLIENTS: u32 = 240;
    let attacked = Attacked::start(Setup::subject()).await;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let mut kv = attacked.kv();
        clients.spawn(async move {
            let mut taken = 0;
            for _ in 0..2 {
                match kv.put(put(format!("attack/large/{client}"), LARGE_VALUE_BYTES)).await {
                    Ok(_) => taken += 1,
                    Err(status) => assert!(is_too_many_requests(&status), "{status}"),
                }
            }
            taken
        });
    }
    let taken: u32 = clients.join_all().await.into_iter().sum();
    println!("{taken} of {} were taken", 2 * CLIENTS);
    assert!(taken >= 85, "{taken} were taken; 85 have room at any time");
    assert!(taken < 2 * CLIENTS, "all were taken: no burst beyond what may be in flight");
    // What may be in flight (received, queued), what has arrived in part, what is being encoded and written, and the
    // store's own share.
    assert!(attacked.added_mib() <= 2 * 128 + 256 + 192, "{} MiB", attacked.added_mib());
    let count = RangeRequest {
        key: "attack/large/".into(),
        range_end: "attack/large0".into(),
        count_only: true,
        ..Default::default()
    };
    assert!(attacked.kv().range(count).await.expect("a count").into_inner().count >= 20);
    attacked.check_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_answered_one_by_one() {
    let attacked = Attacked::start(Setup::subject()).await;
    let channels: Vec<_> = (0..4).map(|_| attacked.kv()).collect();
    let mut burst = JoinSet::new();
    for n in 0..4_000 {
        let mut kv = channels[n % channels.len()].clone();
        burst.spawn(async move { kv.put(put(format!("attack/burst/{n}"), 100)).await });
    }
    for answer in burst.join_all().await {
        assert!(answer.as_ref().map_or_else(is_too_many_requests, |_| true), "{answer:?}");
    }
    drop(channels);
    attacked.check_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_operations_are_refused_however_many() {
    let attacked = Attacked::start(Setup::subject()).await;
    let mut kv = attacked.kv();
    // The last of them fit the largest message, and would be 130 MiB once decoded.
    for count in [129, 10_000, 100_000, 900_000] {
        let success = vec![RequestOp::default(); count];
        let status = kv.txn(TxnRequest { success, ..Default::default() }).await.expect_err("too many");
        let expected = (Code::InvalidArgument, "etcdserver: too many operations in txn request");
        assert_eq!((status.code(), status.message()), expected, "{count}");
    }
    assert!(attacked.added_mib() <= 64, "{} MiB", attacked.added_mib());
    drop(kv);
    attacked.check_unharmed().await;
}

/// Each is a small request, done in no time, and asks for one large value.
#[tokio::test(flavor = "multi_thread")]
async fn responses_of_writes_that_nobody_reads_are_bounded_together() {
    const WRITES: usize = 600;
    const VALUE_BYTES: usize = 1_400_000;
    // What large responses may take together, and the engine's and the cache's share.
    const BOUND_MIB: u64 = 512 + 128;
    let attacked = Attacked::start(Setup::subject()).await;
    attacked.kv().put(put("attack/big".into(), VALUE_BYTES)).await.expect("a put");
    let transaction = |n: usize| {
        let get = RangeRequest { key: "attack/big".into(), ..Default::default() };
        let success = vec![
            RequestOp { request: Some(OpRequest::RequestPut(put(format!("attack/small/{n}"), 10))) },
            RequestOp { request: Some(OpRequest::RequestRange(get)) },
        ];
        TxnRequest { success, ..Default::default() }
    };
    let channel = attacked.node.channel();
    let mut held = Vec::new();
    for n in 0..WRITES {
        let path = "/etcdserverpb.KV/Txn";
        match unread::<TxnRequest, TxnResponse>(channel.clone(), path, transaction(n)).await {
            Ok(answer) => held.push(answer),
            Err(status) => assert!(is_too_many_requests(&status), "{status}"),
        }
    }
    assert!(attacked.added_mib() <= BOUND_MIB, "{} MiB, {BOUND_MIB} are the bound", attacked.added_mib());
    // What was answered was done, and nothing else.
    let small = RangeRequest {
        key: "attack/small/".into(),
        range_end: "attack/small0".into(),
        count_only: true,
        ..Default::default()
    };
    assert_eq!(attacked.kv().range(small).await.expect("a count").into_inner().count, held.len() as i64);
    drop((held, channel));
    let response = attacked.kv().txn(transaction(0)).await.expect("a transaction").into_inner();
    assert_eq!(response.responses.len(), 2);
    attacked.check_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_that_pass_fail_no_neighbour() {
    let attacked = Attacked::start(Setup::subject()).await;
    let mut calls = JoinSet::new();
    let kv = attacked.kv();
    for n in 0..2_000 {
        let mut kv = kv.clone();
        calls.spawn(async move {
            let is_hasty = n % 2 == 0;
            let mut request = Request::new(put(format!("attack/hasty/{n}"), 1_000));
            if is_hasty {
                request.set_timeout(Duration::from_micros(500));
            }
            (is_hasty, kv.put(request).await)
        });
    }
    let mut late = 0;
    while let Some(call) = calls.join_next().await {
        match call.expect("a call") {
            (_, Ok(_)) => {}
            // The second is the client's own word.
            (true, Err(status)) => {
                assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
                late += 1;
            }
            (false, Err(status)) => panic!("a call in the company of hasty ones failed: {status}"),
        }
    }
    assert!(late > 0, "no deadline passed: nothing was tried");
    drop(kv);
    attacked.check_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_that_end_together_take_their_keys_and_hold_up_nobody() {
    const LEASES: i64 = 1_500;
    let attacked = Attacked::start(Setup::subject()).await;
    let (leases, kv) = (LeaseClient::new(attacked.node.channel()), attacked.kv());
    let mut grants = JoinSet::new();
    for id in 1..=LEASES {
        let (mut leases, mut kv) = (leases.clone(), kv.clone());
        grants.spawn(async move {
            leases.lease_grant(LeaseGrantRequest { id, ttl: 3 }).await.expect("a lease");
            let put = PutRequest { lease: id, ..put(format!("attack/leased/{id:05}"), 10) };
            // A slow machine may be slower than the lease.
            if let Err(status) = kv.put(put).await {
                assert_eq!(status.message(), "etcdserver: requested lease not found");
            }
        });
    }
    grants.join_all().await;
    let begun = Instant::now();
    let mut asking = leases.clone();
    while !asking.lease_leases(LeaseLeasesRequest {}).await.expect("a list").into_inner().leases.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "leases stay");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let all = RangeRequest {
        key: "attack/leased/".into(),
        range_end: "attack/leased0".into(),
        count_only: true,
        ..Default::default()
    };
    assert_eq!(attacked.kv().range(all).await.expect("a count").into_inner().count, 0);
    drop((asking, leases, kv));
    attacked.check_unharmed().await;
}
