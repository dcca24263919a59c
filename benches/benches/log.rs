//! What it costs to make entries durable: append and `fdatasync`, one call for each sample, by number and size of the
//! entries. And to open the log, by its size.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use holdfast_benches::bench::{Disk, directory, print_header, sized};
use kvstore::log::{EntryKind, HardState, Log, LogConfig, LogEntry, OsFiles};
use kvstore::{LogIndex, NodeId, Term};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Entries that one append makes durable, and bytes of each: an object of Kubernetes alone, some of them, a small one, a
/// large one, nearly the largest; and what the store makes of 64 clients, one entry for them all.
const SWEEP: [(u64, usize); 6] =
    [(1, 1 << 10), (16, 1 << 10), (1, 128), (1, 16 << 10), (1, 1 << 20), (1, 64 << 10)];
/// Of logs that are opened.
const OPENED_MIB: [u64; 3] = [1, 16, 64];

fn entries(first: LogIndex, count: u64, data: &Bytes) -> Vec<LogEntry> {
    (first.get()..first.get() + count)
        .map(|index| LogEntry {
            index: LogIndex::new(index),
            term: Term::new(1),
            kind: EntryKind::Normal,
            data: data.clone(),
        })
        .collect()
}

/// Appends once, and does between the samples what the store does on another thread.
struct Writer {
    log: Log,
    data: Bytes,
}

impl Writer {
    fn new(dir: PathBuf, entry_bytes: usize) -> Self {
        let segment_bytes = sized(LogConfig::DEFAULT_SEGMENT_BYTES, 2 << 20);
        let config = LogConfig { segment_bytes, ..LogConfig::new(dir) };
        let (log, _) = Log::open(Arc::new(OsFiles), config, LogIndex::new(1)).expect("the log opens");
        Self { log, data: Bytes::from(vec![0x5a; entry_bytes]) }
    }

    fn keep_house(&mut self) {
        self.log.purge_below(self.log.last_index()).expect("nothing failed before");
        while let Some(job) = self.log.housekeeping() {
            self.log.finish(job.run().expect("there is space for a segment"));
        }
    }

    fn append(&mut self, count: u64) -> Duration {
        let commit = self.log.last_index();
        let entries = entries(commit.next(), count, &self.data);
        let state = HardState { term: Term::new(1), vote: NodeId::new(1), commit };
        let start = std::time::Instant::now();
        self.log.append(Some(state), &entries).expect("the append is durable");
        start.elapsed()
    }
}

fn append(criterion: &mut Criterion) {
    let dir = directory();
    let mut group = criterion.benchmark_group("log/append+sync");
    group.sample_size(20).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    for (count, entry_bytes) in SWEEP {
        let mut writer = Writer::new(dir.path().join(format!("{count}-{entry_bytes}")), entry_bytes);
        group.throughput(Throughput::ElementsAndBytes { elements: count, bytes: count * entry_bytes as u64 });
        group.bench_function(BenchmarkId::new(format!("{entry_bytes} B"), count), |bencher| {
            bencher.iter_custom(|rounds| {
                (0..rounds)
                    .map(|_| {
                        writer.keep_house();
                        writer.append(count)
                    })
                    .sum()
            });
        });
    }
    group.finish();
}

/// Checks all of a log and gives its last tenth.
fn open(criterion: &mut Criterion) {
    let dir = directory();
    let mut group = criterion.benchmark_group("log/open");
    group.sample_size(10);
    for label in OPENED_MIB {
        let mib = sized(label, 1);
        let at = dir.path().join(format!("{label}"));
        let mut writer = Writer::new(at.clone(), 1024);
        for _ in 0..mib * 16 {
            writer.append(64);
        }
        let wanted_from = LogIndex::new(writer.log.last_index().get() * 9 / 10);
        drop(writer);
        group.throughput(Throughput::Bytes(mib << 20));
        group.bench_function(BenchmarkId::new("MiB", label), |bencher| {
            let open = || Log::open(Arc::new(OsFiles), LogConfig::new(&at), wanted_from);
            bencher.iter(|| open().expect("the log opens"));
        });
    }
    group.finish();
}

criterion_group!(benches, append, open);

fn main() {
    print_header("log", Disk::Synced, "1, its log alone");
    benches();
    Criterion::default().configure_from_args().final_summary();
}
