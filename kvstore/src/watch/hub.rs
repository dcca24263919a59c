//! Where events arrive: published once, found for everybody who watches them, kept for the slow.

use super::batch::{Batch, Filter};
use super::catch_up::Joining;
use super::history::History;
use super::limits::WatchLimits;
use super::matcher::Matcher;
use super::outbox::{Pushed, WatcherRef};
use super::ring::{Ring, RingPage};
use super::session::{Session, Shared};
use super::stats::{Counters, HubStats};
use crate::mvcc::{Event, Reader};
use crate::types::{KeyRange, Revision};
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;

/// The watchers of one keyspace. See the folder's text.
pub struct Hub {
    history: Arc<dyn History>,
    limits: Arc<WatchLimits>,
    counters: Counters,
    /// Every event at or below this revision is queued for every live watcher it concerns.
    passed: AtomicI64,
    /// The floor as the publisher has told; the history may know of a newer one.
    floor: AtomicI64,
    state: Mutex<HubState>,
}

/// What the publisher changes. Lock order: this, then an outbox.
pub(super) struct HubState {
    pub(super) current: Revision,
    ring: Ring,
    matcher: Matcher<u64, Seats>,
    /// Sessions whose progress is due when the revision is reached.
    waiting: BTreeMap<(Revision, u64), Weak<Shared>>,
    sessions: HashMap<u64, Weak<Shared>>,
    next_session: u64,
    pub(super) stopped: bool,
}

/// The live watchers of one session in one group.
struct Seats {
    shared: Arc<Shared>,
    seats: BTreeMap<u64, Seat>,
}

#[derive(Clone, Copy)]
struct Seat {
    at: WatcherRef,
    filter: Filter,
}

/// Where a revision is to be had.
pub(super) enum Place {
    /// It is still to come.
    Live,
    /// In memory.
    Ring { current: Revision, page: RingPage },
    /// On disk, up to `current`.
    Disk { current: Revision },
}

impl Hub {
    /// A hub for what happens after the reader's present revision.
    pub fn new(reader: Reader, limits: WatchLimits) -> Arc<Self> {
        Self::with_history(Arc::new(reader), limits)
    }

    pub(super) fn with_history(history: Arc<dyn History>, limits: WatchLimits) -> Arc<Self> {
        let current = history.revision();
        let state = HubState {
            current,
            ring: Ring::new(limits.ring_bytes, current),
            matcher: Matcher::new(),
            waiting: BTreeMap::new(),
            sessions: HashMap::new(),
            next_session: 0,
            stopped: false,
        };
        Arc::new(Self {
            passed: AtomicI64::new(current.get()),
            floor: AtomicI64::new(history.floor().get()),
            history,
            limits: Arc::new(limits),
            counters: Counters::default(),
            state: Mutex::new(state),
        })
    }

    /// Hands on what was applied: `events` in order, `current` the revision after them. Readers must already
    /// see all of it. Reads no disk, waits for no session, wakes each session at most once.
    ///
    /// # Panics
    /// When the revisions do not continue what was published before.
    pub fn publish(&self, events: &[Arc<Event>], current: Revision) {
        self.publish_and_tell(events, current).into_iter().for_each(Waker::wake);
    }

    /// The same, and leaves it to the caller to wake the sessions that have something to read now.
    pub(crate) fn publish_and_tell(&self, events: &[Arc<Event>], current: Revision) -> Vec<Waker> {
        let mut wakers = Vec::new();
        {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            check_order(state.current, events, current);
            let mut pushes = 0u64;
            for (group, batch) in state.matcher.select(events) {
                state.matcher.retain(group, |_, seats| {
                    pushes += seats.feed(&batch, &mut wakers, &self.counters);
                    !seats.seats.is_empty()
                });
            }
            state.ring.push(events);
            state.current = current;
            self.passed.store(current.get(), Ordering::Release);
            while let Some(entry) = state.waiting.first_entry().filter(|entry| entry.key().0 <= current) {
                if let Some(shared) = entry.remove().upgrade() {
                    wakers.extend(state.try_progress(&shared));
                }
            }
            self.counters.events.add(events.len() as u64);
            self.counters.pushes.add(pushes);
        }
        wakers
    }

