//! The writer's side of a keyspace. One thread owns it; what it does becomes visible with `publish`.

use super::cache::ValueCache;
use super::count::Deltas;
use super::entry::{Entry, Head};
use super::event::{Event, EventKind, Previous};
use super::index::{Index, Root};
use super::keys::{self, RecordKind};
use super::live_bytes_of;
use super::reader::{Reader, Shared};
use super::records::{Records, engine_failed};
use super::removal::Progress;
use super::view::View;
use super::window::{Published, Window};
use crate::command::{RangeQuery, RangeResult};
use crate::storage::{Batch, Change, Engine, Family};
use crate::types::{Error, KeyValue, KeyspaceId, LeaseId, Result, Revision, VersionId};
use bytes::{Bytes, BytesMut};
use std::ops::ControlFlow;
use std::sync::Arc;

/// The versions of one keyspace, for the one who writes them.
///
/// A turn: any number of revisions (`put`, `delete`, … then `finish_revision`), all into one batch; the caller
/// gives that batch to the engine; then `publish`.
pub struct Versions {
    shared: Arc<Shared>,
    pub(super) index: Index,
    revision: Revision,
    /// The revision of the newest write: one ahead of `revision` inside a transaction that has written.
    written: Revision,
    /// `None`: nothing was ever compacted.
    floor: Option<Revision>,
    pub(super) live_bytes: u64,
    pub(super) removed: Progress,
    /// Since the last publication: the records, ascending, and the entries whose values are pinned.
    unwritten: Vec<(VersionId, Bytes)>,
    pinned: Vec<(Arc<Entry>, KeyValue)>,
    is_changed: bool,
    /// Whether the index is taken from the readers to be changed, and whether it is now.
    takes_back: bool,
    has_taken: bool,
    /// Where the counters stand in the batch of this turn: there is no need to write them twice.
    counters_at: usize,
}

impl Versions {
    /// Opens a keyspace: rebuilds the index from the heads; no value is read.
    pub fn load(keyspace: KeyspaceId, engine: Arc<dyn Engine>, cache: Arc<ValueCache>) -> Result<Versions> {
        let meta = |tag| engine.get(Family::Meta, &keys::meta_key(tag, keyspace)).map_err(engine_failed);
        let (revision, live_bytes) = match meta(keys::META_COUNTERS)? {
            None => (Revision::FIRST, 0),
            Some(bytes) if bytes.len() == 16 => {
                (Revision::new(keys::read_i64(&bytes)), keys::read_i64(&bytes[8..]) as u64)
            }
            Some(_) => return Err(damaged("the counters")),
        };
        let floor = match meta(keys::META_FLOOR)? {
            None => None,
            Some(bytes) if bytes.len() == 8 => Some(Revision::new(keys::read_i64(&bytes))),
            Some(_) => return Err(damaged("the compaction floor")),
        };
        let removed = match meta(keys::META_REMOVED)? {
            None => Progress::default(),
            Some(bytes) => Progress::decode(&bytes).ok_or_else(|| damaged("the removal's progress"))?,
        };
        let index = load_index(keyspace, &*engine, revision)?;
        let window = Window::new(Published::new(index.root(), revision, floor));
        Ok(Versions {
            shared: Arc::new(Shared { keyspace, engine, cache, window, deltas: Deltas::default() }),
            index,
            revision,
            written: revision,
            floor,
            live_bytes,
            removed,
            unwritten: Vec::new(),
            pinned: Vec::new(),
            is_changed: false,
            takes_back: false,
            has_taken: false,
            counters_at: usize::MAX,
        })
    }

    /// From now on the index is changed in place where no reader has it: cheaper, but from the first write of a turn to
    /// its publication a reader that wants a snapshot has to wait. For a writer that shares its thread with most readers:
    /// none of them may run on that thread in between.
    pub fn change_in_place(&mut self) {
        self.takes_back = true;
    }

    /// The newest finished revision, published or not; [`Revision::FIRST`] when nothing was ever written.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest readable revision; [`Revision::NONE`] when nothing was compacted.
    pub fn floor(&self) -> Revision {
        self.floor.unwrap_or(Revision::NONE)
    }

