//! What etcd's clients see, row by row.

use super::*;
use crate::watch::{CancelReason, WatchRefused};

fn world() -> World {
    World::new(WatchLimits::default())
}

#[test]
fn created_comes_before_events() {
    let mut world = world();
    let client = world.client();
    assert_eq!(client.watch(all()), 0);
    world.put("a", "1");
    assert_eq!(client.read(), ["0 created @1", "0 events @2: +a=1@2"]);
}

#[test]
fn without_a_start_only_the_future_is_seen() {
    let mut world = world();
    world.put("a", "1");
    let client = world.client();
    client.watch(all());
    world.put("a", "2");
    assert_eq!(client.read(), ["0 created @2", "0 events @3: +a=2@3"]);
}

#[test]
fn who_has_seen_a_revision_does_not_get_it_from_now_on() {
    let mut world = world();
    // The put is answered, and seen by readers, a moment before it is published.
    world.apply(&[("a", Some("1"))]);
    let client = world.client();
    client.watch(all());
    world.publish();
    world.put("a", "2");
    assert_eq!(client.read(), ["0 created @2", "0 events @3: +a=2@3"]);
}

#[test]
fn a_start_that_readers_see_and_the_hub_does_not_yet_is_live() {
    let mut world = world();
    world.apply(&[("a", Some("1"))]);
    let client = world.client();
    client.watch(all().from_revision(revision(2)));
    assert_eq!(client.read(), ["0 created @2"]);
    world.publish();
    assert_eq!(client.read(), ["0 events @2: +a=1@2"]);
}

#[test]
fn a_start_in_the_past_replays_and_goes_on_live() {
    let mut world = world();
    for value in ["1", "2", "3"] {
        world.put("a", value);
    }
    world.put("b", "1");
    let client = world.client();
    client.watch(key("a").from_revision(revision(3)));
    assert_eq!(client.read(), ["0 created @5", "0 events @5: +a=2@3 +a=3@4"]);
    world.put("a", "4");
    world.put("b", "2");
    assert_eq!(client.read(), ["0 events @6: +a=4@6"]);
    assert_eq!(world.hub.stats().lagging, 0);
}

#[test]
fn the_floor_itself_can_be_watched_from_and_below_it_is_compacted() {
    let mut world = world();
    for value in ["1", "2", "3"] {
        world.put("a", value);
    }
    world.compact(revision(3));
    let client = world.client();
    client.watch(all().from_revision(revision(3)));
    client.watch(all().from_revision(revision(2)));
    assert_eq!(
        client.read(),
        [
            "0 created @4",
            "1 created @4",
            "1 canceled Compacted { floor: Revision(3) }",
            "0 events @4: +a=2@3 +a=3@4"
        ]
    );
    assert_eq!(
        client.watch(WatchOptions { id: Some(1), ..all() }),
        1,
        "the id of a canceled watcher is free"
    );
}

#[test]
fn a_start_in_the_future_waits_for_it() {
    let mut world = world();
    let client = world.client();
    client.watch(all().from_revision(revision(4)));
    client.session.request_progress();
    world.put("a", "1");
    world.put("a", "2");
    client.session.tick_progress();
    client.session.request_progress();
    assert_eq!(client.read(), ["0 created @1"]);
    world.put("a", "3");
    assert_eq!(client.read(), ["0 events @4: +a=3@4", "progress @4"]);
}

#[test]
fn a_start_in_the_future_cuts_a_batch_of_several_revisions() {
    let mut world = world();
    let client = world.client();
    client.watch(WatchOptions { no_delete: true, ..all().from_revision(revision(3)) });
    client.watch(WatchOptions { no_put: true, ..all().from_revision(revision(3)) });
    world.apply(&[("a", Some("1"))]);
    world.apply(&[("a", Some("2"))]);
    world.publish();
    assert_eq!(client.read(), ["0 created @1", "1 created @1", "0 events @3: +a=2@3"]);
}

#[test]
fn an_empty_range_is_refused() {
    let world = world();
    let client = world.client();
    let options = WatchOptions::new(KeyRange::span("b", "a"));
    assert_eq!(client.session.create(options), Err(WatchRefused::EmptyRange));
    assert_eq!(client.watch(all()), 0, "a refused watcher takes no id");
}

