//! What waits in one session: its watchers, their events, its answers, in the order they must leave.
//!
//! The publisher and the session's reader meet here, under a lock that neither holds for long: the publisher
//! adds a reference for each watcher, the reader takes one delivery at a time (`take`). Events wait with
//! their watcher (`watcher`), so that several publishes leave as one delivery; a queue of tokens keeps the
//! order between watchers and answers.
//!
//! Invariants:
//! - a watcher with events queued has a token in the queue, or its end has one;
//! - a token of progress of the whole session never moves back: the events it waits for are fetched from
//!   behind it, and whatever was queued behind it for other reasons stays there;
//! - `entries`, `bytes`, `lagging`, `ended` and `unread` count what they name, at any time.
//!
//! Deliberately missing: reading the past and joining the live set (`catch_up`, `hub`); a straggler is only
//! noted here.

mod take;
mod watcher;

pub(super) use take::{Popped, PoppedEvents};
pub(super) use watcher::{Mode, Watcher, WatcherRef};

use crate::types::{KeyRange, Revision};
use crate::watch::batch::{Batch, Filter};
use crate::watch::limits::WatchLimits;
use crate::watch::options::{CancelReason, Delivery, WatchOptions, WatchRefused};
use crate::watch::progress::{Answer, Progress};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use watcher::{Entry, find};

/// A token: something is ready to leave.
enum Ready {
    Answer(Delivery),
    Events(WatcherRef),
    WatcherProgress(WatcherRef, Revision),
    SessionProgress {
        revision: Revision,
        /// Watchers with a smaller serial number were there.
        known: u64,
    },
    Ended(WatcherRef),
}

/// A watcher that must read the past from here on.
pub(in crate::watch) struct Straggler {
    pub(in crate::watch) at: WatcherRef,
    pub(in crate::watch) range: KeyRange,
    pub(in crate::watch) filter: Filter,
}

/// What became of a batch offered to a live watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) enum Pushed {
    Queued,
    /// The session is full: the watcher lags from this batch on and leaves the live set.
    Overflow,
    /// There is no such watcher any more.
    Gone,
}

/// See the module's text.
pub(in crate::watch) struct Outbox {
    limits: Arc<WatchLimits>,
    watchers: Vec<Option<Watcher>>,
    free: Vec<u32>,
    ids: HashMap<i64, WatcherRef>,
    next_id: i64,
    next_serial: u64,
    ready: VecDeque<Ready>,
    unread: usize,
    entries: usize,
    bytes: usize,
    lagging: usize,
    /// Watchers that only wait to be told of their end.
    ended: usize,
    stragglers: Vec<Straggler>,
    progress: Progress,
    stopped: bool,
    /// The revision at which the hub looks at `progress` again.
    pub(in crate::watch) waits_for: Option<Revision>,
    /// The reader, when it waits.
    pub(in crate::watch) waker: Option<Waker>,
}

impl Outbox {
    pub(in crate::watch) fn new(limits: Arc<WatchLimits>) -> Self {
        Self {
            limits,
            watchers: Vec::new(),
            free: Vec::new(),
            ids: HashMap::new(),
            next_id: 0,
            next_serial: 0,
            ready: VecDeque::new(),
            unread: 0,
            entries: 0,
            bytes: 0,
            lagging: 0,
            ended: 0,
            stragglers: Vec::new(),
            progress: Progress::default(),
            stopped: false,
            waits_for: None,
            waker: None,
        }
    }

    /// Finds an id, or says why there can be no further watcher.
    pub(in crate::watch) fn choose_id(&mut self, wanted: Option<i64>) -> Result<i64, WatchRefused> {
        if self.stopped {
            return Err(WatchRefused::Stopped);
        }
        if self.ids.len() >= self.limits.watchers {
            return Err(WatchRefused::TooManyWatchers { limit: self.limits.watchers });
        }
        if self.unread >= self.limits.unread {
            return Err(WatchRefused::TooManyUnread { limit: self.limits.unread });
        }
        if let Some(id) = wanted {
            return if self.ids.contains_key(&id) { Err(WatchRefused::DuplicateId(id)) } else { Ok(id) };
        }
        while self.ids.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        Ok(id)
    }

