//! The only place with threads and clocks: runs the effects of the pure parts.
//!
//! ```text
//!  callers ─► Mailbox ─► Core::turn ─┬─ propose ─► consensus ─► log (write + sync)
//!  ticker ──►   ▲                    ├─ committed ─► apply ─► published root
//!  maintenance ─┘                    └─ waiters answered, watch hubs fed
//! ```
//!
//! One `core::Core` owns consensus, log and state machine. A *turn* takes everything that is in the mailbox:
//! all commands become one raft entry (or a few), one write and one sync, one apply batch, one round of wake-ups.
//! Whatever arrives meanwhile is the next turn.
//!
//! The core runs where the embedder wants it ([`Placement`]): on a thread of its own, or as a future on the
//! embedder's runtime beside its requests, which saves both hand-overs. There a turn syncs inline as long as syncs are
//! short: a hand-over to another thread would cost a lone request about what its sync does, and make the batches of many
//! smaller. A turn with a large command, or on a disk that is slow, leaves the write and the sync to a thread beside
//! ([`sync_beside`]) and goes on when that is done ([`turn`]); meanwhile the runtime reads the requests that make the next
//! turn, and serves readers. (Inline all the same: a segment that is made because none was ready, and alarms.)
//!
//! Invariants:
//! - what is answered is durable and published;
//! - the first failed write or sync, or a storage error, ends the core: every waiter gets an error, nothing is
//!   answered afterwards, and `shared::Failure` tells the reason. Not one of a read before there is anything in the log: it
//!   fails that command, and for a removal of dead versions ([`removals`]) that removal;
//! - slow work (flush, prewriting a log segment, scanning for dead versions) runs on the maintenance thread and
//!   comes back as a note; one job of each kind at a time.
//!
//! Deliberately missing: the transport to peers (it comes with the cluster).

mod clock;
pub(crate) mod core;
mod core_policy;
mod directory_lock;
mod driver;
mod large_rest;
mod mailbox;
mod maintenance;
mod metrics;
mod pace;
mod removals;
pub(crate) mod shared;
mod sync_beside;
mod sync_pace;
mod turn;

pub(crate) use clock::LogicalClock;
pub use core_policy::EXPIRE_WORK_MAX;
pub(crate) use core_policy::Policy;
pub(crate) use directory_lock::{DirectoryLock, Place};
pub use driver::{CoreFuture, Placement};
pub(crate) use driver::{Threads, place, spawn_helpers};
pub(crate) use mailbox::{Mailbox, Note, RemovalWait, Work};
pub(crate) use maintenance::{Job, JobQueue};
pub(crate) use metrics::Metrics;
pub use metrics::{HistogramSnapshot, MetricsSnapshot};
pub use pace::Pace;
use sync_beside::SyncBeside;
pub(crate) use turn::{Turn, WaitingWork};
