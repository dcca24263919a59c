//! Reads.

use super::status;
use crate::proto::EncodedKeyValue;
use crate::proto::etcdserverpb::range_request::{SortOrder as WireOrder, SortTarget as WireTarget};
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use bytes::Bytes;
use kvstore::command::{
    Projection, RangeQuery, RangeResult, ReadAt, RevisionFilter, Sort, SortOrder, SortTarget,
};
use kvstore::{KeyRange, KeyValue, LeaseId, Revision};
use std::cmp::Ordering;
use tonic::Status;

/// What is left to do with a result before it becomes a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Shape {
    /// etcd answers "keys only" from its index, which knows no leases: they read 0.
    pub blank_leases: bool,
    /// Sort by this and only then cut to this many, see [`order_of`].
    pub sort_late: Option<(SortTarget, u64)>,
}

impl Shape {
    /// Whether the result can be passed on as it is.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// A key, or the interval that etcd's `range_end` spells.
pub fn key_range(key: Bytes, end: Bytes) -> KeyRange {
    match &end[..] {
        [] => KeyRange::single(key),
        [0] => KeyRange::from(key),
        _ => KeyRange::span(key, end),
    }
}

/// The query that `request` asks for.
pub fn query(request: RangeRequest) -> Result<(RangeQuery, Shape), Status> {
    if request.key.is_empty() {
        return Err(status::EMPTY_KEY.into());
    }
    let filter = filter(&request);
    let limit = u64::try_from(request.limit).unwrap_or(0);
    let Order { sort, sort_late } = order_of(&request, limit, filter.is_none())?;
    let projection = match (request.count_only, request.keys_only) {
        (true, _) => Projection::CountOnly,
        (false, true) => Projection::KeysOnly,
        (false, false) => Projection::Full,
    };
    let blank_leases = projection == Projection::KeysOnly && request.sort_target != WireTarget::Value as i32;
    let query = RangeQuery {
        range: key_range(request.key, request.range_end),
        at: read_at(request.revision),
        limit: if sort_late.is_some() { limit.saturating_add(1) } else { limit },
        sort,
        projection,
        filter,
    };
    Ok((query, Shape { blank_leases, sort_late }))
}

/// The revision to read at; 0 and below is the newest.
pub fn read_at(revision: i64) -> ReadAt {
    if revision > 0 { ReadAt::Revision(Revision::new(revision)) } else { ReadAt::Latest }
}

/// How the store is to sort, and what is to be sorted afterwards.
#[derive(Default)]
struct Order {
    sort: Option<Sort>,
    sort_late: Option<(SortTarget, u64)>,
}

/// etcd takes "by something else than the key, in no order" for ascending only after it has cut the result to
/// the limit in key order. With a filter it cuts last, as it always should.
fn order_of(request: &RangeRequest, limit: u64, unfiltered: bool) -> Result<Order, Status> {
    let invalid = |_| Status::from(status::INVALID_SORT);
    let order = WireOrder::try_from(request.sort_order).map_err(invalid)?;
    let target = match WireTarget::try_from(request.sort_target).map_err(invalid)? {
        WireTarget::Key => SortTarget::Key,
        WireTarget::Version => SortTarget::Version,
        WireTarget::Create => SortTarget::CreateRevision,
        WireTarget::Mod => SortTarget::ModRevision,
        WireTarget::Value => SortTarget::Value,
    };
    let sorted = |order| Order { sort: Some(Sort { target, order }), sort_late: None };
    Ok(match (target, order) {
        (SortTarget::Key, WireOrder::None | WireOrder::Ascend) => Order::default(),
        (_, WireOrder::None) if limit > 0 && unfiltered => {
            Order { sort: None, sort_late: Some((target, limit)) }
        }
        (_, WireOrder::None | WireOrder::Ascend) => sorted(SortOrder::Ascending),
        (_, WireOrder::Descend) => sorted(SortOrder::Descending),
    })
}

/// Whether the order is the one that costs nothing.
pub fn has_default_order(request: &RangeRequest) -> bool {
    request.sort_order == WireOrder::None as i32
        || (request.sort_order == WireOrder::Ascend as i32 && request.sort_target == WireTarget::Key as i32)
}

/// Whether the request bounds the revisions of what it wants.
pub fn has_filter(request: &RangeRequest) -> bool {
    [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ]
    .iter()
    .any(|&bound| bound != 0)
}

fn filter(request: &RangeRequest) -> RevisionFilter {
    let bound = |number: i64| Revision::new(number.max(0));
    let mut filter = RevisionFilter {
        min_mod: bound(request.min_mod_revision),
        max_mod: bound(request.max_mod_revision),
        min_create: bound(request.min_create_revision),
        max_create: bound(request.max_create_revision),
    };
    if request.max_mod_revision < 0 || request.max_create_revision < 0 {
        // Nothing is that old.
        filter.min_mod = Revision::new(i64::MAX);
    }
    filter
}

/// The response of a read.
pub fn response(mut result: RangeResult, shape: Shape, header: Option<ResponseHeader>) -> RangeResponse {
    if !shape.is_plain() {
        reshape(&mut result, shape);
    }
    RangeResponse {
        header,
        kvs: result.kvs.into_iter().map(EncodedKeyValue).collect(),
        more: result.more,
        count: result.count as i64,
    }
}

fn reshape(result: &mut RangeResult, shape: Shape) {
    if let Some((target, limit)) = shape.sort_late {
        result.kvs.sort_by(|a, b| compare(target, a, b));
        result.more = result.kvs.len() as u64 > limit;
        result.kvs.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    if shape.blank_leases {
        for kv in &mut result.kvs {
            *kv = shaped(kv.clone(), shape);
        }
    }
}

/// One record as the response shows it.
pub fn shaped(kv: KeyValue, shape: Shape) -> KeyValue {
    if !shape.blank_leases || kv.lease == LeaseId::NONE {
        return kv;
    }
    KeyValue::new(kv.key(), b"", kv.create_revision, kv.mod_revision, kv.version, LeaseId::NONE)
}

fn compare(target: SortTarget, a: &KeyValue, b: &KeyValue) -> Ordering {
    match target {
        SortTarget::Key => a.key().cmp(b.key()),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::CreateRevision => a.create_revision.cmp(&b.create_revision),
        SortTarget::ModRevision => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value().cmp(b.value()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvstore::RangeEnd;

    fn request() -> RangeRequest {
        RangeRequest { key: "k".into(), ..Default::default() }
    }

    fn kv(key: &str, version: i64, lease: i64) -> KeyValue {
        KeyValue::new(key.as_bytes(), b"", Revision::new(1), Revision::new(2), version, LeaseId::new(lease))
    }

    #[test]
    fn range_ends() {
        let range = |end: &'static [u8]| key_range("k".into(), Bytes::from_static(end));
        assert_eq!(range(b"").end, RangeEnd::Single);
        assert_eq!(range(b"\0").end, RangeEnd::Unbounded);
        assert_eq!(range(b"z").end, RangeEnd::Before("z".into()));
        assert_eq!(range(b"\0\0").end, RangeEnd::Before(Bytes::from_static(b"\0\0")));
        assert!(range(b"a").is_empty());
    }

    #[test]
    fn an_empty_key_comes_before_a_bad_order() {
        let fault = query(RangeRequest { sort_order: 9, ..Default::default() }).unwrap_err();
        assert_eq!(fault.message(), "etcdserver: key is not provided");
        for (sort_order, sort_target) in [(3, 0), (-1, 0), (0, 5), (0, -1)] {
            let fault = query(RangeRequest { sort_order, sort_target, ..request() }).unwrap_err();
            assert_eq!(fault.message(), "etcdserver: invalid sort option");
        }
    }

    #[test]
    fn negative_numbers_mean_none() {
        let (query, shape) = query(RangeRequest {
            limit: -1,
            revision: -1,
            min_mod_revision: -1,
            min_create_revision: -1,
            ..request()
        })
        .unwrap();
        assert_eq!((query.limit, query.at), (0, ReadAt::Latest));
        assert!(query.filter.is_none() && shape.is_plain());
    }

    #[test]
    fn a_negative_upper_bound_lets_nothing_pass() {
        let (query, _) = query(RangeRequest { max_create_revision: -1, ..request() }).unwrap();
        assert!(!query.filter.passes(Revision::new(1), Revision::new(9)));
    }

    #[test]
    fn an_order_that_is_the_natural_one_costs_no_sort() {
        for sort_order in [0, 1] {
            let (query, shape) = query(RangeRequest { sort_order, limit: 5, ..request() }).unwrap();
            assert_eq!((query.sort, query.limit, shape.is_plain()), (None, 5, true));
        }
    }

    #[test]
    fn no_order_by_another_target_is_sorted_after_the_cut() {
        let asked = RangeRequest { sort_target: WireTarget::Version as i32, limit: 2, ..request() };
        let (found, shape) = query(asked.clone()).unwrap();
        assert_eq!((found.sort, found.limit), (None, 3));
        let result =
            RangeResult { kvs: vec![kv("a", 3, 0), kv("b", 2, 0), kv("c", 1, 0)], more: true, count: 9 };
        let response = response(result, shape, None);
        let keys: Vec<_> = response.kvs.iter().map(|kv| kv.0.key().to_vec()).collect();
        assert_eq!(keys, [b"c", b"b"]);
        assert!(response.more && response.count == 9);

        let ascending = Some(Sort { target: SortTarget::Version, order: SortOrder::Ascending });
        assert_eq!(query(RangeRequest { limit: 0, ..asked.clone() }).unwrap().0.sort, ascending);
        let (filtered, shape) = query(RangeRequest { min_mod_revision: 1, ..asked }).unwrap();
        assert_eq!((filtered.sort, filtered.limit, shape.sort_late), (ascending, 2, None));
    }

    #[test]
    fn keys_only_hides_leases_unless_sorted_by_value() {
        let (_, shape) = query(RangeRequest { keys_only: true, ..request() }).unwrap();
        let result = || RangeResult { kvs: vec![kv("a", 1, 77)], more: false, count: 1 };
        assert_eq!(response(result(), shape, None).kvs[0].0, kv("a", 1, 0));
        let by_value = RangeRequest { keys_only: true, sort_target: WireTarget::Value as i32, ..request() };
        let (_, shape) = query(by_value).unwrap();
        assert_eq!(response(result(), shape, None).kvs[0].0, kv("a", 1, 77));
    }
}
