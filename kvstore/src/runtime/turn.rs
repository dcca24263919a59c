//! A turn: everything that was in the mailbox, in order; in two parts if the log is written beside.

use super::core::Core;
use super::{Note, Work};
use crate::consensus::PersistNumber;
use crate::log::Append;
use crate::propose::Submission;
use crate::types::{Error, Result};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Instant;

/// How a turn ended.
pub(crate) enum Turn {
    /// It is done.
    Done,
    /// It is done, and was told to stop.
    Stopped,
    /// Its log write is to be run, on any thread, and given to [`Core::resume`]. Before that the core does nothing.
    Syncing(Append),
}

/// What waits for a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitingWork {
    /// Nothing.
    None,
    /// Something.
    Now,
    /// Something that rests until then.
    At(Instant),
}

/// The present turn.
#[derive(Default)]
pub(super) struct TurnState {
    /// Whether somebody is there to sync beside.
    pub(super) may_go_beside: bool,
    /// Whether somebody is there to wake the core when the large commands' rest is over.
    pub(super) may_rest: bool,
    /// When it began, if it has large commands.
    large_since: Option<Instant>,
    /// What is still to be proposed, a log write each; and what comes after that.
    pub(super) writes: VecDeque<Vec<Bytes>>,
    submissions: Vec<Submission>,
    /// Whether those go beside.
    beside: bool,
    /// The one that is being proposed does.
    pub(super) goes_beside: bool,
    /// And it has come to its write.
    pub(super) leaves: Option<(Append, UnderWay)>,
    under_way: Option<UnderWay>,
    has_ticked: bool,
    stop: bool,
    /// What a turn that failed had not come to.
    undone: Work,
}

/// A log write that consensus waits for.
pub(super) struct UnderWay {
    pub(super) number: PersistNumber,
    pub(super) started: Instant,
}

impl Core {
    /// Does all of `work`, up to a sync that others must not wait for.
    ///
    /// # Errors
    /// Any error is the end: the caller must not call again but [`Core::fail`].
    pub(crate) fn turn(&mut self, mut work: Work) -> Result<Turn> {
        assert!(self.turn.under_way.is_none(), "the last turn is done");
        self.clock.sign();
        let done = self.work_off(&mut work);
        if done.is_err() {
            self.turn.undone = work;
        }
        done
    }

    /// Goes on with the turn that ended with [`Turn::Syncing`].
    ///
    /// # Errors
    /// As [`Core::turn`].
    pub(crate) fn resume(&mut self, append: Append) -> Result<Turn> {
        let under_way = self.turn.under_way.take().expect("a turn waits for this append");
        let persisted = self.persisted(append, &under_way)?;
        self.step(persisted)?;
        self.go_on()
    }

    /// What the turn that failed had not proposed yet.
    pub(super) fn take_undone(&mut self) -> Work {
        let mut undone = std::mem::take(&mut self.turn.undone);
        undone.submissions.append(&mut self.turn.submissions);
        undone
    }

    /// Takes each part of `work` when it comes to it.
    fn work_off(&mut self, work: &mut Work) -> Result<Turn> {
        (self.turn.has_ticked, self.turn.stop) = (work.ticks > 0, work.stop);
        for _ in 0..work.ticks {
            self.tick()?;
        }
        for note in std::mem::take(&mut work.notes) {
            match note {
                Note::Job(done) => self.job_done(done)?,
                Note::DiskSpace { free_bytes, total_bytes } => {
                    // Due as often: a second.
                    let kept = self.log.check_kept();
                    // Who removes segments may be at work on the whole directory.
                    kept.inspect_err(|_| self.machine.keep_engine_open())?;
                    self.policy.disk_space(free_bytes, total_bytes)
                }
                // Why, is said where the store ends.
                Note::DirectoryLost => return Err(Error::Poisoned("the data directory is lost".into())),
            }
        }
        self.policy.removals.waits.append(&mut work.removals);
        for slot in work.reads.drain(..) {
            self.reads.wait(slot);
        }
        self.ask_for_reads()?;
        let is_slow = self.sync_pace.is_slow();
        let now = Instant::now();
        if work.submissions.iter().any(|submission| !submission.is_large()) {
            self.large_rest.small_came(now);
        }
        let rests = self.large_rests_until(now).is_some();
        let mut submissions = self.expire_leases();
        submissions.extend(self.lanes.turn(std::mem::take(&mut work.submissions), is_slow, rests));
        let has_large = submissions.iter().any(Submission::is_large);
        self.turn.large_since = has_large.then_some(now);
        self.turn.beside = self.turn.may_go_beside && (is_slow || has_large);
        self.turn.submissions = submissions;
        self.go_on()
    }

    /// Why the store ends, whatever failed first, if its directory is not where it was.
    pub(crate) fn directory_lost(&self) -> Option<String> {
        if !self.place.is_lost() {
            return None;
        }
        self.machine.keep_engine_open();
        Some(format!(
            "{}: the data directory was moved, emptied, removed or replaced while the store was in use; everything \
             acknowledged is in the files that were here: if they were moved, start with their new path in a new process; if \
             they were removed, restore them from a backup",
            self.place.path().display()
        ))
    }

    /// Proposes what is still to be proposed, then ends the turn.
    fn go_on(&mut self) -> Result<Turn> {
        while let Some(write) = self.next_write() {
            self.turn.goes_beside = self.turn.beside;
            let proposed = self.propose_encoded(write);
            self.turn.goes_beside = false;
            proposed?;
            if let Some((append, under_way)) = self.turn.leaves.take() {
                self.turn.under_way = Some(under_way);
                // What an earlier write of this turn has answered need not wait for this one.
                self.wakes.wake();
                return Ok(Turn::Syncing(append));
            }
        }
        self.answer_refused()?;
        self.after_turn()?;
        if self.turn.has_ticked {
            self.seal_resting_log()?;
        }
        if let Some(since) = self.turn.large_since.take() {
            let now = Instant::now();
            self.large_rest.large_done(now, now - since);
        }
        self.wakes.wake();
        Ok(if self.turn.stop { Turn::Stopped } else { Turn::Done })
    }

    /// Until when the large commands rest, if they do.
    fn large_rests_until(&self, now: Instant) -> Option<Instant> {
        self.large_rest.lasts_until(now).filter(|_| self.turn.may_rest)
    }

    /// Whether a turn is due although nothing new has come; or when one will be.
    pub(crate) fn waiting_work(&self) -> WaitingWork {
        if self.has_expired_leases() {
            return WaitingWork::Now;
        }
        if self.lanes.has_large_only() {
            return self.large_rests_until(Instant::now()).map_or(WaitingWork::Now, WaitingWork::At);
        }
        if self.lanes.is_empty() { WaitingWork::None } else { WaitingWork::Now }
    }

    fn next_write(&mut self) -> Option<Vec<Bytes>> {
        if self.turn.writes.is_empty() {
            let submissions = std::mem::take(&mut self.turn.submissions);
            self.turn.writes = self.encode(submissions).into();
        }
        self.turn.writes.pop_front()
    }
}
