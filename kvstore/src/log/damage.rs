//! The log's errors, with texts that tell the operator what to do.

use super::format::FORMAT_VERSION;
use crate::types::Error;
use std::io;
use std::path::Path;

const ADVICE: &str = "the start is refused and nothing was changed; acknowledged writes may be missing: restore \
                      this data directory from a backup, or remove the member and let it join again with an \
                      empty one";

/// Bytes that were durable once are not what they were.
pub(super) fn damaged(path: &Path, offset: u64, what: &str) -> Error {
    Error::Damaged { path: path.to_owned(), offset, reason: format!("{what}; {ADVICE}") }
}

/// The directory does not hold what a log consists of.
pub(super) fn unusable(path: &Path, what: &str) -> Error {
    Error::DataDir { path: path.to_owned(), reason: format!("{what}; {ADVICE}") }
}

pub(super) fn foreign(path: &Path) -> Error {
    Error::DataDir {
        path: path.to_owned(),
        reason:
            "not a file of the raft log; nothing else may be in this directory: move it away and start again"
                .to_owned(),
    }
}

/// A whole log, but not this store's.
pub(super) fn strange(dir: &Path) -> Error {
    Error::DataDir {
        path: dir.to_owned(),
        reason: "this raft log and the state beside it are of two stores; nothing was changed: put it back where it belongs \
                 and the right one here, or restore the whole data directory from a backup"
            .to_owned(),
    }
}

pub(super) fn newer(path: &Path, version: u32) -> Error {
    Error::DataDir {
        path: path.to_owned(),
        reason: format!(
            "written by a newer version (log format {version}, this program knows up to {FORMAT_VERSION}); \
             nothing was changed: start it with the newer program"
        ),
    }
}

/// An operation of the file system failed. Lack of space is told apart: it is the caller's to bear or mend.
pub(super) fn io_failed(path: &Path, what: &str, error: &io::Error) -> Error {
    use io::ErrorKind::{
        FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull, UnexpectedEof,
    };
    if matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
        return Error::NoSpace(format!(
            "{what} {}: {error}; nothing acknowledged is lost: free space on this file system and try again",
            path.display()
        ));
    }
    let reason = match error.kind() {
        PermissionDenied | ReadOnlyFilesystem => {
            format!("{what} failed: {error}; check the owner, the mode and the mount")
        }
        // The file became shorter under the log's hands.
        UnexpectedEof => return damaged(path, 0, &format!("{what} failed: {error}")),
        _ => format!(
            "{what} failed: {error}; look for errors of this disk in the system's log, and start again once it works"
        ),
    };
    Error::DataDir { path: path.to_owned(), reason }
}
