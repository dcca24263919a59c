//! Who wants this key: an exact-key map and an interval tree, both leading to groups.
//!
//! Everybody who watches the same key or interval is in one group, so that an event is matched once for all
//! of them, and what a publish found for a group is shared by its members.

use super::batch::Batch;
use super::intervals::Intervals;
use crate::mvcc::Event;
use crate::types::{KeyRange, RangeEnd};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Names a group while it has members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupId(u32);

/// The members (`M`, found again by `K`) of every watched key and interval.
pub(super) struct Matcher<K, M> {
    exact: HashMap<Bytes, GroupId>,
    spans: Intervals<GroupId>,
    groups: Vec<Option<Group<K, M>>>,
    free: Vec<GroupId>,
}

struct Group<K, M> {
    range: KeyRange,
    members: BTreeMap<K, M>,
}

fn end_of(range: &KeyRange) -> Option<&Bytes> {
    match &range.end {
        RangeEnd::Before(end) => Some(end),
        RangeEnd::Unbounded => None,
        RangeEnd::Single => unreachable!("a single key is never asked for its end"),
    }
}

impl<K: Ord + Copy, M> Matcher<K, M> {
    pub(super) fn new() -> Self {
        Self { exact: HashMap::new(), spans: Intervals::new(), groups: Vec::new(), free: Vec::new() }
    }

    /// The member `key` of `range`, made by `make` if it is not there yet.
    pub(super) fn member(&mut self, range: &KeyRange, key: K, make: impl FnOnce() -> M) -> &mut M {
        assert!(!range.is_empty(), "an empty range matches nothing");
        let id = self.find(range).unwrap_or_else(|| self.add_group(range));
        self.group_mut(id).members.entry(key).or_insert_with(make)
    }

    /// The member `key` of `range`.
    pub(super) fn get_mut(&mut self, range: &KeyRange, key: K) -> Option<&mut M> {
        let id = self.find(range)?;
        self.group_mut(id).members.get_mut(&key)
    }

    /// Removes the member `key` of `range`, and the group with its last member.
    pub(super) fn remove(&mut self, range: &KeyRange, key: K) -> Option<M> {
        let id = self.find(range)?;
        let member = self.group_mut(id).members.remove(&key);
        self.drop_if_empty(id);
        member
    }

    /// What `events` hold for each group that they concern. Costs O(matches + log n) for each event.
    pub(super) fn select(&self, events: &[Arc<Event>]) -> Vec<(GroupId, Arc<Batch>)> {
        let mut hits: Vec<(GroupId, usize)> = Vec::new();
        for (place, event) in events.iter().enumerate() {
            self.groups_of(event.key(), |id| hits.push((id, place)));
        }
        if let [event] = events {
            // The common case of a publish: one batch serves every group.
            let batch = (!hits.is_empty()).then(|| Arc::new(Batch::new(vec![event.clone()])));
            return hits.into_iter().filter_map(|(id, _)| Some((id, batch.clone()?))).collect();
        }
        hits.sort_unstable();
        hits.chunk_by(|left, right| left.0 == right.0)
            .map(|hits| {
                let events = hits.iter().map(|(_, place)| events[*place].clone()).collect();
                (hits[0].0, Arc::new(Batch::new(events)))
            })
            .collect()
    }

    /// Whether anybody wants `key`.
    pub(super) fn is_wanted(&self, key: &[u8]) -> bool {
        let mut wanted = false;
        self.groups_of(key, |_| wanted = true);
        wanted
    }

    /// Visits the members of a group; those for which `keep` is false leave it.
    pub(super) fn retain(&mut self, id: GroupId, mut keep: impl FnMut(K, &mut M) -> bool) {
        self.group_mut(id).members.retain(|key, member| keep(*key, member));
        self.drop_if_empty(id);
    }

    /// Every member with its range.
    pub(super) fn into_members(self) -> impl Iterator<Item = (KeyRange, K, M)> {
        self.groups.into_iter().flatten().flat_map(|group| {
            let range = group.range;
            group.members.into_iter().map(move |(key, member)| (range.clone(), key, member))
        })
    }