    /// The floor has moved: nothing below it can be read any more. Lagging watchers that need it are told so
    /// when their session is polled next.
    pub fn compacted(&self, floor: Revision) {
        self.floor.fetch_max(floor.get(), Ordering::AcqRel);
    }

    /// A new session: one client's stream of watchers.
    pub fn session(self: &Arc<Self>) -> Session {
        let mut state = self.state.lock();
        let id = state.next_session;
        state.next_session += 1;
        let shared = Arc::new(Shared::new(id, self.limits.clone()));
        if state.stopped {
            shared.outbox.lock().stop();
        }
        state.sessions.insert(id, Arc::downgrade(&shared));
        Session::new(self.clone(), shared)
    }

    /// Ends all watchers of all sessions with [`CancelReason::Stopped`](super::CancelReason::Stopped), and
    /// refuses new ones.
    pub fn stop(&self) {
        let sessions: Vec<Arc<Shared>> = {
            let mut state = self.state.lock();
            state.stopped = true;
            state.sessions.values().filter_map(Weak::upgrade).collect()
        };
        for shared in sessions {
            self.stop_session(&shared);
        }
    }

    /// What is going on; walks all sessions, so not for the hot path.
    pub fn stats(&self) -> HubStats {
        let mut stats = self.counters.read();
        let sessions: Vec<Arc<Shared>> = {
            let state = self.state.lock();
            stats.intervals = state.matcher.group_count();
            stats.ring_bytes = state.ring.bytes();
            stats.ring_from = state.ring.complete_from();
            state.sessions.values().filter_map(Weak::upgrade).collect()
        };
        stats.sessions = sessions.len();
        for shared in sessions {
            let outbox = shared.outbox.lock();
            stats.watchers += outbox.watcher_count();
            stats.lagging += outbox.lagging_count();
            stats.queued += outbox.entry_count();
        }
        stats
    }

    pub(super) fn history(&self) -> &dyn History {
        &*self.history
    }
    pub(super) fn limits(&self) -> &WatchLimits {
        &self.limits
    }
    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }
    pub(super) fn lock(&self) -> MutexGuard<'_, HubState> {
        self.state.lock()
    }
    pub(super) fn passed(&self) -> Revision {
        Revision::new(self.passed.load(Ordering::Acquire))
    }
    pub(super) fn floor(&self) -> Revision {
        Revision::new(self.floor.load(Ordering::Acquire)).max(self.history.floor())
    }

    /// Where the events from `from` on are, with a page of them if they are in memory.
    pub(super) fn locate(&self, from: Revision) -> Place {
        let state = self.state.lock();
        let current = state.current;
        if from > current {
            return Place::Live;
        }
        match state.ring.page(from, self.limits.page_bytes, self.limits.page_events) {
            Some(page) => {
                self.counters.ring_pages.add(1);
                Place::Ring { current, page }
            }
            None => Place::Disk { current },
        }
    }

    /// Moves some of the watchers into the live set; `false` if something was published that they have not
    /// passed.
    pub(super) fn join(&self, shared: &Arc<Shared>, joining: &mut Joining) -> bool {
        let waker = {
            let mut state = self.state.lock();
            if state.current >= joining.cursor {
                return false;
            }
            let keep = joining.joiners.len().saturating_sub(self.limits.join_watchers.max(1));
            for joiner in joining.joiners.drain(keep..) {
                let from = joiner.filter.from.max(joining.cursor);
                if shared.outbox.lock().rejoin(joiner.at, from) {
                    state.seat(shared, &joiner.range, joiner.at, Filter { from, ..joiner.filter });
                }
            }
            state.try_progress(shared)
        };
        wake(waker);
        true
    }

    /// Answers an open question for progress, or sees to it that it will be.
    pub(super) fn answer_progress(&self, shared: &Arc<Shared>) {
        let waker = self.state.lock().try_progress(shared);
        wake(waker);
    }

    /// Ends every watcher of a session for good.
    pub(super) fn stop_session(&self, shared: &Arc<Shared>) {
        let (watchers, waker) = {
            let mut outbox = shared.outbox.lock();
            if outbox.is_stopped() {
                return;
            }
            let watchers = outbox.stop();
            for (_, watcher) in &watchers {
                let reason = super::CancelReason::Stopped;
                outbox.answer(super::Delivery::Canceled { id: watcher.id, reason });
            }
            (watchers, outbox.waker.take())
        };
        for some in watchers.chunks(super::limits::LEAVE_WATCHERS_MAX) {
            let mut state = self.state.lock();
            for (at, watcher) in some {
                state.unseat(shared.id, &watcher.range, *at);
            }
        }
        wake(waker);
    }

    /// Forgets a session whose reader is gone.
    pub(super) fn forget_session(&self, shared: &Arc<Shared>) {
        self.stop_session(shared);
        let mut state = self.state.lock();
        // It has no watchers any more, so this also ends its waiting.
        state.try_progress(shared);
        state.sessions.remove(&shared.id);
    }
}

