//! Transactions.

use super::{header, range, status, write};
use crate::proto::etcdserverpb::compare::{
    CompareResult as WireResult, CompareTarget as WireTarget, TargetUnion,
};
use crate::proto::etcdserverpb::{
    Compare as WireCompare, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
    request_op::Request, response_op::Response,
};
use bytes::Bytes;
use kvstore::command::{
    Compare, CompareResult, CompareTarget, Operation, OperationOutcome, ReadAt, Transaction,
    TransactionOutcome,
};
use kvstore::{LeaseId, Revision};
use tonic::Status;

/// What is left to do with the results of a transaction; empty in nearly all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shapes {
    success: Vec<(usize, Shape)>,
    failure: Vec<(usize, Shape)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Range(range::Shape),
    Transaction(Shapes),
}

impl Shapes {
    fn is_plain(&self) -> bool {
        self.success.is_empty() && self.failure.is_empty()
    }
}

/// Whether a transaction may be answered without the log: it only reads, at this level. Whether this member
/// alone may answer it is the second value.
pub fn read_only(request: &TxnRequest) -> (bool, bool) {
    let mut serializable = true;
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(range)) => serializable &= range.serializable,
            _ => return (false, false),
        }
    }
    (true, serializable)
}

/// The transaction that `request` asks for. `max_operations` bounds each list, nested ones what is left of it.
pub fn transaction(request: TxnRequest, max_operations: usize) -> Result<(Transaction, Shapes), Status> {
    let longest = request.compare.len().max(request.success.len()).max(request.failure.len());
    let Some(left) = max_operations.checked_sub(longest) else {
        return Err(status::TOO_MANY_OPERATIONS.into());
    };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(status::EMPTY_KEY.into());
    }
    let mut shapes = Shapes::default();
    let transaction = Transaction {
        compares: request.compare.into_iter().filter_map(compare).collect(),
        success: operations(request.success, left, &mut shapes.success)?,
        failure: operations(request.failure, left, &mut shapes.failure)?,
    };
    Ok((transaction, shapes))
}

fn operations(
    ops: Vec<RequestOp>,
    max_operations: usize,
    shapes: &mut Vec<(usize, Shape)>,
) -> Result<Vec<Operation>, Status> {
    let mut out = Vec::with_capacity(ops.len());
    for (at, op) in ops.into_iter().enumerate() {
        out.push(match op.request {
            Some(Request::RequestRange(request)) => {
                let revision = request.revision;
                let (mut query, shape) = range::query(request)?;
                if revision < 0 {
                    // "The newest" elsewhere; in a transaction etcd takes it for one that is gone.
                    query.at = ReadAt::Revision(Revision::new(revision));
                }
                if !shape.is_plain() {
                    shapes.push((at, Shape::Range(shape)));
                }
                Operation::Range(query)
            }
            Some(Request::RequestPut(request)) => Operation::Put(write::put(request)?),
            Some(Request::RequestDeleteRange(request)) => Operation::Delete(write::delete(request)?),
            Some(Request::RequestTxn(request)) => {
                let (inner, shape) = transaction(request, max_operations)?;
                if !shape.is_plain() {
                    shapes.push((at, Shape::Transaction(shape)));
                }
                Operation::Transaction(inner)
            }
            // etcd's answer to an operation without content.
            None => return Err(status::KEY_NOT_FOUND.into()),
        });
    }
    Ok(out)
}

