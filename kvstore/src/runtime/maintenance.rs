//! Slow work beside the core.

use super::{Mailbox, Note};
use crate::log::{PreparedSegment, SegmentJob};
use crate::mvcc::{Removal, RemovalLimits, RemovalScan};
use crate::storage::Engine;
use crate::types::{Error, KeyspaceId, LogIndex, Result};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;

/// A job for the maintenance thread.
pub(crate) enum Job {
    /// Prewrite or recycle a log segment.
    Segment(SegmentJob),
    /// Make everything applied up to here durable in the storage engine.
    Flush { engine: Arc<dyn Engine>, up_to: LogIndex },
    /// Look for dead versions.
    Removal { keyspace: KeyspaceId, scan: RemovalScan },
}

/// Its result.
pub(crate) enum JobDone {
    Segment(Result<PreparedSegment>),
    Flush { result: Result<()>, up_to: LogIndex },
    Removal { keyspace: KeyspaceId, result: Result<Removal> },
}

impl Job {
    fn run(self) -> JobDone {
        match self {
            Job::Segment(job) => JobDone::Segment(job.run()),
            Job::Flush { engine, up_to } => {
                let result = engine.flush().map_err(Error::from);
                JobDone::Flush { result, up_to }
            }
            Job::Removal { keyspace, scan } => {
                JobDone::Removal { keyspace, result: scan.run(RemovalLimits::default()) }
            }
        }
    }
}

/// Jobs waiting for the maintenance thread. At most one of each kind is queued at a time.
#[derive(Default)]
pub(crate) struct JobQueue {
    state: Mutex<(VecDeque<Job>, bool)>,
    changed: Condvar,
}

impl JobQueue {
    pub(crate) fn push(&self, job: Job) {
        self.state.lock().0.push_back(job);
        self.changed.notify_one();
    }

    pub(crate) fn close(&self) {
        self.state.lock().1 = true;
        self.changed.notify_all();
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if state.1 {
                return None;
            }
            if let Some(job) = state.0.pop_front() {
                return Some(job);
            }
            self.changed.wait(&mut state);
        }
    }

    /// The maintenance thread's life.
    pub(crate) fn run(&self, mailbox: &Mailbox) {
        while let Some(job) = self.next() {
            if mailbox.note(Note::Job(job.run())).is_err() {
                return;
            }
        }
    }
}