    /// What the retained versions cost, see [`live_bytes_of`].
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// The newest version of `key`, tombstones included; sees the running transaction.
    pub fn head(&self, key: &[u8]) -> Option<&Arc<Entry>> {
        self.index.get(key)
    }

    /// All newest versions, tombstones included, the running transaction's among them.
    pub fn heads(&self) -> &Root {
        &self.index
    }

    /// Writes `key` in the revision and at the position `at`, which must be behind all earlier ones.
    pub fn put(
        &mut self,
        at: VersionId,
        key: &[u8],
        value: &[u8],
        lease: LeaseId,
        batch: &mut Batch,
    ) -> Arc<Event> {
        let before = self.index.get(key).cloned();
        let living = before.as_ref().filter(|entry| entry.is_live());
        let (kind, create_revision, version) = match living {
            Some(entry) => (RecordKind::Overwrite, entry.head().create_revision, entry.head().version + 1),
            None => (RecordKind::Create, at.revision, 1),
        };
        let kv = KeyValue::new(key, value, create_revision, at.revision, version, lease);
        let head = Head {
            id: at,
            create_revision,
            version,
            lease,
            previous: VersionId::NONE,
            value_len: value.len() as u32,
        };
        let previous = living.map_or_else(Previous::none, Previous::replaced);
        self.write(kind, head, before.as_deref(), &kv, batch);
        Event::new(EventKind::Put, kv, at, previous)
    }

    /// Deletes `key` if it lives.
    pub fn delete(&mut self, at: VersionId, key: &[u8], batch: &mut Batch) -> Option<Arc<Event>> {
        let before = self.index.get(key).filter(|entry| entry.is_live())?.clone();
        let kv = KeyValue::new(key, b"", Revision::NONE, at.revision, 0, LeaseId::NONE);
        let head = Head {
            id: at,
            create_revision: Revision::NONE,
            version: 0,
            lease: LeaseId::NONE,
            previous: VersionId::NONE,
            value_len: 0,
        };
        self.write(RecordKind::Delete, head, Some(&before), &kv, batch);
        Some(Event::new(EventKind::Delete, kv, at, Previous::replaced(&before)))
    }

    fn write(
        &mut self,
        kind: RecordKind,
        mut head: Head,
        before: Option<&Entry>,
        kv: &KeyValue,
        batch: &mut Batch,
    ) {
        let at = head.id;
        assert!(at.revision > self.revision, "revision {} is finished already", at.revision);
        assert!(self.unwritten.last().is_none_or(|(last, _)| *last < at), "versions are written in order");
        // A tombstone below the floor may or may not be removed by now; members must not differ in that.
        let floor = self.floor();
        let previous = before.map(Entry::head).filter(|head| head.is_live() || head.id.revision >= floor);
        head.previous = previous.map_or(VersionId::NONE, |previous| previous.id);
        if self.takes_back && !self.has_taken {
            self.has_taken = true;
            self.shared.window.take_back();
        }
        let keyspace = self.shared.keyspace;
        let record = keys::encode_record(kind, previous, kv);
        batch.put(
            Family::Revisions,
            Bytes::copy_from_slice(&keys::revision_key(keyspace, at)),
            record.clone(),
        );
        batch.put(Family::Heads, keys::head_key(keyspace, kv.key()), keys::encode_head(&head));
        self.unwritten.push((at, record));
        let entry = Entry::new(kv.key(), head);
        if head.is_live() {
            entry.pin(kv.clone());
            self.pinned.push((entry.clone(), kv.clone()));
        }
        self.index.insert(entry);
        self.live_bytes += live_bytes_of(kv.key().len(), head.value_len as usize);
        self.written = at.revision;
        self.is_changed = true;
    }

    /// Ends a revision that changed something.
    pub fn finish_revision(&mut self, revision: Revision, batch: &mut Batch) {
        assert!(
            revision == self.revision.next() && self.written == revision,
            "revision {revision} must have written, and follow {}",
            self.revision
        );
        self.revision = revision;
        self.store_counters(batch);
    }

