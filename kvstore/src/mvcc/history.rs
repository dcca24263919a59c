//! The past as events: what a watcher that starts in the past, or has fallen behind, is fed from.

use super::event::{Event, EventKind, Previous};
use super::keys::{RecordKind, RecordView};
use super::reader::Reader;
use super::records::damaged_record;
use crate::types::{Error, KeyValue, Result, Revision, SubRevision, VersionId};
use bytes::Bytes;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What a record costs of a page's budget beside its bytes.
const HISTORY_OVERHEAD_BYTES: usize = 64;

/// Where a page of history ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// The first revision that was not visited. Everything below it, from the page's start on, was.
    pub next: Revision,
    /// The store's revision when the page was read: `next` behind it means that the reader is up to date.
    pub current: Revision,
}

impl Reader {
    /// Visits the events of the revisions `from..=to` in order. The page ends behind the revision in which
    /// `budget_bytes` were reached or `visit` broke off: a revision is never split, so one at least is visited
    /// whole. `to` beyond the present means "to the present".
    ///
    /// Fails with [`Error::Compacted`] before the first visit when `from` is below the floor.
    pub fn history(
        &self,
        from: Revision,
        to: Revision,
        budget_bytes: usize,
        visit: &mut dyn FnMut(Arc<Event>) -> ControlFlow<()>,
    ) -> Result<HistoryPage> {
        self.history_of(from, to, budget_bytes, &|_| true, visit)
    }

    /// As [`Reader::history`], but only of the keys that `wanted` accepts. The others cost budget too: it
    /// bounds the work, not the yield.
    pub fn history_of(
        &self,
        from: Revision,
        to: Revision,
        budget_bytes: usize,
        wanted: &dyn Fn(&[u8]) -> bool,
        visit: &mut dyn FnMut(Arc<Event>) -> ControlFlow<()>,
    ) -> Result<HistoryPage> {
        // Before the engine's snapshot is taken: everything up to here is in it.
        let current = self.revision();
        let to = to.min(current);
        self.check_floor(from)?;
        if from > to {
            return Ok(HistoryPage { next: from, current });
        }
        let mut walk = Walk { started: false, last: Revision::NONE, spent_bytes: 0, ended: false };
        let mut next = to.next();
        let start = VersionId::new(from, SubRevision::new(0));
        self.shared.records().scan(start, to, |id, record| {
            if !walk.started {
                // The engine's snapshot is taken by now. Removal follows the floor, never leads it.
                self.check_floor(from)?;
                walk.started = true;
            }
            if id.revision != walk.last {
                let is_first = walk.last == Revision::NONE;
                if !is_first && (walk.ended || walk.spent_bytes >= budget_bytes) {
                    next = id.revision;
                    return Ok(ControlFlow::Break(()));
                }
                walk.last = id.revision;
            }
            walk.spent_bytes += record.encoded.len() + HISTORY_OVERHEAD_BYTES;
            if wanted(record.key().ok_or_else(|| damaged_record(id))?) {
                walk.ended |= visit(event_of(id, &record)?) == ControlFlow::Break(());
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if !walk.started {
            self.check_floor(from)?;
        }
        Ok(HistoryPage { next, current })
    }

    fn check_floor(&self, from: Revision) -> Result<()> {
        let floor = self.floor();
        if from < floor { Err(Error::Compacted { floor }) } else { Ok(()) }
    }
}

/// Where the walk through one page is.
struct Walk {
    started: bool,
    last: Revision,
    spent_bytes: usize,
    ended: bool,
}

fn event_of(id: VersionId, record: &RecordView<'_>) -> Result<Arc<Event>> {
    let kv = KeyValue::decode(Bytes::copy_from_slice(record.encoded)).ok_or_else(|| damaged_record(id))?;
    let kind = if record.kind == RecordKind::Delete { EventKind::Delete } else { EventKind::Put };
    let previous = match record.kind {
        RecordKind::Create => Previous::none(),
        _ => Previous::stored(record.previous, record.previous_value_len),
    };
    Ok(Event::new(kind, kv, id, previous))
}
