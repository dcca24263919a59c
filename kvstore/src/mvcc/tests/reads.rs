//! Which reads touch the engine, how much, and what happens when compaction overtakes them.

use super::window::Published;
use super::*;
use crate::command::{Projection, Sort, SortOrder, SortTarget};
use crate::mvcc::records::Records;
use crate::storage::Family;
use crate::types::Error;
use std::sync::atomic::Ordering;

const LARGE_CACHE: usize = 1 << 24;

impl Keyspace {
    /// What the engine did since the last call: versions read by name, and entries passed by scans.
    fn engine_reads(&self) -> (usize, usize) {
        let engine = &self.engine;
        (engine.point_reads.swap(0, Ordering::Relaxed), engine.scanned.swap(0, Ordering::Relaxed))
    }
}

fn filled(cache_bytes: usize, keys: usize) -> Keyspace {
    let mut keyspace = Keyspace::new(cache_bytes);
    for n in 0..keys {
        keyspace.commit(&[put(&format!("/k/{n:05}"), &format!("value {n}"))]);
    }
    keyspace.engine_reads();
    keyspace
}

#[test]
fn a_fresh_keyspace_is_empty_at_revision_1() {
    let keyspace = Keyspace::new(0);
    let reader = keyspace.reader();
    assert_eq!((reader.revision(), reader.floor()), (Revision::FIRST, Revision::NONE));
    assert_eq!(reader.range(&all_at(1)).unwrap().0.count, 0);
    assert_eq!(reader.range(&all_at(2)).unwrap_err(), Error::FutureRevision { current: rev(1) });
    assert_eq!(keyspace.versions.live_bytes(), 0);
}

#[test]
fn cached_values_are_read_without_the_engine() {
    let mut keyspace = filled(LARGE_CACHE, 300);
    let mut query = RangeQuery::new(KeyRange::prefix("/k/"));
    let (result, revision) = keyspace.reader().range(&query).unwrap();
    assert_eq!((result.kvs.len(), revision), (300, rev(301)));
    query.limit = 10;
    let page = keyspace.reader().range(&query).unwrap().0;
    assert_eq!((page.kvs.len(), page.more, page.count), (10, true, 300));
    assert_eq!(keyspace.engine_reads(), (0, 0));

    keyspace.reload();
    let (_, scanned) = keyspace.engine_reads();
    assert_eq!(scanned, 300, "the index comes from the heads alone");
    keyspace.reader().range(&query).unwrap();
    assert_eq!(keyspace.engine_reads(), (10, 0), "only what the page returns is read");
    keyspace.reader().range(&query).unwrap();
    assert_eq!(keyspace.engine_reads(), (0, 0), "and once");
}

#[test]
fn what_needs_no_value_reads_none() {
    let mut keyspace = filled(0, 50);
    let base = RangeQuery::new(KeyRange::all());
    let by_version = Sort { target: SortTarget::Version, order: SortOrder::Descending };
    let keys_only = RangeQuery { projection: Projection::KeysOnly, ..base.clone() };
    let reader = keyspace.reader();
    reader.range(&keys_only).unwrap();
    reader.range(&RangeQuery { sort: Some(by_version), ..keys_only }).unwrap();
    reader.range(&RangeQuery { projection: Projection::CountOnly, ..base.clone() }).unwrap();
    assert_eq!(keyspace.engine_reads(), (0, 0));
    reader.range(&RangeQuery { sort: Some(by_version), limit: 3, ..base }).unwrap();
    assert_eq!(keyspace.engine_reads(), (3, 0));
    // A live key that is older than R was alive at R: no need to look.
    keyspace.commit(&[put("/k/00001", "new")]);
    keyspace.engine_reads();
    assert_eq!(keyspace.reader().snapshot().count(&KeyRange::all(), ReadAt::Revision(rev(51))), Ok(50));
    assert_eq!(keyspace.engine_reads().0, 0);
}

#[test]
fn values_are_shared_with_the_cache() {
    let mut keyspace = Keyspace::new(LARGE_CACHE);
    let events = keyspace.commit(&[put("a", &"x".repeat(1000))]);
    let (first, second) = (keyspace.get("a").unwrap(), keyspace.get("a").unwrap());
    assert_eq!(first.encoded().as_ptr(), second.encoded().as_ptr());
    assert_eq!(first.encoded().as_ptr(), events[0].kv.encoded().as_ptr(), "the watch's bytes are the same");
}

