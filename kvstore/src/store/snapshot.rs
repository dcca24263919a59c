//! Snapshots of a running store, and new stores of snapshots.

use super::config::Config;
use super::data_dir::{CHECKPOINTS_DIR, empty_dir};
use super::open::{Inner, Store, random_number};
use super::recover::log_config;
use super::restore_dir::RestoreDir;
use crate::apply::StateMachine;
use crate::log::{HardState, Log, OsFiles};
use crate::snapshot::{CHUNK_BYTES_MAX, CheckpointFiles, Sender, SnapshotInfo, receive};
use crate::storage::{RocksEngine, RocksOptions};
use crate::types::{Error, LogIndex, LogMark, NodeId, Result, Term};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Free bytes without which no checkpoint is made: it flushes what is in memory, up to four write buffers of 8 MiB, and a
/// flush that finds no room ends the store.
const CHECKPOINT_ROOM_BYTES: u64 = 40 << 20;

impl Store {
    /// Writes everything the store holds to `output`, with its revisions, leases and alarms: whatever was acknowledged
    /// before this call, and perhaps what came meanwhile. Blocks this thread until `output` has taken it, so call it on one
    /// that neither runs the core nor serves anybody; readers and writers go on. Until then the disk also holds what
    /// compaction has dropped since.
    ///
    /// The bytes are checksummed in chunks of up to 1 MiB (format 1, `HOLDSNAP`), and a later version reads them.
    /// [`Store::restore_snapshot`] makes a data directory of them.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let directory = tempfile::tempdir()?;
    /// use kvstore::KeyspaceId;
    /// use kvstore::store::{Config, Store};
    ///
    /// let store = Store::open(Config::new(directory.path().join("data")))?;
    /// store.keyspace(KeyspaceId::DEFAULT).put("a", "1").await?;
    /// let mut saved = Vec::new();
    /// let info = store.save_snapshot(&mut saved)?;
    /// store.stop().await;
    ///
    /// let config = Config::new(directory.path().join("restored"));
    /// assert_eq!(Store::restore_snapshot(&config, &mut saved.as_slice())?, info);
    /// let store = Store::open(config)?;
    /// assert_eq!(store.keyspace(KeyspaceId::DEFAULT).revision().get(), 2);
    /// # Ok(()) })
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Snapshot`] when `output` refuses, [`Error::NoSpace`] when the disk has no room for a checkpoint (40 MiB),
    /// [`Error::DataDir`] when it cannot be made or read otherwise: the store goes on, unless it finds the same fault.
    /// [`Error::Stopped`]. What `output` has then is no snapshot, and is refused as one.
    pub fn save_snapshot(&self, output: &mut dyn Write) -> Result<SnapshotInfo> {
        if let Some(reason) = self.inner.shared.failure.reason() {
            return Err(reason);
        }
        let checkpoint = Checkpoint::make(&self.inner)?;
        // Before it is opened: that leaves files which are no part of it.
        let files = CheckpointFiles::list(&checkpoint.path)?;
        // What the checkpoint says, not what the store says by now.
        let applied = applied_in(&checkpoint.path).map_err(|what| Error::DataDir {
            path: checkpoint.path.clone(),
            reason: format!("the checkpoint cannot be read: {what}; the store goes on: try it again"),
        })?;
        let mut sender = Sender::new(files, random_number(), self.inner.cluster_id, applied, CHUNK_BYTES_MAX);
        let refused = |e: std::io::Error| Error::Snapshot(format!("it cannot be written: {e}; try it again"));
        let mut chunk = Vec::new();
        while sender.next_chunk(&mut chunk)? {
            output.write_all(&chunk).map_err(refused)?;
        }
        output.flush().map_err(refused)?;
        Ok(sender.info())
    }

    /// Makes the data directory that `config` names of a snapshot, so that a store can be opened on it. Node and cluster
    /// get the ids that `config` gives, as in a new store. Reads to the end of the snapshot and not further. A restore
    /// that did not come to its end can be repeated; a store does not open on what it has left.
    ///
    /// Revisions go on where the snapshot ends. Whoever has seen later ones of the store that it was taken of (a cache,
    /// a watcher) has to list again.
    ///
    /// # Errors
    /// [`Error::Config`]; [`Error::DataDir`] when there is anything in the directory already, or it cannot be written;
    /// [`Error::NoSpace`]; [`Error::Snapshot`] when `input` is no whole snapshot.
    pub fn restore_snapshot(config: &Config, input: &mut dyn Read) -> Result<SnapshotInfo> {
        config.validate()?;
        let dir = RestoreDir::begin(&config.data_dir)?;
        let info = receive(input, &dir.state())?;
        let applied = applied_in(&dir.state()).map_err(|what| {
            Error::Snapshot(format!(
                "what is in it cannot be read: {what}; nothing was restored: use another one"
            ))
        })?;
        if applied != (info.applied, info.term) {
            let said = "it says of itself another position in the log than what is in it";
            return Err(Error::Snapshot(format!("{said}; nothing was restored: use another one")));
        }
        let log_config = log_config(config, dir.log(), false);
        let (mut log, _) = Log::open(Arc::new(OsFiles), log_config, info.applied.next())?;
        let hard_state = HardState { term: info.term, vote: NodeId::new(0), commit: info.applied };
        log.restart_after(info.applied, Some(hard_state))?;
        log.seal_durably()?;
        assign(&dir.state(), log.mark())?;
        drop(log);
        dir.finish(config.node_id, config.cluster_id)?;
        Ok(info)
    }
}

/// The position of the state in `path`, or why it cannot be told.
fn applied_in(path: &Path) -> Result<(LogIndex, Term), String> {
    let options = RocksOptions { must_exist: true, read_only: true, ..RocksOptions::default() };
    let engine = RocksEngine::open(path, &options).map_err(|error| error.message)?;
    StateMachine::applied_in(&engine).map_err(|error| error.to_string())
}

/// Has the state in `path` belong to `log`, not to that of the store which the snapshot was taken of.
fn assign(path: &Path, log: LogMark) -> Result<()> {
    let unwritten = |what: String| Error::DataDir {
        path: path.into(),
        reason: format!("cannot be written: {what}; nothing was restored: try it again"),
    };
    let options = RocksOptions { must_exist: true, ..RocksOptions::default() };
    let engine = RocksEngine::open(path, &options).map_err(|error| unwritten(error.message))?;
    StateMachine::assign_to(&engine, log).map_err(|error| unwritten(error.to_string()))
}

/// A checkpoint's directory, as long as somebody reads it.
struct Checkpoint {
    path: PathBuf,
}

impl Checkpoint {
    fn make(inner: &Inner) -> Result<Self> {
        let parent = inner.config.data_dir.join(CHECKPOINTS_DIR);
        let checkpoint = Self { path: parent.join(format!("{:016x}", random_number())) };
        let unmade = |what: String, is_no_space: bool| match is_no_space {
            true => {
                Error::NoSpace(format!("no checkpoint can be made: {what}; free some space and try again"))
            }
            false => Error::DataDir {
                path: checkpoint.path.clone(),
                reason: format!(
                    "no checkpoint can be made: {what}; look for errors of this disk in the system's log"
                ),
            },
        };
        let failed = |e: io::Error| unmade(e.to_string(), e.kind() == io::ErrorKind::StorageFull);
        fs::create_dir_all(&parent).map_err(failed)?;
        let space = rustix::fs::statvfs(&parent).map_err(|e| failed(e.into()))?;
        let free_bytes = space.f_bavail * space.f_frsize;
        if free_bytes < CHECKPOINT_ROOM_BYTES {
            return Err(unmade(
                format!("{free_bytes} bytes are left, {CHECKPOINT_ROOM_BYTES} are needed"),
                true,
            ));
        }
        let made = inner.engine.checkpoint(&checkpoint.path);
        made.map_err(|error| unmade(error.message.clone(), error.is_no_space()))?;
        Ok(checkpoint)
    }
}

impl Drop for Checkpoint {
    /// What is left by a failure here, or by a process that ends first, the next start removes.
    fn drop(&mut self) {
        let _ = empty_dir(&self.path);
        let _ = fs::remove_dir(&self.path);
    }
}
