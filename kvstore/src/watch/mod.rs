//! Events leave: a hub for each keyspace, sessions of watchers, catching up, progress.
//!
//! ```text
//!  apply ──publish──▶ Hub ── Matcher: who watches this key ──▶ Outbox of each session ──▶ Session::next
//!                      └──── Ring: the recent past ────┐               ▲
//!                            mvcc::Reader: all of it ──┴── CatchUp ────┘   (by the session's reader)
//! ```
//!
//! A watcher is *live* (each publish queues its events), *lagging* (its session reads the past for it, from
//! memory or disk, page by page) or *ended* with a reason. It begins live if it starts now or later, and
//! lagging if it starts in the past; a full session makes it lag; having passed everything published, it
//! joins the live set under the hub's lock.
//!
//! Invariants:
//! - each watcher gets exactly the filtered history from its start on: in order, nothing twice, nothing
//!   missing, no revision in two deliveries; or it ends, and says why;
//! - progress at R is handed out behind every event at or below R;
//! - what an event replaced is looked up once, when the session takes it: neither a later compaction nor another
//!   watcher's memory changes it;
//! - the publisher reads no disk, waits for no reader, and wakes a session at most once for each publish;
//! - an event is matched once for all who watch the same keys, and its bytes are shared by all who get it;
//! - locks are taken in one order: the hub, then an outbox; no lock is held while the disk is read, but a
//!   session's own reading state.
//!
//! Deliberately missing: threads, timers and tokio (the server ticks, any runtime polls), wire messages and
//! their fragments, authorisation, and watchers that survive their session: a client resumes by revision.

mod batch;
mod catch_up;
mod history;
mod hub;
mod intervals;
pub mod limits;
mod matcher;
mod options;
mod outbox;
mod progress;
mod ring;
mod runs;
mod session;
mod stats;

#[cfg(test)]
mod tests;

pub use hub::Hub;
pub use limits::WatchLimits;
pub use options::{CancelReason, Delivered, Delivery, WatchOptions, WatchRefused};
pub use session::Session;
pub use stats::HubStats;
