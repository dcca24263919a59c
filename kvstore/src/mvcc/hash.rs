//! The hash of a keyspace's history, by etcd's algorithm, so that members can be compared with each other and
//! with an etcd that holds the same data.
//!
//! CRC-32C over the word "key" and, in time order, each record's 17-byte name and its wire form. Of the records
//! up to the floor only those count that are their key's version at the hashed revision; a tombstone exactly
//! at the floor never counts. What compaction has physically removed so far makes no difference.

use super::keys::{RecordKind, RecordView, TAG_KEY};
use super::reader::{Reader, Snapshot};
use super::records::damaged_record;
use crate::command::ReadAt;
use crate::types::record::put_varint;
use crate::types::{Error, KeyRange, Result, Revision, SubRevision, VersionId};
use std::collections::HashMap;
use std::ops::ControlFlow;

/// How often the walk begins again because a compaction changed the floor under it.
const ATTEMPTS_MAX: usize = 16;

/// The result of [`Reader::hash_kv`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// The hash.
    pub hash: u32,
    /// The floor it was computed above; `None` when nothing was ever compacted (etcd's −1).
    pub compact_revision: Option<Revision>,
    /// Up to which revision.
    pub hash_revision: Revision,
    /// The store's revision.
    pub current: Revision,
}

impl Reader {
    /// The hash up to revision `at`, or up to the present. Reads every record of the keyspace: call it where
    /// a long computation disturbs nobody.
    pub fn hash_kv(&self, at: Option<Revision>) -> Result<HashKv> {
        let at = at.map_or(ReadAt::Latest, ReadAt::Revision);
        let mut attempts = 1;
        loop {
            let snapshot = self.snapshot();
            let revision = snapshot.view().read_at(at)?;
            match snapshot.hash_at(revision) {
                // The floor moved on; `at` itself may still be readable.
                Err(Error::Compacted { .. }) if attempts < ATTEMPTS_MAX => attempts += 1,
                result => {
                    return Ok(HashKv {
                        hash: result?,
                        compact_revision: snapshot.published.floor,
                        hash_revision: revision,
                        current: snapshot.revision(),
                    });
                }
            }
        }
    }
}

impl Snapshot {
    fn hash_at(&self, at: Revision) -> Result<u32> {
        let view = self.view();
        // With nothing alive at `at`, etcd keeps what the floor keeps.
        let kept_at = if view.count(&KeyRange::all(), at)? > 0 { at } else { view.floor };
        let mut changed: HashMap<Box<[u8]>, Option<VersionId>> = HashMap::new();
        if kept_at < view.revision {
            view.changes(kept_at, view.revision, |_, key, kind, previous| {
                if !changed.contains_key(key) {
                    changed.insert(key.into(), kind.follows_life().then_some(previous));
                }
                ControlFlow::Continue(())
            })?;
        }
        let is_kept = |key: &[u8], id: VersionId| match changed.get(key) {
            Some(version) => *version == Some(id),
            None => view.root.get(key).is_some_and(|entry| entry.is_live() && entry.head().id == id),
        };
        let never_compacted = self.published.floor.is_none();
        let mut hash = crc32c::crc32c(b"key");
        let mut buffer = Vec::new();
        let mut started = false;
        let start = VersionId::new(Revision::NONE, SubRevision::new(0));
        view.records.scan(start, at, |id, record| {
            if !started {
                self.check_floor_is_still(view.floor)?;
                started = true;
            }
            // A tombstone is never what is kept.
            let counts = never_compacted
                || id.revision > view.floor
                || is_kept(record.key().ok_or_else(|| damaged_record(id))?, id);
            if counts {
                hash = crc32c::crc32c_append(hash, bytes_of(&mut buffer, id, &record)?);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        self.check_floor_is_still(view.floor)?;
        Ok(hash)
    }

    fn check_floor_is_still(&self, floor: Revision) -> Result<()> {
        let now = self.shared.floor();
        if now == floor { Ok(()) } else { Err(Error::Compacted { floor: now }) }
    }
}

/// What a record adds to the hash. etcd stores a tombstone's key alone, without its revision.
fn bytes_of<'b>(buffer: &'b mut Vec<u8>, id: VersionId, record: &RecordView<'_>) -> Result<&'b [u8]> {
    buffer.clear();
    buffer.extend_from_slice(&id.revision.get().to_be_bytes());
    buffer.push(b'_');
    buffer.extend_from_slice(&u64::from(id.sub.get()).to_be_bytes());
    if record.kind == RecordKind::Delete {
        let key = record.key().ok_or_else(|| damaged_record(id))?;
        buffer.push(b't');
        buffer.push(TAG_KEY);
        put_varint(buffer, key.len() as u64);
        buffer.extend_from_slice(key);
    } else {
        buffer.extend_from_slice(record.encoded);
    }
    Ok(buffer)
}
