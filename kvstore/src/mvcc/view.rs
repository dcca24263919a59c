//! A consistent view of one keyspace at one root: what reads of the latest and of past revisions share.
//!
//! A read in the past starts at the key's newest version and follows the previous-version pointers. How many
//! steps that takes is the number of changes since then, so [`View::resolve`] has a second way (walking those
//! changes in time order) and takes the cheaper one. Counting is in `count`.

use super::cache::ValueCache;
use super::entry::Entry;
use super::index::Root;
use super::keys::RecordKind;
use super::reader::Shared;
use super::records::{Records, damaged_record, missing_record};
use super::window::Published;
use crate::command::ReadAt;
use crate::types::{Error, KeyRange, KeyValue, Result, Revision, SubRevision, VersionId};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// How many records a walk in time order passes in the time of one point read.
const SCANNED_PER_POINT_READ: usize = 4;

/// How many entries of a range are resolved together: enough to fill a multi-get, few enough to stop early.
pub(super) const RESOLVE_CHUNK: usize = 512;

/// And at least so many, however small the page: most of them need no read at all.
const RESOLVE_CHUNK_MIN: usize = 16;

/// See the module's text.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) root: &'a Root,
    /// The revision that the root shows.
    pub(super) revision: Revision,
    /// The compaction floor that belongs to the root.
    pub(super) floor: Revision,
    pub(super) records: Records<'a>,
    pub(super) cache: &'a ValueCache,
    /// Whose compaction may overtake this view, and what the view is of; `None` for the writer, which compacts itself.
    pub(super) reader: Option<(&'a Shared, &'a Published)>,
    /// What the read that this view is for has brought before.
    pub(super) walked_bytes: usize,
}

/// A key that lives at the revision asked for.
#[derive(Clone)]
pub(super) enum Found {
    /// Its newest version; the value is not read yet.
    Newest(Arc<Entry>),
    /// An older version.
    Past(KeyValue),
}

impl Found {
    pub(super) fn key(&self) -> &[u8] {
        match self {
            Found::Newest(entry) => entry.key(),
            Found::Past(kv) => kv.key(),
        }
    }
    pub(super) fn create_revision(&self) -> Revision {
        match self {
            Found::Newest(entry) => entry.head().create_revision,
            Found::Past(kv) => kv.create_revision,
        }
    }
    pub(super) fn mod_revision(&self) -> Revision {
        match self {
            Found::Newest(entry) => entry.head().id.revision,
            Found::Past(kv) => kv.mod_revision,
        }
    }
    pub(super) fn version(&self) -> i64 {
        match self {
            Found::Newest(entry) => entry.head().version,
            Found::Past(kv) => kv.version,
        }
    }
    pub(super) fn value_len(&self) -> usize {
        match self {
            Found::Newest(entry) => entry.head().value_len as usize,
            Found::Past(kv) => kv.value().len(),
        }
    }
}

