use super::*;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::{request_op, response_op};
use std::time::Duration;

fn range(key: &str, end: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), range_end: end.to_owned().into(), ..Default::default() }
}

fn keys(response: &pb::RangeResponse) -> Vec<String> {
    response.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
}

#[tokio::test]
async fn a_put_is_read_back_with_its_numbers() {
    let server = Server::start();
    assert_eq!(server.put("a", "1").await, 2);
    assert_eq!(server.put("a", "2").await, 3);
    let found = server.kv().range(range("a", "")).await.unwrap().into_inner();
    let header = found.header.unwrap();
    assert_eq!((header.cluster_id, header.member_id), (0xcdf818194e3a8c32, 0x8e9e05c52164694d));
    assert!(header.raft_term > 0);
    assert_eq!(header.revision, 3);
    let kv = &found.kvs[0];
    assert_eq!((&kv.value[..], kv.create_revision, kv.mod_revision, kv.version), (&b"2"[..], 2, 3, 2));
    let put = pb::PutRequest { key: "a".into(), prev_kv: true, ignore_value: true, ..Default::default() };
    let before = server.kv().put(put).await.unwrap().into_inner().prev_kv.unwrap();
    assert_eq!(&before.value[..], b"2");
    server.stop().await;
}

#[tokio::test]
async fn ranges_limits_counts_and_orders() {
    let server = Server::start();
    for key in ["b", "a", "c", "d"] {
        server.put(key, "v").await;
    }
    let page = pb::RangeRequest { limit: 2, ..range("a", "d") };
    let found = server.kv().range(page.clone()).await.unwrap().into_inner();
    assert_eq!((keys(&found), found.more, found.count), (vec!["a".into(), "b".into()], true, 3));
    let by_age = pb::RangeRequest { sort_order: 1, sort_target: 2, limit: 1, ..range("a", "\0") };
    let found = server.kv().range(by_age).await.unwrap().into_inner();
    assert_eq!((keys(&found), found.more, found.count), (vec!["b".into()], true, 4));
    let count = pb::RangeRequest { count_only: true, ..range("\0", "\0") };
    let found = server.kv().range(count).await.unwrap().into_inner();
    assert_eq!((found.kvs.len(), found.more, found.count), (0, false, 4));
    let old = pb::RangeRequest { revision: 3, ..range("\0", "\0") };
    let found = server.kv().range(old).await.unwrap().into_inner();
    assert_eq!((keys(&found), found.header.unwrap().revision), (vec!["a".into(), "b".into()], 5));
    server.stop().await;
}

#[tokio::test]
async fn a_stream_of_chunks_merges_to_the_unary_answer() {
    let server = Server::with(Settings { max_request_bytes: 4096, ..Settings::default() });
    for at in 0..150 {
        server.put(&format!("k{at:03}"), &"v".repeat(100)).await;
    }
    server.put("z", "outside").await;
    for request in [
        range("k", "l"),
        range("k007", ""),
        range("x", "y"),
        pb::RangeRequest { limit: 10, ..range("k", "l") },
        pb::RangeRequest { limit: 77, ..range("k", "l") },
        pb::RangeRequest { revision: 50, keys_only: true, ..range("k", "l") },
        pb::RangeRequest { count_only: true, limit: 3, ..range("k", "l") },
    ] {
        let mut unary = server.kv().range(request.clone()).await.unwrap().into_inner();
        let mut stream = server.kv().range_stream(request.clone()).await.unwrap().into_inner();
        let mut merged = pb::RangeResponse::default();
        let mut chunks = 0;
        while let Some(chunk) = stream.message().await.unwrap() {
            let chunk = chunk.range_response.unwrap();
            assert!(merged.header.is_none(), "the header comes with the last chunk");
            merged.kvs.extend(chunk.kvs);
            (merged.header, merged.more, merged.count) = (chunk.header, chunk.more, chunk.count);
            chunks += 1;
        }
        if request.count_only {
            unary.more = false;
        }
        assert_eq!(merged, unary, "{request:?}");
        assert!(chunks == 1 || unary.kvs.len() > 10);
    }
    for odd in [
        pb::RangeRequest { sort_order: 2, ..range("k", "l") },
        pb::RangeRequest { max_mod_revision: 9, ..range("k", "l") },
    ] {
        assert_eq!(fault(server.kv().range_stream(odd).await).0, Code::Unimplemented);
    }
    server.stop().await;
}

