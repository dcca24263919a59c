//! Requests that no golden script has, on the keys of the targets' history.

use super::piece;
use etcd_shim::proto::etcdserverpb as wire;
use prost::Message;
use wire::compare::{CompareTarget, TargetUnion};
use wire::watch_request::RequestUnion;

/// One transaction for each target, with transactions in it that have one compare each: all results, around what key `b`
/// has (version 2, created in 3, changed in 10, lease 7, value 33), on one key, none, and ranges.
pub fn compares() -> Vec<(String, wire::TxnRequest)> {
    let number = |of: fn(i64) -> TargetUnion, middle: i64| {
        [0, middle - 1, middle, middle + 1].map(|given| Some(of(given))).to_vec()
    };
    let values = ["", "3", "33", "5"].map(|value| Some(TargetUnion::Value(value.into()))).to_vec();
    let targets = [
        ("version", CompareTarget::Version, number(TargetUnion::Version, 2)),
        ("create", CompareTarget::Create, number(TargetUnion::CreateRevision, 3)),
        ("mod", CompareTarget::Mod, number(TargetUnion::ModRevision, 10)),
        ("lease", CompareTarget::Lease, number(TargetUnion::Lease, 7)),
        ("value", CompareTarget::Value, values),
        // What is given is of another kind, or missing.
        ("mismatched", CompareTarget::Version, vec![Some(TargetUnion::Lease(2)), None]),
    ];
    let all = |(name, target, given): (&str, CompareTarget, Vec<Option<TargetUnion>>)| {
        let mut success = Vec::new();
        for target_union in given {
            for (key, end) in [("b", ""), ("nope", ""), ("a", "c"), ("d", "\0"), ("y", "z"), ("c", "a")] {
                for result in 0..4 {
                    let (target, key, range_end) = (target as i32, key.into(), end.into());
                    let target_union = target_union.clone();
                    success.push(inside(wire::Compare { result, target, key, range_end, target_union }));
                }
            }
        }
        (format!("compares-{name}"), wire::TxnRequest { success, ..Default::default() })
    };
    targets.into_iter().map(all).collect()
}

fn inside(compare: wire::Compare) -> wire::RequestOp {
    let inner = wire::TxnRequest { compare: vec![compare], ..Default::default() };
    wire::RequestOp { request: Some(wire::request_op::Request::RequestTxn(inner)) }
}

/// A transaction that only reads, on both ways.
pub fn reads() -> wire::TxnRequest {
    let read = |key: &'static str, end: &'static str| {
        let get = wire::RangeRequest { key: key.into(), range_end: end.into(), ..Default::default() };
        wire::RequestOp { request: Some(wire::request_op::Request::RequestRange(get)) }
    };
    let changed = wire::Compare {
        target: CompareTarget::Mod as i32,
        key: "b".into(),
        target_union: Some(TargetUnion::ModRevision(10)),
        ..Default::default()
    };
    wire::TxnRequest {
        compare: vec![changed],
        success: vec![read("a", ""), read("foo/", "foo0")],
        failure: vec![read("b", "")],
    }
}

/// Streams on which watches end, are asked about and take the ids of others while the history goes on.
pub fn watches() -> Vec<(&'static str, Vec<u8>)> {
    let create = |key: &'static str, start_revision, watch_id| {
        let (key, range_end) = (key.into(), if key == "\0" { key } else { "" }.into());
        let (progress_notify, fragment, prev_kv) = (true, true, start_revision > 4);
        let request = wire::WatchCreateRequest {
            key,
            range_end,
            start_revision,
            watch_id,
            progress_notify,
            fragment,
            prev_kv,
            ..Default::default()
        };
        Some(RequestUnion::CreateRequest(request))
    };
    let cancel = |watch_id| Some(RequestUnion::CancelRequest(wire::WatchCancelRequest { watch_id }));
    let ask = Some(RequestUnion::ProgressRequest(wire::WatchProgressRequest::default()));
    let moment = None;
    let streams = [
        (
            "canceled-unread",
            vec![create("\0", 5, 3), cancel(3), create("a", 0, 3), cancel(9), moment.clone()],
        ),
        ("canceled-read", vec![create("\0", 5, 3), moment.clone(), cancel(3), cancel(3), create("a", 6, 3)]),
        (
            "asked",
            vec![ask.clone(), create("\0", 4, 0), ask.clone(), ask.clone(), moment.clone(), ask.clone()],
        ),
        (
            "asked-too-early",
            vec![create("a", 12, 0), ask.clone(), moment.clone(), moment.clone(), moment.clone()],
        ),
        ("asked-and-canceled", vec![create("b", 0, 1), ask.clone(), cancel(1), moment.clone(), ask]),
        (
            "idle",
            vec![
                create("nope", 0, 1),
                create("\0", 0, 2),
                moment.clone(),
                moment.clone(),
                moment.clone(),
                moment,
            ],
        ),
        ("too-late", vec![create("a", 2, 1), create("a", 2, 1), create("b", 4, 1), create("c", 5, 1)]),
    ];
    let bytes = |requests: Vec<Option<RequestUnion>>| {
        let pieces = requests
            .into_iter()
            .map(|request_union| piece(&wire::WatchRequest { request_union }.encode_to_vec()));
        pieces.collect::<Vec<_>>().concat()
    };
    streams.into_iter().map(|(name, requests)| (name, bytes(requests))).collect()
}