    /// How many different keys and intervals are watched.
    pub(super) fn group_count(&self) -> usize {
        self.groups.len() - self.free.len()
    }

    /// Whether nobody watches anything.
    pub(super) fn is_empty(&self) -> bool {
        self.group_count() == 0
    }

    fn groups_of(&self, key: &[u8], mut visit: impl FnMut(GroupId)) {
        if let Some(id) = self.exact.get(key) {
            visit(*id);
        }
        self.spans.visit(key, &mut |id| visit(*id));
    }

    fn find(&self, range: &KeyRange) -> Option<GroupId> {
        match &range.end {
            RangeEnd::Single => self.exact.get(&range.start).copied(),
            _ => self.spans.get(&range.start, end_of(range).map(|end| &end[..])).copied(),
        }
    }

    fn add_group(&mut self, range: &KeyRange) -> GroupId {
        let group = Group { range: range.clone(), members: BTreeMap::new() };
        let id = match self.free.pop() {
            Some(id) => {
                self.groups[id.0 as usize] = Some(group);
                id
            }
            None => {
                self.groups.push(Some(group));
                GroupId(u32::try_from(self.groups.len() - 1).expect("fewer than 4 G groups fit the memory"))
            }
        };
        match &range.end {
            RangeEnd::Single => drop(self.exact.insert(range.start.clone(), id)),
            _ => self.spans.insert(range.start.clone(), end_of(range).cloned(), id),
        }
        id
    }

    fn drop_if_empty(&mut self, id: GroupId) {
        if !self.group_mut(id).members.is_empty() {
            return;
        }
        let range = self.groups[id.0 as usize].take().expect("the group is there").range;
        let removed = match &range.end {
            RangeEnd::Single => self.exact.remove(&range.start),
            _ => self.spans.remove(&range.start, end_of(&range).map(|end| &end[..])),
        };
        assert_eq!(removed, Some(id), "a group is found under its range");
        self.free.push(id);
    }

    fn group_mut(&mut self, id: GroupId) -> &mut Group<K, M> {
        self.groups[id.0 as usize].as_mut().expect("a group is named only while it has members")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(matcher: &Matcher<u32, ()>, key: &str) -> Vec<KeyRange> {
        let mut found = Vec::new();
        matcher.groups_of(key.as_bytes(), |id| {
            found.push(matcher.groups[id.0 as usize].as_ref().unwrap().range.clone());
        });
        found
    }

    #[test]
    fn keys_and_intervals_are_found_and_forgotten() {
        let mut matcher = Matcher::new();
        let ranges = [KeyRange::single("b"), KeyRange::prefix("b"), KeyRange::from("a"), KeyRange::all()];
        for range in &ranges {
            matcher.member(range, 1, || ());
            matcher.member(range, 2, || ());
        }
        assert_eq!(matcher.group_count(), 4);
        assert_eq!(groups(&matcher, "b").len(), 4);
        assert_eq!(groups(&matcher, "bb").len(), 3);
        assert_eq!(groups(&matcher, "c").len(), 2);
        assert_eq!(groups(&matcher, "0"), [KeyRange::all()]);
        for range in &ranges {
            assert!(matcher.remove(range, 1).is_some());
            assert!(matcher.remove(range, 1).is_none());
        }
        assert_eq!(groups(&matcher, "b").len(), 4, "the second member of each group is still there");
        for range in &ranges {
            matcher.remove(range, 2);
        }
        assert!(matcher.is_empty());
        assert!(groups(&matcher, "b").is_empty());
        // A name is used again without a trace of its former range.
        matcher.member(&KeyRange::single("x"), 3, || ());
        assert!(groups(&matcher, "b").is_empty());
    }

    #[test]
    fn a_single_key_is_not_the_interval_that_holds_only_it() {
        let mut matcher: Matcher<u32, ()> = Matcher::new();
        matcher.member(&KeyRange::single("a"), 1, || ());
        matcher.member(&KeyRange::span("a", "a\0"), 1, || ());
        assert_eq!(matcher.group_count(), 2);
        assert_eq!(groups(&matcher, "a").len(), 2);
    }
}