#[test]
fn ids_count_from_zero_and_skip_those_in_use() {
    let world = world();
    let client = world.client();
    assert_eq!(client.watch(WatchOptions { id: Some(1), ..all() }), 1);
    let taken = client.session.create(WatchOptions { id: Some(1), ..all() });
    assert_eq!(taken, Err(WatchRefused::DuplicateId(1)));
    assert_eq!([client.watch(all()), client.watch(all())], [0, 2]);
    assert!(client.session.cancel(0));
    assert_eq!(client.watch(all()), 3, "an id is not given twice by itself");
    assert_eq!(client.watch(WatchOptions { id: Some(0), ..all() }), 0);
    assert_eq!(world.client().watch(all()), 0, "each session has its own ids");
}

#[test]
fn bounds_on_watchers_and_unread_answers_refuse() {
    let world = World::new(WatchLimits { watchers: 2, unread: 3, ..WatchLimits::default() });
    let client = world.client();
    client.watch(all());
    client.watch(all());
    assert_eq!(client.session.create(all()), Err(WatchRefused::TooManyWatchers { limit: 2 }));
    client.session.cancel(0);
    assert_eq!(client.session.create(all()), Err(WatchRefused::TooManyUnread { limit: 3 }));
    client.read();
    assert!(client.session.create(all()).is_ok());
}

#[test]
fn cancel_ends_a_watcher_and_ignores_unknown_ones() {
    let mut world = world();
    let client = world.client();
    client.watch(all());
    client.watch(all());
    client.read();
    world.put("a", "1");
    assert!(client.session.cancel(0));
    assert!(!client.session.cancel(0));
    assert!(!client.session.cancel(77));
    world.put("a", "2");
    assert_eq!(client.read(), ["1 events @3: +a=1@2 +a=2@3", "0 canceled Requested"]);
}

#[test]
fn an_id_used_again_gets_nothing_of_its_former_life() {
    let mut world = world();
    let client = world.client();
    client.watch(key("a"));
    world.put("a", "1");
    client.session.cancel(0);
    client.watch(WatchOptions { id: Some(0), ..key("b") });
    world.transact(&[("a", Some("2")), ("b", Some("1"))]);
    assert_eq!(
        client.read(),
        ["0 created @1", "0 canceled Requested", "0 created @2", "0 events @3: +b=1@3"]
    );
}

#[test]
fn filters_leave_out_and_nothing_is_sent_when_nothing_is_left() {
    let mut world = world();
    let client = world.client();
    client.watch(WatchOptions { no_put: true, ..all() });
    client.watch(WatchOptions { no_delete: true, ..all() });
    client.watch(WatchOptions { no_put: true, no_delete: true, ..all() });
    client.read();
    world.put("a", "1");
    assert_eq!(client.read(), ["1 events @2: +a=1@2"]);
    world.delete("a");
    assert_eq!(client.read(), ["0 events @3: -a@3"]);
    world.transact(&[("a", Some("2")), ("b", Some("1"))]);
    assert_eq!(client.read(), ["1 events @4: +a=2@4 +b=1@4"]);
    // The same from the past.
    let client = world.client();
    client.watch(WatchOptions { no_put: true, ..all().from_revision(revision(2)) });
    client.watch(WatchOptions { no_put: true, no_delete: true, ..all().from_revision(revision(2)) });
    assert_eq!(client.read(), ["0 created @4", "1 created @4", "0 events @4: -a@3"]);
}

#[test]
fn a_deletion_has_only_key_and_revision() {
    let mut world = world();
    let client = world.client();
    client.watch(WatchOptions { previous: true, ..all() });
    world.put("a", "1");
    world.delete("a");
    client.next();
    let Some(Delivery::Events { events, .. }) = client.next() else { panic!("events expected") };
    let deletion = &events[1].event;
    assert_eq!(deletion.kv.version, 0);
    assert_eq!(deletion.kv.create_revision, Revision::NONE);
    assert!(deletion.kv.value().is_empty());
    assert_eq!(events[1].previous.as_ref().unwrap().value(), b"1");
    assert_eq!(events[0].previous, None, "a create replaces nothing");
}