#[test]
fn a_count_in_the_recent_past_reads_the_changes_since() {
    let mut keyspace = filled(LARGE_CACHE, 1000);
    keyspace.commit(&[delete("/k/00500"), put("/k/00501", "again"), put("/k/99999", "new")]);
    keyspace.commit(&[put("/k/00500", "back"), delete("/k/00502")]);
    keyspace.engine_reads();
    let snapshot = keyspace.reader().snapshot();
    let count = |at| snapshot.count(&KeyRange::prefix("/k/"), ReadAt::Revision(rev(at)));
    assert_eq!((count(1001), count(1002), count(1003)), (Ok(1000), Ok(1000), Ok(1000)));
    let (reads, scanned) = keyspace.engine_reads();
    assert!(reads == 0 && scanned <= 8, "{reads} {scanned}");
    assert_eq!(snapshot.count(&KeyRange::span("/k/00500", "/k/00503"), ReadAt::Revision(rev(1002))), Ok(2));
    assert_eq!(count(500), Ok(499), "far back it goes by the keys");

    // Asked again, later: only what has come since then is read.
    keyspace.commit(&[delete("/k/00001"), put("/k/00502", "back"), delete("/k/99999")]);
    keyspace.engine_reads();
    let snapshot = keyspace.reader().snapshot();
    let count = |at, range: &KeyRange| snapshot.count(range, ReadAt::Revision(rev(at)));
    assert_eq!(count(1001, &KeyRange::prefix("/k/")), Ok(1000));
    assert_eq!(keyspace.engine_reads(), (0, 3));
    assert_eq!(count(1001, &KeyRange::span("/k/00001", "/k/00003")), Ok(2));
    assert_eq!(count(1001, &KeyRange::from("/k/00900")), Ok(100));
    assert_eq!(keyspace.engine_reads(), (0, 0));
}

#[test]
fn a_page_in_the_past_reads_what_it_returns() {
    let mut keyspace = filled(LARGE_CACHE, 1000);
    for n in 0..300 {
        keyspace.commit(&[put(&format!("/k/{n:05}"), "newer")]);
    }
    keyspace.engine_reads();
    let query = RangeQuery { limit: 10, ..all_at(1001) };
    let result = keyspace.reader().range(&query).unwrap().0;
    assert_eq!((result.kvs.len(), result.more, result.count), (10, true, 1000));
    assert_eq!(result.kvs[0].value(), b"value 0");
    let (reads, scanned) = keyspace.engine_reads();
    assert!(reads + scanned <= 16, "{reads} {scanned}");
}

#[test]
fn a_hot_key_does_not_make_the_past_expensive() {
    let mut keyspace = filled(LARGE_CACHE, 3);
    keyspace.commit(&[delete("/k/00001")]);
    for n in 0..3000 {
        keyspace.commit(&[put("/k/00000", &n.to_string())]);
    }
    keyspace.commit(&[delete("/k/00002"), put("/k/00001", "back")]);
    keyspace.engine_reads();
    let result = keyspace.reader().range(&all_at(4)).unwrap().0;
    assert_eq!(keys_of(&result.kvs), ["/k/00000", "/k/00001", "/k/00002"]);
    assert_eq!(result.kvs[0].value(), b"value 0");
    let (reads, scanned) = keyspace.engine_reads();
    // One pointer at a time would be 3000 reads, each in a round of its own.
    assert!(reads <= 1000 && scanned <= 3010, "{reads} {scanned}");
    let result = keyspace.reader().range(&all_at(5)).unwrap().0;
    assert_eq!(keys_of(&result.kvs), ["/k/00000", "/k/00002"]);
}

#[test]
fn the_past_is_right_wherever_the_walk_changes_its_way() {
    let mut keyspace = Keyspace::new(0);
    keyspace.commit(&[put("hot", "old"), put("warm", "old")]);
    for _ in 0..1500 {
        keyspace.execute(&[put("hot", "new")]);
    }
    // "warm" ends at a later step each time: before, at and after the change to the other way, whose walk
    // begins so far back that it does not meet "warm" any more.
    for round in 0..280 {
        keyspace.commit(&[put("warm", "new")]);
        if round >= 240 {
            let kvs = keyspace.reader().range(&all_at(2)).unwrap().0.kvs;
            assert_eq!(keys_of(&kvs), ["hot", "warm"]);
            assert!(kvs.iter().all(|kv| kv.value() == b"old"));
        }
    }
}

