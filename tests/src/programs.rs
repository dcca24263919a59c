//! Where the programs are that tests start.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A real etcd and its tools.
pub struct Etcd {
    directory: PathBuf,
}

impl Etcd {
    /// The server.
    pub fn server(&self) -> PathBuf {
        self.directory.join("etcd")
    }
    /// The client on the command line.
    pub fn etcdctl(&self) -> PathBuf {
        self.directory.join("etcdctl")
    }
    /// The tool for data directories and snapshots.
    pub fn etcdutl(&self) -> PathBuf {
        self.directory.join("etcdutl")
    }
}

/// The newest etcd, built by `scripts/peers` if it is not there yet (a minute, once per machine).
pub fn etcd() -> &'static Etcd {
    static ETCD: OnceLock<Etcd> = OnceLock::new();
    ETCD.get_or_init(|| {
        let mut command = Command::new(repository().join("scripts/peers"));
        Etcd { directory: PathBuf::from(output(command.arg("etcd"))) }
    })
}

/// The newest etcd, or `None` with the reason on standard error: without Go, or without a way to its modules.
pub fn etcd_if_possible() -> Option<&'static Etcd> {
    let built = Command::new(repository().join("scripts/peers")).arg("etcd").stdout(Stdio::null()).status();
    built.is_ok_and(|status| status.success()).then(etcd)
}

/// The program under test: `HOLDFAST_PROGRAM`, or else the server as it is in this repository, which cargo has built
/// beside the test (`node-under-test` in Cargo.toml).
pub fn subject() -> PathBuf {
    if let Some(program) = std::env::var_os("HOLDFAST_PROGRAM") {
        return PathBuf::from(program);
    }
    // Tests lie in TARGET/PROFILE/deps, programs in TARGET/PROFILE.
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.ancestors().nth(2).expect("a test lies in the target directory");
    profile.join("node-under-test")
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

fn output(command: &mut Command) -> String {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}
