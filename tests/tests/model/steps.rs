//! Random steps. Revisions in them are drawn without knowing the history: `settle` brings them near the present one.

use bytes::Bytes;
use kvstore::command::{
    Compare, CompareResult, CompareTarget, DeleteRange, Operation, Projection, Put, PutLease, PutValue,
    RangeQuery, ReadAt, RevisionFilter, Sort, SortOrder, SortTarget, Transaction,
};
use kvstore::{KeyRange, LeaseId, Revision};
use proptest::prelude::*;

/// Leases that steps speak of.
pub const LEASES: std::ops::Range<i64> = 1..4;

/// Where a value lies between the oldest and the newest revision.
#[derive(Clone, Copy, Debug)]
pub struct Place(u16);

#[derive(Clone, Debug)]
pub struct Watch {
    pub range: KeyRange,
    /// `None` is from now on.
    pub start: Option<Place>,
    pub previous: bool,
    pub no_put: bool,
    pub no_delete: bool,
}

#[derive(Clone, Debug)]
pub enum Step {
    /// Sent together, so that they share a batch.
    Transact(Vec<Transaction>),
    Read(RangeQuery),
    Compact(Place, bool),
    Grant(i64),
    Revoke(i64),
    Renew(i64),
    Watch(Watch),
    /// Look at all watchers now.
    Drain,
    /// A few values of so many KiB, to fill segments and to push others out of the cache.
    Bulk(u8, u8),
    /// Stop, and start again.
    Restart,
    /// Drop everything, and start again.
    Abort,
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec![
        &b"a"[..],
        b"a\0",
        b"a/1",
        b"a/2",
        b"a/2/x",
        b"b",
        b"b\xff",
        b"c/1",
        b"c/2",
        b"\xff",
        b"\xff\xff",
        b"\0",
    ])
    .prop_map(Bytes::from_static)
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        4 => key().prop_map(KeyRange::single),
        3 => (key(), key()).prop_map(|(start, end)| KeyRange::span(start, end)),
        2 => key().prop_map(KeyRange::prefix),
        1 => key().prop_map(KeyRange::from),
        1 => Just(KeyRange::all()),
    ]
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        Just(Bytes::new()),
        prop::collection::vec(0u8..4, 1..4).prop_map(Bytes::from),
        (any::<u8>(), 200usize..4000).prop_map(|(byte, len)| Bytes::from(vec![byte; len])),
    ]
}

fn lease() -> impl Strategy<Value = LeaseId> {
    prop_oneof![3 => Just(0i64), 2 => LEASES].prop_map(LeaseId::new)
}

/// Raw until it is settled.
fn revision() -> impl Strategy<Value = Revision> {
    (0i64..4000).prop_map(Revision::new)
}

fn compare() -> impl Strategy<Value = Compare> {
    let target = prop_oneof![
        (0i64..4).prop_map(CompareTarget::Version),
        revision().prop_map(CompareTarget::CreateRevision),
        revision().prop_map(CompareTarget::ModRevision),
        value().prop_map(CompareTarget::Value),
        lease().prop_map(CompareTarget::Lease),
    ];
    let result = prop::sample::select(vec![
        CompareResult::Equal,
        CompareResult::Greater,
        CompareResult::Less,
        CompareResult::NotEqual,
    ]);
    (range(), target, result).prop_map(|(range, target, result)| Compare { range, target, result })
}

fn query() -> impl Strategy<Value = RangeQuery> {
    let at = prop_oneof![2 => Just(ReadAt::Latest), 3 => revision().prop_map(ReadAt::Revision)];
    let sort = prop::option::weighted(
        0.4,
        (
            prop::sample::select(vec![
                SortTarget::Key,
                SortTarget::Version,
                SortTarget::CreateRevision,
                SortTarget::ModRevision,
                SortTarget::Value,
            ]),
            prop::sample::select(vec![SortOrder::Ascending, SortOrder::Descending]),
        )
            .prop_map(|(target, order)| Sort { target, order }),
    );
    let projection = prop::sample::select(vec![
        Projection::Full,
        Projection::Full,
        Projection::KeysOnly,
        Projection::CountOnly,
    ]);
    let bound = || prop_oneof![3 => Just(Revision::NONE), 1 => revision()];
    let filter =
        (bound(), bound(), bound(), bound()).prop_map(|(min_mod, max_mod, min_create, max_create)| {
            RevisionFilter { min_mod, max_mod, min_create, max_create }
        });
    let filter = prop_oneof![2 => Just(RevisionFilter::default()), 1 => filter];
    let limit = prop_oneof![2 => Just(0u64), 3 => 1u64..6];
    (range(), at, limit, sort, projection, filter).prop_map(|(range, at, limit, sort, projection, filter)| {
        RangeQuery { range, at, limit, sort, projection, filter }
    })
}