#[test]
fn previous_versions_come_live_from_the_ring_and_from_disk() {
    for ring_bytes in [0, 1 << 20] {
        let mut world = World::new(WatchLimits { ring_bytes, ..WatchLimits::default() });
        let client = world.client();
        client.watch(WatchOptions { previous: true, ..all() });
        for value in ["1", "2", "3"] {
            world.put("a", value);
        }
        client.watch(WatchOptions { previous: true, ..all().from_revision(revision(3)) });
        let mut seen = Vec::new();
        while let Some(delivery) = client.next() {
            if let Delivery::Events { events, .. } = delivery {
                for Delivered { event, previous } in events {
                    seen.push((event.revision().get(), previous.map(|kv| kv.value().to_vec())));
                }
            }
        }
        let (one, two) = (Some(b"1".to_vec()), Some(b"2".to_vec()));
        let live = [(2, None), (3, one.clone()), (4, two.clone())];
        assert_eq!(seen, [&live[..], &[(3, one), (4, two)]].concat(), "ring of {ring_bytes} bytes");
        assert_eq!(world.hub.stats().disk_pages > 0, ring_bytes == 0);
    }
}

#[test]
fn a_missing_previous_version_ends_the_watcher() {
    let mut world = world();
    let client = world.client();
    client.watch(WatchOptions { previous: true, ..all() });
    client.watch(all());
    client.read();
    world.put("a", "1");
    world.put("a", "2");
    world.compact(revision(3));
    // Both have both events queued; what the second one replaced is gone.
    assert_eq!(client.read(), ["0 canceled Compacted { floor: Revision(3) }", "1 events @3: +a=1@2 +a=2@3"]);
    assert_eq!(world.hub.stats().watchers, 1);
}

#[test]
fn only_at_its_own_start_may_a_previous_version_be_missing() {
    let mut world = world();
    for value in ["1", "2", "3"] {
        world.put("a", value);
    }
    world.compact(revision(3));
    let client = world.client();
    client.watch(WatchOptions { previous: true, ..all().from_revision(revision(3)) });
    client.next();
    let Some(Delivery::Events { events, .. }) = client.next() else { panic!("events expected") };
    assert_eq!(events[0].previous, None);
    assert_eq!(events[1].previous.as_ref().unwrap().value(), b"2");
}

#[test]
fn a_compaction_takes_nothing_away_from_a_delivery() {
    let mut world = world();
    let client = world.client();
    client.watch(WatchOptions { previous: true, ..all() });
    world.put("a", "1");
    world.put("a", "2");
    client.next();
    let Some(Delivery::Events { events, .. }) = client.next() else { panic!("events expected") };
    // Between taking the event and encoding it.
    world.compact(revision(3));
    assert_eq!(events[1].previous.as_ref().unwrap().value(), b"1");
    assert_ne!(events[1].wire(), Delivered { previous: None, ..events[1].clone() }.wire());
}

#[test]
fn what_one_watcher_was_told_before_a_compaction_is_not_told_to_another_behind_it() {
    for ring_bytes in [0, 1 << 20] {
        let mut world = World::new(WatchLimits { ring_bytes, ..WatchLimits::default() });
        let client = world.client();
        client.watch(WatchOptions { previous: true, ..all() });
        world.put("a", "1");
        world.put("a", "2");
        client.next();
        let Some(Delivery::Events { events: early, .. }) = client.next() else { panic!("events expected") };
        let early_wire = early[1].wire();
        world.compact(revision(3));
        // The floor itself can be watched from, without what is below it.
        let client = world.client();
        client.watch(WatchOptions { previous: true, ..all().from_revision(revision(3)) });
        client.next();
        let Some(Delivery::Events { events: late, .. }) = client.next() else { panic!("events expected") };
        assert_eq!(late[0].event.revision(), revision(3));
        assert_eq!(late[0].previous, None, "ring of {ring_bytes} bytes");
        assert_ne!(late[0].wire(), early_wire);
        assert_eq!(early[1].wire(), early_wire, "the same event in both forms");
    }
}

#[test]
fn a_revision_travels_whole() {
    let limits = WatchLimits { delivery_bytes: 1, page_bytes: 1, page_events: 1, ..WatchLimits::default() };
    for ring_bytes in [0, 1 << 20] {
        let mut world = World::new(WatchLimits { ring_bytes, ..limits.clone() });
        let client = world.client();
        client.watch(all());
        world.transact(&[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]);
        world.transact(&[("a", None), ("b", Some("2"))]);
        client.watch(all().from_revision(revision(2)));
        let mut seen = client.read();
        seen.sort();
        assert_eq!(
            seen,
            [
                "0 created @1",
                "0 events @2: +a=1@2 +b=1@2 +c=1@2",
                "0 events @3: -a@3 +b=2@3",
                "1 created @3",
                "1 events @3: +a=1@2 +b=1@2 +c=1@2",
                "1 events @3: -a@3 +b=2@3",
            ]
        );
    }
}

