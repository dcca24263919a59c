//! The tree's nodes: search, insert with split, remove with merge, bulk build.

use super::places::{Keyed, PLACES_MAX, Places};
use crate::mvcc::entry::Entry;
use std::sync::Arc;

/// A node with fewer places is merged with, or filled up from, a neighbour.
const PLACES_MIN: usize = PLACES_MAX / 4;

/// Places that a bulk build or a merge fills, so that the next insert into a node does not split it.
const PLACES_FILL: usize = PLACES_MAX * 3 / 4;

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
    Leaf(Arc<Places<Arc<Entry>>>),
    Branch(Arc<Places<Child>>),
}

/// A subtree as its branch knows it.
#[derive(Clone, Debug)]
pub(super) struct Child {
    /// The subtree's first entry.
    pub(super) first: Arc<Entry>,
    pub(super) counts: Counts,
    pub(super) node: Node,
}

impl Keyed for Arc<Entry> {
    fn key(&self) -> &[u8] {
        Entry::key(self)
    }
}

impl Keyed for Child {
    fn key(&self) -> &[u8] {
        self.first.key()
    }
}

impl Places<Child> {
    /// The child in whose part of the key space `key` lies. What lies before the first key belongs to the
    /// first child.
    pub(super) fn child_of(&self, key: &[u8]) -> usize {
        self.find(key).unwrap_or_else(|at| at.saturating_sub(1))
    }

    /// Makes the record of a child right again whose first entry may have changed.
    fn refresh_first(&mut self, at: usize) {
        let child = self.item_mut(at);
        let first = child.node.first();
        if !Arc::ptr_eq(first, &child.first) {
            let is_other_key = first.key() != child.first.key();
            child.first = first.clone();
            if is_other_key {
                self.renew();
            }
        }
    }
}

impl Child {
    fn new(node: Node) -> Self {
        Self { first: node.first().clone(), counts: node.counts(), node }
    }
}

impl Default for Node {
    fn default() -> Self {
        Node::Leaf(Arc::default())
    }
}

impl Node {
    fn leaf(places: Places<Arc<Entry>>) -> Self {
        Node::Leaf(Arc::new(places))
    }
    fn branch(places: Places<Child>) -> Self {
        Node::Branch(Arc::new(places))
    }
    fn len(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Branch(children) => children.len(),
        }
    }
    /// The first entry; the node is not empty.
    fn first(&self) -> &Arc<Entry> {
        match self {
            Node::Leaf(entries) => &entries[0],
            Node::Branch(children) => &children[0].first,
        }
    }
    /// Counts this node's places; exact as the children's counts are.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        match self {
            Node::Leaf(entries) => {
                counts.total = entries.len() as u64;
                counts.live = live(entries);
            }
            Node::Branch(children) => children.iter().for_each(|child| counts.add(child.counts)),
        }
        counts
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Arc<Entry>> {
        let mut node = self;
        loop {
            match node {
                Node::Branch(children) => node = &children[children.child_of(key)].node,
                Node::Leaf(entries) => return entries.find(key).ok().map(|at| &entries[at]),
            }
        }
    }

    /// How many live keys are below `key`.
    pub(super) fn live_below(&self, key: &[u8]) -> u64 {
        let mut node = self;
        let mut below = 0;
        loop {
            match node {
                Node::Branch(children) => {
                    let at = children.child_of(key);
                    below += children[..at].iter().map(|child| child.counts.live).sum::<u64>();
                    node = &children[at].node;
                }
                Node::Leaf(entries) => {
                    let (Ok(at) | Err(at)) = entries.find(key);
                    return below + live(&entries[..at]);
                }
            }
        }
    }

    /// Sets an entry; gives the one before, and the right half if this node had to be split.
    pub(super) fn insert(&mut self, entry: Arc<Entry>) -> (Option<Arc<Entry>>, Option<Child>) {
        match self {
            Node::Leaf(entries) => {
                let entries = Arc::make_mut(entries);
                match entries.find(entry.key()) {
                    Ok(at) => (Some(std::mem::replace(entries.item_mut(at), entry)), None),
                    Err(at) => {
                        entries.insert(at, entry);
                        (None, split(entries, at).map(|right| Child::new(Node::leaf(right))))
                    }
                }
            }
            Node::Branch(children) => {
                let children = Arc::make_mut(children);
                let at = children.child_of(entry.key());
                let child = children.item_mut(at);
                let is_live = entry.is_live();
                let (before, right) = child.node.insert(entry);
                child.counts.replace(before.as_deref().map(Entry::is_live), Some(is_live));
                if let Some(right) = &right {
                    child.counts.subtract(right.counts);
                }
                children.refresh_first(at);
                let Some(right) = right else { return (before, None) };
                children.insert(at + 1, right);
                (before, split(children, at + 1).map(|right| Child::new(Node::branch(right))))
            }
        }
    }

    /// Puts a new level above this root, which was split; `counts` are those of both halves.
    pub(super) fn grow(&mut self, right: Child, mut counts: Counts) {
        counts.subtract(right.counts);
        let left = std::mem::take(self);
        assert!(left.height() < HEIGHT_MAX, "the index is higher than any memory allows");
        let left = Child { first: left.first().clone(), counts, node: left };
        *self = Node::branch(Places::new(vec![left, right]));
    }

    /// Removes the entry of `key`. May leave this node with too few places, or with none.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Arc<Entry>> {
        match self {
            Node::Leaf(entries) => {
                let entries = Arc::make_mut(entries);
                entries.find(key).ok().map(|at| entries.remove(at))
            }
            Node::Branch(children) => {
                let children = Arc::make_mut(children);
                let at = children.child_of(key);
                let child = children.item_mut(at);
                let before = child.node.remove(key)?;
                child.counts.replace(Some(before.is_live()), None);
                let len = child.node.len();
                if len > 0 {
                    children.refresh_first(at);
                }
                if len < PLACES_MIN {
                    balance(children, at);
                }
                Some(before)
            }
        }
    }

    /// Takes levels away that have one child only.
    pub(super) fn shrink(&mut self) {
        while let Node::Branch(children) = self {
            match children.len() {
                0 => *self = Node::default(),
                1 => *self = children[0].node.clone(),
                _ => return,
            }
        }
    }

    /// Levels, from 1.
    pub(super) fn height(&self) -> usize {
        let mut node = self;
        let mut height = 1;
        while let Node::Branch(children) = node {
            node = &children[0].node;
            height += 1;
        }
        height
    }
}

