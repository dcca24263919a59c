//! The index: every key of one keyspace with the head of its newest version, ordered, counted, in memory.
//!
//! A B+ tree whose nodes are shared by reference count. The writer owns an [`Index`] and changes nodes that
//! only it can see in place; a node that a reader's [`Root`] can see too is copied first, once (path copying,
//! but only after a root was taken). So a root is a snapshot that costs one count, and whoever has one waits for nobody.
//!
//! ```text
//!            Branch [first key, counts, child]…          counts: keys in the subtree, and how many are live
//!           /          |           \
//!     Branch …      Branch …     Branch …
//!      /   \
//!   Leaf   Leaf [entry, entry, …]                        entries: Arc<Entry> in key order
//! ```
//!
//! Invariants:
//! - keys ascend strictly from left to right; all leaves have the same depth; no node but the root is empty;
//! - a child's record in its branch has the first entry of that child's subtree (the same `Arc`) and its
//!   exact counts; hence `count_live` walks one path per bound, and no old entry is kept alive by a branch;
//! - tombstones are entries like others (a historical read needs them) and are in `len`, not in `live_len`;
//! - a [`Root`] never changes.
//!
//! Deliberately missing: values, revisions older than the newest (they are reached through
//! [`Head::previous`](super::Head)), removal by range and any lock.

mod node;
mod places;
mod range;
#[cfg(test)]
mod tests;

use super::entry::Entry;
use crate::types::{KeyRange, RangeEnd};
use node::{Counts, Node};
use range::Entries;
use std::ops::Deref;
use std::sync::Arc;

/// The writer's side: the newest state, published by taking a [`Root`].
#[derive(Debug, Default)]
pub struct Index {
    root: Root,
}

/// A snapshot of an [`Index`]. Cloning it costs one reference count.
#[derive(Clone, Debug, Default)]
pub struct Root {
    node: Node,
    counts: Counts,
}

impl Index {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// Builds the index from entries in ascending key order.
    ///
    /// # Panics
    /// When the keys do not ascend strictly: the heads on disk would then be out of order.
    pub fn from_sorted(entries: impl Iterator<Item = Arc<Entry>>) -> Self {
        let (node, counts) = node::build(entries);
        Self { root: Root { node, counts } }
    }

    /// Sets the entry of its key; gives the one before.
    pub fn insert(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let is_live = entry.is_live();
        let (before, split) = self.root.node.insert(entry);
        self.root.counts.replace(before.as_deref().map(Entry::is_live), Some(is_live));
        if let Some(right) = split {
            self.root.node.grow(right, self.root.counts);
        }
        before
    }

    /// Removes the entry of `key`.
    pub fn remove(&mut self, key: &[u8]) -> Option<Arc<Entry>> {
        // Looked up first: what is not there must not copy a path.
        self.get(key)?;
        let before = self.root.node.remove(key)?;
        self.root.counts.replace(Some(before.is_live()), None);
        self.root.node.shrink();
        Some(before)
    }

    /// A snapshot of this moment.
    pub fn root(&self) -> Root {
        self.root.clone()
    }
}

/// The newest state, to read without taking a snapshot (after which the next write would have to copy).
impl Deref for Index {
    type Target = Root;

    fn deref(&self) -> &Root {
        &self.root
    }
}

impl FromIterator<Arc<Entry>> for Index {
    /// Inserts one by one, in any order; see [`Index::from_sorted`] for the fast way.
    fn from_iter<I: IntoIterator<Item = Arc<Entry>>>(entries: I) -> Self {
        let mut index = Self::new();
        for entry in entries {
            index.insert(entry);
        }
        index
    }
}

impl Root {
    /// The entry of `key`, a tombstone included.
    pub fn get(&self, key: &[u8]) -> Option<&Arc<Entry>> {
        self.node.get(key)
    }

    /// How many live keys lie in `range`.
    pub fn count_live(&self, range: &KeyRange) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let below = |key: &[u8]| if key.is_empty() { 0 } else { self.node.live_below(key) };
        match &range.end {
            RangeEnd::Single => self.get(&range.start).is_some_and(|entry| entry.is_live()).into(),
            RangeEnd::Unbounded => self.counts.live - below(&range.start),
            RangeEnd::Before(end) => below(end) - below(&range.start),
        }
    }

    /// The entries in `range` in key order, tombstones included. Touches nothing before the first of them.
    pub fn range<'a>(&'a self, range: &'a KeyRange) -> impl Iterator<Item = &'a Arc<Entry>> + use<'a> {
        Entries::new(&self.node, range)
    }

    /// How many keys are live.
    pub fn live_len(&self) -> u64 {
        self.counts.live
    }

    /// How many keys there are, tombstones included.
    pub fn len(&self) -> u64 {
        self.counts.total
    }

    /// Whether there is no key, not even a tombstone.
    pub fn is_empty(&self) -> bool {
        self.counts.total == 0
    }
}
