use super::node::{Counts, Node};
use super::places::PLACES_MAX;
use super::*;
use crate::mvcc::Head;
use crate::types::{LeaseId, Revision, SubRevision, VersionId};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Model = BTreeMap<Vec<u8>, Arc<Entry>>;

fn entry(key: &[u8], revision: i64, is_live: bool) -> Arc<Entry> {
    let head = Head {
        id: VersionId::new(Revision::new(revision), SubRevision::new(0)),
        create_revision: Revision::new(revision),
        version: is_live.into(),
        lease: LeaseId::NONE,
        previous: VersionId::NONE,
        value_len: 0,
    };
    Entry::new(key, head)
}

/// Keys of several lengths, so that some are prefixes of others; `number` < 65536.
fn key(number: u32) -> Vec<u8> {
    match number % 4 {
        0 => number.to_be_bytes()[2..].to_vec(),
        1 => format!("/registry/{number:05}").into_bytes(),
        2 => (number - 2).to_be_bytes()[2..].iter().copied().chain([0]).collect(),
        _ => vec![(number % 251) as u8; 1 + number as usize % 7],
    }
}

/// Checks every invariant of the essay; gives the depth.
fn check_node(node: &Node, is_root: bool) -> (Counts, usize) {
    match node {
        Node::Leaf(entries) => {
            assert!(is_root || !entries.is_empty(), "an empty leaf");
            assert!(entries.len() <= PLACES_MAX);
            assert!(entries.is_sorted_by(|a, b| a.key() < b.key()));
            (node.counts(), 1)
        }
        Node::Branch(children) => {
            assert!(children.len() > usize::from(is_root), "a branch without use");
            assert!(children.len() <= PLACES_MAX);
            let mut depth = None;
            for child in children.iter() {
                let (counts, below) = check_node(&child.node, false);
                assert_eq!(counts, child.counts);
                assert_eq!(*depth.get_or_insert(below), below, "leaves at different depths");
                let mut first = &child.node;
                while let Node::Branch(children) = first {
                    first = &children[0].node;
                }
                let Node::Leaf(entries) = first else { unreachable!() };
                assert!(Arc::ptr_eq(&entries[0], &child.first), "a stale first entry");
            }
            assert!(children.is_sorted_by(|a, b| a.first.key() < b.first.key()));
            (node.counts(), depth.unwrap() + 1)
        }
    }
}

fn check(root: &Root, model: &Model) {
    let (counts, depth) = check_node(&root.node, true);
    assert_eq!(counts, root.counts);
    assert_eq!(depth, root.node.height());
    assert_eq!(root.len(), model.len() as u64);
    assert_eq!(root.is_empty(), model.is_empty());
    assert_eq!(root.live_len(), model.values().filter(|entry| entry.is_live()).count() as u64);
    assert!(same(root.range(&KeyRange::all()), model.values()));
}

fn same<'a>(left: impl Iterator<Item = &'a Arc<Entry>>, right: impl Iterator<Item = &'a Arc<Entry>>) -> bool {
    left.map(Arc::as_ptr).eq(right.map(Arc::as_ptr))
}

fn check_range(root: &Root, model: &Model, range: &KeyRange) {
    let expected: Vec<_> =
        model.iter().filter(|(key, _)| range.contains(key)).map(|(_, entry)| entry).collect();
    assert!(same(root.range(range), expected.iter().copied()), "{range:?}");
    assert_eq!(
        root.count_live(range),
        expected.iter().filter(|entry| entry.is_live()).count() as u64,
        "{range:?}"
    );
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u32, bool),
    Remove(u32),
    RemoveRun(u32, u8),
    Snapshot,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..4000u32, any::<bool>()).prop_map(|(key, is_live)| Step::Insert(key, is_live)),
        3 => (0..4000u32).prop_map(Step::Remove),
        2 => (0..4000u32, any::<u8>()).prop_map(|(key, len)| Step::RemoveRun(key, len)),
        1 => Just(Step::Snapshot),
    ];
    prop::collection::vec(step, 0..300)
}

