//! The only public door: open a store, write, read, watch, lease, stop.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! # let directory = tempfile::tempdir()?;
//! use kvstore::store::{Config, Consistency, Store};
//! use kvstore::command::RangeQuery;
//! use kvstore::{KeyRange, KeyspaceId};
//!
//! let store = Store::open(Config::new(directory.path().join("data")))?;
//! let kv = store.keyspace(KeyspaceId::DEFAULT);
//! let put = kv.put("/config/color", "blue").await?;
//! let reply = kv.range(RangeQuery::new(KeyRange::prefix("/config/")), Consistency::Linearizable).await?;
//! assert_eq!(reply.result.kvs[0].value(), b"blue");
//! assert_eq!(reply.result.kvs[0].mod_revision, put.revision);
//! store.stop().await;
//! # Ok(()) })
//! # }
//! ```
//!
//! Nothing here is a global and nothing needs a particular async runtime: every future wakes its task through
//! the standard waker. A store starts two or three threads of its own (see [`crate::runtime`]) and ends them at
//! [`Store::stop`] or when the last handle is dropped.
//!
//! Invariants:
//! - an answer to a write means: durable, and visible to every read and watch that begins later;
//! - a write whose future is dropped is done or not done, as with an unknown outcome: what was not proposed yet is left
//!   out;
//! - an error tells what to do ([`crate::Error::action`]); only `OutcomeUnknown` leaves open what happened.
//!
//! Deliberately missing: clusters of several members and auth; they come with later work.

mod config;
mod data_dir;
mod keyspace;
mod lease_grant;
mod open;
mod recover;
mod restore_dir;
mod snapshot;
mod status;

#[cfg(test)]
mod tests;

pub use crate::lease::LeaseInfo;
pub use crate::mvcc::{Event, EventKind, HashKv, Page, PageLimits, Reader, Snapshot};
pub use crate::propose::COMMANDS_IN_FLIGHT_MAX;
pub use crate::runtime::{CoreFuture, HistogramSnapshot, MetricsSnapshot, Pace, Placement};
pub use crate::snapshot::SnapshotInfo;
pub use crate::watch::{CancelReason, Delivered, Delivery, HubStats, Session, WatchOptions, WatchRefused};
pub use config::{Config, LEASE_TTL_MAX_S};
pub use keyspace::{Consistency, Keyspace, LeaseGranted, RangeReply, WriteReply};
#[doc(hidden)] // For fuzzing.
pub use lease_grant::lease_grant;
pub use open::Store;
pub use status::Status;
