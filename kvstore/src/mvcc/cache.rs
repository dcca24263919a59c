//! The value cache: which entries may keep their value's bytes in memory.
//!
//! The bytes sit in the entry's own slot, so a hit is a lock of that one entry and no lookup. The cache keeps
//! a ring of weak references in the order of arrival and gives a value that was used a second chance before
//! it goes ("CLOCK").
//!
//! Invariants:
//! - [`ValueCache::bytes`] never exceeds the bound, not for a moment: room is made before a value is counted;
//! - a value is counted from `hold` until it is evicted or its entry dies, whichever comes first (the count is
//!   released by a destructor, it cannot be forgotten);
//! - pinned values (not yet in the engine) are not counted and never evicted;
//! - the ring has at most about `3 × counted values + RING_SLACK` places, however often one key is
//!   overwritten (beyond `2 ×` each `hold` takes more dead places away than it adds);
//! - no `hold` walks the whole ring.
//!
//! Deliberately missing: hit counters (a shared line that every reader would write to).

use super::entry::Entry;
use crate::types::KeyValue;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// Bytes that a cached value costs beside its encoded record: the box (104 with the allocator's share), the
/// shared buffer's header and spare capacity (about 110), and its places in the ring.
pub const VALUE_OVERHEAD_BYTES: usize = 232;

/// Places in the ring that may be dead, beside as many as there are counted values, before a walk begins.
const RING_SLACK: usize = 1024;

/// Places that one `hold` looks at while too many are dead. More than the one it adds, so that the walk wins;
/// few, so that no `hold` takes long.
const RING_STEPS: usize = 4;

/// Second chances that one `hold` gives before it evicts used values too, for the same reason.
const SECOND_CHANCES_MAX: usize = 64;

/// What the counted values cost together.
#[derive(Default)]
struct Usage {
    bytes: AtomicUsize,
    values: AtomicUsize,
}

/// A counted value's share of the bound; gives it back when dropped.
struct Charge {
    usage: Arc<Usage>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.usage.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.usage.values.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A value in an entry's slot: pinned (no charge) or counted.
pub(super) struct Held {
    kv: KeyValue,
    charge: Option<Charge>,
}

impl Held {
    pub(super) fn pinned(kv: KeyValue) -> Self {
        Self { kv, charge: None }
    }
    pub(super) fn kv(&self) -> &KeyValue {
        &self.kv
    }
    pub(super) fn is_counted(&self) -> bool {
        self.charge.is_some()
    }
}

/// Bounds the bytes of values that entries keep in memory.
pub struct ValueCache {
    bound_bytes: usize,
    usage: Arc<Usage>,
    ring: Mutex<VecDeque<Weak<Entry>>>,
}

impl ValueCache {
    /// A cache of at most `bound_bytes` (overheads of [`VALUE_OVERHEAD_BYTES`] per value included). 0: none.
    pub fn new(bound_bytes: usize) -> Arc<Self> {
        Arc::new(Self { bound_bytes, usage: Arc::default(), ring: Mutex::default() })
    }

    /// Keeps `kv`, the value of `entry`, until there is no room for it; a pinned value becomes evictable.
    /// A value larger than the whole bound is not kept.
    pub fn hold(&self, entry: &Arc<Entry>, kv: KeyValue) {
        debug_assert_eq!(entry.key(), kv.key()); // One more walk over the key per write.
        let bytes = kv.encoded().len() + VALUE_OVERHEAD_BYTES;
        let mut ring = self.ring.lock();
        if entry.slot().is_counted() {
            return; // Two readers missed at once; the other one's value is the same.
        }
        if bytes > self.bound_bytes {
            drop(ring);
            entry.slot().clear();
            return;
        }
        self.make_room(&mut ring, bytes);
        self.usage.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.usage.values.fetch_add(1, Ordering::Relaxed);
        entry.slot().put(Held { kv, charge: Some(Charge { usage: self.usage.clone(), bytes }) });
        entry.slot().take_used();
        ring.push_back(Arc::downgrade(entry));
        self.sweep(&mut ring);
    }

    /// The value of `entry`, if it is in memory. Takes no lock but the entry's own.
    pub fn get(&self, entry: &Entry) -> Option<KeyValue> {
        entry.slot().get()
    }

    /// What one read may bring in, in bytes. A walk over everything would push everything else out, and would take the
    /// ring's lock, which the writer needs, a million times.
    pub(super) fn share_of_a_read(&self) -> usize {
        self.bound_bytes / 2
    }

    /// Bytes that count against the bound now.
    pub fn bytes(&self) -> usize {
        self.usage.bytes.load(Ordering::Relaxed)
    }

    /// Values that count against the bound now.
    pub fn values(&self) -> usize {
        self.usage.values.load(Ordering::Relaxed)
    }

    /// The bound.
    pub fn bound_bytes(&self) -> usize {
        self.bound_bytes
    }

    /// Evicts until `bytes` more fit. Counts only grow under the ring's lock, which the caller holds.
    fn make_room(&self, ring: &mut VecDeque<Weak<Entry>>, bytes: usize) {
        let mut second_chances = SECOND_CHANCES_MAX;
        while self.bytes() + bytes > self.bound_bytes {
            // Every counted value has a place in the ring, unless its entry is dying on another thread
            // right now and its charge is about to be returned.
            let Some(place) = ring.pop_front() else {
                std::thread::yield_now();
                continue;
            };
            let Some(entry) = place.upgrade() else { continue };
            if second_chances > 0 && entry.slot().take_used() {
                second_chances -= 1;
                ring.push_back(place);
            } else {
                entry.slot().evict();
            }
        }
    }

