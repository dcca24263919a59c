//! What can be said about a transaction without looking at the state: etcd's static rules.
//!
//! They hold for both branches and for every nested transaction, taken or not, and are checked before
//! anything is proposed. Applying does not depend on them: a transaction that was never checked is applied
//! in its order like any other, so nothing here can make members differ.
//!
//! The rules: list lengths stay within the operation budget, which shrinks by each level's longest list; no
//! key is empty; within one branch no key is put twice and no put falls into a deleted range. Two things are
//! easy to get wrong:
//! - the branches of one nested transaction may put the same key, since only one of them runs;
//! - etcd lets a delete that is open to the right stand beside any put, and a nested delete behind an earlier
//!   nested put. Both are well defined (the order decides) and clients have them, so they pass here too.

use super::codec::{MAX_TRANSACTION_DEPTH, command_size};
use super::{Command, Operation, Transaction};
use crate::types::{InvalidRequest, KeyRange, RangeEnd};
use std::collections::{BTreeMap, HashSet};

/// Checks everything about `transaction` that does not depend on the state. `max_ops` bounds the longest
/// list of the outermost transaction; a nested one has what its ancestors' longest lists leave over.
pub fn validate(transaction: &Transaction, max_ops: usize) -> Result<(), InvalidRequest> {
    validate_level(transaction, max_ops, MAX_TRANSACTION_DEPTH)?;
    for branch in [&transaction.success, &transaction.failure] {
        if may_overlap(branch) {
            Writes::of(branch)?;
        }
    }
    Ok(())
}

/// The bytes `command` takes in a raft entry: what request limits are measured against.
pub fn request_size(command: &Command) -> usize {
    command_size(command)
}

fn validate_level(
    transaction: &Transaction,
    max_ops: usize,
    levels_left: usize,
) -> Result<(), InvalidRequest> {
    let Some(levels_left) = levels_left.checked_sub(1) else {
        return Err(InvalidRequest::TooManyOperations {
            count: MAX_TRANSACTION_DEPTH + 1,
            limit: MAX_TRANSACTION_DEPTH,
        });
    };
    let Transaction { compares, success, failure } = transaction;
    let longest = compares.len().max(success.len()).max(failure.len());
    if longest > max_ops {
        return Err(InvalidRequest::TooManyOperations { count: longest, limit: max_ops });
    }
    if compares.iter().any(|compare| has_empty_key(&compare.range)) {
        return Err(InvalidRequest::EmptyKey);
    }
    for operation in success.iter().chain(failure) {
        let key_is_empty = match operation {
            Operation::Range(query) => has_empty_key(&query.range),
            Operation::Delete(delete) => has_empty_key(&delete.range),
            Operation::Put(put) => put.key.is_empty(),
            Operation::Transaction(nested) => {
                validate_level(nested, max_ops - longest, levels_left)?;
                false
            }
        };
        if key_is_empty {
            return Err(InvalidRequest::EmptyKey);
        }
    }
    Ok(())
}

/// No key is empty, so a single empty key is a mistake; an interval from the empty key on is not.
fn has_empty_key(range: &KeyRange) -> bool {
    range.is_single() && range.start.is_empty()
}

/// Whether `branch` needs the look at its keys at all. One plain operation, all that Kubernetes ever sends,
/// does not.
fn may_overlap(branch: &[Operation]) -> bool {
    branch.len() > 1 || matches!(branch, [Operation::Transaction(_)])
}

/// The keys that a branch puts and deletes, nested transactions included.
#[derive(Default)]
struct Writes<'a> {
    puts: HashSet<&'a [u8]>,
    deletes: Deletes<'a>,
}

impl<'a> Writes<'a> {
    /// Collects them; refuses when two collide.
    fn of(branch: &'a [Operation]) -> Result<Self, InvalidRequest> {
        let mut all = Self::default();
        for operation in branch {
            if let Operation::Delete(delete) = operation {
                all.deletes.add(&delete.range);
            }
        }
        for operation in branch {
            if let Operation::Transaction(nested) = operation {
                all.add_nested(Self::of(&nested.success)?, Self::of(&nested.failure)?)?;
            }
        }
        for operation in branch {
            if let Operation::Put(put) = operation {
                all.add_put(&put.key)?;
            }
        }
        Ok(all)
    }

    fn add_put(&mut self, key: &'a [u8]) -> Result<(), InvalidRequest> {
        if self.deletes.contains(key) || !self.puts.insert(key) {
            return Err(InvalidRequest::DuplicateKey);
        }
        Ok(())
    }

    fn add_nested(&mut self, success: Self, failure: Self) -> Result<(), InvalidRequest> {
        for key in &success.puts {
            self.add_put(key)?;
        }
        for key in &failure.puts {
            if !success.puts.contains(key) {
                self.add_put(key)?;
            }
        }
        self.deletes.merge(success.deletes);
        self.deletes.merge(failure.deletes);
        Ok(())
    }
}

