//! The words of the store: counters, keys, ranges, records and errors.
//!
//! Every counter has a type of its own, so that a term can never be passed where an index is meant.
//! Nothing in this folder does I/O, reads a clock or draws a random number, and nothing here knows raft,
//! RocksDB or a wire protocol.
//!
//! Invariants:
//! - a [`Revision`] is never negative; 0 means "none", a fresh store is at revision 1;
//! - a [`KeyRange`] is never empty by construction of its single form; a span may be empty;
//! - a [`KeyValue`] owns one immutable, shared buffer in the record wire format (see [`record`]).
//!
//! Deliberately missing: conversions `From<u64>` and arithmetic operators. Use `new`, `get` and the named
//! methods, so that each place where a counter is made up can be found.

mod entry;
mod error;
mod ids;
mod range;
pub mod record;

pub use entry::{EntryKind, HardState, LogEntry};
pub use error::{Action, Error, InvalidRequest, Result};
pub use ids::{
    CallerId, ClockMillis, KeyspaceId, LeaseId, LogIndex, LogMark, NodeId, RequestId, Revision, SubRevision,
    Term, VersionId,
};
pub use range::{KeyRange, RangeEnd};
pub use record::KeyValue;
