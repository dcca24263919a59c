//! What it costs to turn commands into the bytes of a log entry and back, by size of the value, by commands in an entry, and
//! by kind of command. A command crosses this twice: when it is proposed, and when a start replays the log.

use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group};
use holdfast_benches::bench::{Disk, print_header};
use holdfast_benches::commands::{guarded_put, key, put};
use kvstore::command::{Batch, Command, Transaction, decode_batch, encode_batch};
use kvstore::{ClockMillis, KeyspaceId, LeaseId, RequestId, Revision};
use std::hint::black_box;
use std::time::Duration;

/// A lease, an object of Kubernetes, a large one, nearly the largest that etcd's default takes.
const VALUE_BYTES: [usize; 4] = [128, 1 << 10, 16 << 10, 1 << 20];
/// A lone client, a busy one, 64 clients at once.
const COMMANDS: [u64; 3] = [1, 16, 64];
/// The value in entries of several commands.
const USUAL_BYTES: usize = 1 << 10;

fn batch(commands: Vec<Command>) -> Batch {
    Batch {
        proposer: 1,
        clock: ClockMillis::new(1),
        first_request: RequestId::new(1),
        commands: commands.into_iter().map(|command| (KeyspaceId::DEFAULT, command)).collect(),
    }
}

fn create(number: u64, value_bytes: usize) -> Command {
    let value = Bytes::from(vec![b'v'; value_bytes]);
    Command::Transaction(guarded_put(key(number), Revision::NONE, value))
}

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(format!("codec/{name}"));
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group
}

/// Both ways, and that what comes back is what went in.
fn both_ways(group: &mut BenchmarkGroup<'_, WallTime>, name: impl ToString, batch: &Batch) {
    let encoded = encode_batch(batch);
    let decoded = decode_batch(encoded.clone()).expect("these are our own bytes");
    assert_eq!(&decoded, batch);
    let elements = batch.commands.len() as u64;
    group.throughput(Throughput::ElementsAndBytes { elements, bytes: encoded.len() as u64 });
    group.bench_function(BenchmarkId::new("encode", name.to_string()), |bencher| {
        bencher.iter(|| encode_batch(black_box(batch)));
    });
    group.bench_function(BenchmarkId::new("decode", name.to_string()), |bencher| {
        bencher.iter(|| decode_batch(black_box(encoded.clone())));
    });
}

fn values(criterion: &mut Criterion) {
    let mut group = group(criterion, "guarded create, bytes of the value");
    for bytes in VALUE_BYTES {
        both_ways(&mut group, bytes, &batch(vec![create(1, bytes)]));
    }
    group.finish();
}

fn commands(criterion: &mut Criterion) {
    let mut group = group(criterion, "guarded creates of 1 KiB in an entry");
    for count in COMMANDS {
        both_ways(&mut group, count, &batch((0..count).map(|number| create(number, USUAL_BYTES)).collect()));
    }
    group.finish();
}

fn kinds(criterion: &mut Criterion) {
    let mut group = group(criterion, "kind of command");
    let single = |number| put(key(number), Bytes::from(vec![b'v'; USUAL_BYTES]));
    let of_puts = |count| {
        Command::Transaction(Transaction { success: (0..count).map(single).collect(), ..Default::default() })
    };
    let ids = |count| (1..=count).map(LeaseId::new).collect();
    for (name, command) in [
        ("put", of_puts(1)),
        ("transaction of 128 puts", of_puts(128)),
        ("lease grant", Command::LeaseGrant { id: LeaseId::new(1), ttl_s: 60 }),
        ("renewal of a lease", Command::LeaseRenew { ids: ids(1) }),
        ("renewal of 1000 leases", Command::LeaseRenew { ids: ids(1000) }),
        ("compaction", Command::Compact { revision: Revision::new(1_000_000) }),
    ] {
        both_ways(&mut group, name, &batch(vec![command]));
    }
    group.finish();
}

criterion_group!(benches, values, commands, kinds);

fn main() {
    print_header("codec", Disk::Untouched, "none: bytes of commands alone");
    benches();
    Criterion::default().configure_from_args().final_summary();
}