/// A set of keys and intervals. The intervals are kept disjoint (start → end), so that a look-up is one step
/// in a tree however a request arranges them.
#[derive(Default)]
struct Deletes<'a> {
    keys: HashSet<&'a [u8]>,
    intervals: BTreeMap<&'a [u8], &'a [u8]>,
}

impl<'a> Deletes<'a> {
    fn add(&mut self, range: &'a KeyRange) {
        match &range.end {
            RangeEnd::Single => {
                self.keys.insert(&range.start);
            }
            RangeEnd::Before(end) => self.add_interval(&range.start, end),
            // See the module's text: these collide with nothing.
            RangeEnd::Unbounded => {}
        }
    }

    fn add_interval(&mut self, mut start: &'a [u8], mut end: &'a [u8]) {
        if start >= end {
            return;
        }
        // Swallow every interval that touches the new one: those that begin at or below its end, from the
        // right, until one ends before it begins.
        while let Some((&other_start, &other_end)) = self.intervals.range(..=end).next_back() {
            if other_end < start {
                break;
            }
            self.intervals.remove(other_start);
            start = start.min(other_start);
            end = end.max(other_end);
        }
        self.intervals.insert(start, end);
    }

    fn contains(&self, key: &[u8]) -> bool {
        self.keys.contains(key) || self.intervals.range(..=key).next_back().is_some_and(|(_, end)| key < *end)
    }

