//! The log's view of a file system: a seam under which a simulated disk can tear, forget and fail.
//!
//! What an implementation may do: before [`File::sync_data`] returns, any part of what was written since the
//! last one may be lost in a crash, sector by sector; before [`Files::sync_dir`] returns, so may any creation,
//! removal or renaming in that directory. A sector (512 bytes) is either old or new, never a mixture.

use super::direct::DirectFile;
use std::ffi::OsString;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// The operations on names. One directory, used by one log at a time.
pub trait Files: Send + Sync + 'static {
    /// Makes the directory if it is missing. Its name is durable on return; the parent must exist.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// The names in a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// Makes an empty file; one of that name is emptied.
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// Gives a file another name; a file that has that name is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes all changes of names in this directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// A number that clients cannot guess; drawn once in the life of a log.
    fn random_number(&self) -> u64 {
        RandomState::new().hash_one("holdfast log")
    }
}

/// An open file.
pub trait File: Send + Sync {
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// The same where nothing waits for it to be durable: it may stay in the page cache.
    fn write_lazily_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(offset, bytes)
    }
    /// Fills all of `bytes` from `offset`.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;
    /// Makes everything written so far durable, the length included.
    fn sync_data(&self) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it still has a name. Files without names are lost when they are closed.
    fn has_name(&self) -> io::Result<bool> {
        Ok(true)
    }
    /// Whether nothing is in it.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// The operating system's files. Whole pages are written past the page cache ([`DirectFile`]).
#[derive(Clone, Copy, Debug, Default)]
pub struct OsFiles;

impl Files for OsFiles {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // Also when the directory was there: the process that made it may have died before it synced.
        match dir.parent() {
            Some(parent) if parent.as_os_str().is_empty() => self.sync_dir(Path::new(".")),
            Some(parent) => self.sync_dir(parent),
            None => Ok(()),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(OsFile::new(fs::OpenOptions::new().read(true).write(true).open(path)?, path)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Box::new(OsFile::new(file, path)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }
}

struct OsFile {
    file: fs::File,
    /// Whether it had links when it was opened: some file systems never count them.
    has_links: bool,
    direct: Option<DirectFile>,
}

impl OsFile {
    fn new(file: fs::File, path: &Path) -> Self {
        let has_links = file.metadata().is_ok_and(|found| found.nlink() > 0);
        Self { file, has_links, direct: DirectFile::open(path) }
    }
}

impl File for OsFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match &self.direct {
            Some(direct) if direct.takes(offset, bytes.len()) => direct.write_at(offset, bytes),
            _ => self.write_lazily_at(offset, bytes),
        }
    }

    fn write_lazily_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn has_name(&self) -> io::Result<bool> {
        Ok(!self.has_links || self.file.metadata()?.nlink() > 0)
    }
}
