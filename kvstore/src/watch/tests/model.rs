//! Random writers, watchers, slow readers and compactions, against the plain history.

use super::*;
use crate::watch::CancelReason;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

const SESSIONS: usize = 3;
const KEYS: [&str; 6] = ["a", "a/1", "a/2", "b", "b/1", "c"];

#[derive(Clone, Debug)]
enum Op {
    Transact(Vec<(usize, bool)>),
    Publish,
    Compact(u8),
    Create { session: usize, range: usize, start: i64, flags: [bool; 4], again: bool },
    Cancel { session: usize, which: usize },
    Read { session: usize, polls: usize },
    Request(usize),
    Tick(usize),
    Reconnect(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let session = || 0..SESSIONS;
    let steps = prop::collection::btree_map(0..KEYS.len(), prop::bool::weighted(0.7), 1..4);
    prop_oneof![
        12 => steps.prop_map(|steps| Op::Transact(steps.into_iter().collect())),
        8 => Just(Op::Publish),
        1 => any::<u8>().prop_map(Op::Compact),
        5 => (session(), 0..9usize, -12i64..4, prop::array::uniform4(prop::bool::weighted(0.3)), any::<bool>())
            .prop_map(|(session, range, start, flags, again)| Op::Create { session, range, start, flags, again }),
        2 => (session(), 0..6usize).prop_map(|(session, which)| Op::Cancel { session, which }),
        7 => (session(), 1..12usize).prop_map(|(session, polls)| Op::Read { session, polls }),
        2 => session().prop_map(Op::Request),
        1 => session().prop_map(Op::Tick),
        1 => session().prop_map(Op::Reconnect),
    ]
}

fn limits() -> impl Strategy<Value = WatchLimits> {
    (0..6000usize, 1..12usize, 500..6000usize, 1..8usize, 1..5usize, 1..40usize).prop_map(
        |(ring_bytes, queue_entries, queue_bytes, page_events, delivery_revisions, turn_events)| {
            WatchLimits {
                ring_bytes,
                queue_entries,
                queue_bytes,
                page_events,
                delivery_revisions,
                turn_events,
                delivery_previous_events: 2,
                join_watchers: 1 + page_events % 2,
                ..WatchLimits::default()
            }
        },
    )
}

fn range(number: usize) -> KeyRange {
    match number {
        0..=5 => KeyRange::single(KEYS[number]),
        6 => KeyRange::all(),
        7 => KeyRange::prefix("a/"),
        _ => KeyRange::span("a/2", "b/1"),
    }
}

/// One change as a watcher must see it.
#[derive(Clone, Debug, PartialEq)]
struct Change {
    at: i64,
    key: &'static str,
    value: Option<String>,
    previous: Option<String>,
}

#[derive(Default)]
struct Model {
    changes: Vec<Change>,
    live: BTreeMap<&'static str, String>,
    floor: i64,
}

struct Watch {
    options: WatchOptions,
    /// The first revision it must see; known when it is created.
    from: i64,
    created: bool,
    got: Vec<Change>,
    progress: i64,
    cancel_requested: bool,
}

impl Watch {
    fn expected(&self, model: &Model, to: i64) -> Vec<Change> {
        let wanted = |change: &&Change| {
            let left_out = if change.value.is_some() { self.options.no_put } else { self.options.no_delete };
            (self.from..=to).contains(&change.at)
                && !left_out
                && self.options.range.contains(change.key.as_bytes())
        };
        model.changes.iter().filter(wanted).cloned().collect()
    }

