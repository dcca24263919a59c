//! Slow readers, the ring and the disk, compaction.

use super::*;
use crate::types::Result;
use crate::watch::history::{History, HistoryPage, PageBudget, Replaced, Span};

/// Everything one watcher got, and how it ended.
fn collect(client: &Client, id: i64) -> (Vec<String>, Option<String>) {
    let (mut events, mut end) = (Vec::new(), None);
    while let Some(delivery) = client.next() {
        match &delivery {
            Delivery::Events { id: of, events: some, .. } if *of == id => {
                events.extend(some.iter().map(|told| show_event(&told.event)));
            }
            Delivery::Canceled { id: of, .. } if *of == id => end = Some(show(&delivery)),
            _ => {}
        }
    }
    (events, end)
}

fn expected(from: i64, to: i64) -> Vec<String> {
    (from..=to).map(|at| format!("+a={at}@{at}")).collect()
}

fn write(world: &mut World, from: i64, to: i64) {
    for at in from..=to {
        assert_eq!(world.put("a", &at.to_string()), revision(at));
    }
}

#[test]
fn a_full_queue_makes_a_watcher_lag_and_it_catches_up() {
    for ring_bytes in [0, 10_000, 1 << 20] {
        let limits = WatchLimits { queue_bytes: 3000, ring_bytes, page_events: 7, ..WatchLimits::default() };
        let mut world = World::new(limits);
        let client = world.client();
        client.watch(all());
        write(&mut world, 2, 100);
        let stats = world.hub.stats();
        assert_eq!((stats.lagging, stats.overflows, stats.intervals), (1, 1, 0));
        assert!(stats.queued < 10, "the queue is bounded: {stats:?}");
        assert_eq!(collect(&client, 0), (expected(2, 100), None));
        let stats = world.hub.stats();
        assert_eq!((stats.lagging, stats.intervals), (0, 1));
        assert_eq!(stats.disk_pages > 0, ring_bytes < 1 << 20);
        assert_eq!(stats.ring_pages > 0, ring_bytes > 0);
        write(&mut world, 101, 102);
        assert_eq!(collect(&client, 0), (expected(101, 102), None));
    }
}

#[test]
fn a_slow_session_slows_only_itself() {
    let mut world = World::new(WatchLimits { queue_entries: 4, ..WatchLimits::default() });
    let (slow, quick) = (world.client(), world.client());
    slow.watch(all());
    quick.watch(all());
    quick.read();
    for at in 2..50 {
        write(&mut world, at, at);
        assert_eq!(collect(&quick, 0), (expected(at, at), None));
    }
    assert_eq!(world.hub.stats().lagging, 1);
    assert_eq!(collect(&slow, 0), (expected(2, 49), None));
}

#[test]
fn a_lagging_watcher_overtaken_by_compaction_ends_and_says_why() {
    let mut world = World::new(WatchLimits { queue_entries: 3, ..WatchLimits::default() });
    let client = world.client();
    client.watch(all());
    client.watch(key("b"));
    write(&mut world, 2, 20);
    world.compact(revision(10));
    let (events, end) = collect(&client, 0);
    // What was queued is still good.
    assert_eq!(events, expected(2, 4));
    assert_eq!(end.unwrap(), "0 canceled Compacted { floor: Revision(10) }");
    world.put("b", "1");
    assert_eq!(client.read(), ["1 events @21: +b=1@21"]);
    client.watch(WatchOptions { id: Some(0), ..all().from_revision(revision(10)) });
    assert_eq!(collect(&client, 0).0.len(), 12);
}

#[test]
fn compaction_up_to_its_place_does_not_end_a_lagging_watcher() {
    let mut world = World::new(WatchLimits { ring_bytes: 0, queue_entries: 3, ..WatchLimits::default() });
    let client = world.client();
    client.watch(all());
    write(&mut world, 2, 20);
    world.compact(revision(5));
    assert_eq!(collect(&client, 0), (expected(2, 20), None));
}