#[test]
fn pages_respect_the_byte_budget() {
    let mut keyspace = Keyspace::new(0);
    for n in 0..10 {
        keyspace.commit(&[put(&format!("k{n}"), &"x".repeat(1000))]);
    }
    let snapshot = keyspace.reader().snapshot();
    keyspace.commit(&[delete("k3")]);
    let page = |after: Option<&str>, at, max_bytes| {
        let limits = PageLimits { max_keys: 100, max_bytes, walked_bytes: 0 };
        let after = after.map(str::as_bytes);
        snapshot.page(&KeyRange::all(), after, at, limits, Projection::Full).unwrap()
    };
    assert_eq!(keys_of(&page(None, ReadAt::Latest, 2500).kvs), ["k0", "k1", "k2"]);
    assert_eq!(keys_of(&page(Some("k2"), ReadAt::Latest, 1).kvs), ["k3"], "the snapshot is pinned");
    let past = page(Some("k2"), ReadAt::Revision(rev(6)), 10_000);
    assert_eq!((keys_of(&past.kvs), past.more), (vec!["k3".to_owned(), "k4".to_owned()], false));
    assert_eq!(page(Some("zzz"), ReadAt::Latest, 1), Page { kvs: vec![], more: false });
}

/// Walks over everything in pages of ten; gives how many keys there were.
fn walk(reader: &Reader) -> usize {
    let snapshot = reader.snapshot();
    let (mut found, mut walked_bytes, mut after) = (0, 0, None);
    loop {
        let limits = PageLimits { max_keys: 10, max_bytes: 100_000, walked_bytes };
        let (at, full) = (ReadAt::Latest, Projection::Full);
        let page = snapshot.page(&KeyRange::all(), after.as_deref(), at, limits, full).unwrap();
        found += page.kvs.len();
        walked_bytes += page.kvs.iter().map(|kv| kv.encoded().len()).sum::<usize>();
        after = page.kvs.last().map(|kv| kv.key().to_vec());
        if !page.more {
            return found;
        }
    }
}

/// Whoever lists everything leaves half of the cache to the others.
#[test]
fn a_walk_over_everything_does_not_fill_the_cache() {
    const BOUND: usize = 40_000;
    let mut keyspace = Keyspace::new(BOUND);
    for n in 100..300 {
        keyspace.commit(&[put(&format!("k{n}"), &"x".repeat(400))]);
    }
    let at_once = |reader: &Reader| reader.range(&RangeQuery::new(KeyRange::all())).unwrap().0.kvs.len();
    type List = fn(&Reader) -> usize;
    for (list, keeps_its_first_half) in [(walk as List, true), (at_once as List, false)] {
        keyspace.reload();
        let reader = keyspace.reader();
        let cached = || reader.shared.cache.bytes();
        assert_eq!(cached(), 0);
        let first = RangeQuery { limit: 20, ..RangeQuery::new(KeyRange::all()) };
        assert_eq!(reader.range(&first).unwrap().0.kvs.len(), 20);
        let before = cached();
        assert!(before > 20 * 400, "a small read is kept: {before} bytes");
        assert_eq!(list(&reader), 200);
        assert!(cached() < BOUND * 4 / 5, "{} bytes after a walk over 80,000", cached());
        assert_eq!(cached() > before, keeps_its_first_half);
    }
}

/// Compacts and removes everything between a reader's look at the index and its look at the engine.
fn overtake(keyspace: &mut Keyspace) {
    let mut batch = Batch::default();
    let mut writer = super::load(&keyspace.engine, 0).unwrap();
    let at = VersionId::new(writer.revision().next(), SubRevision::new(0));
    writer.put(at, b"a", b"newer", LeaseId::NONE, &mut batch);
    writer.finish_revision(at.revision, &mut batch);
    writer.compact(at.revision, &mut batch).unwrap();
    keyspace.engine.write(std::mem::take(&mut batch)).unwrap();
    writer.publish();
    while let Some(scan) = writer.next_removal() {
        let removal = scan.run(RemovalLimits::default()).unwrap();
        writer.apply_removal(removal, &mut batch).unwrap();
        keyspace.engine.write(std::mem::take(&mut batch)).unwrap();
        writer.publish();
    }
    // The readers of the keyspace under test see what that writer published.
    let shared = keyspace.reader().shared;
    let newer = writer.reader().shared.window.look();
    shared.window.show(Published::new(newer.root.clone(), newer.revision, newer.floor));
}