fn live(entries: &[Arc<Entry>]) -> u64 {
    entries.iter().filter(|entry| entry.is_live()).count() as u64
}

/// Gives the right part of `places` when they are too many. After an insert at the very end the left part
/// stays nearly full: keys that only ascend would otherwise leave every node half empty.
fn split<T: Keyed>(places: &mut Places<T>, inserted_at: usize) -> Option<Places<T>> {
    if places.len() <= PLACES_MAX {
        return None;
    }
    let is_last = inserted_at + 1 == places.len();
    Some(places.split_off(if is_last { PLACES_MAX - PLACES_MIN } else { places.len() / 2 }))
}

/// Merges the child at `at`, which has too few places, with a neighbour, or shares their places evenly.
/// Without a neighbour an empty child is dropped.
fn balance(children: &mut Places<Child>, at: usize) {
    if children.len() == 1 {
        if children[0].node.len() == 0 {
            children.remove(0);
        }
        return;
    }
    let left_at = if at + 1 < children.len() { at } else { at - 1 };
    let right = children.remove(left_at + 1);
    let left = children.item_mut(left_at);
    left.counts.add(right.counts);
    let rest = match (&mut left.node, right.node) {
        (Node::Leaf(left), Node::Leaf(right)) => {
            Arc::make_mut(left).merge(Arc::unwrap_or_clone(right), PLACES_FILL).map(Node::leaf)
        }
        (Node::Branch(left), Node::Branch(right)) => {
            Arc::make_mut(left).merge(Arc::unwrap_or_clone(right), PLACES_FILL).map(Node::branch)
        }
        _ => unreachable!("all leaves have the same depth"),
    };
    let rest = rest.map(Child::new);
    if let Some(rest) = &rest {
        left.counts.subtract(rest.counts);
    }
    children.refresh_first(left_at); // It has another one if it was empty.
    if let Some(rest) = rest {
        children.insert(left_at + 1, rest);
    }
}

/// Builds a tree from ascending entries, level by level.
pub(super) fn build(entries: impl Iterator<Item = Arc<Entry>>) -> (Node, Counts) {
    let mut level: Vec<Child> = Vec::new();
    let mut places: Vec<Arc<Entry>> = Vec::with_capacity(PLACES_FILL);
    let mut last: Option<Arc<Entry>> = None;
    for entry in entries {
        assert!(last.is_none_or(|last| last.key() < entry.key()), "keys to build an index from must ascend");
        last = Some(entry.clone());
        places.push(entry);
        if places.len() == PLACES_FILL {
            let full = std::mem::replace(&mut places, Vec::with_capacity(PLACES_FILL));
            level.push(Child::new(Node::leaf(Places::new(full))));
        }
    }
    if !places.is_empty() {
        level.push(Child::new(Node::leaf(Places::new(places))));
    }
    while level.len() > 1 {
        let mut above = Vec::with_capacity(level.len() / PLACES_FILL + 1);
        let mut children = level.into_iter().peekable();
        while children.peek().is_some() {
            let node = Node::branch(Places::new(children.by_ref().take(PLACES_FILL).collect()));
            above.push(Child::new(node));
        }
        level = above;
    }
    level.pop().map(|top| (top.node, top.counts)).unwrap_or_default()
}
