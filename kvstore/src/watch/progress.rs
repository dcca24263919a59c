//! When a session may say how far it is.
//!
//! A client asks "is everything up to the revision I have just seen on its way to me?". etcd answers at once
//! or not at all, so that a client must ask again; here one question per session stays open until the answer
//! is due. It is due when every watcher is fed live and the hub has published the revision that the client
//! can have seen; it leaves behind every event queued by then.

use crate::types::Revision;
use std::collections::{BTreeSet, HashMap};

/// The progress of one session as a whole.
#[derive(Default)]
pub(super) struct Progress {
    /// An open question: the smallest revision that answers it.
    wanted: Option<Revision>,
    /// An answer that is queued and not yet taken; the watchers with smaller serial numbers than this are those it is
    /// about.
    queued: Option<(Revision, u64)>,
    /// Watchers whose first reportable revision lay in the future when this was last looked at.
    ahead: BTreeSet<(Revision, u64)>,
    ahead_of: HashMap<u64, Revision>,
}

/// What [`Progress::answer`] decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Nothing,
    Report(Revision),
    WaitFor(Revision),
}

impl Progress {
    /// A watcher that must not be told of any revision below `reported_from`.
    pub(super) fn add(&mut self, reported_from: Revision, serial: u64) {
        self.ahead.insert((reported_from, serial));
        self.ahead_of.insert(serial, reported_from);
    }

    pub(super) fn remove(&mut self, serial: u64) {
        if let Some(revision) = self.ahead_of.remove(&serial) {
            self.ahead.remove(&(revision, serial));
        }
    }

    /// `known`: the watchers that the question is about have smaller serial numbers.
    pub(super) fn want(&mut self, revision: Revision, known: u64) {
        // An answer that is on its way at this revision or a later one, about the same watchers, answers this too.
        if self.queued.is_none_or(|queued| queued.0 < revision || queued.1 < known) {
            self.wanted = self.wanted.max(Some(revision));
        }
    }

    /// Nobody is left to be told.
    pub(super) fn forget(&mut self) {
        self.wanted = None;
    }

    /// The queued answer was taken.
    pub(super) fn delivered(&mut self) {
        self.queued = None;
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    /// Whether a single watcher may be told of `passed`.
    pub(super) fn may_report(&self, serial: u64, passed: Revision) -> bool {
        self.ahead_of.get(&serial).is_none_or(|from| *from <= passed)
    }

    /// All watchers are live, and everything up to `current` is queued.
    pub(super) fn answer(&mut self, current: Revision, known: u64) -> Answer {
        let Some(wanted) = self.wanted else { return Answer::Nothing };
        if self.queued.is_some() {
            return Answer::Nothing;
        }
        while let Some((revision, serial)) = self.ahead.first().copied() {
            if revision > current {
                break;
            }
            self.ahead.pop_first();
            self.ahead_of.remove(&serial);
        }
        let needed = self.ahead.last().map_or(wanted, |(revision, _)| wanted.max(*revision));
        if needed > current {
            return Answer::WaitFor(needed);
        }
        self.wanted = None;
        self.queued = Some((current, known));
        Answer::Report(current)
    }
}