#[test]
fn a_read_that_compaction_overtakes() {
    let set_up = || {
        let mut keyspace = Keyspace::new(0);
        keyspace.commit(&[put("a", "old"), put("b", "b")]);
        keyspace.commit(&[put("c", "c")]);
        keyspace
    };
    let overtaken = |read: &dyn Fn(&Reader) -> Result<Vec<KeyValue>>| {
        let mut keyspace = set_up();
        let (reader, engine) = (keyspace.reader(), keyspace.engine.clone());
        engine.before_next_read(move || overtake(&mut keyspace));
        read(&reader)
    };
    let latest = overtaken(&|reader| Ok(reader.range(&RangeQuery::new(KeyRange::all()))?.0.kvs)).unwrap();
    assert_eq!(latest[0].value(), b"newer", "a read of the latest data begins again");
    let compacted = Err(Error::Compacted { floor: rev(4) });
    assert_eq!(overtaken(&|reader| Ok(reader.range(&all_at(2))?.0.kvs)), compacted);
    assert_eq!(overtaken(&|reader| Ok(reader.snapshot().range(&all_at(3))?.kvs)), compacted);
    let page = |reader: &Reader| {
        let limits = PageLimits { max_keys: 2, max_bytes: 1000, walked_bytes: 0 };
        let snapshot = reader.snapshot();
        let page = |after| snapshot.page(&KeyRange::all(), after, ReadAt::Latest, limits, Projection::Full);
        page(None).and_then(|first| Ok([first.kvs, page(Some(b"b"))?.kvs].concat()))
    };
    assert_eq!(overtaken(&page), compacted);
}

#[test]
fn pages_end_when_compaction_passes_them_even_if_all_is_in_memory() {
    let mut keyspace = filled(LARGE_CACHE, 10);
    let snapshot = keyspace.reader().snapshot();
    let page = || {
        let limits = PageLimits { max_keys: 3, max_bytes: 1000, walked_bytes: 0 };
        snapshot.page(&KeyRange::all(), None, ReadAt::Latest, limits, Projection::Full)
    };
    keyspace.compact(11).unwrap();
    assert_eq!(page().map(|page| page.kvs.len()), Ok(3), "the floor itself is readable");
    keyspace.commit(&[put("x", "")]);
    keyspace.compact(12).unwrap();
    assert_eq!(page(), Err(Error::Compacted { floor: rev(12) }));
}

#[test]
fn a_count_that_compaction_overtakes() {
    let mut keyspace = filled(LARGE_CACHE, 300);
    keyspace.commit(&[delete("/k/00007")]);
    keyspace.commit(&[put("/k/00008", "")]);
    let (snapshot, engine) = (keyspace.reader().snapshot(), keyspace.engine.clone());
    // It goes by the changes; the tombstone among them is gone when it looks.
    engine.before_next_read(move || overtake(&mut keyspace));
    let count = snapshot.count(&KeyRange::all(), ReadAt::Revision(rev(301)));
    assert_eq!(count, Err(Error::Compacted { floor: rev(304) }));
}

#[test]
fn a_missing_or_damaged_record_is_an_error_not_a_panic() {
    let is_fatal = |value: Option<bytes::Bytes>| {
        let keyspace = filled(0, 3);
        let key = keys::revision_key(KeyspaceId::DEFAULT, version(3, 0));
        keyspace.engine.tamper(Family::Revisions, &key, value);
        let result = keyspace.reader().range(&RangeQuery::new(KeyRange::all()));
        matches!(result, Err(Error::Damaged { reason, .. })
                 if reason.contains("revision 3") && reason.contains("restore"))
    };
    assert!(is_fatal(None));
    assert!(is_fatal(Some(bytes::Bytes::from_static(b"\x09rubbish"))));
}

#[test]
fn damaged_state_refuses_to_load() {
    let refuses = |family, key: &[u8], value: &'static [u8]| {
        let keyspace = filled(0, 3);
        keyspace.engine.tamper(family, key, Some(bytes::Bytes::from_static(value)));
        matches!(super::load(&keyspace.engine, 0), Err(Error::Poisoned(_)))
    };
    let meta = |tag| keys::meta_key(tag, KeyspaceId::DEFAULT);
    assert!(refuses(Family::Heads, &keys::head_key(KeyspaceId::DEFAULT, b"/k/00001"), b"short"));
    assert!(refuses(Family::Meta, &meta(keys::META_COUNTERS), b"short"));
    assert!(refuses(Family::Meta, &meta(keys::META_FLOOR), b""));
    assert!(refuses(Family::Meta, &meta(keys::META_REMOVED), b"?"));
}

