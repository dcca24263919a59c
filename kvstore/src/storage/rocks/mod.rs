//! The engine over RocksDB.
//!
//! RocksDB's own write-ahead log is off: the raft log is the log of this data. What was written since the
//! last flush is gone after a crash, and raft replays it. That is only sound because a flush is atomic over
//! all families (`atomic_flush`, also for the flushes that RocksDB starts on its own when a memtable is
//! full): the applied index in `Meta` always fits the records beside it.
//!
//! ```text
//! write ──> memtables (one per family) ──flush, all families at once──> sorted files ──compaction──> …
//! ```
//!
//! Invariants:
//! - every write goes through [`RocksEngine::write`], which takes the log off it: no other call of RocksDB's
//!   write functions exists;
//! - a directory is opened only if its `FORMAT` file says that we made it, in a version that we can read
//!   (see [`directory`]);
//! - an opening forgets the torn end of the list of tables (see [`manifest`]): whoever opens for writing has to have
//!   opened for reading before, and to have held the log against what is there then;
//! - memory is bounded by [`RocksOptions`]: two write buffers' worth of mutable memtables, as much again
//!   while a flush runs, and the block cache, which holds index blocks too.
//!
//! Deliberately missing: bloom filters (no key is ever looked up that does not exist), merge operators,
//! transactions, and RocksDB's in-place recovery after a failed write: the store above stops for good.

mod directory;
mod manifest;
mod options;
#[cfg(test)]
mod tests;

pub use options::RocksOptions;

use super::{Batch, Change, Engine, EngineError, Family, Visitor};
use bytes::Bytes;
pub(super) use directory::CURRENT_FILE;
use manifest::{TornManifest, Trial};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ColumnFamily, DB, FlushOptions, ReadOptions, WriteBatch, WriteOptions, properties};
use std::path::{Path, PathBuf};

/// Keys that one multi-get asks RocksDB for: each pins a block of the cache until it is copied.
const MULTI_GET_KEYS_MAX: usize = 256;

/// How far a scan that reads everything once reads ahead.
const SCAN_READAHEAD_BYTES: usize = 1 << 20;

/// What a record of a write batch costs beside its key and value: tag, family, two lengths.
const BATCH_RECORD_BYTES: usize = 12;

/// A [`Engine`] whose data lives in a directory.
pub struct RocksEngine {
    db: DB,
    dir: PathBuf,
    /// What it is read from, if that is not `dir`.
    trial: Option<Trial>,
}

impl std::fmt::Debug for RocksEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksEngine").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// The name of a family in RocksDB. `Meta` lives in the family that every RocksDB database has.
fn name(family: Family) -> &'static str {
    match family {
        Family::Revisions => "revisions",
        Family::Heads => "heads",
        Family::Meta => "default",
    }
}

impl RocksEngine {
    /// Opens the directory, or makes it if it does not exist or is empty.
    ///
    /// # Errors
    /// When the directory is not ours, of a newer format, in use, damaged or cannot be written.
    pub fn open(dir: impl Into<PathBuf>, options: &RocksOptions) -> Result<Self, EngineError> {
        let dir = dir.into();
        directory::prepare(&dir, options.must_exist)?;
        if !options.read_only {
            manifest::remove_trial(&dir)?;
        }
        match Self::open_in(&dir, None, options) {
            Err(error) if error.damaged_at.is_some() => Self::open_torn(&dir, options, error),
            opened => opened,
        }
    }

    /// Opens a directory whose manifest may be torn: with `refused`, if that is not what is wrong.
    fn open_torn(dir: &Path, options: &RocksOptions, refused: EngineError) -> Result<Self, EngineError> {
        let Some(torn) = TornManifest::find(dir) else { return Err(manifest::acquit(dir, refused)) };
        if options.read_only {
            return Self::open_in(dir, Some(torn.trial(dir)?), options).map_err(|_| refused);
        }
        torn.cut()?;
        tracing::warn!(directory = %dir.display(), "the power failed while the list of tables grew; its torn end was cut");
        Self::open_in(dir, None, options)
    }

