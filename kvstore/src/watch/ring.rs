//! The recent past, in memory: what a slow or returning watcher needs without a disk.

use crate::mvcc::Event;
use crate::types::Revision;
use std::collections::VecDeque;
use std::sync::Arc;

/// The events of the last publishes, oldest first, bounded in bytes.
pub(super) struct Ring {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    bytes_max: usize,
    /// Every event at or above this revision, up to the newest published one, is in the ring.
    complete_from: Revision,
}

/// The events of one publish: whole revisions.
struct Chunk {
    events: Arc<[Arc<Event>]>,
    bytes: usize,
}

impl Chunk {
    fn last(&self) -> Revision {
        self.events.last().expect("a chunk is never empty").revision()
    }
}

/// Some of the ring's events.
pub(super) struct RingPage {
    /// Whole publishes in order; the first may begin below what was asked for.
    pub(super) chunks: Vec<Arc<[Arc<Event>]>>,
    /// Everything from the asked-for revision to here is in it; `None`: up to the newest published one.
    pub(super) through: Option<Revision>,
}

impl Ring {
    /// A ring that will hold what happens after `current`.
    pub(super) fn new(bytes_max: usize, current: Revision) -> Self {
        Self { chunks: VecDeque::new(), bytes: 0, bytes_max, complete_from: current.next() }
    }

    /// Adds a publish and forgets as many old ones as the bound demands (all, if the new one alone is larger).
    pub(super) fn push(&mut self, events: &[Arc<Event>]) {
        if events.is_empty() {
            return;
        }
        let bytes = events.iter().map(|event| event.memory_bytes()).sum();
        self.chunks.push_back(Chunk { events: events.into(), bytes });
        self.bytes += bytes;
        while self.bytes > self.bytes_max {
            let oldest = self.chunks.pop_front().expect("an empty ring has no bytes");
            self.bytes -= oldest.bytes;
            self.complete_from = oldest.last().next();
        }
    }

    /// The events from `from` on, if the ring has all of them; about `bytes_max` and `events_max`, but at
    /// least one publish.
    pub(super) fn page(&self, from: Revision, bytes_max: usize, events_max: usize) -> Option<RingPage> {
        if from < self.complete_from {
            return None;
        }
        let first = self.chunks.partition_point(|chunk| chunk.last() < from);
        let mut page = RingPage { chunks: Vec::new(), through: None };
        let (mut bytes, mut events) = (0, 0);
        for chunk in self.chunks.range(first..) {
            if !page.chunks.is_empty() && (bytes + chunk.bytes > bytes_max || events >= events_max) {
                return Some(page);
            }
            (bytes, events) = (bytes + chunk.bytes, events + chunk.events.len());
            page.through = Some(chunk.last());
            page.chunks.push(chunk.events.clone());
        }
        page.through = None;
        Some(page)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
    pub(super) fn complete_from(&self) -> Revision {
        self.complete_from
    }
}
