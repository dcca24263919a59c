//! How much a read is, before it is made: whether it is answered where it arrives, and in which line it waits if not. And
//! how much a write may answer.

use kvstore::KeyRange;
use kvstore::command::{CompareTarget, Operation, PutValue, RangeQuery, ReadAt, Transaction};
use kvstore::store::Reader;

/// Keys and bytes of a read that is answered where it arrives: a millisecond of work at most.
pub const SMALL_READ_KEYS_MAX: usize = 1_000;
/// See above.
pub const SMALL_READ_BYTES_MAX: usize = 1 << 20;

/// Keys of a large read that is a moderate one: twice the largest pages that apiservers ask for.
pub const MODERATE_READ_KEYS_MAX: usize = 20_000;

/// How much a large read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Moderate,
    Any,
}

/// Whether a range may be read where it arrived.
pub fn is_small(reader: &Reader, query: &RangeQuery) -> bool {
    reader.is_small(query, SMALL_READ_KEYS_MAX, SMALL_READ_BYTES_MAX)
}

/// How much a range is that may not, by its limit or what there is now: a look at the index.
pub fn extent(reader: &Reader, query: &RangeQuery) -> Extent {
    let keys = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let in_key_order = query.sort.is_none() && query.filter.is_none();
    let limit = usize::try_from(query.limit).ok().filter(|limit| in_key_order && *limit > 0);
    let at_most = limit.unwrap_or(usize::MAX);
    let there = || reader.snapshot().count(&query.range, ReadAt::Latest).map_or(usize::MAX, keys);
    if at_most <= MODERATE_READ_KEYS_MAX || there() <= MODERATE_READ_KEYS_MAX {
        Extent::Moderate
    } else {
        Extent::Any
    }
}

/// Whether a transaction of ranges may.
pub fn is_small_transaction(reader: &Reader, transaction: &Transaction) -> bool {
    let count = transaction.compares.len() + transaction.success.len() + transaction.failure.len();
    let (keys, bytes) = (SMALL_READ_KEYS_MAX / count.max(1), SMALL_READ_BYTES_MAX / count.max(1));
    let operations = transaction.success.iter().chain(&transaction.failure);
    let mut ranges = operations.filter_map(|operation| match operation {
        Operation::Range(query) => Some(query),
        _ => None,
    });
    let is_share = |query: &RangeQuery| match count {
        1 => reader.is_small(query, keys, bytes),
        _ => reader.is_small_share(query, keys, bytes),
    };
    let mut compares = transaction.compares.iter();
    compares.all(|compare| {
        let by_value = matches!(compare.target, CompareTarget::Value(_));
        compare.range.is_single() && (!by_value || is_share(&RangeQuery::new(compare.range.clone())))
    }) && ranges.all(is_share)
}

/// How much the response of a write may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It holds no key.
    Plain,
    /// At most about so many bytes, as things are now.
    Bytes(usize),
    /// More than what is read where it arrives, or nobody knows.
    Large,
}

/// How much the response of `transaction` may be, by a look at the index for each key it asks for; at no more keys than a
/// small read has.
pub fn answer(reader: &Reader, transaction: &Transaction) -> Answer {
    let branch = |operations: &[Operation]| {
        let mut sum = Sum::default();
        match sum.add(reader, operations) {
            None => Answer::Large,
            Some(()) => sum.answer(),
        }
    };
    match (branch(&transaction.success), branch(&transaction.failure)) {
        (Answer::Large, _) | (_, Answer::Large) => Answer::Large,
        (Answer::Plain, other) | (other, Answer::Plain) => other,
        (Answer::Bytes(one), Answer::Bytes(other)) => Answer::Bytes(one.max(other)),
    }
}

/// What a list of operations reads and writes.
#[derive(Default)]
struct Sum {
    reads: usize,
    keys: usize,
    bytes: usize,
    /// Written by it: each of its reads may find all of that, too.
    put_bytes: usize,
}

impl Sum {
    /// `None` as soon as it is surely more than a small read has.
    fn add(&mut self, reader: &Reader, operations: &[Operation]) -> Option<()> {
        for operation in operations {
            match operation {
                Operation::Range(query) => self.read(reader, query)?,
                Operation::Delete(delete) if delete.want_previous => {
                    self.read(reader, &RangeQuery::new(delete.range.clone()))?;
                }
                Operation::Delete(_) => {}
                Operation::Put(put) => {
                    if put.want_previous {
                        self.read(reader, &RangeQuery::new(KeyRange::single(put.key.clone())))?;
                    }
                    // What is kept is found in the index, where it is read.
                    if let PutValue::Set(value) = &put.value {
                        self.put_bytes += put.key.len() + value.len();
                    }
                }
                Operation::Transaction(inner) => {
                    self.add(reader, &inner.success)?;
                    self.add(reader, &inner.failure)?;
                }
            }
        }
        Some(())
    }

    fn read(&mut self, reader: &Reader, query: &RangeQuery) -> Option<()> {
        // The value of a single key is no larger than a request.
        let max_bytes = if query.range.is_single() { usize::MAX } else { SMALL_READ_BYTES_MAX };
        let (keys, bytes) = reader.size_within(query, SMALL_READ_KEYS_MAX, max_bytes)?;
        self.reads += 1;
        // One that finds nothing is work as well.
        self.keys += keys.max(1);
        self.bytes += bytes;
        (self.keys <= SMALL_READ_KEYS_MAX).then_some(())
    }

    fn answer(&self) -> Answer {
        let bytes = self.bytes.saturating_add(self.put_bytes.saturating_mul(self.reads));
        match self.reads {
            0 => Answer::Plain,
            1 => Answer::Bytes(bytes),
            _ if bytes > SMALL_READ_BYTES_MAX => Answer::Large,
            _ => Answer::Bytes(bytes),
        }
    }
}
