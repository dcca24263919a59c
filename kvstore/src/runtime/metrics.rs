//! Counters of the store, read by whoever exports them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the duration histograms, in microseconds: etcd's `ExponentialBuckets(0.001 s, 2, 14)`.
const BUCKETS_US: [u64; 14] = {
    let mut buckets = [0; 14];
    let mut at = 0;
    while at < 14 {
        buckets[at] = 1_000 << at;
        at += 1;
    }
    buckets
};

#[derive(Default)]
pub(crate) struct Histogram {
    counts: [AtomicU64; 15],
    sum_us: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, duration: Duration) {
        let us = duration.as_micros().min(u128::from(u64::MAX)) as u64;
        let at = BUCKETS_US.iter().position(|bound| us <= *bound).unwrap_or(BUCKETS_US.len());
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    fn snapshot(&self) -> HistogramSnapshot {
        let mut total = 0;
        let mut buckets = Vec::with_capacity(BUCKETS_US.len());
        for (at, count) in self.counts.iter().enumerate() {
            total += count.load(Ordering::Relaxed);
            if let Some(bound_us) = BUCKETS_US.get(at) {
                buckets.push((*bound_us as f64 / 1e6, total));
            }
        }
        let sum_s = self.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        HistogramSnapshot { buckets, count: total, sum_s }
    }
}

/// A histogram of durations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramSnapshot {
    /// Upper bound in seconds and how many observations were not larger (cumulative).
    pub buckets: Vec<(f64, u64)>,
    /// All observations.
    pub count: u64,
    /// Their sum in seconds.
    pub sum_s: f64,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        #[derive(Default)]
        pub(crate) struct Metrics {
            pub(crate) log_sync: Histogram,
            pub(crate) apply: Histogram,
            $(pub(crate) $name: AtomicU64,)*
        }

        /// The store's counters at one moment.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct MetricsSnapshot {
            /// Time of one log write with its sync.
            pub log_sync: HistogramSnapshot,
            /// Time of one apply batch, the write to the storage engine included.
            pub apply: HistogramSnapshot,
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Metrics {
            pub(crate) fn snapshot(&self) -> MetricsSnapshot {
                MetricsSnapshot {
                    log_sync: self.log_sync.snapshot(),
                    apply: self.apply.snapshot(),
                    $($name: self.$name.load(Ordering::Relaxed),)*
                }
            }
        }
    };
}

counters! {
    /// Commands applied with success or a deterministic error.
    commands_applied,
    /// Commands refused before they were proposed.
    commands_refused,
    /// Raft entries proposed.
    entries_proposed,
    /// Bytes of commands written to the raft log.
    log_bytes,
    /// Times this member saw another leader than before.
    leader_changes,
    /// Log writes that were synced on the thread for it, beside the one that serves requests.
    syncs_beside,
    /// Linearizable reads that had to ask the group.
    read_indexes,
    /// Flushes of the storage engine.
    flushes,
    /// Dead versions removed by compaction.
    versions_removed,
    /// Removals that met damage, or data that could not be read.
    removals_failed,
    /// Leases that expired.
    leases_expired,
}

impl Metrics {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}
