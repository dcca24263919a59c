//! Between the wire and the store: requests to the store's types, outcomes to responses, errors to statuses.
//!
//! Everything that is peculiar to etcd's protocol is settled here, so that the store need not know it: what
//! `range_end = "\0"` means, which fields contradict each other, in which order a request is checked (clients
//! see the first fault), what the headers inside a transaction's response hold, and the exact code and text of
//! every error.
//!
//! Invariants:
//! - no function here waits, does I/O or looks at a clock;
//! - keys and values are moved, never copied;
//! - the faults of a request are found in etcd's order; what only the store can know (duplicate keys of a
//!   transaction, missing leases, revisions) it finds;
//! - unknown enum numbers behave as in etcd, where protobuf lets them through: invalid for sorting, "holds"
//!   for a compare's result.
//!
//! Deliberately missing: conversions in the other direction (wire responses to store types); only clients need
//! them.

pub mod header;
pub mod lease;
pub mod maintenance;
pub mod range;
pub mod status;
pub mod transaction;
pub mod watch;
pub mod write;
