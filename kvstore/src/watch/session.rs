//! One client's watchers: create, cancel, ask for progress, and read what is ready.

use super::batch::Filter;
use super::catch_up::CatchUp;
use super::history::Replaced;
use super::hub::{Hub, wake};
use super::limits::{DELIVERIES_BETWEEN_PAGES_MAX, WatchLimits};
use super::options::{CancelReason, Delivered, Delivery, WatchOptions, WatchRefused};
use super::outbox::{Mode, Outbox, Popped, PoppedEvents, WatcherRef};
use crate::mvcc::Event;
use crate::types::{Error, KeyValue, Revision};
use parking_lot::Mutex;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A session as the hub sees it.
pub(super) struct Shared {
    pub(super) id: u64,
    pub(super) outbox: Mutex<Outbox>,
}

impl Shared {
    pub(super) fn new(id: u64, limits: Arc<WatchLimits>) -> Self {
        Self { id, outbox: Mutex::new(Outbox::new(limits)) }
    }
}

/// A set of watchers with one reader. Dropping it removes them all.
///
/// Everything may be called from any thread; one task at a time reads ([`Session::next`] or
/// [`Session::poll_next`]). No runtime is needed: the session keeps the [`Waker`](std::task::Waker) of whoever polled last.
pub struct Session {
    hub: Arc<Hub>,
    shared: Arc<Shared>,
    reading: Mutex<Reading>,
}

/// The reader's own state.
#[derive(Default)]
struct Reading {
    catch_up: CatchUp,
    /// Events handled since the reader last let others run.
    spent: usize,
    deliveries: usize,
    /// The last look ended for the others' sake.
    has_more: bool,
}

impl Session {
    pub(super) fn new(hub: Arc<Hub>, shared: Arc<Shared>) -> Self {
        Self { hub, shared, reading: Mutex::default() }
    }

    /// Creates a watcher and gives its id. [`Delivery::Created`] is queued before any of its events; a start
    /// that is compacted already is created all the same and canceled at once, as in etcd.
    pub fn create(&self, options: WatchOptions) -> Result<i64, WatchRefused> {
        if options.range.is_empty() {
            return Err(WatchRefused::EmptyRange);
        }
        let (id, waker) = {
            let mut state = self.hub.lock();
            let mut outbox = self.shared.outbox.lock();
            if state.stopped {
                return Err(WatchRefused::Stopped);
            }
            let id = outbox.choose_id(options.id)?;
            // Readers see a revision a moment before it is published here. Whoever saw it and now watches
            // "from now on" must not get it.
            let current = self.hub.history().revision().max(state.current);
            let floor = self.hub.floor();
            outbox.answer(Delivery::Created { id, revision: current });
            if options.start == Revision::NONE || options.start > state.current.max(floor.previous()) {
                let is_now = options.start == Revision::NONE;
                let from = if is_now { current.next() } else { options.start };
                let reported_from = if is_now { current } else { options.start };
                let at = outbox.add(id, &options, Mode::Live, from, reported_from);
                let filter = Filter { from, no_put: options.no_put, no_delete: options.no_delete };
                state.seat(&self.shared, &options.range, at, filter);
            } else if options.start < floor {
                outbox.answer(Delivery::Canceled { id, reason: CancelReason::Compacted { floor } });
            } else {
                outbox.add(id, &options, Mode::Lagging, options.start, options.start);
            }
            (id, outbox.waker.take())
        };
        wake(waker);
        Ok(id)
    }

    /// Whether there is a watcher of this id; its end may be queued already.
    pub fn has(&self, id: i64) -> bool {
        self.shared.outbox.lock().find_id(id).is_some()
    }

    /// Ends a watcher: what is queued for it is dropped and [`Delivery::Canceled`] follows. `false`, and
    /// nothing else, if the session has no such watcher.
    pub fn cancel(&self, id: i64) -> bool {
        let Some(at) = self.shared.outbox.lock().find_id(id) else { return false };
        self.remove(at, |outbox| outbox.answer(Delivery::Canceled { id, reason: CancelReason::Requested }))
    }

    /// Removes a watcher; `false` if somebody else has done so already.
    fn remove(&self, at: WatcherRef, then: impl FnOnce(&mut Outbox)) -> bool {
        let waker = {
            let mut state = self.hub.lock();
            {
                let mut outbox = self.shared.outbox.lock();
                let Some(watcher) = outbox.remove(at) else { return false };
                state.unseat(self.shared.id, &watcher.range, at);
                then(&mut outbox);
            }
            state.try_progress(&self.shared)
        };
        wake(waker);
        true
    }

