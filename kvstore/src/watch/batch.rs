//! What one publish, or one page of history, holds for everybody who watches the same keys.

use crate::mvcc::{Event, EventKind};
use crate::types::Revision;
use std::sync::Arc;

/// Events in order, whole revisions only (of the keys concerned), shared by the watchers of one interval.
#[derive(Debug)]
pub(super) struct Batch {
    events: Vec<Arc<Event>>,
    bytes: usize,
    has_put: bool,
    has_delete: bool,
}

/// What a watcher leaves out. `from` guards a start in the future and a place already passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) from: Revision,
    pub(super) no_put: bool,
    pub(super) no_delete: bool,
}

impl Filter {
    pub(super) fn passes(&self, event: &Event) -> bool {
        let unwanted = match event.kind {
            EventKind::Put => self.no_put,
            EventKind::Delete => self.no_delete,
        };
        !unwanted && event.revision() >= self.from
    }
}

impl Batch {
    pub(super) fn new(events: Vec<Arc<Event>>) -> Self {
        assert!(!events.is_empty(), "a batch is made for a match");
        Self {
            bytes: events.iter().map(|event| event.memory_bytes()).sum(),
            has_put: events.iter().any(|event| event.kind == EventKind::Put),
            has_delete: events.iter().any(|event| event.kind == EventKind::Delete),
            events,
        }
    }
    pub(super) fn events(&self) -> &[Arc<Event>] {
        &self.events
    }
    /// Memory that whoever holds the batch keeps alive.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
    pub(super) fn first_revision(&self) -> Revision {
        self.events[0].revision()
    }
    /// A quick look whether the filter may let something through; the events themselves decide.
    pub(super) fn may_pass(&self, filter: &Filter) -> bool {
        let wanted = (self.has_put && !filter.no_put) || (self.has_delete && !filter.no_delete);
        wanted && self.events.last().is_some_and(|event| event.revision() >= filter.from)
    }
}