    fn merge(&mut self, other: Self) {
        self.keys.extend(other.keys);
        for (start, end) in other.intervals {
            self.add_interval(start, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Compare, CompareResult, CompareTarget, DeleteRange, Put, PutLease, PutValue, RangeQuery,
    };
    use super::*;
    use crate::types::LeaseId;
    use bytes::Bytes;
    use proptest::prelude::*;

    const MAX_OPS: usize = 128;

    fn put(key: &'static str) -> Operation {
        Operation::Put(Put {
            key: key.into(),
            value: PutValue::Set(Bytes::new()),
            lease: PutLease::Set(LeaseId::NONE),
            want_previous: false,
        })
    }

    fn delete(range: KeyRange) -> Operation {
        Operation::Delete(DeleteRange { range, want_previous: false })
    }

    fn delete_one(key: &'static str) -> Operation {
        delete(KeyRange::single(key))
    }

    fn delete_span(start: &'static str, end: &'static str) -> Operation {
        delete(KeyRange::span(start, end))
    }

    fn nested(success: Vec<Operation>, failure: Vec<Operation>) -> Operation {
        Operation::Transaction(Transaction { compares: vec![], success, failure })
    }

    fn exists(range: KeyRange) -> Compare {
        Compare { range, target: CompareTarget::Version(0), result: CompareResult::Greater }
    }

    /// The verdict on a branch; the same as success and as failure branch.
    fn check(branch: Vec<Operation>) -> Result<(), InvalidRequest> {
        let in_success = Transaction { success: branch.clone(), ..Default::default() };
        let in_failure = Transaction { failure: branch, ..Default::default() };
        let verdict = validate(&in_success, MAX_OPS);
        assert_eq!(verdict, validate(&in_failure, MAX_OPS));
        verdict
    }

    const DUPLICATE: Result<(), InvalidRequest> = Err(InvalidRequest::DuplicateKey);

    #[test]
    fn a_key_is_put_once_in_a_branch() {
        assert_eq!(check(vec![put("a"), put("b")]), Ok(()));
        assert_eq!(check(vec![put("a"), put("a")]), DUPLICATE);
        let apart = Transaction { success: vec![put("a")], failure: vec![put("a")], ..Default::default() };
        assert_eq!(validate(&apart, MAX_OPS), Ok(()));
    }

    #[test]
    fn a_put_does_not_fall_into_a_deleted_range() {
        assert_eq!(check(vec![delete_one("a"), put("a")]), DUPLICATE);
        assert_eq!(check(vec![put("a"), delete_one("a")]), DUPLICATE);
        assert_eq!(check(vec![delete_one("b"), put("a")]), Ok(()));
        assert_eq!(check(vec![put("b"), delete_span("a", "c")]), DUPLICATE);
        assert_eq!(check(vec![put("c"), delete_span("a", "c")]), Ok(()));
        assert_eq!(check(vec![put("b"), delete_span("c", "a")]), Ok(()), "an empty interval");
        assert_eq!(check(vec![delete(KeyRange::from("a")), put("b")]), Ok(()), "etcd's exception");
    }

    #[test]
    fn deletes_overlap_freely_and_ranges_are_unrestricted() {
        let read = Operation::Range(RangeQuery::new(KeyRange::all()));
        assert_eq!(
            check(vec![delete_one("a"), delete_one("a"), delete_span("a", "c"), read.clone()]),
            Ok(())
        );
        assert_eq!(check(vec![put("a"), read.clone(), read]), Ok(()));
    }

    #[test]
    fn nested_writes_count_in_their_branch() {
        assert_eq!(check(vec![nested(vec![put("a")], vec![]), put("a")]), DUPLICATE);
        assert_eq!(check(vec![nested(vec![], vec![put("a")]), put("a")]), DUPLICATE);
        assert_eq!(check(vec![nested(vec![put("a")], vec![]), nested(vec![], vec![put("a")])]), DUPLICATE);
        assert_eq!(check(vec![nested(vec![put("a")], vec![put("a")])]), Ok(()), "only one of them runs");
        assert_eq!(check(vec![nested(vec![put("a")], vec![put("a")]), put("b")]), Ok(()));
        assert_eq!(check(vec![delete_one("a"), nested(vec![put("a")], vec![])]), DUPLICATE);
        assert_eq!(check(vec![nested(vec![delete_one("a")], vec![]), put("a")]), DUPLICATE);
        assert_eq!(check(vec![nested(vec![], vec![delete_one("a")]), put("a")]), DUPLICATE);
        assert_eq!(check(vec![nested(vec![put("a"), put("a")], vec![])]), DUPLICATE, "inside");
        let twice = nested(vec![nested(vec![put("a")], vec![])], vec![]);
        assert_eq!(check(vec![twice, put("a")]), DUPLICATE, "two levels down");
        assert_eq!(
            check(vec![nested(vec![delete_one("a")], vec![]), nested(vec![put("a")], vec![])]),
            DUPLICATE
        );
        assert_eq!(
            check(vec![nested(vec![put("a")], vec![]), nested(vec![delete_one("a")], vec![])]),
            Ok(()),
            "etcd looks only at deletes before a nested put"
        );
        let mixed = nested(vec![put("a")], vec![delete_one("a")]);
        assert_eq!(check(vec![mixed]), Ok(()), "only one of them runs");
    }

    #[test]
    fn empty_keys_are_refused_everywhere() {
        let refused = Err(InvalidRequest::EmptyKey);
        assert_eq!(check(vec![put("")]), refused);
        assert_eq!(check(vec![delete_one("")]), refused);
        assert_eq!(check(vec![Operation::Range(RangeQuery::new(KeyRange::single("")))]), refused);
        assert_eq!(check(vec![nested(vec![], vec![put("")])]), refused);
        let compare = Transaction { compares: vec![exists(KeyRange::single(""))], ..Default::default() };
        assert_eq!(validate(&compare, MAX_OPS), refused);
        assert_eq!(check(vec![delete(KeyRange::all())]), Ok(()), "everything is not an empty key");
    }

    #[test]
    fn list_lengths_are_bounded_and_nested_ones_share_the_budget() {
        let too_many = |count, limit| Err(InvalidRequest::TooManyOperations { count, limit });
        let compares = |count| Transaction {
            compares: vec![exists(KeyRange::single("a")); count],
            ..Default::default()
        };
        assert_eq!(validate(&compares(3), 3), Ok(()));
        assert_eq!(validate(&compares(4), 3), too_many(4, 3));
        let outer = |inner: Transaction| Transaction {
            compares: vec![exists(KeyRange::single("a")); 2],
            success: vec![Operation::Transaction(inner)],
            ..Default::default()
        };
        assert_eq!(validate(&outer(compares(1)), 3), Ok(()));
        assert_eq!(validate(&outer(compares(2)), 3), too_many(2, 1));
    }

    #[test]
    fn depth_is_bounded_where_the_codec_bounds_it() {
        let chain = |depth: usize| {
            (1..depth).fold(Transaction::default(), |inner, _| Transaction {
                success: vec![Operation::Transaction(inner)],
                ..Default::default()
            })
        };
        assert_eq!(validate(&chain(MAX_TRANSACTION_DEPTH), usize::MAX), Ok(()));
        assert!(validate(&chain(MAX_TRANSACTION_DEPTH + 1), usize::MAX).is_err());
    }

    #[test]
    fn a_size_is_what_the_entry_carries() {
        let size_of = |value: usize| {
            let mut operation = put("key");
            if let Operation::Put(put) = &mut operation {
                put.value = PutValue::Set(vec![0; value].into());
            }
            request_size(&Command::Transaction(Transaction {
                success: vec![operation],
                ..Default::default()
            }))
        };
        assert_eq!(size_of(100_000) - size_of(50_000), 50_000);
        assert!(size_of(0) < 20);
    }

    proptest! {
        /// The merged intervals answer like the plain list of ranges.
        #[test]
        fn deletes_know_their_keys(ranges in prop::collection::vec((0u8..40, prop::option::of(0u8..40)), 0..20)) {
            let ranges: Vec<KeyRange> = ranges
                .into_iter()
                .map(|(start, end)| match end {
                    None => KeyRange::single(vec![start]),
                    Some(end) => KeyRange::span(vec![start], vec![end]),
                })
                .collect();
            let mut deletes = Deletes::default();
            ranges.iter().for_each(|range| deletes.add(range));
            for key in 0..42u8 {
                let expected = ranges.iter().any(|range| range.contains(&[key]));
                prop_assert_eq!(deletes.contains(&[key]), expected, "key {}", key);
            }
            let disjoint = deletes.intervals.iter().zip(deletes.intervals.iter().skip(1));
            for ((_, end), (start, _)) in disjoint {
                prop_assert!(end < start);
            }
        }
    }
}
