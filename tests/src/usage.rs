//! What a node takes of the system.

use std::path::{Path, PathBuf};
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
    /// Open files, sockets included. The storage engine opens and closes tables as it likes.
    pub files: u64,
    /// Open sockets.
    pub sockets: u64,
    /// Processor time since the start.
    pub cpu_ms: u64,
    /// What it has had written to disks since the start, as far as the kernel counts it.
    pub written_bytes: u64,
}

/// The peak of a process's memory begins anew. A system that refuses leaves the peak of its whole life.
pub fn forget_peak(process_id: u32) {
    let _ = std::fs::write(format!("/proc/{process_id}/clear_refs"), "5");
}

impl Usage {
    /// Of the process with this id.
    pub fn of(process_id: u32) -> Usage {
        let proc = PathBuf::from(format!("/proc/{process_id}"));
        let read = |name: &str| std::fs::read_to_string(proc.join(name)).expect("the process runs");
        let (status, io) = (read("status"), read("io"));
        let number_in = |text: &str, name: &str| -> u64 {
            let line = text.lines().find(|line| line.starts_with(name)).expect("the kernel tells");
            line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        let number = |name: &str| number_in(&status, name);
        let files: Vec<_> = std::fs::read_dir(proc.join("fd")).expect("our own child").flatten().collect();
        let is_socket = |file: &std::fs::DirEntry| {
            // It may be closed by now.
            std::fs::read_link(file.path())
                .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        };
        Usage {
            memory_mib: number("VmRSS:") >> 10,
            peak_mib: number("VmHWM:") >> 10,
            threads: number("Threads:"),
            files: files.len() as u64,
            sockets: files.iter().filter(|file| is_socket(file)).count() as u64,
            cpu_ms: cpu_ms(&read("stat")),
            written_bytes: number_in(&io, "write_bytes:"),
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

fn cpu_ms(stat: &str) -> u64 {
    // The name in brackets may hold anything; the numbers come after it.
    let fields = stat.rsplit_once(')').expect("the kernel tells").1.split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    ticks * 1000 / rustix::param::clock_ticks_per_second()
}

/// What the files below a directory take on the disk; files that vanish meanwhile count nothing.
pub fn disk_bytes(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => disk_bytes(&entry.path()),
        Ok(data) => data.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
