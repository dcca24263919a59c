//! From opening a data directory to a store that serves: after a clean stop by number of keys, after a crash by bytes of log
//! that must be replayed. The files are in the page cache, as after a restart of the process alone.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use holdfast_benches::bench::{Disk, directory, print_header, sized};
use holdfast_benches::commands::{key, put};
use holdfast_tests::{copy_all, files};
use kvstore::command::Transaction;
use kvstore::store::{Config, Store};
use kvstore::{KeyspaceId, Revision};
use std::cell::LazyCell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const KEYS: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// Log written since the last flush of the storage engine. There is never much more: its write buffer, 8 MiB for keys, values
/// and their places, is flushed when it is full.
const REPLAYED_MIB: [u64; 3] = [1, 2, 4];
/// Small, as most of Kubernetes' objects are not: a start reads no values, and a million of them have to be written first.
const VALUE_BYTES: usize = 256;
/// Puts in each transaction that fills a store: as many as it takes.
const PUTS: u64 = 128;

/// Runs what needs no particular runtime.
fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// Writes so many keys; gives the revision then.
fn fill(store: &Store, keys: u64, value_bytes: usize) -> Revision {
    let keyspace = store.keyspace(KeyspaceId::DEFAULT);
    let value = Bytes::from(vec![b'v'; value_bytes]);
    for first in (0..keys).step_by(PUTS as usize) {
        let numbers = first..keys.min(first + PUTS);
        let success = numbers.map(|number| put(key(number), value.clone())).collect();
        wait(keyspace.transact(Transaction { success, ..Default::default() })).expect("a write");
    }
    keyspace.revision()
}

/// Opens and stops; gives the time of the first. What was written before must be there.
fn open(config: &Config, expected: Revision) -> Duration {
    let begun = Instant::now();
    let store = Store::open(config.clone()).expect("a good directory");
    let took = begun.elapsed();
    assert_eq!(store.keyspace(KeyspaceId::DEFAULT).revision(), expected);
    wait(store.stop());
    took
}

fn after_a_stop(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("startup/after a stop, keys");
    group.sample_size(10).warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_secs(3));
    for label in KEYS {
        let keys = sized(label, label / 1_000);
        let dir = directory();
        let config = Config::new(dir.path().join("data"));
        // Only what is measured is filled: a filter leaves the million out.
        let revision = LazyCell::new(|| {
            let store = Store::open(config.clone()).expect("a fresh directory");
            let revision = fill(&store, keys, VALUE_BYTES);
            wait(store.stop());
            revision
        });
        group.throughput(Throughput::Elements(keys));
        group.bench_function(BenchmarkId::from_parameter(label), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| open(&config, *revision)).sum());
        });
    }
    group.finish();
}

/// A directory as a kill leaves it: `mib` of log that the storage engine has nothing of.
fn killed(at: &Path, mib: u64) -> Revision {
    let before = at.with_extension("before");
    let config = Config { flush_log_bytes: u64::MAX, ..Config::new(&before) };
    let store = Store::open(config).expect("a fresh directory");
    let revision = fill(&store, mib * 1024, 1024);
    // Nobody writes now, and nothing was flushed: what lies there is what a kill at this moment would leave.
    copy_all(&before, at);
    wait(store.stop());
    let is_table = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "sst");
    assert!(!files(at).iter().any(is_table), "something was flushed: less is replayed than said");
    revision
}

fn after_a_kill(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("startup/after a kill, MiB of log");
    group.sample_size(10).warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_secs(3));
    for label in REPLAYED_MIB {
        let mib = sized(label, 1);
        let dir = directory();
        let left = dir.path().join("left");
        let revision = LazyCell::new(|| killed(&left, mib));
        let config = Config::new(dir.path().join("data"));
        group.throughput(Throughput::Bytes(mib << 20));
        group.bench_function(BenchmarkId::from_parameter(label), |bencher| {
            bencher.iter_custom(|rounds| {
                let revision = *revision;
                let round = |_| {
                    // A start that replays leaves nothing to replay.
                    let _ = std::fs::remove_dir_all(&config.data_dir);
                    copy_all(&left, &config.data_dir);
                    open(&config, revision)
                };
                (0..rounds).map(round).sum()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, after_a_stop, after_a_kill);

fn main() {
    print_header("startup", Disk::Synced, "1, the whole store without a server");
    benches();
    Criterion::default().configure_from_args().final_summary();
}
