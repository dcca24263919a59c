//! The lagging watchers of one session, in runs: everybody in a run shares one reading of the past.

use super::batch::Filter;
use super::limits::RUN_GAP_REVISIONS_MAX;
use super::matcher::Matcher;
use super::outbox::{Straggler, WatcherRef};
use crate::types::{KeyRange, Revision};
use std::collections::BTreeMap;

/// A lagging watcher in its run.
pub(super) struct Runner {
    pub(super) at: WatcherRef,
    /// Its own start may lie ahead of the run.
    pub(super) filter: Filter,
}

/// Watchers that have passed everything below `cursor`, or start later.
pub(super) struct Run {
    pub(super) cursor: Revision,
    pub(super) runners: Matcher<u64, Runner>,
}

impl Run {
    fn new(cursor: Revision) -> Self {
        Self { cursor, runners: Matcher::new() }
    }

    fn add(&mut self, range: &KeyRange, at: WatcherRef, filter: Filter) {
        self.runners.member(range, at.serial, || Runner { at, filter });
    }

    /// Takes over the runners of a run that is not behind this one's cursor.
    fn absorb(&mut self, other: Run) {
        assert!(other.cursor >= self.cursor, "what a runner has passed is not read again");
        for (range, _, runner) in other.runners.into_members() {
            let from = runner.filter.from.max(other.cursor);
            self.add(&range, runner.at, Filter { from, ..runner.filter });
        }
    }
}

/// All runs of a session, by cursor.
#[derive(Default)]
pub(super) struct Runs {
    by_cursor: BTreeMap<Revision, Run>,
    /// The run after the one at this cursor has its turn.
    turn: Revision,
}

impl Runs {
    /// Adds a watcher to a run that is close behind its place, or starts one.
    pub(super) fn add(&mut self, straggler: &Straggler) {
        let from = straggler.filter.from;
        let near = Revision::new((from.get() - RUN_GAP_REVISIONS_MAX).max(0));
        let run = match self.by_cursor.range(near..=from).next_back() {
            Some((&cursor, _)) => self.by_cursor.get_mut(&cursor).expect("it was just seen"),
            None => self.by_cursor.entry(from).or_insert_with(|| Run::new(from)),
        };
        run.add(&straggler.range, straggler.at, straggler.filter);
    }

    /// The run whose turn it is, together with those close ahead of it.
    pub(super) fn take(&mut self) -> Option<Run> {
        let ahead = self.by_cursor.range(self.turn.next()..).next();
        let (&cursor, _) = ahead.or_else(|| self.by_cursor.first_key_value())?;
        let mut run = self.by_cursor.remove(&cursor).expect("it was just seen");
        let near = Revision::new(cursor.get().saturating_add(RUN_GAP_REVISIONS_MAX));
        while let Some((&other, _)) = self.by_cursor.range(cursor..=near).next() {
            run.absorb(self.by_cursor.remove(&other).expect("it was just seen"));
        }
        self.turn = cursor;
        Some(run)
    }

    /// Gives a run back, further on than it was taken.
    pub(super) fn put_back(&mut self, run: Run) {
        if run.runners.is_empty() {
            return;
        }
        self.turn = self.turn.max(run.cursor);
        match self.by_cursor.get_mut(&run.cursor) {
            Some(present) => present.absorb(run),
            None => drop(self.by_cursor.insert(run.cursor, run)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_cursor.is_empty()
    }
}
