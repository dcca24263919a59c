//! The tree's nodes: search, insert with split, remove with merge, bulk build.

use crate::mvcc::entry::Entry;
use std::sync::Arc;

/// Most places in a node. Larger nodes make shallower trees, but the first write to a node after a snapshot
/// copies it, and each place copied is one reference count in memory that is likely cold.
pub(super) const PLACES_MAX: usize = 32;

/// A node with fewer places is merged with, or filled up from, a neighbour.
const PLACES_MIN: usize = PLACES_MAX / 4;

/// Places that a bulk build fills, so that the first insert into a node does not split it.
const PLACES_BULK: usize = PLACES_MAX * 3 / 4;

/// Far above what memory can hold: each level multiplies by at least [`PLACES_MIN`], but for the tail of a
/// bulk build.
pub(super) const HEIGHT_MAX: usize = 16;

/// Keys of a subtree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// With tombstones.
    pub(super) total: u64,
    /// Without.
    pub(super) live: u64,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.total += other.total;
        self.live += other.live;
    }
    fn subtract(&mut self, other: Counts) {
        self.total -= other.total;
        self.live -= other.live;
    }
    /// Counts one key's change; each side tells whether the key is there, and if so whether it is live.
    pub(super) fn replace(&mut self, before: Option<bool>, after: Option<bool>) {
        let of = |side: Option<bool>| Counts {
            total: u64::from(side.is_some()),
            live: u64::from(side.unwrap_or(false)),
        };
        self.add(of(after));
        self.subtract(of(before));
    }
}

/// A subtree.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Leaf(Arc<Leaf>),
    Branch(Arc<Branch>),
}

#[derive(Debug, Default)]
pub(super) struct Leaf {
    pub(super) entries: Vec<Arc<Entry>>,
}

#[derive(Debug)]
pub(super) struct Branch {
    pub(super) children: Vec<Child>,
}

/// A subtree as its branch knows it.
#[derive(Clone, Debug)]
pub(super) struct Child {
    /// The subtree's first entry.
    pub(super) first: Arc<Entry>,
    pub(super) counts: Counts,
    pub(super) node: Node,
}

// Copies are made to be written to: they get the room for it at once.
impl Clone for Leaf {
    fn clone(&self) -> Self {
        Self { entries: copy(&self.entries) }
    }
}
impl Clone for Branch {
    fn clone(&self) -> Self {
        Self { children: copy(&self.children) }
    }
}
fn copy<T: Clone>(places: &[T]) -> Vec<T> {
    let mut copy = Vec::with_capacity(PLACES_MAX + 1);
    copy.extend_from_slice(places);
    copy
}

impl Default for Node {
    fn default() -> Self {
        Node::Leaf(Arc::default())
    }
}

impl Leaf {
    /// Where `key` is, or where it belongs.
    fn find(&self, key: &[u8]) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.key().cmp(key))
    }
}

impl Branch {
    /// The child in whose part of the key space `key` lies. What lies before the first key belongs to the
    /// first child.
    pub(super) fn find(&self, key: &[u8]) -> usize {
        self.children[1..].partition_point(|child| child.first.key() <= key)
    }
}

impl Child {
    fn new(node: Node) -> Self {
        Self { first: node.first().clone(), counts: node.counts(), node }
    }
    /// Takes over the subtree's first entry if it is another one now.
    fn refresh_first(&mut self) {
        let first = self.node.first();
        if !Arc::ptr_eq(first, &self.first) {
            self.first = first.clone();
        }
    }
}