    /// Walks a few places further and drops the dead ones, once they outnumber the living. The living go to
    /// the end: the hand of the clock moves on without taking anything.
    fn sweep(&self, ring: &mut VecDeque<Weak<Entry>>) {
        for _ in 0..RING_STEPS {
            if ring.len() <= 2 * self.values() + RING_SLACK {
                return;
            }
            if let Some(place) = ring.pop_front()
                && place.strong_count() > 0
            {
                ring.push_back(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::entry::Head;
    use crate::types::{LeaseId, Revision, SubRevision, VersionId};

    fn entry(key: &str, revision: i64, value_len: usize) -> (Arc<Entry>, KeyValue) {
        let at = Revision::new(revision);
        let head = Head {
            id: VersionId::new(at, SubRevision::new(0)),
            create_revision: at,
            version: 1,
            lease: LeaseId::NONE,
            previous: VersionId::NONE,
            value_len: value_len as u32,
        };
        let kv = KeyValue::new(key.as_bytes(), &vec![b'v'; value_len], at, at, 1, LeaseId::NONE);
        (Entry::new(key.as_bytes(), head), kv)
    }

    fn cost(kv: &KeyValue) -> usize {
        kv.encoded().len() + VALUE_OVERHEAD_BYTES
    }

    #[test]
    fn the_bound_is_kept_and_the_used_survive() {
        let (_, sample) = entry("key-000", 100, 100);
        let cache = ValueCache::new(10 * cost(&sample));
        let hot = entry("key-hot", 100, 100);
        cache.hold(&hot.0, hot.1.clone());
        let mut all = Vec::new();
        for number in 0..100 {
            let (entry, kv) = entry(&format!("key-{number:03}"), 100, 100);
            cache.hold(&entry, kv);
            assert!(cache.bytes() <= cache.bound_bytes());
            assert_eq!(cache.get(&hot.0), Some(hot.1.clone()), "read all the time, must stay");
            all.push(entry);
        }
        assert_eq!(cache.values(), 10);
        assert_eq!(all.iter().filter(|entry| cache.get(entry).is_some()).count(), 9);
        assert!(cache.get(all.last().unwrap()).is_some());
    }

    #[test]
    fn pinned_values_are_not_counted_until_held() {
        let (entry, kv) = entry("a", 2, 10);
        let cache = ValueCache::new(10_000);
        entry.pin(kv.clone());
        assert_eq!((cache.bytes(), cache.get(&entry)), (0, Some(kv.clone())));
        cache.hold(&entry, kv.clone());
        assert_eq!((cache.bytes(), cache.values()), (cost(&kv), 1));
        cache.hold(&entry, kv.clone());
        assert_eq!((cache.bytes(), cache.values()), (cost(&kv), 1), "held twice, counted once");
        drop(entry);
        assert_eq!((cache.bytes(), cache.values()), (0, 0));
    }

    #[test]
    fn a_value_above_the_bound_is_let_go() {
        let (entry, kv) = entry("a", 2, 1000);
        let cache = ValueCache::new(500);
        entry.pin(kv.clone());
        cache.hold(&entry, kv);
        assert_eq!((cache.bytes(), cache.get(&entry)), (0, None));
    }

    #[test]
    fn a_key_overwritten_for_ever_does_not_grow_the_ring() {
        let cache = ValueCache::new(1 << 20);
        let mut newest = None;
        for revision in 2..50_000 {
            let (entry, kv) = entry("a", revision, 10);
            cache.hold(&entry, kv);
            newest = Some(entry);
        }
        assert!(cache.get(newest.as_ref().unwrap()).is_some());
        assert_eq!(cache.values(), 1);
        let ring = cache.ring.lock();
        // Two are alive when the next is held: the old one is dropped afterwards.
        assert!(ring.len() <= 3 * 2 + RING_SLACK && ring.capacity() <= 8 * RING_SLACK, "{}", ring.len());
    }

    #[test]
    fn the_ring_stays_small_among_many_living() {
        let cache = ValueCache::new(usize::MAX);
        let mut entries: Vec<_> = (0..5_000).map(|n| entry(&format!("key-{n}"), 2, 10)).collect();
        for (entry, kv) in &entries {
            cache.hold(entry, kv.clone());
        }
        for round in 0..100_000 {
            // Some keys are overwritten often, the first ones never: they stand in the walk's way.
            let place = 2_500 + round * 7919 % 2_500;
            entries[place] = entry(&format!("key-{place}"), round as i64 + 3, 10);
            cache.hold(&entries[place].0, entries[place].1.clone());
            let places = cache.ring.lock().len();
            assert!(places <= 3 * entries.len() + RING_SLACK, "{places} places after {round} rounds");
        }
        assert_eq!(cache.values(), entries.len());
        assert!(entries.iter().all(|(entry, kv)| cache.get(entry).as_ref() == Some(kv)));
    }

    #[test]
    fn many_threads_keep_the_bound() {
        let cache = ValueCache::new(20_000);
        let shared: Vec<_> = (0..64).map(|n| entry(&format!("shared-{n}"), 2, 200)).collect();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (cache, shared) = (&cache, &shared);
                scope.spawn(move || {
                    for round in 0..2_000 {
                        let (old, kv) = &shared[(round * 7 + thread * 13) % shared.len()];
                        match cache.get(old) {
                            Some(found) => assert_eq!(&found, kv),
                            None => cache.hold(old, kv.clone()),
                        }
                        let (fresh, kv) = entry(&format!("own-{thread}"), round as i64 + 2, 100);
                        cache.hold(&fresh, kv);
                        assert!(cache.bytes() <= cache.bound_bytes());
                    }
                });
            }
        });
        drop(shared);
        assert_eq!((cache.bytes(), cache.values()), (0, 0));
    }
}
