//! Streams that are wrong on purpose: the judge of watches must object to each, and to none that is right.

use crate::guarantees::{Seen, faults};
use crate::history::{Compactions, Event, KEYS};
use crate::streams::{Log, Message, Options};
use crate::wrong_calls::Story;

/// Puts and deletes on a few keys; revision 6 has three changes.
fn story() -> Story {
    use crate::history::{Operation, Put, Transaction};
    let put = |key, value| Operation::Put(Put { key, value, lease: 0, previous: false });
    let mut story = Story::default();
    story.put(1, 1);
    story.put(2, 2);
    story.put(1, 3);
    story.delete(2);
    let success = vec![put(1, 4), put(2, 5), put(3, 6)];
    story.keys(Operation::Transaction(Transaction { compares: Vec::new(), success, failure: Vec::new() }));
    story.put(1, 7);
    story.delete(1);
    story
}

fn options(start: i64) -> Options {
    Options {
        keys: 0..KEYS,
        start,
        previous: true,
        no_put: false,
        no_delete: false,
        progress: true,
        fragment: false,
    }
}

/// What such a watch should be told, one answer for each revision, and progress at the end.
fn log(story: &mut Story, options: &Options) -> Log {
    let from = options.start.max(1);
    let mut log = vec![(story.tick(), Message::Create(options.clone()))];
    log.push((story.tick(), Message::Created { watch: 0, revision: story.witness.revision() }));
    for revision in from..=story.witness.revision() {
        let events = story.witness.at(revision).iter().filter(|event| options.wants(event)).cloned();
        let without = |event: Event| Event { previous: event.previous.filter(|_| options.previous), ..event };
        let events = events.map(without).collect::<Vec<_>>();
        if !events.is_empty() {
            log.push((story.tick(), Message::Events { watch: 0, revision, fragment: false, events }));
        }
    }
    log.push((story.tick(), Message::Progress { watch: None, revision: story.witness.revision() }));
    log
}

fn judge(story: &Story, logs: &[Log]) -> Vec<String> {
    faults(logs, &story.witness, &Compactions::of(&story.calls), &mut Seen::default())
}

#[track_caller]
fn is_right(story: &Story, log: &Log) {
    assert_eq!(judge(story, std::slice::from_ref(log)), [""; 0]);
}

#[track_caller]
fn is_wrong(story: &Story, log: &Log, fault: &str) {
    let found = judge(story, std::slice::from_ref(log));
    assert!(found.iter().any(|found| found.starts_with(fault)), "no {fault:?} in {found:#?}");
}

/// A right log from revision 2 on, changed; the judge must find this.
#[track_caller]
fn changed(fault: &str, change: impl FnOnce(&mut Log)) {
    changed_with(fault, options(2), change);
}

#[track_caller]
fn changed_with(fault: &str, options: Options, change: impl FnOnce(&mut Log)) {
    let mut story = story();
    let mut log = log(&mut story, &options);
    is_right(&story, &log);
    change(&mut log);
    is_wrong(&story, &log, fault);
}

/// The events in the `place`-th message; 2 is the first with events.
fn events(log: &mut Log, place: usize) -> &mut Vec<Event> {
    match &mut log[place].1 {
        Message::Events { events, .. } => events,
        other => panic!("{other:?} has no events"),
    }
}

#[test]
fn what_is_right_is_left_alone() {
    let mut story = story();
    for start in [2, 5, 6, 8] {
        let log = log(&mut story, &options(start));
        is_right(&story, &log);
    }
    for (previous, no_put, no_delete) in [(false, false, false), (true, true, false), (true, false, true)] {
        for keys in [0..KEYS, 1..2, 2..4, 9..10] {
            let options = Options { keys, previous, no_put, no_delete, ..options(3) };
            let log = log(&mut story, &options);
            is_right(&story, &log);
        }
    }
    // Several revisions in one answer.
    let mut log = log(&mut story, &options(2));
    let second = events(&mut log, 3).clone();
    events(&mut log, 2).extend(second);
    log.remove(3);
    let Message::Events { revision, .. } = &mut log[2].1 else { unreachable!("events") };
    *revision = 3;
    is_right(&story, &log);
}