impl View<'_> {
    /// The revision to read at, by etcd's rules: the future is refused before the compacted past.
    pub(super) fn read_at(&self, at: ReadAt) -> Result<Revision> {
        self.reader.map_or(Ok(()), |(_, published)| published.check())?;
        match at {
            ReadAt::Latest | ReadAt::Revision(Revision::NONE) => Ok(self.revision),
            ReadAt::Revision(at) if at > self.revision => {
                Err(Error::FutureRevision { current: self.revision })
            }
            ReadAt::Revision(at) => {
                let floor = self.floor_now();
                if at < floor { Err(Error::Compacted { floor }) } else { Ok(at) }
            }
        }
    }

    pub(super) fn floor_now(&self) -> Revision {
        self.reader.map_or(self.floor, |(shared, _)| shared.floor())
    }

    /// Why a version that this view needs for revision `at` is not there.
    fn lost(&self, at: Revision, id: VersionId) -> Error {
        let floor = self.floor_now();
        if floor > at { Error::Compacted { floor } } else { missing_record(id) }
    }

    /// The values of `entries`, from memory where possible, the others in one go from the engine; these are kept in
    /// memory if the read is not a large one.
    /// `at` is the revision that is being read.
    pub(super) fn values(&self, entries: &[&Arc<Entry>], at: Revision) -> Result<Vec<KeyValue>> {
        let mut kvs: Vec<Option<KeyValue>> = entries.iter().map(|entry| self.cache.get(entry)).collect();
        let missing: Vec<usize> = (0..kvs.len()).filter(|place| kvs[*place].is_none()).collect();
        if !missing.is_empty() {
            let ids: Vec<VersionId> = missing.iter().map(|place| entries[*place].head().id).collect();
            let bytes: usize = missing.iter().map(|place| entries[*place].head().value_len as usize).sum();
            let keeps = self.walked_bytes + bytes <= self.cache.share_of_a_read();
            for (place, record) in missing.into_iter().zip(self.records.get_many(&ids)?) {
                let entry = entries[place];
                let record = record.ok_or_else(|| self.lost(at, entry.head().id))?;
                if keeps {
                    self.cache.hold(entry, record.kv.clone());
                }
                kvs[place] = Some(record.kv);
            }
        }
        Ok(kvs.into_iter().flatten().collect())
    }

    /// The keys of `range` that live at `at`, in key order: at most `max_keys`, and no further key once they
    /// have `max_bytes`. Also tells whether there are more.
    pub(super) fn collect(
        &self,
        range: &KeyRange,
        at: Revision,
        max_keys: usize,
        max_bytes: usize,
    ) -> Result<(Vec<Found>, bool)> {
        let mut found = Vec::new();
        let mut bytes = 0usize;
        let mut take = |item: Found| {
            if found.len() >= max_keys || bytes >= max_bytes {
                return false;
            }
            bytes += item.key().len() + item.value_len() + super::RECORD_FRAME_BYTES;
            found.push(item);
            true
        };
        if at >= self.revision {
            for entry in self.root.range(range).filter(|entry| entry.is_live()) {
                if !take(Found::Newest(entry.clone())) {
                    return Ok((found, true));
                }
            }
            return Ok((found, false));
        }
        let mut entries = self.root.range(range);
        let chunk_len = max_keys.saturating_add(1).clamp(RESOLVE_CHUNK_MIN, RESOLVE_CHUNK);
        loop {
            let chunk: Vec<&Arc<Entry>> = entries.by_ref().take(chunk_len).collect();
            if chunk.is_empty() {
                return Ok((found, false));
            }
            for item in self.resolve(&chunk, at, true)?.into_iter().flatten() {
                if !take(item) {
                    return Ok((found, true));
                }
            }
        }
    }

    /// For each entry the key's version at `at`, or `None` where the key did not exist then. With `exact`
    /// false any version stands for "it existed".
    pub(super) fn resolve(
        &self,
        entries: &[&Arc<Entry>],
        at: Revision,
        exact: bool,
    ) -> Result<Vec<Option<Found>>> {
        let mut found: Vec<Option<Found>> = vec![None; entries.len()];
        let mut open: Vec<(usize, VersionId)> = Vec::new();
        for (place, entry) in entries.iter().enumerate() {
            let head = entry.head();
            if head.id.revision <= at || (!exact && head.is_live() && head.create_revision <= at) {
                found[place] = head.is_live().then(|| Found::Newest(Arc::clone(entry)));
            } else {
                // A put that began a life has a tombstone before it, any other version a put.
                let follows_life = !head.is_live() || head.version > 1;
                open.extend(step(head.previous, follows_life, at).map(|id| (place, id)));
            }
        }
        let span = (self.revision.get() - at.get()) as usize;
        let mut reads = 0;
        while !open.is_empty() {
            if reads > RESOLVE_CHUNK && reads * SCANNED_PER_POINT_READ > span {
                open = self.resolve_in_time_order(entries, open, at)?;
            }
            reads += open.len();
            let ids: Vec<VersionId> = open.iter().map(|(_, id)| *id).collect();
            let mut next = Vec::new();
            for ((place, id), record) in open.into_iter().zip(self.records.get_many(&ids)?) {
                let record = record.ok_or_else(|| self.lost(at, id))?;
                let lived = record.kind != RecordKind::Delete
                    && (id.revision <= at || (!exact && record.kv.create_revision <= at));
                if lived {
                    found[place] = Some(Found::Past(record.kv));
                } else if id.revision > at {
                    let further = step(record.previous, record.kind.follows_life(), at);
                    next.extend(further.map(|id| (place, id)));
                }
            }
            open = next;
        }
        Ok(found)
    }

    /// Finds where the open pointers end by walking the changes behind `at`: each key's first change there
    /// names its version at `at`.
    fn resolve_in_time_order(
        &self,
        entries: &[&Arc<Entry>],
        open: Vec<(usize, VersionId)>,
        at: Revision,
    ) -> Result<Vec<(usize, VersionId)>> {
        let last = open.iter().map(|(_, id)| id.revision).max().unwrap_or(at);
        let mut places: HashMap<&[u8], usize> =
            open.iter().map(|(place, _)| (entries[*place].key(), *place)).collect();
        let mut ends = Vec::new();
        self.changes(at, last, |_, key, kind, previous| {
            if let Some(place) = places.remove(key) {
                ends.extend(step(previous, kind.follows_life(), at).map(|id| (place, id)));
            }
            if places.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        // Keys without a change in between are still at the pointer they came with.
        ends.extend(open.iter().filter(|(place, _)| places.contains_key(entries[*place].key())));
        Ok(ends)
    }

    /// Visits the changes after revision `after` up to revision `to`.
    pub(super) fn changes(
        &self,
        after: Revision,
        to: Revision,
        mut visit: impl FnMut(VersionId, &[u8], RecordKind, VersionId) -> ControlFlow<()>,
    ) -> Result<()> {
        let from = VersionId::new(after.next(), SubRevision::new(0));
        self.records.scan(from, to, |id, record| {
            let key = record.key().ok_or_else(|| damaged_record(id))?;
            Ok(visit(id, key, record.kind, record.previous))
        })?;
        let floor = self.floor_now();
        if floor > after {
            return Err(Error::Compacted { floor }); // The walk may have missed what compaction removed.
        }
        Ok(())
    }
}

/// Where to look on, coming from a version behind `at`. `None`: the key did not exist at `at`.
fn step(previous: VersionId, follows_life: bool, at: Revision) -> Option<VersionId> {
    let is_tombstone_at = previous.revision <= at && !follows_life;
    (!previous.is_none() && !is_tombstone_at).then_some(previous)
}
