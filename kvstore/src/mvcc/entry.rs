//! One key's newest version as the index holds it: metadata, and perhaps the value's bytes.

use super::cache::Held;
use crate::types::{KeyValue, LeaseId, Revision, VersionId};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Metadata of a key's newest version: everything that a compare or a count needs, without the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The version that this describes.
    pub id: VersionId,
    /// The revision in which the key's present life began.
    pub create_revision: Revision,
    /// How many times the key was written in its present life; 0 for a tombstone.
    pub version: i64,
    /// The lease that the key hangs on, or [`LeaseId::NONE`].
    pub lease: LeaseId,
    /// The version before this one; [`VersionId::NONE`] for the first.
    pub previous: VersionId,
    /// Bytes of the value.
    pub value_len: u32,
}

impl Head {
    /// Whether the key exists at this version (it is not a tombstone).
    pub fn is_live(&self) -> bool {
        self.version > 0
    }
}

/// A key and the head of its newest version. Never changes, but for the cached value in its slot: a new
/// version of the key is a new entry, so a reader that holds an old root keeps what it saw.
pub struct Entry {
    key: Box<[u8]>,
    head: Head,
    slot: CacheSlot,
}

impl Entry {
    /// Makes an entry without a cached value.
    pub fn new(key: impl Into<Box<[u8]>>, head: Head) -> Arc<Entry> {
        Arc::new(Entry { key: key.into(), head, slot: CacheSlot::default() })
    }
    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }
    /// The newest version's metadata.
    pub fn head(&self) -> &Head {
        &self.head
    }
    /// Whether the key exists (is not a tombstone).
    pub fn is_live(&self) -> bool {
        self.head.is_live()
    }
    /// Puts the value into the slot before the engine has it. It stays there until
    /// [`ValueCache::hold`](super::ValueCache::hold) takes it over; until then no bound counts it. For the
    /// writer, once, before anybody else has the entry.
    pub fn pin(&self, kv: KeyValue) {
        self.slot.put(Held::pinned(kv));
    }
    pub(super) fn slot(&self) -> &CacheSlot {
        &self.slot
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &String::from_utf8_lossy(&self.key))
            .field("head", &self.head)
            .finish()
    }
}

/// Where an entry's value is cached. The value is boxed, so that a million entries without one stay small.
#[derive(Default)]
pub(super) struct CacheSlot {
    value: Mutex<Option<Box<Held>>>,
    used: AtomicBool,
}

impl CacheSlot {
    /// The value, if it is here; marks it as used.
    pub(super) fn get(&self) -> Option<KeyValue> {
        let kv = self.value.lock().as_ref().map(|held| held.kv().clone())?;
        // Read before write: many readers of one hot key then share its cache line.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        Some(kv)
    }
    /// Whether the value is here and the cache already counts it.
    pub(super) fn is_counted(&self) -> bool {
        self.value.lock().as_ref().is_some_and(|held| held.is_counted())
    }
    /// Sets the value; the one before it, if any, is let go.
    pub(super) fn put(&self, held: Held) {
        let before = self.value.lock().replace(Box::new(held));
        drop(before);
    }
    /// Empties the slot.
    pub(super) fn clear(&self) {
        let before = self.value.lock().take();
        drop(before);
    }
    /// Empties the slot unless its value is pinned.
    pub(super) fn evict(&self) {
        let before = self.value.lock().take_if(|held| held.is_counted());
        drop(before);
    }
    /// Takes the mark of use away; tells whether it was there.
    pub(super) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SubRevision;

    #[test]
    fn a_tombstone_is_not_live() {
        let id = VersionId::new(Revision::new(7), SubRevision::new(0));
        let head = Head {
            id,
            create_revision: Revision::new(7),
            version: 1,
            lease: LeaseId::NONE,
            previous: VersionId::NONE,
            value_len: 3,
        };
        assert!(Entry::new(&b"a"[..], head).is_live());
        assert!(!Entry::new(&b"a"[..], Head { version: 0, ..head }).is_live());
    }

    #[test]
    fn a_pinned_value_is_there_at_once() {
        let head = Head {
            id: VersionId::NONE,
            create_revision: Revision::new(2),
            version: 1,
            lease: LeaseId::NONE,
            previous: VersionId::NONE,
            value_len: 1,
        };
        let entry = Entry::new(&b"a"[..], head);
        assert_eq!(entry.slot().get(), None);
        let kv = KeyValue::new(b"a", b"1", Revision::new(2), Revision::new(2), 1, LeaseId::NONE);
        entry.pin(kv.clone());
        assert_eq!(entry.slot().get(), Some(kv));
        assert!(!entry.slot().is_counted());
    }

    #[test]
    fn an_entry_stays_small() {
        // One million keys without cached values: at most 128 MiB beside the keys themselves.
        assert!(size_of::<Entry>() <= 112, "{} bytes", size_of::<Entry>());
    }
}