impl Node {
    fn leaf(entries: Vec<Arc<Entry>>) -> Self {
        Node::Leaf(Arc::new(Leaf { entries }))
    }
    fn branch(children: Vec<Child>) -> Self {
        Node::Branch(Arc::new(Branch { children }))
    }
    fn places(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.entries.len(),
            Node::Branch(branch) => branch.children.len(),
        }
    }
    /// The first entry; the node is not empty.
    fn first(&self) -> &Arc<Entry> {
        match self {
            Node::Leaf(leaf) => &leaf.entries[0],
            Node::Branch(branch) => &branch.children[0].first,
        }
    }
    /// Counts this node's places; exact as the children's counts are.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        match self {
            Node::Leaf(leaf) => {
                counts.total = leaf.entries.len() as u64;
                counts.live = leaf.entries.iter().filter(|entry| entry.is_live()).count() as u64;
            }
            Node::Branch(branch) => branch.children.iter().for_each(|child| counts.add(child.counts)),
        }
        counts
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Arc<Entry>> {
        let mut node = self;
        loop {
            match node {
                Node::Branch(branch) => node = &branch.children[branch.find(key)].node,
                Node::Leaf(leaf) => return leaf.find(key).ok().map(|at| &leaf.entries[at]),
            }
        }
    }

    /// How many live keys are below `key`.
    pub(super) fn live_below(&self, key: &[u8]) -> u64 {
        let mut node = self;
        let mut live = 0;
        loop {
            match node {
                Node::Branch(branch) => {
                    let at = branch.find(key);
                    live += branch.children[..at].iter().map(|child| child.counts.live).sum::<u64>();
                    node = &branch.children[at].node;
                }
                Node::Leaf(leaf) => {
                    let (Ok(at) | Err(at)) = leaf.find(key);
                    return live + leaf.entries[..at].iter().filter(|entry| entry.is_live()).count() as u64;
                }
            }
        }
    }

    /// Sets an entry; gives the one before, and the right half if this node had to be split.
    pub(super) fn insert(&mut self, entry: Arc<Entry>) -> (Option<Arc<Entry>>, Option<Child>) {
        match self {
            Node::Leaf(leaf) => {
                let leaf = Arc::make_mut(leaf);
                match leaf.find(entry.key()) {
                    Ok(at) => (Some(std::mem::replace(&mut leaf.entries[at], entry)), None),
                    Err(at) => {
                        leaf.entries.insert(at, entry);
                        let right = split(&mut leaf.entries, at).map(|right| Child::new(Node::leaf(right)));
                        (None, right)
                    }
                }
            }
            Node::Branch(branch) => {
                let branch = Arc::make_mut(branch);
                let at = branch.find(entry.key());
                let child = &mut branch.children[at];
                let is_live = entry.is_live();
                let (before, right) = child.node.insert(entry);
                child.counts.replace(before.as_deref().map(Entry::is_live), Some(is_live));
                child.refresh_first();
                let Some(right) = right else { return (before, None) };
                child.counts.subtract(right.counts);
                branch.children.insert(at + 1, right);
                let right = split(&mut branch.children, at + 1).map(|right| Child::new(Node::branch(right)));
                (before, right)
            }
        }
    }

    /// Puts a new level above this root, which was split; `counts` are those of both halves.
    pub(super) fn grow(&mut self, right: Child, mut counts: Counts) {
        counts.subtract(right.counts);
        let left = std::mem::take(self);
        assert!(left.height() < HEIGHT_MAX, "the index is higher than any memory allows");
        let mut children = Vec::with_capacity(PLACES_MAX + 1);
        children.push(Child { first: left.first().clone(), counts, node: left });
        children.push(right);
        *self = Node::branch(children);
    }

    /// Removes the entry of `key`. May leave this node with too few places, or with none.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Arc<Entry>> {
        match self {
            Node::Leaf(leaf) => {
                let leaf = Arc::make_mut(leaf);
                leaf.find(key).ok().map(|at| leaf.entries.remove(at))
            }
            Node::Branch(branch) => {
                let branch = Arc::make_mut(branch);
                let at = branch.find(key);
                let child = &mut branch.children[at];
                let before = child.node.remove(key)?;
                child.counts.replace(Some(before.is_live()), None);
                if child.node.places() > 0 {
                    child.refresh_first();
                }
                if child.node.places() < PLACES_MIN {
                    balance(&mut branch.children, at);
                }
                Some(before)
            }
        }
    }

    /// Takes levels away that have one child only.
    pub(super) fn shrink(&mut self) {
        while let Node::Branch(branch) = self {
            match branch.children.len() {
                0 => *self = Node::default(),
                1 => *self = branch.children[0].node.clone(),
                _ => return,
            }
        }
    }

    /// Levels, from 1.
    pub(super) fn height(&self) -> usize {
        let mut node = self;
        let mut height = 1;
        while let Node::Branch(branch) = node {
            node = &branch.children[0].node;
            height += 1;
        }
        height
    }
}

