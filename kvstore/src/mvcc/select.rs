//! What a range query returns of a view: etcd's rules of limit, order, filters, `more` and `count`.

use super::entry::Entry;
use super::view::{Found, View};
use crate::command::{Projection, RangeQuery, RangeResult, ReadAt, Sort, SortOrder, SortTarget};
use crate::types::{KeyRange, KeyValue, Result, Revision};
use std::cmp::Ordering;
use std::sync::Arc;

impl View<'_> {
    /// Executes `query`.
    pub(super) fn range(&self, query: &RangeQuery) -> Result<RangeResult> {
        let at = self.read_at(query.at)?;
        if query.projection == Projection::CountOnly {
            return Ok(RangeResult { kvs: Vec::new(), more: false, count: self.count(&query.range, at)? });
        }
        if is_key_order(query.sort) && query.filter.is_none() {
            return self.range_in_key_order(query, at);
        }
        self.range_after_reading_all(query, at)
    }

    /// Whether `query` surely needs no more than so many keys and so many bytes of keys and values. Looks at the
    /// index alone, and at no more of it than that: a read of the past, whose cost it cannot tell, is not surely small, not even of one key.
    pub(super) fn is_small(&self, query: &RangeQuery, max_keys: usize, max_bytes: usize) -> bool {
        if self.is_past(query) {
            return false;
        }
        query.range.is_single() || self.fits(query, max_keys, max_bytes)
    }

    /// The same for a query of the present that shares the bound with others: a single key counts like any.
    pub(super) fn fits(&self, query: &RangeQuery, max_keys: usize, max_bytes: usize) -> bool {
        self.size_within(query, max_keys, max_bytes).is_some()
    }

    /// Keys and bytes that it finds, if they are no more than so many; whatever revision it asks for.
    pub(super) fn size_within(
        &self,
        query: &RangeQuery,
        max_keys: usize,
        max_bytes: usize,
    ) -> Option<(usize, usize)> {
        if query.projection == Projection::CountOnly {
            return Some((0, 0));
        }
        let cut =
            if is_key_order(query.sort) && query.filter.is_none() { limit_of(query) } else { usize::MAX };
        let (mut keys, mut bytes) = (0, 0);
        for (passed, entry) in self.root.range(&query.range).enumerate() {
            if keys == cut {
                break;
            }
            if passed >= max_keys {
                return None;
            }
            if !entry.is_live() {
                continue;
            }
            keys += 1;
            bytes += entry.key().len() + super::RECORD_FRAME_BYTES;
            if query.projection == Projection::Full || query.sort.is_some() {
                bytes += entry.head().value_len as usize;
            }
            if bytes > max_bytes {
                return None;
            }
        }
        Some((keys, bytes))
    }

    /// Whether `query` asks for a revision before this one.
    pub(super) fn is_past(&self, query: &RangeQuery) -> bool {
        matches!(query.at, ReadAt::Revision(at) if at != Revision::NONE && at < self.revision)
    }

    fn range_in_key_order(&self, query: &RangeQuery, at: Revision) -> Result<RangeResult> {
        let (found, more) = self.collect(&query.range, at, limit_of(query), usize::MAX)?;
        // The whole range was walked unless the limit cut it: then the count is at hand.
        let count = if more { self.count(&query.range, at)? } else { found.len() as u64 };
        Ok(RangeResult { kvs: self.materialize(found, query.projection, at)?, more, count })
    }

    /// Any other order, and any filter: the limit comes after filtering and sorting.
    fn range_after_reading_all(&self, query: &RangeQuery, at: Revision) -> Result<RangeResult> {
        let (mut found, _) = self.collect(&query.range, at, usize::MAX, usize::MAX)?;
        let count = found.len() as u64;
        found.retain(|item| query.filter.passes(item.create_revision(), item.mod_revision()));
        let limit = limit_of(query);
        let more = found.len() > limit;
        let Some(Sort { target: SortTarget::Value, order }) = query.sort else {
            if let Some(sort) = query.sort {
                sort_by_head(&mut found, sort);
            }
            found.truncate(limit);
            return Ok(RangeResult { kvs: self.materialize(found, query.projection, at)?, more, count });
        };
        // Only this order needs every value.
        let mut kvs = self.materialize(found, Projection::Full, at)?;
        sort_stable(&mut kvs, order, |a, b| a.value().cmp(b.value()));
        kvs.truncate(limit);
        if query.projection == Projection::KeysOnly {
            kvs = kvs.iter().map(KeyValue::without_value).collect();
        }
        Ok(RangeResult { kvs, more, count })
    }

    /// The records of what was found.
    pub(super) fn materialize(
        &self,
        found: Vec<Found>,
        projection: Projection,
        at: Revision,
    ) -> Result<Vec<KeyValue>> {
        if projection != Projection::Full {
            let without_value = |item| match item {
                Found::Newest(entry) => without_value(&entry),
                Found::Past(kv) => kv.without_value(),
            };
            return Ok(found.into_iter().map(without_value).collect());
        }
        let newest: Vec<&Arc<Entry>> = found
            .iter()
            .filter_map(|item| match item {
                Found::Newest(entry) => Some(entry),
                Found::Past(_) => None,
            })
            .collect();
        let mut values = self.values(&newest, at)?.into_iter();
        let kvs = found.iter().filter_map(|item| match item {
            Found::Newest(_) => values.next(),
            Found::Past(kv) => Some(kv.clone()),
        });
        Ok(kvs.collect())
    }
}

/// `range` from behind `after` on; `None` when nothing can be left.
pub(super) fn rest_of(range: &KeyRange, after: Option<&[u8]>) -> Option<KeyRange> {
    let Some(after) = after else { return Some(range.clone()) };
    if range.is_single() || range.is_past(after) {
        return None;
    }
    let mut start = Vec::with_capacity(after.len() + 1);
    start.extend_from_slice(after);
    start.push(0);
    Some(KeyRange { start: range.start.clone().max(start.into()), end: range.end.clone() })
}

fn limit_of(query: &RangeQuery) -> usize {
    if query.limit == 0 { usize::MAX } else { usize::try_from(query.limit).unwrap_or(usize::MAX) }
}

fn is_key_order(sort: Option<Sort>) -> bool {
    matches!(sort, None | Some(Sort { target: SortTarget::Key, order: SortOrder::Ascending }))
}

/// The newest version without its value, from memory alone.
fn without_value(entry: &Entry) -> KeyValue {
    let head = entry.head();
    KeyValue::new(entry.key(), b"", head.create_revision, head.id.revision, head.version, head.lease)
}

fn sort_by_head(found: &mut [Found], sort: Sort) {
    match sort.target {
        SortTarget::Key if sort.order == SortOrder::Descending => found.reverse(),
        SortTarget::Key | SortTarget::Value => {}
        SortTarget::Version => sort_stable(found, sort.order, |a, b| a.version().cmp(&b.version())),
        SortTarget::CreateRevision => {
            sort_stable(found, sort.order, |a, b| a.create_revision().cmp(&b.create_revision()));
        }
        SortTarget::ModRevision => {
            sort_stable(found, sort.order, |a, b| a.mod_revision().cmp(&b.mod_revision()));
        }
    }
}

/// Ties stay in key order in both directions.
fn sort_stable<T>(items: &mut [T], order: SortOrder, by: impl Fn(&T, &T) -> Ordering) {
    match order {
        SortOrder::Ascending => items.sort_by(by),
        SortOrder::Descending => items.sort_by(|a, b| by(b, a)),
    }
}
