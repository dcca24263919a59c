//! Events: their bytes, their previous versions, and the pages of history.

use super::*;
use crate::types::Error;
use bytes::Bytes;
use std::sync::atomic::Ordering;

fn previous_value(event: &Event, reader: &Reader) -> Option<String> {
    let kv = event.previous(reader).unwrap()?;
    Some(String::from_utf8_lossy(kv.value()).into_owned())
}

/// As for a watcher that wants the version before.
fn wire(event: &Event, reader: &Reader) -> Bytes {
    event.wire(event.previous(reader).unwrap().as_ref())
}

#[test]
fn the_wire_form_is_etcds() {
    let mut keyspace = Keyspace::new(1 << 20);
    let reader = keyspace.reader();
    let created = keyspace.commit(&[put("k", "v")]).remove(0);
    let kv = b"\x0a\x01k\x10\x02\x18\x02\x20\x01\x2a\x01v";
    assert_eq!(wire(&created, &reader)[..], [&b"\x12\x0c"[..], kv].concat()[..]);
    assert_eq!(created.wire(None), wire(&created, &reader));

    let deleted = keyspace.commit(&[delete("k")]).remove(0);
    let tombstone = b"\x08\x01\x12\x05\x0a\x01k\x18\x03";
    assert_eq!(deleted.wire(None)[..], tombstone[..]);
    assert_eq!(wire(&deleted, &reader)[..], [&tombstone[..], b"\x1a\x0c", kv].concat()[..]);
    let again = wire(&deleted, &reader);
    assert_eq!(again.as_ptr(), wire(&deleted, &reader).as_ptr(), "encoded once");

    // From disk the same bytes come.
    keyspace.reload();
    let reader = keyspace.reader();
    let old = history(&reader, 2, 3, 1).unwrap();
    assert_eq!(wire(&old[0], &reader), wire(&created, &reader));
    assert_eq!(wire(&old[1], &reader), again);
    assert!(old[0].is_create() && !old[1].is_create());
}

/// Each change of a revision tells the version before the revision, as etcd reads it there.
#[test]
fn a_key_changed_several_times_in_a_revision_has_one_version_before_it() {
    let mut keyspace = Keyspace::new(1 << 20);
    keyspace.commit(&[put("a", "1")]);
    keyspace.commit(&[delete("a")]);
    let born = keyspace.commit(&[put("a", "2"), delete("a"), put("a", "3")]);
    let changed = keyspace.commit(&[delete("a"), put("a", "4"), delete("a"), put("a", "5"), put("b", "1")]);
    let rules = |keyspace: &Keyspace, born: &[Arc<Event>], changed: &[Arc<Event>]| {
        let reader = keyspace.reader();
        let all = |events: &[Arc<Event>]| {
            events.iter().map(|event| previous_value(event, &reader)).collect::<Vec<_>>()
        };
        assert_eq!(all(born), [None, None, None]);
        let deleted = Some("3".to_string());
        assert_eq!(all(changed), [deleted.clone(), None, deleted, None, None], "{:?}", all(changed));
    };
    rules(&keyspace, &born, &changed);
    keyspace.reload();
    let past = history(&keyspace.reader(), 4, 5, 1 << 20).unwrap();
    rules(&keyspace, &past[..3], &past[3..]);
}

#[test]
fn live_events_know_the_version_before_without_the_engine() {
    let mut keyspace = Keyspace::new(1 << 20);
    keyspace.commit(&[put("a", "1")]);
    keyspace.execute(&[put("a", "2")]);
    let events = keyspace.commit(&[put("a", "3"), put("b", "1")]);
    let deleted = keyspace.commit(&[delete("a")]);
    let created = keyspace.commit(&[put("a", "4")]);
    keyspace.engine.point_reads.store(0, Ordering::Relaxed);
    let reader = keyspace.reader();
    assert_eq!(previous_value(&events[0], &reader).as_deref(), Some("2"));
    assert_eq!(previous_value(&events[1], &reader), None);
    assert_eq!(previous_value(&deleted[0], &reader).as_deref(), Some("3"));
    assert_eq!(previous_value(&created[0], &reader), None);
    assert_eq!(keyspace.engine.point_reads.load(Ordering::Relaxed), 0);
}

#[test]
fn the_version_before_is_that_of_the_revision_before() {
    let mut keyspace = Keyspace::new(1 << 20);
    keyspace.commit(&[put("old", "1")]);
    let live =
        keyspace.commit(&[put("old", "2"), put("new", "1"), delete("old"), delete("new"), put("old", "3")]);
    let expected = [Some("1"), None, Some("1"), None, None];
    let reader = keyspace.reader();
    for (event, expected) in live.iter().zip(expected) {
        assert_eq!(previous_value(event, &reader).as_deref(), expected, "{event:?}");
    }
    keyspace.reload();
    let reader = keyspace.reader();
    for (event, expected) in history(&reader, 3, 3, 1 << 20).unwrap().iter().zip(expected) {
        assert_eq!(previous_value(event, &reader).as_deref(), expected, "{event:?}");
    }
}

