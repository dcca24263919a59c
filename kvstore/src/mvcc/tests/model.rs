//! Random operations on a keyspace, compared with the model after each.

use super::oracle::Oracle;
use super::*;
use crate::command::{Projection, RevisionFilter, Sort, SortOrder, SortTarget};
use crate::storage::Family;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// One step. Numbers that must lie within what exists are given as fractions of 256.
#[derive(Clone, Debug)]
enum Step {
    /// Revisions executed in one turn; between them the writer reads what is not published.
    Turn(Vec<Vec<Change>>, Query),
    /// As a turn, but the process dies before the engine gets the batch.
    LostTurn(Vec<Change>),
    Compact(u8),
    /// A step of removal; with `true` writes come between its scan and its application.
    Remove(usize, bool),
    RemoveAll,
    Read(Query),
    Pages(Query),
    History(u8, u8, usize),
    Hash(u8),
    Hold,
    Flush,
    Restart,
    Crash,
}

#[derive(Clone, Debug)]
struct Query {
    at: Option<u8>,
    query: RangeQuery,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(&b"ab\xff"[..]), 1..3)
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let value = prop::collection::vec(any::<u8>(), 0..20);
    let change = prop_oneof![
        3 => (key(), value, 0..3i64).prop_map(|(key, value, lease)| Change::Put { key, value, lease }),
        2 => key().prop_map(|key| Change::Delete { key }),
    ];
    // A revision changes a key at most once (etcd refuses duplicates).
    prop::collection::vec(change, 1..5).prop_map(|mut changes| {
        let mut seen = BTreeSet::new();
        changes.retain(|change| {
            let (Change::Put { key, .. } | Change::Delete { key }) = change;
            seen.insert(key.clone())
        });
        changes
    })
}