/// The condition that `wire` spells; `None` when it always holds.
///
/// A target whose right-hand side is of another kind is compared with zero. Numbers of a newer protocol: a
/// target counts as equal to anything, a result as true. (On a value, "true" still wants the key to exist.)
fn compare(wire: WireCompare) -> Option<Compare> {
    use TargetUnion as Right;
    let number = |found: Option<i64>| found.unwrap_or(0);
    let right = wire.target_union;
    let target = match WireTarget::try_from(wire.target) {
        Ok(WireTarget::Version) => CompareTarget::Version(number(match right {
            Some(Right::Version(number)) => Some(number),
            _ => None,
        })),
        Ok(WireTarget::Create) => CompareTarget::CreateRevision(Revision::new(number(match right {
            Some(Right::CreateRevision(number)) => Some(number),
            _ => None,
        }))),
        Ok(WireTarget::Mod) => CompareTarget::ModRevision(Revision::new(number(match right {
            Some(Right::ModRevision(number)) => Some(number),
            _ => None,
        }))),
        Ok(WireTarget::Lease) => CompareTarget::Lease(LeaseId::new(number(match right {
            Some(Right::Lease(number)) => Some(number),
            _ => None,
        }))),
        Ok(WireTarget::Value) => CompareTarget::Value(match right {
            Some(Right::Value(value)) => value,
            _ => Bytes::new(),
        }),
        Err(_) => {
            return match WireResult::try_from(wire.result) {
                Ok(WireResult::Equal) | Err(_) => None,
                Ok(_) => Some(never(wire.key, wire.range_end)),
            };
        }
    };
    let range = range::key_range(wire.key, wire.range_end);
    let (target, result) = match WireResult::try_from(wire.result) {
        Ok(WireResult::Equal) => (target, CompareResult::Equal),
        Ok(WireResult::NotEqual) => (target, CompareResult::NotEqual),
        Ok(WireResult::Greater) => (target, CompareResult::Greater),
        Ok(WireResult::Less) => (target, CompareResult::Less),
        Err(_) if matches!(target, CompareTarget::Value(_)) => {
            (CompareTarget::Version(0), CompareResult::Greater)
        }
        Err(_) => return None,
    };
    Some(Compare { range, target, result })
}

/// A condition that no key and no empty range fulfils.
fn never(key: Bytes, end: Bytes) -> Compare {
    Compare {
        range: range::key_range(key, end),
        target: CompareTarget::Version(0),
        result: CompareResult::Less,
    }
}

/// The response of a transaction, with `header` outside and the revision alone inside.
pub fn response(outcome: TransactionOutcome, shapes: Shapes, header: Option<ResponseHeader>) -> TxnResponse {
    let before = if changes(&outcome.results) { outcome.revision.previous() } else { outcome.revision };
    let mut seen = Seen { before, after: outcome.revision, changed: false };
    branch(outcome, shapes, header, &mut seen)
}

/// Where in the transaction we are: an inner header shows the new revision from the first change on.
struct Seen {
    before: Revision,
    after: Revision,
    changed: bool,
}

impl Seen {
    fn header(&self) -> Option<ResponseHeader> {
        header::inner(if self.changed { self.after } else { self.before })
    }
}

fn branch(
    outcome: TransactionOutcome,
    shapes: Shapes,
    header: Option<ResponseHeader>,
    seen: &mut Seen,
) -> TxnResponse {
    let shapes = if outcome.succeeded { shapes.success } else { shapes.failure };
    let mut shapes = shapes.into_iter().peekable();
    let responses = outcome.results.into_iter().enumerate().map(|(at, result)| {
        let shape = shapes.next_if(|(index, _)| *index == at).map(|(_, shape)| shape);
        ResponseOp { response: Some(operation(result, shape, seen)) }
    });
    TxnResponse { header, succeeded: outcome.succeeded, responses: responses.collect() }
}