#[test]
fn a_record_that_is_written_but_not_published_is_met_once() {
    let keyspace = filled(0, 3);
    let bytes = |id| {
        let key = keys::revision_key(KeyspaceId::DEFAULT, id);
        (id, keyspace.engine.get(Family::Revisions, &key).unwrap().unwrap())
    };
    let unwritten = [bytes(version(3, 0)), bytes(version(4, 0))];
    let records = Records { engine: &*keyspace.engine, keyspace: KeyspaceId::DEFAULT, unwritten: &unwritten };
    let visited = |from, to, max: usize| {
        let mut ids = Vec::new();
        let mut visit = |id: VersionId, _: keys::RecordView<'_>| {
            ids.push(id.revision.get());
            Ok(if ids.len() == max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        records.scan(version(from, 0), rev(to), &mut visit).unwrap();
        ids
    };
    assert_eq!(visited(1, 9, 9), [2, 3, 4]);
    assert_eq!(visited(3, 3, 9), [3]);
    assert_eq!((visited(1, 9, 1), visited(1, 9, 2)), (vec![2], vec![2, 3]));
}

#[test]
fn keyspaces_do_not_see_each_other() {
    let mut one = filled(0, 5);
    let other = KeyspaceId::new(KeyspaceId::DEFAULT.get() + 1);
    let open = || Versions::load(other, one.engine.clone(), ValueCache::new(0)).unwrap();
    let mut versions = open();
    let mut batch = Batch::default();
    versions.put(version(2, 0), b"/k/00001", b"other", LeaseId::NONE, &mut batch);
    versions.finish_revision(rev(2), &mut batch);
    one.engine.write(batch).unwrap();
    versions.publish();
    let versions = open();
    assert_eq!((versions.revision(), versions.heads().len()), (rev(2), 1));
    one.reload();
    assert_eq!((one.versions.revision(), one.versions.heads().len()), (rev(6), 5));
    assert_eq!(super::history(&one.reader(), 1, 100, 1).unwrap().len(), 5);
    assert_ne!(one.reader().hash_kv(None).unwrap().hash, versions.reader().hash_kv(None).unwrap().hash);
}

#[test]
fn what_is_surely_small_is_told_from_the_index() {
    let mut keyspace = filled(LARGE_CACHE, 300);
    keyspace.commit(&[put("/large", &"v".repeat(5_000))]);
    let small = |keyspace: &Keyspace, change: &dyn Fn(&mut RangeQuery)| {
        let mut query = RangeQuery::new(KeyRange::prefix("/"));
        change(&mut query);
        keyspace.reader().is_small(&query, 100, 4_000)
    };
    assert!(!small(&keyspace, &|_| ()), "too many keys");
    assert!(small(&keyspace, &|query| query.limit = 20));
    assert!(!small(&keyspace, &|query| query.limit = 90), "too many bytes: 90 × (8 + 7 + 48)");
    assert!(small(&keyspace, &|query| {
        query.limit = 70;
        query.projection = Projection::KeysOnly;
    }));
    assert!(small(&keyspace, &|query| query.projection = Projection::CountOnly));
    assert!(small(&keyspace, &|query| query.range = KeyRange::single("/large")));
    assert!(!small(&keyspace, &|query| query.range = KeyRange::prefix("/large")));
    let newest = Some(Sort { target: SortTarget::ModRevision, order: SortOrder::Descending });
    assert!(
        !small(&keyspace, &|query| (query.limit, query.sort) = (20, newest)),
        "all is read before the cut"
    );
    for (at, is_small) in [(5, false), (301, false), (302, true), (0, true)] {
        assert_eq!(
            small(&keyspace, &|query| (query.limit, query.at) = (20, ReadAt::Revision(rev(at)))),
            is_small
        );
        let one = |query: &mut RangeQuery| {
            query.range = KeyRange::single("/large");
            query.at = ReadAt::Revision(rev(at));
        };
        assert_eq!(small(&keyspace, &one), is_small, "{at}");
    }
    assert_eq!(keyspace.engine_reads(), (0, 0));

    for n in 0..300 {
        keyspace.commit(&[delete(&format!("/k/{n:05}"))]);
    }
    assert!(!small(&keyspace, &|query| query.limit = 1), "the way to the first key is long");
    assert!(small(&keyspace, &|query| query.range = KeyRange::prefix("/k/0000")));
}
