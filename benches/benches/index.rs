//! The in-memory index at the size of a large cluster: what a write, a lookup, a count and a page cost.
//!
//! The writer takes a root after every batch, as the store does, so that copying shared nodes is in the
//! figures. Nothing here touches a disk.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kvstore::mvcc::{Entry, Head, Index, Root};
use kvstore::{KeyRange, LeaseId, Revision, SubRevision, VersionId};
use std::hint::black_box;
use std::sync::Arc;

/// Keys in the index. In a test run of the benches a few are enough.
fn keys() -> u64 {
    if std::env::args().any(|argument| argument == "--test") { 10_000 } else { 1_000_000 }
}

/// Writes between two snapshots: about what one group commit brings.
const BATCH: u64 = 16;

const NAMESPACES: u64 = 100;

fn entry(number: u64) -> Arc<Entry> {
    let key = format!("/registry/pods/namespace-{:02}/pod-{number:08}", number % NAMESPACES);
    let head = Head {
        id: VersionId::new(Revision::new(number as i64 + 2), SubRevision::new(0)),
        create_revision: Revision::new(number as i64 + 2),
        version: 1,
        lease: LeaseId::NONE,
        previous: VersionId::NONE,
        value_len: 1024,
    };
    Entry::new(key.into_bytes(), head)
}

/// Walks over all numbers below `keys` (a power of ten) in an order that looks random.
fn shuffled(step: u64, keys: u64) -> u64 {
    step.wrapping_mul(7_368_787) % keys
}

/// Entries in key order, allocated in the order of time as in a store that has lived a while.
fn sorted() -> Vec<Arc<Entry>> {
    let keys = keys();
    let mut entries: Vec<_> = (0..keys).map(|step| entry(shuffled(step, keys))).collect();
    entries.sort_by(|a, b| a.key().cmp(b.key()));
    entries
}

fn build(criterion: &mut Criterion) {
    let entries = sorted();
    let mut group = criterion.benchmark_group("index/build");
    group.sample_size(10).throughput(Throughput::Elements(keys()));
    group.bench_function("from_sorted", |bencher| {
        bencher.iter_batched(|| entries.iter().cloned(), Index::from_sorted, BatchSize::PerIteration);
    });
    group.finish();
}

fn write(criterion: &mut Criterion) {
    let keys = keys();
    let mut group = criterion.benchmark_group("index/write");
    group.throughput(Throughput::Elements(1));
    for (name, snapshots) in [("overwrite, no snapshots", false), ("overwrite, a snapshot per 16", true)] {
        let mut index = Index::from_sorted(sorted().into_iter());
        let mut published = Root::default();
        let (mut step, mut writes) = (0, 0);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || {
                    step += 1;
                    entry(shuffled(step, keys))
                },
                |entry| {
                    writes += 1;
                    if snapshots && writes % BATCH == 0 {
                        published = index.root();
                    }
                    index.insert(entry)
                },
                BatchSize::SmallInput,
            );
        });
        black_box(&published);
    }
    let mut index = Index::from_sorted(sorted().into_iter());
    let mut published = Root::default();
    let (mut step, mut writes) = (0, 0);
    group.bench_function("create and delete, a snapshot per 16", |bencher| {
        bencher.iter_batched(
            || {
                step += 1;
                entry(keys + shuffled(step, keys))
            },
            |entry| {
                writes += 1;
                if writes % BATCH == 0 {
                    published = index.root();
                }
                let key = entry.key().to_vec();
                index.insert(entry);
                index.remove(&key)
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let keys = keys();
    let index = Index::from_sorted(sorted().into_iter());
    let root = index.root();
    let mut group = criterion.benchmark_group("index/read");
    let mut step = 0;
    group.bench_function("get", |bencher| {
        bencher.iter_batched(
            || {
                step += 1;
                entry(shuffled(step, keys))
            },
            |entry| root.get(entry.key()).map(|found| found.head().id),
            BatchSize::SmallInput,
        );
    });
    let mut step = 0;
    group.bench_function("count of a prefix", |bencher| {
        bencher.iter_batched(
            || {
                step += 1;
                KeyRange::prefix(format!("/registry/pods/namespace-{:02}/", step % NAMESPACES))
            },
            |range| root.count_live(&range),
            BatchSize::SmallInput,
        );
    });
    let mut step = 0;
    group.throughput(Throughput::Elements(500));
    group.bench_function("page of 500", |bencher| {
        bencher.iter_batched(
            || {
                step += 1;
                KeyRange::from(entry(shuffled(step, keys)).key().to_vec())
            },
            |range| {
                let page = root.range(&range).filter(|entry| entry.is_live()).take(500);
                page.map(|entry| u64::from(entry.head().value_len)).sum::<u64>()
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, build, write, read);
criterion_main!(benches);
