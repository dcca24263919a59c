//! Everything that reaches the core.

use super::maintenance::JobDone;
use crate::propose::{Slot, Submission};
use crate::types::{Error, KeyspaceId, Result, Revision};
use parking_lot::Mutex;
use std::task::Waker;

/// Ticks that may pile up while a turn runs; more are forgotten, or a stalled member would stand for election
/// the moment it wakes.
const TICKS_PENDING_MAX: u32 = 2;

/// A fact the core learns from the helper threads. At most one of each kind of job is under way, so notes are
/// bounded.
pub(crate) enum Note {
    /// A maintenance job ended.
    Job(JobDone),
    /// Free and total bytes of the file system that holds the data.
    DiskSpace { free_bytes: u64, total_bytes: u64 },
    /// The data directory is not where it was.
    DirectoryLost,
}

/// One turn's work.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) ticks: u32,
    pub(crate) submissions: Vec<Submission>,
    pub(crate) reads: Vec<Slot<Result<()>>>,
    pub(crate) removals: Vec<RemovalWait>,
    pub(crate) notes: Vec<Note>,
    pub(crate) stop: bool,
}

/// Somebody waits until everything dead below a floor is physically gone.
pub(crate) struct RemovalWait {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) floor: Revision,
    pub(crate) slot: Slot<Result<()>>,
}

#[derive(Default)]
struct State {
    work: Work,
    waker: Option<Waker>,
    closed: Option<Error>,
}

/// The queue in front of the core. Submissions are bounded by admission, reads by the server's bound on open
/// requests.
#[derive(Default)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
}

impl Mailbox {
    pub(crate) fn submit(&self, submission: Submission) -> Result<()> {
        self.add(|work| work.submissions.push(submission))
    }

    pub(crate) fn read(&self, slot: Slot<Result<()>>) -> Result<()> {
        self.add(|work| work.reads.push(slot))
    }

    pub(crate) fn wait_for_removal(&self, wait: RemovalWait) -> Result<()> {
        self.add(|work| work.removals.push(wait))
    }

    pub(crate) fn tick(&self) -> Result<()> {
        self.add(|work| work.ticks = (work.ticks + 1).min(TICKS_PENDING_MAX))
    }

    pub(crate) fn note(&self, note: Note) -> Result<()> {
        self.add(|work| work.notes.push(note))
    }

    pub(crate) fn stop(&self) {
        // A closed mailbox has stopped already.
        let _ = self.add(|work| work.stop = true);
    }

    fn add(&self, change: impl FnOnce(&mut Work)) -> Result<()> {
        let mut state = self.state.lock();
        if let Some(error) = &state.closed {
            return Err(error.clone());
        }
        change(&mut state.work);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Everything that is there; with nothing there, `waker` is woken by the next addition.
    pub(crate) fn take(&self, waker: &Waker) -> Option<Work> {
        let mut state = self.state.lock();
        if state.work.is_empty() {
            state.waker = Some(waker.clone());
            return None;
        }
        Some(std::mem::take(&mut state.work))
    }

    /// Refuses everything from now on and gives what is left.
    pub(crate) fn close(&self, error: Error) -> Work {
        let mut state = self.state.lock();
        state.closed.get_or_insert(error);
        std::mem::take(&mut state.work)
    }
}

impl Work {
    fn is_empty(&self) -> bool {
        self.ticks == 0
            && self.submissions.is_empty()
            && self.reads.is_empty()
            && self.removals.is_empty()
            && self.notes.is_empty()
            && !self.stop
    }
}
