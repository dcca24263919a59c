//! How much a read is, before it is made: whether it is answered where it arrives, and in which line it waits if not.

use kvstore::command::{CompareTarget, Operation, RangeQuery, ReadAt, Transaction};
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
