//! Transactions and the reads inside them.

use crate::types::{KeyRange, KeyValue, LeaseId, Revision};
use bytes::Bytes;

/// If every compare holds then `success`, else `failure`; atomic, in one revision.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Transaction {
    /// All of them are evaluated before the first write.
    pub compares: Vec<Compare>,
    /// Executed in order when all compares hold (also when there are none).
    pub success: Vec<Operation>,
    /// Executed in order otherwise.
    pub failure: Vec<Operation>,
}

/// One condition. On an interval it must hold for every key in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Compare {
    /// The key or interval.
    pub range: KeyRange,
    /// What is compared, and with what.
    pub target: CompareTarget,
    /// How.
    pub result: CompareResult,
}

/// What a [`Compare`] looks at, with the right-hand side. A missing key counts as all zeros, and fails any
/// compare of its value.
#[derive(Clone, Debug, PartialEq)]
pub enum CompareTarget {
    /// The number of writes in the key's present life.
    Version(i64),
    /// The revision its present life began in.
    CreateRevision(Revision),
    /// The revision of its newest version.
    ModRevision(Revision),
    /// Its value, byte by byte.
    Value(Bytes),
    /// Its lease.
    Lease(LeaseId),
}

/// The relation a [`Compare`] demands: "stored RESULT given".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    /// =
    Equal,
    /// >
    Greater,
    /// <
    Less,
    /// ≠
    NotEqual,
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// Reads; sees the writes of earlier steps.
    Range(RangeQuery),
    /// Writes one key.
    Put(Put),
    /// Deletes keys.
    Delete(DeleteRange),
    /// A transaction inside; its compares are evaluated with the outermost ones, before any write.
    Transaction(Transaction),
}

/// Writes one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Put {
    /// The key; never empty.
    pub key: Bytes,
    /// The value, or "as it is".
    pub value: PutValue,
    /// The lease, or "as it is".
    pub lease: PutLease,
    /// Whether the outcome carries the version before.
    pub want_previous: bool,
}

/// The value of a [`Put`].
#[derive(Clone, Debug, PartialEq)]
pub enum PutValue {
    /// This one.
    Set(Bytes),
    /// The present one; the key must exist.
    Keep,
}

/// The lease of a [`Put`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PutLease {
    /// This one, or [`LeaseId::NONE`] to detach.
    Set(LeaseId),
    /// The present one; the key must exist.
    Keep,
}

/// Deletes every key of a range.
#[derive(Clone, Debug, PartialEq)]
pub struct DeleteRange {
    /// Which keys.
    pub range: KeyRange,
    /// Whether the outcome carries the deleted versions.
    pub want_previous: bool,
}

/// A read.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeQuery {
    /// Which keys.
    pub range: KeyRange,
    /// At which revision.
    pub at: ReadAt,
    /// At most so many keys; 0 means no limit.
    pub limit: u64,
    /// Order of the result; `None` is ascending by key, which is by far the cheapest.
    pub sort: Option<Sort>,
    /// What of each key.
    pub projection: Projection,
    /// Which versions pass.
    pub filter: RevisionFilter,
}

impl RangeQuery {
    /// Everything in `range`, newest, ascending by key.
    pub fn new(range: KeyRange) -> Self {
        Self {
            range,
            at: ReadAt::Latest,
            limit: 0,
            sort: None,
            projection: Projection::Full,
            filter: RevisionFilter::default(),
        }
    }
}

/// The revision to read at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadAt {
    /// The newest one.
    Latest,
    /// This one; must not be compacted nor in the future.
    Revision(Revision),
}

/// What a read returns of each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projection {
    /// Everything.
    Full,
    /// Everything but the value (and the lease is reported, unlike etcd 3.7's index fast path, see
    /// `etcd-shim`, which blanks it).
    KeysOnly,
    /// Only the count.
    CountOnly,
}

/// Order of a read's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// By what.
    pub target: SortTarget,
    /// Which way.
    pub order: SortOrder,
}

/// What a read is sorted by. Ties stay in key order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortTarget {
    /// The key.
    Key,
    /// The version counter.
    Version,
    /// The create revision.
    CreateRevision,
    /// The mod revision.
    ModRevision,
    /// The value.
    Value,
}

/// Direction of a sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortOrder {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// Inclusive bounds on a version's revisions; 0 is "no bound". They filter what is returned, never the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RevisionFilter {
    /// Smallest mod revision.
    pub min_mod: Revision,
    /// Largest mod revision.
    pub max_mod: Revision,
    /// Smallest create revision.
    pub min_create: Revision,
    /// Largest create revision.
    pub max_create: Revision,
}

impl RevisionFilter {
    /// Whether nothing is filtered.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
    /// Whether a version with these revisions passes.
    pub fn passes(&self, create: Revision, modified: Revision) -> bool {
        fn within(value: Revision, min: Revision, max: Revision) -> bool {
            (min == Revision::NONE || value >= min) && (max == Revision::NONE || value <= max)
        }
        within(modified, self.min_mod, self.max_mod) && within(create, self.min_create, self.max_create)
    }
}

/// The result of a read.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RangeResult {
    /// The keys found.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut the result.
    pub more: bool,
    /// How many live keys the range holds at that revision, whatever the limit and the filters say.
    pub count: u64,
}

/// The result of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionOutcome {
    /// The new revision if something changed, else the present one.
    pub revision: Revision,
    /// Whether all compares held.
    pub succeeded: bool,
    /// One for each operation of the branch that was taken.
    pub results: Vec<OperationOutcome>,
}

/// The result of one operation.
#[derive(Clone, Debug, PartialEq)]
pub enum OperationOutcome {
    /// Of a range.
    Range(RangeResult),
    /// Of a put.
    Put {
        /// The version before, if asked for and there was one.
        previous: Option<KeyValue>,
    },
    /// Of a delete.
    Delete {
        /// How many keys were deleted.
        deleted: u64,
        /// The deleted versions in key order, if asked for.
        previous: Vec<KeyValue>,
    },
    /// Of a nested transaction.
    Transaction(TransactionOutcome),
}
