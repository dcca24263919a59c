//! Watch fan-out: what a publish costs the core thread, and a delivery the reader, by number of watchers.
//!
//! The publisher's time is the one that holds up writes, so it is measured alone: sessions are read outside of
//! the clock. The engine is in memory; nothing here touches a disk.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use holdfast_benches::bench::{Disk, print_header, sized};
use kvstore::mvcc::{Event, ValueCache, Versions};
use kvstore::storage::{Batch, Engine, SimEngine};
use kvstore::watch::{Delivery, Hub, Session, WatchLimits, WatchOptions};
use kvstore::{KeyRange, KeyspaceId, LeaseId, Revision, SubRevision, VersionId};
use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Bytes of each value: about a Kubernetes lease or event.
const VALUE_BYTES: usize = 512;

/// In a test run of the benches a few watchers are enough.
fn scaled(count: usize) -> usize {
    sized(count, count.div_ceil(100))
}

/// A keyspace that one writer fills, with a hub in front.
struct World {
    versions: Versions,
    engine: Arc<SimEngine>,
    hub: Arc<Hub>,
}

impl World {
    fn new() -> Self {
        let engine = Arc::new(SimEngine::new());
        let cache = ValueCache::new(1 << 20);
        let versions =
            Versions::load(KeyspaceId::DEFAULT, engine.clone(), cache).expect("an empty engine opens");
        let hub = Hub::new(versions.reader(), WatchLimits::default());
        Self { versions, engine, hub }
    }

    /// Writes one revision for each key, all in one batch.
    fn apply(&mut self, keys: &[String]) -> Vec<Arc<Event>> {
        let mut batch = Batch::default();
        let mut events = Vec::new();
        for key in keys {
            let at = VersionId::new(self.versions.revision().next(), SubRevision::new(0));
            let value = [b'x'; VALUE_BYTES];
            events.push(self.versions.put(at, key.as_bytes(), &value, LeaseId::NONE, &mut batch));
            self.versions.finish_revision(at.revision, &mut batch);
        }
        self.engine.write(batch).expect("an engine in memory takes everything");
        self.versions.publish();
        events
    }

    /// The time of publishing only.
    fn publish(&self, events: &[Arc<Event>]) -> Duration {
        let current = self.versions.revision();
        let start = Instant::now();
        self.hub.publish(black_box(events), current);
        start.elapsed()
    }
}

/// Reads everything that is ready; gives the number of events.
fn drain(session: &Session) -> usize {
    let mut context = Context::from_waker(Waker::noop());
    let (mut events, mut idle) = (0, 0);
    // A session yields once in a while: only two empty looks in a row mean that it is empty.
    while idle < 2 {
        match session.poll_next(&mut context) {
            Poll::Ready(Delivery::Events { events: some, .. }) => (events, idle) = (events + some.len(), 0),
            Poll::Ready(_) => idle = 0,
            Poll::Pending => idle += 1,
        }
    }
    events
}

fn watch(range: KeyRange) -> WatchOptions {
    WatchOptions::new(range)
}

/// One event for every one of many sessions, as when each client watches the same resource.
fn same_interval(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("watch/publish to sessions of one interval");
    for label in [1, 100, 1000] {
        let count = scaled(label);
        let mut world = World::new();
        let sessions: Vec<Session> = (0..count).map(|_| world.hub.session()).collect();
        for session in &sessions {
            session
                .create(watch(KeyRange::prefix("/registry/leases/")))
                .expect("a first watcher is accepted");
        }
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::from_parameter(label), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    let events = world.apply(&["/registry/leases/node-1".into()]);
                    spent += world.publish(&events);
                    assert_eq!(sessions.iter().map(drain).sum::<usize>(), count);
                }
                spent
            });
        });
    }
    group.finish();
}

/// One event for one of many watchers: matching must not scan them.
fn other_intervals(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("watch/publish past watchers of other intervals");
    for label in [100, 10_000, 50_000] {
        let count = scaled(label);
        let mut world = World::new();
        let session = world.hub.session();
        for number in 0..count {
            let prefix = format!("/registry/secrets/namespace-{number:06}/");
            session.create(watch(KeyRange::prefix(prefix))).expect("the limit is higher");
        }
        drain(&session);
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(label), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for round in 0..rounds {
                    let namespace = round as usize * 7919 % count;
                    let key = format!("/registry/secrets/namespace-{namespace:06}/token");
                    let events = world.apply(&[key]);
                    spent += world.publish(&events);
                    assert_eq!(drain(&session), 1);
                }
                spent
            });
        });
    }
    group.finish();
}

/// What a group commit brings, for the watches of one apiserver: some 80 prefixes, one watcher each.
fn group_commit(criterion: &mut Criterion) {
    let mut world = World::new();
    let sessions: Vec<Session> = (0..80).map(|_| world.hub.session()).collect();
    for (number, session) in sessions.iter().enumerate() {
        session.create(watch(KeyRange::prefix(format!("/registry/r{number:02}/")))).expect("accepted");
    }
    let keys: Vec<String> =
        (0..64).map(|number| format!("/registry/r{:02}/object-{number}", number % 8)).collect();
    let mut group = criterion.benchmark_group("watch/publish 64 events");
    group.throughput(Throughput::Elements(64));
    group.bench_function("80 prefixes", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let events = world.apply(&keys);
                spent += world.publish(&events);
                let delivered: usize = sessions.iter().map(drain).sum();
                assert_eq!(delivered, 64);
            }
            spent
        });
    });
    group.finish();
}

/// One session with very many watchers of one key: publishing, and reading.
fn many_in_one_session(criterion: &mut Criterion) {
    let count = scaled(10_000);
    let mut world = World::new();
    let session = world.hub.session();
    for _ in 0..count {
        session.create(watch(KeyRange::all())).expect("the limit is higher");
    }
    drain(&session);
    let mut group = criterion.benchmark_group("watch/10000 watchers in one session");
    group.throughput(Throughput::Elements(count as u64));
    for part in ["publish", "read"] {
        group.bench_function(part, |bencher| {
            bencher.iter_custom(|rounds| {
                let mut spent = [Duration::ZERO; 2];
                for _ in 0..rounds {
                    let events = world.apply(&["/a".into()]);
                    spent[0] += world.publish(&events);
                    let start = Instant::now();
                    assert_eq!(drain(&session), count);
                    spent[1] += start.elapsed();
                }
                spent[usize::from(part == "read")]
            });
        });
    }
    group.finish();
}

/// A watcher that comes back after 5000 events: all of them in the ring.
fn catch_up(criterion: &mut Criterion) {
    let events = scaled(5000).next_multiple_of(2);
    let mut world = World::new();
    for number in 0..events {
        let events = world.apply(&[format!("/registry/pods/pod-{:03}", number % 500)]);
        world.hub.publish(&events, world.versions.revision());
    }
    let from = Revision::new(world.versions.revision().get() - events as i64 / 2);
    let mut group = criterion.benchmark_group("watch/catch up");
    group.throughput(Throughput::Elements(events as u64 / 2));
    group.bench_function("from memory", |bencher| {
        bencher.iter(|| {
            let session = world.hub.session();
            session.create(watch(KeyRange::all()).from_revision(from.next())).expect("accepted");
            assert_eq!(drain(&session), events / 2);
        });
    });
    group.finish();
}

criterion_group!(benches, same_interval, other_intervals, group_commit, many_in_one_session, catch_up);

fn main() {
    print_header("watch", Disk::Untouched, "1, the watch hub over one keyspace in memory");
    benches();
    Criterion::default().configure_from_args().final_summary();
}
