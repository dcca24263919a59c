//! What it costs to make entries durable: append and `fdatasync`, one call for each sample. And to open the log.
//!
//! The files lie in cargo's target directory; set `HOLDFAST_BENCH_DIR` to measure another disk.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use kvstore::log::{EntryKind, HardState, Log, LogConfig, LogEntry, OsFiles};
use kvstore::{LogIndex, NodeId, Term};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const ENTRY_BYTES: usize = 1024;
/// What one turn of the store appends: a lone client, a busy one, 64 clients at once.
const ENTRIES: [u64; 3] = [1, 16, 64];

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
    fn new(dir: PathBuf, segment_bytes: u64) -> Self {
        let config = LogConfig { segment_bytes, ..LogConfig::new(dir) };
        let (log, _) = Log::open(Arc::new(OsFiles), config, LogIndex::new(1)).expect("the log opens");
        Self { log, data: Bytes::from(vec![0x5a; ENTRY_BYTES]) }
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

/// Checks all of a log of `size_mib` and gives its last tenth.
fn bench_open(criterion: &mut Criterion, dir: &Path, size_mib: u64) {
    let mut writer = Writer::new(dir.to_owned(), LogConfig::DEFAULT_SEGMENT_BYTES);
    for _ in 0..size_mib * 16 {
        writer.append(64);
    }
    let wanted_from = LogIndex::new(writer.log.last_index().get() * 9 / 10);
    drop(writer);
    let mut group = criterion.benchmark_group("log/open");
    group.sample_size(10).throughput(Throughput::Bytes(size_mib << 20));
    group.bench_function(BenchmarkId::new("MiB", size_mib), |bencher| {
        bencher
            .iter(|| Log::open(Arc::new(OsFiles), LogConfig::new(dir), wanted_from).expect("the log opens"));
    });
    group.finish();
}

fn main() {
    let base = std::env::var_os("HOLDFAST_BENCH_DIR")
        .map_or(PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let dir = tempfile::tempdir_in(&base).expect("the bench directory can be written to");
    // As criterion decides it: `cargo bench` passes --bench, `cargo test` does not.
    let has = |option: &str| std::env::args().any(|argument| argument == option);
    let test_mode = has("--test") || !has("--bench");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "log: fsync mode = fdatasync after every append (prewritten, recycled segments), 1 node (the log alone), \
         {cores} cores, {} {}, kvstore {}, files in {}",
        std::env::consts::OS,
        std::env::consts::ARCH,
        env!("CARGO_PKG_VERSION"),
        base.display()
    );
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("log/append+sync");
    group.sample_size(20).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    for count in ENTRIES {
        let segment_bytes = if test_mode { 256 << 10 } else { LogConfig::DEFAULT_SEGMENT_BYTES };
        let mut writer = Writer::new(dir.path().join(format!("{count}")), segment_bytes);
        group.throughput(Throughput::ElementsAndBytes { elements: count, bytes: count * ENTRY_BYTES as u64 });
        group.bench_function(BenchmarkId::new("1 KiB entries", count), |bencher| {
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
    bench_open(&mut criterion, &dir.path().join("open"), if test_mode { 1 } else { 64 });
    criterion.final_summary();
}
