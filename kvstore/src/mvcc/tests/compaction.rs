//! The floor's rules, and what removal takes away.

use super::*;
use crate::storage::Family;
use crate::types::Error;

impl Keyspace {
    fn stored(&self) -> Vec<VersionId> {
        let keys = self.engine.keys(Family::Revisions);
        keys.iter().filter_map(|key| keys::parse_revision_key(key)).collect()
    }
}

#[test]
fn the_floor_moves_by_etcds_rules() {
    let mut keyspace = Keyspace::new(0);
    // A fresh etcd is compacted at -1: 0 is accepted, once.
    assert_eq!(keyspace.compact(-1), Err(Error::Compacted { floor: rev(0) }));
    assert_eq!(keyspace.compact(i64::MIN), Err(Error::Compacted { floor: rev(0) }));
    assert_eq!(keyspace.compact(0), Ok(()));
    assert_eq!(keyspace.compact(0), Err(Error::Compacted { floor: rev(0) }));
    assert_eq!(keyspace.compact(2), Err(Error::FutureRevision { current: rev(1) }));
    keyspace.commit(&[put("a", "1")]);
    keyspace.commit(&[put("a", "2")]);
    assert_eq!(keyspace.compact(3), Ok(()));
    assert_eq!(keyspace.compact(3), Err(Error::Compacted { floor: rev(3) }));
    assert_eq!(keyspace.reader().range(&all_at(3)).unwrap().0.count, 1);
    assert_eq!(keyspace.reader().range(&all_at(2)).unwrap_err(), Error::Compacted { floor: rev(3) });
    keyspace.reload();
    assert_eq!(keyspace.compact(1), Err(Error::Compacted { floor: rev(3) }), "the floor is stored");
}

#[test]
fn a_tombstone_at_the_floor_stays_until_the_floor_moves_on() {
    let mut keyspace = Keyspace::new(0);
    keyspace.commit(&[put("a", "1"), put("b", "1")]);
    keyspace.commit(&[delete("a")]);
    keyspace.commit(&[put("b", "2")]);
    keyspace.compact(3).unwrap();
    keyspace.remove_all();
    assert_eq!(keyspace.stored(), [version(2, 1), version(3, 0), version(4, 0)]);
    let seen = history(&keyspace.reader(), 3, 3, 1).unwrap();
    assert_eq!((seen.len(), seen[0].kind), (1, EventKind::Delete));

    keyspace.compact(4).unwrap();
    keyspace.remove_all();
    assert_eq!(keyspace.stored(), [version(4, 0)]);
    assert!(keyspace.versions.head(b"a").is_none());
    assert_eq!(keyspace.engine.keys(Family::Heads).len(), 1);
    assert_eq!(keyspace.versions.live_bytes(), live_bytes_of(1, 1));
}

#[test]
fn a_key_written_again_is_not_removed_with_its_tombstone() {
    let mut keyspace = Keyspace::new(0);
    keyspace.commit(&[put("a", "1")]);
    keyspace.commit(&[delete("a")]);
    keyspace.commit(&[put("x", "")]);
    keyspace.compact(4).unwrap();
    let scan = keyspace.versions.next_removal().unwrap();
    let removal = scan.run(RemovalLimits::default()).unwrap();
    keyspace.execute(&[put("a", "2")]);
    keyspace.versions.apply_removal(removal, &mut keyspace.batch).unwrap();
    keyspace.publish();
    keyspace.reload();
    assert_eq!(keyspace.get("a").map(|kv| kv.version), Some(1));
    assert_eq!(keyspace.stored(), [version(4, 0), version(5, 0)]);
}

#[test]
fn what_is_written_does_not_depend_on_removal() {
    let build = |remove: bool| {
        let mut keyspace = Keyspace::new(0);
        keyspace.commit(&[put("a", "1")]);
        keyspace.commit(&[delete("a")]);
        keyspace.commit(&[put("x", "")]);
        keyspace.compact(4).unwrap();
        if remove {
            keyspace.remove_all();
        }
        keyspace.execute(&[put("a", "2")]);
        let written = keyspace.batch.changes[..2].to_vec();
        keyspace.publish();
        keyspace.remove_all();
        (written, keyspace.stored(), keyspace.reader().hash_kv(None).unwrap().hash)
    };
    assert_eq!(build(true), build(false));
}

