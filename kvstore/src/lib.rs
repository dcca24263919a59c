//! An embedded, replicated key-value store with etcd's revision and watch semantics.
//!
//! The modules in the order data flows through them:

/// The words of the store: counters, keys, ranges, records, errors.
pub mod types;
/// What is replicated, and its versioned bytes.
pub mod command;
/// The byte engine under mvcc.
pub mod storage;

pub use types::*;
