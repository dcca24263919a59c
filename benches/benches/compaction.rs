//! What a compaction costs, by number of versions that it makes dead: moving the floor, which everybody waits for; finding
//! the dead versions, which runs beside; and removing them, which holds the writer up step by step. On RocksDB, 1 KiB values.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use holdfast_benches::bench::{Disk, directory, print_header, sized};
use holdfast_benches::commands::key;
use kvstore::mvcc::{RemovalLimits, ValueCache, Versions};
use kvstore::storage::{Batch, Engine, RocksEngine, RocksOptions};
use kvstore::{KeyspaceId, LeaseId, SubRevision, VersionId};
use std::sync::Arc;
use std::time::{Duration, Instant};

const VALUE_BYTES: usize = 1024;
/// A quiet cluster's five minutes, a middling one's, a large one's.
const DEAD: [u64; 3] = [1_000, 10_000, 100_000];
/// Writes in one turn of the writer.
const TURN: u64 = 16;
const CACHE_BYTES: usize = 8 << 20;

/// The three parts of a compaction.
const PARTS: [&str; 3] = ["move the floor", "find the dead", "remove the dead"];

/// A keyspace of `keys` keys that are overwritten again and again.
struct World {
    versions: Versions,
    engine: Arc<dyn Engine>,
    keys: u64,
    _dir: tempfile::TempDir,
}

impl World {
    fn new(keys: u64) -> Self {
        let dir = directory();
        let engine: Arc<dyn Engine> = Arc::new(
            RocksEngine::open(dir.path().join("state"), &RocksOptions::default()).expect("a fresh engine"),
        );
        let cache = ValueCache::new(CACHE_BYTES);
        let versions =
            Versions::load(KeyspaceId::DEFAULT, engine.clone(), cache).expect("an empty engine opens");
        let mut world = Self { versions, engine, keys, _dir: dir };
        world.overwrite();
        world
    }

    /// Writes each key once more.
    fn overwrite(&mut self) {
        let value = [b'v'; VALUE_BYTES];
        for turn in 0..self.keys.div_ceil(TURN) {
            let mut batch = Batch::default();
            for number in turn * TURN..self.keys.min((turn + 1) * TURN) {
                let at = VersionId::new(self.versions.revision().next(), SubRevision::new(0));
                self.versions.put(at, &key(number), &value, LeaseId::NONE, &mut batch);
                self.versions.finish_revision(at.revision, &mut batch);
            }
            self.publish(batch);
        }
    }

    fn publish(&mut self, batch: Batch) {
        self.engine.write(batch).expect("a write");
        self.versions.publish();
    }

    /// Compacts to the newest revision; gives the time of each part.
    fn compact(&mut self) -> [Duration; 3] {
        let mut spent = [Duration::ZERO; 3];
        let begun = Instant::now();
        let mut batch = Batch::default();
        self.versions
            .compact(self.versions.revision(), &mut batch)
            .expect("the newest revision is above the floor");
        self.publish(batch);
        spent[0] = begun.elapsed();
        let mut removed = 0;
        while let Some(scan) = self.versions.next_removal() {
            let begun = Instant::now();
            let found = scan.run(RemovalLimits::default()).expect("the records are whole");
            spent[1] += begun.elapsed();
            let begun = Instant::now();
            let mut batch = Batch::default();
            let progress = self.versions.apply_removal(found, &mut batch).expect("the counts are right");
            self.publish(batch);
            spent[2] += begun.elapsed();
            removed += progress.removed_versions as u64;
        }
        assert_eq!(removed, self.keys, "each key had one dead version");
        spent
    }
}

fn compaction(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compaction");
    group.sample_size(10).warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_secs(2));
    for dead in DEAD {
        let keys = sized(dead, dead / 100);
        let mut world = World::new(keys);
        for (part, name) in PARTS.iter().enumerate() {
            // The floor is one number, however many versions it leaves behind.
            group.throughput(Throughput::Elements(if part == 0 { 1 } else { keys }));
            group.bench_function(BenchmarkId::new(*name, dead), |bencher| {
                bencher.iter_custom(|rounds| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..rounds {
                        world.overwrite();
                        spent += world.compact()[part];
                    }
                    spent
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, compaction);

fn main() {
    print_header("compaction", Disk::NotSynced, "1, one keyspace of its state alone");
    benches();
    Criterion::default().configure_from_args().final_summary();
}
