//! Peer messages between members: drops, never blocks.
//!
//! Nothing is here yet: a group of one has no peers, and [`crate::runtime`] asserts that consensus never asks for
//! a message to be sent. With the cluster come Holdfast's own messages over a stream per peer.
//!
//! Invariants it will keep:
//! - a message that cannot be sent at once is dropped; raft sends what matters again;
//! - bytes from the network are parsed by our own messages, never by the protobuf crate that raft-rs brings;
//! - snapshots travel apart from messages, in checksummed chunks.
//!
//! Deliberately missing: all of it, see above.