#[test]
fn an_evicted_version_before_is_read_once() {
    let mut keyspace = Keyspace::new(0);
    keyspace.commit(&[put("a", "1")]);
    let event = keyspace.commit(&[put("a", "2")]).remove(0);
    let reader = keyspace.reader();
    keyspace.engine.point_reads.store(0, Ordering::Relaxed);
    for _ in 0..3 {
        assert_eq!(previous_value(&event, &reader).as_deref(), Some("1"));
    }
    assert_eq!(keyspace.engine.point_reads.load(Ordering::Relaxed), 1);
}

#[test]
fn compaction_takes_the_version_before_away() {
    let mut keyspace = Keyspace::new(1 << 20);
    keyspace.commit(&[put("a", "1")]);
    let second = keyspace.commit(&[put("a", "2")]).remove(0);
    let third = keyspace.commit(&[put("a", "3")]).remove(0);
    let reader = keyspace.reader();
    assert_eq!(previous_value(&second, &reader).as_deref(), Some("1"));
    keyspace.compact(3).unwrap();
    // etcd's rule: revision 2 cannot be read any more; it does not matter that it was seen, or is still there.
    assert_eq!(previous_value(&second, &reader), None);
    assert_eq!(previous_value(&third, &reader).as_deref(), Some("2"));
    keyspace.remove_all();
    let events = history(&reader, 3, 4, 1).unwrap();
    let previous: Vec<_> = events.iter().map(|event| previous_value(event, &reader)).collect();
    assert_eq!(previous, [None, Some("2".to_owned())]);
}

#[test]
fn compaction_between_the_floors_check_and_the_read() {
    let mut keyspace = Keyspace::new(0);
    keyspace.commit(&[put("a", "1")]);
    let event = keyspace.commit(&[put("a", "2")]).remove(0);
    let (reader, engine) = (keyspace.reader(), keyspace.engine.clone());
    engine.before_next_read(move || {
        keyspace.compact(3).unwrap();
        keyspace.remove_all();
    });
    assert_eq!(event.previous(&reader), Ok(None));
}

#[test]
fn a_revision_is_never_split() {
    let mut keyspace = Keyspace::new(0);
    for n in 0..5 {
        keyspace.commit(&[put("a", &n.to_string()), put("b", ""), put("c", "")]);
    }
    let reader = keyspace.reader();
    let page = |from, budget, stop_at: usize| {
        let mut seen = 0;
        let page = reader.history(rev(from), rev(100), budget, &mut |_| {
            seen += 1;
            if seen == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        (seen, page.unwrap().next.get())
    };
    assert_eq!(page(2, 0, 99), (3, 3), "one revision at least");
    assert_eq!(page(2, usize::MAX, 4), (6, 4), "breaking off waits for the revision's end");
    assert_eq!(page(4, usize::MAX, 99), (9, 7));
    assert_eq!(page(7, usize::MAX, 99), (0, 7), "up to date");
    assert_eq!(page(9, usize::MAX, 99), (0, 9), "a start in the future");
    let (mut seen, all) = (Vec::new(), usize::MAX);
    let wanted = |key: &[u8]| key == b"b";
    let mut visit = |event: Arc<Event>| {
        seen.push(event.version);
        ControlFlow::Continue(())
    };
    let page = reader.history_of(rev(2), rev(3), all, &wanted, &mut visit).unwrap();
    assert_eq!(page, HistoryPage { next: rev(4), current: rev(6) });
    assert_eq!(seen, [version(2, 1), version(3, 1)]);
}

#[test]
fn history_that_compaction_overtakes_shows_nothing() {
    let mut keyspace = Keyspace::new(0);
    for n in 0..5 {
        keyspace.commit(&[put("a", &n.to_string())]);
    }
    let (reader, engine) = (keyspace.reader(), keyspace.engine.clone());
    engine.before_next_read(move || {
        keyspace.compact(4).unwrap();
        keyspace.remove_all();
    });
    let result = reader.history(rev(2), rev(6), 1 << 20, &mut |_| panic!("an event with a gap before it"));
    assert_eq!(result, Err(Error::Compacted { floor: rev(4) }));
    assert_eq!(history(&reader, 4, 6, 1 << 20).unwrap().len(), 3, "the floor itself is complete");
}

#[test]
fn events_know_what_they_weigh() {
    let mut keyspace = Keyspace::new(0);
    keyspace.commit(&[put("a", &"x".repeat(5000))]);
    let event = keyspace.commit(&[put("a", "")]).remove(0);
    let reader = keyspace.reader();
    let encoded = wire(&event, &reader).len() + event.wire(None).len();
    assert!(event.memory_bytes() >= encoded + event.kv.encoded().len() + 5000);
}
