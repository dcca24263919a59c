//! The machine that figures come from: without it they cannot be compared.

use std::fs;
use std::path::Path;

/// Processors, memory, kernel, in a line.
pub fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = field(&read("/proc/cpuinfo"), "model name");
    let memory_mib = field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse::<u64>();
    format!(
        "{cores} cores ({}, {}), {} MiB, Linux {}",
        if cpu.is_empty() { "model unknown" } else { &cpu },
        std::env::consts::ARCH,
        memory_mib.unwrap_or(0) / 1024,
        read("/proc/sys/kernel/osrelease").trim()
    )
}

/// The load of the last minutes: others at work make figures worse.
pub fn load() -> String {
    read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// The compiler, this crate, RocksDB.
pub fn versions() -> String {
    format!(
        "holdfast {}, RocksDB {}, {}, optimisation {}",
        env!("CARGO_PKG_VERSION"),
        env!("BENCHES_ROCKSDB"),
        env!("BENCHES_RUSTC"),
        env!("BENCHES_OPTIMISATION")
    )
}

/// What a directory lies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// As in `ext4`.
    pub kind: String,
    /// The device, or what stands in its place.
    pub device: String,
}

impl FileSystem {
    /// Of a directory that exists.
    pub fn of(directory: &Path) -> FileSystem {
        let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_path_buf());
        find(&read("/proc/self/mountinfo"), &directory)
            .unwrap_or(FileSystem { kind: "unknown".into(), device: "unknown".into() })
    }

    /// Whether a sync there writes nothing.
    pub fn is_memory(&self) -> bool {
        matches!(self.kind.as_str(), "tmpfs" | "ramfs")
    }

    /// With the kind of disk, if the kernel tells.
    pub fn describe(&self) -> String {
        let name = self.device.trim_start_matches("/dev/");
        let turns = read(&format!("/sys/class/block/{name}/queue/rotational"));
        let disk = match turns.trim() {
            "0" => ", not rotational",
            "1" => ", rotational, as the kernel has it",
            _ => "",
        };
        format!("{} on {}{disk}", self.kind, self.device)
    }
}

/// The mount that `directory` is on: of several with the same path the last one lies on top.
fn find(mounts: &str, directory: &Path) -> Option<FileSystem> {
    let parse = |line: &str| {
        let (mount, what) = line.split_once(" - ")?;
        // A blank in a path is written as an octal number.
        let path = mount.split(' ').nth(4)?.replace("\\040", " ");
        let mut what = what.split(' ');
        let found = FileSystem { kind: what.next()?.into(), device: what.next()?.into() };
        directory.starts_with(&path).then_some((path.len(), found))
    };
    mounts.lines().filter_map(parse).max_by_key(|(length, _)| *length).map(|(_, found)| found)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The first line `name : value`.
fn field(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_and_newest_mount_counts() {
        let mounts = "1 0 254:0 / / rw - ext4 /dev/vda rw\n\
                      2 1 0:20 / /data rw shared:1 - xfs /dev/vdb rw\n\
                      3 2 0:21 / /data rw - btrfs /dev/vdc rw\n\
                      4 1 0:22 / /with\\040blank rw - tmpfs tmpfs rw\n";
        let kind = |path: &str| find(mounts, Path::new(path)).map(|found| found.kind);
        assert_eq!(kind("/tmp/x").as_deref(), Some("ext4"));
        assert_eq!(kind("/data/x").as_deref(), Some("btrfs"));
        assert_eq!(kind("/database").as_deref(), Some("ext4"));
        assert_eq!(kind("/with blank/x").as_deref(), Some("tmpfs"));
    }

    #[test]
    fn the_versions_are_known() {
        let versions = versions();
        assert!(versions.contains("rustc 1.") && !versions.contains("RocksDB ,"), "{versions}");
    }
}
