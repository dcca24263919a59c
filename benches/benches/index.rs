//! The in-memory index, by number of keys up to those of a large cluster: what a write, a lookup, a count and a page cost.
//!
//! The writer takes a root after every batch, as the store does, so that copying shared nodes is in the
//! figures. Nothing here touches a disk.

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group};
use holdfast_benches::bench::{Disk, print_header, sized};
use holdfast_benches::commands::{key, namespace};
use kvstore::mvcc::{Entry, Head, Index, Root};
use kvstore::{KeyRange, LeaseId, Revision, SubRevision, VersionId};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// Keys in the index; powers of ten, see [`shuffled`]. In a test run of the benches a hundredth is enough.
const KEYS: [u64; 3] = [10_000, 100_000, 1_000_000];
/// Keys that a list returns at once.
const PAGES: [usize; 3] = [10, 500, 5_000];

/// Writes between two snapshots: about what one group commit brings.
const BATCH: u64 = 16;

fn entry(number: u64) -> Arc<Entry> {
    let head = Head {
        id: VersionId::new(Revision::new(number as i64 + 2), SubRevision::new(0)),
        create_revision: Revision::new(number as i64 + 2),
        version: 1,
        lease: LeaseId::NONE,
        previous: VersionId::NONE,
        value_len: 1024,
    };
    Entry::new(key(number).as_ref(), head)
}

/// Walks over all numbers below `keys` (a power of ten) in an order that looks random.
fn shuffled(step: u64, keys: u64) -> u64 {
    step.wrapping_mul(7_368_787) % keys
}

/// Entries in key order, allocated in the order of time as in a store that has lived a while.
fn sorted(keys: u64) -> Vec<Arc<Entry>> {
    let mut entries: Vec<_> = (0..keys).map(|step| entry(shuffled(step, keys))).collect();
    entries.sort_by(|a, b| a.key().cmp(b.key()));
    entries
}

/// Each number of keys, with the label that it has in a full run.
fn sweep() -> impl Iterator<Item = (u64, u64)> {
    KEYS.into_iter().map(|keys| (keys, sized(keys, keys / 100)))
}

fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index/build");
    for (label, keys) in sweep() {
        let entries = sorted(keys);
        group.sample_size(10).throughput(Throughput::Elements(keys));
        group.bench_function(BenchmarkId::new("from_sorted", label), |bencher| {
            bencher.iter_batched(|| entries.iter().cloned(), Index::from_sorted, BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn write(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index/write");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(2));
    for (label, keys) in sweep() {
        for (name, snapshots) in [("overwrite, no snapshots", false), ("overwrite, a snapshot per 16", true)]
        {
            let mut index = Index::from_sorted(sorted(keys).into_iter());
            let mut published = Root::default();
            let (mut step, mut writes) = (0, 0);
            group.bench_function(BenchmarkId::new(name, label), |bencher| {
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
    }
    group.finish();
}

fn create_and_delete(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index/create and delete, a snapshot per 16");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(2));
    for (label, keys) in sweep() {
        let mut index = Index::from_sorted(sorted(keys).into_iter());
        let mut published = Root::default();
        let (mut step, mut writes) = (0, 0);
        group.bench_function(BenchmarkId::from_parameter(label), |bencher| {
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
        black_box(&published);
    }
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index/read");
    group.measurement_time(Duration::from_secs(2));
    for (label, keys) in sweep() {
        let index = Index::from_sorted(sorted(keys).into_iter());
        let root = index.root();
        let mut step = 0;
        let mut next = || {
            step += 1;
            key(shuffled(step, keys))
        };
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("get", label), |bencher| {
            let get = |key: Bytes| root.get(&key).map(|found| found.head().id);
            bencher.iter_batched(&mut next, get, BatchSize::SmallInput);
        });
        let mut step = 0;
        let mut prefix = || {
            step += 1;
            KeyRange::prefix(namespace(step))
        };
        group.bench_function(BenchmarkId::new("count of a prefix", label), |bencher| {
            bencher.iter_batched(&mut prefix, |range| root.count_live(&range), BatchSize::SmallInput);
        });
        // Not so long that many would meet the end of the keys.
        for page in PAGES.into_iter().filter(|page| *page as u64 * 10 <= keys) {
            group.throughput(Throughput::Elements(page as u64));
            group.bench_function(BenchmarkId::new(format!("page of {page}"), label), |bencher| {
                bencher.iter_batched(
                    || KeyRange::from(next()),
                    |range| {
                        let page = root.range(&range).filter(|entry| entry.is_live()).take(page);
                        page.map(|entry| u64::from(entry.head().value_len)).sum::<u64>()
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

criterion_group!(benches, build, write, create_and_delete, read);

fn main() {
    print_header("index", Disk::Untouched, "1, its index alone");
    benches();
    Criterion::default().configure_from_args().final_summary();
}
