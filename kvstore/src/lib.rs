//! An embedded, replicated key-value store with etcd's revision and watch semantics.
//!
//! The modules in the order data flows through them:

/// 4. The deterministic state machine.
pub mod apply;
/// What is replicated, and its versioned bytes.
pub mod command;
/// 2. Pure raft over raft-rs: `Node::step(Input) -> Effects`.
pub mod consensus;
/// Leases: expiry decided by the leader, applied by everybody.
pub mod lease;
/// 3. The durable raft log: our own write-ahead log.
pub mod log;
/// 5. Versions: index, records, reader, compaction.
pub mod mvcc;
/// 1. A write enters: admission, batching, waiters by request id.
pub mod propose;
/// 1. A read enters: linearizable and serializable.
pub mod read;
/// The only place with threads and clocks: runs the effects.
pub mod runtime;
/// The byte engine under mvcc.
pub mod storage;
/// The only public door: open, put, transact, range, watch, lease, compact, status, stop.
pub mod store;
/// Peer messages; drops, never blocks.
pub mod transport;
/// The words of the store: counters, keys, ranges, records, errors.
pub mod types;
/// 6. Events leave: hub, watchers, catch-up, progress.
pub mod watch;

pub use types::*;
