//! What a reader pays: pages of a list now and in the past, from memory and from RocksDB, counts, a page of
//! history, and opening a keyspace. 1 KiB values, one keyspace, nothing synced (the raft log does that).

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kvstore::command::{Projection, RangeQuery, ReadAt};
use kvstore::mvcc::{Reader, ValueCache, Versions};
use kvstore::storage::{Batch, Engine, RocksEngine, RocksOptions};
use kvstore::{KeyRange, KeyspaceId, LeaseId, Revision, SubRevision, VersionId};
use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;

const VALUE_BYTES: usize = 1024;
/// A page of kube-apiserver's list.
const PAGE: u64 = 500;
/// Writes since the revision that a client lists at: five minutes of a middling cluster.
const CHANGES_SINCE: i64 = 5_000;
/// Writes in one turn of the writer.
const TURN: usize = 16;
/// What a watcher that catches up reads at once.
const HISTORY_BYTES: usize = 256 << 10;

fn keys() -> i64 {
    if std::env::args().any(|argument| argument == "--test") { 2_000 } else { 100_000 }
}

fn key(number: i64) -> Vec<u8> {
    format!("/registry/pods/namespace-{:02}/pod-{number:08}", number % 100).into_bytes()
}

/// A keyspace of [`keys`] keys, each written once, and then [`CHANGES_SINCE`] updates over all of them.
struct Store {
    engine: Arc<dyn Engine>,
    reader: Reader,
    /// The revision before the updates.
    before: Revision,
    _dir: tempfile::TempDir,
}

impl Store {
    fn new(cache_bytes: usize) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let engine: Arc<dyn Engine> = Arc::new(
            RocksEngine::open(dir.path().join("state"), &RocksOptions::default()).expect("a fresh engine"),
        );
        let mut versions = open(&engine, cache_bytes);
        let value = vec![b'v'; VALUE_BYTES];
        let updates = (0..CHANGES_SINCE).map(|number| number * 7_919 % keys());
        let writes: Vec<i64> = (0..keys()).chain(updates).collect();
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
        let before = Revision::new(versions.revision().get() - CHANGES_SINCE);
        Self { engine, reader: versions.reader(), before, _dir: dir }
    }
}

fn open(engine: &Arc<dyn Engine>, cache_bytes: usize) -> Versions {
    let cache = ValueCache::new(cache_bytes);
    Versions::load(KeyspaceId::DEFAULT, engine.clone(), cache).expect("a keyspace")
}

fn list() -> RangeQuery {
    RangeQuery { limit: PAGE, ..RangeQuery::new(KeyRange::prefix("/registry/pods/")) }
}

fn read(reader: &Reader, query: &RangeQuery) {
    let (result, _) = reader.range(query).expect("a readable revision");
    assert_eq!(result.count as i64, keys());
    black_box(result);
}

fn pages(criterion: &mut Criterion) {
    let in_memory = Store::new(1 << 30);
    let on_disk = Store::new(0);
    let mut group = criterion.benchmark_group("range/page");
    group.throughput(Throughput::Elements(PAGE));
    for (name, store) in [("memory", &in_memory), ("engine", &on_disk)] {
        group.bench_function(format!("latest/{name}"), |bencher| {
            bencher.iter(|| read(&store.reader, &list()));
        });
        let past = RangeQuery { at: ReadAt::Revision(store.before), ..list() };
        group.bench_function(format!("past/{name}"), |bencher| bencher.iter(|| read(&store.reader, &past)));
    }
    let keys_only = RangeQuery { projection: Projection::KeysOnly, ..list() };
    group.bench_function("keys-only", |bencher| bencher.iter(|| read(&in_memory.reader, &keys_only)));
    group.finish();

    let mut group = criterion.benchmark_group("range/count");
    for (name, at) in [("latest", ReadAt::Latest), ("past", ReadAt::Revision(in_memory.before))] {
        let count = RangeQuery { at, projection: Projection::CountOnly, ..list() };
        group.bench_function(name, |bencher| bencher.iter(|| read(&in_memory.reader, &count)));
    }
    let nearly = Revision::new(in_memory.reader.revision().get() - 50);
    let count = RangeQuery { at: ReadAt::Revision(nearly), projection: Projection::CountOnly, ..list() };
    group.bench_function("50-ago", |bencher| bencher.iter(|| read(&in_memory.reader, &count)));
    group.finish();

    let single = RangeQuery::new(KeyRange::single(key(4)));
    let mut group = criterion.benchmark_group("range/get");
    for (name, store) in [("memory", &in_memory), ("engine", &on_disk)] {
        group.bench_function(name, |bencher| bencher.iter(|| black_box(store.reader.range(&single))));
    }
    group.finish();

    let mut group = criterion.benchmark_group("range/history");
    group.throughput(Throughput::Bytes(HISTORY_BYTES as u64));
    group.bench_function("page", |bencher| {
        bencher.iter(|| {
            let mut visit = |event| {
                black_box(event);
                ControlFlow::Continue(())
            };
            let to = on_disk.reader.revision();
            on_disk.reader.history(Revision::new(10), to, HISTORY_BYTES, &mut visit).expect("history")
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("range/open");
    group.sample_size(10);
    group.throughput(Throughput::Elements(keys() as u64));
    group.bench_function("keyspace", |bencher| bencher.iter(|| open(&on_disk.engine, 0)));
    group.bench_function("hash", |bencher| bencher.iter(|| on_disk.reader.hash_kv(None)));
    group.finish();
}

criterion_group!(benches, pages);
criterion_main!(benches);
