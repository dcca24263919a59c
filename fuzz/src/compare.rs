//! What a transaction's compares decide and how many operations it holds, computed naively from the request itself.

use etcd_shim::fuzzing;
use etcd_shim::proto::etcdserverpb as wire;
use kvstore::KeyValue;
use kvstore::command::{Operation, OperationOutcome, Transaction, TransactionOutcome};
use kvstore::store::Reader;
use prost::Message;
use std::cmp::Ordering;

/// All compares see the state before the transaction, also those of transactions in it: `before` lists all that lived.
pub fn check_branches(request: &wire::TxnRequest, outcome: &TransactionOutcome, before: &[KeyValue]) {
    assert_eq!(outcome.succeeded, holds(&request.compare, before), "{:?}", request.compare);
    let branch = if outcome.succeeded { &request.success } else { &request.failure };
    assert_eq!(branch.len(), outcome.results.len());
    for (operation, result) in branch.iter().zip(&outcome.results) {
        if let Some(wire::request_op::Request::RequestTxn(inner)) = &operation.request {
            let OperationOutcome::Transaction(outcome) = result else {
                panic!("{result:?} of a transaction")
            };
            check_branches(inner, outcome, before);
        }
    }
}

/// Reads have an implementation of their own, which answers from a snapshot: it decides the same for the compares of each
/// transaction, whatever else that one does.
pub fn check_reads(
    request: &wire::TxnRequest,
    transaction: &Transaction,
    reader: &Reader,
    before: &[KeyValue],
) {
    let compares = Transaction { compares: transaction.compares.clone(), ..Transaction::default() };
    let outcome = fuzzing::read_transaction(&compares, reader).expect("the newest state is readable");
    assert_eq!(outcome.succeeded, holds(&request.compare, before), "{:?}", request.compare);
    assert_eq!((outcome.results.len(), outcome.revision), (0, reader.revision()));
    let operations = request.success.iter().chain(&request.failure);
    let converted = transaction.success.iter().chain(&transaction.failure);
    for (operation, converted) in operations.zip(converted) {
        if let Some(wire::request_op::Request::RequestTxn(inner)) = &operation.request {
            let Operation::Transaction(transaction) = converted else { panic!("{converted:?}") };
            check_reads(inner, transaction, reader, before);
        }
    }
}

/// Etcd's rules, over a list of everything: each compare holds for every key of its range; where there is none it is asked
/// of a key that is all zeros, and one of the value fails.
fn holds(compares: &[wire::Compare], before: &[KeyValue]) -> bool {
    compares.iter().all(|compare| {
        let mut found = before.iter().filter(|kv| is_meant(compare, kv.key())).peekable();
        if found.peek().is_none() {
            return compare.target != VALUE && satisfies(compare, number(compare, None));
        }
        found.all(|kv| {
            let ordering =
                if compare.target == VALUE { value(compare, kv) } else { number(compare, Some(kv)) };
            satisfies(compare, ordering)
        })
    })
}

const VALUE: i32 = wire::compare::CompareTarget::Value as i32;

/// No end: the key alone. A zero byte as the end: from the key on.
fn is_meant(compare: &wire::Compare, key: &[u8]) -> bool {
    let (start, end) = (&compare.key[..], &compare.range_end[..]);
    match end {
        b"" => key == start,
        b"\0" => key >= start,
        end => key >= start && key < end,
    }
}

/// What there is against what is given; given nothing of that kind, against an empty value.
fn value(compare: &wire::Compare, kv: &KeyValue) -> Ordering {
    let given = match &compare.target_union {
        Some(wire::compare::TargetUnion::Value(value)) => &value[..],
        _ => b"",
    };
    kv.value().cmp(given)
}

/// The same of numbers, against zero; whatever has a target that nobody knows is equal.
fn number(compare: &wire::Compare, kv: Option<&KeyValue>) -> Ordering {
    use wire::compare::{CompareTarget as Target, TargetUnion as Given};
    let (found, given) = match (Target::try_from(compare.target), &compare.target_union) {
        (Ok(Target::Version), Some(Given::Version(given))) => (kv.map(|kv| kv.version), *given),
        (Ok(Target::Create), Some(Given::CreateRevision(given))) => {
            (kv.map(|kv| kv.create_revision.get()), *given)
        }
        (Ok(Target::Mod), Some(Given::ModRevision(given))) => (kv.map(|kv| kv.mod_revision.get()), *given),
        (Ok(Target::Lease), Some(Given::Lease(given))) => (kv.map(|kv| kv.lease.get()), *given),
        (Ok(Target::Version), _) => (kv.map(|kv| kv.version), 0),
        (Ok(Target::Create), _) => (kv.map(|kv| kv.create_revision.get()), 0),
        (Ok(Target::Mod), _) => (kv.map(|kv| kv.mod_revision.get()), 0),
        (Ok(Target::Lease), _) => (kv.map(|kv| kv.lease.get()), 0),
        (Ok(Target::Value) | Err(_), _) => return Ordering::Equal,
    };
    found.unwrap_or(0).cmp(&given)
}

/// A result that nobody knows is fulfilled.
fn satisfies(compare: &wire::Compare, ordering: Ordering) -> bool {
    match compare.result {
        0 => ordering.is_eq(),
        1 => ordering.is_gt(),
        2 => ordering.is_lt(),
        3 => ordering.is_ne(),
        _ => true,
    }
}

/// As much of a transaction as is counted before it is decoded. An operation that is several things is decoded as each.
#[derive(Clone, PartialEq, Message)]
struct Lists {
    #[prost(message, repeated, tag = "1")]
    compares: Vec<()>,
    #[prost(message, repeated, tag = "2")]
    success: Vec<ListsInside>,
    #[prost(message, repeated, tag = "3")]
    failure: Vec<ListsInside>,
}

#[derive(Clone, PartialEq, Message)]
struct ListsInside {
    #[prost(message, repeated, tag = "4")]
    transactions: Vec<Lists>,
}

impl Lists {
    fn count(&self) -> usize {
        let operations = self.success.iter().chain(&self.failure);
        let inside = operations.flat_map(|operation| &operation.transactions).map(Self::count).sum::<usize>();
        self.compares.len() + self.success.len() + self.failure.len() + inside
    }
}

/// What is left of a transaction once it is decoded.
fn count(request: &wire::TxnRequest) -> usize {
    let operations = request.success.iter().chain(&request.failure);
    let inside = operations.map(|operation| match &operation.request {
        Some(wire::request_op::Request::RequestTxn(inner)) => count(inner),
        _ => 0,
    });
    request.compare.len() + request.success.len() + request.failure.len() + inside.sum::<usize>()
}

/// The bytes of `request` are let through to the decoder exactly when they hold no more operations than the bound.
pub fn check_count(data: &[u8], request: &wire::TxnRequest) {
    let decoded = Lists::decode(data).expect("the decoder has read the same bytes").count();
    assert!(decoded >= count(request), "what is there at the end was decoded");
    assert!(fuzzing::are_at_most(decoded, data), "{decoded} operations are refused");
    assert!(decoded == 0 || !fuzzing::are_at_most(decoded - 1, data), "{decoded} operations pass as fewer");
}
