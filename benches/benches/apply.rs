//! What it costs to apply the two writes that Kubernetes makes, a guarded create and a guarded update: by writes in an entry
//! and by size of the value. On RocksDB, one keyspace.
//!
//! Entries are made outside the measured time; what their bytes cost is `codec`'s.

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group};
use holdfast_benches::bench::{Disk, directory, print_header, sized};
use holdfast_benches::commands::{guarded_put, key};
use kvstore::apply::{ApplyOptions, Committed, StateMachine};
use kvstore::command::{Batch, Command};
use kvstore::storage::{RocksEngine, RocksOptions};
use kvstore::{ClockMillis, KeyspaceId, LogIndex, RequestId, Revision, Term};
use std::sync::Arc;
use std::time::Duration;

/// Writes in an entry, and bytes of a value.
const SWEEP: [(usize, usize); 5] = [(1, 1 << 10), (16, 1 << 10), (64, 1 << 10), (16, 128), (16, 16 << 10)];

/// Keys that the updates go round: more than fit the value cache of this bench, so that updates meet keys
/// whose value is not in memory.
fn keys() -> usize {
    sized(20_000, 200)
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
    fn new(value_bytes: usize) -> Self {
        let dir = directory();
        let engine =
            RocksEngine::open(dir.path().join("state"), &RocksOptions::default()).expect("an engine");
        let options = ApplyOptions { value_cache_bytes: 8 << 20, changes_in_place: true };
        Self {
            machine: StateMachine::load(Arc::new(engine), options).expect("a fresh state"),
            value: vec![b'v'; value_bytes].into(),
            index: 0,
            created: 0,
            revisions: vec![Revision::NONE; keys()],
            revision: Revision::FIRST,
            _dir: dir,
        }
    }

    fn write(&self, number: usize, revision: Revision) -> (KeyspaceId, Command) {
        let transaction = guarded_put(key(number as u64), revision, self.value.clone());
        (KeyspaceId::DEFAULT, Command::Transaction(transaction))
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
        let commands = (first..first + count).map(|number| self.write(number, Revision::NONE)).collect();
        self.entry(commands)
    }

    fn updates(&mut self, count: usize) -> Committed {
        let mut commands = Vec::with_capacity(count);
        for _ in 0..count {
            // A stride that is prime to the number of keys: neighbours in time are not neighbours in the tree.
            let number = self.created.wrapping_mul(7_919) % self.revisions.len();
            self.created += 1;
            commands.push(self.write(number, self.revisions[number]));
            self.revision = self.revision.next();
            self.revisions[number] = self.revision;
        }
        self.entry(commands)
    }
}

fn apply(criterion: &mut Criterion, name: &str, make: fn(&mut Node, usize) -> Committed) {
    let mut group = criterion.benchmark_group(format!("apply/{name}"));
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    for (count, value_bytes) in SWEEP {
        let mut node = Node::new(value_bytes);
        let elements = count as u64;
        group.throughput(Throughput::ElementsAndBytes { elements, bytes: elements * value_bytes as u64 });
        group.bench_function(BenchmarkId::new(format!("{value_bytes} B"), count), |bencher| {
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

criterion_group!(benches, create, update);

fn main() {
    print_header("apply", Disk::NotSynced, "1, its state machine alone");
    benches();
    Criterion::default().configure_from_args().final_summary();
}
