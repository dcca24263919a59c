//! What a watcher gets: one change of one key, encoded once and shared by all who watch it.

use super::entry::Entry;
use super::reader::Reader;
use crate::types::record::{put_varint, varint_len};
use crate::types::{KeyValue, Result, Revision, VersionId};
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// What an event itself takes in memory beside the record: its fields, their allocations and two counters.
const EVENT_OVERHEAD_BYTES: usize = 320;

/// What happened to the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It was written.
    Put,
    /// It was deleted.
    Delete,
}

/// One change of one key.
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The new version; a delete's has key and mod revision only.
    pub kv: KeyValue,
    /// Names the change: events are ordered by it.
    pub version: VersionId,
    previous: Previous,
    /// The encoded event without and with the previous version.
    wire: [OnceLock<Bytes>; 2],
}

/// The version that the change replaced, as far as it is known without asking the engine.
pub(super) struct Previous {
    id: VersionId,
    value_len: u32,
    /// Of a live event: its value is most likely still in the entry.
    entry: Option<Arc<Entry>>,
    found: OnceLock<KeyValue>,
}

impl Previous {
    /// The key did not exist before.
    pub(super) fn none() -> Self {
        Self::stored(VersionId::NONE, 0)
    }
    /// A version that the engine has.
    pub(super) fn stored(id: VersionId, value_len: u32) -> Self {
        Self { id, value_len, entry: None, found: OnceLock::new() }
    }
    /// A version that was the newest until now.
    pub(super) fn replaced(entry: &Arc<Entry>) -> Self {
        let head = entry.head();
        Self { entry: Some(entry.clone()), ..Self::stored(head.id, head.value_len) }
    }
}

impl Event {
    pub(super) fn new(kind: EventKind, kv: KeyValue, version: VersionId, previous: Previous) -> Arc<Self> {
        Arc::new(Self { kind, kv, version, previous, wire: Default::default() })
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        self.kv.key()
    }

    /// The revision of the change.
    pub fn revision(&self) -> Revision {
        self.version.revision
    }

    /// Whether the key did not exist before.
    pub fn is_create(&self) -> bool {
        self.kind == EventKind::Put && self.kv.create_revision == self.kv.mod_revision
    }

    /// An upper estimate of the memory this event takes when it is encoded in both forms.
    pub fn memory_bytes(&self) -> usize {
        let previous = if self.previous.id.is_none() { 0 } else { self.previous.value_len as usize };
        EVENT_OVERHEAD_BYTES + 3 * self.kv.encoded().len() + 2 * previous
    }

    /// The version that was replaced: the key's at the revision before the event's, also if the event's revision has
    /// changed the key before. `None` for a create, when the key did not live then, and when that revision is below
    /// the compaction floor (etcd's rules, whatever is still in memory).
    ///
    /// Read when first asked for, then remembered. The answer changes when the floor passes, so who must not
    /// change its mind asks once.
    pub fn previous(&self, reader: &Reader) -> Result<Option<KeyValue>> {
        let before = self.revision().previous();
        if self.previous.id.is_none() || before < reader.floor() {
            return Ok(None);
        }
        if let Some(kv) = self.previous.found.get() {
            return Ok(Some(kv.clone()));
        }
        let known = self.previous.entry.as_ref().filter(|entry| entry.head().id.revision <= before);
        let known = known.and_then(|entry| reader.cached(entry));
        let kv = match known {
            Some(kv) => kv,
            None => match reader.version_before(self.previous.id, before)? {
                Some(kv) => kv,
                None => return Ok(None),
            },
        };
        Ok(Some(self.previous.found.get_or_init(|| kv).clone()))
    }

    /// The event in wire form: `type` 1 (omitted for a put), `kv` 2, `prev_kv` 3 if given.
    ///
    /// `previous` is what [`Event::previous`] told this watcher, or none. Whether it is to be seen is not asked
    /// again here: the floor may have moved since.
    pub fn wire(&self, previous: Option<&KeyValue>) -> Bytes {
        let slot = &self.wire[usize::from(previous.is_some())];
        slot.get_or_init(|| encode(self.kind, &self.kv, previous)).clone()
    }
}

fn encode(kind: EventKind, kv: &KeyValue, previous: Option<&KeyValue>) -> Bytes {
    const TAG_TYPE: u8 = 0x08;
    const TAG_KV: u8 = 0x12;
    const TAG_PREVIOUS: u8 = 0x1a;
    let field = |kv: &KeyValue| 1 + varint_len(kv.encoded().len() as u64) + kv.encoded().len();
    let mut out = BytesMut::with_capacity(2 + field(kv) + previous.map_or(0, field));
    if kind == EventKind::Delete {
        out.put_slice(&[TAG_TYPE, 1]);
    }
    for (tag, kv) in [(TAG_KV, Some(kv)), (TAG_PREVIOUS, previous)] {
        if let Some(kv) = kv {
            out.put_u8(tag);
            put_varint(&mut out, kv.encoded().len() as u64);
            out.put_slice(kv.encoded());
        }
    }
    out.freeze()
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("kind", &self.kind).field("kv", &self.kv).finish_non_exhaustive()
    }
}
