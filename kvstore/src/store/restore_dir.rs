//! A data directory in the making: from an empty directory to one that a store opens, or to one that none does.
//!
//! The marker `RESTORING` is durable before anything else is there, and the identity is written when everything else is
//! durable: at each moment between, a start refuses the directory and says why, and another restore begins anew.

use super::data_dir::{
    IDENTITY_FILE, Identity, PARTS, RESTORING_FILE, advice, lock, refuse, refuse_foreign, remove_dir,
    sync_directory, write_identity,
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
        let fail = |what: &str, e: io::Error| refuse(path, format!("{what}: {e}; {}", advice(&e)));
        fs::create_dir_all(path).map_err(|e| fail("cannot be made", e))?;
        let lock = lock(path)?;
        if path.join(IDENTITY_FILE).exists() {
            let reason = "holds a store already; nothing was restored: give an empty or new directory";
            return Err(refuse(path, reason.into()));
        }
        let marker = path.join(RESTORING_FILE);
        if !marker.exists() {
            refuse_foreign(path)?;
        }
        let marked = File::create(&marker).and_then(|marker| marker.sync_all());
        marked.map_err(|e| fail("cannot be written", e))?;
        sync_directory(path)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_directory(parent)?;
        }
        for part in PARTS.map(|part| path.join(part)) {
            match remove_dir(&part) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail("cannot be emptied", e)),
                _ => {}
            }
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
        let marker = self.path.join(RESTORING_FILE);
        fs::remove_file(&marker)
            .map_err(|e| refuse(&marker, format!("cannot be removed: {e}; {}", advice(&e))))?;
        sync_directory(&self.path)
    }
}
