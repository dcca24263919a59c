//! What a reader pays: pages of a list by their size and the size of the values, now and in the past, from memory and from
//! RocksDB; a get, counts, a page of history, and opening a keyspace.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group};
use holdfast_benches::bench::{Disk, directory, print_header, sized};
use holdfast_benches::commands::key;
use kvstore::command::{Projection, RangeQuery, ReadAt};
use kvstore::mvcc::{Reader, ValueCache, Versions};
use kvstore::storage::{Batch, Engine, RocksEngine, RocksOptions};
use kvstore::{KeyRange, KeyspaceId, LeaseId, Revision, SubRevision, VersionId};
use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Bytes of a value, unless they are swept.
const VALUE_BYTES: usize = 1024;
/// A page of kube-apiserver's list.
const PAGE: u64 = 500;
/// Keys in a page, of [`VALUE_BYTES`] each.
const PAGES: [u64; 4] = [10, 100, 500, 5_000];
/// Bytes of a value, in pages of [`PAGE`]: a lease, a secret, a large custom resource.
const VALUES: [usize; 3] = [128, 4 << 10, 32 << 10];
/// Keys of the keyspaces with values of other sizes.
const FEW_KEYS: u64 = 2_000;
/// Writes since the revision that a client lists at: five minutes of a middling cluster.
const CHANGES_SINCE: u64 = 5_000;
/// Writes in one turn of the writer.
const TURN: usize = 16;
/// What a watcher that catches up reads at once.
const HISTORY_BYTES: usize = 256 << 10;
/// Enough for every value of any of these keyspaces.
const ALL_CACHED: usize = 1 << 30;

fn keys() -> u64 {
    sized(100_000, 2_000)
}

/// A keyspace of some keys, each written once, and then [`CHANGES_SINCE`] updates over all of them.
struct Store {
    engine: Arc<dyn Engine>,
    reader: Reader,
    keys: u64,
    /// The revision before the updates.
    before: Revision,
    _dir: tempfile::TempDir,
}

impl Store {
    fn new(cache_bytes: usize, keys: u64, value_bytes: usize) -> Self {
        let dir = directory();
        let engine: Arc<dyn Engine> = Arc::new(
            RocksEngine::open(dir.path().join("state"), &RocksOptions::default()).expect("a fresh engine"),
        );
        let mut versions = open(&engine, cache_bytes);
        let value = vec![b'v'; value_bytes];
        let updates = (0..CHANGES_SINCE).map(|number| number * 7_919 % keys);
        let writes: Vec<u64> = (0..keys).chain(updates).collect();
        for turn in writes.chunks(TURN) {
            let mut batch = Batch::default();
            for number in turn {
                let revision = versions.revision().next();
                let at = VersionId::new(revision, SubRevision::new(0));
                versions.put(at, &key(*number), &value, LeaseId::NONE, &mut batch);
                versions.finish_revision(revision, &mut batch);
            }
            engine.write(batch).expect("a write");
            versions.publish();
        }
        engine.flush().expect("a flush");
        let before = Revision::new(versions.revision().get() - CHANGES_SINCE as i64);
        Self { engine, reader: versions.reader(), keys, before, _dir: dir }
    }

    fn read(&self, query: &RangeQuery) {
        let (result, _) = self.reader.range(query).expect("a readable revision");
        assert_eq!(result.count, self.keys);
        black_box(result);
    }
}

fn open(engine: &Arc<dyn Engine>, cache_bytes: usize) -> Versions {
    let cache = ValueCache::new(cache_bytes);
    Versions::load(KeyspaceId::DEFAULT, engine.clone(), cache).expect("a keyspace")
}

fn list(limit: u64) -> RangeQuery {
    RangeQuery { limit, ..RangeQuery::new(KeyRange::prefix("/registry/pods/")) }
}

/// A page now and in the past.
fn page(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    parameter: u64,
    store: &Store,
    query: &RangeQuery,
) {
    group.bench_function(BenchmarkId::new(format!("latest/{name}"), parameter), |bencher| {
        bencher.iter(|| store.read(query));
    });
    let past = RangeQuery { at: ReadAt::Revision(store.before), ..query.clone() };
    group.bench_function(BenchmarkId::new(format!("past/{name}"), parameter), |bencher| {
        bencher.iter(|| store.read(&past));
    });
}

