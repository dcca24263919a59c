//! The lock on a data directory, held by everybody who may write in it.

use rustix::fs::{FlockOperation, flock};
use std::fs::File;

/// Locked until the last holder drops it.
#[derive(Debug)]
pub(crate) struct DirectoryLock(File);

impl DirectoryLock {
    /// Locks `file`; fails at once if somebody else has it.
    pub(crate) fn take(file: File) -> rustix::io::Result<Self> {
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self(file))
    }

    #[cfg(test)]
    pub(crate) fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // To close the file is not enough: a child that another thread is just starting has it open too until it runs
        // its program, and the lock belongs to all who have it open.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}
