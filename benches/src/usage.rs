//! What a process takes of the system.

use std::path::Path;

/// At a moment, or from one to another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Resident memory in MiB.
    pub rss_mib: f64,
    /// Its peak since [`forget_peak`], in MiB.
    pub peak_mib: f64,
    /// Threads.
    pub threads: u64,
    /// Open files, sockets included.
    pub descriptors: u64,
    /// Processor time since the start, in milliseconds.
    pub cpu_ms: u64,
    /// What it has had written to disks since the start, in MiB, as far as the kernel counts it.
    pub written_mib: f64,
    /// What its files take on the disk, in MiB.
    pub disk_mib: f64,
}

/// Asks the system; what it does not tell is 0.
pub fn usage(process: u32, data_dir: &Path) -> Usage {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{process}/{name}")).unwrap_or_default();
    let (status, io) = (read("status"), read("io"));
    let number = |text: &str, name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
    };
    let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    Usage {
        rss_mib: number(&status, "VmRSS:") as f64 / 1024.0,
        peak_mib: number(&status, "VmHWM:") as f64 / 1024.0,
        threads: number(&status, "Threads:"),
        descriptors: std::fs::read_dir(format!("/proc/{process}/fd")).map_or(0, |files| files.count() as u64),
        cpu_ms: cpu_ms(&read("stat")).unwrap_or(0),
        written_mib: mib(number(&io, "write_bytes:")),
        disk_mib: mib(bytes_below(data_dir)),
    }
}

/// The peak of memory begins anew. Without the right to do so it is that of the whole life.
pub fn forget_peak(process: u32) {
    let _ = std::fs::write(format!("/proc/{process}/clear_refs"), "5");
}

fn cpu_ms(stat: &str) -> Option<u64> {
    // The name in brackets may hold anything; the numbers come after it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

/// What the files take on the disk; files that vanish meanwhile count nothing.
fn bytes_below(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes_below(&entry.path()),
        Ok(data) => data.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
