//! 1. A write enters.
//!
//! ```text
//!   caller ── Admission ──► Submission ──► (mailbox) ──► Batcher ──► one Batch per raft entry
//!      ▲                        │                            │
//!      └────── Ticket ◄─────────┴── Waiters ◄── outcomes of the applied batch
//! ```
//!
//! A caller's command is admitted against the bounds, queued, and gets a [`Ticket`]. Whatever is queued when the
//! last sync ends becomes the next batch: there is no timer, a lone command waits for nobody.
//!
//! Invariants:
//! - a ticket is completed exactly once, whatever happens to the member;
//! - a command that was refused before it was proposed gets an error that says so; one that was proposed and
//!   whose fate is unknown gets `OutcomeUnknown`, never a plain failure;
//! - a caller that gives up changes nothing for the others in its batch; what it had asked for is left out if it was
//!   not proposed yet;
//! - a small command waits for one turn at most that large ones are in, however many of these there are ([`Lanes`]);
//! - what is admitted and not yet answered is bounded in number and bytes;
//! - a caller with few commands waits for one of each other caller's, however many these have ([`Lanes`]).
//!
//! Deliberately missing: priorities by name.

mod admission;
mod batcher;
mod callers;
mod lanes;
mod ticket;
mod waiters;

pub use admission::{Admission, COMMAND_BYTES_IN_FLIGHT_MAX, COMMANDS_IN_FLIGHT_MAX, Permit};
pub use batcher::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, Proposal, Submission, split_into_batches};
pub use lanes::{LARGE_COMMAND_BYTES, Lanes};
pub use ticket::{Slot, Ticket, Unanswered, WakeList, ticket};
pub use waiters::Waiters;
