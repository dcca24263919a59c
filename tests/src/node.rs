//! A node: a program with etcd's flags, its directory, its ports, its log.

use crate::{Certificates, etcd, subject};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::TcpListener;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// What process managers wait for.
const READY_LINE: &str = "ready to serve client requests";
/// A loaded machine of two cores still starts a node within this.
const START_LIMIT: Duration = Duration::from_secs(60);
/// And stops it within this.
const STOP_LIMIT: Duration = Duration::from_secs(30);
const POLL_EVERY: Duration = Duration::from_millis(5);
/// Where nodes listen.
const PORTS: Range<u32> = 12_000..32_000;
/// How much of a log a failing test shows.
const LOG_TAIL_BYTES: usize = 16 << 10;

/// How clients reach the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Plain,
    /// TCP with TLS, the node authenticated and its clients not.
    Tls,
    /// TCP with TLS, both sides authenticated.
    MutualTls,
    /// A socket in the node's directory.
    Unix,
}

/// What to start.
pub struct Setup {
    program: PathBuf,
    launcher: Vec<String>,
    transport: Transport,
    flags: Vec<String>,
    parent: PathBuf,
}

impl Setup {
    /// The program under test.
    pub fn subject() -> Setup {
        Setup::program(subject())
    }

    /// A real etcd.
    pub fn etcd() -> Setup {
        Setup::program(etcd().server())
    }

    /// Another program with etcd's flags.
    pub fn program(program: PathBuf) -> Setup {
        Setup {
            program,
            launcher: Vec::new(),
            transport: Transport::Plain,
            flags: Vec::new(),
            parent: std::env::temp_dir(),
        }
    }

    /// A program that runs it in its own process, with its arguments: `valgrind` and the like.
    pub fn under(mut self, launcher: Vec<String>) -> Setup {
        self.launcher = launcher;
        self
    }

    /// Another transport than plain TCP.
    pub fn transport(mut self, transport: Transport) -> Setup {
        self.transport = transport;
        self
    }

    /// One more flag, as in `--max-txn-ops=10`.
    pub fn flag(mut self, flag: impl Into<String>) -> Setup {
        self.flags.push(flag.into());
        self
    }

    /// Where to put its directory, instead of where temporary files go.
    pub fn parent(mut self, parent: impl Into<PathBuf>) -> Setup {
        self.parent = parent.into();
        self
    }

    /// Starts it and waits until it serves.
    pub fn start(self) -> Node {
        let mut node = self.prepare();
        node.start();
        node
    }

    /// Starts it and waits for nothing: for those who find out themselves whether it serves.
    pub fn launch(self) -> Node {
        let mut node = self.prepare();
        node.launch();
        node
    }

    /// Its directory, its addresses, its command line.
    fn prepare(self) -> Node {
        let directory = TempDir::with_prefix_in("holdfast-", &self.parent).expect("a temporary directory");
        let (url, certificates) = match self.transport {
            Transport::Plain => (format!("http://{}", free_address()), None),
            Transport::Unix => (format!("unix://{}", directory.path().join("socket").display()), None),
            Transport::Tls | Transport::MutualTls => {
                (format!("https://{}", free_address()), Some(Certificates::create(directory.path())))
            }
        };
        let peer = format!("http://{}", free_address());
        let mut command = self.launcher;
        command.push(self.program.display().to_string());
        command.extend([
            "--name=node".to_string(),
            format!("--data-dir={}", directory.path().join("data").display()),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=node={peer}"),
        ]);
        command.extend(certificates.iter().flat_map(Certificates::server_flags));
        let mutual = self.transport == Transport::MutualTls;
        command.extend(certificates.iter().filter(|_| mutual).flat_map(Certificates::mutual_flags));
        command.extend(self.flags);
        Node { program: self.program, command, url, mutual, certificates, child: None, directory }
    }
}

