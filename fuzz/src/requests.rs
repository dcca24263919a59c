//! Requests of the KV service: protobuf, conversion, validation, command, outcome, response.
//!
//! What a request brings is compared with an answer computed naively from the list of all keys.

use super::compare;
use super::state::State;
use bytes::Bytes;
use etcd_shim::fuzzing;
use etcd_shim::proto::{OPERATIONS_DECODED_MAX, etcdserverpb as wire, plain::etcdserverpb as plain};
use kvstore::command::{
    Operation, OperationOutcome, Projection, PutLease, PutValue, RangeQuery, RangeResult, ReadAt, SortOrder,
    SortTarget, Transaction, validate,
};
use kvstore::{KeyRange, KeyValue, LeaseId};
use prost::Message;

/// etcd's default.
const OPERATIONS_MAX: usize = 128;
const NEWEST: ReadAt = ReadAt::Latest;

fn decode<M: Message + Default>(data: &[u8]) -> Option<M> {
    M::decode(Bytes::copy_from_slice(data)).ok()
}

/// The bytes of a response are what any protobuf library reads as `P`.
fn read_back<P: Message + Default>(response: &impl Message) -> P {
    let bytes = response.encode_to_vec();
    assert_eq!(bytes.len(), response.encoded_len());
    P::decode(&bytes[..]).expect("a response is readable")
}

/// A status that a client is told: with a text.
fn check_refusal(status: &impl ToString) {
    assert!(!status.to_string().is_empty());
}

/// A range: outside and inside a transaction, and what it finds.
pub fn range(data: &[u8]) {
    let Some(request) = decode::<wire::RangeRequest>(data) else { return };
    let (query, shape) = match fuzzing::query(request) {
        Ok(converted) => converted,
        Err(status) => return check_refusal(&status),
    };
    let mut state = State::with_history();
    let result = state.range(&query);
    let in_transaction = fuzzing::alone(Operation::Range(query.clone()));
    validate(&in_transaction, OPERATIONS_MAX).expect("a converted read is valid");
    let outcome = state.transact(in_transaction).map(|mut outcome| outcome.results.remove(0));
    assert_eq!(outcome, result.clone().map(OperationOutcome::Range), "inside a transaction as outside");
    let Ok(result) = result else { return };

    let all = state.all(query.at).expect("what was read at once is readable");
    assert_eq!(result, naive_range(&all, &query));
    let count = result.count;
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let response: plain::RangeResponse = read_back(&fuzzing::range_response(result, shape, None));
    assert_eq!(response.count, count as i64);
    assert!(limit == 0 || response.kvs.len() <= limit);
}

/// etcd's rules of a range, over a list of everything.
fn naive_range(all: &[KeyValue], query: &RangeQuery) -> RangeResult {
    let mut kvs: Vec<KeyValue> = all.iter().filter(|kv| query.range.contains(kv.key())).cloned().collect();
    let count = kvs.len() as u64;
    if query.projection == Projection::CountOnly {
        return RangeResult { kvs: Vec::new(), more: false, count };
    }
    kvs.retain(|kv| query.filter.passes(kv.create_revision, kv.mod_revision));
    if let Some(sort) = query.sort {
        kvs.sort_by(|a, b| {
            let (a, b) = if sort.order == SortOrder::Ascending { (a, b) } else { (b, a) };
            match sort.target {
                SortTarget::Key => a.key().cmp(b.key()),
                SortTarget::Version => a.version.cmp(&b.version),
                SortTarget::CreateRevision => a.create_revision.cmp(&b.create_revision),
                SortTarget::ModRevision => a.mod_revision.cmp(&b.mod_revision),
                SortTarget::Value => a.value().cmp(b.value()),
            }
        });
    }
    let more = query.limit > 0 && kvs.len() as u64 > query.limit;
    if more {
        kvs.truncate(query.limit as usize);
    }
    if query.projection == Projection::KeysOnly {
        kvs = kvs.iter().map(KeyValue::without_value).collect();
    }
    RangeResult { kvs, more, count }
}

/// A put: refused for a reason, or the key is what was asked for.
pub fn put(data: &[u8]) {
    let Some(request) = decode::<wire::PutRequest>(data) else { return };
    let put = match fuzzing::put(request) {
        Ok(put) => put,
        Err(status) => return check_refusal(&status),
    };
    let mut state = State::with_history();
    let one = RangeQuery::new(KeyRange::single(put.key.clone()));
    let before = state.range(&one).expect("the newest state is readable").kvs.pop();
    let transaction = fuzzing::alone(Operation::Put(put.clone()));
    validate(&transaction, OPERATIONS_MAX).expect("a converted put is valid");
    let Ok(outcome) = state.transact(transaction) else {
        let keeps = put.value == PutValue::Keep || put.lease == PutLease::Keep;
        let leased = !matches!(put.lease, PutLease::Keep | PutLease::Set(LeaseId::NONE));
        assert!(leased || (keeps && before.is_none()), "refused without a reason: {put:?}");
        let after = state.range(&one).expect("the newest state is readable").kvs.pop();
        assert_eq!(after, before, "a refused put changes nothing");
        return;
    };
    let previous = before.clone().filter(|_| put.want_previous);
    assert_eq!(outcome.results, [OperationOutcome::Put { previous: previous.clone() }]);
    let after = state.range(&one).expect("the newest state is readable").kvs.pop().expect("it was put");
    let value = match &put.value {
        PutValue::Set(value) => &value[..],
        PutValue::Keep => before.as_ref().expect("there was one to keep").value(),
    };
    let lease = match put.lease {
        PutLease::Set(lease) => lease,
        PutLease::Keep => before.as_ref().expect("there was one to keep").lease,
    };
    let version = before.as_ref().map_or(1, |before| before.version + 1);
    assert_eq!((after.value(), after.lease, after.version), (value, lease, version));
    assert_eq!(after.mod_revision, outcome.revision);
    let response: plain::PutResponse = read_back(&fuzzing::put_response(previous.clone(), None));
    assert_eq!(response.prev_kv.map(|kv| kv.value), previous.map(|kv| kv.value_bytes()));
    state.check_reload();
}

