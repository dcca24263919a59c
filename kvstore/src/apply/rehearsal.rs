//! The reads of values that a command will make, made before it is in the log.
//!
//! Once a command is in the log, a value that it needs and that cannot be read ends the store, and every start of it: no
//! member may skip what another one has done. Before that it is only this command that cannot be done.
//!
//! Earlier commands, of the same write of the log or of one under way, may change what this one finds. What they write is
//! in memory and not rotten, so the state before them says nearly all; what remains is a command whose compares one of
//! them turns to a branch that reads other keys. To read every branch instead would make each guarded write read.

use super::keyspace::Keyspace;
use super::plan;
use crate::command::{
    Compare, CompareTarget, Operation, PutValue, RangeQuery, RangeResult, ReadAt, Transaction,
};
use crate::types::{Error, Result};
use std::slice::Iter;

/// Reads what applying `transaction` to the present state would. Whether it would be refused is not asked: an earlier
/// command may mend that.
pub(super) fn rehearse(keyspace: &Keyspace, transaction: &Transaction) -> Result<()> {
    if !may_read_values(transaction) {
        return Ok(());
    }
    let mut branches = Vec::new();
    plan::decide(keyspace, transaction, &mut branches)?;
    read(keyspace, transaction, &mut branches.iter())
}

/// Whether any branch needs a value: all that most commands cost here.
fn may_read_values(transaction: &Transaction) -> bool {
    let is_of_value = |compare: &Compare| matches!(compare.target, CompareTarget::Value(_));
    transaction.compares.iter().any(is_of_value)
        || transaction.success.iter().chain(&transaction.failure).any(|operation| match operation {
            Operation::Range(_) => true,
            Operation::Put(put) => put.want_previous || put.value == PutValue::Keep,
            Operation::Delete(delete) => delete.want_previous,
            Operation::Transaction(nested) => may_read_values(nested),
        })
}

fn read(keyspace: &Keyspace, transaction: &Transaction, branches: &mut Iter<'_, bool>) -> Result<()> {
    let succeeded = *branches.next().expect("each transaction of the branches taken was decided");
    for operation in plan::taken(transaction, succeeded) {
        match operation {
            Operation::Range(query) => read_range(keyspace, query)?,
            Operation::Put(put) if put.want_previous || put.value == PutValue::Keep => {
                if let Some(entry) = plan::live(keyspace, &put.key) {
                    keyspace.versions.value_of(entry)?;
                }
            }
            Operation::Delete(delete) if delete.want_previous => {
                read_range(keyspace, &RangeQuery::new(delete.range.clone()))?;
            }
            Operation::Put(_) | Operation::Delete(_) => {}
            Operation::Transaction(nested) => read(keyspace, nested, branches)?,
        }
    }
    Ok(())
}

fn read_range(keyspace: &Keyspace, query: &RangeQuery) -> Result<()> {
    let ignore = |_: RangeResult| ();
    match keyspace.versions.read(query) {
        // Compaction does not go back.
        Err(Error::Compacted { .. }) => Ok(()),
        // Earlier commands may come to that revision; what they leave alone is what it is now.
        Err(Error::FutureRevision { .. }) => {
            keyspace.versions.read(&RangeQuery { at: ReadAt::Latest, ..query.clone() }).map(ignore)
        }
        result => result.map(ignore),
    }
}