fn values(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("range/page of 500, bytes of a value");
    group.sample_size(50);
    for bytes in VALUES {
        group.throughput(Throughput::ElementsAndBytes { elements: PAGE, bytes: PAGE * bytes as u64 });
        for (name, cache_bytes) in [("memory", ALL_CACHED), ("engine", 0)] {
            let store = Store::new(cache_bytes, FEW_KEYS, bytes);
            page(&mut group, name, bytes as u64, &store, &list(PAGE));
        }
    }
    group.finish();
}

fn usual(criterion: &mut Criterion) {
    let in_memory = Store::new(ALL_CACHED, keys(), VALUE_BYTES);
    let on_disk = Store::new(0, keys(), VALUE_BYTES);
    pages(criterion, &in_memory, &on_disk);
    counts(criterion, &in_memory);
    gets(criterion, &in_memory, &on_disk);
    history_and_open(criterion, &on_disk);
}

fn pages(criterion: &mut Criterion, in_memory: &Store, on_disk: &Store) {
    let mut group = criterion.benchmark_group("range/page of 1 KiB values, keys");
    group.sample_size(50);
    for limit in PAGES {
        let limit = limit.min(keys());
        let bytes = limit * VALUE_BYTES as u64;
        group.throughput(Throughput::ElementsAndBytes { elements: limit, bytes });
        for (name, store) in [("memory", in_memory), ("engine", on_disk)] {
            page(&mut group, name, limit, store, &list(limit));
        }
        let keys_only = RangeQuery { projection: Projection::KeysOnly, ..list(limit) };
        group.throughput(Throughput::Elements(limit));
        group.bench_function(BenchmarkId::new("keys-only", limit), |bencher| {
            bencher.iter(|| in_memory.read(&keys_only));
        });
    }
    group.finish();
}

fn counts(criterion: &mut Criterion, store: &Store) {
    let mut group = criterion.benchmark_group("range/count");
    group.throughput(Throughput::Elements(store.keys));
    let nearly = Revision::new(store.reader.revision().get() - 50);
    let past = ReadAt::Revision(store.before);
    for (name, at) in [("latest", ReadAt::Latest), ("past", past), ("50-ago", ReadAt::Revision(nearly))] {
        let count = RangeQuery { at, projection: Projection::CountOnly, ..list(0) };
        group.bench_function(name, |bencher| bencher.iter(|| store.read(&count)));
    }
    group.finish();
}

fn gets(criterion: &mut Criterion, in_memory: &Store, on_disk: &Store) {
    let single = RangeQuery::new(KeyRange::single(key(4)));
    let mut group = criterion.benchmark_group("range/get");
    group.throughput(Throughput::Elements(1));
    for (name, store) in [("memory", in_memory), ("engine", on_disk)] {
        group.bench_function(name, |bencher| bencher.iter(|| black_box(store.reader.range(&single))));
    }
    group.finish();
}

fn history_and_open(criterion: &mut Criterion, store: &Store) {
    let mut group = criterion.benchmark_group("range/history");
    group.throughput(Throughput::Bytes(HISTORY_BYTES as u64));
    group.bench_function("page", |bencher| {
        bencher.iter(|| {
            let mut visit = |event| {
                black_box(event);
                ControlFlow::Continue(())
            };
            let to = store.reader.revision();
            store.reader.history(Revision::new(10), to, HISTORY_BYTES, &mut visit).expect("history")
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("range/open");
    group.sample_size(10);
    group.throughput(Throughput::Elements(store.keys));
    group.bench_function("keyspace", |bencher| bencher.iter(|| open(&store.engine, 0)));
    group.bench_function("hash", |bencher| bencher.iter(|| store.reader.hash_kv(None)));
    group.finish();
}

criterion_group!(benches, values, usual);

fn main() {
    print_header("range", Disk::NotSynced, "1, one keyspace of its state alone");
    benches();
    Criterion::default().configure_from_args().final_summary();
}
