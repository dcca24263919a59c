//! Walking a part of the tree in key order.

use super::node::{Child, HEIGHT_MAX, Node};
use crate::mvcc::entry::Entry;
use crate::types::KeyRange;
use std::sync::Arc;

/// The entries of a range. Allocates nothing; compares keys once per leaf, not once per entry.
pub(super) struct Entries<'a> {
    range: &'a KeyRange,
    /// What is left of the current leaf, already cut at the range's end.
    leaf: &'a [Arc<Entry>],
    /// For each level above it: the children still to come.
    above: [&'a [Child]; HEIGHT_MAX],
    height: usize,
}

impl<'a> Entries<'a> {
    /// Goes down to the first entry in the range.
    pub(super) fn new(node: &'a Node, range: &'a KeyRange) -> Self {
        let mut walk = Self { range, leaf: &[], above: [&[]; HEIGHT_MAX], height: 0 };
        if range.is_empty() {
            return walk;
        }
        let mut node = node;
        loop {
            match node {
                Node::Branch(children) => {
                    let at = children.child_of(&range.start);
                    walk.push(&children[at + 1..]);
                    node = &children[at].node;
                }
                Node::Leaf(entries) => {
                    let (Ok(from) | Err(from)) = entries.find(&range.start);
                    walk.enter(&entries[from..]);
                    return walk;
                }
            }
        }
    }

    fn push(&mut self, rest: &'a [Child]) {
        self.above[self.height] = rest;
        self.height += 1;
    }

    /// Starts on a leaf; if the range ends in it, nothing comes after it.
    fn enter(&mut self, leaf: &'a [Arc<Entry>]) {
        self.leaf = leaf;
        if leaf.last().is_some_and(|entry| self.range.is_past(entry.key())) {
            self.leaf = &leaf[..leaf.partition_point(|entry| !self.range.is_past(entry.key()))];
            self.height = 0;
        }
    }

    /// Goes to the next leaf.
    fn advance(&mut self) -> bool {
        while self.height > 0 {
            let level = self.height - 1;
            let Some((child, rest)) = self.above[level].split_first() else {
                self.height = level;
                continue;
            };
            self.above[level] = rest;
            let mut node = &child.node;
            loop {
                match node {
                    Node::Branch(children) => {
                        self.push(&children[1..]);
                        node = &children[0].node;
                    }
                    Node::Leaf(entries) => {
                        self.enter(entries);
                        return true;
                    }
                }
            }
        }
        false
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = &'a Arc<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((entry, rest)) = self.leaf.split_first() {
                self.leaf = rest;
                return Some(entry);
            }
            if !self.advance() {
                return None;
            }
        }
    }
}
