//! What it costs to apply the two writes that Kubernetes makes: a guarded create and a guarded update of
//! 1 KiB, alone and 64 in one entry. On RocksDB, nothing synced (the raft log does that), one keyspace.
//!
//! Entries are made outside the measured time; decoding their bytes is measured on its own.

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kvstore::apply::{ApplyOptions, Committed, StateMachine};
use kvstore::command::{
    Batch, Command, Compare, CompareResult, CompareTarget, Operation, Put, PutLease, PutValue, RangeQuery,
    Transaction, decode_batch, encode_batch,
};
use kvstore::storage::{RocksEngine, RocksOptions};
use kvstore::{ClockMillis, KeyRange, KeyspaceId, LeaseId, LogIndex, RequestId, Revision, Term};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const VALUE_BYTES: usize = 1024;
const BATCHES: [usize; 2] = [1, 64];

/// Keys that the updates go round: more than fit the value cache of this bench, so that updates meet keys
/// whose value is not in memory.
fn keys() -> usize {
    if is_test() { 200 } else { 20_000 }
}

fn is_test() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

fn key(number: usize) -> Bytes {
    format!("/registry/pods/namespace-{:02}/pod-{number:08}", number % 100).into()
}

/// If the key's newest version is of `revision` (0: there is none) then put it, else read it.
fn guarded_put(number: usize, revision: Revision, value: &Bytes) -> (KeyspaceId, Command) {
    let key = key(number);
    let transaction = Transaction {
        compares: vec![Compare {
            range: KeyRange::single(key.clone()),
            target: CompareTarget::ModRevision(revision),
            result: CompareResult::Equal,
        }],
        success: vec![Operation::Put(Put {
            key: key.clone(),
            value: PutValue::Set(value.clone()),
            lease: PutLease::Set(LeaseId::NONE),
            want_previous: false,
        })],
        failure: vec![Operation::Range(RangeQuery::new(KeyRange::single(key)))],
    };
    (KeyspaceId::DEFAULT, Command::Transaction(transaction))
}

/// A state machine on a fresh directory, and what makes the next entries for it.
struct Node {
    machine: StateMachine,
    value: Bytes,
    index: u64,
    created: usize,
    /// The revision of each key, to guard its next update with.
    revisions: Vec<Revision>,
    revision: Revision,
    _dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let engine =
            RocksEngine::open(dir.path().join("state"), &RocksOptions::default()).expect("an engine");
        let options = ApplyOptions { value_cache_bytes: 8 << 20 };
        Self {
            machine: StateMachine::load(Arc::new(engine), options).expect("a fresh state"),
            value: vec![b'v'; VALUE_BYTES].into(),
            index: 0,
            created: 0,
            revisions: vec![Revision::NONE; keys()],
            revision: Revision::FIRST,
            _dir: dir,
        }
    }

    fn entry(&mut self, commands: Vec<(KeyspaceId, Command)>) -> Committed {
        self.index += 1;
        let batch = Batch {
            proposer: 1,
            clock: ClockMillis::new(self.index),
            first_request: RequestId::new(self.index << 8),
            commands,
        };
        Committed { index: LogIndex::new(self.index), term: Term::new(1), batch: Some(Arc::new(batch)) }
    }

    fn creates(&mut self, count: usize) -> Committed {
        let first = self.created;
        self.created += count;
        let value = self.value.clone();
        let commands = (first..first + count).map(|number| guarded_put(number, Revision::NONE, &value));
        self.entry(commands.collect())
    }

    fn updates(&mut self, count: usize) -> Committed {
        let mut commands = Vec::with_capacity(count);
        for _ in 0..count {
            // A stride that is prime to the number of keys: neighbours in time are not neighbours in the tree.
            let number = self.created.wrapping_mul(7_919) % self.revisions.len();
            self.created += 1;
            commands.push(guarded_put(number, self.revisions[number], &self.value));
            self.revision = self.revision.next();
            self.revisions[number] = self.revision;
        }
        self.entry(commands)
    }
}

fn apply(criterion: &mut Criterion, name: &str, make: fn(&mut Node, usize) -> Committed) {
    let mut group = criterion.benchmark_group(format!("apply/{name}"));
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    for count in BATCHES {
        let mut node = Node::new();
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("1 KiB x {count}"), |bencher| {
            // One entry at a time: the next one depends on what this one did.
            let node = std::cell::RefCell::new(&mut node);
            bencher.iter_batched(
                || make(&mut node.borrow_mut(), count),
                |entry| {
                    let applied = node.borrow_mut().machine.apply(&[entry]).expect("the engine works");
                    assert_eq!(
                        applied.events.iter().map(|(_, events, _)| events.len()).sum::<usize>(),
                        count
                    );
                    applied
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn create(criterion: &mut Criterion) {
    apply(criterion, "guarded create", Node::creates);
}

fn update(criterion: &mut Criterion) {
    apply(criterion, "guarded update", Node::updates);
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply/codec");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
    for count in BATCHES {
        let batch = Batch {
            proposer: 1,
            clock: ClockMillis::new(1),
            first_request: RequestId::new(1),
            commands: (0..count).map(|number| guarded_put(number, Revision::NONE, &value)).collect(),
        };
        let encoded = encode_batch(&batch);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("encode 1 KiB x {count}"), |bencher| {
            bencher.iter(|| encode_batch(black_box(&batch)));
        });
        group.bench_function(format!("decode 1 KiB x {count}"), |bencher| {
            bencher.iter(|| decode_batch(black_box(encoded.clone())));
        });
    }
    group.finish();
}

criterion_group!(benches, create, update, codec);
criterion_main!(benches);
