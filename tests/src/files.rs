//! Directories as tests handle them.

use rustix::fs::statvfs;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Copies a directory with everything in it; `to` may exist. A store may rest in it: a segment that its log is making may
/// be made meanwhile, and have another name. Nothing is in it yet.
///
/// # Panics
/// When something cannot be read or written.
pub fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_all(&path, &target);
        } else if let Err(error) = fs::copy(&path, &target) {
            let is_made = error.kind() == ErrorKind::NotFound && is_draft(&path);
            assert!(is_made, "no copy of {}: {error}", path.display());
        }
    }
}

fn is_draft(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "preparing")
}

/// A directory in memory, if there is one with room: what containers are given is often too small for a store.
pub fn memory() -> Option<PathBuf> {
    let memory = PathBuf::from("/dev/shm");
    has_room(&memory).then_some(memory)
}

/// Whether the file system there has room for tests that run side by side.
pub fn has_room(directory: &Path) -> bool {
    const ROOM_BYTES: u64 = 2 << 30;
    statvfs(directory).is_ok_and(|space| space.f_bavail.saturating_mul(space.f_frsize) >= ROOM_BYTES)
}

/// All files below a directory, sorted.
///
/// # Panics
/// When it cannot be read.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}
