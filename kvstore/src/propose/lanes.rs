//! Who goes first when a turn cannot take everything: small commands, one of each caller after the other, and a measured
//! share of the large ones.
//!
//! A turn is one write and one sync, and everybody in it waits for all of its bytes. Forty requests of 1.5 MiB in
//! one turn would make a put of a hundred bytes wait for 60 MiB. They are concurrent, so that any order is right:
//! small ones go at once; large ones a few at a time, in their own order, and never in the turn after such a one if
//! that has small ones: who came while large ones were written waits for no more of them. For a while after such a turn
//! large ones may have to rest altogether, which the caller decides: there is no clock here.
//!
//! So it is with thousands of small ones: a turn takes so many, and as long as more wait, callers take turns.

use super::Submission;
use super::callers::Callers;
use std::collections::VecDeque;

/// From this size on a command is large: the time to write so much is below that of the sync behind it.
pub const LARGE_COMMAND_BYTES: usize = 64 << 10;

/// Large commands in one turn, in bytes: a few milliseconds of writing. The one that passes it still goes.
pub const LARGE_BYTES_PER_TURN: usize = 1 << 20;

/// Commands in one turn: a millisecond of work, for which the readers wait too if the core runs on their thread. A sync
/// shared by so many costs each of them two microseconds; with 250 in a turn 256 clients wrote no faster.
pub const TURN_COMMANDS_MAX: usize = 64;

/// The same while syncs are slow: then they are what limits the writers.
pub const SLOW_TURN_COMMANDS_MAX: usize = 250;

/// The same while [`FLOOD_COMMANDS`] wait: with turns this short a single command of somebody else is soon done.
pub const FLOODED_TURN_COMMANDS_MAX: usize = 24;

/// Small commands that wait, from which on it is a flood: more than a few apiservers have at a time.
pub const FLOOD_COMMANDS: usize = 512;

/// The commands that wait for their turn. Bounded by admission, like everything that is not answered.
#[derive(Default)]
pub struct Lanes {
    /// Small ones, when there were more than a turn takes.
    small: Callers,
    large: VecDeque<Submission>,
    /// Whether the last turn had large ones.
    had_large: bool,
}

impl Lanes {
    /// What goes into this turn; more of the small ones if the disk is slow, and none of the large ones if these rest.
    /// Commands that nobody waits for any more go nowhere.
    pub fn turn(
        &mut self,
        mut submissions: Vec<Submission>,
        is_slow: bool,
        large_rest: bool,
    ) -> Vec<Submission> {
        let flooded = self.small.len() + submissions.len() > FLOOD_COMMANDS;
        let max = match (is_slow, flooded) {
            (true, _) => SLOW_TURN_COMMANDS_MAX,
            (false, true) => FLOODED_TURN_COMMANDS_MAX,
            (false, false) => TURN_COMMANDS_MAX,
        };
        submissions.retain(|submission| !submission.is_abandoned());
        let rests = std::mem::take(&mut self.had_large);
        let all_small = submissions.iter().all(|submission| !submission.is_large());
        if self.is_empty() && all_small && submissions.len() <= max {
            return submissions;
        }
        let (large, small): (Vec<_>, Vec<_>) = submissions.into_iter().partition(Submission::is_large);
        self.large.extend(large);
        let mut now = self.small_ones(small, max);
        if large_rest || rests && !now.is_empty() {
            return now;
        }
        let mut bytes = 0;
        while bytes < LARGE_BYTES_PER_TURN
            && let Some(submission) = self.large.pop_front()
        {
            if !submission.is_abandoned() {
                bytes += submission.bytes;
                self.had_large = true;
                now.push(submission);
            }
        }
        now
    }

    /// As many as a turn takes; callers in turn if that is not all of them.
    fn small_ones(&mut self, new: Vec<Submission>, max: usize) -> Vec<Submission> {
        if self.small.is_empty() && new.len() <= max {
            return new;
        }
        new.into_iter().for_each(|submission| self.small.push(submission));
        let mut now = Vec::with_capacity(max);
        while now.len() < max
            && let Some(submission) = self.small.pop()
        {
            if !submission.is_abandoned() {
                now.push(submission);
            }
        }
        now
    }

    /// Whether all that waits here are large ones.
    pub fn has_large_only(&self) -> bool {
        self.small.is_empty() && !self.large.is_empty()
    }

    /// Whether nothing waits here.
    pub fn is_empty(&self) -> bool {
        self.small.is_empty() && self.large.is_empty()
    }

    /// Everything that waits here, for the end.
    pub fn take(&mut self) -> VecDeque<Submission> {
        let mut all = std::mem::take(&mut self.large);
        all.extend(std::iter::from_fn(|| self.small.pop()));
        all
    }
}

impl Submission {
    /// Whether it is written in the large ones' lane.
    pub fn is_large(&self) -> bool {
        self.bytes >= LARGE_COMMAND_BYTES
    }

