//! The places of one node: ordered by key, with a few bytes of each key beside them.
//!
//! A search that compared whole keys would visit one entry per step, each two cache misses away. So a node
//! keeps, in one array, eight bytes of every key from the first byte on in which its keys differ. A search
//! reads that array and then one or two entries: one to see that the skipped bytes are the same, one to see
//! that it is the key.

/// Most places in a node. Larger nodes make shallower trees, but the first write to a node after a snapshot
/// copies it, and each place copied is one reference count in memory that is likely cold.
pub(super) const PLACES_MAX: usize = 32;

/// One more than stays: a node is split after the insert that was too much.
const CAPACITY: usize = PLACES_MAX + 1;

/// What lies at a place and the key it is ordered by.
pub(super) trait Keyed {
    fn key(&self) -> &[u8];
}

/// Items in ascending key order.
#[derive(Debug)]
pub(super) struct Places<T> {
    items: Vec<T>,
    /// Bytes that all keys have in common; not necessarily all of them.
    skip: usize,
    /// For each item the [`hint`] of its key behind `skip`.
    hints: [u64; CAPACITY],
}

/// The next eight bytes of the key as a number, so that keys in order have hints in order (or equal ones).
fn hint(key: &[u8], skip: usize) -> u64 {
    let rest = &key[skip.min(key.len())..];
    match rest.first_chunk() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => rest.iter().enumerate().fold(0, |hint, (at, byte)| hint | u64::from(*byte) << (56 - 8 * at)),
    }
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { items: Vec::new(), skip: 0, hints: [0; CAPACITY] }
    }
}

// A copy is made to be written to: it gets the room for it at once.
impl<T: Clone> Clone for Places<T> {
    fn clone(&self) -> Self {
        let mut items = Vec::with_capacity(CAPACITY);
        items.extend_from_slice(&self.items);
        Self { items, skip: self.skip, hints: self.hints }
    }
}

impl<T> std::ops::Deref for Places<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T: Keyed> Places<T> {
    pub(super) fn new(items: Vec<T>) -> Self {
        let mut places = Self { items, ..Self::default() };
        places.renew();
        places
    }

    /// Where `key` is, or where it belongs.
    pub(super) fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let Some(first) = self.items.first() else { return Err(0) };
        let known = self.skip.min(key.len());
        match key[..known].cmp(&first.key()[..self.skip]) {
            std::cmp::Ordering::Less => return Err(0),
            std::cmp::Ordering::Greater => return Err(self.items.len()),
            std::cmp::Ordering::Equal => {}
        }
        let hint = hint(key, self.skip);
        let hints = &self.hints[..self.items.len()];
        let from = hints.partition_point(|place| *place < hint);
        let same = hints[from..].iter().take_while(|place| **place == hint).count();
        match self.items[from..from + same].binary_search_by(|item| item.key().cmp(key)) {
            Ok(at) => Ok(from + at),
            Err(at) => Err(from + at),
        }
    }

    pub(super) fn insert(&mut self, at: usize, item: T) {
        self.items.insert(at, item);
        let len = self.items.len();
        if at == 0 || at + 1 == len {
            self.renew(); // Keys between the ends have what the ends have in common.
        } else {
            self.hints.copy_within(at..len - 1, at + 1);
            self.hints[at] = hint(self.items[at].key(), self.skip);
        }
    }

    pub(super) fn remove(&mut self, at: usize) -> T {
        self.hints.copy_within(at + 1..self.items.len(), at);
        self.items.remove(at)
    }

    /// Changes what is at `at`, but not its key.
    pub(super) fn item_mut(&mut self, at: usize) -> &mut T {
        &mut self.items[at]
    }

    /// To be called when the key at a place has become another one, in the same order.
    pub(super) fn renew(&mut self) {
        let (Some(first), Some(last)) = (self.items.first(), self.items.last()) else { return };
        let both = first.key().iter().zip(last.key());
        self.skip = both.take_while(|(a, b)| a == b).count();
        for (place, item) in self.hints.iter_mut().zip(&self.items) {
            *place = hint(item.key(), self.skip);
        }
    }

    /// Cuts off everything from `at` on.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let mut right = Vec::with_capacity(CAPACITY);
        right.extend(self.items.drain(at..));
        self.renew();
        Self::new(right)
    }

    /// Takes over all of `right` behind its own; what is above `fill` then is shared evenly and given back.
    pub(super) fn merge(&mut self, right: Self, fill: usize) -> Option<Self> {
        self.items.extend(right.items);
        if self.items.len() > fill {
            return Some(self.split_off(self.items.len() / 2));
        }
        self.renew();
        None
    }
}
