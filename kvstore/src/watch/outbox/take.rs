//! The reader's side: one delivery at a time.

use super::watcher::{Entry, Mode, WatcherRef, find};
use super::{Outbox, Ready};
use crate::mvcc::Event;
use crate::types::Revision;
use crate::watch::batch::Filter;
use crate::watch::options::Delivery;
use std::sync::Arc;

/// What the reader takes.
pub(in crate::watch) enum Popped {
    Answer(Delivery),
    Events(PoppedEvents),
    /// Progress of the session; none if the watchers that it was about have ended.
    SessionProgress(Option<Revision>),
}

/// Events for one watcher. Their previous versions still have to be looked up.
pub(in crate::watch) struct PoppedEvents {
    pub(in crate::watch) at: WatcherRef,
    pub(in crate::watch) id: i64,
    pub(in crate::watch) events: Vec<Arc<Event>>,
    pub(in crate::watch) previous: bool,
    pub(in crate::watch) start: Revision,
    pub(in crate::watch) revision: Revision,
}

impl Outbox {
    /// The next thing to pass on.
    pub(in crate::watch) fn pop(&mut self) -> Option<Popped> {
        while let Some(ready) = self.ready.pop_front() {
            match ready {
                Ready::Answer(delivery) => {
                    self.unread -= 1;
                    return Some(Popped::Answer(delivery));
                }
                Ready::Events(at) => {
                    if let Some(popped) = self.pop_events(at) {
                        return Some(Popped::Events(popped));
                    }
                }
                Ready::WatcherProgress(at, revision) => {
                    if let Some(watcher) = find(&mut self.watchers, at) {
                        watcher.progress_queued = false;
                        return Some(Popped::Answer(Delivery::Progress { id: Some(watcher.id), revision }));
                    }
                }
                Ready::SessionProgress { revision, known } => {
                    if let Some(at) = self.take_owed(revision, known) {
                        self.ready.push_front(Ready::SessionProgress { revision, known });
                        if let Some(popped) = self.pop_events(at) {
                            return Some(Popped::Events(popped));
                        }
                        continue;
                    }
                    self.progress.delivered();
                    return Some(Popped::SessionProgress(self.is_any_left(known).then_some(revision)));
                }
                Ready::Ended(at) => {
                    let Some(watcher) = find(&mut self.watchers, at) else { continue };
                    if !watcher.pending.is_empty() {
                        // Its place stays: progress behind it must not be told before the end is.
                        self.ready.push_front(Ready::Ended(at));
                        if let Some(popped) = self.pop_events(at) {
                            return Some(Popped::Events(popped));
                        }
                        continue;
                    }
                    let Mode::Ended(reason) = watcher.mode else {
                        unreachable!("only an ended watcher has this")
                    };
                    let id = watcher.id;
                    self.remove(at);
                    return Some(Popped::Answer(Delivery::Canceled { id, reason }));
                }
            }
        }
        None
    }

    /// One delivery's worth of a watcher's events; `None` if its filters leave nothing.
    fn pop_events(&mut self, at: WatcherRef) -> Option<PoppedEvents> {
        let limits = &self.limits;
        let watcher = find(&mut self.watchers, at)?;
        let events_max = if watcher.previous { limits.delivery_previous_events } else { usize::MAX };
        let mut events: Vec<Arc<Event>> = Vec::new();
        let (mut revisions, mut bytes, mut header) = (0, 0, Revision::NONE);
        'entries: while let Some(entry) = watcher.pending.front_mut() {
            let filter = Filter { from: entry.from, ..watcher.filter };
            for event in &entry.batch.events()[entry.place..] {
                if filter.passes(event) {
                    if events.last().is_none_or(|last| last.revision() != event.revision()) {
                        let full = revisions >= limits.delivery_revisions
                            || bytes >= limits.delivery_bytes
                            || events.len() >= events_max;
                        if full {
                            break 'entries;
                        }
                        revisions += 1;
                    }
                    bytes += event.kv.encoded().len();
                    header = header.max(event.revision()).max(entry.current);
                    events.push(event.clone());
                }
                entry.place += 1;
            }
            let entry = watcher.pending.pop_front().expect("it was in front");
            self.entries -= 1;
            self.bytes -= entry.charged;
        }
        watcher.queued = !watcher.pending.is_empty();
        if watcher.queued {
            self.ready.push_back(Ready::Events(at));
        }
        if events.is_empty() {
            return None;
        }
        watcher.busy = true;
        let (id, previous, start) = (watcher.id, watcher.previous, watcher.start);
        Some(PoppedEvents { at, id, events, previous, start, revision: header })
    }

    /// Takes the token of a watcher that has an event at or below `revision` queued, of those that were there
    /// when progress at that revision was: the others are told of their creation behind it.
    fn take_owed(&mut self, revision: Revision, known: u64) -> Option<WatcherRef> {
        let Self { ready, watchers, .. } = self;
        let place = ready.iter().position(|ready| {
            let Ready::Events(at) = ready else { return false };
            let entry = find(watchers, *at).and_then(|watcher| watcher.pending.front());
            let is_due = |entry: &Entry| entry.batch.events()[entry.place].revision() <= revision;
            at.serial < known && entry.is_some_and(is_due)
        })?;
        let Some(Ready::Events(at)) = ready.remove(place) else { unreachable!("it was just seen there") };
        Some(at)
    }

    /// Whether a watcher of those with smaller serial numbers than `known` has not ended.
    fn is_any_left(&self, known: u64) -> bool {
        let mut watchers = self.watchers.iter().flatten();
        watchers.any(|watcher| watcher.serial < known && !matches!(watcher.mode, Mode::Ended(_)))
    }
}
