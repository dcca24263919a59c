//! Progress: asked for, ticked, and never ahead of an event.

use super::*;

fn world() -> World {
    World::new(WatchLimits::default())
}

#[test]
fn a_request_is_answered_once_for_the_whole_session() {
    let mut world = world();
    let client = world.client();
    client.watch(all());
    client.watch(key("x"));
    world.put("a", "1");
    client.read();
    client.session.request_progress();
    assert_eq!(client.read(), ["progress @2"]);
    assert!(client.read().is_empty());
    client.session.request_progress();
    client.session.request_progress();
    assert_eq!(client.read(), ["progress @2"], "questions before the answer share it");
}

/// An answer that is on its way says nothing of a watcher that came after the question.
#[test]
fn a_question_about_a_new_watcher_has_an_answer_of_its_own() {
    let mut world = world();
    let client = world.client();
    client.watch(key("x"));
    client.read();
    client.session.request_progress();
    client.watch(all());
    client.session.request_progress();
    assert_eq!(client.read(), ["progress @1", "1 created @1", "progress @1"]);
    world.put("a", "1");
    assert_eq!(client.read(), ["1 events @2: +a=1@2"]);
}

#[test]
fn a_request_without_watchers_is_answered_never() {
    let mut world = world();
    let client = world.client();
    client.session.request_progress();
    client.watch(all());
    world.put("a", "1");
    assert_eq!(client.read(), ["0 created @1", "0 events @2: +a=1@2"]);
    client.session.request_progress();
    client.session.cancel(0);
    assert_eq!(client.read(), ["0 canceled Requested"]);
}

#[test]
fn the_answer_comes_behind_the_events_that_are_due() {
    let mut world = World::new(WatchLimits { delivery_bytes: 1, ..WatchLimits::default() });
    let client = world.client();
    client.watch(all());
    client.watch(key("a"));
    client.read();
    for value in ["1", "2", "3"] {
        world.put("a", value);
    }
    client.session.request_progress();
    world.put("a", "4");
    let seen = client.read();
    let answer = seen.iter().position(|line| line.starts_with("progress")).unwrap();
    assert_eq!(seen[answer], "progress @4");
    for event in ["+a=1@2", "+a=2@3", "+a=3@4"] {
        let before = seen[..answer].iter().filter(|line| line.ends_with(event)).count();
        assert_eq!(before, 2, "{event} must go to both watchers before the answer: {seen:?}");
    }
    assert_eq!(seen.len(), 9);
}

#[test]
fn the_answer_shows_what_the_asker_can_have_seen() {
    let mut world = world();
    let client = world.client();
    client.watch(key("x"));
    client.read();
    // Readers see revision 2 before the hub publishes it: an answer at 1 would be asked again.
    world.apply(&[("a", Some("1"))]);
    client.session.request_progress();
    assert!(client.read().is_empty());
    let before = client.woken.count();
    world.publish();
    assert_eq!(client.woken.count(), before + 1);
    assert_eq!(client.read(), ["progress @2"]);
}

#[test]
fn a_question_asked_after_a_newer_write_gets_a_newer_answer() {
    let mut world = world();
    let client = world.client();
    client.watch(key("x"));
    client.read();
    client.session.request_progress();
    world.put("a", "1");
    client.session.request_progress();
    assert_eq!(client.read(), ["progress @1", "progress @2"]);
}

#[test]
fn a_lagging_watcher_holds_the_answer_back_until_it_has_caught_up() {
    let mut world = World::new(WatchLimits { page_events: 1, ring_bytes: 0, ..WatchLimits::default() });
    for value in ["1", "2", "3"] {
        world.put("a", value);
    }
    let client = world.client();
    client.watch(key("x"));
    client.watch(all().from_revision(revision(2)));
    client.session.request_progress();
    let seen = client.read();
    assert_eq!(seen.last().unwrap(), "progress @4");
    assert!(seen.iter().any(|line| line.contains("+a=3@4")));
}

#[test]
fn canceling_the_watcher_that_holds_it_back_gives_the_answer() {
    let mut world = world();
    let client = world.client();
    client.watch(all());
    client.watch(all().from_revision(revision(50)));
    client.session.request_progress();
    assert_eq!(client.read(), ["0 created @1", "1 created @1"]);
    client.session.cancel(1);
    assert_eq!(client.read(), ["1 canceled Requested", "progress @1"]);
    world.put("a", "1");
    assert_eq!(client.read(), ["0 events @2: +a=1@2"]);
}

#[test]
fn ticks_report_idle_watchers_that_asked_for_it() {
    let mut world = world();
    let client = world.client();
    client.watch(WatchOptions { progress: true, ..key("a") });
    client.watch(WatchOptions { progress: true, ..key("b") });
    client.watch(key("c"));
    client.watch(WatchOptions { progress: true, ..key("d").from_revision(revision(9)) });
    client.read();
    world.put("a", "1");
    client.session.tick_progress();
    assert_eq!(client.read(), ["0 events @2: +a=1@2", "1 progress @2"]);
    client.session.tick_progress();
    assert_eq!(client.read(), ["1 progress @2"], "events went out to 0 since the last tick");
    client.session.tick_progress();
    client.session.tick_progress();
    assert_eq!(client.read(), ["0 progress @2", "1 progress @2"], "unread progress does not pile up");
}

#[test]
fn a_tick_says_nothing_of_a_lagging_watcher() {
    let mut world = World::new(WatchLimits { queue_entries: 1, ..WatchLimits::default() });
    let client = world.client();
    client.watch(WatchOptions { progress: true, ..all() });
    client.read();
    world.put("a", "1");
    world.put("a", "2");
    assert_eq!(world.hub.stats().lagging, 1);
    client.session.tick_progress();
    let seen = client.read();
    assert!(seen.iter().all(|line| !line.contains("progress")), "{seen:?}");
    client.session.tick_progress();
    client.session.tick_progress();
    assert_eq!(client.read(), ["0 progress @3"]);
}

/// Sixteen deliveries and more, so that the session looks after its lagging watchers in between.
fn crowd(client: &Client) {
    for _ in 0..20 {
        client.watch(key("crowd"));
    }
}

#[test]
fn the_end_of_a_watcher_comes_before_progress_that_it_has_not_made() {
    // Two small events leave room for reading the past, and the large one does not fit beside them.
    let limits = WatchLimits { queue_bytes: 3000, delivery_revisions: 1, ..WatchLimits::default() };
    let mut world = World::new(limits);
    let client = world.client();
    client.watch(WatchOptions { id: Some(100), ..key("a") });
    crowd(&client);
    world.put("a", "1");
    world.put("a", "2");
    world.put("a", &"3".repeat(2000));
    assert_eq!(world.hub.stats().lagging, 1);
    world.compact(revision(4));
    world.put("a", "4");
    world.compact(revision(5));
    client.session.request_progress();
    let seen: Vec<String> = client.read().into_iter().filter(|line| !line.contains("created")).collect();
    assert_eq!(
        seen,
        [
            "100 events @2: +a=1@2",
            "100 events @3: +a=2@3",
            "100 canceled Compacted { floor: Revision(5) }",
            "progress @5"
        ]
    );
}

#[test]
fn a_watcher_created_behind_the_answer_is_told_of_its_creation_first() {
    let mut world = world();
    world.put("a", "1");
    let client = world.client();
    crowd(&client);
    client.session.request_progress();
    client.watch(WatchOptions { id: Some(100), ..all().from_revision(revision(2)) });
    let seen = client.read();
    assert_eq!(seen[20..], ["progress @2", "100 created @2", "100 events @2: +a=1@2"]);
}