    /// Moves the compaction floor, by etcd's rules. The versions below it go later, see `removal`.
    pub fn compact(&mut self, to: Revision, batch: &mut Batch) -> Result<()> {
        if let Some(floor) = self.floor
            && to <= floor
        {
            return Err(Error::Compacted { floor });
        }
        if to < Revision::NONE {
            // Below where etcd begins to count; a floor there would let later ones through twice.
            return Err(Error::Compacted { floor: Revision::NONE });
        }
        if to > self.revision {
            return Err(Error::FutureRevision { current: self.revision });
        }
        self.floor = Some(to);
        let key = Bytes::copy_from_slice(&keys::meta_key(keys::META_FLOOR, self.shared.keyspace));
        batch.put(Family::Meta, key, Bytes::copy_from_slice(&to.get().to_be_bytes()));
        self.is_changed = true;
        Ok(())
    }

    /// Executes `query` on what is written so far, by the running transaction too.
    pub fn read(&self, query: &RangeQuery) -> Result<RangeResult> {
        self.view().range(query)
    }

    /// The value of an entry that this keyspace's heads hold or held since the last publication.
    pub fn value_of(&self, entry: &Arc<Entry>) -> Result<KeyValue> {
        match self.shared.cache.get(entry) {
            Some(kv) => Ok(kv),
            None => {
                let mut kvs = self.view().values(&[entry], self.written)?;
                Ok(kvs.remove(0))
            }
        }
    }

    /// Shows readers everything up to here. Call it after the engine has the batch.
    pub fn publish(&mut self) {
        if !self.is_changed {
            return;
        }
        assert_eq!(self.written, self.revision, "a revision is half written");
        self.shared.window.show(Published::new(self.index.root(), self.revision, self.floor));
        self.has_taken = false;
        for (entry, kv) in self.pinned.drain(..) {
            self.shared.cache.hold(&entry, kv);
        }
        self.unwritten.clear();
        self.counters_at = usize::MAX;
        self.is_changed = false;
    }

    /// Reads what is published, from any thread.
    pub fn reader(&self) -> Reader {
        Reader { shared: self.shared.clone() }
    }

    fn view(&self) -> View<'_> {
        View {
            root: &self.index,
            revision: self.written,
            floor: self.floor(),
            records: Records { unwritten: &self.unwritten, ..self.shared.records() },
            cache: &self.shared.cache,
            reader: None,
            walked_bytes: 0,
        }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(super) fn mark_changed(&mut self) {
        self.is_changed = true;
    }

    /// Writes the counters, in the place of those that the batch has already.
    pub(super) fn store_counters(&mut self, batch: &mut Batch) {
        let key = keys::meta_key(keys::META_COUNTERS, self.shared.keyspace);
        let mut counters = BytesMut::with_capacity(16);
        counters.extend_from_slice(&self.revision.get().to_be_bytes());
        counters.extend_from_slice(&self.live_bytes.to_be_bytes());
        let counters = counters.freeze();
        if let Some(Change::Put { family: Family::Meta, key: there, value }) =
            batch.changes.get_mut(self.counters_at)
            && there[..] == key
        {
            *value = counters;
            return;
        }
        self.counters_at = batch.changes.len();
        batch.put(Family::Meta, Bytes::copy_from_slice(&key), counters);
    }
}

impl Drop for Versions {
    fn drop(&mut self) {
        self.shared.window.close();
    }
}

fn load_index(keyspace: KeyspaceId, engine: &dyn Engine, revision: Revision) -> Result<Index> {
    let mut entries: Vec<Arc<Entry>> = Vec::new();
    let mut bad = None;
    let (start, end) = (keys::keyspace_start(keyspace), keys::keyspace_end(keyspace));
    let mut visit = |key: &[u8], value: &[u8]| match (keys::parse_head_key(key), keys::decode_head(value)) {
        (Some(key), Some(head)) if head.id.revision <= revision => {
            entries.push(Entry::new(key, head));
            ControlFlow::Continue(())
        }
        _ => {
            bad = Some(format!("the head of key {:?}", String::from_utf8_lossy(&key[4.min(key.len())..])));
            ControlFlow::Break(())
        }
    };
    engine.scan(Family::Heads, &start, &end, false, &mut visit).map_err(engine_failed)?;
    match bad {
        Some(what) => Err(damaged(&what)),
        None => Ok(Index::from_sorted(entries.into_iter())),
    }
}

fn damaged(what: &str) -> Error {
    Error::Poisoned(format!("{what} cannot be read: the state is damaged"))
}
