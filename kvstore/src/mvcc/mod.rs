//! Versions: the state of a keyspace, and every revision of it that is not compacted.
//!
//! A write makes a *version* of a key: a record in `Revisions` (the only copy of a value, in time order) and
//! the key's *head* in `Heads` (everything but the value). In memory an index holds all heads; it is a
//! copy-on-write tree, so that a root is a consistent snapshot that costs nothing. Values are cached within a
//! bound beside the heads; the data set may be far larger than memory.
//!
//! How a change flows: `Versions::put` (writer) → one engine batch → `Versions::publish` → `Reader`s see the
//! new root, revision and floor together. How a read flows: `Reader` → `Snapshot` → `view` (which versions) →
//! `select` (which of them, in what order) → records. How the past is read: from the head back over the
//! previous-version pointers, or forward over the records, whichever is cheaper; as events: `history`.
//! How it shrinks: the floor moves at once, `removal` follows in the background.
//!
//! Invariants:
//! - root, revision and floor are published as one; nothing is published before the engine has it;
//! - removal follows the published floor and never leads it: a version that a reader may ask for is there, and
//!   a reader that misses one finds the floor above what it asked for;
//! - every version at or above the floor is retained, and of the older ones each living key's newest; a
//!   tombstone exactly at the floor stays until the floor moves on;
//! - a chain of previous-version pointers is whole down to the floor; it may dangle below, and nobody goes there;
//! - `live_bytes` is the exact sum over the retained versions;
//! - what is written depends on the commands alone, not on how far removal has come.
//!
//! Deliberately missing: transactions (`apply` composes them), leases (a number here), raft, clocks, and locks
//! between the writer and its readers, but for the window that they share (`window`).

mod cache;
mod count;
mod entry;
mod event;
mod hash;
mod history;
mod index;
pub mod keys;
mod reader;
mod records;
mod removal;
mod select;
mod versions;
mod view;
mod window;

pub use cache::{VALUE_OVERHEAD_BYTES, ValueCache};
pub use entry::{Entry, Head};
pub use event::{Event, EventKind};
pub use hash::HashKv;
pub use history::HistoryPage;
pub use index::{Index, Root};
pub use reader::{Page, PageLimits, Reader, Snapshot};
pub use removal::{Removal, RemovalLimits, RemovalProgress, RemovalScan};
pub use versions::Versions;

/// What each retained version costs beside its key and its value: its keys in the families, the record's
/// header and counters, and its share of the engine's own structures.
pub const VERSION_OVERHEAD_BYTES: u64 = 96;

/// What a record's wire form adds to key and value at most, rounded up: used to size pages.
const RECORD_FRAME_BYTES: usize = 48;

/// What a version with a key and a value of these lengths adds to a keyspace's live bytes.
pub const fn live_bytes_of(key_len: usize, value_len: usize) -> u64 {
    key_len as u64 + value_len as u64 + VERSION_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests;
