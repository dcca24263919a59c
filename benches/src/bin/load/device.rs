//! What a disk says about itself: bytes written and cache flushes.
//!
//! The kernel's count for a process (`write_bytes` in /proc/PID/io) is of no use: where the page cache works in large
//! folios, a write of one kilobyte into a file that was written before is counted as up to two megabytes. The device counts
//! what it was really given, the file system's journal included, but for everybody: nobody else may use the disk while it is
//! measured. What the page cache still holds is written out before and after, so that each server pays for its own.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const SECTOR_BYTES: u64 = 512;
/// Places in the kernel's list of numbers of a block device.
const SECTORS_WRITTEN: usize = 6;
const FLUSHES: usize = 15;

/// The block device below a directory.
pub struct Device {
    directory: File,
    counters: PathBuf,
    /// Partitions do not count flushes; their disk does.
    disk_counters: PathBuf,
}

/// Since the machine has been up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub written_bytes: u64,
    pub flushes: u64,
}

impl Device {
    /// None if the directory is in memory, on a network, or on layers of others.
    pub fn below(directory: &Path) -> Option<Self> {
        let number = std::fs::metadata(directory).ok()?.dev();
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        let device = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
        let disk = if device.join("partition").exists() { device.parent()?.into() } else { device.clone() };
        let this = Self {
            directory: File::open(directory).ok()?,
            counters: device.join("stat"),
            disk_counters: disk.join("stat"),
        };
        this.counters().map(|_| this)
    }

    /// Its name, and whether it says that it has a cache that has to be flushed.
    pub fn about(&self) -> String {
        let disk = self.disk_counters.parent().unwrap_or(Path::new(""));
        let name = self.counters.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let cache = std::fs::read_to_string(disk.join("queue/write_cache")).unwrap_or_default();
        format!("{name}, write cache: {}", cache.trim())
    }

    /// Writes out what the page cache holds for it.
    pub fn settle(&self) {
        // Of use for figures only; a file system that refuses leaves them less exact.
        let _ = rustix::fs::syncfs(&self.directory);
    }

    pub fn counters(&self) -> Option<Counters> {
        let written_bytes = number(&std::fs::read_to_string(&self.counters).ok()?, SECTORS_WRITTEN)?;
        let flushes = number(&std::fs::read_to_string(&self.disk_counters).ok()?, FLUSHES)?;
        Some(Counters { written_bytes: written_bytes * SECTOR_BYTES, flushes })
    }
}

fn number(text: &str, place: usize) -> Option<u64> {
    text.split_whitespace().nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_kernels_numbers_are_read_at_their_places() {
        let text = " 9856513 387556 540963002 17824097 7522292 810117 1163553592 3610243 1 1527180 22090605 753845 109 \
                    1563218728 213231 2694116 443032";
        assert_eq!(
            (number(text, SECTORS_WRITTEN), number(text, FLUSHES)),
            (Some(1_163_553_592), Some(2_694_116))
        );
        assert_eq!(number("1 2 3", FLUSHES), None);
    }

    #[test]
    fn a_disk_counts_a_synced_write() {
        let directory = tempfile::tempdir().unwrap();
        // In memory there is nothing to count.
        let Some(device) = Device::below(directory.path()) else { return };
        let before = device.counters().unwrap();
        let mut file = File::create(directory.path().join("file")).unwrap();
        file.write_all(&[7; 64 << 10]).unwrap();
        file.sync_all().unwrap();
        let after = device.counters().unwrap();
        assert!(after.written_bytes >= before.written_bytes + (64 << 10), "{before:?} {after:?}");
    }
}