#[tokio::test]
async fn chunks_of_the_past_wait_for_a_turn_beside_and_small_ones_do_not() {
    let server = Server::start();
    let past = server.put("a", "1").await;
    server.put("a", "2").await;
    let turns = server.take_all_turns().await;
    let first = async |revision| {
        let request = pb::RangeRequest { revision, ..range("a", "") };
        let mut stream = server.kv().range_stream(request).await.unwrap().into_inner();
        let chunk = stream.message().await.unwrap().unwrap().range_response.unwrap();
        (chunk.kvs[0].value.clone(), chunk.count)
    };
    assert_eq!(first(0).await, ("2".into(), 1));
    let mut of_the_past = Box::pin(first(past));
    assert!(tokio::time::timeout(Duration::from_millis(100), of_the_past.as_mut()).await.is_err());
    drop(turns);
    assert_eq!(of_the_past.await, ("1".into(), 1));
    server.stop().await;
}

/// Each get of a transaction is of one key; together they are large.
#[tokio::test]
async fn many_gets_of_large_values_in_a_transaction_wait_for_a_turn_beside() {
    let server = Server::start();
    server.put("a", &"v".repeat(100 << 10)).await;
    let gets = |count| {
        let get = pb::RequestOp { request: Some(request_op::Request::RequestRange(range("a", ""))) };
        pb::TxnRequest { success: vec![get; count], ..Default::default() }
    };
    let turns = server.take_all_turns().await;
    assert_eq!(server.kv().txn(gets(2)).await.unwrap().into_inner().responses.len(), 2);
    let mut kv = server.kv();
    let mut many = Box::pin(kv.txn(gets(20)));
    assert!(tokio::time::timeout(Duration::from_millis(100), many.as_mut()).await.is_err());
    drop(turns);
    assert_eq!(many.await.unwrap().into_inner().responses.len(), 20);
    server.stop().await;
}

