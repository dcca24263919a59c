//! Watchers in the past: read on, hand out, and join the live set without a gap or a duplicate.
//!
//! Only the session's reader works here, on its own thread and in small steps. A step reads one page for one
//! run, from the hub's ring if that still has it, else from disk. When a run has passed what the hub has
//! published, its watchers are moved into the live set under the hub's lock, under which nothing can be
//! published: the next publish is the first one they get.

use super::batch::Filter;
use super::history::{PageBudget, Span};
use super::hub::{Hub, Place};
use super::limits::PUSHES_BETWEEN_YIELDS_MAX;
use super::options::CancelReason;
use super::outbox::{Straggler, WatcherRef};
use super::runs::{Run, Runs};
use super::session::Shared;
use crate::mvcc::Event;
use crate::types::{Error, KeyRange, Revision};
use parking_lot::MutexGuard;
use std::sync::Arc;

/// The lagging watchers of a session. Belongs to its reader.
#[derive(Default)]
pub(super) struct CatchUp {
    runs: Runs,
    joining: Option<Joining>,
}

/// Watchers of a run that has arrived, on their way into the live set.
pub(super) struct Joining {
    pub(super) cursor: Revision,
    pub(super) joiners: Vec<Joiner>,
}

/// One of them.
pub(super) struct Joiner {
    pub(super) range: KeyRange,
    pub(super) at: WatcherRef,
    pub(super) filter: Filter,
}

impl From<Run> for Joining {
    fn from(run: Run) -> Self {
        let joiners = run.runners.into_members();
        let joiners =
            joiners.map(|(range, _, runner)| Joiner { range, at: runner.at, filter: runner.filter });
        Self { cursor: run.cursor, joiners: joiners.collect() }
    }
}

impl CatchUp {
    /// One step, if there is something to do; gives what it cost in events.
    pub(super) fn step(&mut self, hub: &Hub, shared: &Arc<Shared>) -> usize {
        let (stragglers, has_room) = {
            let mut outbox = shared.outbox.lock();
            (outbox.take_stragglers(), outbox.has_room())
        };
        for straggler in &stragglers {
            self.runs.add(straggler);
        }
        if let Some(joining) = self.joining.take() {
            return stragglers.len() + self.join(joining, hub, shared);
        }
        let run = if has_room { self.runs.take() } else { None };
        stragglers.len() + run.map_or(0, |run| self.advance(run, hub, shared))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.runs.is_empty() && self.joining.is_none()
    }

    fn advance(&mut self, run: Run, hub: &Hub, shared: &Arc<Shared>) -> usize {
        let floor = hub.floor();
        let mut run = if run.cursor < floor { cut(run, floor, hub, shared) } else { run };
        if run.runners.is_empty() {
            return 1;
        }
        let (current, cost) = match hub.locate(run.cursor) {
            Place::Live => return self.join(Joining::from(run), hub, shared),
            Place::Ring { current, page } => {
                let mut cost = 0;
                for events in &page.chunks {
                    let first = events.partition_point(|event| event.revision() < run.cursor);
                    cost += hand_out(&mut run, &events[first..], current, shared);
                }
                run.cursor = page.through.unwrap_or(current).next();
                (current, cost)
            }
            Place::Disk { current } => match read_disk(&mut run, current, hub, shared) {
                Some(cost) => (current, cost),
                None => return 1,
            },
        };
        assert!(run.cursor <= current.next(), "catching up never overtakes what is published");
        if run.cursor > current {
            // At once: whatever is published before they join, they must read first.
            return cost + self.join(Joining::from(run), hub, shared);
        }
        self.runs.put_back(run);
        cost
    }

    /// Moves some watchers into the live set.
    fn join(&mut self, mut joining: Joining, hub: &Hub, shared: &Arc<Shared>) -> usize {
        let before = joining.joiners.len();
        let arrived = hub.join(shared, &mut joining);
        let moved = before - joining.joiners.len();
        if !arrived {
            // Something was published meanwhile: they have to read that first.
            for joiner in joining.joiners {
                let from = joiner.filter.from.max(joining.cursor);
                let filter = Filter { from, ..joiner.filter };
                self.runs.add(&Straggler { at: joiner.at, range: joiner.range, filter });
            }
        } else if !joining.joiners.is_empty() {
            self.joining = Some(joining);
        }
        1 + moved
    }
}

/// Reads one page from disk; `None` if the run has ended.
fn read_disk(run: &mut Run, current: Revision, hub: &Hub, shared: &Arc<Shared>) -> Option<usize> {
    let limits = hub.limits();
    let budget = PageBudget { bytes: limits.page_bytes, events: limits.page_events };
    let span = Span { from: run.cursor, to: current };
    let page = match hub.history().page(span, &|key| run.runners.is_wanted(key), budget) {
        Ok(page) => page,
        Err(Error::Compacted { floor }) => {
            let floor = floor.max(hub.floor());
            assert!(floor > run.cursor, "a page at or above the floor is never compacted");
            let ended =
                std::mem::replace(run, Run { cursor: floor, runners: super::matcher::Matcher::new() });
            *run = cut(ended, floor, hub, shared);
            return Some(1);
        }
        Err(error) => {
            // Its watchers must not wait for ever.
            tracing::error!(%error, "a watch cannot read the past");
            end_all(run, CancelReason::of(&error), shared);
            hub.answer_progress(shared);
            return None;
        }
    };
    hub.counters().disk_pages.add(1);
    let floor = hub.floor();
    if floor > run.cursor {
        // The floor moved while the page was read: parts of it may have been missing. The next step judges.
        return Some(1 + page.events.len());
    }
    assert!(page.next > run.cursor, "a page holds at least one revision");
    let cost = hand_out(run, &page.events, current, shared);
    run.cursor = page.next;
    // What nobody wanted was read too.
    Some(cost.max(limits.page_events))
}

/// Queues `events` (all at or above the cursor) for the runners they concern.
fn hand_out(run: &mut Run, events: &[Arc<Event>], current: Revision, shared: &Shared) -> usize {
    let mut pushes = 0;
    for (group, batch) in run.runners.select(events) {
        let mut charge = batch.bytes();
        let mut outbox = shared.outbox.lock();
        run.runners.retain(group, |_, runner| {
            if !batch.may_pass(&runner.filter) {
                return true;
            }
            pushes += 1;
            if pushes % PUSHES_BETWEEN_YIELDS_MAX == 0 {
                MutexGuard::bump(&mut outbox);
            }
            let known = outbox.push_past(runner.at, &batch, runner.filter.from, current, charge);
            if known {
                charge = 0;
            }
            known
        });
    }
    events.len() + pushes
}

/// Ends the runners that need what lies below the floor; the others go on from there.
fn cut(run: Run, floor: Revision, hub: &Hub, shared: &Arc<Shared>) -> Run {
    let cursor = run.cursor;
    let mut rest = Run { cursor: floor, runners: super::matcher::Matcher::new() };
    {
        let mut outbox = shared.outbox.lock();
        for (range, serial, runner) in run.runners.into_members() {
            if runner.filter.from.max(cursor) < floor {
                outbox.end(runner.at, CancelReason::Compacted { floor });
            } else {
                rest.runners.member(&range, serial, || runner);
            }
        }
    }
    hub.answer_progress(shared);
    rest
}

fn end_all(run: &mut Run, reason: CancelReason, shared: &Shared) {
    let mut outbox = shared.outbox.lock();
    let runners = std::mem::replace(&mut run.runners, super::matcher::Matcher::new());
    for (_, _, runner) in runners.into_members() {
        outbox.end(runner.at, reason);
    }
}