impl HubState {
    /// Feeds a watcher from the next publish on.
    pub(super) fn seat(&mut self, shared: &Arc<Shared>, range: &KeyRange, at: WatcherRef, filter: Filter) {
        let seats = self
            .matcher
            .member(range, shared.id, || Seats { shared: shared.clone(), seats: BTreeMap::new() });
        let former = seats.seats.insert(at.serial, Seat { at, filter });
        assert!(former.is_none(), "a watcher joins the live set once");
    }

    /// Feeds a watcher no longer; does nothing if it was not live.
    pub(super) fn unseat(&mut self, session: u64, range: &KeyRange, at: WatcherRef) {
        let Some(seats) = self.matcher.get_mut(range, session) else { return };
        seats.seats.remove(&at.serial);
        if seats.seats.is_empty() {
            self.matcher.remove(range, session);
        }
    }

    /// Queues a session's progress if it is due, and gives the waker to call after the lock.
    pub(super) fn try_progress(&mut self, shared: &Arc<Shared>) -> Option<Waker> {
        let mut outbox = shared.outbox.lock();
        let wait_for = outbox.try_progress(self.current);
        let former = std::mem::replace(&mut outbox.waits_for, wait_for);
        if let Some(revision) = former.filter(|_| former != wait_for) {
            self.waiting.remove(&(revision, shared.id));
        }
        if let Some(revision) = wait_for {
            self.waiting.insert((revision, shared.id), Arc::downgrade(shared));
        }
        if outbox.is_idle() { None } else { outbox.waker.take() }
    }
}

impl Seats {
    /// Offers a batch to each watcher; gives the number that took it.
    fn feed(&mut self, batch: &Arc<Batch>, wakers: &mut Vec<Waker>, counters: &Counters) -> u64 {
        let mut outbox = self.shared.outbox.lock();
        let mut charge = batch.bytes();
        let mut pushes = 0;
        self.seats.retain(|_, seat| {
            if !batch.may_pass(&seat.filter) {
                return true;
            }
            match outbox.push_live(seat.at, batch, charge) {
                Pushed::Queued => {
                    charge = 0;
                    pushes += 1;
                    true
                }
                Pushed::Overflow => {
                    counters.overflows.add(1);
                    false
                }
                Pushed::Gone => false,
            }
        });
        if !outbox.is_idle() {
            wakers.extend(outbox.waker.take());
        }
        pushes
    }
}

/// Calls a waker that was taken under a lock, now that the lock is free.
pub(super) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn check_order(before: Revision, events: &[Arc<Event>], current: Revision) {
    let mut last = before.next();
    for event in events {
        assert!(event.revision() >= last, "events are published in order, each revision once");
        last = event.revision();
    }
    assert!(current >= before && (events.is_empty() || current >= last), "the revision never runs backwards");
}