fn query() -> impl Strategy<Value = Query> {
    let range = prop_oneof![
        Just(KeyRange::all()),
        key().prop_map(KeyRange::single),
        key().prop_map(KeyRange::prefix),
        (key(), key()).prop_map(|(start, end)| KeyRange::span(start, end)),
    ];
    let target = prop::sample::select(vec![
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::CreateRevision,
        SortTarget::ModRevision,
        SortTarget::Value,
    ]);
    let order = prop::sample::select(vec![SortOrder::Ascending, SortOrder::Descending]);
    let sort = prop::option::of((target, order).prop_map(|(target, order)| Sort { target, order }));
    let projection = prop::sample::select(vec![
        Projection::Full,
        Projection::Full,
        Projection::KeysOnly,
        Projection::CountOnly,
    ]);
    let bound = || prop_oneof![3 => Just(rev(0)), 1 => (1..30i64).prop_map(rev)];
    let filter = prop_oneof![
        2 => Just(RevisionFilter::default()),
        1 => (bound(), bound(), bound(), bound()).prop_map(|(min_mod, max_mod, min_create, max_create)| {
            RevisionFilter { min_mod, max_mod, min_create, max_create }
        }),
    ];
    (prop::option::of(any::<u8>()), range, 0..5u64, sort, projection, filter).prop_map(
        |(at, range, limit, sort, projection, filter)| Query {
            at,
            query: RangeQuery { range, at: ReadAt::Latest, limit, sort, projection, filter },
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (prop::collection::vec(changes(), 1..4), query()).prop_map(|(turn, query)| Step::Turn(turn, query)),
        1 => changes().prop_map(Step::LostTurn),
        2 => any::<u8>().prop_map(Step::Compact),
        3 => (1..6usize, any::<bool>()).prop_map(|(max, late)| Step::Remove(max, late)),
        1 => Just(Step::RemoveAll),
        6 => query().prop_map(Step::Read),
        2 => query().prop_map(Step::Pages),
        3 => (any::<u8>(), any::<u8>(), 1..400usize).prop_map(|(from, to, budget)| Step::History(from, to, budget)),
        2 => any::<u8>().prop_map(Step::Hash),
        1 => Just(Step::Hold),
        1 => Just(Step::Flush),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..40)
}

struct Run {
    keyspace: Keyspace,
    oracle: Oracle,
    flushed: Oracle,
    /// An old snapshot, and the model of its time.
    held: Option<(Snapshot, Oracle)>,
}

/// A revision from a fraction: now and then below the floor or in the future.
fn at(oracle: &Oracle, fraction: u8) -> i64 {
    let (low, high) = ((oracle.floor() - 2).max(1), oracle.revision + 2);
    low + (high - low) * i64::from(fraction) / 256
}

impl Run {
    fn new(cache_bytes: usize, prefilled: usize) -> Self {
        let keyspace = Keyspace::new(cache_bytes);
        let mut run = Self { keyspace, oracle: Oracle::default(), flushed: Oracle::default(), held: None };
        // Many keys and few changes: then counting in the past goes by the changes.
        let fill: Vec<Change> = (0..prefilled).map(|n| put(&format!("a{n:03}"), "filled")).collect();
        if !fill.is_empty() {
            run.execute(&fill);
            run.keyspace.publish();
        }
        run
    }

    fn execute(&mut self, changes: &[Change]) {
        let events = self.keyspace.execute(changes);
        let before = self.oracle.versions.len();
        self.oracle.execute(changes);
        assert_eq!(self.keyspace.versions.revision(), rev(self.oracle.revision));
        let written = &self.oracle.versions[before..];
        assert_eq!(
            events.iter().map(|event| (event.version, event.kv.clone())).collect::<Vec<_>>(),
            written.iter().map(|version| (version.id, version.kv.clone())).collect::<Vec<_>>()
        );
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Turn(turn, query) => self.turn(turn, query),
            Step::LostTurn(changes) => {
                let before = self.oracle.clone();
                self.execute(changes);
                self.oracle = before;
                self.reload();
            }
            Step::Compact(fraction) => {
                let to = at(&self.oracle, *fraction);
                assert_eq!(self.keyspace.compact(to), self.oracle.compact(to));
            }
            Step::Remove(max_records, late) => self.remove(*max_records, *late),
            Step::RemoveAll => self.remove_all(),
            Step::Read(query) => self.read(query),
            Step::Pages(query) => self.pages(query),
            Step::History(from, to, budget_bytes) => {
                let (from, to) = (at(&self.oracle, *from), at(&self.oracle, *to));
                self.history(from, to, *budget_bytes);
            }
            Step::Hash(fraction) => self.hash(at(&self.oracle, *fraction)),
            Step::Hold => {
                self.held = Some((self.keyspace.reader().snapshot(), self.oracle.clone()));
            }
            Step::Flush => {
                self.keyspace.engine.flush().unwrap();
                self.flushed = self.oracle.clone();
            }
            Step::Restart => self.reload(),
            Step::Crash => {
                self.keyspace.engine.crash();
                self.oracle = self.flushed.clone();
                self.reload();
            }
        }
    }

    fn reload(&mut self) {
        self.held = None; // A process that ends takes its snapshots along.
        self.keyspace.reload();
    }

    fn turn(&mut self, turn: &[Vec<Change>], query: &Query) {
        let published = self.oracle.clone();
        for changes in turn {
            self.execute(changes);
            let query = pinned(&self.oracle, query);
            assert_eq!(self.keyspace.versions.read(&query), self.oracle.range(&query), "{query:?}");
            for (key, kv) in self.oracle.live_at(self.oracle.revision) {
                let entry = self.keyspace.versions.head(&key).unwrap().clone();
                assert_eq!(self.keyspace.versions.value_of(&entry), Ok(kv));
            }
        }
        let reader = self.keyspace.reader();
        let (seen, revision) = reader.range(&RangeQuery::new(KeyRange::all())).unwrap();
        assert_eq!(revision, rev(published.revision), "nothing is seen before it is published");
        assert_eq!(seen.kvs, published.live_at(published.revision).into_values().collect::<Vec<_>>());
        self.keyspace.publish();
        assert_eq!(reader.revision(), rev(self.oracle.revision));
    }

    fn remove(&mut self, max_records: usize, late: bool) {
        let Some(scan) = self.keyspace.versions.next_removal() else { return };
        let removal = scan.run(RemovalLimits { max_records, max_bytes: usize::MAX }).unwrap();
        if late {
            self.execute(&[put("a", "late"), delete("b")]);
        }
        self.keyspace.versions.apply_removal(removal, &mut self.keyspace.batch).unwrap();
        self.keyspace.publish();
    }

    fn remove_all(&mut self) {
        self.keyspace.remove_all();
        assert_eq!(self.keyspace.versions.removed_below(), rev(self.oracle.floor()));
        assert_eq!(self.keyspace.versions.live_bytes(), self.oracle.retained_bytes());
        let names = |family, skip: usize| {
            let keys = self.keyspace.engine.keys(family).into_iter();
            keys.map(|key| key.slice(skip..)).collect::<Vec<_>>()
        };
        let versions: Vec<VersionId> =
            names(Family::Revisions, 0).iter().filter_map(|key| keys::parse_revision_key(key)).collect();
        let retained = self.oracle.retained();
        assert_eq!(versions, retained.iter().map(|version| version.id).collect::<Vec<_>>());
        let heads: BTreeSet<Vec<u8>> = retained.iter().map(|version| version.kv.key().to_vec()).collect();
        assert_eq!(names(Family::Heads, 4), heads.into_iter().collect::<Vec<_>>());
    }

    fn read(&self, query: &Query) {
        let wanted = pinned(&self.oracle, query);
        let result = self.keyspace.reader().range(&wanted);
        let expected = self.oracle.range(&wanted).map(|result| (result, rev(self.oracle.revision)));
        assert_eq!(result, expected, "{wanted:?}");
        let Some((snapshot, then)) = &self.held else { return };
        let wanted = pinned(then, query);
        match (snapshot.range(&wanted), then.range(&wanted)) {
            // Compaction may have overtaken the snapshot, but only if it says so with the present floor.
            (Err(crate::Error::Compacted { floor }), _) => {
                assert_eq!(floor, rev(self.oracle.floor()));
                let at = if let ReadAt::Revision(at) = wanted.at { at } else { snapshot.revision() };
                assert!(floor > at, "{floor} {at}");
            }
            (result, expected) => assert_eq!(result, expected, "{wanted:?}"),
        }
    }

    fn pages(&self, query: &Query) {
        let Query { at, query } = query;
        let at =
            at.map_or(ReadAt::Latest, |fraction| ReadAt::Revision(rev(self::at(&self.oracle, fraction))));
        let expected = self.oracle.range(&RangeQuery { at, ..RangeQuery::new(query.range.clone()) });
        let snapshot = self.keyspace.reader().snapshot();
        let limits = PageLimits { max_keys: query.limit as usize + 1, max_bytes: 150, walked_bytes: 0 };
        let mut kvs: Vec<KeyValue> = Vec::new();
        let collected = loop {
            let after = kvs.last().map(|kv| kv.key().to_vec());
            match snapshot.page(&query.range, after.as_deref(), at, limits, Projection::Full) {
                Err(error) => break Err(error),
                Ok(page) => {
                    assert!(page.kvs.len() <= limits.max_keys);
                    assert!(!page.more || !page.kvs.is_empty(), "a page makes progress");
                    kvs.extend(page.kvs);
                    if !page.more {
                        break Ok(kvs);
                    }
                }
            }
        };
        assert_eq!(snapshot.count(&query.range, at), expected.clone().map(|result| result.count));
        assert_eq!(collected, expected.map(|result| result.kvs));
    }

    fn history(&self, from: i64, to: i64, budget_bytes: usize) {
        let reader = self.keyspace.reader();
        let events = super::history(&reader, from, to, budget_bytes);
        let expected =
            if from > to.min(self.oracle.revision) { Ok(Vec::new()) } else { self.oracle.history(from, to) };
        let seen = events.map(|events| {
            let one = |event: &Arc<Event>| {
                assert_eq!(event.key(), event.kv.key());
                let previous = event.previous(&reader).unwrap();
                (event.version, event.kind == EventKind::Delete, event.kv.clone(), previous)
            };
            events.iter().map(one).collect::<Vec<_>>()
        });
        let expected = expected.map(|events| {
            let one = |(version, previous): (oracle::Version, _)| {
                (version.id, version.is_tombstone, version.kv, previous)
            };
            events.into_iter().map(one).collect::<Vec<_>>()
        });
        assert_eq!(seen, expected, "{from}..={to}");
    }

    fn hash(&self, at: i64) {
        let result = self.keyspace.reader().hash_kv(Some(rev(at)));
        let readable = self.oracle.range(&all_at(at)).map(|_| HashKv {
            hash: self.oracle.hash(at),
            compact_revision: self.oracle.floor.map(rev),
            hash_revision: rev(at),
            current: rev(self.oracle.revision),
        });
        assert_eq!(result, readable);
    }
}

fn pinned(oracle: &Oracle, Query { at: fraction, query }: &Query) -> RangeQuery {
    let at = fraction.map_or(ReadAt::Latest, |fraction| ReadAt::Revision(rev(at(oracle, fraction))));
    RangeQuery { at, ..query.clone() }
}

proptest! {

    #[test]
    fn a_keyspace_behaves_as_the_model(
        steps in steps(),
        cache_bytes in prop::sample::select(vec![0, 1200, 1 << 20]),
        prefilled in prop::sample::select(vec![0, 0, 150]),
    ) {
        let mut run = Run::new(cache_bytes, prefilled);
        for step in &steps {
            run.step(step);
        }
        run.remove_all();
        for at in run.oracle.floor().max(1)..=run.oracle.revision {
            run.hash(at);
            let all = all_at(at);
            prop_assert_eq!(run.keyspace.reader().range(&all).unwrap().0, run.oracle.range(&all).unwrap());
        }
        run.history(run.oracle.floor(), run.oracle.revision, 1 << 20);
    }
}