#[test]
fn watchers_from_many_places_share_the_reading() {
    let limits = WatchLimits { ring_bytes: 0, page_events: 50, ..WatchLimits::default() };
    let mut world = World::new(limits);
    write(&mut world, 2, 500);
    let client = world.client();
    for start in 2..=500 {
        client.watch(WatchOptions { id: Some(start), ..all().from_revision(revision(start)) });
    }
    let mut seen: std::collections::BTreeMap<i64, Vec<String>> = Default::default();
    while let Some(delivery) = client.next() {
        if let Delivery::Events { id, events, .. } = delivery {
            seen.entry(id).or_default().extend(events.iter().map(|told| show_event(&told.event)));
        }
    }
    for start in 2..=500 {
        assert_eq!(seen[&start], expected(start, 500), "from {start}");
    }
    let pages = world.hub.stats().disk_pages;
    assert!(pages <= 12, "{pages} pages for 10 of them");
}

#[test]
fn far_apart_places_do_not_wait_for_each_other() {
    let limits = WatchLimits { ring_bytes: 0, page_events: 10, ..WatchLimits::default() };
    let mut world = World::new(limits);
    write(&mut world, 2, 3000);
    let client = world.client();
    client.watch(WatchOptions { id: Some(1), ..all().from_revision(revision(2)) });
    client.watch(WatchOptions { id: Some(2), ..all().from_revision(revision(2999)) });
    let mut first = 0;
    while let Some(delivery) = client.next() {
        match delivery {
            Delivery::Events { id: 1, events, .. } => first += events.len(),
            Delivery::Events { id: 2, .. } => break,
            _ => {}
        }
    }
    assert!(first < 100, "the second watcher waited for {first} events of the first");
}

#[test]
fn reading_far_into_the_past_lets_others_run() {
    let limits = WatchLimits { ring_bytes: 0, page_bytes: 2000, turn_events: 100, ..WatchLimits::default() };
    let mut world = World::new(limits);
    write(&mut world, 2, 1000);
    let client = world.client();
    client.watch(key("x").from_revision(revision(2)));
    client.next();
    let mut turns = 0;
    loop {
        let before = client.woken.count();
        assert!(client.poll().is_pending());
        if client.woken.count() == before {
            break;
        }
        turns += 1;
        assert_eq!(client.woken.count(), before + 1);
    }
    assert!(turns > 5, "a thousand events in {turns} turns");
    assert_eq!(world.hub.stats().lagging, 0);
}

#[test]
fn a_session_with_much_to_deliver_lets_others_run() {
    let mut world = World::new(WatchLimits { turn_events: 10, ..WatchLimits::default() });
    let client = world.client();
    for _ in 0..100 {
        client.watch(all());
    }
    client.read();
    world.put("a", "1");
    let mut taken = 0;
    while client.poll().is_ready() {
        taken += 1;
    }
    assert!(taken <= 10, "{taken} deliveries in one turn");
    assert_eq!(client.read().len(), 100 - taken);
}

#[test]
fn canceling_a_lagging_watcher_leaves_the_others_alone() {
    let limits = WatchLimits { ring_bytes: 0, page_events: 5, turn_events: 5, ..WatchLimits::default() };
    let mut world = World::new(limits);
    write(&mut world, 2, 60);
    let client = world.client();
    client.watch(all().from_revision(revision(2)));
    client.watch(all().from_revision(revision(2)));
    for _ in 0..4 {
        client.next();
    }
    assert!(client.session.cancel(0));
    client.watch(WatchOptions { id: Some(0), ..all() });
    let seen = client.read();
    let canceled = seen.iter().position(|line| line == "0 canceled Requested").unwrap();
    assert!(seen[canceled..].iter().all(|line| !line.starts_with("0 events")), "{seen:?}");
    assert!(seen.iter().any(|line| line.contains("1 events") && line.contains("+a=60@60")));
    assert_eq!(world.hub.stats().lagging, 0);
}

#[test]
fn what_is_published_while_watchers_rejoin_is_not_lost() {
    let limits = WatchLimits { join_watchers: 1, turn_events: 1, ..WatchLimits::default() };
    let mut world = World::new(limits);
    write(&mut world, 2, 3);
    let client = world.client();
    for id in 0..10 {
        client.watch(WatchOptions { id: Some(id), ..all().from_revision(revision(2)) });
    }
    let mut seen = vec![Vec::new(); 10];
    let mut partly = 0;
    for at in 4..200 {
        if let Poll::Ready(Delivery::Events { id, events, .. }) = client.poll() {
            seen[id as usize].extend(events.iter().map(|told| show_event(&told.event)));
        }
        partly += usize::from((1..10).contains(&world.hub.stats().lagging));
        write(&mut world, at, at);
    }
    while let Some(delivery) = client.next() {
        if let Delivery::Events { id, events, .. } = delivery {
            seen[id as usize].extend(events.iter().map(|told| show_event(&told.event)));
        }
    }
    assert!(partly > 0, "nothing was published in between");
    for events in seen {
        assert_eq!(events, expected(2, 199));
    }
}

