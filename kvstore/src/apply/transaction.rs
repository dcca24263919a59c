//! Executing a transaction that has been decided.

use super::Stop;
use super::keyspace::Keyspace;
use super::plan::{Plan, taken};
use super::writer::Writer;
use crate::command::{
    DeleteRange, Operation, OperationOutcome, Put, PutLease, PutValue, RangeQuery, Transaction,
    TransactionOutcome,
};
use crate::mvcc::{Entry, Event};
use crate::storage::Batch;
use crate::types::Result;
use std::sync::Arc;

/// Decides and executes `transaction`: everything in one revision, or nothing.
pub(super) fn execute(
    keyspace: &mut Keyspace,
    transaction: &Transaction,
    batch: &mut Batch,
    events: &mut Vec<Arc<Event>>,
) -> std::result::Result<TransactionOutcome, Stop> {
    let mut plan = Plan::make(keyspace, transaction)?;
    let mut writer = Writer::begin(keyspace, batch, events);
    // From here on there is no refusal: the error of `run` can only be one of the engine.
    let outcome = run(&mut writer, transaction, &mut plan).map_err(Stop::Failed)?;
    let revision = writer.finish();
    debug_assert_eq!(outcome.revision, revision);
    Ok(outcome)
}

fn run(writer: &mut Writer<'_>, transaction: &Transaction, plan: &mut Plan) -> Result<TransactionOutcome> {
    let succeeded = plan.next_branch();
    let operations = taken(transaction, succeeded);
    let mut results = Vec::with_capacity(operations.len());
    for operation in operations {
        results.push(match operation {
            Operation::Range(query) => OperationOutcome::Range(writer.keyspace.versions.read(query)?),
            Operation::Put(put) => run_put(writer, put, plan)?,
            Operation::Delete(delete) => run_delete(writer, delete)?,
            Operation::Transaction(nested) => OperationOutcome::Transaction(run(writer, nested, plan)?),
        });
    }
    Ok(TransactionOutcome { revision: writer.revision(), succeeded, results })
}

fn run_put(writer: &mut Writer<'_>, put: &Put, plan: &mut Plan) -> Result<OperationOutcome> {
    let versions = &writer.keyspace.versions;
    let replaced = if put.want_previous { versions.head(&put.key) } else { None };
    let previous = match replaced.filter(|entry| entry.is_live()) {
        Some(entry) => Some(versions.value_of(entry)?),
        None => None,
    };
    match (&put.value, put.lease) {
        (PutValue::Set(value), PutLease::Set(lease)) => writer.put(&put.key, value, lease),
        (value, lease) => {
            let kept = plan.next_kept();
            let value = match value {
                PutValue::Set(value) => &value[..],
                PutValue::Keep => kept.value.as_ref().expect("the plan holds the value to keep").value(),
            };
            let lease = match lease {
                PutLease::Set(lease) => lease,
                PutLease::Keep => kept.lease,
            };
            writer.put(&put.key, value, lease);
        }
    }
    Ok(OperationOutcome::Put { previous })
}

fn run_delete(writer: &mut Writer<'_>, delete: &DeleteRange) -> Result<OperationOutcome> {
    let versions = &writer.keyspace.versions;
    let previous = if delete.want_previous {
        versions.read(&RangeQuery::new(delete.range.clone()))?.kvs
    } else {
        Vec::new()
    };
    let living: Vec<Arc<Entry>> =
        versions.heads().range(&delete.range).filter(|entry| entry.is_live()).cloned().collect();
    for entry in &living {
        writer.delete(entry.key());
    }
    Ok(OperationOutcome::Delete { deleted: living.len() as u64, previous })
}