/// Gives the right part of `places` when they are too many. After an insert at the very end the left part
/// stays nearly full: keys that only ascend would otherwise leave every node half empty.
fn split<T>(places: &mut Vec<T>, inserted_at: usize) -> Option<Vec<T>> {
    if places.len() <= PLACES_MAX {
        return None;
    }
    let at = if inserted_at + 1 == places.len() { PLACES_MAX - PLACES_MIN } else { places.len() / 2 };
    let mut right = Vec::with_capacity(PLACES_MAX + 1);
    right.extend(places.drain(at..));
    Some(right)
}

/// Merges the child at `at`, which has too few places, with a neighbour, or shares their places evenly.
/// Without a neighbour an empty child is dropped.
fn balance(children: &mut Vec<Child>, at: usize) {
    if children.len() == 1 {
        children.retain(|child| child.node.places() > 0);
        return;
    }
    let left_at = if at + 1 < children.len() { at } else { at - 1 };
    let right = children.remove(left_at + 1);
    let left = &mut children[left_at];
    let mut counts = left.counts;
    counts.add(right.counts);
    let rest = match (&mut left.node, right.node) {
        (Node::Leaf(left), Node::Leaf(right)) => {
            share(&mut Arc::make_mut(left).entries, Arc::unwrap_or_clone(right).entries).map(Node::leaf)
        }
        (Node::Branch(left), Node::Branch(right)) => {
            share(&mut Arc::make_mut(left).children, Arc::unwrap_or_clone(right).children).map(Node::branch)
        }
        _ => unreachable!("all leaves have the same depth"),
    };
    if let Some(rest) = rest.map(Child::new) {
        counts.subtract(rest.counts);
        children.insert(left_at + 1, rest);
    }
    let left = &mut children[left_at];
    left.counts = counts;
    left.refresh_first();
}

/// Moves all of `right` to the end of `left`; gives back the right half if one node cannot take them all.
fn share<T>(left: &mut Vec<T>, right: Vec<T>) -> Option<Vec<T>> {
    left.extend(right);
    // Not merged to the brim, or the next insert would split it again.
    if left.len() <= PLACES_BULK {
        return None;
    }
    let mut rest = Vec::with_capacity(PLACES_MAX + 1);
    rest.extend(left.drain(left.len() / 2..));
    Some(rest)
}

/// Builds a tree from ascending entries, level by level.
pub(super) fn build(entries: impl Iterator<Item = Arc<Entry>>) -> (Node, Counts) {
    let mut level: Vec<Child> = Vec::new();
    let mut places: Vec<Arc<Entry>> = Vec::with_capacity(PLACES_BULK);
    let mut last: Option<Arc<Entry>> = None;
    for entry in entries {
        assert!(last.is_none_or(|last| last.key() < entry.key()), "keys to build an index from must ascend");
        last = Some(entry.clone());
        places.push(entry);
        if places.len() == PLACES_BULK {
            let full = std::mem::replace(&mut places, Vec::with_capacity(PLACES_BULK));
            level.push(Child::new(Node::leaf(full)));
        }
    }
    if !places.is_empty() {
        level.push(Child::new(Node::leaf(places)));
    }
    while level.len() > 1 {
        let mut above = Vec::with_capacity(level.len() / PLACES_BULK + 1);
        let mut children = level.into_iter().peekable();
        while children.peek().is_some() {
            let node = Node::branch(children.by_ref().take(PLACES_BULK).collect());
            above.push(Child::new(node));
        }
        level = above;
    }
    level.pop().map(|top| (top.node, top.counts)).unwrap_or_default()
}
