//! Numbers to bytes and back.
//!
//! A value is its number and then filler whose length follows from the number. What comes back is compared with the whole
//! of it, so that a single wrong byte is noticed here.

use crate::history::{Answer, Compare, Event, Key, Operation, Outcome, Record, Refusal, Relation, Target};
use bytes::Bytes;
use holdfast_tests::wire::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use holdfast_tests::wire::etcdserverpb::request_op::Request as RequestUnion;
use holdfast_tests::wire::etcdserverpb::response_op::Response as ResponseUnion;
use holdfast_tests::wire::etcdserverpb::{
    self as proto, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use holdfast_tests::wire::mvccpb;
use std::ops::Range;
use tonic::{Code, Status};

/// From records within one sector of the log to records across some pages.
const FILLER_BYTES: &[usize] = &[0, 40, 300, 700, 900, 1500, 30, 6000];
/// Values from this number on are as long as a request may be. Some in a row with what they replaced make the page of a
/// watch that reads the past longer than a message may be, so that it is sent in fragments.
pub const LARGE_FROM: u64 = 1 << 40;
const LARGE_BYTES: usize = 60_000;

pub fn name(key: Key) -> Bytes {
    format!("k/{key:02}").into()
}

/// The bounds of keys as a request has them.
pub fn bounds(keys: &Range<Key>) -> (Bytes, Bytes) {
    let end = if keys.len() == 1 { Bytes::new() } else { name(keys.end) };
    (name(keys.start), end)
}

fn number(name: &[u8]) -> Key {
    let text = std::str::from_utf8(name).ok().and_then(|text| text.strip_prefix("k/"));
    text.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{name:?} is no key of ours"))
}

pub fn value(number: u64) -> Bytes {
    if number == 0 {
        return Bytes::new();
    }
    let small = FILLER_BYTES[number as usize % FILLER_BYTES.len()];
    let filler = if number < LARGE_FROM { small } else { LARGE_BYTES };
    format!("{number} {:x<filler$}", "").into()
}

fn value_number(bytes: &Bytes) -> u64 {
    if bytes.is_empty() {
        return 0;
    }
    let text = std::str::from_utf8(bytes).ok().and_then(|text| text.split(' ').next());
    let number = text.and_then(|number| number.parse().ok());
    let number = number.unwrap_or_else(|| panic!("{bytes:?} is no value of ours"));
    assert!(value(number) == bytes, "value {number} has changed: {bytes:?}");
    number
}

pub fn record(kv: &mvccpb::KeyValue) -> Record {
    Record {
        key: number(&kv.key),
        value: value_number(&kv.value),
        create: kv.create_revision,
        modified: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

fn records(kvs: &[mvccpb::KeyValue]) -> Vec<Record> {
    kvs.iter().map(record).collect()
}

pub fn event(event: &mvccpb::Event) -> Event {
    Event {
        is_delete: event.r#type == mvccpb::event::EventType::Delete as i32,
        record: record(event.kv.as_ref().expect("an event has a key")),
        previous: event.prev_kv.as_ref().map(record),
    }
}

/// An operation of a transaction. The parts of a call of its own are [`put`], [`delete`], [`range`], [`transaction`].
fn operation(operation: &Operation) -> RequestOp {
    let request = match operation {
        Operation::Put(request) => RequestUnion::RequestPut(put(request)),
        Operation::Delete(request) => RequestUnion::RequestDeleteRange(delete(request)),
        Operation::Read(request) => RequestUnion::RequestRange(range(request)),
        Operation::Transaction(request) => RequestUnion::RequestTxn(transaction(request)),
    };
    RequestOp { request: Some(request) }
}

pub fn put(put: &crate::history::Put) -> PutRequest {
    PutRequest {
        key: name(put.key),
        value: value(put.value),
        lease: put.lease,
        prev_kv: put.previous,
        ..Default::default()
    }
}

pub fn delete(delete: &crate::history::Delete) -> DeleteRangeRequest {
    let (key, range_end) = bounds(&delete.keys);
    DeleteRangeRequest { key, range_end, prev_kv: delete.previous }
}

pub fn range(read: &crate::history::Read) -> RangeRequest {
    let (key, range_end) = bounds(&read.keys);
    RangeRequest {
        key,
        range_end,
        limit: read.limit,
        revision: read.revision,
        serializable: read.serializable,
        ..Default::default()
    }
}

pub fn transaction(transaction: &crate::history::Transaction) -> TxnRequest {
    TxnRequest {
        compare: transaction.compares.iter().map(compare).collect(),
        success: transaction.success.iter().map(operation).collect(),
        failure: transaction.failure.iter().map(operation).collect(),
    }
}

fn compare(compare: &Compare) -> proto::Compare {
    let (target, union) = match compare.target {
        Target::Version(wanted) => (CompareTarget::Version, TargetUnion::Version(wanted)),
        Target::Create(wanted) => (CompareTarget::Create, TargetUnion::CreateRevision(wanted)),
        Target::Modified(wanted) => (CompareTarget::Mod, TargetUnion::ModRevision(wanted)),
        Target::Value(wanted) => (CompareTarget::Value, TargetUnion::Value(value(wanted))),
        Target::Lease(wanted) => (CompareTarget::Lease, TargetUnion::Lease(wanted)),
    };
    let result = match compare.relation {
        Relation::Equal => CompareResult::Equal,
        Relation::Greater => CompareResult::Greater,
        Relation::Less => CompareResult::Less,
        Relation::NotEqual => CompareResult::NotEqual,
    };
    proto::Compare {
        result: result.into(),
        target: target.into(),
        key: name(compare.key),
        target_union: Some(union),
        ..Default::default()
    }
}

pub fn put_answer(response: &PutResponse) -> Answer {
    Answer::Put(response.prev_kv.as_ref().map(record))
}

pub fn delete_answer(response: &DeleteRangeResponse) -> Answer {
    Answer::Delete { deleted: response.deleted, previous: records(&response.prev_kvs) }
}

pub fn range_answer(response: &RangeResponse) -> Answer {
    Answer::Read { records: records(&response.kvs), more: response.more, count: response.count }
}

pub fn transaction_answer(response: &TxnResponse) -> Answer {
    let answer = |response: &ResponseOp| match response.response.as_ref().expect("each operation is answered")
    {
        ResponseUnion::ResponsePut(response) => put_answer(response),
        ResponseUnion::ResponseDeleteRange(response) => delete_answer(response),
        ResponseUnion::ResponseRange(response) => range_answer(response),
        ResponseUnion::ResponseTxn(response) => transaction_answer(response),
    };
    let answers = response.responses.iter().map(answer).collect();
    Answer::Transaction { succeeded: response.succeeded, answers }
}

/// An answer with its header.
pub fn answered(header: Option<ResponseHeader>, answer: Answer) -> Outcome {
    Outcome::Answered { revision: header.expect("every answer has a header").revision, answer }
}

/// What an error says of the request. While a node is killed its words may be anything.
///
/// # Panics
/// If it is one that no request here should get.
pub fn failed(status: &Status, near_kill: bool) -> Outcome {
    match (status.code(), status.message()) {
        (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted") => {
            Outcome::Refused(Refusal::Compacted)
        }
        (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision") => {
            Outcome::Refused(Refusal::FutureRevision)
        }
        (Code::NotFound, "etcdserver: requested lease not found") => Outcome::Refused(Refusal::LeaseNotFound),
        // The connection's end comes under many names.
        (
            Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Unknown | Code::Internal,
            _,
        ) if near_kill || is_of_connection(status) => Outcome::Unknown,
        _ => panic!("no request of ours deserves this: {status:?}"),
    }
}

/// Whether the client's own side says so. What a server says has no cause here, and it is alive that says something.
fn is_of_connection(status: &Status) -> bool {
    std::error::Error::source(status).is_some() || status.message().starts_with("Service was not ready: ")
}

#[test]
fn only_a_lost_connection_leaves_an_outcome_unknown() {
    let words = [
        Status::internal("etcdserver: an outcome without results"),
        Status::unknown("etcdserver: too many requests"),
        Status::unavailable("etcdserver: request timed out"),
    ];
    for said in words {
        assert!(matches!(failed(&said, true), Outcome::Unknown));
        let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| failed(&said, false)));
        assert!(judged.is_err(), "a node that lives has said {said:?}");
    }
    let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    assert!(matches!(failed(&Status::from_error(reset.into()), false), Outcome::Unknown));
}

#[test]
fn values_come_back() {
    for number in [0, 1, 7, 8, 12_345, LARGE_FROM, LARGE_FROM + 7] {
        assert_eq!(value_number(&value(number)), number);
    }
}

#[test]
#[should_panic(expected = "value 7 has changed")]
fn a_wrong_byte_is_noticed() {
    let mut bytes = value(7).to_vec();
    bytes[4000] ^= 1;
    value_number(&bytes.into());
}
