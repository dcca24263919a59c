//! Transactions that only read: answered from one snapshot, without the log.

use super::large_reads::{Fault, RESPONSE_BYTES_MAX};
use super::pieces::response_too_large;
use kvstore::command::{
    Compare, CompareResult, CompareTarget, Operation, OperationOutcome, Projection, RangeQuery, ReadAt,
    Transaction, TransactionOutcome,
};
use kvstore::store::{Reader, Snapshot};
use kvstore::{Error, KeyValue, LeaseId, Revision};
use std::cmp::Ordering;
use tonic::Status;

/// How often the transaction begins again because compaction overtook its snapshot; each time needs a newer
/// compaction.
const ATTEMPTS_MAX: usize = 16;

/// Executes `transaction`, which holds nothing but ranges.
///
/// # Errors
/// Those of a range, and "too large" as soon as the results together are more than a response may be.
pub fn execute(transaction: &Transaction, reader: &Reader) -> Result<TransactionOutcome, Status> {
    let reads_the_past = |operations: &[Operation]| {
        operations
            .iter()
            .any(|operation| matches!(operation, Operation::Range(query) if query.at != ReadAt::Latest))
    };
    let mut attempts = 1;
    loop {
        match on_snapshot(transaction, &reader.snapshot()) {
            // A read of the past that is compacted stays compacted.
            Err(Fault::Store(Error::Compacted { .. }))
                if attempts < ATTEMPTS_MAX
                    && !reads_the_past(&transaction.success)
                    && !reads_the_past(&transaction.failure) =>
            {
                attempts += 1;
            }
            result => return Ok(result?),
        }
    }
}

fn on_snapshot(transaction: &Transaction, snapshot: &Snapshot) -> Result<TransactionOutcome, Fault> {
    let mut succeeded = true;
    for compare in &transaction.compares {
        if !holds(compare, snapshot)? {
            succeeded = false;
            break;
        }
    }
    let branch = if succeeded { &transaction.success } else { &transaction.failure };
    let mut results = Vec::with_capacity(branch.len());
    let mut bytes = 0;
    for operation in branch {
        match operation {
            Operation::Range(query) => {
                let result = snapshot.range(query)?;
                bytes += result.kvs.iter().map(|kv| kv.encoded().len()).sum::<usize>();
                if bytes > RESPONSE_BYTES_MAX {
                    return Err(response_too_large(bytes).into());
                }
                results.push(OperationOutcome::Range(result));
            }
            other => unreachable!("a transaction that only reads holds {other:?}"),
        }
    }
    Ok(TransactionOutcome { revision: snapshot.revision(), succeeded, results })
}

/// Whether the condition holds for every key of its range. No key at all counts as one with all numbers zero,
/// and fails a compare of its value.
fn holds(compare: &Compare, snapshot: &Snapshot) -> Result<bool, Error> {
    let by_value = matches!(compare.target, CompareTarget::Value(_));
    let projection = if by_value { Projection::Full } else { Projection::KeysOnly };
    let found = snapshot.range(&RangeQuery { projection, ..RangeQuery::new(compare.range.clone()) })?.kvs;
    if found.is_empty() {
        let absent = KeyValue::new(b"", b"", Revision::NONE, Revision::NONE, 0, LeaseId::NONE);
        return Ok(!by_value && matches(compare, &absent));
    }
    Ok(found.iter().all(|kv| matches(compare, kv)))
}

fn matches(compare: &Compare, kv: &KeyValue) -> bool {
    let order = match &compare.target {
        CompareTarget::Version(given) => kv.version.cmp(given),
        CompareTarget::CreateRevision(given) => kv.create_revision.cmp(given),
        CompareTarget::ModRevision(given) => kv.mod_revision.cmp(given),
        CompareTarget::Value(given) => kv.value().cmp(given),
        CompareTarget::Lease(given) => kv.lease.cmp(given),
    };
    match compare.result {
        CompareResult::Equal => order == Ordering::Equal,
        CompareResult::NotEqual => order != Ordering::Equal,
        CompareResult::Greater => order == Ordering::Greater,
        CompareResult::Less => order == Ordering::Less,
    }
}
