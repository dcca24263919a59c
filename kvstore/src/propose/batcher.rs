//! Packs what is waiting into batches, one per raft entry.

use super::{Permit, Slot};
use crate::command::{Batch, Command, Outcome};
use crate::types::{CallerId, ClockMillis, KeyspaceId, RequestId, Result};

/// Commands in one raft entry: bounds the work of one apply.
pub const BATCH_COMMANDS_MAX: usize = 1_000;
/// Bytes of commands in one raft entry, as far as single commands allow: a follower gets it in one message.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// An admitted command and who waits for it.
pub struct Submission {
    /// Where it goes.
    pub keyspace: KeyspaceId,
    /// Whose it is.
    pub caller: CallerId,
    /// What is to be done.
    pub command: Command,
    /// Its size, for the batch's bound.
    pub bytes: usize,
    /// Who waits; `None` for the store's own commands.
    pub waiter: Option<(Slot<Result<Outcome>>, Permit)>,
}

/// One entry to propose, with its waiters in order.
pub struct Proposal {
    /// The commands.
    pub batch: Batch,
    /// Who waits for each of them.
    pub waiters: Vec<Option<(Slot<Result<Outcome>>, Permit)>>,
}

/// Packs `submissions` in their order. `next_request` moves on by as many ids as there are commands.
pub fn split_into_batches(
    submissions: Vec<Submission>,
    proposer: u64,
    clock: ClockMillis,
    next_request: &mut RequestId,
) -> Vec<Proposal> {
    let mut proposals: Vec<Proposal> = Vec::new();
    let mut bytes_in_last = 0;
    for submission in submissions {
        let full = proposals.last().is_none_or(|last| {
            last.batch.commands.len() >= BATCH_COMMANDS_MAX
                || bytes_in_last + submission.bytes > BATCH_BYTES_MAX
        });
        if full {
            let batch = Batch { proposer, clock, first_request: *next_request, commands: Vec::new() };
            proposals.push(Proposal { batch, waiters: Vec::new() });
            bytes_in_last = 0;
        }
        if let Some(last) = proposals.last_mut() {
            bytes_in_last += submission.bytes;
            last.batch.commands.push((submission.keyspace, submission.command));
            last.waiters.push(submission.waiter);
            *next_request = next_request.next();
        }
    }
    proposals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::LeaseId;

    fn submission(bytes: usize) -> Submission {
        let command = Command::LeaseRevoke { id: LeaseId::new(bytes as i64) };
        Submission { keyspace: KeyspaceId::DEFAULT, caller: CallerId::NONE, command, bytes, waiter: None }
    }

    #[test]
    fn order_is_kept_and_bounds_hold() {
        let sizes = [BATCH_BYTES_MAX, 1, 1, BATCH_BYTES_MAX * 2, 5];
        let mut next = RequestId::new(10);
        let proposals = split_into_batches(sizes.map(submission).into(), 7, ClockMillis::new(1), &mut next);
        let lens: Vec<_> = proposals.iter().map(|p| p.batch.commands.len()).collect();
        assert_eq!(lens, [1, 2, 1, 1]);
        let firsts: Vec<_> = proposals.iter().map(|p| p.batch.first_request.get()).collect();
        assert_eq!(firsts, [10, 11, 13, 14]);
        assert_eq!(next, RequestId::new(15));

        let many = (0..2 * BATCH_COMMANDS_MAX + 1).map(|_| submission(1)).collect();
        assert_eq!(split_into_batches(many, 7, ClockMillis::new(1), &mut next).len(), 3);
    }
}
