//! Where the data directories lie: a file system on a disk and one in memory, whichever this machine has.
//!
//! A process that is killed takes nothing with it that it has written, on either; what differs is how long a sync takes, and
//! so where in its work the process is hit: on a disk most often inside a sync, in memory nearly always elsewhere.

use holdfast_tests::{has_room, skipped};
use rustix::fs::statfs;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// `f_type` of ext2, ext3 and ext4, which share it.
const EXT_MAGIC: i64 = 0xef53;
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// A directory to put data directories into.
pub struct Disk {
    pub directory: PathBuf,
    /// What it is, for people.
    pub name: String,
}

/// One directory on ext4 and one on tmpfs. What is not to be had is said loudly; without both there is the directory for
/// temporary files, whatever it lies on.
pub fn found() -> Vec<Disk> {
    let temporary = std::env::temp_dir();
    let built = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let on_disk = [temporary.clone(), built, "/var/tmp".into()];
    let in_memory = [PathBuf::from("/dev/shm"), temporary.clone(), "/run".into()];
    let mut disks = Vec::new();
    for (name, magic, places) in [("ext4", EXT_MAGIC, &on_disk[..]), ("tmpfs", TMPFS_MAGIC, &in_memory[..])] {
        // What containers are given of memory may be too small for a store.
        let is_large = |place: &Path| magic != TMPFS_MAGIC || has_room(place);
        let is_good = |place: &Path| magic_of(place) == Some(magic) && is_large(place) && is_writable(place);
        match places.iter().find(|place| is_good(place)) {
            Some(place) => disks.push(disk(place)),
            None => skipped(&format!("kills on {name}"), &format!("none of {places:?} is on one with room")),
        }
    }
    if disks.is_empty() {
        disks.push(disk(&temporary));
    }
    disks
}

fn disk(directory: &Path) -> Disk {
    let magic = magic_of(directory).unwrap_or_default();
    let mounted = mounted(directory).unwrap_or_else(|| "of unknown type".into());
    Disk {
        directory: directory.into(),
        name: format!("{} ({mounted}, f_type {magic:#x})", directory.display()),
    }
}

fn magic_of(directory: &Path) -> Option<i64> {
    Some(statfs(directory).ok()?.f_type)
}

fn is_writable(directory: &Path) -> bool {
    tempfile::tempdir_in(directory).is_ok()
}

/// The type under which the kernel has mounted it: the one thing that tells ext4 from its elders.
fn mounted(directory: &Path) -> Option<String> {
    let device = fs::metadata(directory).ok()?.dev();
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(&device))?;
    Some(line.split_once(" - ")?.1.split(' ').next()?.to_string())
}
