//! Requests that no golden script has, on the keys of the targets' history.

use etcd_shim::proto::etcdserverpb as wire;
use wire::compare::{CompareTarget, TargetUnion};

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
