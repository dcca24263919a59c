//! The state machine: committed entries in, outcomes and events out, the same on every member.
//!
//! [`StateMachine::apply`] takes committed entries in the order of the log, turns everything they change into
//! one engine batch together with the position in the log, writes it, and only then publishes it to readers.
//! A crash therefore leaves a state that ends exactly behind some entry, and the entries after it are simply
//! applied again.
//!
//! How one command flows: `machine` (entries, batches) → `admission` (alarms) → `plan` (which branches,
//! every reason to refuse) → `transaction` (execution) → `writer` (one revision: versions, events,
//! attachments) → `mvcc`. Leases take `leases` instead of the middle two. Before it is in the log, `rehearsal` makes the
//! reads that it will make here, so that one that fails is the command's failure and not the store's.
//!
//! Invariants:
//! - nothing here has a clock, randomness or configuration that could change what is written: state and
//!   bytes of the entries decide alone. The clock of the state comes with the entries. One mark beside them, which nothing
//!   reads but the opening of a store, says whose log they came from;
//! - a command is refused before its first write or not at all: execution has no way to refuse, its type
//!   knows only failures of the engine, and those stop the store;
//! - what a transaction decides (compares, kept values and leases, lease existence, readable revisions) it
//!   decides on the state before it; what it reads, it reads with its own earlier writes;
//! - a revision is made by exactly the commands that changed something, without gaps;
//! - entries at or below the applied position are skipped, a gap above it is a broken invariant;
//! - after one failure of the engine every further call fails: memory may be ahead of what was written.
//!
//! Deliberately missing: the quota (the leader judges it from [`StateMachine::live_bytes`] and proposes the
//! alarm), static checks of requests ([`validate`](crate::command::validate); nothing here relies on them),
//! snapshots, and the pace of background removal.

mod admission;
mod keyspace;
mod leases;
mod machine;
mod plan;
mod rehearsal;
mod stored;
mod transaction;
mod writer;

pub use machine::{Applied, ApplyOptions, Committed, Completed, StateMachine};

use crate::types::{Error, InvalidRequest};

/// Why a command did not come to its end.
#[derive(Debug)]
enum Stop {
    /// It was refused and changed nothing: its outcome. The next command goes on.
    Refused(Error),
    /// The engine failed: the end of this state machine.
    Failed(Error),
}

impl From<InvalidRequest> for Stop {
    fn from(reason: InvalidRequest) -> Self {
        Stop::Refused(reason.into())
    }
}

#[cfg(test)]
mod tests;
