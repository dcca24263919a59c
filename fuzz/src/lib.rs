//! What fuzzing does with bytes: one function for each target, from arbitrary bytes to a panic or nothing.
//!
//! The functions are plain, so that whatever can run them does: `libfuzzer/` feeds them with what a coverage-guided
//! fuzzer makes up (`scripts/fuzz`, with AddressSanitizer), `tests/kept.rs` with every file of `seeds/` and
//! `regressions/` in the ordinary tests.
//!
//! | target | bytes | what must hold |
//! |---|---|---|
//! | `segment` | a log's files, or edits of a sound log's | refused naming a file and unchanged, or a log that reads the same twice and goes on |
//! | `frame` | records and frames, sealed with right checksums | the same, behind the checksums |
//! | `snapshot` | chunks: arbitrary, sealed with right checksums, or a sound snapshot's, edited | refused, or exactly what a sender writes of the same files |
//! | `record` | a stored version | reads as protobuf does, and reads back |
//! | `command` | a raft entry | reads back; applies without harm to what the state promises |
//! | `apply` | steps of clients, crashes and compactions | the same as a model that keeps every revision |
//! | `range`, `put`, `delete_range` | a request in protobuf | converts, validates, reads back as a command, and its outcome agrees with a naive answer |
//! | `txn` | the same | as many operations as were counted before; both ways of deciding take the branches of a naive answer; all or nothing |
//! | `watch` | the requests of a stream | exactly the events of the naive history, until each end; no progress beyond what was told; fragments are the whole |
//! | `lease` | lease requests | what the edge makes of them; the state's promises; right times to live |
//! | `config` | flags, variables, a file | a configuration, or a refusal that names a setting that was given |
//!
//! Invariants:
//! - a function depends on its bytes alone: no clock, no randomness, no file, no thread; what it finds, it finds again;
//! - the work is bounded by the length of the input;
//! - nothing here opens RocksDB: states live in the simulated engine, logs in [`memory`];
//! - a crash that was found stays in `regressions/TARGET` for ever.
//!
//! Deliberately missing: sockets and HTTP (`tests/bad_input` has them), certificates (rustls parses them), and damaged
//! RocksDB files (its own checksums, `tests/bad_input` again).

mod apply;
mod command;
mod compare;
mod config;
mod frame;
mod input;
mod lease;
mod log_check;
mod memory;
mod model;
mod record;
mod requests;
mod sealed;
mod segment;
mod snapshot;
mod state;
mod watch;

pub use apply::apply;
pub use command::command;
pub use config::config;
pub use frame::frame;
pub use lease::lease;
pub use record::record;
pub use requests::{delete_range, put, range, txn};
pub use segment::segment;
pub use snapshot::snapshot;
pub use watch::watch;

/// A target's body: panics if something is wrong.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its folders in `seeds/` and `regressions/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("apply", apply),
    ("command", command),
    ("config", config),
    ("delete_range", delete_range),
    ("frame", frame),
    ("lease", lease),
    ("put", put),
    ("range", range),
    ("record", record),
    ("segment", segment),
    ("snapshot", snapshot),
    ("txn", txn),
    ("watch", watch),
];
