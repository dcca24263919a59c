//! What a transaction decides before its first write.
//!
//! All compares, those of nested transactions in the branches taken included, see the state before the
//! transaction, and so does everything else that may refuse it. What is left for execution cannot be refused.

use super::Stop;
use super::keyspace::Keyspace;
use crate::command::{
    Compare, CompareResult, CompareTarget, Operation, Put, PutLease, PutValue, ReadAt, Transaction,
};
use crate::mvcc::Entry;
use crate::types::{Error, InvalidRequest, KeyValue, LeaseId, Result, Revision};
use std::cmp::Ordering;
use std::sync::Arc;
use std::vec::IntoIter;

/// The decisions, in the order in which execution meets the places they belong to.
pub(super) struct Plan {
    branches: IntoIter<bool>,
    kept: IntoIter<Kept>,
}

/// What a put that keeps something finds: the key as it was before the transaction.
///
/// Also when an earlier step of the same transaction deletes that key (static checks let that pass for
/// deletes that are open to the right, as etcd does, which crashes on it).
pub(super) struct Kept {
    pub(super) value: Option<KeyValue>,
    pub(super) lease: LeaseId,
}

impl Plan {
    /// Decides everything about `transaction`, or refuses it.
    pub(super) fn make(keyspace: &Keyspace, transaction: &Transaction) -> std::result::Result<Self, Stop> {
        let mut branches = Vec::new();
        decide(keyspace, transaction, &mut branches).map_err(Stop::Failed)?;
        let mut kept = Vec::new();
        check(keyspace, transaction, &mut branches.iter(), &mut kept)?;
        Ok(Self { branches: branches.into_iter(), kept: kept.into_iter() })
    }

    /// Whether the compares of the next transaction held.
    pub(super) fn next_branch(&mut self) -> bool {
        self.branches.next().expect("each transaction of the branches taken was decided")
    }

    /// What the next put that keeps something keeps.
    pub(super) fn next_kept(&mut self) -> Kept {
        self.kept.next().expect("each keeping put of the branches taken was looked up")
    }
}

/// The branch of `transaction` that is taken.
pub(super) fn taken(transaction: &Transaction, succeeded: bool) -> &[Operation] {
    if succeeded { &transaction.success } else { &transaction.failure }
}

/// Which branches are taken: of `transaction`, and then of those nested in them.
pub(super) fn decide(keyspace: &Keyspace, transaction: &Transaction, branches: &mut Vec<bool>) -> Result<()> {
    let mut succeeded = true;
    for compare in &transaction.compares {
        if !holds(keyspace, compare)? {
            succeeded = false;
            break;
        }
    }
    branches.push(succeeded);
    for operation in taken(transaction, succeeded) {
        if let Operation::Transaction(nested) = operation {
            decide(keyspace, nested, branches)?;
        }
    }
    Ok(())
}

/// Walks the branches taken in their order, which decides the error that is told.
fn check(
    keyspace: &Keyspace,
    transaction: &Transaction,
    branches: &mut std::slice::Iter<'_, bool>,
    kept: &mut Vec<Kept>,
) -> std::result::Result<(), Stop> {
    let succeeded = *branches.next().expect("each transaction of the branches taken was decided");
    for operation in taken(transaction, succeeded) {
        match operation {
            Operation::Range(query) => check_readable(keyspace, query.at)?,
            Operation::Put(put) => kept.extend(check_put(keyspace, put)?),
            Operation::Delete(_) => {}
            Operation::Transaction(nested) => check(keyspace, nested, branches, kept)?,
        }
    }
    Ok(())
}

fn check_readable(keyspace: &Keyspace, at: ReadAt) -> std::result::Result<(), Stop> {
    let (current, floor) = (keyspace.versions.revision(), keyspace.versions.floor());
    match at {
        ReadAt::Latest | ReadAt::Revision(Revision::NONE) => Ok(()),
        ReadAt::Revision(at) if at > current => Err(Stop::Refused(Error::FutureRevision { current })),
        ReadAt::Revision(at) if at < floor => Err(Stop::Refused(Error::Compacted { floor })),
        ReadAt::Revision(_) => Ok(()),
    }
}

fn check_put(keyspace: &Keyspace, put: &Put) -> std::result::Result<Option<Kept>, Stop> {
    if let PutLease::Set(lease) = put.lease
        && lease != LeaseId::NONE
        && !keyspace.leases.contains(lease)
    {
        return Err(InvalidRequest::LeaseNotFound.into());
    }
    let keeps_value = put.value == PutValue::Keep;
    if !keeps_value && put.lease != PutLease::Keep {
        return Ok(None);
    }
    let Some(entry) = live(keyspace, &put.key) else {
        return Err(InvalidRequest::KeyNotFound.into());
    };
    let value =
        if keeps_value { Some(keyspace.versions.value_of(entry).map_err(Stop::Failed)?) } else { None };
    Ok(Some(Kept { value, lease: entry.head().lease }))
}

/// The newest version of `key`, if it lives.
pub(super) fn live<'a>(keyspace: &'a Keyspace, key: &[u8]) -> Option<&'a Arc<Entry>> {
    keyspace.versions.head(key).filter(|entry| entry.is_live())
}

/// Whether `compare` holds for the key, or for every key of the interval. Where there is none, it is asked
/// of a key that is all zeros, and a compare of the value fails.
fn holds(keyspace: &Keyspace, compare: &Compare) -> Result<bool> {
    if compare.range.is_single() {
        return match live(keyspace, &compare.range.start) {
            Some(entry) => holds_for(keyspace, compare, entry),
            None => Ok(holds_for_nothing(compare)),
        };
    }
    let mut any = false;
    for entry in keyspace.versions.heads().range(&compare.range).filter(|entry| entry.is_live()) {
        any = true;
        if !holds_for(keyspace, compare, entry)? {
            return Ok(false);
        }
    }
    Ok(any || holds_for_nothing(compare))
}

fn holds_for(keyspace: &Keyspace, compare: &Compare, entry: &Arc<Entry>) -> Result<bool> {
    let head = entry.head();
    let ordering = match &compare.target {
        CompareTarget::Version(version) => head.version.cmp(version),
        CompareTarget::CreateRevision(revision) => head.create_revision.cmp(revision),
        CompareTarget::ModRevision(revision) => head.id.revision.cmp(revision),
        CompareTarget::Lease(lease) => head.lease.cmp(lease),
        CompareTarget::Value(value) => {
            // Values of different length are different: no need to fetch one to know that.
            let same_length = head.value_len as usize == value.len();
            match compare.result {
                CompareResult::Equal if !same_length => return Ok(false),
                CompareResult::NotEqual if !same_length => return Ok(true),
                _ => keyspace.versions.value_of(entry)?.value().cmp(&value[..]),
            }
        }
    };
    Ok(satisfies(compare.result, ordering))
}

fn holds_for_nothing(compare: &Compare) -> bool {
    let ordering = match &compare.target {
        CompareTarget::Version(version) => 0.cmp(version),
        CompareTarget::CreateRevision(revision) | CompareTarget::ModRevision(revision) => {
            Revision::NONE.cmp(revision)
        }
        CompareTarget::Lease(lease) => LeaseId::NONE.cmp(lease),
        CompareTarget::Value(_) => return false,
    };
    satisfies(compare.result, ordering)
}

fn satisfies(result: CompareResult, ordering: Ordering) -> bool {
    match result {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::NotEqual => ordering.is_ne(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
    }
}
