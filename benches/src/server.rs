//! A server in a process of its own, with a fresh directory, and what the system says about it.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A start takes milliseconds; a loaded machine takes longer.
const START_PATIENCE: Duration = Duration::from_secs(60);
const READY_LINE: &str = "ready to serve client requests";

/// What it takes of the system at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Resident memory in MiB.
    pub rss_mib: f64,
    /// Its peak since [`Server::forget_peak`], in MiB.
    pub peak_mib: f64,
    /// Threads.
    pub threads: u64,
    /// Open files, sockets included.
    pub descriptors: u64,
    /// Processor time since the start, in milliseconds.
    pub cpu_ms: u64,
    /// Bytes of its files, in MiB.
    pub disk_mib: f64,
}

/// A running server. Dropping it ends the process and removes its directory.
pub struct Server {
    child: Child,
    /// Where clients reach it, as `host:port`.
    pub address: String,
    directory: TempDir,
}

impl Server {
    /// Starts `program`, with etcd's flags, and waits until it serves.
    ///
    /// # Errors
    /// When it cannot be started or does not serve in time; with what it wrote.
    pub fn start(program: &Path) -> io::Result<Server> {
        let directory = TempDir::with_prefix("holdfast-")?;
        // Free a moment ago; nobody else on the machine asks for ports at random.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let log = std::fs::File::create(directory.path().join("log"))?;
        let child = Command::new(program)
            .arg(format!("--data-dir={}", directory.path().join("data").display()))
            .arg(format!("--listen-client-urls=http://{address}"))
            .arg(format!("--advertise-client-urls=http://{address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.display())))?;
        let mut server = Server { child, address, directory };
        let begun = Instant::now();
        while !server.log().contains(READY_LINE) {
            if begun.elapsed() > START_PATIENCE || !server.runs() {
                return Err(io::Error::other(format!("it does not serve: {}", server.log())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    /// Where clients reach it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything it has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Whether the process still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The peak of memory begins anew. Without the right to do so it is that of the whole life.
    pub fn forget_peak(&self) {
        let _ = std::fs::write(self.proc("clear_refs"), "5");
    }

    /// What it takes now.
    pub fn usage(&self) -> Usage {
        let status = std::fs::read_to_string(self.proc("status")).unwrap_or_default();
        let number = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
        };
        Usage {
            rss_mib: number("VmRSS:") as f64 / 1024.0,
            peak_mib: number("VmHWM:") as f64 / 1024.0,
            threads: number("Threads:"),
            descriptors: std::fs::read_dir(self.proc("fd")).map_or(0, |files| files.count() as u64),
            cpu_ms: self.cpu_ms().unwrap_or(0),
            disk_mib: bytes_below(&self.directory.path().join("data")) as f64 / (1 << 20) as f64,
        }
    }

    fn cpu_ms(&self) -> Option<u64> {
        let stat = std::fs::read_to_string(self.proc("stat")).ok()?;
        // The name in brackets may hold anything; the numbers come after it.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
        Some(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.child.id()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
