//! An embedded, replicated key-value store with etcd's revision and watch semantics.
//!
//! Start at [`store`], the only public door. The modules stand in the order data flows through them.

// The only public door: open, put, transact, range, watch, lease, compact, status, stop.
pub mod store;

// The words of the store: counters, keys, ranges, records, errors.
pub mod types;

// What is replicated, and its versioned bytes.
pub mod command;

// 1. A write enters: admission, batching, waiters by request id.
pub mod propose;

// 1. A read enters: linearizable and serializable.
pub mod read;

// 2. Pure raft over raft-rs: `Node::step(Input) -> Effects`.
pub mod consensus;

// 3. The durable raft log: our own write-ahead log.
pub mod log;

// 4. The deterministic state machine.
pub mod apply;

// 5. Versions: index, records, reader, compaction.
pub mod mvcc;

// 6. Events leave: hub, watchers, catch-up, progress.
pub mod watch;

// Leases: expiry decided by the leader, applied by everybody.
pub mod lease;

// The byte engine under mvcc.
pub mod storage;

// Everything applied, as checksummed chunks.
pub mod snapshot;
// Peer messages; drops, never blocks.
pub mod transport;

// The only place with threads and clocks: runs the effects.
pub mod runtime;

pub use types::*;