    /// Asks how far the session is: one [`Delivery::Progress`] without an id follows behind all events that
    /// are due by now, as soon as every watcher is fed live and has reached its start. Never if the session
    /// has no watchers. Questions asked before the answer share it.
    pub fn request_progress(&self) {
        // What the client can have seen by now: an answer below that would only make it ask again.
        let wanted = self.hub.history().revision().max(self.hub.passed());
        let waker = {
            let mut state = self.hub.lock();
            self.shared.outbox.lock().want_progress(wanted);
            state.try_progress(&self.shared)
        };
        wake(waker);
    }

    /// Queues [`Delivery::Progress`] for each watcher that asked for it, is fed live, and got nothing since
    /// the last call. For the server's timer.
    pub fn tick_progress(&self) {
        // First the revision, then the lock: what the hub has passed by now is queued in the outbox.
        let passed = self.hub.passed();
        let waker = {
            let mut outbox = self.shared.outbox.lock();
            outbox.tick(passed);
            if outbox.is_idle() { None } else { outbox.waker.take() }
        };
        wake(waker);
    }

    /// The next delivery. Waits for ever once all watchers have ended and said so.
    pub async fn next(&self) -> Delivery {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`Session::next`]. Reads the past in small pages on the caller's thread when a watcher lags, and
    /// returns `Pending` with a wake-up already sent after a fair amount of work.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Delivery> {
        let mut reading = self.reading.lock();
        reading.has_more = false;
        loop {
            if reading.spent >= self.hub.limits().turn_events {
                (reading.spent, reading.has_more) = (0, true);
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            reading.spent += 1;
            if reading.deliveries >= DELIVERIES_BETWEEN_PAGES_MAX {
                self.catch_up(&mut reading);
            }
            let popped = {
                let mut outbox = self.shared.outbox.lock();
                let popped = outbox.pop();
                if popped.is_none() && outbox.is_idle() && reading.catch_up.is_idle() {
                    outbox.waker = Some(context.waker().clone());
                    reading.spent = 0;
                    return Poll::Pending;
                }
                popped
            };
            match popped {
                Some(popped) => {
                    reading.deliveries += 1;
                    if let Some(delivery) = self.finish(popped, &mut reading.spent) {
                        return Poll::Ready(delivery);
                    }
                }
                None => self.catch_up(&mut reading),
            }
        }
    }

    /// Whether the last [`Session::poll_next`] was pending only to let others run.
    pub fn has_more(&self) -> bool {
        self.reading.lock().has_more
    }

    /// One step for the lagging watchers, if there are any.
    fn catch_up(&self, reading: &mut Reading) {
        reading.spent += reading.catch_up.step(&self.hub, &self.shared);
        reading.deliveries = 0;
    }

    /// Looks up previous versions, here and never again, or ends the watcher instead; `None` if nothing is left
    /// to say.
    fn finish(&self, popped: Popped, spent: &mut usize) -> Option<Delivery> {
        let popped = match popped {
            Popped::Answer(delivery) => return Some(delivery),
            Popped::SessionProgress(revision) => {
                // The next question could only wait for this answer.
                if self.shared.outbox.lock().wants_progress() {
                    self.hub.answer_progress(&self.shared);
                }
                return revision.map(|revision| Delivery::Progress { id: None, revision });
            }
            Popped::Events(popped) => popped,
        };
        *spent += popped.events.len();
        let PoppedEvents { at, id, events, previous, start, revision } = popped;
        let resolve = |event: Arc<Event>| {
            let previous = if previous { self.previous(&event, start)? } else { None };
            Ok(Delivered { event, previous })
        };
        match events.into_iter().map(resolve).collect::<Result<Vec<_>, _>>() {
            Ok(events) => {
                self.hub.counters().delivered.add(events.len() as u64);
                Some(Delivery::Events { id, events, revision })
            }
            // Now, not behind what is queued: that may tell of progress beyond these events.
            Err(reason) => self.remove(at, |_| ()).then_some(Delivery::Canceled { id, reason }),
        }
    }

    /// What the event replaced. A client that asked for that takes an event without it for proof of a lost
    /// one, so the watcher ends if compaction came first. Only the very revision that it chose to start from
    /// may lack it, as in etcd: the floor itself can be watched from.
    fn previous(&self, event: &Event, start: Revision) -> Result<Option<KeyValue>, CancelReason> {
        match self.hub.history().replaced(event) {
            Ok(Replaced::Version(version)) => Ok(Some(version)),
            Ok(Replaced::Nothing) => Ok(None),
            Ok(Replaced::Compacted) if event.revision() == start => Ok(None),
            Ok(Replaced::Compacted) => Err(CancelReason::Compacted { floor: self.hub.floor() }),
            Err(Error::Compacted { floor }) => Err(CancelReason::Compacted { floor }),
            Err(error) => {
                tracing::error!(%error, "a watch cannot read a previous version");
                Err(CancelReason::of(&error))
            }
        }
    }

    /// Ends all watchers with [`CancelReason::Stopped`] and refuses new ones.
    pub fn stop(&self) {
        self.hub.stop_session(&self.shared);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.hub.forget_session(&self.shared);
    }
}
