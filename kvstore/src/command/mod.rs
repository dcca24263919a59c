//! What is replicated: commands, and (in `codec`) their versioned bytes.
//!
//! A raft entry carries one [`Batch`]: every command that was waiting when the last sync ended. Each command
//! is applied on its own; a failing one never touches its neighbours.
//!
//! Invariants:
//! - the bytes of a batch begin with a format version; an unknown version stops the node before anything of
//!   the entry is applied;
//! - applying a batch needs nothing but its bytes and the state: no clock, no randomness, no configuration.
//!
//! Deliberately missing: membership changes (they travel as raft's own entries) and auth.

mod codec;
mod transaction;
mod validate;

pub use codec::{CodecError, FORMAT_VERSION, MAX_TRANSACTION_DEPTH, decode_batch, encode_batch};
pub use transaction::{
    Compare, CompareResult, CompareTarget, DeleteRange, Operation, OperationOutcome, Projection, Put,
    PutLease, PutValue, RangeQuery, RangeResult, ReadAt, RevisionFilter, Sort, SortOrder, SortTarget,
    Transaction, TransactionOutcome,
};
pub use validate::{request_size, validate};

use crate::types::{ClockMillis, KeyspaceId, LeaseId, RequestId, Revision};

/// Everything one raft entry carries.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Identifies the process life that proposed it: only there do waiters exist. Never 0.
    pub proposer: u64,
    /// The leader's logical clock when it proposed; the clock of the state becomes the larger of the two.
    pub clock: ClockMillis,
    /// The request id of the first command; the others follow it without gaps.
    pub first_request: RequestId,
    /// The commands in the order they are applied in.
    pub commands: Vec<(KeyspaceId, Command)>,
}

/// One replicated change.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Puts, deletes and guarded combinations of them. A plain put is a transaction with one operation.
    Transaction(Transaction),
    /// Moves the compaction floor.
    Compact {
        /// The new floor: the oldest revision that stays readable.
        revision: Revision,
    },
    /// Creates a lease.
    LeaseGrant {
        /// Its id, chosen by the caller or at the edge; never 0.
        id: LeaseId,
        /// Its time to live in seconds, already raised to the floor.
        ttl_s: i64,
    },
    /// Ends a lease now and deletes its keys.
    LeaseRevoke {
        /// Which.
        id: LeaseId,
    },
    /// Renews leases: each gets its full time to live from the clock of this batch.
    LeaseRenew {
        /// Which; unknown ones are skipped.
        ids: Vec<LeaseId>,
    },
    /// The leader found these leases expired. A lease whose epoch has moved on since was renewed: it stays.
    LeaseExpire {
        /// Lease and the epoch the leader saw.
        leases: Vec<(LeaseId, u64)>,
    },
    /// Raises an alarm.
    AlarmActivate(Alarm),
    /// Clears an alarm.
    AlarmDeactivate(Alarm),
}

/// A condition that members publish to all clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alarm {
    /// Whose alarm.
    pub member: u64,
    /// Which.
    pub kind: AlarmKind,
}

/// The kinds of alarms, with etcd's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmKind {
    /// The quota or the disk is full.
    NoSpace = 1,
    /// A member's data differs.
    Corrupt = 2,
}

/// What became of one command. Deterministic: the same on every member.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Of [`Command::Transaction`].
    Transaction(TransactionOutcome),
    /// Of [`Command::Compact`].
    Compacted {
        /// The keyspace's revision (not the floor).
        revision: Revision,
    },
    /// Of [`Command::LeaseGrant`].
    LeaseGranted {
        /// The lease.
        id: LeaseId,
        /// Its time to live in seconds.
        ttl_s: i64,
        /// The keyspace's revision.
        revision: Revision,
    },
    /// Of [`Command::LeaseRevoke`] and [`Command::LeaseExpire`].
    LeaseRevoked {
        /// The keyspace's revision after the deletions.
        revision: Revision,
    },
    /// Of [`Command::LeaseRenew`]: the time to live of each renewed lease in the request's order; `None` for
    /// one that does not exist.
    LeaseRenewed {
        /// Seconds.
        ttls_s: Vec<Option<i64>>,
        /// The keyspace's revision.
        revision: Revision,
    },
    /// Of the alarm commands.
    Alarms {
        /// The alarms that are set now.
        alarms: Vec<Alarm>,
        /// The keyspace's revision.
        revision: Revision,
    },
}
