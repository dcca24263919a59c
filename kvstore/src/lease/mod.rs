//! Leases: keys that live as long as somebody renews them.
//!
//! One [`LeaseTable`] holds the leases of one keyspace. The state machine changes it while it applies
//! commands; RPC threads read it through [`LeaseReader`]s. Expiry is decided by the leader, which compares deadlines with its clock
//! and proposes to end what has run out, and is carried out by everybody when that proposal is applied.
//!
//! Time is the replicated logical clock ([`ClockMillis`](crate::types::ClockMillis)) that travels with each
//! batch. It stands still while no leader is at work, so a deadline survives a restart and an outage makes a
//! lease live longer, never shorter; and it stands still while the leader's disk does (`runtime/clock.rs`).
//!
//! A renewal stores a deadline a little beyond the time to live (its *slack*). Until the slack is used up, the stored
//! deadline covers what further renewals promise, and they are answered from the table: a client that renews in a
//! tight loop costs one log entry for each slack, and a promise never depends on anybody's memory.
//!
//! Invariants:
//! - what a reader sees of the leases is published together with what the same batch did to their keys: nobody is told that
//!   a lease is gone and then reads one of its keys;
//! - every lease is in the expiry order exactly once, under its present deadline;
//! - a key hangs on at most one lease, and hangs on it exactly when its newest version says so: attachments
//!   are not stored, they are rebuilt from the versions at start;
//! - an epoch names one grant or renewal for ever (it is the log index of the command), so a proposal to end
//!   a lease that was renewed, or revoked and granted again, in the meantime is recognised and refused;
//! - a table never draws a number and never looks at a clock: the same commands make the same table.
//!
//! Deliberately missing: choosing lease ids and raising short times to live (both happen at the edge, before
//! a command is replicated), checkpoints (what was promised is replicated already), and the deletions
//! themselves, which are ordinary versions and made in `apply`.

mod reader;
mod record;
mod table;
#[cfg(test)]
mod tests;

pub use reader::{LeaseInfo, LeaseReader};
pub use record::{Lease, MAX_TTL_S};
pub use table::LeaseTable;
