//! The byte engine under `mvcc`: ordered families of keys, one writer, batches that are atomic.
//!
//! Two engines stand behind one trait: `RocksEngine` for real data and `SimEngine`, an ordered map in
//! memory that can crash and forgets exactly what was not flushed. Nothing outside this folder names RocksDB.
//!
//! Invariants:
//! - a [`Batch`] is applied whole or not at all, over all families, also across a crash (RocksDB: one write,
//!   atomic flush over all families);
//! - nothing is durable before [`Engine::flush`] returns: the raft log is the write-ahead log of this data;
//! - an error from an engine is fatal: the caller poisons the store, it never retries.
//!
//! Deliberately missing: transactions, comparators, merge operators and any notion of revisions.

mod rocks;
mod sim;
#[cfg(test)]
mod suite;

pub use rocks::{RocksEngine, RocksOptions};
pub use sim::SimEngine;

use crate::types::Error;
use bytes::Bytes;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// The families ("column families") of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// (keyspace, revision, sub) → record: the only copy of a value, in time order.
    Revisions,
    /// (keyspace, key) → metadata of the newest version.
    Heads,
    /// Applied index, counters, floors, leases, members, alarms.
    Meta,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 3] = [Family::Revisions, Family::Heads, Family::Meta];

    /// Its place in [`Family::ALL`].
    const fn position(self) -> usize {
        self as usize
    }
}

/// One change of a [`Batch`].
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Sets a key.
    Put {
        /// Where.
        family: Family,
        /// Key.
        key: Bytes,
        /// Value.
        value: Bytes,
    },
    /// Removes a key.
    Delete {
        /// Where.
        family: Family,
        /// Key.
        key: Bytes,
    },
}

/// Changes that become visible, and survive a crash, together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// In order; a later change of the same key wins.
    pub changes: Vec<Change>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, family: Family, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.changes.push(Change::Put { family, key: key.into(), value: value.into() });
    }
    /// Removes a key.
    pub fn delete(&mut self, family: Family, key: impl Into<Bytes>) {
        self.changes.push(Change::Delete { family, key: key.into() });
    }
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// A failure of the engine. The first one of a write, or of a read that applying the log needs, ends the store; one of
/// another read fails whoever reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("storage engine: {message}")]
pub struct EngineError {
    /// What the engine said.
    pub message: String,
    /// The file it names, if any.
    pub path: Option<PathBuf>,
    /// Set if bytes are not what was written: where in the file, 0 if that is not known.
    pub damaged_at: Option<u64>,
}

impl EngineError {
    /// Whether all that is wrong is that there is no room.
    pub fn is_no_space(&self) -> bool {
        ["No space left", "Disk quota"].iter().any(|words| self.message.contains(words))
    }
}

/// The engine's place in the data directory, for errors that have no better one.
pub(crate) const STATE_DIR: &str = "state";

/// A file of the engine's in its directory that is there at any moment.
pub(crate) fn current_file(dir: &std::path::Path) -> std::path::PathBuf {
    dir.join(rocks::CURRENT_FILE)
}

/// What to do about damaged data.
pub(crate) const DAMAGE_ADVICE: &str = "nothing wrong was served; stop this member and restore the whole data \
                                        directory from a backup";

impl From<EngineError> for Error {
    /// Damage is told from all other failures: what it does not touch can still be read.
    fn from(error: EngineError) -> Self {
        match (error.damaged_at, error.path) {
            (Some(offset), Some(path)) => {
                Error::Damaged { path, offset, reason: format!("{}; {DAMAGE_ADVICE}", error.message) }
            }
            _ => Error::Poisoned(format!("storage engine: {}", error.message)),
        }
    }
}

/// Visits entries in key order; break to end the scan.
pub type Visitor<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// An ordered, crash-atomic byte store. Readers and the one writer may work at the same time.
pub trait Engine: Send + Sync + 'static {
    /// One value.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError>;
    /// Many values, in the order of `keys`.
    fn multi_get(&self, family: Family, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, EngineError>;
    /// Visits all keys in `from..to` (`to` empty: to the end) in order, on a snapshot of this moment.
    /// `cache` tells whether what is read should push other data out of the block cache.
    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        cache: bool,
        visit: Visitor<'_>,
    ) -> Result<(), EngineError>;
    /// Applies a batch; visible at once, durable only after a later [`Engine::flush`].
    fn write(&self, batch: Batch) -> Result<(), EngineError>;
    /// Makes everything written before this call durable. Slow; call it off the hot path.
    fn flush(&self) -> Result<(), EngineError>;
    /// A consistent copy of everything written so far in the (not yet existing) directory `target`.
    fn checkpoint(&self, target: &Path) -> Result<(), EngineError>;
    /// Bytes on disk.
    fn disk_bytes(&self) -> u64;
}