    /// Everything up to `revision` must be here by now, and nothing of it may follow.
    fn passed(&mut self, model: &Model, revision: i64) {
        assert!(revision >= self.progress, "progress goes back");
        assert!(revision >= self.options.start.get(), "progress at {revision} before the start");
        self.progress = revision;
        let got: Vec<Change> = self.got.iter().filter(|change| change.at <= revision).cloned().collect();
        assert_eq!(got, self.expected(model, revision), "progress at {revision} overtook an event");
    }
}

/// A session and what its reader has been told; several lives of one id in order.
struct Peer {
    client: Client,
    watches: BTreeMap<i64, VecDeque<Watch>>,
}

impl Peer {
    fn check(&mut self, delivery: &Delivery, model: &Model, world: &World) {
        match delivery {
            Delivery::Created { id, revision } => {
                let watch = self.watches.get_mut(id).unwrap().front_mut().unwrap();
                assert!(!watch.created, "created twice");
                watch.created = true;
                if watch.options.start == Revision::NONE {
                    watch.from = revision.get() + 1;
                }
            }
            Delivery::Events { id, events, revision } => {
                let watch = self.watches.get_mut(id).unwrap().front_mut().unwrap();
                assert!(watch.created && !watch.cancel_requested && !events.is_empty());
                let newest = events.last().unwrap().event.revision();
                assert!(*revision >= newest && *revision <= world.versions.revision());
                let first = events[0].event.revision().get();
                assert!(first > watch.progress, "an event at or below progress");
                assert!(watch.got.last().is_none_or(|last| last.at < first), "a revision in two deliveries");
                for event in events {
                    watch.got.push(told(event, watch, model));
                }
                let got = watch.got.clone();
                assert_eq!(got, watch.expected(model, newest.get()));
            }
            Delivery::Progress { id: Some(id), revision } => {
                let watch = self.watches.get_mut(id).unwrap().front_mut().unwrap();
                assert!(watch.options.progress && watch.created);
                watch.passed(model, revision.get());
            }
            Delivery::Progress { id: None, revision } => {
                let mut known = 0;
                for watch in self.watches.values_mut().flatten().filter(|watch| watch.created) {
                    if !watch.cancel_requested {
                        watch.passed(model, revision.get());
                    }
                    known += 1;
                }
                assert!(known > 0, "progress of a session without watchers");
            }
            Delivery::Canceled { id, reason } => {
                let watch = self.watches.get_mut(id).unwrap().pop_front().unwrap();
                assert!(watch.created);
                match reason {
                    CancelReason::Requested => assert!(watch.cancel_requested),
                    CancelReason::Compacted { floor } => {
                        let reached = watch.got.last().map_or(watch.from - 1, |change| change.at);
                        assert!(floor.get() <= model.floor && floor.get() > reached);
                        assert!(floor.get() > watch.from || watch.options.previous, "it needs nothing below");
                    }
                    CancelReason::Stopped | CancelReason::Damaged | CancelReason::Unreadable => {
                        panic!("nobody stopped or damaged it")
                    }
                }
            }
        }
    }

    /// Some polls; writers may work before the next ones, even if the session was about to go on.
    fn read(&mut self, polls: usize, model: &Model, world: &World) {
        for _ in 0..polls {
            if let Poll::Ready(delivery) = self.client.poll() {
                self.check(&delivery, model, world);
            }
        }
    }

    fn read_to_the_end(&mut self, model: &Model, world: &World) {
        while let Some(delivery) = self.client.next() {
            self.check(&delivery, model, world);
        }
    }
}

/// An event as the watcher was told it. A previous version may only be missing at the watcher's own start.
fn told(told: &Delivered, watch: &Watch, model: &Model) -> Change {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let event = &told.event;
    let key = KEYS.into_iter().find(|key| key.as_bytes() == event.key()).unwrap();
    let at = event.revision().get();
    let truth = model.changes.iter().find(|change| change.at == at && change.key == key).unwrap();
    let previous = told.previous.as_ref().map(|kv| text(kv.value()));
    if watch.options.previous {
        let excused = at == watch.options.start.get() && at <= model.floor;
        assert!(previous == truth.previous || (previous.is_none() && excused), "previous of {truth:?}");
    }
    assert!(watch.options.previous || previous.is_none(), "nobody asked for the version before");
    let value = (event.kind == EventKind::Put).then(|| text(event.kv.value()));
    Change { at, key, value, previous: truth.previous.clone() }
}

struct Run {
    world: World,
    model: Model,
    peers: Vec<Peer>,
}

impl Run {
    fn new(limits: WatchLimits) -> Self {
        let world = World::new(limits);
        let peers =
            (0..SESSIONS).map(|_| Peer { client: world.client(), watches: BTreeMap::new() }).collect();
        Self { world, model: Model::default(), peers }
    }

