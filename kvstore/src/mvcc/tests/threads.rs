//! Readers on other threads while the writer writes, compacts and removes.

use super::*;
use crate::command::{Projection, RevisionFilter};
use crate::types::Error;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const KEYS: usize = 40;

/// Every revision writes its own number into some of the keys, among them always `last`; `flicker` lives only
/// after even revisions.
fn write(keyspace: &mut Keyspace, n: usize) {
    let revision = keyspace.versions.revision().next().get();
    let number = revision.to_string();
    let flicker = if revision % 2 == 0 { put("flicker", &number) } else { delete("flicker") };
    keyspace.execute(&[put("last", &number), put(&format!("k{:02}", n * 7 % KEYS), &number), flicker]);
}

fn check(kvs: &[KeyValue], at: Revision) {
    let value = |key: &str| {
        let kv = kvs.iter().find(|kv| kv.key() == key.as_bytes())?;
        assert_eq!(kv.value(), kv.mod_revision.to_string().as_bytes(), "each value tells its revision");
        Some(kv.mod_revision)
    };
    assert_eq!(value("last"), Some(at), "a root, its revision and its values belong together");
    assert_eq!(value("flicker"), (at.get() % 2 == 0).then_some(at));
    assert!(kvs.iter().all(|kv| kv.mod_revision <= at));
}

