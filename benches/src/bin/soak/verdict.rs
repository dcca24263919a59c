//! What was sampled, and whether it stayed level.

use crate::load::Counts;
use holdfast_tests::Usage;
use std::fmt;
use std::time::Duration;

/// The first part of the run fills caches, memtables and log segments; it is shown and not judged.
const WARM_UP_SHARE: f64 = 0.3;
/// Growth from the first to the second half of the rest that is taken for noise: a share, and an absolute part.
struct Noise {
    memory_mib: (f64, f64),
    disk_mib: (f64, f64),
    /// The storage engine opens and closes tables as it likes.
    descriptors: (f64, f64),
    threads: (f64, f64),
    /// Of a shared machine.
    latency_ms: (f64, f64),
}

/// A run of so long has filled its caches and memtables when it is judged. Each half of what is judged in ten minutes has
/// some 90,000 writes, so that eighty bytes that each of them left behind in memory are noticed.
const LONG_RUN: Duration = Duration::from_secs(300);

const LONG: Noise = Noise {
    memory_mib: (1.05, 4.0),
    disk_mib: (1.25, 8.0),
    descriptors: (1.0, 8.0),
    threads: (1.0, 2.0),
    latency_ms: (1.5, 0.5),
};

/// They may still be filling.
const SHORT: Noise = Noise {
    memory_mib: (1.10, 24.0),
    disk_mib: (1.25, 32.0),
    descriptors: (1.0, 16.0),
    threads: (1.0, 2.0),
    latency_ms: (2.0, 1.0),
};

/// One sample.
pub struct Row {
    after: Duration,
    usage: Usage,
    disk_mib: f64,
    requests_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    compactions: u64,
    leases_ended: u64,
    events: u64,
}

impl Row {
    pub const HEADER: &str = "   time  requests/s   p50 ms   p99 ms   max ms  memory MiB  disk MiB  files  threads  \
                              events/s  compactions  leases ended";

    pub fn new(
        after: Duration,
        usage: Usage,
        disk_bytes: u64,
        mut latencies_us: Vec<u32>,
        before: &Counts,
        now: &Counts,
    ) -> Self {
        latencies_us.sort_unstable();
        let at = |share: f64| {
            let place = (latencies_us.len().saturating_sub(1) as f64 * share) as usize;
            latencies_us.get(place).map_or(f64::NAN, |us| f64::from(*us) / 1e3)
        };
        let seconds = (now.at - before.at).as_secs_f64();
        Self {
            after,
            usage,
            disk_mib: disk_bytes as f64 / f64::from(1 << 20),
            requests_per_s: latencies_us.len() as f64 / seconds,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            max_ms: at(1.0),
            compactions: now.compactions,
            leases_ended: now.leases_ended,
            events: ((now.events - before.events) as f64 / seconds) as u64,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>5} s  {:>10.0}  {:>7.2}  {:>7.2}  {:>7.1}  {:>10}  {:>8.1}  {:>5}  {:>7}  {:>8}  {:>11}  {:>12}",
            self.after.as_secs(),
            self.requests_per_s,
            self.p50_ms,
            self.p99_ms,
            self.max_ms,
            self.usage.memory_mib,
            self.disk_mib,
            self.usage.files,
            self.usage.threads,
            self.events,
            self.compactions,
            self.leases_ended,
        )
    }
}

/// Whether latencies that grow are a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    Judged,
    Shown,
}

/// Prints a line for each figure and says whether all of them stayed level.
///
/// On a machine that others use too, latencies are better only `shown`.
pub fn judge(rows: &[Row], latency: Latency) -> bool {
    let noise = if rows.last().is_some_and(|row| row.after >= LONG_RUN) { LONG } else { SHORT };
    let rows = &rows[(rows.len() as f64 * WARM_UP_SHARE) as usize..];
    let (first, second) = rows.split_at(rows.len() / 2);
    if first.is_empty() {
        println!("too short to be judged: take more samples");
        return false;
    }
    println!(
        "from the first to the second half of the time after warming up ({} and {} samples):",
        first.len(),
        second.len()
    );
    let judges_latency = latency == Latency::Judged;
    type Figure = fn(&Row) -> f64;
    let figures: [(&str, Figure, (f64, f64), bool); 6] = [
        ("memory, MiB, median", |row| row.usage.memory_mib as f64, noise.memory_mib, true),
        ("disk, MiB, median", |row| row.disk_mib, noise.disk_mib, true),
        ("open files, median", |row| row.usage.files as f64, noise.descriptors, true),
        ("threads, median", |row| row.usage.threads as f64, noise.threads, true),
        ("p50, ms, median", |row| row.p50_ms, noise.latency_ms, judges_latency),
        ("p99, ms, median", |row| row.p99_ms, noise.latency_ms, judges_latency),
    ];
    let mut all_level = true;
    for (name, figure, (share, absolute), is_judged) in figures {
        let (before, after) = (median(first, figure), median(second, figure));
        let level = after <= before * share + absolute;
        all_level &= level || !is_judged;
        println!("  {name:<22} {before:>9.2} -> {after:>9.2}  {}", if level { "level" } else { "GREW" });
    }
    all_level
}

fn median(rows: &[Row], figure: fn(&Row) -> f64) -> f64 {
    let mut values: Vec<f64> = rows.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