    /// Adds a watcher that gets events from `from` on, in `mode`; `reported_from` is the first revision that
    /// a progress notification may show.
    pub(in crate::watch) fn add(
        &mut self,
        id: i64,
        options: &WatchOptions,
        mode: Mode,
        from: Revision,
        reported_from: Revision,
    ) -> WatcherRef {
        let serial = self.next_serial;
        self.next_serial += 1;
        let filter = Filter { from, no_put: options.no_put, no_delete: options.no_delete };
        let watcher = Watcher {
            id,
            serial,
            range: options.range.clone(),
            filter,
            mode,
            start: options.start,
            previous: options.previous,
            progress: options.progress,
            pending: VecDeque::new(),
            queued: false,
            progress_queued: false,
            busy: false,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.watchers.push(None);
            u32::try_from(self.watchers.len() - 1).expect("watchers are bounded")
        });
        self.watchers[slot as usize] = Some(watcher);
        let at = WatcherRef { serial, slot };
        self.ids.insert(id, at);
        self.progress.add(reported_from, serial);
        if mode == Mode::Lagging {
            self.lagging += 1;
            self.stragglers.push(Straggler { at, range: options.range.clone(), filter });
        }
        at
    }

    /// Queues an answer behind everything that is ready.
    pub(in crate::watch) fn answer(&mut self, delivery: Delivery) {
        self.unread += 1;
        self.ready.push_back(Ready::Answer(delivery));
    }

    /// Offers what was just published. `charge` is what a first holder in this session pays for the batch.
    pub(in crate::watch) fn push_live(
        &mut self,
        at: WatcherRef,
        batch: &Arc<Batch>,
        charge: usize,
    ) -> Pushed {
        let full = self.entries >= self.limits.queue_entries
            || (self.entries > 0 && self.bytes + charge > self.limits.queue_bytes);
        let Some(watcher) = find(&mut self.watchers, at).filter(|watcher| watcher.mode == Mode::Live) else {
            return Pushed::Gone;
        };
        if full {
            watcher.mode = Mode::Lagging;
            watcher.filter.from = watcher.filter.from.max(batch.first_revision());
            self.lagging += 1;
            let (range, filter) = (watcher.range.clone(), watcher.filter);
            self.stragglers.push(Straggler { at, range, filter });
            return Pushed::Overflow;
        }
        let from = watcher.filter.from;
        self.enqueue(
            at,
            Entry { batch: batch.clone(), place: 0, from, current: Revision::NONE, charged: charge },
        );
        Pushed::Queued
    }

    /// Adds what was read from the past; the reader checks [`Outbox::has_room`] before it reads.
    /// `false`: there is no such watcher any more.
    pub(in crate::watch) fn push_past(
        &mut self,
        at: WatcherRef,
        batch: &Arc<Batch>,
        from: Revision,
        current: Revision,
        charge: usize,
    ) -> bool {
        if find(&mut self.watchers, at).is_none_or(|watcher| watcher.mode != Mode::Lagging) {
            return false;
        }
        self.enqueue(at, Entry { batch: batch.clone(), place: 0, from, current, charged: charge });
        true
    }

    fn enqueue(&mut self, at: WatcherRef, entry: Entry) {
        let watcher = find(&mut self.watchers, at).expect("the caller has just found it");
        self.entries += 1;
        self.bytes += entry.charged;
        watcher.pending.push_back(entry);
        if !watcher.queued {
            watcher.queued = true;
            self.ready.push_back(Ready::Events(at));
        }
    }

    /// Whether half of the queue is free, so that reading the past makes sense.
    pub(in crate::watch) fn has_room(&self) -> bool {
        self.entries <= self.limits.queue_entries / 2 && self.bytes <= self.limits.queue_bytes / 2
    }

    /// Those that have to read the past since the last call.
    pub(in crate::watch) fn take_stragglers(&mut self) -> Vec<Straggler> {
        std::mem::take(&mut self.stragglers)
    }

    /// A lagging watcher has caught up; `false` if there is no such watcher any more.
    pub(in crate::watch) fn rejoin(&mut self, at: WatcherRef, from: Revision) -> bool {
        let Some(watcher) = find(&mut self.watchers, at).filter(|watcher| watcher.mode == Mode::Lagging)
        else {
            return false;
        };
        watcher.mode = Mode::Live;
        watcher.filter.from = from;
        self.lagging -= 1;
        true
    }

    /// Ends a lagging watcher: it gets what is queued for it, then the reason.
    pub(in crate::watch) fn end(&mut self, at: WatcherRef, reason: CancelReason) {
        let Some(watcher) = find(&mut self.watchers, at).filter(|watcher| watcher.mode == Mode::Lagging)
        else {
            return;
        };
        watcher.mode = Mode::Ended(reason);
        let serial = watcher.serial;
        self.lagging -= 1;
        self.ended += 1;
        self.progress.remove(serial);
        self.ready.push_back(Ready::Ended(at));
    }

    /// Removes a watcher with everything queued for it; the caller takes it out of the live set.
    pub(in crate::watch) fn remove(&mut self, at: WatcherRef) -> Option<Watcher> {
        let watcher =
            find(&mut self.watchers, at).is_some().then(|| self.watchers[at.slot as usize].take())??;
        self.free.push(at.slot);
        self.ids.remove(&watcher.id);
        self.progress.remove(watcher.serial);
        self.lagging -= usize::from(watcher.mode == Mode::Lagging);
        self.ended -= usize::from(matches!(watcher.mode, Mode::Ended(_)));
        self.entries -= watcher.pending.len();
        self.bytes -= watcher.pending.iter().map(|entry| entry.charged).sum::<usize>();
        Some(watcher)
    }

    pub(in crate::watch) fn find_id(&self, id: i64) -> Option<WatcherRef> {
        self.ids.get(&id).copied()
    }

    /// Ends everything; gives the watchers back for the caller to take out of the live set.
    pub(in crate::watch) fn stop(&mut self) -> Vec<(WatcherRef, Watcher)> {
        self.stopped = true;
        let mut refs: Vec<WatcherRef> = self.ids.values().copied().collect();
        refs.sort_unstable();
        self.stragglers.clear();
        refs.into_iter().filter_map(|at| Some((at, self.remove(at)?))).collect()
    }

    pub(in crate::watch) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Queues progress of each watcher that wants it and was idle since the last tick. Every event up to
    /// `passed` is queued already.
    pub(in crate::watch) fn tick(&mut self, passed: Revision) {
        for (slot, watcher) in self.watchers.iter_mut().enumerate() {
            let Some(watcher) = watcher.as_mut().filter(|watcher| watcher.progress) else { continue };
            let busy = std::mem::replace(&mut watcher.busy, false) || !watcher.pending.is_empty();
            let due = !busy && !watcher.progress_queued && watcher.mode == Mode::Live;
            if due && self.progress.may_report(watcher.serial, passed) {
                watcher.progress_queued = true;
                let at = WatcherRef { serial: watcher.serial, slot: slot as u32 };
                self.ready.push_back(Ready::WatcherProgress(at, passed));
            }
        }
    }

    /// Asks for progress of the whole session, at or above `wanted`.
    pub(in crate::watch) fn want_progress(&mut self, wanted: Revision) {
        if self.ids.len() > self.ended {
            self.progress.want(wanted, self.next_serial);
        }
    }

    /// Queues the asked-for progress if it is due at `current`, the revision up to which every live watcher
    /// has its events queued; else tells which revision to wait for, if that is what is missing.
    pub(in crate::watch) fn try_progress(&mut self, current: Revision) -> Option<Revision> {
        if self.ids.len() == self.ended {
            self.progress.forget();
        }
        if self.lagging > 0 {
            return None;
        }
        match self.progress.answer(current, self.next_serial) {
            Answer::Nothing => None,
            Answer::WaitFor(revision) => Some(revision),
            Answer::Report(revision) => {
                self.ready.push_back(Ready::SessionProgress { revision, known: self.next_serial });
                None
            }
        }
    }

    /// Whether a request for progress waits for something.
    pub(in crate::watch) fn wants_progress(&self) -> bool {
        self.progress.is_wanted()
    }

    pub(in crate::watch) fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.stragglers.is_empty()
    }
    pub(in crate::watch) fn watcher_count(&self) -> usize {
        self.ids.len()
    }
    pub(in crate::watch) fn lagging_count(&self) -> usize {
        self.lagging
    }
    pub(in crate::watch) fn entry_count(&self) -> usize {
        self.entries
    }
}