#[tokio::test]
async fn faults_have_etcds_codes_and_texts() {
    let server = Server::start();
    let revision = server.put("a", "1").await;
    server.put("a", "2").await;
    let mut kv = server.kv();
    assert_eq!(
        fault(kv.range(range("", "")).await),
        (Code::InvalidArgument, "etcdserver: key is not provided".into())
    );
    let future = pb::RangeRequest { revision: 99, ..range("a", "") };
    assert_eq!(
        fault(kv.range(future.clone()).await),
        (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision".into())
    );
    let in_transaction = pb::TxnRequest {
        success: vec![pb::RequestOp { request: Some(request_op::Request::RequestRange(future)) }],
        ..Default::default()
    };
    assert_eq!(
        fault(kv.txn(in_transaction).await),
        (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision".into())
    );
    server.compact(revision + 1).await;
    let compacted = (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted".into());
    let old = pb::RangeRequest { revision, ..range("a", "") };
    assert_eq!(fault(kv.range(old.clone()).await), compacted);
    assert_eq!(fault(kv.range_stream(old).await), compacted);
    assert_eq!(fault(kv.compact(pb::CompactionRequest { revision: -1, physical: false }).await), compacted);
    let leased = pb::PutRequest { key: "a".into(), lease: 4711, ..Default::default() };
    assert_eq!(fault(kv.put(leased).await), (Code::NotFound, "etcdserver: requested lease not found".into()));
    let keep = pb::PutRequest { key: "none".into(), ignore_lease: true, ..Default::default() };
    assert_eq!(fault(kv.put(keep).await), (Code::InvalidArgument, "etcdserver: key not found".into()));
    server.stop().await;
}

#[tokio::test]
async fn requests_are_bounded_twice() {
    let server = Server::start();
    let put =
        |bytes: usize| pb::PutRequest { key: "k".into(), value: vec![7; bytes].into(), ..Default::default() };
    let mut kv = server.kv();
    kv.put(put(1_572_864 - 64)).await.unwrap();
    assert_eq!(
        fault(kv.put(put(1_572_864)).await),
        (Code::InvalidArgument, "etcdserver: request is too large".into())
    );
    assert_eq!(
        fault(kv.put(put(2_097_152)).await),
        (Code::ResourceExhausted, "grpc: received message larger than max (2097160 vs. 2097152)".into())
    );
    server.stop().await;
}

#[tokio::test]
async fn a_guarded_update_and_its_refusal() {
    let server = Server::start();
    let guarded = |revision: i64, value: &'static str| pb::TxnRequest {
        compare: vec![pb::Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Mod as i32,
            key: "a".into(),
            target_union: Some(TargetUnion::ModRevision(revision)),
            ..Default::default()
        }],
        success: vec![pb::RequestOp {
            request: Some(request_op::Request::RequestPut(pb::PutRequest {
                key: "a".into(),
                value: value.into(),
                ..Default::default()
            })),
        }],
        failure: vec![pb::RequestOp {
            request: Some(request_op::Request::RequestRange(pb::RangeRequest {
                key: "a".into(),
                ..Default::default()
            })),
        }],
    };
    let created = server.kv().txn(guarded(0, "1")).await.unwrap().into_inner();
    assert!(created.succeeded);
    assert_eq!(created.header.unwrap().revision, 2);
    let refused = server.kv().txn(guarded(0, "2")).await.unwrap().into_inner();
    assert!(!refused.succeeded);
    assert_eq!(refused.header.unwrap().revision, 2);
    let Some(response_op::Response::ResponseRange(found)) = &refused.responses[0].response else { panic!() };
    assert_eq!(&found.kvs[0].value[..], b"1");
    assert_eq!(
        found.header,
        Some(pb::ResponseHeader { revision: 2, ..Default::default() }),
        "an inner header holds the revision alone"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_transaction_that_only_reads_compares_like_one_that_writes() {
    let server = Server::start();
    for (key, value) in [("a", "1"), ("b", "2"), ("b", "3")] {
        server.put(key, value).await;
    }
    let compare = |key: &'static str, end: &'static str, target, result, union| pb::Compare {
        result: result as i32,
        target: target as i32,
        key: key.into(),
        range_end: end.into(),
        target_union: Some(union),
    };
    use CompareResult::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{Create, Lease, Mod, Value, Version};
    let cases = [
        (compare("a", "c", Version, Greater, TargetUnion::Version(0)), true),
        (compare("a", "c", Version, Equal, TargetUnion::Version(1)), false),
        (compare("a", "c", Mod, Less, TargetUnion::ModRevision(5)), true),
        (compare("none", "", Create, Equal, TargetUnion::CreateRevision(0)), true),
        (compare("x", "z", Lease, NotEqual, TargetUnion::Lease(0)), false),
        (compare("a", "", Value, Equal, TargetUnion::Value("1".into())), true),
        (compare("a", "c", Value, Less, TargetUnion::Value("3".into())), false),
        (compare("none", "", Value, NotEqual, TargetUnion::Value("1".into())), false),
    ];
    for (compare, holds) in cases {
        let read = pb::RequestOp { request: Some(request_op::Request::RequestRange(range("a", "z"))) };
        // A transaction inside makes it one that goes through the log.
        let nothing =
            pb::RequestOp { request: Some(request_op::Request::RequestTxn(pb::TxnRequest::default())) };
        for ops in [vec![read.clone()], vec![read.clone(), nothing]] {
            let request = pb::TxnRequest { compare: vec![compare.clone()], success: ops, failure: vec![] };
            let response = server.kv().txn(request).await.unwrap().into_inner();
            assert_eq!(response.succeeded, holds, "{compare:?}");
            assert_eq!(response.header.unwrap().revision, 4);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn metadata_is_checked_first() {
    let server = Server::start();
    let mut broken = Request::new(range("", ""));
    let value = http::HeaderValue::from_bytes(b"\xff\xfe").unwrap();
    broken.metadata_mut().as_mut().insert("client-api-version", value);
    assert_eq!(
        fault(server.kv().range(broken).await),
        (Code::InvalidArgument, "etcdserver: invalid client api version".into())
    );
    server.kv().range(with_metadata(range("a", ""), "hasleader", "true")).await.unwrap();
    server.stop().await;
}

/// More keys than are answered where a request arrives.
const MANY: usize = 1_100;

async fn with_many_keys() -> Server {
    let server = Server::start();
    let put = |at: usize| pb::PutRequest {
        key: format!("many/{at:05}").into(),
        value: vec![at as u8; at % 500].into(),
        ..Default::default()
    };
    for first in (0..MANY).step_by(100) {
        let success = (first..first + 100)
            .map(|at| pb::RequestOp { request: Some(request_op::Request::RequestPut(put(at))) })
            .collect();
        server.kv().txn(pb::TxnRequest { success, ..Default::default() }).await.unwrap();
    }
    server
}

#[tokio::test]
async fn a_large_range_is_the_sum_of_small_ones() {
    let server = with_many_keys().await;
    let all = range("many/", "many0");
    let mut pages: Vec<pb::RangeResponse> = Vec::new();
    let mut from = all.clone();
    loop {
        from.limit = 300;
        let page = server.kv().range(from.clone()).await.unwrap().into_inner();
        from.key = [&page.kvs[page.kvs.len() - 1].key[..], b"\0"].concat().into();
        let more = page.more;
        pages.push(page);
        if !more {
            break;
        }
    }
    let kvs: Vec<_> = pages.into_iter().flat_map(|page| page.kvs).collect();
    for revision in [0, 12] {
        let large =
            server.kv().range(pb::RangeRequest { revision, ..all.clone() }).await.unwrap().into_inner();
        assert_eq!((large.kvs.len(), large.more, large.count), (MANY, false, MANY as i64));
        assert_eq!(large.header.unwrap().revision, 12);
        assert!(large.kvs == kvs);
    }
    let cut = pb::RangeRequest { limit: 1_050, keys_only: true, ..all.clone() };
    let cut = server.kv().range(cut).await.unwrap().into_inner();
    assert_eq!((cut.kvs.len(), cut.more, cut.count), (1_050, true, MANY as i64));
    assert!(cut.kvs.iter().zip(&kvs).all(|(cut, kv)| cut.key == kv.key && cut.value.is_empty()));
    let descending = pb::RangeRequest { sort_order: 2, limit: 3, ..all.clone() };
    let descending = server.kv().range(descending).await.unwrap().into_inner();
    assert_eq!(keys(&descending), ["many/01099", "many/01098", "many/01097"]);
    let newest = pb::RangeRequest { min_mod_revision: 12, ..all.clone() };
    let newest = server.kv().range(newest).await.unwrap().into_inner();
    assert_eq!((newest.kvs.len(), newest.count), (100, MANY as i64));

    let op = |range| pb::RequestOp { request: Some(request_op::Request::RequestRange(range)) };
    let txn =
        pb::TxnRequest { success: vec![op(all.clone()), op(range("nothing", ""))], ..Default::default() };
    let txn = server.kv().txn(txn).await.unwrap().into_inner();
    assert!(txn.succeeded && txn.header.unwrap().revision == 12 && txn.responses.len() == 2);
    let Some(response_op::Response::ResponseRange(inner)) = &txn.responses[0].response else { panic!() };
    assert!(inner.kvs == kvs && inner.count == MANY as i64);
    server.stop().await;
}

#[tokio::test]
async fn a_large_range_of_the_future_or_the_compacted_past_is_refused() {
    let server = with_many_keys().await;
    server.compact(10).await;
    for (revision, text) in [
        (9, "etcdserver: mvcc: required revision has been compacted"),
        (99, "etcdserver: mvcc: required revision is a future revision"),
    ] {
        let past = pb::RangeRequest { revision, ..range("many/", "many0") };
        assert_eq!(fault(server.kv().range(past).await), (Code::OutOfRange, text.to_owned()));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_whatever_it_waits_for() {
    let server = Server::start();
    let late = (Code::DeadlineExceeded, "context deadline exceeded".to_owned());
    let mut grpc = tonic::client::Grpc::new(server.routes.clone());
    // The deadline is in the metadata alone: no client that gives up first.
    let path = http::uri::PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
    grpc.ready().await.unwrap();
    let requests = tokio_stream::pending::<pb::WatchRequest>();
    let mut watch = with_metadata(requests, "grpc-timeout", "50m");
    watch.set_timeout(std::time::Duration::from_millis(50));
    let codec = tonic_prost::ProstCodec::<pb::WatchRequest, pb::WatchResponse>::default();
    let status = match grpc.streaming(watch, path, codec).await {
        Ok(responses) => responses.into_inner().message().await.unwrap_err(),
        // On a busy machine it has passed before there was a stream.
        Err(status) => status,
    };
    assert_eq!((status.code(), status.message().to_owned()), late);
    let read = with_metadata(range("k", ""), "grpc-timeout", "10S");
    assert!(server.kv().range(read).await.is_ok());
    server.stop().await;
}

#[tokio::test]
async fn a_write_whose_deadline_passes_before_its_turn_is_not_done_and_fails_nobody() {
    let server = Server::placed(Settings::default(), Placement::Caller);
    let put = |key: &'static str| pb::PutRequest { key: key.into(), value: "v".into(), ..Default::default() };
    let mut kv = server.kv();
    let before = tokio::spawn(async move { kv.put(put("before")).await });
    tokio::task::yield_now().await;
    let hasty = with_metadata(put("hasty"), "grpc-timeout", "20m");
    let late = (Code::DeadlineExceeded, "context deadline exceeded".to_owned());
    assert_eq!(fault(server.kv().put(hasty).await), late);
    let mut kv = server.kv();
    let behind = tokio::spawn(async move { kv.put(put("behind")).await });
    tokio::task::yield_now().await;
    let core = tokio::spawn(server.store.take_core().unwrap());
    assert!(before.await.unwrap().is_ok() && behind.await.unwrap().is_ok());
    let found = server.kv().range(range("\0", "\0")).await.unwrap().into_inner();
    assert_eq!(keys(&found), ["before", "behind"]);
    server.stop().await;
    core.await.unwrap();
}