fn operation(result: OperationOutcome, shape: Option<Shape>, seen: &mut Seen) -> Response {
    match result {
        OperationOutcome::Range(result) => {
            let shape = match shape {
                Some(Shape::Range(shape)) => shape,
                _ => range::Shape::default(),
            };
            Response::ResponseRange(range::response(result, shape, seen.header()))
        }
        OperationOutcome::Put { previous } => {
            seen.changed = true;
            Response::ResponsePut(write::put_response(previous, seen.header()))
        }
        OperationOutcome::Delete { deleted, previous } => {
            seen.changed |= deleted > 0;
            Response::ResponseDeleteRange(write::delete_response(deleted, previous, seen.header()))
        }
        OperationOutcome::Transaction(inner) => {
            let shapes = match shape {
                Some(Shape::Transaction(shapes)) => shapes,
                _ => Shapes::default(),
            };
            // etcd leaves a nested transaction's own header empty.
            Response::ResponseTxn(branch(inner, shapes, Some(ResponseHeader::default()), seen))
        }
    }
}

/// Whether any of the operations changed something.
fn changes(results: &[OperationOutcome]) -> bool {
    results.iter().any(|result| match result {
        OperationOutcome::Range(_) => false,
        OperationOutcome::Put { .. } => true,
        OperationOutcome::Delete { deleted, .. } => *deleted > 0,
        OperationOutcome::Transaction(inner) => changes(&inner.results),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};
    use kvstore::command::RangeResult;

    fn op(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }
    fn range_op(key: &'static str, serializable: bool) -> RequestOp {
        op(Request::RequestRange(RangeRequest { key: key.into(), serializable, ..Default::default() }))
    }
    fn put_op(key: &'static str) -> RequestOp {
        op(Request::RequestPut(PutRequest { key: key.into(), ..Default::default() }))
    }
    fn txn_op(inner: TxnRequest) -> RequestOp {
        op(Request::RequestTxn(inner))
    }
    fn fault(request: TxnRequest, max: usize) -> String {
        transaction(request, max).unwrap_err().message().to_owned()
    }

    #[test]
    fn the_limit_counts_the_longest_list_and_shrinks_inside() {
        let two = TxnRequest { success: vec![put_op("a"), put_op("b")], ..Default::default() };
        assert!(transaction(two.clone(), 2).is_ok());
        assert_eq!(fault(two.clone(), 1), "etcdserver: too many operations in txn request");
        let nested = TxnRequest { failure: vec![txn_op(two)], ..Default::default() };
        assert!(transaction(nested.clone(), 3).is_ok());
        assert_eq!(fault(nested, 2), "etcdserver: too many operations in txn request");
        let compares = TxnRequest { compare: vec![WireCompare::default(); 3], ..Default::default() };
        assert_eq!(fault(compares.clone(), 2), "etcdserver: too many operations in txn request");
        assert_eq!(fault(compares, 3), "etcdserver: key is not provided");
    }

    #[test]
    fn both_branches_are_checked() {
        let bad = |failure| TxnRequest { success: vec![put_op("a")], failure, ..Default::default() };
        assert_eq!(fault(bad(vec![RequestOp::default()]), 9), "etcdserver: key not found");
        assert_eq!(fault(bad(vec![put_op("")]), 9), "etcdserver: key is not provided");
        let delete = op(Request::RequestDeleteRange(DeleteRangeRequest::default()));
        assert_eq!(fault(bad(vec![delete]), 9), "etcdserver: key is not provided");
    }

    #[test]
    fn compares_with_odd_numbers_behave_as_in_etcd() {
        let wire = |result: i32, target: i32, target_union| WireCompare {
            result,
            target,
            key: "k".into(),
            target_union,
            ..Default::default()
        };
        let plain = compare(wire(3, 2, Some(TargetUnion::ModRevision(7)))).unwrap();
        assert_eq!(plain.target, CompareTarget::ModRevision(Revision::new(7)));
        assert_eq!(plain.result, CompareResult::NotEqual);
        let mismatched = compare(wire(0, 2, Some(TargetUnion::Version(7)))).unwrap();
        assert_eq!(mismatched.target, CompareTarget::ModRevision(Revision::NONE));
        assert_eq!(compare(wire(9, 0, None)), None);
        let exists = compare(wire(9, 3, None)).unwrap();
        assert_eq!((exists.target, exists.result), (CompareTarget::Version(0), CompareResult::Greater));
        assert_eq!(compare(wire(0, 9, None)), None);
        assert_eq!(compare(wire(2, 9, None)), Some(never("k".into(), Bytes::new())));
    }

    #[test]
    fn only_plain_reads_are_read_only() {
        let reads = |ops| TxnRequest { success: ops, ..Default::default() };
        assert_eq!(read_only(&reads(vec![])), (true, true));
        assert_eq!(read_only(&reads(vec![range_op("a", true)])), (true, true));
        assert_eq!(read_only(&reads(vec![range_op("a", true), range_op("b", false)])), (true, false));
        assert!(!read_only(&reads(vec![put_op("a")])).0);
        assert!(!read_only(&reads(vec![txn_op(TxnRequest::default())])).0);
    }

    #[test]
    fn inner_headers_show_the_revision_of_their_moment() {
        let range = || OperationOutcome::Range(RangeResult::default());
        let outcome = TransactionOutcome {
            revision: Revision::new(8),
            succeeded: true,
            results: vec![
                range(),
                OperationOutcome::Delete { deleted: 0, previous: vec![] },
                OperationOutcome::Transaction(TransactionOutcome {
                    revision: Revision::new(8),
                    succeeded: false,
                    results: vec![range(), OperationOutcome::Put { previous: None }, range()],
                }),
                range(),
            ],
        };
        fn revisions(response: &TxnResponse, out: &mut Vec<i64>) {
            for op in &response.responses {
                let revision = match op.response.as_ref().unwrap() {
                    Response::ResponseRange(inner) => inner.header.as_ref().unwrap().revision,
                    Response::ResponsePut(inner) => inner.header.as_ref().unwrap().revision,
                    Response::ResponseDeleteRange(inner) => inner.header.as_ref().unwrap().revision,
                    Response::ResponseTxn(inner) => {
                        revisions(inner, out);
                        inner.header.as_ref().unwrap().revision
                    }
                };
                out.push(revision);
            }
        }
        let mut found = Vec::new();
        revisions(&response(outcome, Shapes::default(), None), &mut found);
        assert_eq!(found, [7, 7, 7, 8, 8, 0, 8]);
    }

    #[test]
    fn shapes_reach_the_operation_they_belong_to() {
        let keys_only = |key: &'static str| {
            op(Request::RequestRange(RangeRequest { key: key.into(), keys_only: true, ..Default::default() }))
        };
        let inner = TxnRequest { failure: vec![put_op("p"), keys_only("b")], ..Default::default() };
        let request = TxnRequest { success: vec![range_op("a", false), txn_op(inner)], ..Default::default() };
        let (_, shapes) = transaction(request, 9).unwrap();
        let leased = || {
            OperationOutcome::Range(RangeResult {
                kvs: vec![kvstore::KeyValue::new(
                    b"k",
                    b"",
                    Revision::FIRST,
                    Revision::FIRST,
                    1,
                    LeaseId::new(5),
                )],
                more: false,
                count: 1,
            })
        };
        let outcome = TransactionOutcome {
            revision: Revision::new(8),
            succeeded: true,
            results: vec![
                leased(),
                OperationOutcome::Transaction(TransactionOutcome {
                    revision: Revision::new(8),
                    succeeded: false,
                    results: vec![OperationOutcome::Put { previous: None }, leased()],
                }),
            ],
        };
        let response = response(outcome, shapes, None);
        let lease = |op: &ResponseOp| match op.response.as_ref().unwrap() {
            Response::ResponseRange(range) => range.kvs[0].0.lease.get(),
            _ => panic!("not a range"),
        };
        assert_eq!(lease(&response.responses[0]), 5);
        let Some(Response::ResponseTxn(inner)) = &response.responses[1].response else { panic!() };
        assert_eq!(lease(&inner.responses[1]), 0);
    }
}
