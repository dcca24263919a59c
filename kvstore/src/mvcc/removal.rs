//! Removing what compaction has made unreadable, in the background and in bounded steps.
//!
//! A *walk* goes from the floor of the walk before (`base`) to a newer one (`target`), both inclusive, in time
//! order. For each record:
//! - above `base`, and not the beginning of a life: the version before it is dead;
//! - below `target`, and a tombstone: it is dead itself, and so is its head if no newer version took its place.
//!
//! A tombstone exactly at the floor stays, since a watch that starts there must still see it; it is the reason
//! why the next walk begins at its `base` again. Each dead version is thus named exactly once over all walks,
//! which keeps the count of live bytes exact.
//!
//! A step reads with the engine alone, on any thread ([`RemovalScan::run`]); the writer then removes what the
//! step found, and stores how far it came in the same batch. After a crash the walk goes on from there.

use super::keys::{self, RecordKind};
use super::records::{Records, damaged_record};
use super::{live_bytes_of, versions::Versions};
use crate::storage::{Batch, Engine, Family};
use crate::types::{Error, KeyspaceId, Result, Revision, SubRevision, VersionId};
use bytes::{Bytes, BytesMut};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Bounds one step of a removal. What is left is the next step's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemovalLimits {
    /// Records visited: bounds the deletes in one engine batch, and with them how long the writer is held up.
    pub max_records: usize,
    /// Bytes visited: bounds how long one step reads.
    pub max_bytes: usize,
}

impl Default for RemovalLimits {
    /// 1000 records (etcd's batch) or 4 MiB: some milliseconds of reading, below one of deleting.
    fn default() -> Self {
        Self { max_records: 1000, max_bytes: 4 << 20 }
    }
}

/// How far removal has come. Stored with each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Progress {
    /// The floor that the last finished walk removed up to.
    pub(super) base: Revision,
    /// The floor that the present walk goes to; `base` when there is none.
    pub(super) target: Revision,
    /// The last record that the present walk has done; none at its beginning.
    pub(super) position: VersionId,
}

impl Progress {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(28);
        out.extend_from_slice(&self.base.get().to_be_bytes());
        out.extend_from_slice(&self.target.get().to_be_bytes());
        keys::put_id(&mut out, self.position);
        out.freeze()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == 28).then(|| Self {
            base: Revision::new(keys::read_i64(bytes)),
            target: Revision::new(keys::read_i64(&bytes[8..])),
            position: keys::read_id(&bytes[16..]),
        })
    }

    fn is_walking(&self) -> bool {
        self.target > self.base
    }
}

/// A step to be done: reads only, from any thread.
pub struct RemovalScan {
    engine: Arc<dyn Engine>,
    keyspace: KeyspaceId,
    from: Progress,
}

/// What a step found, for [`Versions::apply_removal`].
#[derive(Debug)]
pub struct Removal {
    from: Progress,
    to: Progress,
    dead: Vec<VersionId>,
    /// Dead themselves, and perhaps still heads.
    tombstones: Vec<(VersionId, Box<[u8]>)>,
    freed_bytes: u64,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemovalProgress {
    /// Versions removed in this step.
    pub removed_versions: usize,
    /// By how much the live bytes sank.
    pub freed_bytes: u64,
    /// Everything unreadable below this floor is gone.
    pub removed_below: Revision,
    /// Whether this step finished its walk (a newer floor may have come meanwhile).
    pub is_finished: bool,
}

impl RemovalScan {
    /// Finds the dead versions of the next stretch.
    pub fn run(self, limits: RemovalLimits) -> Result<Removal> {
        let Progress { base, target, position } = self.from;
        let mut removal = Removal {
            from: self.from,
            to: self.from,
            dead: Vec::new(),
            tombstones: Vec::new(),
            freed_bytes: 0,
        };
        let start = if position.is_none() {
            VersionId::new(base, SubRevision::new(0))
        } else {
            VersionId::new(position.revision, position.sub.next())
        };
        let (mut records, mut bytes, mut is_cut) = (0, 0, false);
        let source = Records { engine: &*self.engine, keyspace: self.keyspace, unwritten: &[] };
        source.scan(start, target, |id, record| {
            if records >= limits.max_records.max(1) || bytes >= limits.max_bytes {
                is_cut = true;
                return Ok(ControlFlow::Break(()));
            }
            records += 1;
            bytes += record.encoded.len();
            let key = record.key().ok_or_else(|| damaged_record(id))?;
            if id.revision > base && record.kind.follows_life() {
                removal.dead.push(record.previous);
                removal.freed_bytes += live_bytes_of(key.len(), record.previous_value_len as usize);
            }
            if id.revision < target && record.kind == RecordKind::Delete {
                removal.tombstones.push((id, key.into()));
                removal.freed_bytes += live_bytes_of(key.len(), 0);
            }
            removal.to.position = id;
            Ok(ControlFlow::Continue(()))
        })?;
        if !is_cut {
            removal.to = Progress { base: target, target, position: VersionId::NONE };
        }
        Ok(removal)
    }
}

impl Versions {
    /// The next step of removal, if anything is left to remove. One at a time: a second one taken before the
    /// first is applied finds the same and is then ignored.
    pub fn next_removal(&self) -> Option<RemovalScan> {
        let mut from = self.removed;
        if !from.is_walking() {
            // The published floor, not the writer's: readers may still be above an unpublished one.
            from.target = self.shared().floor().max(from.base);
        }
        let scan =
            || RemovalScan { engine: self.shared().engine.clone(), keyspace: self.shared().keyspace, from };
        from.is_walking().then(scan)
    }

    /// Removes what a step found. The caller writes `batch` and publishes.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when more bytes would be freed than are accounted for: the state is damaged.
    pub fn apply_removal(&mut self, removal: Removal, batch: &mut Batch) -> Result<RemovalProgress> {
        let is_next = removal.from.base == self.removed.base
            && removal.from.position == self.removed.position
            && (removal.from.target == self.removed.target || !self.removed.is_walking());
        if !is_next {
            return Ok(self.progress(0, 0, false));
        }
        let keyspace = self.shared().keyspace;
        for id in removal.dead.iter().chain(removal.tombstones.iter().map(|(id, _)| id)) {
            let key = Bytes::copy_from_slice(&keys::revision_key(keyspace, *id));
            batch.delete(Family::Revisions, key);
        }
        for (id, key) in &removal.tombstones {
            if self.index.get(key).is_some_and(|entry| entry.head().id == *id) {
                self.index.remove(key);
                batch.delete(Family::Heads, keys::head_key(keyspace, key));
            }
        }
        self.live_bytes = self.live_bytes.checked_sub(removal.freed_bytes).ok_or_else(|| {
            Error::Poisoned("compaction frees more bytes than the keyspace holds".to_owned())
        })?;
        self.removed = removal.to;
        let meta = Bytes::copy_from_slice(&keys::meta_key(keys::META_REMOVED, keyspace));
        batch.put(Family::Meta, meta, self.removed.encode());
        self.store_counters(batch);
        self.mark_changed();
        let versions = removal.dead.len() + removal.tombstones.len();
        Ok(self.progress(versions, removal.freed_bytes, !removal.to.is_walking()))
    }

    /// Everything unreadable below this floor is gone from the engine.
    pub fn removed_below(&self) -> Revision {
        self.removed.base
    }

    fn progress(&self, removed_versions: usize, freed_bytes: u64, is_finished: bool) -> RemovalProgress {
        RemovalProgress { removed_versions, freed_bytes, removed_below: self.removed.base, is_finished }
    }
}
