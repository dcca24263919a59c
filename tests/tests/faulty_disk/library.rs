//! The library that makes calls fail, compiled once for all tests of this run.

use holdfast_tests::skipped;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const WHAT: &str = "calls that fail";

/// The library; `None`, said loudly, where there is no C compiler or no LD_PRELOAD.
pub fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    LIBRARY.get_or_init(compile).as_deref()
}

fn compile() -> Option<PathBuf> {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        skipped(WHAT, "they are put under the server by the dynamic linker of glibc");
        return None;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faulty_disk/faulty_disk.c");
    let test = std::env::current_exe().expect("a test knows where it is");
    // Beside the test; under a name of this process first, since another run may be loading it.
    let library = test.with_file_name("libfaulty_disk.so");
    let draft = test.with_file_name(format!("libfaulty_disk.{}.so", std::process::id()));
    let mut command = Command::new("cc");
    command.args(["-Wall", "-Wextra", "-O1", "-shared", "-fPIC", "-o"]).arg(&draft).arg(&source);
    match command.args(["-ldl", "-lpthread"]).status() {
        Ok(status) => assert!(status.success(), "{command:?}: {status}"),
        Err(error) => {
            skipped(WHAT, &format!("no C compiler: cc: {error}"));
            return None;
        }
    }
    std::fs::rename(&draft, &library).expect("a file can be renamed beside itself");
    Some(library)
}

/// What fails, where, and when.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The call.
    pub call: &'static str,
    /// What the file's path contains.
    pub place: &'static str,
    /// How many such calls work first.
    pub after: u32,
    /// How many fail then; 0: all.
    pub times: u32,
    /// With which error; 0: half of what was asked for is moved.
    pub error: i32,
}

pub const EIO: i32 = 5;
pub const ENOSPC: i32 = 28;
/// No error: less is read or written than was asked for.
pub const SHORT: i32 = 0;

impl Fault {
    /// The same call works `after` times, fails once, and works again.
    pub fn once(call: &'static str, place: &'static str, after: u32, error: i32) -> Fault {
        Fault { call, place, after, times: 1, error }
    }

    /// From then on it always fails.
    pub fn for_ever(self) -> Fault {
        Fault { times: 0, ..self }
    }

    /// The environment that makes it happen; each failure is noted in `note`.
    pub fn environment(&self, library: &Path, note: &Path) -> Vec<(&'static str, String)> {
        vec![
            ("LD_PRELOAD", library.display().to_string()),
            ("FAULTY_CALL", self.call.to_string()),
            ("FAULTY_PATH", self.place.to_string()),
            ("FAULTY_AFTER", self.after.to_string()),
            ("FAULTY_TIMES", self.times.to_string()),
            ("FAULTY_ERRNO", self.error.to_string()),
            ("FAULTY_NOTE", note.display().to_string()),
        ]
    }
}