#[test]
fn ordered() {
    changed("reliable", |log| log.swap(2, 3));
    changed("ordered", |log| {
        let Message::Events { revision, .. } = &mut log[3].1 else { unreachable!("events") };
        *revision -= 1;
    });
    // Within a revision.
    changed("reliable", |log| events(log, 6).swap(0, 1));
}

#[test]
fn unique() {
    changed("unique", |log| log.insert(3, log[2].clone()));
    changed("unique", |log| {
        let first = events(log, 6)[0].clone();
        events(log, 6).push(first);
    });
}

#[test]
fn reliable() {
    changed("reliable", |log| drop(log.remove(3)));
    changed("reliable", |log| {
        events(log, 6).remove(0);
    });
    // The last one, which only progress gives away.
    changed("bookmarkable", |log| drop(log.remove(log.len() - 2)));
    changed("reliable", |log| events(log, 3)[0].record.value = 99);
    changed("reliable", |log| events(log, 3)[0].record.key = 7);
    changed("reliable", |log| {
        let end = Message::Canceled { watch: 0, compacted: 0, reason: "tired".into() };
        log.push((log[0].0, end));
    });
    changed("events of watch 1", |log| {
        let Message::Events { watch, .. } = &mut log[3].1 else { unreachable!("events") };
        *watch = 1;
    });
}

#[test]
fn atomic() {
    let split = |log: &mut Log, is_fragment: bool| {
        let late = events(log, 6).split_off(1);
        let at = log[6].0;
        let Message::Events { fragment, .. } = &mut log[6].1 else { unreachable!("events") };
        *fragment = is_fragment;
        log.insert(7, (at, Message::Events { watch: 0, revision: 6, fragment: false, events: late }));
    };
    changed("atomic", |log| split(log, false));
    changed("atomic", |log| split(log, true));
    // Whoever asked for fragments may get them.
    let mut story = story();
    let options = Options { fragment: true, ..options(2) };
    let mut log = log(&mut story, &options);
    split(&mut log, true);
    is_right(&story, &log);
    let mut seen = Seen::default();
    faults(std::slice::from_ref(&log), &story.witness, &Compactions::of(&story.calls), &mut seen);
    assert_eq!((seen.fragments, seen.reassembled), (1, 1));
    // But all of them.
    log.remove(7);
    is_wrong(&story, &log, "reliable");
}

#[test]
fn resumable() {
    let mut story = story();
    let first = log(&mut story, &options(2))[..5].to_vec();
    let second = log(&mut story, &options(5));
    assert_eq!(judge(&story, &[first.clone(), second.clone()]), [""; 0]);
    let (mut again, mut lost) = (second.clone(), second);
    again.insert(2, first[4].clone());
    is_wrong(&story, &again, "bounded");
    lost.remove(2);
    is_wrong(&story, &lost, "reliable");
}

#[test]
fn bookmarkable() {
    let early = |watch| {
        move |log: &mut Log| {
            let at = log[2].0;
            log.insert(3, (at, Message::Progress { watch, revision: 3 }));
        }
    };
    changed("bookmarkable", early(None));
    changed("bookmarkable", early(Some(0)));
    // Behind its events, and all is well.
    let mut story = story();
    let mut log = log(&mut story, &options(2));
    log.insert(4, (log[3].0, Message::Progress { watch: Some(0), revision: 3 }));
    is_right(&story, &log);
    changed("bookmarkable: progress at 99", |log| {
        log.push((log[0].0, Message::Progress { watch: None, revision: 99 }));
    });
    changed_with("bookmarkable: progress nobody", Options { progress: false, ..options(2) }, |log| {
        log.push((log[0].0, Message::Progress { watch: Some(0), revision: 8 }));
    });
    // A watch from the future is told of no progress before.
    changed_with("bookmarkable: progress at 8 before", options(2), |log| {
        let Message::Create(options) = &mut log[0].1 else { unreachable!("the request") };
        options.start = 20;
        log.drain(2..log.len() - 1);
    });
    changed("progress of watch", |log| {
        log.push((log[0].0, Message::Progress { watch: Some(1), revision: 8 }));
    });
}

