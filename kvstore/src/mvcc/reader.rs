//! Reading what is published: readers, and the snapshots they take. Nothing here holds the writer up; taking a snapshot
//! may have to wait for it, see [`window`](super::window).

use super::cache::ValueCache;
use super::count::Deltas;
use super::entry::Entry;
use super::keys::RecordKind;
use super::records::Records;
use super::select::rest_of;
use super::view::View;
use super::window::{Published, Window};
use crate::command::{Projection, RangeQuery, RangeResult, ReadAt};
use crate::storage::Engine;
use crate::types::{Error, KeyRange, KeyValue, KeyspaceId, Result, Revision, VersionId};
use std::sync::Arc;

/// How often a read of the latest data begins again because compaction removed a version under it. Each
/// attempt needs a newer compaction to fail, so that more than one is rare already.
const ATTEMPTS_MAX: usize = 16;

/// What the writer and all readers of one keyspace share.
pub(super) struct Shared {
    pub(super) keyspace: KeyspaceId,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) cache: Arc<ValueCache>,
    pub(super) window: Window,
    pub(super) deltas: Deltas,
}

impl Shared {
    pub(super) fn floor(&self) -> Revision {
        self.window.floor()
    }
    /// The records as readers may see them.
    pub(super) fn records(&self) -> Records<'_> {
        Records { engine: &*self.engine, keyspace: self.keyspace, unwritten: &[] }
    }
}

/// Reads one keyspace from any thread. Cloning is cheap.
#[derive(Clone)]
pub struct Reader {
    pub(super) shared: Arc<Shared>,
}

impl Reader {
    /// The newest published revision.
    pub fn revision(&self) -> Revision {
        self.shared.window.revision()
    }

    /// The oldest readable revision; [`Revision::NONE`] when nothing was compacted.
    pub fn floor(&self) -> Revision {
        self.shared.floor()
    }

    /// The keyspace as it is published now. Holding it keeps old index nodes in memory, nothing else.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { published: self.shared.window.look(), shared: self.shared.clone() }
    }

    /// Executes `query`; gives also the revision of the snapshot it was executed on.
    pub fn range(&self, query: &RangeQuery) -> Result<(RangeResult, Revision)> {
        let mut attempts = 1;
        loop {
            let snapshot = self.snapshot();
            match snapshot.range(query) {
                Err(Error::Compacted { .. }) if query.at == ReadAt::Latest && attempts < ATTEMPTS_MAX => {
                    attempts += 1;
                }
                result => return Ok((result?, snapshot.revision())),
            }
        }
    }

    /// Whether `query` surely reads no more than so many keys and bytes: then it may run where others wait. Looks at
    /// no more than that itself, and only in memory.
    pub fn is_small(&self, query: &RangeQuery, max_keys: usize, max_bytes: usize) -> bool {
        self.snapshot().view().is_small(query, max_keys, max_bytes)
    }

    /// As [`Reader::is_small`], for one of several queries that are answered together and share the bound: there a
    /// single key is not small whatever its value, since there may be many.
    pub fn is_small_share(&self, query: &RangeQuery, max_keys: usize, max_bytes: usize) -> bool {
        let snapshot = self.snapshot();
        let view = snapshot.view();
        view.is_small(query, max_keys, max_bytes) && view.fits(query, max_keys, max_bytes)
    }

    /// Keys and bytes of keys and values that `query` finds now, if they are surely no more than so many: nothing for a read
    /// of the past. Looks at no more than [`Reader::is_small`].
    pub fn size_within(
        &self,
        query: &RangeQuery,
        max_keys: usize,
        max_bytes: usize,
    ) -> Option<(usize, usize)> {
        let snapshot = self.snapshot();
        let view = snapshot.view();
        if view.is_past(query) { None } else { view.size_within(query, max_keys, max_bytes) }
    }

    /// The value of `entry` if it is in memory.
    pub(super) fn cached(&self, entry: &Entry) -> Option<KeyValue> {
        self.shared.cache.get(entry)
    }

    /// The key's version at revision `at`, found from its version `id` of then or of the revision behind it. `None`
    /// when the key did not live then, and when compaction has passed `at`.
    pub(super) fn version_before(&self, mut id: VersionId, at: Revision) -> Result<Option<KeyValue>> {
        while id.revision > at {
            match self.shared.records().get(id)? {
                // Before a life there may be the end of another, in the same revision or long ago.
                Some(record) if record.kind == RecordKind::Create && record.previous.revision <= at => {
                    return Ok(None);
                }
                Some(record) => id = record.previous,
                None if self.floor() > at => return Ok(None),
                None => return Err(super::records::missing_record(id)),
            }
        }
        self.version(id, at)
    }

    /// The version `id`, which was its key's newest at revision `at`; `None` when compaction has passed `at`.
    fn version(&self, id: VersionId, at: Revision) -> Result<Option<KeyValue>> {
        match self.shared.records().get(id)? {
            Some(record) => Ok(Some(record.kv)),
            None if self.floor() > at => Ok(None),
            None => Err(super::records::missing_record(id)),
        }
    }
}