    /// Opens what is in `trial`, or else in `dir`.
    fn open_in(dir: &Path, trial: Option<Trial>, options: &RocksOptions) -> Result<Self, EngineError> {
        let families = options.families();
        let families = Family::ALL.map(|family| (name(family), families.of(family)));
        let path = trial.as_ref().map_or(dir, Trial::path);
        let opened = match options.read_only {
            true => DB::open_cf_with_opts_for_read_only(&options.database(), path, families, false),
            false => DB::open_cf_with_opts(&options.database(), path, families),
        };
        match opened {
            Ok(db) => Ok(Self { db, dir: dir.into(), trial }),
            Err(error) => Err(directory::explain(path, error)),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn handle(&self, family: Family) -> &ColumnFamily {
        self.db.cf_handle(name(family)).expect("all families are opened together with the database")
    }

    fn explain(&self, error: rocksdb::Error) -> EngineError {
        match &self.trial {
            None => directory::explain(&self.dir, error),
            Some(trial) => trial.explain(&self.dir, error),
        }
    }
}

impl Engine for RocksEngine {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let found = self.db.get_pinned_cf(self.handle(family), key).map_err(|error| self.explain(error))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn multi_get(&self, family: Family, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, EngineError> {
        let handle = self.handle(family);
        let mut values = Vec::with_capacity(keys.len());
        for keys in keys.chunks(MULTI_GET_KEYS_MAX) {
            for found in self.db.batched_multi_get_cf(handle, keys, keys.is_sorted()) {
                let found = found.map_err(|error| self.explain(error))?;
                values.push(found.map(|value| Bytes::copy_from_slice(&value)));
            }
        }
        Ok(values)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        cache: bool,
        visit: Visitor<'_>,
    ) -> Result<(), EngineError> {
        let mut options = ReadOptions::default();
        options.fill_cache(cache);
        if !cache {
            options.set_readahead_size(SCAN_READAHEAD_BYTES);
        }
        if !to.is_empty() {
            if from >= to {
                return Ok(()); // RocksDB wants its bounds in order.
            }
            options.set_iterate_upper_bound(to);
        }
        let mut iterator = self.db.raw_iterator_cf_opt(self.handle(family), options);
        iterator.seek(from);
        while let Some((key, value)) = iterator.item() {
            if visit(key, value).is_break() {
                return Ok(());
            }
            iterator.next();
        }
        iterator.status().map_err(|error| self.explain(error))
    }

    fn write(&self, batch: Batch) -> Result<(), EngineError> {
        let size = batch.changes.iter().map(|change| match change {
            Change::Put { key, value, .. } => key.len() + value.len() + BATCH_RECORD_BYTES,
            Change::Delete { key, .. } => key.len() + BATCH_RECORD_BYTES,
        });
        let mut converted = WriteBatch::with_capacity_bytes(size.sum());
        let handles = Family::ALL.map(|family| self.handle(family));
        for change in &batch.changes {
            match change {
                Change::Put { family, key, value } => {
                    converted.put_cf(&handles[family.position()], key, value);
                }
                Change::Delete { family, key } => converted.delete_cf(&handles[family.position()], key),
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(converted, &options).map_err(|error| self.explain(error))
    }

    fn flush(&self) -> Result<(), EngineError> {
        let handles = Family::ALL.map(|family| self.handle(family));
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db
            .flush_cfs_opt(&handles.each_ref().map(|handle| *handle), &options)
            .map_err(|error| self.explain(error))
    }

    fn checkpoint(&self, target: &Path) -> Result<(), EngineError> {
        // Flushes what is in memory (all families at once), then links the files.
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(target))
            .map_err(|error| directory::explain(target, error))?;
        directory::sign(target)?;
        // RocksDB syncs what is in it, but not its name.
        target.parent().map_or(Ok(()), directory::sync_dir)
    }

    fn disk_bytes(&self) -> u64 {
        let of = |family| {
            // Only RocksDB's shutdown makes it fail; a status must not fail with it.
            self.db.property_int_value_cf(self.handle(family), properties::TOTAL_SST_FILES_SIZE)
        };
        Family::ALL.into_iter().filter_map(|family| of(family).ok().flatten()).sum()
    }
}
