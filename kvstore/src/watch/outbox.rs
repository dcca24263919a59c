//! What waits in one session: its watchers, their events, its answers, in the order they must leave.
//!
//! The publisher and the session's reader meet here, under a lock that neither holds for long: the publisher
//! adds a reference for each watcher, the reader takes one delivery at a time. Events wait per watcher, so
//! that several publishes leave as one delivery; a queue of tokens keeps the order between watchers and
//! answers.

use super::batch::{Batch, Filter};
use super::limits::WatchLimits;
use super::options::{CancelReason, Delivery, WatchOptions, WatchRefused};
use super::progress::{Answer, Progress};
use crate::mvcc::Event;
use crate::types::{KeyRange, Revision};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

/// Names a watcher of a session; never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WatcherRef {
    pub(super) serial: u64,
    slot: u32,
}

/// Where a watcher gets its events from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// From each publish.
    Live,
    /// From the past, read by the session itself.
    Lagging,
    /// From nowhere: it gets what is queued and then this reason.
    Ended(CancelReason),
}

/// A watcher as its session knows it.
pub(super) struct Watcher {
    pub(super) id: i64,
    pub(super) serial: u64,
    pub(super) range: KeyRange,
    pub(super) filter: Filter,
    pub(super) mode: Mode,
    /// The start that was asked for: only there may a previous version be missing, as in etcd.
    start: Revision,
    previous: bool,
    progress: bool,
    pending: VecDeque<Entry>,
    /// Whether a token for `pending` is in the queue.
    queued: bool,
    /// Whether a token for this watcher's progress is in the queue.
    progress_queued: bool,
    /// Whether events went out since the last tick.
    busy: bool,
}

/// A batch on its way to one watcher.
struct Entry {
    batch: Arc<Batch>,
    /// The first event that was not handed out.
    place: usize,
    /// Events below are not for this watcher.
    from: Revision,
    /// The store's revision while catching up, else none: what the header shows.
    current: Revision,
    /// Bytes on this entry's account: watchers of one session share a batch, and its first holder pays.
    charged: usize,
}

/// A token: something is ready to leave.
enum Ready {
    Answer(Delivery),
    Events(WatcherRef),
    WatcherProgress(WatcherRef, Revision),
    SessionProgress(Revision),
    Ended(WatcherRef),
}

/// What the reader takes.
pub(super) enum Popped {
    Answer(Delivery),
    Events(PoppedEvents),
}

/// Events for one watcher. Their previous versions still have to be looked up.
pub(super) struct PoppedEvents {
    pub(super) at: WatcherRef,
    pub(super) id: i64,
    pub(super) events: Vec<Arc<Event>>,
    pub(super) previous: bool,
    pub(super) start: Revision,
    pub(super) revision: Revision,
}

/// A watcher that must read the past from here on.
pub(super) struct Straggler {
    pub(super) at: WatcherRef,
    pub(super) range: KeyRange,
    pub(super) filter: Filter,
}

/// What became of a batch offered to a live watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Queued,
    /// The session is full: the watcher lags from this batch on and leaves the live set.
    Overflow,
    /// There is no such watcher any more.
    Gone,
}

/// See the module's text.
pub(super) struct Outbox {
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
    stragglers: Vec<Straggler>,
    progress: Progress,
    stopped: bool,
    /// The revision at which the hub looks at `progress` again.
    pub(super) waits_for: Option<Revision>,
    /// The reader, when it waits.
    pub(super) waker: Option<Waker>,
}