/// A program with a directory of its own, running or not.
pub struct Node {
    program: PathBuf,
    /// What is run: a launcher with its arguments, or the program itself; then the program's.
    command: Vec<String>,
    url: String,
    /// Whether it asks its clients who they are.
    mutual: bool,
    certificates: Option<Certificates>,
    child: Option<Child>,
    directory: TempDir,
}

impl Node {
    /// Where clients reach it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its data, which belongs to it alone while it runs.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The certificates, with [`Transport::Tls`] and [`Transport::MutualTls`].
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// All that it has written to its output so far, of all its starts.
    pub fn log(&self) -> String {
        fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The id of its process.
    ///
    /// # Panics
    /// If it does not run.
    pub fn process_id(&self) -> u32 {
        self.child.as_ref().expect("the node runs").id()
    }

    /// A new connection; it is made when it is first used and again when it broke.
    pub fn channel(&self) -> Channel {
        let mut endpoint = Endpoint::from_shared(self.url.clone())
            .expect("our own URLs are right")
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(5));
        if let Some(certificates) = &self.certificates {
            let client = if self.mutual { certificates.client() } else { certificates.anonymous_client() };
            endpoint = endpoint.tls_config(client).expect("our own certificates are right");
        }
        endpoint.connect_lazy()
    }

    /// Starts it, again with the same command line, and waits until it serves.
    ///
    /// # Panics
    /// If it runs, ends instead of serving, or takes too long.
    pub fn start(&mut self) {
        let before = self.log().len();
        self.launch();
        let deadline = Instant::now() + START_LIMIT;
        while !self.log()[before..].contains(READY_LINE) {
            if let Some(status) = self.exited() {
                panic!("the node ended before it served: {status}");
            }
            assert!(Instant::now() < deadline, "the node does not serve after {START_LIMIT:?}");
            std::thread::sleep(POLL_EVERY);
        }
    }

    /// Starts it and does not wait for anything: for those who want to kill it while it starts.
    ///
    /// # Panics
    /// If it runs.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "the node runs already");
        let log = File::options().create(true).append(true).open(self.log_path()).expect("the node's log");
        let child = Command::new(&self.command[0])
            .args(&self.command[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the node's log, twice"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.command[0]));
        self.child = Some(child);
    }

    /// How it ended, if it did so by itself since it was started.
    ///
    /// # Panics
    /// If it was not started.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.running().try_wait().expect("our own child")
    }

    /// Ends it without a chance to do anything, as a power failure would (the page cache survives).
    pub fn kill(&mut self) {
        self.running().kill().expect("our own child");
        self.running().wait().expect("our own child");
        self.child = None;
    }

    /// Asks it to end, as a process manager would.
    ///
    /// # Panics
    /// If it does not.
    pub fn stop(&mut self) -> ExitStatus {
        let id = Pid::from_raw(i32::try_from(self.process_id()).expect("ids of processes are small"));
        kill_process(id.expect("no process has id 0"), Signal::TERM).expect("our own child");
        let deadline = Instant::now() + STOP_LIMIT;
        loop {
            if let Some(status) = self.exited() {
                self.child = None;
                return status;
            }
            assert!(Instant::now() < deadline, "the node did not stop within {STOP_LIMIT:?} of SIGTERM");
            std::thread::sleep(POLL_EVERY);
        }
    }

    fn running(&mut self) -> &mut Child {
        self.child.as_mut().expect("the node runs")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(LOG_TAIL_BYTES);
            let from = log[..from].rfind('\n').map_or(0, |newline| newline + 1);
            eprintln!("the end of the log of {}:\n{}", self.program.display(), &log[from..]);
        }
    }
}

/// An address that nobody listened on a moment ago, and that this process has not given out before.
///
/// The ports lie below those that the kernel gives to outgoing connections: none of these takes one between now and the
/// node's start.
fn free_address() -> String {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Tests that run at the same time begin at different places.
    let first = std::process::id().wrapping_mul(61);
    loop {
        let next = first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + next % (PORTS.end - PORTS.start);
        let address = format!("127.0.0.1:{port}");
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}
