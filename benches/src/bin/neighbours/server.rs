//! The server under attack: its process, and what the system says about it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A start takes milliseconds; a loaded machine takes longer.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// What it takes of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Memory in MiB, now.
    pub rss_mib: u64,
    /// Its peak since [`Server::forget_peak`].
    pub peak_mib: u64,
    pub threads: u64,
    /// Not all open files: the storage engine opens and closes them as it likes.
    pub sockets: u64,
}

/// A running server with a fresh directory.
pub struct Server {
    child: Child,
    pub address: String,
    directory: TempDir,
}

impl Server {
    pub fn start(program: &Path) -> std::io::Result<Server> {
        let directory = TempDir::with_prefix("holdfast-")?;
        // Free a moment ago; nobody else on the machine asks for ports at random.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let log = std::fs::File::create(directory.path().join("log"))?;
        let child = Command::new(program)
            .arg(format!("--data-dir={}", directory.path().join("data").display()))
            .arg(format!("--listen-client-urls=http://{address}"))
            .arg(format!("--advertise-client-urls=http://{address}"))
            // Attacks with large values write more than the default allows, and nothing is compacted.
            .arg(format!("--quota-backend-bytes={}", 16u64 << 30))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let server = Server { child, address, directory };
        let begun = Instant::now();
        while !server.log().contains("ready to serve client requests") {
            if begun.elapsed() > START_PATIENCE {
                return Err(std::io::Error::other(format!("it does not serve: {}", server.log())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.child.id()))
    }

    /// The peak of memory begins anew.
    pub fn forget_peak(&self) {
        // Without the right to do so, the peak is that of the whole life.
        let _ = std::fs::write(self.proc("clear_refs"), "5");
    }

    fn sockets(&self) -> u64 {
        let Ok(files) = std::fs::read_dir(self.proc("fd")) else { return 0 };
        // One may be closed by now.
        let targets = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
        targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count() as u64
    }

    pub fn usage(&self) -> Usage {
        let status = std::fs::read_to_string(self.proc("status")).unwrap_or_default();
        let number = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
        };
        Usage {
            rss_mib: number("VmRSS:") >> 10,
            peak_mib: number("VmHWM:") >> 10,
            threads: number("Threads:"),
            sockets: self.sockets(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