impl Outbox {
    pub(super) fn new(limits: Arc<WatchLimits>) -> Self {
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
            stragglers: Vec::new(),
            progress: Progress::default(),
            stopped: false,
            waits_for: None,
            waker: None,
        }
    }

    /// Finds an id, or says why there can be no further watcher.
    pub(super) fn choose_id(&mut self, wanted: Option<i64>) -> Result<i64, WatchRefused> {
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
    pub(super) fn add(
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
    pub(super) fn answer(&mut self, delivery: Delivery) {
        self.unread += 1;
        self.ready.push_back(Ready::Answer(delivery));
    }

    /// Offers what was just published. `charge` is what a first holder in this session pays for the batch.
    pub(super) fn push_live(&mut self, at: WatcherRef, batch: &Arc<Batch>, charge: usize) -> Pushed {
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
    pub(super) fn push_past(
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
    pub(super) fn has_room(&self) -> bool {
        self.entries <= self.limits.queue_entries / 2 && self.bytes <= self.limits.queue_bytes / 2
    }

    /// Those that have to read the past since the last call.
    pub(super) fn take_stragglers(&mut self) -> Vec<Straggler> {
        std::mem::take(&mut self.stragglers)
    }

    /// A lagging watcher has caught up; `false` if there is no such watcher any more.
    pub(super) fn rejoin(&mut self, at: WatcherRef, from: Revision) -> bool {
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
    pub(super) fn end(&mut self, at: WatcherRef, reason: CancelReason) {
        let Some(watcher) = find(&mut self.watchers, at).filter(|watcher| watcher.mode == Mode::Lagging)
        else {
            return;
        };
        watcher.mode = Mode::Ended(reason);
        let serial = watcher.serial;
        self.lagging -= 1;
        self.progress.remove(serial);
        self.ready.push_back(Ready::Ended(at));
    }

    /// Removes a watcher with everything queued for it; the caller takes it out of the live set.
    pub(super) fn remove(&mut self, at: WatcherRef) -> Option<Watcher> {
        let watcher =
            find(&mut self.watchers, at).is_some().then(|| self.watchers[at.slot as usize].take())??;
        self.free.push(at.slot);
        self.ids.remove(&watcher.id);
        self.progress.remove(watcher.serial);
        self.lagging -= usize::from(watcher.mode == Mode::Lagging);
        self.entries -= watcher.pending.len();
        self.bytes -= watcher.pending.iter().map(|entry| entry.charged).sum::<usize>();
        Some(watcher)
    }

    pub(super) fn find_id(&self, id: i64) -> Option<WatcherRef> {
        self.ids.get(&id).copied()
    }

    /// Ends everything; gives the watchers back for the caller to take out of the live set.
    pub(super) fn stop(&mut self) -> Vec<(WatcherRef, Watcher)> {
        self.stopped = true;
        let mut refs: Vec<WatcherRef> = self.ids.values().copied().collect();
        refs.sort_unstable();
        self.stragglers.clear();
        refs.into_iter().filter_map(|at| Some((at, self.remove(at)?))).collect()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The next thing to pass on.
    pub(super) fn pop(&mut self) -> Option<Popped> {
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
                Ready::SessionProgress(revision) if self.owes_events(revision) => {
                    self.ready.push_back(Ready::SessionProgress(revision));
                }
                Ready::SessionProgress(revision) => {
                    self.progress.delivered();
                    if !self.ids.is_empty() {
                        return Some(Popped::Answer(Delivery::Progress { id: None, revision }));
                    }
                }
                Ready::Ended(at) => {
                    let Some(watcher) = find(&mut self.watchers, at) else { continue };
                    if !watcher.pending.is_empty() {
                        self.ready.push_back(Ready::Ended(at));
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

    /// Whether an event at or below `revision` is queued.
    fn owes_events(&mut self, revision: Revision) -> bool {
        let Self { ready, watchers, .. } = self;
        ready.iter().any(|ready| {
            let Ready::Events(at) = ready else { return false };
            let entry = find(watchers, *at).and_then(|watcher| watcher.pending.front());
            entry.is_some_and(|entry| entry.batch.events()[entry.place].revision() <= revision)
        })
    }

    /// Queues progress of each watcher that wants it and was idle since the last tick. Every event up to
    /// `passed` is queued already.
    pub(super) fn tick(&mut self, passed: Revision) {
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
    pub(super) fn want_progress(&mut self, wanted: Revision) {
        if !self.ids.is_empty() {
            self.progress.want(wanted);
        }
    }

    /// Queues the asked-for progress if it is due at `current`, the revision up to which every live watcher
    /// has its events queued; else tells which revision to wait for, if that is what is missing.
    pub(super) fn try_progress(&mut self, current: Revision) -> Option<Revision> {
        if self.ids.is_empty() {
            self.progress.forget();
            return None;
        }
        if self.lagging > 0 {
            return None;
        }
        match self.progress.answer(current) {
            Answer::Nothing => None,
            Answer::WaitFor(revision) => Some(revision),
            Answer::Report(revision) => {
                self.ready.push_back(Ready::SessionProgress(revision));
                None
            }
        }
    }

    /// Whether a request for progress waits for something.
    pub(super) fn wants_progress(&self) -> bool {
        self.progress.is_wanted()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.stragglers.is_empty()
    }
    pub(super) fn watcher_count(&self) -> usize {
        self.ids.len()
    }
    pub(super) fn lagging_count(&self) -> usize {
        self.lagging
    }
    pub(super) fn entry_count(&self) -> usize {
        self.entries
    }
}

fn find(watchers: &mut [Option<Watcher>], at: WatcherRef) -> Option<&mut Watcher> {
    watchers.get_mut(at.slot as usize)?.as_mut().filter(|watcher| watcher.serial == at.serial)
}