/// The keyspace at one published revision.
#[derive(Clone)]
pub struct Snapshot {
    pub(super) shared: Arc<Shared>,
    pub(super) published: Arc<Published>,
}

/// Where a [`Snapshot::page`] ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimits {
    /// At most so many keys.
    pub max_keys: usize,
    /// No further key once keys and values have so many bytes; one key is always taken.
    pub max_bytes: usize,
    /// Bytes in the pages before, of the same walk. Beyond half of the value cache's bound what the walk reads is not
    /// kept there: it would push out what others read.
    pub walked_bytes: usize,
}

/// A part of a range, in key order.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The keys found.
    pub kvs: Vec<KeyValue>,
    /// Whether the range goes on; ask for the next page with the last key of this one.
    pub more: bool,
}

impl Snapshot {
    /// The revision it shows.
    pub fn revision(&self) -> Revision {
        self.published.revision
    }

    /// The oldest revision that could be read when it was taken.
    pub fn floor(&self) -> Revision {
        self.published.floor.unwrap_or(Revision::NONE)
    }

    /// Executes `query`. Fails with [`Error::Compacted`] when compaction has removed what it needs, also
    /// for the latest data of a snapshot that has grown old.
    pub fn range(&self, query: &RangeQuery) -> Result<RangeResult> {
        self.view().range(query)
    }

    /// How many keys of `range` live at `at`.
    pub fn count(&self, range: &KeyRange, at: ReadAt) -> Result<u64> {
        let view = self.view();
        view.count(range, view.read_at(at)?)
    }

    /// One page of `range` at revision `at`, from behind the key `after` on. Fails with
    /// [`Error::Compacted`] as soon as compaction has passed `at`, so that a walk over many pages tells the
    /// same as a read of that revision would.
    pub fn page(
        &self,
        range: &KeyRange,
        after: Option<&[u8]>,
        at: ReadAt,
        limits: PageLimits,
        projection: Projection,
    ) -> Result<Page> {
        let view = View { walked_bytes: limits.walked_bytes, ..self.view() };
        let at = view.read_at(ReadAt::Revision(view.read_at(at)?))?;
        let Some(rest) = rest_of(range, after) else {
            return Ok(Page { kvs: Vec::new(), more: false });
        };
        let max_keys = limits.max_keys.max(1);
        let (found, more) = view.collect(&rest, at, max_keys, limits.max_bytes.max(1))?;
        Ok(Page { kvs: view.materialize(found, projection, at)?, more })
    }

    pub(super) fn view(&self) -> View<'_> {
        View {
            root: &self.published.root,
            revision: self.revision(),
            floor: self.floor(),
            records: self.shared.records(),
            cache: &self.shared.cache,
            reader: Some((&self.shared, &self.published)),
            walked_bytes: 0,
        }
    }
}
