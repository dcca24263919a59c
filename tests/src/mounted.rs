//! Small file systems of their own, to be filled or made read-only. Needs root: where mounting is not permitted, there is
//! none, and [`skipped`] has said so.

use crate::skip::skipped;
use rustix::fs::statvfs;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A loop device that is busy for a moment looks like one that is not permitted: so often it is tried, so far apart.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// Which file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In memory.
    Tmpfs,
    /// In a file, through a loop device.
    Ext4,
}

/// A file system of its own, until it is dropped.
#[derive(Debug)]
pub struct Mounted {
    at: PathBuf,
}

impl Mounted {
    /// Mounts one of so many MiB at `at`; the file of a loop device lies beside it. `None` where that is not permitted.
    ///
    /// # Panics
    /// When `at` cannot be made, and instead of `None` when nothing may be skipped.
    pub fn new(kind: Kind, at: &Path, mib: u32) -> Option<Mounted> {
        fs::create_dir_all(at).expect("a directory");
        let mut command = Command::new("mount");
        match kind {
            Kind::Tmpfs => {
                command.args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0700"), "tmpfs"]);
            }
            Kind::Ext4 => {
                let image = at.with_extension("image");
                let file = fs::File::create(&image).expect("a file");
                file.set_len(u64::from(mib) << 20).expect("a length");
                let mut mkfs = Command::new("mkfs.ext4");
                if !permitted(mkfs.args(["-q", "-F", "-m", "0"]).arg(&image)) {
                    return None;
                }
                command.args(["-o", "loop"]).arg(&image);
            }
        }
        if !permitted(command.arg(at)) {
            return None;
        }
        let mounted = Mounted { at: at.to_path_buf() };
        fs::create_dir_all(mounted.filler_dir()).expect("a directory");
        Some(mounted)
    }

    /// A name that a data directory may hold: the file system's own.
    fn filler_dir(&self) -> PathBuf {
        self.at.join("lost+found")
    }

    /// # Panics
    /// When the file system does not answer.
    pub fn free_bytes(&self) -> u64 {
        let space = statvfs(&self.at).expect("the file system");
        space.f_bavail * space.f_frsize
    }

    /// Takes all room but so many KiB.
    ///
    /// # Panics
    /// When no file can be made for it.
    pub fn leave_kib(&self, kib: u64) {
        let path = self.filler_dir().join("filler");
        let mut file = fs::File::options().create(true).append(true).open(path).expect("a file");
        let block = vec![1; 1 << 18];
        loop {
            let left = self.free_bytes().saturating_sub(kib << 10);
            let size = left.min(block.len() as u64) as usize;
            // The last bytes of a file system may not be for everybody.
            if size == 0 || file.write_all(&block[..size]).is_err() {
                return;
            }
        }
    }

    /// Frees what was taken.
    ///
    /// # Panics
    /// When nothing was.
    pub fn give_back(&self) {
        fs::remove_file(self.filler_dir().join("filler")).expect("the filler goes");
    }

    /// Mounts it again with other options, `ro` for one.
    ///
    /// # Panics
    /// When that fails: who may mount may do this too.
    pub fn remount(&self, options: &str) {
        let mut command = Command::new("mount");
        let status = command.args(["-o", &format!("remount,{options}")]).arg(&self.at).status();
        assert!(status.expect("mount").success(), "{command:?}");
    }
}

fn permitted(command: &mut Command) -> bool {
    let mut why = String::new();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            std::thread::sleep(PAUSE);
        }
        match command.output() {
            Ok(output) if output.status.success() => return true,
            Ok(output) => why = String::from_utf8_lossy(&output.stderr).trim().to_string(),
            Err(error) => {
                why = error.to_string();
                break;
            }
        }
    }
    skipped("a file system of its own", &format!("{command:?}: {why}"));
    false
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Also when the test has failed and a server still has files open here.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}