#[test]
fn removal_is_bounded_and_goes_on_after_a_restart() {
    let mut keyspace = Keyspace::new(0);
    for n in 0..50 {
        keyspace.commit(&[put("a", &n.to_string()), put(&format!("b{n}"), "")]);
    }
    keyspace.compact(51).unwrap();
    let mut steps = 0;
    while let Some(progress) = keyspace.remove(7) {
        assert!(progress.removed_versions <= 7);
        assert_eq!(progress.is_finished, progress.removed_below == rev(51));
        steps += 1;
        if steps % 2 == 0 {
            keyspace.engine.flush().unwrap();
        } else if steps % 5 == 0 {
            keyspace.engine.crash();
            keyspace.reload();
        }
    }
    assert!(steps >= 100 / 7, "{steps}");
    assert_eq!(keyspace.stored().len(), 51);
    assert_eq!(
        keyspace.versions.live_bytes(),
        live_bytes_of(1, 2) + 10 * live_bytes_of(2, 0) + 40 * live_bytes_of(3, 0)
    );
}

#[test]
fn the_next_walk_reads_only_what_is_new() {
    let mut keyspace = Keyspace::new(0);
    for _ in 0..100 {
        keyspace.commit(&[put("a", "")]);
    }
    keyspace.compact(101).unwrap();
    keyspace.remove_all();
    keyspace.commit(&[put("b", "")]);
    keyspace.compact(102).unwrap();
    let scanned = &keyspace.engine.scanned;
    scanned.store(0, std::sync::atomic::Ordering::Relaxed);
    let removal = keyspace.versions.next_removal().unwrap().run(RemovalLimits::default()).unwrap();
    assert_eq!(
        scanned.load(std::sync::atomic::Ordering::Relaxed),
        2,
        "the old floor's record and the new one"
    );
    keyspace.versions.apply_removal(removal, &mut keyspace.batch).unwrap();
    keyspace.publish();
    assert!(keyspace.versions.next_removal().is_none());
}

#[test]
fn a_step_taken_twice_is_applied_once() {
    let mut keyspace = Keyspace::new(0);
    keyspace.commit(&[put("a", "1")]);
    keyspace.commit(&[put("a", "2")]);
    keyspace.compact(3).unwrap();
    let scan = || keyspace.versions.next_removal().unwrap().run(RemovalLimits::default()).unwrap();
    let (first, second) = (scan(), scan());
    let apply = |keyspace: &mut Keyspace, removal| {
        keyspace.versions.apply_removal(removal, &mut keyspace.batch).unwrap().removed_versions
    };
    assert_eq!(apply(&mut keyspace, first), 1);
    assert_eq!(apply(&mut keyspace, second), 0);
    assert_eq!(keyspace.versions.live_bytes(), live_bytes_of(1, 1));
}

#[test]
fn an_unpublished_floor_removes_nothing() {
    let mut keyspace = Keyspace::new(0);
    keyspace.commit(&[put("a", "1")]);
    keyspace.commit(&[put("a", "2")]);
    keyspace.versions.compact(rev(3), &mut keyspace.batch).unwrap();
    assert!(keyspace.versions.next_removal().is_none(), "a reader may still be at revision 2");
    keyspace.publish();
    assert!(keyspace.versions.next_removal().is_some());
}

#[test]
fn counters_are_written_once_a_turn() {
    let mut keyspace = Keyspace::new(0);
    for n in 0..10 {
        keyspace.execute(&[put("a", &n.to_string())]);
    }
    assert_eq!(keyspace.batch.changes.len(), 2 * 10 + 1);
    keyspace.publish();
    keyspace.execute(&[put("a", "")]);
    assert_eq!(keyspace.batch.changes.len(), 3);
    keyspace.publish();
    keyspace.reload();
    assert_eq!(keyspace.versions.revision(), rev(12));
}
