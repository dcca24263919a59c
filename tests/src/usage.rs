//! What a node takes of the system.

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// At one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The most that it was since [`forget_peak`].
    pub peak_mib: u64,
    /// Threads.
    pub threads: u64,
    /// Open sockets. Not all files: the storage engine opens and closes them as it likes.
    pub sockets: u64,
}

/// The peak of a process's memory begins anew. A system that refuses leaves the peak of its whole life.
pub fn forget_peak(process_id: u32) {
    let _ = std::fs::write(format!("/proc/{process_id}/clear_refs"), "5");
}

impl Usage {
    /// Of the process with this id.
    pub fn of(process_id: u32) -> Usage {
        let proc = PathBuf::from(format!("/proc/{process_id}"));
        let status = std::fs::read_to_string(proc.join("status")).expect("the process runs");
        let number = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).expect("the kernel tells");
            line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        let files = std::fs::read_dir(proc.join("fd")).expect("our own child");
        let is_socket = |file: &std::fs::DirEntry| {
            // It may be closed by now.
            std::fs::read_link(file.path())
                .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        };
        Usage {
            memory_mib: number("VmRSS:") >> 10,
            peak_mib: number("VmHWM:") >> 10,
            threads: number("Threads:"),
            sockets: files.flatten().filter(is_socket).count() as u64,
        }
    }

    /// Waits until no more sockets are open than in `self`, and hardly more threads run.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn comes_back(self, process_id: u32, patience: Duration) {
        /// Threads for reads and hashes rest for some seconds before they end.
        const THREADS_SLACK: u64 = 4;
        let begun = Instant::now();
        loop {
            let now = Usage::of(process_id);
            if now.sockets <= self.sockets && now.threads <= self.threads + THREADS_SLACK {
                return;
            }
            assert!(begun.elapsed() < patience, "{now:?} is left behind, {self:?} it was");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
