//! 1. A read enters.
//!
//! A serializable read is answered from the published state at once. A linearizable one must first know that
//! the published state holds everything acknowledged anywhere before the read began:
//! - the only voter of a group, once it has applied an entry of its own term, acknowledges nothing that is not
//!   published: its reads need nothing more ([`crate::consensus::Role::local_reads_from`]);
//! - everybody else asks raft for a read index. All reads that wait share one attempt.
//!
//! Invariants:
//! - an attempt's context is globally unique and used once. raft-rs confirms a read by the caller's context:
//!   a context that is sent again could be confirmed by the answer to its first sending, which is how etcd
//!   served stale reads for years (etcd#20418);
//! - attempts are dropped when the term changes;
//! - raft-rs drops a read silently when it has no leader or nothing of its own term is committed: attempts are
//!   renewed every [`READ_RETRY_TICKS`] until the deadline.
//!
//! Deliberately missing: leader leases for groups of several members.

mod barrier;

pub use barrier::{READ_RETRY_TICKS, ReadBarriers};
