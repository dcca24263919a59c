//! Golden scripts: what a client of etcd sees, written down, and asked of etcd and of this server in the same run.
//!
//! A script (`tests/golden/AREA/NAME.txt`) is a list of calls by etcd's own names, each with the reply that a real etcd
//! gave. The run starts a fresh etcd and a fresh server of ours for each script, makes the same calls on both, and
//! compares field by field: ours with etcd's of this moment, and both with what is written. `tests/golden/README.md`
//! describes the language for those who write scripts.
//!
//! Invariants:
//! - the replies in the files come from a real etcd alone (`BLESS=1` writes them, and nothing of ours);
//! - every field that a reply has is shown, also fields that our definitions do not know; what is not compared by value
//!   is shown as `@name`, and `render` is the one place that decides it;
//! - where we differ on purpose, the script says why (`differs:`) and holds our reply; a `differs:` without a difference
//!   is a failure too;
//! - no call takes longer than `session::CALL_LIMIT`: a reply that does not come is a reply that differs.
//!
//! Deliberately missing: typed messages. Requests are parsed by the definitions' descriptors, so a script can ask for
//! anything, and nothing stands between what it says and what goes over the wire.

mod codec;
mod expand;
mod render;
mod run;
mod schema;
mod script;
mod session;
mod verdict;

pub use run::{Report, run};