fn put() -> impl Strategy<Value = Put> {
    let value = prop_oneof![6 => value().prop_map(PutValue::Set), 1 => Just(PutValue::Keep)];
    let lease = prop_oneof![6 => lease().prop_map(PutLease::Set), 1 => Just(PutLease::Keep)];
    (key(), value, lease, any::<bool>()).prop_map(|(key, value, lease, want_previous)| Put {
        key,
        value,
        lease,
        want_previous,
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    let leaf = prop_oneof![
        5 => put().prop_map(Operation::Put),
        2 => (range(), any::<bool>())
            .prop_map(|(range, want_previous)| Operation::Delete(DeleteRange { range, want_previous })),
        3 => query().prop_map(Operation::Range),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| transaction_of(inner, 3).prop_map(Operation::Transaction))
}

fn transaction_of(
    operation: impl Strategy<Value = Operation> + Clone,
    longest: usize,
) -> impl Strategy<Value = Transaction> {
    (
        prop::collection::vec(compare(), 0..3),
        prop::collection::vec(operation.clone(), 0..=longest),
        prop::collection::vec(operation, 0..=longest),
    )
        .prop_map(|(compares, success, failure)| Transaction { compares, success, failure })
}

fn transaction() -> impl Strategy<Value = Transaction> {
    let one = prop_oneof![
        4 => put().prop_map(Operation::Put),
        1 => (range(), any::<bool>())
            .prop_map(|(range, want_previous)| Operation::Delete(DeleteRange { range, want_previous })),
    ];
    prop_oneof![
        1 => one.prop_map(|operation| Transaction { success: vec![operation], ..Default::default() }),
        1 => transaction_of(operation().boxed(), 4),
    ]
}

fn place() -> impl Strategy<Value = Place> {
    any::<u16>().prop_map(Place)
}

fn step() -> impl Strategy<Value = Step> {
    let watch = (range(), prop::option::of(place()), any::<bool>(), any::<u8>()).prop_map(
        |(range, start, previous, flags)| Watch {
            range,
            start,
            previous,
            no_put: flags % 5 == 0,
            no_delete: flags % 7 == 0,
        },
    );
    prop_oneof![
        20 => prop::collection::vec(transaction(), 1..4).prop_map(Step::Transact),
        10 => query().prop_map(Step::Read),
        2 => (place(), any::<bool>()).prop_map(|(place, physical)| Step::Compact(place, physical)),
        3 => LEASES.prop_map(Step::Grant),
        2 => LEASES.prop_map(Step::Revoke),
        1 => LEASES.prop_map(Step::Renew),
        3 => watch.prop_map(Step::Watch),
        2 => Just(Step::Drain),
        1 => (1u8..4, 50u8..200).prop_map(|(count, kib)| Step::Bulk(count, kib)),
        1 => Just(Step::Restart),
        1 => Just(Step::Abort),
    ]
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 20..90)
}

impl Place {
    /// From just below the floor to just above the present.
    pub fn near(self, floor: i64, current: i64) -> i64 {
        let lowest = (floor - 2).max(0);
        lowest + i64::from(self.0) % (current + 3 - lowest)
    }
}

/// Brings every revision in `transaction` near the present.
pub fn settle(transaction: &mut Transaction, floor: i64, current: i64) {
    for compare in &mut transaction.compares {
        if let CompareTarget::CreateRevision(at) | CompareTarget::ModRevision(at) = &mut compare.target {
            *at = settled(*at, 0, current);
        }
    }
    for operation in transaction.success.iter_mut().chain(&mut transaction.failure) {
        match operation {
            Operation::Range(query) => settle_query(query, floor, current),
            Operation::Transaction(nested) => settle(nested, floor, current),
            Operation::Put(_) | Operation::Delete(_) => {}
        }
    }
}

pub fn settle_query(query: &mut RangeQuery, floor: i64, current: i64) {
    if let ReadAt::Revision(at) = &mut query.at {
        // Mostly readable: a refused read refuses its whole transaction.
        let raw = at.get();
        *at = if raw % 16 == 0 {
            settled(*at, floor, current)
        } else {
            Revision::new(floor + raw % (current - floor + 1))
        };
    }
    let RevisionFilter { min_mod, max_mod, min_create, max_create } = &mut query.filter;
    for bound in [min_mod, max_mod, min_create, max_create] {
        if *bound != Revision::NONE {
            *bound = settled(*bound, 0, current);
        }
    }
}

fn settled(raw: Revision, floor: i64, current: i64) -> Revision {
    Revision::new(Place(raw.get() as u16).near(floor, current))
}