    fn transact(&mut self, steps: &[(usize, bool)]) {
        let value = (self.world.versions.revision().get() + 1).to_string();
        let steps: Vec<Step<'_>> =
            steps.iter().map(|(key, put)| (KEYS[*key], put.then_some(value.as_str()))).collect();
        let Some(at) = self.world.apply(&steps) else { return };
        for (key, value) in steps {
            let key = KEYS.into_iter().find(|known| *known == key).unwrap();
            let value = value.map(str::to_owned);
            let previous = match &value {
                Some(value) => self.model.live.insert(key, value.clone()),
                None => self.model.live.remove(key),
            };
            if value.is_some() || previous.is_some() {
                self.model.changes.push(Change { at: at.get(), key, value, previous });
            }
        }
    }

    fn create(&mut self, session: usize, options: WatchOptions) {
        let peer = &mut self.peers[session];
        let Ok(id) = peer.client.session.create(options.clone()) else { return };
        let from = options.start.get();
        let watch =
            Watch { options, from, created: false, got: Vec::new(), progress: 0, cancel_requested: false };
        peer.watches.entry(id).or_default().push_back(watch);
    }

    fn execute(&mut self, op: Op) {
        match op {
            Op::Transact(steps) => self.transact(&steps),
            Op::Publish => self.world.publish(),
            Op::Compact(part) => {
                let current = self.world.versions.revision().get();
                let to = self.model.floor + 1 + (current - self.model.floor) * i64::from(part) / 300;
                if to <= current {
                    self.world.compact(revision(to));
                    self.model.floor = to;
                }
            }
            Op::Create { session, range: number, start, flags, again } => {
                let current = self.world.versions.revision().get();
                let [previous, no_put, no_delete, progress] = flags;
                let options = WatchOptions {
                    id: again.then_some(1),
                    start: revision(if start == 3 { 0 } else { (current + start).max(1) }),
                    previous,
                    no_put,
                    no_delete,
                    progress,
                    ..WatchOptions::new(range(number))
                };
                self.create(session, options);
            }
            Op::Cancel { session, which } => {
                let peer = &mut self.peers[session];
                let Some((id, lives)) = peer.watches.iter_mut().nth(which) else { return };
                if peer.client.session.cancel(*id) {
                    lives.back_mut().unwrap().cancel_requested = true;
                }
            }
            Op::Read { session, polls } => self.peers[session].read(polls, &self.model, &self.world),
            Op::Request(session) => self.peers[session].client.session.request_progress(),
            Op::Tick(session) => self.peers[session].client.session.tick_progress(),
            Op::Reconnect(session) => {
                self.peers[session] = Peer { client: self.world.client(), watches: BTreeMap::new() };
            }
        }
    }

    /// Everybody reads to the end; then nobody may lack anything.
    fn finish(mut self) {
        self.world.publish();
        let current = self.world.versions.revision().get();
        for peer in &mut self.peers {
            peer.read_to_the_end(&self.model, &self.world);
            peer.client.session.request_progress();
            let mut held_back = false;
            for watch in peer.watches.values().flatten() {
                assert!(watch.created && !watch.cancel_requested, "an answer is missing");
                assert_eq!(watch.got, watch.expected(&self.model, current), "of {:?}", watch.options);
                held_back |= watch.options.start.get() > current;
            }
            let has_watchers = peer.watches.values().any(|lives| !lives.is_empty());
            let answer: Vec<String> = peer.client.read();
            let expected =
                if has_watchers && !held_back { vec![format!("progress @{current}")] } else { vec![] };
            assert_eq!(answer, expected);
        }
        let stats = self.world.hub.stats();
        assert_eq!((stats.lagging, stats.queued), (0, 0));
        self.peers.clear();
        let stats = self.world.hub.stats();
        assert_eq!((stats.sessions, stats.watchers, stats.intervals), (0, 0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_watcher_sees_its_part_of_the_history(
        limits in limits(),
        ops in prop::collection::vec(op(), 1..250),
    ) {
        let mut run = Run::new(limits);
        for op in ops {
            run.execute(op);
        }
        run.finish();
    }
}
