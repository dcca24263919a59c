//! What this folder needs of the versions: where the store is, and its past.

use crate::mvcc::{Event, Reader};
use crate::types::{KeyValue, Result, Revision};
use std::ops::ControlFlow;
use std::sync::Arc;

/// The past of one keyspace.
pub(super) trait History: Send + Sync + 'static {
    /// The newest revision that readers see. May be ahead of what the hub has published, never behind it.
    fn revision(&self) -> Revision;
    /// The oldest revision that can be read.
    fn floor(&self) -> Revision;
    /// The events of the span whose keys are wanted: whole revisions, about as many as the budget allows but
    /// at least one revision.
    fn page(&self, span: Span, wanted: &dyn Fn(&[u8]) -> bool, budget: PageBudget) -> Result<HistoryPage>;
    /// What the event replaced, as it can be read now.
    fn replaced(&self, event: &Event) -> Result<Replaced>;
}

/// What an event replaced.
pub(super) enum Replaced {
    /// The key did not exist before.
    Nothing,
    /// This version.
    Version(KeyValue),
    /// Something that cannot be read any more.
    Compacted,
}

/// Revisions, both ends included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) from: Revision,
    pub(super) to: Revision,
}

/// How much to read at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageBudget {
    pub(super) bytes: usize,
    pub(super) events: usize,
}

/// A piece of the past.
pub(super) struct HistoryPage {
    pub(super) events: Vec<Arc<Event>>,
    /// The first revision that was not read.
    pub(super) next: Revision,
}

impl History for Reader {
    fn revision(&self) -> Revision {
        Reader::revision(self)
    }
    fn floor(&self) -> Revision {
        Reader::floor(self)
    }
    fn page(&self, span: Span, wanted: &dyn Fn(&[u8]) -> bool, budget: PageBudget) -> Result<HistoryPage> {
        let mut events: Vec<Arc<Event>> = Vec::new();
        let page = self.history_of(span.from, span.to, budget.bytes, wanted, &mut |event| {
            events.push(event);
            if events.len() < budget.events { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(HistoryPage { events, next: page.next.min(span.to.next()) })
    }
    fn replaced(&self, event: &Event) -> Result<Replaced> {
        if let Some(version) = event.previous(self)? {
            return Ok(Replaced::Version(version));
        }
        // Above the floor nothing is missing: there was nothing.
        let is_known = event.is_create() || event.revision().previous() >= Reader::floor(self);
        Ok(if is_known { Replaced::Nothing } else { Replaced::Compacted })
    }
}
