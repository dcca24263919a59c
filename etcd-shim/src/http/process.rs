//! What the kernel knows of this process.

use super::exposition::Exposition;
use std::fs;
use std::sync::OnceLock;

/// Ticks of the processor clock in /proc; Linux fixes it at 100 for user space.
const TICKS_PER_SECOND: f64 = 100.0;

/// Writes the usual `process_*` metrics and etcd's two about file descriptors. What /proc does not tell is
/// left out.
pub fn expose(out: &mut Exposition) {
    if let Some(stat) = Stat::read() {
        out.gauge(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
            stat.cpu_s,
        );
        out.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", stat.virtual_bytes);
        out.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", stat.resident_bytes);
        if let Some(booted_s) = boot_time_s() {
            let started_s = booted_s + stat.started_after_boot_s;
            out.gauge(
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
                started_s,
            );
        }
    }
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    let limit = descriptors_max().map(|limit| limit as f64);
    for (used_name, limit_name) in [("process_open_fds", "process_max_fds"), ("os_fd_used", "os_fd_limit")] {
        if let Some(open) = open {
            out.gauge(used_name, "Number of open file descriptors.", open);
        }
        if let Some(limit) = limit {
            out.gauge(limit_name, "Maximum number of open file descriptors.", limit);
        }
    }
}

/// How many files this process may have open.
pub fn descriptors_max() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

struct Stat {
    cpu_s: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
    started_after_boot_s: f64,
}

impl Stat {
    fn read() -> Option<Stat> {
        Stat::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    fn parse(text: &str) -> Option<Stat> {
        // The second field is the program's name in parentheses and may hold anything.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<f64> = rest.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
        // proc(5) counts from 1 and `rest` begins with field 3.
        let field = |number: usize| fields.get(number - 3).copied();
        let page_bytes = rustix::param::page_size() as f64;
        Some(Stat {
            cpu_s: (field(14)? + field(15)?) / TICKS_PER_SECOND,
            started_after_boot_s: field(22)? / TICKS_PER_SECOND,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page_bytes,
        })
    }
}

fn boot_time_s() -> Option<f64> {
    static BOOT_TIME: OnceLock<Option<f64>> = OnceLock::new();
    *BOOT_TIME.get_or_init(|| {
        let text = fs::read_to_string("/proc/stat").ok()?;
        text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found() {
        let mut out = Exposition::default();
        expose(&mut out);
        let text = out.into_text();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).expect(name);
            line.split(' ').nth(1).unwrap().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - value("process_start_time_seconds")).abs() < 3600.0);
    }

    #[test]
    fn a_name_with_parentheses_is_no_trouble() {
        let text = "1 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 100 200 13 14 15 16 17 18 300 4096 2 21";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.cpu_s, stat.started_after_boot_s, stat.virtual_bytes), (3.0, 3.0, 4096.0));
        assert!(Stat::parse("1 (a) S").is_none());
    }
}