fn allowed<T>(result: Result<T>, overtaken: &AtomicUsize) -> Option<T> {
    match result {
        Ok(found) => Some(found),
        Err(Error::Compacted { .. }) => {
            overtaken.fetch_add(1, Ordering::Relaxed);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn read_on(reader: &Reader, seed: usize, overtaken: &AtomicUsize) {
    let all = RangeQuery::new(KeyRange::all());
    let (result, revision) = reader.range(&all).unwrap();
    check(&result.kvs, revision);
    let behind = rev((revision.get() - (seed % 12) as i64).max(2));
    let past = RangeQuery { at: ReadAt::Revision(behind), ..all.clone() };
    if let Some((result, _)) = allowed(reader.range(&past), overtaken) {
        check(&result.kvs, behind);
        let count = reader.snapshot().count(&KeyRange::all(), past.at);
        assert_eq!(allowed(count, overtaken).unwrap_or(result.count), result.count);
    }
    let recent = RevisionFilter { min_mod: behind, ..RevisionFilter::default() };
    let (result, revision) = reader.range(&RangeQuery { filter: recent, limit: 2, ..all }).unwrap();
    assert!(result.kvs.iter().all(|kv| (behind..=revision).contains(&kv.mod_revision)));
    // Each page of a pinned walk sees the same revision.
    let snapshot = reader.snapshot();
    let mut kvs: Vec<KeyValue> = Vec::new();
    loop {
        let limits = PageLimits { max_keys: 9, max_bytes: 10_000, walked_bytes: 0 };
        let after = kvs.last().map(|kv| kv.key().to_vec());
        let page =
            snapshot.page(&KeyRange::all(), after.as_deref(), ReadAt::Latest, limits, Projection::Full);
        let Some(page) = allowed(page, overtaken) else { break };
        kvs.extend(page.kvs);
        if !page.more {
            check(&kvs, snapshot.revision());
            break;
        }
        std::thread::yield_now();
    }
}

/// Follows the history as a watcher does, and keeps a copy of the data with it.
fn follow(reader: &Reader, stop: &AtomicBool, overtaken: &AtomicUsize, laps: &AtomicUsize) -> usize {
    let mut copy: HashMap<Vec<u8>, KeyValue> = HashMap::new();
    let (mut next, mut seen) = (rev(2), 0);
    loop {
        let is_last = stop.load(Ordering::Relaxed);
        laps.fetch_add(1, Ordering::Relaxed);
        let result = reader.history(next, rev(i64::MAX - 1), 2000, &mut |event| {
            seen += 1;
            if let Some(previous) = event.previous(reader).unwrap() {
                assert_eq!(copy.get(event.key()), Some(&previous));
            }
            match event.kind {
                EventKind::Put => drop(copy.insert(event.key().to_vec(), event.kv.clone())),
                EventKind::Delete => assert!(copy.remove(event.key()).is_some()),
            }
            ControlFlow::Continue(())
        });
        match allowed(result, overtaken) {
            Some(page) => next = page.next,
            None => {
                let (result, revision) = reader.range(&RangeQuery::new(KeyRange::all())).unwrap();
                copy = result.kvs.into_iter().map(|kv| (kv.key().to_vec(), kv)).collect();
                next = revision.next();
            }
        }
        if is_last && next > reader.revision() {
            let (result, _) = reader.range(&RangeQuery::new(KeyRange::all())).unwrap();
            assert_eq!(result.kvs.len(), copy.len());
            assert!(result.kvs.iter().all(|kv| copy.get(kv.key()) == Some(kv)));
            return seen;
        }
    }
}

/// Gives the follower a chance to come along, without depending on it.
fn wait_for_the_others(laps: &AtomicUsize) {
    let before = laps.load(Ordering::Relaxed);
    for _ in 0..50 {
        if laps.load(Ordering::Relaxed) >= before + 2 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn readers_see_whole_revisions_while_everything_moves() {
    readers_and_a_writer(Keyspace::new(6000));
}

#[test]
fn readers_see_whole_revisions_of_an_index_that_is_changed_in_place() {
    let mut keyspace = Keyspace::new(6000);
    keyspace.versions.change_in_place();
    readers_and_a_writer(keyspace);
}

/// Who waits for a writer that never comes back is told so; the revision and the floor can still be asked for.
#[test]
fn a_writer_that_ends_half_way_leaves_nobody_waiting() {
    let mut keyspace = Keyspace::new(6000);
    keyspace.versions.change_in_place();
    keyspace.commit(&[put("a", "1")]);
    let (reader, held) = (keyspace.reader(), keyspace.reader().snapshot());
    keyspace.execute(&[put("a", "2"), put("b", "2")]);
    assert_eq!((reader.revision(), reader.floor()), (rev(2), Revision::NONE));
    let all = RangeQuery::new(KeyRange::all());
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| reader.range(&all));
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!waits.is_finished(), "half of a revision was shown, or half of a batch");
        drop(keyspace);
        assert!(matches!(waits.join().unwrap(), Err(Error::Poisoned(_))));
    });
    assert_eq!(held.range(&all).unwrap().count, 1, "what was taken before stays");
    let lost = reader.snapshot();
    assert!(matches!(lost.count(&KeyRange::all(), ReadAt::Latest), Err(Error::Poisoned(_))));
    assert!(matches!(reader.hash_kv(None), Err(Error::Poisoned(_))));
    let limits = PageLimits { max_keys: 9, max_bytes: 10_000, walked_bytes: 0 };
    let page = lost.page(&KeyRange::all(), None, ReadAt::Latest, limits, Projection::Full);
    assert!(matches!(page, Err(Error::Poisoned(_))));
}

#[test]
fn readers_see_whole_revisions_on_rocksdb() {
    let dir = tempfile::tempdir().unwrap();
    readers_and_a_writer(Keyspace::on(ProbeEngine::rocks(&dir.path().join("state")), 6000));
}

fn readers_and_a_writer(mut keyspace: Keyspace) {
    write(&mut keyspace, 0);
    keyspace.publish();
    let (stop, overtaken) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (reader, reads, laps) = (keyspace.reader(), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (reader, stop, overtaken, reads) = (&reader, &stop, &overtaken, &reads);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    read_on(reader, reads.fetch_add(1, Ordering::Relaxed) + thread, overtaken);
                }
            });
        }
        let follower = scope.spawn(|| follow(&reader, &stop, &overtaken, &laps));
        for n in 1..1500 {
            for m in 0..1 + n % 3 {
                write(&mut keyspace, n + m);
            }
            keyspace.publish();
            if n % 5 == 0 {
                // Sometimes to the very end, sometimes well behind; the latter may be refused.
                let floor = keyspace.versions.revision().get() - (n % 4 * 10) as i64;
                let _ = keyspace.compact(floor);
            }
            if n % 10 == 0 {
                wait_for_the_others(&laps);
            }
            if n % 2 == 0 {
                keyspace.remove(20);
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(follower.join().unwrap() > 0);
    });
    assert!(reads.load(Ordering::Relaxed) > 2, "the readers got a turn");
    keyspace.remove_all();
    assert!(keyspace.versions.heads().len() <= KEYS as u64 + 2);
}
