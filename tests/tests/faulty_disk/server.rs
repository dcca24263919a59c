//! A server whose start and end are both of interest: it may refuse to start, and it may end by itself.

use holdfast_tests::{check_advice, subject};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

const READY_LINE: &str = "ready to serve client requests";
/// A start or an end takes far less, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(3);
/// How drafts end: an error about one names the file that it was to become.
const DRAFTS: &[&str] = &["new", "preparing"];

/// A data directory and the servers that run on it, one at a time.
pub struct Place {
    directory: TempDir,
}

/// One process.
pub struct Server {
    child: Child,
    output: PathBuf,
}

/// How a process ended.
pub struct End {
    pub status: ExitStatus,
    pub text: String,
}

impl Place {
    pub fn new() -> Place {
        Place { directory: TempDir::with_prefix("holdfast-").expect("a temporary directory") }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Where the faulty disk notes what it has done.
    pub fn note(&self) -> PathBuf {
        self.directory.path().join("note")
    }

    /// A fault may be bound to this file, see [`Fault::environment`](crate::library::Fault::environment).
    pub fn trigger(&self) -> PathBuf {
        self.directory.path().join("trigger")
    }

    pub fn channel(&self) -> Channel {
        let url = format!("unix://{}", self.directory.path().join("socket").display());
        Endpoint::from_shared(url).expect("our own URL").connect_lazy()
    }

    /// Starts a server and waits until it serves, or has ended.
    pub fn start(&self, environment: &[(&'static str, String)]) -> Result<Server, End> {
        let output = self.directory.path().join("output");
        let file = File::create(&output).expect("a file");
        let url = format!("unix://{}", self.directory.path().join("socket").display());
        let mut command = Command::new(subject());
        command
            .arg(format!("--data-dir={}", self.data_dir().display()))
            .arg(format!("--listen-client-urls={url}"))
            .arg(format!("--advertise-client-urls={url}"))
            .envs(environment.iter().map(|(name, text)| (name, text)))
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("the file, twice"))
            .stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut server = Server { child, output };
        let deadline = Instant::now() + PATIENCE;
        while !server.text().contains(READY_LINE) {
            if let Some(end) = server.ended() {
                return Err(end);
            }
            assert!(Instant::now() < deadline, "it neither serves nor ends: {}", server.text());
            std::thread::sleep(POLL_EVERY);
        }
        Ok(server)
    }
}

impl Server {
    fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Its end, if it has ended by itself.
    pub fn ended(&mut self) -> Option<End> {
        let status = self.child.try_wait().expect("our own child")?;
        Some(End { status, text: self.text() })
    }

    /// Waits for an end that is due.
    pub fn wait(mut self) -> End {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(end) = self.ended() {
                return end;
            }
            assert!(Instant::now() < deadline, "it goes on: {}", self.text());
            std::thread::sleep(POLL_EVERY);
        }
    }

    /// Asks it to end.
    pub fn stop(self) -> End {
        let id =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("ids of processes are small");
        // It may be gone already, but its id is ours until it is waited for.
        let _ = kill_process(id, Signal::TERM);
        self.wait()
    }

    /// Ends it without a chance to do anything.
    pub fn kill(mut self) {
        let _ = self.child.kill();
    }
}

fn is_named(line: &str, path: &Path) -> bool {
    let name = path.file_name().expect("a file has a name");
    line.contains(&*name.to_string_lossy())
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl End {
    /// It ended because of an error of which the operator was told: the file, and what to do.
    #[track_caller]
    pub fn check_told(&self, data_dir: &Path, about: &str) {
        let about = format!("{about}: {}", self.text);
        assert!(!self.text.contains("panicked"), "{about}");
        let code = self.status.code().unwrap_or_else(|| panic!("{}: {about}", self.status));
        assert_ne!(code, 0, "{about}");
        let line = self.last_line(&about);
        assert!(line.contains(&data_dir.display().to_string()), "no file is named: {line}");
        check_advice(line, &about);
    }

    /// The error is about a file on which a call failed, as the faulty disk has noted them: a call and a path in each line.
    #[track_caller]
    pub fn check_named(&self, note: &str, about: &str) {
        let line = self.last_line(about);
        let is_told = |path: &Path| {
            let is_draft = path.extension().is_some_and(|end| DRAFTS.iter().any(|draft| end == *draft));
            is_named(line, path) || is_draft && is_named(line, &path.with_extension(""))
        };
        let mut paths = note.lines().filter_map(|failed| failed.split_once(' ')).map(|(_, path)| path);
        assert!(paths.any(|path| is_told(Path::new(path))), "the file is not named: {about}: {note}: {line}");
    }

    /// What it said last to people.
    #[track_caller]
    fn last_line(&self, about: &str) -> &str {
        let line = self.text.lines().rfind(|line| line.starts_with("etcd-shim: "));
        line.unwrap_or_else(|| panic!("no line for people: {about}: {}", self.text))
    }
}
