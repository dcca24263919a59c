//! What the core publishes for everybody: small facts, read without asking it.

use super::{LogicalClock, Mailbox, Metrics};
use crate::command::Alarm;
use crate::consensus::Role;
use crate::propose::{Admission, Slot, Ticket, WakeList, ticket};
use crate::types::{ClockMillis, Error, LogIndex, NodeId, Term};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// One per store.
pub(crate) struct Shared {
    pub(crate) node_id: NodeId,
    pub(crate) mailbox: Mailbox,
    pub(crate) admission: Arc<Admission>,
    pub(crate) metrics: Metrics,
    pub(crate) failure: Failure,
    local_reads: AtomicBool,
    term: AtomicU64,
    leader: AtomicU64,
    applied: AtomicU64,
    committed: AtomicU64,
    pub(crate) live_bytes: AtomicU64,
    /// Bytes of the raft log's live segments.
    pub(crate) log_bytes: AtomicU64,
    /// The leader's clock, from its start on.
    clock: OnceLock<Arc<LogicalClock>>,
    alarms: Mutex<BTreeSet<Alarm>>,
}

impl Shared {
    pub(crate) fn new(node_id: NodeId) -> Self {
        Self {
            node_id,
            mailbox: Mailbox::default(),
            admission: Arc::new(Admission::default()),
            metrics: Metrics::default(),
            failure: Failure::default(),
            local_reads: AtomicBool::new(false),
            term: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            live_bytes: AtomicU64::new(0),
            log_bytes: AtomicU64::new(0),
            clock: OnceLock::new(),
            alarms: Mutex::default(),
        }
    }

    pub(crate) fn set_clock(&self, clock: Arc<LogicalClock>) {
        assert!(self.clock.set(clock).is_ok(), "a store has one core");
    }

    /// The time by the leader's clock.
    pub(crate) fn clock_now(&self) -> ClockMillis {
        self.clock.get().map_or(ClockMillis::new(0), |clock| clock.now())
    }

    /// Whether the published state answers linearizable reads as it is, see [`crate::read`].
    pub(crate) fn reads_are_local(&self) -> bool {
        self.local_reads.load(Ordering::Acquire)
    }

    pub(crate) fn publish_role(&self, role: Role, applied: LogIndex) {
        let local = role.local_reads_from.is_some_and(|index| applied >= index);
        // Release: whoever sees `true` also sees the root that was published before it.
        self.local_reads.store(local, Ordering::Release);
        self.term.store(role.term.get(), Ordering::Relaxed);
        self.leader.store(role.leader.map_or(0, NodeId::get), Ordering::Relaxed);
    }

    pub(crate) fn publish_progress(&self, applied: LogIndex, committed: LogIndex, live_bytes: u64) {
        self.applied.store(applied.get(), Ordering::Relaxed);
        self.committed.store(committed.get(), Ordering::Relaxed);
        self.live_bytes.store(live_bytes, Ordering::Relaxed);
    }

    pub(crate) fn publish_alarms(&self, alarms: &BTreeSet<Alarm>) {
        let mut published = self.alarms.lock();
        if *published != *alarms {
            published.clone_from(alarms);
        }
    }

    pub(crate) fn stop_local_reads(&self) {
        self.local_reads.store(false, Ordering::Release);
    }

    /// Why the store has ended; `None` while it runs. One load for a member that serves.
    pub(crate) fn ended(&self) -> Option<Error> {
        if self.reads_are_local() { None } else { self.failure.reason() }
    }

    pub(crate) fn alarms(&self) -> Vec<Alarm> {
        self.alarms.lock().iter().copied().collect()
    }

    pub(crate) fn term(&self) -> Term {
        Term::new(self.term.load(Ordering::Relaxed))
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        Some(NodeId::new(self.leader.load(Ordering::Relaxed))).filter(|id| id.get() != 0)
    }

    pub(crate) fn applied(&self) -> LogIndex {
        LogIndex::new(self.applied.load(Ordering::Relaxed))
    }

    pub(crate) fn committed(&self) -> LogIndex {
        LogIndex::new(self.committed.load(Ordering::Relaxed))
    }
}

/// Why the store ended, once it has.
#[derive(Default)]
pub(crate) struct Failure {
    state: Mutex<(Option<Error>, Vec<Slot<Error>>)>,
}

impl Failure {
    /// The first reason stays.
    pub(crate) fn set(&self, error: Error) {
        let mut wakes = WakeList::default();
        let mut state = self.state.lock();
        let reason = state.0.get_or_insert(error).clone();
        for slot in state.1.drain(..) {
            slot.complete(reason.clone(), &mut wakes);
        }
        drop(state);
        wakes.wake();
    }

    /// Why the store has ended; `None` while it runs.
    pub(crate) fn reason(&self) -> Option<Error> {
        self.state.lock().0.clone()
    }

    /// A ticket that is answered when the store ends.
    pub(crate) fn wait(&self) -> Ticket<Error> {
        let (slot, ticket) = ticket();
        let mut state = self.state.lock();
        match &state.0 {
            Some(error) => slot.complete(error.clone(), &mut WakeList::default()),
            None => state.1.push(slot),
        }
        ticket
    }
}