    /// Whether its caller has given up: it was not proposed yet, so that it need not be.
    fn is_abandoned(&self) -> bool {
        self.waiter.as_ref().is_some_and(|(slot, _)| slot.is_abandoned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Admission, Ticket, ticket};
    use super::*;
    use crate::command::{Command, Outcome};
    use crate::types::{CallerId, KeyspaceId, LeaseId, Result};
    use std::sync::Arc;

    const MIB: usize = 1 << 20;

    fn submission(id: i64, bytes: usize) -> Submission {
        let command = Command::LeaseRevoke { id: LeaseId::new(id) };
        Submission { keyspace: KeyspaceId::DEFAULT, caller: CallerId::NONE, command, bytes, waiter: None }
    }

    fn awaited(id: i64, bytes: usize) -> (Submission, Ticket<Result<Outcome>>) {
        let (slot, ticket) = ticket();
        let permit = Arc::new(Admission::default()).admit(CallerId::NONE, bytes).unwrap();
        (Submission { waiter: Some((slot, permit)), ..submission(id, bytes) }, ticket)
    }

    fn ids(submissions: &[Submission]) -> Vec<i64> {
        submissions
            .iter()
            .map(|submission| match submission.command {
                Command::LeaseRevoke { id } => id.get(),
                _ => unreachable!(),
            })
            .collect()
    }

    fn turn(lanes: &mut Lanes, submissions: Vec<Submission>) -> Vec<i64> {
        ids(&lanes.turn(submissions, false, false))
    }

    #[test]
    fn small_ones_pass_large_ones_that_wait() {
        let mut lanes = Lanes::default();
        let first = (1..=5).map(|id| submission(id, MIB)).chain([submission(9, 100)]).collect();
        assert_eq!(turn(&mut lanes, first), [9, 1]);
        let more = vec![submission(10, 100), submission(6, 3 * MIB), submission(7, MIB / 2)];
        assert_eq!(turn(&mut lanes, more), [10], "large ones rest every other turn while small ones come");
        assert_eq!(turn(&mut lanes, vec![submission(11, 100)]), [11, 2]);
        assert_eq!(turn(&mut lanes, vec![]), [3], "and go on without them");
        assert_eq!(turn(&mut lanes, vec![]), [4]);
        assert_eq!(turn(&mut lanes, vec![submission(8, MIB / 2)]), [5]);
        assert_eq!(turn(&mut lanes, vec![]), [6], "one goes whatever its size");
        assert_eq!(turn(&mut lanes, vec![]), [7, 8]);
        assert!(lanes.is_empty());
        let small = (1..=5).map(|id| submission(id, LARGE_COMMAND_BYTES - 1)).collect();
        assert_eq!(turn(&mut lanes, small), [1, 2, 3, 4, 5], "without a large one nothing is moved");
    }

    #[test]
    fn large_ones_that_rest_wait() {
        let mut lanes = Lanes::default();
        let both = vec![submission(1, MIB), submission(2, 100)];
        assert_eq!(ids(&lanes.turn(both, false, true)), [2]);
        assert!(lanes.has_large_only());
        assert!(lanes.turn(vec![], false, true).is_empty());
        assert_eq!(turn(&mut lanes, vec![]), [1]);
        assert!(!lanes.has_large_only() && lanes.is_empty());
    }

    #[test]
    fn callers_take_turns_when_more_wait_than_a_turn_takes() {
        let of = |caller, id| Submission { caller: CallerId::new(caller), ..submission(id, 100) };
        let mut lanes = Lanes::default();
        let burst = (0..3 * TURN_COMMANDS_MAX as i64).map(|id| of(1, id)).collect();
        assert_eq!(turn(&mut lanes, burst), (0..TURN_COMMANDS_MAX as i64).collect::<Vec<_>>());
        let more = turn(&mut lanes, vec![of(2, -1), of(3, -2), of(2, -3)]);
        let max = TURN_COMMANDS_MAX as i64;
        assert_eq!(more[..6], [max, -1, -2, max + 1, -3, max + 2], "each caller in its own order");
        assert_eq!(more.len(), TURN_COMMANDS_MAX);
        let rest = turn(&mut lanes, vec![]);
        assert_eq!((rest[0], rest.len()), (2 * max - 3, TURN_COMMANDS_MAX));
        assert_eq!(turn(&mut lanes, vec![]), [3 * max - 3, 3 * max - 2, 3 * max - 1], "nothing is lost");
        assert!(lanes.is_empty());
        let calm = (0..TURN_COMMANDS_MAX as i64).map(|id| of(id as u64 % 3, id)).collect();
        assert_eq!(turn(&mut lanes, calm), (0..TURN_COMMANDS_MAX as i64).collect::<Vec<_>>(), "first come");
    }

    #[test]
    fn turns_are_short_in_a_flood() {
        let mut lanes = Lanes::default();
        let flood = (0..FLOOD_COMMANDS as i64 + 30).map(|id| submission(id, 100)).collect();
        assert_eq!(turn(&mut lanes, flood).len(), FLOODED_TURN_COMMANDS_MAX);
        assert_eq!(turn(&mut lanes, vec![]).len(), FLOODED_TURN_COMMANDS_MAX);
        assert_eq!(turn(&mut lanes, vec![]).len(), TURN_COMMANDS_MAX, "until it has passed");
        assert_eq!(
            lanes.turn(vec![], true, false).len(),
            SLOW_TURN_COMMANDS_MAX,
            "a slow disk is the worse evil"
        );
        assert_eq!(
            lanes.turn(vec![], true, false).len(),
            FLOOD_COMMANDS + 30 - 2 * 24 - 64 - 250,
            "nothing is lost"
        );
    }

    #[test]
    fn what_nobody_waits_for_is_not_proposed() {
        let mut lanes = Lanes::default();
        let (gone_small, ticket) = awaited(1, 10);
        drop(ticket);
        let (kept, _kept) = awaited(2, 10);
        let (first, _first) = awaited(3, 4 * MIB);
        let (gone_later, ticket) = awaited(4, MIB);
        let (last, _last) = awaited(5, MIB);
        assert_eq!(turn(&mut lanes, vec![gone_small, kept, first, gone_later, last]), [2, 3]);
        drop(ticket);
        assert_eq!(turn(&mut lanes, vec![]), [5]);
    }
}
