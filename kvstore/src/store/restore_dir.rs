//! A data directory in the making: from an empty directory to one that a store opens, or to one that none does.
//!
//! The marker `RESTORING` is durable before anything else is there, and the identity is written when everything else is
//! durable: at each moment between, a start refuses the directory and says why, and another restore begins anew.

use super::data_dir::{
    IDENTITY_FILE, Identity, PARTS, RESTORING_FILE, advice, empty_dir, lock, make_dir, refuse,
    refuse_foreign, sync_directory, write_identity,
};
use crate::runtime::DirectoryLock;
use crate::types::{NodeId, Result};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Locked until it is finished or dropped.
#[derive(Debug)]
pub(super) struct RestoreDir {
    path: PathBuf,
    _lock: DirectoryLock,
}

impl RestoreDir {
    /// Takes an empty directory (made if missing), or what a restore has left.
    pub(super) fn begin(path: &Path) -> Result<Self> {
        make_dir(path)?;
        let lock = lock(path)?;
        if path.join(IDENTITY_FILE).exists() {
            let reason = "holds a store already; nothing was restored: give an empty or new directory";
            return Err(refuse(path, reason.into()));
        }
        let marker = path.join(RESTORING_FILE);
        if !marker.exists() {
            refuse_foreign(path)?;
        }
        let fail = |what: &str, e: io::Error| refuse(path, format!("{what}: {e}; {}", advice(&e)));
        let marked = File::create(&marker).and_then(|marker| marker.sync_all());
        marked.map_err(|e| fail("cannot be written", e))?;
        sync_directory(path)?;
        for part in PARTS.map(|part| path.join(part)) {
            // Emptied, not removed: it may be another disk.
            match empty_dir(&part) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => fs::create_dir(&part),
                emptied => emptied,
            }
            .map_err(|e| fail("cannot be emptied", e))?;
        }
        Ok(Self { path: path.into(), _lock: lock })
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join(PARTS[0])
    }

    pub(super) fn state(&self) -> PathBuf {
        self.path.join(PARTS[1])
    }

    /// Makes it a data directory. What is in its parts is durable.
    pub(super) fn finish(self, node_id: NodeId, cluster_id: u64) -> Result<()> {
        sync_directory(&self.path)?;
        write_identity(&self.path, Identity { node_id, cluster_id, begun: true })?;
        // It is done: whatever this comes to, the next start removes the marker.
        let _ = fs::remove_file(self.path.join(RESTORING_FILE));
        Ok(())
    }
}
