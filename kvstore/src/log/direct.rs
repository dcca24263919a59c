//! Writes past the page cache.
//!
//! A log is written once and read only at a start. In the page cache a write is copied, marked dirty, found again by the
//! sync and handed to the disk; past it the sync only has the disk's own cache to flush: a fifth less time and a third less
//! of the processor for a frame of 28 KiB. And nothing can be forgotten: a page that the kernel could not write is an error
//! of the write itself, not of a sync that some later call may report as done.
//!
//! Whole pages from memory that is aligned like them are what file systems take. Some do not do it at all (an older tmpfs,
//! network and FUSE file systems): there, and for anything that is not whole pages, the page cache is used as before.

use super::format::PAGE_BYTES;
use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Written at a time, and what a thread that writes keeps for it at most: above it a write is as fast in parts.
const CHUNK_BYTES: usize = 512 << 10;

const PAGE: usize = PAGE_BYTES as usize;

/// A file opened for direct writes, beside the handle that reads and syncs it.
pub(super) struct DirectFile {
    file: fs::File,
    /// The file system said no at the first write: some take the flag and refuse then.
    refused: AtomicBool,
}

thread_local! {
    /// Aligned from somewhere in it on.
    static MEMORY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl DirectFile {
    /// `None`: this file system has no direct writes, or there is no descriptor left for them.
    pub(super) fn open(path: &Path) -> Option<Self> {
        match fs::OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path) {
            Ok(file) => Some(Self { file, refused: AtomicBool::new(false) }),
            Err(error) => {
                tracing::debug!(%error, file = %path.display(), "no direct writes; the log goes through the page cache");
                None
            }
        }
    }

    /// Whether such a write can be a direct one.
    pub(super) fn takes(&self, offset: u64, bytes: usize) -> bool {
        offset.is_multiple_of(PAGE_BYTES)
            && bytes.is_multiple_of(PAGE)
            && bytes > 0
            && !self.refused.load(Ordering::Relaxed)
    }

    /// Writes all of `bytes`, which [`DirectFile::takes`].
    pub(super) fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut at = offset;
        for part in bytes.chunks(CHUNK_BYTES) {
            match MEMORY.with_borrow_mut(|memory| self.file.write_all_at(aligned(memory, part), at)) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
                    // A refusal of the way, not a failure of the disk. All is written again, whatever part has gone.
                    self.refused.store(true, Ordering::Relaxed);
                    tracing::info!(%error, "this file system takes no direct writes; the log goes through the page cache");
                    return self.write_buffered(offset, bytes);
                }
                written => written?,
            }
            at += part.len() as u64;
        }
        Ok(())
    }

    fn write_buffered(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let flags = rustix::fs::fcntl_getfl(&self.file)? - rustix::fs::OFlags::DIRECT;
        rustix::fs::fcntl_setfl(&self.file, flags)?;
        self.file.write_all_at(bytes, offset)
    }
}

/// `part`, or a copy of it in `memory`, that begins at a page.
fn aligned<'a>(memory: &'a mut Vec<u8>, part: &'a [u8]) -> &'a [u8] {
    if part.as_ptr().align_offset(PAGE) == 0 {
        return part;
    }
    if memory.len() < part.len() + PAGE {
        *memory = vec![0; part.len() + PAGE];
    }
    let start = memory.as_ptr().align_offset(PAGE);
    let aligned = &mut memory[start..start + part.len()];
    aligned.copy_from_slice(part);
    aligned
}

#[cfg(test)]
mod tests {
    use super::super::file::{Files, OsFiles};
    use super::*;

    /// Whole pages, parts of pages, and what is larger than the memory for it: all is read as it was written, and what lies
    /// around it stays.
    #[test]
    fn what_is_written_in_any_way_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = OsFiles.create(&path).unwrap();
        let mut expected = vec![0u8; 3 << 20];
        file.write_at(0, &expected).unwrap();
        let writes = [
            (0, PAGE),
            (PAGE, 2 * CHUNK_BYTES + PAGE),
            (100, 50),
            (2 * PAGE - 1, 2),
            (5 * PAGE, 3 * PAGE),
            (PAGE, PAGE + 1),
        ];
        for (number, (offset, bytes)) in writes.into_iter().enumerate() {
            let written: Vec<u8> = (0..bytes).map(|at| (at * 7 + number) as u8).collect();
            file.write_at(offset as u64, &written).unwrap();
            expected[offset..offset + bytes].copy_from_slice(&written);
            let mut read = vec![0; expected.len()];
            file.read_at(0, &mut read).unwrap();
            assert!(read == expected, "after write {number}");
            assert!(fs::read(&path).unwrap() == expected, "after write {number}");
        }
        file.sync_data().unwrap();
    }

    /// A file system that takes the flag and then no direct write: the write is made, and later ones do not try.
    #[test]
    fn a_refusal_is_not_a_failure() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, vec![1; 2 * PAGE]).unwrap();
        let Some(direct) = DirectFile::open(&path) else {
            println!("skipped: the file system of the tests' directory has no direct writes");
            return;
        };
        // Refused by every file system: not whole pages.
        direct.write_at(0, &[7; 100]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [vec![7; 100], vec![1; 2 * PAGE - 100]].concat());
        assert!(!direct.takes(0, PAGE));
    }
}