#[test]
fn compaction_ends_only_those_of_a_run_that_need_what_is_gone() {
    let mut world = World::new(WatchLimits { ring_bytes: 0, ..WatchLimits::default() });
    write(&mut world, 2, 10);
    let client = world.client();
    for start in [2, 5, 6, 7] {
        client.watch(all().from_revision(revision(start)));
    }
    world.compact(revision(6));
    let ended: Vec<String> = client.read().into_iter().filter(|line| line.contains("canceled")).collect();
    assert_eq!(
        ended,
        ["0 canceled Compacted { floor: Revision(6) }", "1 canceled Compacted { floor: Revision(6) }"]
    );
    assert_eq!(world.hub.stats().watchers, 2);
}

/// The past of a reader, with a compaction during each reading of a page.
struct Overtaken {
    reader: Reader,
    floor: std::sync::atomic::AtomicI64,
}

impl History for Overtaken {
    fn revision(&self) -> Revision {
        self.reader.revision()
    }
    fn floor(&self) -> Revision {
        revision(self.floor.load(Ordering::SeqCst))
    }
    fn page(&self, span: Span, wanted: &dyn Fn(&[u8]) -> bool, budget: PageBudget) -> Result<HistoryPage> {
        let page = self.reader.page(span, wanted, budget);
        self.floor.store(5, Ordering::SeqCst);
        page
    }
    fn replaced(&self, _: &Event) -> Result<Replaced> {
        Ok(Replaced::Nothing)
    }
}

#[test]
fn a_page_that_compaction_overtook_is_not_handed_out() {
    let mut world = World::new(WatchLimits::default());
    write(&mut world, 2, 8);
    let history = Overtaken { reader: world.reader.clone(), floor: Default::default() };
    let hub = Hub::with_history(Arc::new(history), WatchLimits::default());
    let client = Client { session: hub.session(), woken: Arc::default() };
    client.watch(all().from_revision(revision(4)));
    client.watch(all().from_revision(revision(5)));
    assert_eq!(
        client.read(),
        [
            "0 created @8",
            "1 created @8",
            "0 canceled Compacted { floor: Revision(5) }",
            "1 events @8: +a=5@5 +a=6@6 +a=7@7 +a=8@8"
        ]
    );
}

#[test]
fn a_failing_engine_ends_those_who_need_it() {
    use crate::storage::{EngineError, Family, Visitor};
    struct Broken;
    impl Engine for Broken {
        fn get(&self, _: Family, _: &[u8]) -> Result<Option<bytes::Bytes>, EngineError> {
            Ok(None)
        }
        fn multi_get(
            &self,
            _: Family,
            keys: &[bytes::Bytes],
        ) -> Result<Vec<Option<bytes::Bytes>>, EngineError> {
            Ok(vec![None; keys.len()])
        }
        fn scan(
            &self,
            family: Family,
            _: &[u8],
            _: &[u8],
            _: bool,
            _: Visitor<'_>,
        ) -> Result<(), EngineError> {
            match family {
                Family::Revisions => {
                    Err(EngineError { message: "broken".into(), path: None, damaged_at: None })
                }
                _ => Ok(()),
            }
        }
        fn write(&self, _: Batch) -> Result<(), EngineError> {
            Ok(())
        }
        fn flush(&self) -> Result<(), EngineError> {
            Ok(())
        }
        fn checkpoint(&self, _: &std::path::Path) -> Result<(), EngineError> {
            Ok(())
        }
        fn disk_bytes(&self) -> u64 {
            0
        }
    }
    let engine = Arc::new(Broken);
    let versions = Versions::load(KeyspaceId::DEFAULT, engine, ValueCache::new(1 << 20)).unwrap();
    let hub = Hub::new(versions.reader(), WatchLimits::default());
    let client = Client { session: hub.session(), woken: Arc::default() };
    client.watch(all().from_revision(revision(1)));
    client.watch(all());
    assert_eq!(client.read(), ["0 created @1", "1 created @1", "0 canceled Unreadable"]);
    assert_eq!(hub.stats().watchers, 1, "who needs nothing of the past goes on");
}
