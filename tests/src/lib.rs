//! What the end-to-end tests have in common: nodes as processes, and clients of them.
//!
//! A test says which program it wants ([`Setup::subject`], or a real etcd with [`Setup::etcd`]), starts it, talks to it
//! over the wire, kills it, starts it again. Both programs understand the same flags, so a test that is written for
//! Holdfast can be asked about etcd: `HOLDFAST_PROGRAM="$(scripts/peers etcd)/etcd" cargo test …`. A test that etcd does
//! not pass says why.
//!
//! Invariants:
//! - every node has a directory and ports of its own, and both are given back when it is dropped;
//! - a node is ready when `start` returns: its log has said so, in the words that process managers wait for;
//! - what is ended is ended by the id of a process that was started here;
//! - a test that fails shows the end of the log of each of its nodes.
//!
//! Deliberately missing: anything in the same process as the store. What embeds `kvstore` is tested beside it.

mod certificates;
mod files;
pub mod golden;
mod mounted;
mod node;
mod programs;
mod skip;
mod told;
mod usage;

pub use certificates::Certificates;
pub use etcd_shim::proto::plain as wire;
pub use files::{copy_all, files, has_room, memory};
pub use mounted::{Kind, Mounted};
pub use node::{Node, Setup, Transport};
pub use programs::{Etcd, etcd, etcd_if_possible, subject};
pub use skip::skipped;
pub use told::check_advice;
pub use usage::{Usage, disk_bytes, forget_peak};