#[test]
fn previous_versions() {
    // Revision 4 replaced revision 2's value of key 1.
    changed("prev_kv", |log| events(log, 4)[0].previous = None);
    changed("prev_kv", |log| events(log, 4)[0].previous.as_mut().unwrap().value = 3);
    changed("prev_kv", |log| events(log, 4)[0].previous.as_mut().unwrap().modified = 3);
    // A create has none.
    changed("prev_kv", |log| {
        let some = events(log, 4)[0].previous.clone();
        events(log, 2)[0].previous = some;
    });
    changed_with("prev_kv", Options { previous: false, ..options(2) }, |log| {
        let told = events(log, 2)[0].record.clone();
        events(log, 4)[0].previous = Some(told);
    });
}

#[test]
fn previous_versions_behind_a_floor() {
    // At the revision that the watch chose to begin with, and nowhere else, compaction may have taken it.
    let mut story = story();
    story.compact(4);
    let mut log = log(&mut story, &options(4));
    is_right(&story, &log);
    events(&mut log, 2)[0].previous = None;
    is_right(&story, &log);
    events(&mut log, 3)[0].previous = None;
    is_wrong(&story, &log, "prev_kv");
    let mut story = self::story();
    story.compact(3);
    let mut log = self::log(&mut story, &options(4));
    events(&mut log, 2)[0].previous = None;
    is_wrong(&story, &log, "prev_kv");
}

#[test]
fn filtered() {
    changed_with("filtered", Options { no_delete: true, ..options(2) }, |log| {
        let mut delete = events(log, 4)[0].clone();
        delete.is_delete = true;
        events(log, 4).push(delete);
    });
    changed_with("filtered", Options { no_put: true, ..options(2) }, |log| {
        let mut put = events(log, 2)[0].clone();
        put.is_delete = false;
        events(log, 2).push(put);
    });
}

#[test]
fn bounded() {
    changed_with("bounded", Options { keys: 1..2, ..options(2) }, |log| {
        let mut other = events(log, 2)[0].clone();
        other.record.key = 2;
        events(log, 2).push(other);
    });
    let mut story = story();
    let early = log(&mut story, &options(2))[2].clone();
    let mut late = log(&mut story, &options(3));
    late.insert(2, early);
    is_wrong(&story, &late, "bounded");
}

#[test]
fn ends_for_compaction() {
    let end = |story: &mut Story, compacted| {
        (story.tick(), Message::Canceled { watch: 0, compacted, reason: String::new() })
    };
    // From below the floor: told so, and nothing else.
    let mut story = story();
    story.compact(5);
    let below = log(&mut story, &options(3));
    is_wrong(&story, &below, "reliable");
    let mut told = below[..2].to_vec();
    told.push(end(&mut story, 5));
    is_right(&story, &told);
    told[2] = end(&mut story, 4);
    is_wrong(&story, &told, "reliable");
    told[2] = end(&mut story, 6);
    is_wrong(&story, &told, "reliable");
    // The floor itself is there to be watched.
    let at = log(&mut story, &options(5));
    is_right(&story, &at);
    // One that had passed the floor has no reason to end.
    let mut passed = at;
    passed.push(end(&mut story, 5));
    is_wrong(&story, &passed, "reliable");
}

#[test]
fn asked_for() {
    let mut story = story();
    let mut log = log(&mut story, &options(2));
    log.push((story.tick(), Message::Cancel { watch: 0 }));
    log.push((story.tick(), Message::Canceled { watch: 0, compacted: 0, reason: String::new() }));
    is_right(&story, &log);
    log.remove(0);
    is_wrong(&story, &log, "a watch that nobody asked for");
}
