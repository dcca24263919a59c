//! What the hub counts.

use crate::types::Revision;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) events: Counter,
    pub(super) pushes: Counter,
    pub(super) overflows: Counter,
    pub(super) ring_pages: Counter,
    pub(super) disk_pages: Counter,
    pub(super) delivered: Counter,
}

impl Counters {
    pub(super) fn read(&self) -> HubStats {
        HubStats {
            events: self.events.get(),
            pushes: self.pushes.get(),
            overflows: self.overflows.get(),
            ring_pages: self.ring_pages.get(),
            disk_pages: self.disk_pages.get(),
            delivered: self.delivered.get(),
            ..HubStats::default()
        }
    }
}

/// A look at a hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubStats {
    /// Sessions that exist.
    pub sessions: usize,
    /// Their watchers.
    pub watchers: usize,
    /// Watchers that read the past.
    pub lagging: usize,
    /// Different keys and intervals of the live watchers.
    pub intervals: usize,
    /// Batches that wait in sessions, counted for each watcher.
    pub queued: usize,
    /// Memory that the ring of recent events takes, at most.
    pub ring_bytes: usize,
    /// The ring holds every event from this revision on.
    pub ring_from: Revision,
    /// Events published so far.
    pub events: u64,
    /// Batches that publishes queued, counted for each watcher.
    pub pushes: u64,
    /// How often a full session made a watcher lag.
    pub overflows: u64,
    /// Pages of the past read from the ring.
    pub ring_pages: u64,
    /// Pages of the past read from disk.
    pub disk_pages: u64,
    /// Events handed to readers of sessions, counted for each watcher.
    pub delivered: u64,
}