#[test]
fn a_delivery_of_history_has_a_bound_on_revisions() {
    let limits = WatchLimits { ring_bytes: 0, delivery_revisions: 3, ..WatchLimits::default() };
    let mut world = World::new(limits);
    for _ in 0..8 {
        world.put("a", "1");
    }
    let client = world.client();
    client.watch(all().from_revision(revision(2)));
    client.next();
    let counts: Vec<usize> = std::iter::from_fn(|| client.next())
        .map(|delivery| match delivery {
            Delivery::Events { events, .. } => events.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(counts, [3, 3, 2]);
}

#[test]
fn what_is_applied_together_leaves_together() {
    let mut world = world();
    let client = world.client();
    client.watch(all());
    client.read();
    world.apply(&[("a", Some("1"))]);
    world.apply(&[("b", Some("1"))]);
    world.publish();
    assert_eq!(client.read(), ["0 events @3: +a=1@2 +b=1@3"]);
}

#[test]
fn keys_and_intervals_get_what_they_hold() {
    let mut world = world();
    let client = world.client();
    client.watch(key("a/b"));
    client.watch(prefix("a/"));
    client.watch(WatchOptions::new(KeyRange::from("a/c")));
    client.watch(WatchOptions::new(KeyRange::span("a/b", "a/c")));
    client.watch(WatchOptions { no_put: true, ..key("a/b") });
    client.read();
    world.put("a/b", "1");
    world.put("a/c", "1");
    world.put("b", "1");
    let mut seen = client.read();
    seen.sort();
    assert_eq!(
        seen,
        [
            "0 events @2: +a/b=1@2",
            "1 events @3: +a/b=1@2 +a/c=1@3",
            "2 events @4: +a/c=1@3 +b=1@4",
            "3 events @2: +a/b=1@2",
        ]
    );
    assert_eq!(world.hub.stats().intervals, 4);
}

#[test]
fn a_publish_wakes_each_session_once() {
    let mut world = world();
    let clients = [world.client(), world.client(), world.client()];
    for client in &clients[..2] {
        for _ in 0..10 {
            client.watch(all());
            client.watch(key("a"));
        }
    }
    clients[2].watch(key("z"));
    for client in &clients {
        client.read();
    }
    let before: Vec<usize> = clients.iter().map(|client| client.woken.count()).collect();
    world.apply(&[("a", Some("1")), ("b", Some("1"))]);
    world.apply(&[("a", Some("2"))]);
    world.publish();
    // Whoever was woken and has not looked yet is not woken again.
    world.put("a", "3");
    let after: Vec<usize> = clients.iter().map(|client| client.woken.count()).collect();
    assert_eq!(after, [before[0] + 1, before[1] + 1, before[2]]);
}

#[test]
fn a_dropped_session_leaves_nothing_behind() {
    let mut world = world();
    let client = world.client();
    for _ in 0..1000 {
        client.watch(all());
        client.watch(WatchOptions { previous: true, ..prefix("a") });
        client.watch(key("a").from_revision(revision(100)));
        client.watch(all().from_revision(revision(1)));
    }
    client.session.request_progress();
    world.put("a", "1");
    client.next();
    drop(client);
    let stats = world.hub.stats();
    assert_eq!((stats.sessions, stats.watchers, stats.intervals), (0, 0, 0));
    world.put("a", "2");
}

#[test]
fn stopping_ends_everything_with_a_reason() {
    let mut world = world();
    let client = world.client();
    client.watch(all());
    client.watch(all().from_revision(revision(1)));
    client.next();
    world.put("a", "1");
    world.hub.stop();
    assert_eq!(client.read(), ["1 created @1", "0 canceled Stopped", "1 canceled Stopped"]);
    assert_eq!(client.session.create(all()), Err(WatchRefused::Stopped));
    assert_eq!(world.client().session.create(all()), Err(WatchRefused::Stopped));
    assert_eq!(world.hub.stats().intervals, 0);
    let reason = CancelReason::Stopped;
    assert_eq!(show(&Delivery::Canceled { id: 7, reason }), "7 canceled Stopped");
}

#[test]
#[should_panic(expected = "published in order")]
fn a_revision_published_twice_is_a_broken_store() {
    let mut world = world();
    world.apply(&[("a", Some("1"))]);
    let events = world.waiting.clone();
    world.publish();
    world.hub.publish(&events, revision(2));
}
