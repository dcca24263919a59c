//! What a range costs by its size: pages of 1, 50 and 500 keys of 1 KiB, from a store on disk.
//!
//! `hot`: the values are in the value cache, as for keys that are read again and again. `cold`: the cache is too
//! small for them, so that they come from the storage engine (whose own blocks are in memory, as is usual).
//! `count`: only the number of keys, by the size of the keyspace; it must not grow with it.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kvstore::command::{Operation, Projection, Put, PutLease, PutValue, RangeQuery, Transaction};
use kvstore::store::{Config, Keyspace, Store};
use kvstore::{KeyRange, KeyspaceId, LeaseId};
use std::hint::black_box;

const VALUE_BYTES: usize = 1024;

fn is_test() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

/// A store with so many keys of 1 KiB.
fn filled(keys: usize, value_cache_bytes: usize) -> (tempfile::TempDir, Store, Keyspace) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut config = Config::new(directory.path().join("data"));
    config.value_cache_bytes = value_cache_bytes;
    let store = Store::open(config).expect("a fresh store opens");
    let keyspace = store.keyspace(KeyspaceId::DEFAULT);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let numbers: Vec<usize> = (0..keys).collect();
    for chunk in numbers.chunks(100) {
        let put = |number: &usize| {
            Operation::Put(Put {
                key: Bytes::from(format!("/registry/pods/{number:08}")),
                value: PutValue::Set(vec![*number as u8; VALUE_BYTES].into()),
                lease: PutLease::Set(LeaseId::NONE),
                want_previous: false,
            })
        };
        let transaction = Transaction { success: chunk.iter().map(put).collect(), ..Default::default() };
        runtime.block_on(keyspace.transact(transaction)).expect("a put succeeds");
    }
    (directory, store, keyspace)
}

fn pages(criterion: &mut Criterion) {
    println!("one node, every write synced (fdatasync); reads are of the published state");
    let keys = if is_test() { 600 } else { 20_000 };
    for (name, value_cache_bytes) in [("hot", 64 << 20), ("cold", 64 << 10)] {
        let (_directory, store, keyspace) = filled(keys, value_cache_bytes);
        let mut group = criterion.benchmark_group(format!("range/{name}"));
        for limit in [1u64, 50, 500] {
            let query = RangeQuery { limit, ..RangeQuery::new(KeyRange::prefix("/registry/pods/")) };
            group.throughput(Throughput::Elements(limit));
            group.bench_with_input(BenchmarkId::from_parameter(limit), &query, |bencher, query| {
                bencher.iter(|| black_box(keyspace.reader().range(query)).expect("readable"));
            });
        }
        group.finish();
        drop(store);
    }
}

fn counts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("range/count");
    for keys in if is_test() { [100, 200] } else { [1_000, 50_000] } {
        let (_directory, _store, keyspace) = filled(keys, 1 << 20);
        let query = RangeQuery {
            projection: Projection::CountOnly,
            ..RangeQuery::new(KeyRange::prefix("/registry/pods/"))
        };
        group.bench_with_input(BenchmarkId::from_parameter(keys), &query, |bencher, query| {
            bencher.iter(|| black_box(keyspace.reader().range(query)).expect("readable"));
        });
    }
    group.finish();
}

criterion_group!(benches, pages, counts);
criterion_main!(benches);
