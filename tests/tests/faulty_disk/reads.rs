//! A disk that cannot be read for a while, under a server that runs: what needs it is refused and told why, all else goes
//! on, and afterwards everything is served as if nothing had been.

use crate::library::{EIO, Fault, library};
use crate::load::{Acknowledged, Load, check_present, finished, key, look_for};
use crate::server::Place;
use holdfast_tests::check_advice;
use holdfast_tests::wire::etcdserverpb::kv_client::KvClient;
use holdfast_tests::wire::etcdserverpb::{
    CompactionRequest, Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, compare, request_op,
};
use std::fs;
use tonic::transport::Channel;
use tonic::{Code, Status};

const KEYS: u64 = 40;

/// A server on these keys, which are in tables of the engine and not in memory.
async fn written() -> (Place, Acknowledged) {
    let place = Place::new();
    let server = place.start(&[]).unwrap_or_else(|end| panic!("{}", end.text));
    let acknowledged = finished(Load::start(&place.channel(), 0, KEYS, &place.note())).await;
    assert_eq!(acknowledged.revisions.len() as u64, KEYS);
    assert!(server.stop().status.success());
    (place, acknowledged)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_fails_is_told_and_nothing_else_suffers() {
    let Some(library) = library() else { return };
    let (place, mut acknowledged) = written().await;
    let fault = Fault::once("pread", ".sst", 0, EIO).for_ever();
    let mut environment = fault.environment(library, &place.note());
    environment.push(("FAULTY_WHILE", place.trigger().display().to_string()));
    let mut server = place.start(&environment).unwrap_or_else(|end| panic!("{}", end.text));
    let channel = place.channel();

    fs::write(place.trigger(), "").expect("a file");
    let refused = look_for(&channel, &acknowledged, "while reads fail").await.expect_err("a read that fails");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    let note = fs::read_to_string(place.note()).expect("the fault has struck");
    let file = note.lines().next().and_then(|line| line.rsplit('/').next()).expect("a file");
    assert!(refused.message().contains("could not be read") && refused.message().contains(file), "{refused}");
    check_advice(refused.message(), "a refused read");
    check_transactions_are_told(&channel, file).await;
    let further = finished(Load::start(&channel, KEYS, 5, &place.note())).await;
    assert_eq!(further.revisions.len(), 5, "writes go on");

    fs::remove_file(place.trigger()).expect("the trigger");
    acknowledged.revisions.extend(further.revisions);
    check_present(&channel, &acknowledged, "when reads work again").await;
    // So was a removal, which the next compaction does.
    compact(&channel, 4).await.expect("a compaction when reads work again");
    assert!(server.ended().is_none(), "it has ended");
    let end = server.stop();
    assert!(end.status.success(), "{}", end.text);
    assert!(end.text.contains("old versions are not removed"), "the operator is not told: {}", end.text);
    assert!(end.text.contains("data could not be read"), "the operator is not told: {}", end.text);
}

/// Writes that need a value, and a compaction that has to look at some.
async fn check_transactions_are_told(channel: &Channel, file: &str) {
    let mut kv = KvClient::new(channel.clone());
    let check = |what: &str, refused: Status| {
        assert_eq!(refused.code(), Code::Unavailable, "{what}: {refused}");
        let is_told = refused.message().contains("could not be read") && refused.message().contains(file);
        assert!(is_told, "{what}: {refused}");
        check_advice(refused.message(), what);
    };
    let missing = Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Mod.into(),
        key: key(0).into(),
        target_union: Some(compare::TargetUnion::ModRevision(0)),
        ..Default::default()
    };
    let put = PutRequest { key: key(0).into(), ..Default::default() };
    let read = RangeRequest { key: key(0).into(), ..Default::default() };
    let operation = |request| vec![RequestOp { request: Some(request) }];
    let create = TxnRequest {
        compare: vec![missing],
        success: operation(request_op::Request::RequestPut(put.clone())),
        failure: operation(request_op::Request::RequestRange(read)),
    };
    check("a create", kv.txn(create).await.expect_err("the value that is there"));
    let with_previous = PutRequest { prev_kv: true, ..put };
    check("a put", kv.put(with_previous).await.expect_err("the previous value"));
    check("a compaction", compact(channel, 3).await.expect_err("nothing is removed"));
}

async fn compact(channel: &Channel, revision: i64) -> Result<(), Status> {
    let compaction = CompactionRequest { revision, physical: true };
    KvClient::new(channel.clone()).compact(compaction).await.map(|_| ())
}
