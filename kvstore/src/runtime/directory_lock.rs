//! The lock on a data directory, held by everybody who may write in it; and whether the directory is still where it was.

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{File, Metadata, metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Who cleans directories for temporary files locks each of them for a moment.
const DIRECTORY_ATTEMPTS_MAX: u32 = 10;
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(50);

/// Locked until the last holder drops it.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    file: File,
    /// The directory itself: its lock nobody can remove, as somebody may who takes the file for a stale one. It follows
    /// a directory that is moved, too.
    directory: File,
}

impl DirectoryLock {
    /// Locks `file` and the `directory` in which it is. Fails with `WOULDBLOCK` if somebody else has the file, with `BUSY`
    /// if only the directory.
    pub(crate) fn take(file: File, directory: File) -> rustix::io::Result<Self> {
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let lock = Self { file, directory };
        for _ in 0..DIRECTORY_ATTEMPTS_MAX {
            match flock(&lock.directory, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => std::thread::sleep(ATTEMPT_INTERVAL),
                // Some file systems lock no directories (NFS): there the file has to do.
                _ => return Ok(lock),
            }
        }
        Err(Errno::BUSY)
    }

    /// Where the locked directory was found; `kept` is a file below it that is never missing.
    pub(crate) fn place(&self, path: &Path, kept: PathBuf) -> std::io::Result<Place> {
        Ok(Place { path: path.into(), identity: identity(&self.directory.metadata()?), kept })
    }

    #[cfg(test)]
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // To close the files is not enough: a child that another thread is just starting has them open too until it runs
        // its program, and the locks belong to all who have them open.
        let _ = flock(&self.directory, FlockOperation::Unlock);
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// A path, and the directory that was there. Does not keep it locked.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    path: PathBuf,
    identity: (u64, u64),
    kept: PathBuf,
}

impl Place {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether something else is there now, or nothing, or it was emptied. Not if that cannot be told.
    pub(crate) fn is_lost(&self) -> bool {
        match metadata(&self.path) {
            Ok(found) => {
                identity(&found) != self.identity
                    || metadata(&self.kept).is_err_and(|error| is_missing(&error))
            }
            Err(error) => is_missing(&error),
        }
    }
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}
