//! Pure raft: inputs in, effects out, over raft-rs.
//!
//! ```text
//!   Tick ─┐                         ┌─ send      messages that may leave now
//!   Propose ─┤                      ├─ persist   hard state + entries, in one write and one sync
//!   ReadIndex ─┼─► Node::step ─► Effects ─ commit    entries to apply, in order
//!   Message ─┤                      ├─ reads     contexts confirmed at an index
//!   Persisted, Applied ─┘           └─ role      who leads, and whether reads may stay local
//! ```
//!
//! The runtime executes the effects and reports back with `Persisted` and `Applied`; the simulator does the
//! same with a virtual disk and network. A single node is a group of one on the same path.
//!
//! Invariants:
//! - the asynchronous ready API of raft-rs is used throughout: `tail::Tail` serves an entry from the moment
//!   it is in a ready, only the sync may lag;
//! - a follower's acknowledgements and votes leave only after the sync they depend on (they wait in
//!   `Node::waiting` for `Persisted`); a leader's appends leave at once;
//! - `Applied` is clamped to what is persisted before raft-rs hears of it (it panics otherwise);
//! - a proposal on a member that does not lead is refused here: raft-rs would silently forward it;
//! - the context of a read is used once: the caller makes a new one for each attempt.
//!
//! Deliberately missing: threads, clocks, disks, randomness (the election timeout is pinned by the caller's
//! `election_jitter`, see [`NodeConfig`]), membership changes and snapshots, which arrive with the cluster.

mod effects;
mod logger;
mod node;
mod tail;

pub use effects::{Effects, Input, Persist, PersistNumber, ProposeRefused, ReadContext, ReadReady, Role};
pub use node::{Node, NodeConfig, Restored};