/// A deletion: what was in the range is gone, and nothing else.
pub fn delete_range(data: &[u8]) {
    let Some(request) = decode::<wire::DeleteRangeRequest>(data) else { return };
    let delete = match fuzzing::delete(request) {
        Ok(delete) => delete,
        Err(status) => return check_refusal(&status),
    };
    let mut state = State::with_history();
    let (gone, left): (Vec<KeyValue>, Vec<KeyValue>) = state
        .all(NEWEST)
        .expect("the newest state is readable")
        .into_iter()
        .partition(|kv| delete.range.contains(kv.key()));
    let transaction = fuzzing::alone(Operation::Delete(delete.clone()));
    validate(&transaction, OPERATIONS_MAX).expect("a converted deletion is valid");
    let outcome = state.transact(transaction).expect("a deletion is not refused");
    let deleted = gone.len() as u64;
    let previous = if delete.want_previous { gone } else { Vec::new() };
    assert_eq!(outcome.results, [OperationOutcome::Delete { deleted, previous: previous.clone() }]);
    assert_eq!(state.all(NEWEST), Ok(left));
    let response: plain::DeleteRangeResponse = read_back(&fuzzing::delete_response(deleted, previous, None));
    assert_eq!(response.deleted as u64, deleted);
    state.check_reload();
}

/// A transaction: all or nothing, one outcome for each operation, and headers that make sense.
pub fn txn(data: &[u8]) {
    // Bytes that are no transaction get there, too.
    let few = fuzzing::are_few(data);
    let Some(request) = decode::<wire::TxnRequest>(data) else { return };
    compare::check_count(data, &request);
    assert!(few || data.len() > OPERATIONS_DECODED_MAX, "every operation takes bytes");
    let (read_only, serializable) = fuzzing::read_only(&request);
    assert!(read_only || !serializable);
    let (transaction, shapes) = match fuzzing::transaction(request.clone(), OPERATIONS_MAX) {
        Ok(converted) => converted,
        Err(status) => return check_refusal(&status),
    };
    if validate(&transaction, OPERATIONS_MAX).is_err() {
        return;
    }
    let mut state = State::with_history();
    let (before, revision) =
        (state.all(NEWEST).expect("the newest state is readable"), state.reader().revision());
    compare::check_reads(&request, &transaction, &state.reader(), &before);
    let read = read_only.then(|| fuzzing::read_transaction(&transaction, &state.reader()));
    let events = state.events.len();
    let outcome = state.transact(transaction.clone());
    let changed = state.events.len() > events;
    assert!(!(read_only && changed), "a transaction of reads changes nothing");
    if !changed {
        assert_eq!((state.all(NEWEST).as_ref(), state.reader().revision()), (Ok(&before), revision));
    }
    if let Some(read) = read {
        assert_eq!(read.ok().as_ref(), outcome.as_ref().ok(), "reads say the same without the log");
    }
    if let Ok(outcome) = outcome {
        compare::check_branches(&request, &outcome, &before);
        assert_eq!(outcome.revision, state.reader().revision());
        let (succeeded, results) = (outcome.succeeded, outcome.results.len());
        let response: plain::TxnResponse = read_back(&fuzzing::transaction_response(outcome, shapes, None));
        assert_eq!((response.succeeded, response.responses.len()), (succeeded, results));
        check_headers(&response, revision.get(), state.reader().revision().get());
    } else {
        assert!(!changed, "a refused transaction changes nothing");
        assert!(transaction != Transaction::default(), "there is something to refuse");
    }
    state.check_reload();
}

/// Inner headers show the revision before the transaction or its own.
fn check_headers(response: &plain::TxnResponse, before: i64, after: i64) {
    use plain::response_op::Response;
    for op in &response.responses {
        let header = match op.response.as_ref().expect("every operation has a response") {
            Response::ResponseRange(inner) => &inner.header,
            Response::ResponsePut(inner) => &inner.header,
            Response::ResponseDeleteRange(inner) => &inner.header,
            Response::ResponseTxn(inner) => {
                check_headers(inner, before, after);
                continue;
            }
        };
        let revision = header.as_ref().expect("every inner response has a header").revision;
        assert!(revision == before || revision == after, "{revision} is neither {before} nor {after}");
    }
}
