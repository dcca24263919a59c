//! A tree of key intervals that answers "which of them hold this key".
//!
//! A treap ordered by (start, end). Each node also knows the farthest end in its subtree, so that a search
//! skips every subtree that ends at or before the key: O(log n) for each interval found, and O(n) memory
//! whatever the overlap (a map from key segments to lists of intervals would need O(n²) for nested ones).

use bytes::Bytes;
use std::cmp::Ordering;

/// "No node".
const NIL: u32 = u32::MAX;

/// Intervals with a value each; no two have the same bounds. An end of `None` is "no end".
pub(super) struct Intervals<T> {
    nodes: Vec<Node<T>>,
    free: Vec<u32>,
    root: u32,
    /// Feeds the node priorities; they only need to be independent of the keys.
    mixer: u64,
}

struct Node<T> {
    start: Bytes,
    end: Option<Bytes>,
    value: Option<T>,
    priority: u64,
    left: u32,
    right: u32,
    /// The node of this subtree whose end is the farthest.
    farthest: u32,
}

fn compare_ends(left: Option<&[u8]>, right: Option<&[u8]>) -> Ordering {
    match (left, right) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(left), Some(right)) => left.cmp(right),
    }
}

impl<T> Intervals<T> {
    pub(super) fn new() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), root: NIL, mixer: 0 }
    }

    /// The value of exactly this interval.
    pub(super) fn get(&self, start: &[u8], end: Option<&[u8]>) -> Option<&T> {
        let mut at = self.root;
        while at != NIL {
            let node = &self.nodes[at as usize];
            match compare_bounds(start, end, node) {
                Ordering::Less => at = node.left,
                Ordering::Greater => at = node.right,
                Ordering::Equal => return node.value.as_ref(),
            }
        }
        None
    }

    /// Adds an interval that is not there yet.
    pub(super) fn insert(&mut self, start: Bytes, end: Option<Bytes>, value: T) {
        assert!(self.get(&start, end.as_deref()).is_none(), "an interval is there once");
        let priority = self.next_priority();
        let node = Node { start, end, value: Some(value), priority, left: NIL, right: NIL, farthest: NIL };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("fewer than 4 G intervals fit the memory")
            }
        };
        let (start, end) = (self.nodes[at as usize].start.clone(), self.nodes[at as usize].end.clone());
        let (before, behind) = self.split(self.root, &start, end.as_deref());
        self.refresh(at);
        let left = self.merge(before, at);
        self.root = self.merge(left, behind);
    }

    /// Removes exactly this interval.
    pub(super) fn remove(&mut self, start: &[u8], end: Option<&[u8]>) -> Option<T> {
        let mut path = Vec::new();
        let mut at = self.root;
        loop {
            if at == NIL {
                return None;
            }
            let node = &self.nodes[at as usize];
            let order = compare_bounds(start, end, node);
            if order == Ordering::Equal {
                break;
            }
            path.push(at);
            at = if order == Ordering::Less { node.left } else { node.right };
        }
        let (left, right) = (self.nodes[at as usize].left, self.nodes[at as usize].right);
        let merged = self.merge(left, right);
        match path.last() {
            None => self.root = merged,
            Some(&parent) if self.nodes[parent as usize].left == at => {
                self.nodes[parent as usize].left = merged;
            }
            Some(&parent) => self.nodes[parent as usize].right = merged,
        }
        for &ancestor in path.iter().rev() {
            self.refresh(ancestor);
        }
        self.free.push(at);
        let node = &mut self.nodes[at as usize];
        (node.start, node.end) = (Bytes::new(), None);
        node.value.take()
    }

    /// Visits every interval that holds `key`.
    pub(super) fn visit(&self, key: &[u8], visit: &mut impl FnMut(&T)) {
        self.visit_below(self.root, key, visit);
    }

    fn visit_below(&self, mut at: u32, key: &[u8], visit: &mut impl FnMut(&T)) {
        while at != NIL {
            let node = &self.nodes[at as usize];
            if !ends_behind(&self.nodes[node.farthest as usize], key) {
                return;
            }
            self.visit_below(node.left, key, visit);
            if &node.start[..] > key {
                return;
            }
            if ends_behind(node, key) {
                visit(node.value.as_ref().expect("a node in the tree has a value"));
            }
            at = node.right;
        }
    }

    /// Splits a subtree into what lies before the bounds and the rest.
    fn split(&mut self, at: u32, start: &[u8], end: Option<&[u8]>) -> (u32, u32) {
        if at == NIL {
            return (NIL, NIL);
        }
        if compare_bounds(start, end, &self.nodes[at as usize]) == Ordering::Greater {
            let (before, behind) = self.split(self.nodes[at as usize].right, start, end);
            self.nodes[at as usize].right = before;
            self.refresh(at);
            (at, behind)
        } else {
            let (before, behind) = self.split(self.nodes[at as usize].left, start, end);
            self.nodes[at as usize].left = behind;
            self.refresh(at);
            (before, at)
        }
    }

    /// Joins two subtrees; all of `left` lies before all of `right`.
    fn merge(&mut self, left: u32, right: u32) -> u32 {
        if left == NIL || right == NIL {
            return if left == NIL { right } else { left };
        }
        if self.nodes[left as usize].priority > self.nodes[right as usize].priority {
            let below = self.merge(self.nodes[left as usize].right, right);
            self.nodes[left as usize].right = below;
            self.refresh(left);
            left
        } else {
            let below = self.merge(left, self.nodes[right as usize].left);
            self.nodes[right as usize].left = below;
            self.refresh(right);
            right
        }
    }

    fn refresh(&mut self, at: u32) {
        let node = &self.nodes[at as usize];
        let mut farthest = at;
        for child in [node.left, node.right] {
            if child != NIL {
                let candidate = self.nodes[child as usize].farthest;
                let ends = (
                    self.nodes[candidate as usize].end.as_deref(),
                    self.nodes[farthest as usize].end.as_deref(),
                );
                if compare_ends(ends.0, ends.1) == Ordering::Greater {
                    farthest = candidate;
                }
            }
        }
        self.nodes[at as usize].farthest = farthest;
    }

    /// splitmix64: good bits from a counter, no source of randomness.
    fn next_priority(&mut self) -> u64 {
        self.mixer = self.mixer.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.mixer;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

fn compare_bounds<T>(start: &[u8], end: Option<&[u8]>, node: &Node<T>) -> Ordering {
    start.cmp(&node.start).then_with(|| compare_ends(end, node.end.as_deref()))
}

fn ends_behind<T>(node: &Node<T>, key: &[u8]) -> bool {
    node.end.as_ref().is_none_or(|end| &end[..] > key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn found(tree: &Intervals<u32>, key: &[u8]) -> Vec<u32> {
        let mut values = Vec::new();
        tree.visit(key, &mut |value| values.push(*value));
        values.sort_unstable();
        values
    }

    fn depth(tree: &Intervals<u32>, at: u32) -> usize {
        if at == NIL {
            return 0;
        }
        let node = &tree.nodes[at as usize];
        1 + depth(tree, node.left).max(depth(tree, node.right))
    }

    #[test]
    fn sorted_inserts_stay_shallow() {
        let mut tree = Intervals::new();
        for number in 0..10_000u32 {
            let start = Bytes::copy_from_slice(&number.to_be_bytes());
            let end = Bytes::copy_from_slice(&(number + 1).to_be_bytes());
            tree.insert(start, Some(end), number);
        }
        assert!(depth(&tree, tree.root) < 60, "depth {}", depth(&tree, tree.root));
        assert_eq!(found(&tree, &77u32.to_be_bytes()), [77]);
    }

    proptest! {
        #[test]
        fn finds_what_a_scan_finds(
            steps in prop::collection::vec((any::<bool>(), 0u8..12, prop::option::of(0u8..14)), 1..120)
        ) {
            let mut tree = Intervals::new();
            let mut model: BTreeMap<(u8, Option<u8>), u32> = BTreeMap::new();
            for (number, (add, start, end)) in steps.into_iter().enumerate() {
                let end_key = end.map(|end| [end]);
                let end_slice = end_key.as_ref().map(|end| &end[..]);
                if add && !model.contains_key(&(start, end)) {
                    tree.insert(Bytes::copy_from_slice(&[start]), end_slice.map(Bytes::copy_from_slice), number as u32);
                    model.insert((start, end), number as u32);
                } else {
                    prop_assert_eq!(tree.remove(&[start], end_slice), model.remove(&(start, end)));
                }
                for key in 0u8..15 {
                    let mut expected: Vec<u32> = model
                        .iter()
                        .filter(|((start, end), _)| *start <= key && end.is_none_or(|end| key < end))
                        .map(|(_, value)| *value)
                        .collect();
                    expected.sort_unstable();
                    prop_assert_eq!(found(&tree, &[key]), expected);
                }
            }
        }
    }
}