fn range() -> impl Strategy<Value = KeyRange> {
    let key = || (0..4100u32).prop_map(key);
    prop_oneof![
        key().prop_map(KeyRange::single),
        key().prop_map(KeyRange::from),
        (key(), key()).prop_map(|(start, end)| KeyRange::span(start, end)),
        (key(), 0..3usize).prop_map(|(key, len)| KeyRange::prefix(key[..len.min(key.len())].to_vec())),
        Just(KeyRange::all()),
        key().prop_map(|end| KeyRange::span(Vec::new(), end)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn it_does_what_an_ordered_map_does(
        start in 0..4000u32, steps in steps(), ranges in prop::collection::vec(range(), 1..12)
    ) {
        let mut model: Model =
            (0..start).map(|number| (key(number), entry(&key(number), 1, number % 3 != 0))).collect();
        let mut index = Index::from_sorted(model.values().cloned());
        check(&index.root(), &model);
        let mut old: Vec<(Root, Model)> = Vec::new();
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert(number, is_live) => {
                    let new = entry(&key(number), at as i64 + 2, is_live);
                    let (ours, theirs) = (index.insert(new.clone()), model.insert(key(number), new));
                    prop_assert_eq!(ours.map(|e| Arc::as_ptr(&e)), theirs.map(|e| Arc::as_ptr(&e)));
                }
                Step::Remove(number) => {
                    let (ours, theirs) = (index.remove(&key(number)), model.remove(&key(number)));
                    prop_assert_eq!(ours.map(|e| Arc::as_ptr(&e)), theirs.map(|e| Arc::as_ptr(&e)));
                }
                Step::RemoveRun(number, len) => {
                    let run: Vec<_> = model.range(key(number)..).take(len.into()).map(|(key, _)| key.clone()).collect();
                    for key in run {
                        model.remove(&key);
                        prop_assert!(index.remove(&key).is_some());
                    }
                }
                Step::Snapshot => old.push((index.root(), model.clone())),
            }
        }
        check(&index, &model);
        for number in 0..4000 {
            prop_assert_eq!(
                index.get(&key(number)).map(Arc::as_ptr), model.get(&key(number)).map(Arc::as_ptr));
        }
        old.push((index.root(), model));
        drop(index);
        for (root, model) in &old {
            check(root, model);
            for range in &ranges {
                check_range(root, model, range);
            }
        }
    }
}

#[test]
fn an_empty_index_answers() {
    let mut index = Index::new();
    assert!(index.is_empty());
    assert_eq!(index.count_live(&KeyRange::all()), 0);
    assert_eq!(index.range(&KeyRange::all()).count(), 0);
    assert!(index.remove(b"a").is_none());
    index.insert(entry(b"a", 2, true));
    assert!(index.remove(b"a").is_some());
    check(&index, &Model::new());
}

#[test]
fn it_shrinks_to_nothing_from_either_end() {
    for reverse in [false, true] {
        let mut model: Model =
            (0..20_000u32).map(|n| (n.to_be_bytes().to_vec(), entry(&n.to_be_bytes(), 2, true))).collect();
        let mut index = Index::from_sorted(model.values().cloned());
        let mut numbers: Vec<_> = (0..20_000u32).collect();
        if reverse {
            numbers.reverse();
        }
        for number in numbers {
            assert!(index.remove(&number.to_be_bytes()).is_some());
            model.remove(&number.to_be_bytes()[..]);
            if number % 1999 == 0 {
                check(&index, &model);
            }
        }
        check(&index, &model);
    }
}

#[test]
fn ascending_inserts_leave_full_nodes() {
    let index: Index = (0..50_000u32).map(|n| entry(&n.to_be_bytes(), 2, true)).collect();
    fn leaves(node: &Node) -> usize {
        match node {
            Node::Leaf(_) => 1,
            Node::Branch(children) => children.iter().map(|child| leaves(&child.node)).sum(),
        }
    }
    assert!(leaves(&index.root.node) < 50_000 / (PLACES_MAX * 2 / 3));
}

#[test]
fn the_writer_copies_only_what_a_reader_sees() {
    let leaf_of = |root: &Root| match &root.node {
        Node::Leaf(entries) => Arc::as_ptr(entries),
        Node::Branch(_) => unreachable!(),
    };
    let mut index = Index::new();
    index.insert(entry(b"a", 2, true));
    let before = leaf_of(&index);
    index.insert(entry(b"b", 3, true));
    assert_eq!(leaf_of(&index), before, "nobody looks: changed in place");
    let root = index.root();
    assert!(index.remove(b"x").is_none());
    assert_eq!(leaf_of(&index), before, "nothing to remove: nothing to copy");
    index.insert(entry(b"c", 4, true));
    assert_ne!(leaf_of(&index), before);
    assert_eq!(root.len(), 2);
}

#[test]
#[should_panic(expected = "must ascend")]
fn it_refuses_to_build_from_keys_out_of_order() {
    Index::from_sorted([entry(b"b", 2, true), entry(b"a", 2, true)].into_iter());
}

#[test]
fn dropped_versions_are_freed() {
    let mut index: Index = (0..1000u32).map(|n| entry(&n.to_be_bytes(), 2, true)).collect();
    let watched: Vec<_> =
        (0..1000u32).map(|n| Arc::downgrade(index.get(&n.to_be_bytes()).unwrap())).collect();
    for n in 0..1000u32 {
        let _root = index.root();
        index.insert(entry(&n.to_be_bytes(), 3, true));
    }
    assert!(watched.iter().all(|old| old.strong_count() == 0), "a branch keeps an old first entry");
}
