//! Running something under valgrind's callgrind, and reading how many instructions it executed.

use crate::work::{NOTHING, Operation};
use crate::{ENGINE, Failure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The version, or what to do if there is none.
pub fn version() -> Result<String, Failure> {
    let output = Command::new("valgrind").arg("--version").output();
    let output = output
        .map_err(|error| format!("valgrind: {error}; install it (Debian: valgrind), or use scripts/cost"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// Where the results lie, beside cargo's: they say which function executed what.
pub fn directory() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).ok_or("this program lies in no target directory")?;
    let directory = target.join("cost");
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// The file for the results of one run.
pub fn output(directory: &Path, subject: &str, operation: Option<Operation>) -> PathBuf {
    directory.join(format!("{subject}-{}.out", name(operation)))
}

/// What goes before a command line to count what it executes, threads together.
pub fn command(output: &Path) -> Vec<String> {
    vec![
        "valgrind".into(),
        "--tool=callgrind".into(),
        // What it says of itself goes to a file; what the program says stays where it was.
        format!("--log-file={}", output.with_extension("log").display()),
        format!("--callgrind-out-file={}", output.display()),
    ]
}

/// Runs this program as the engine; gives what it executed.
pub fn engine(directory: &Path, operation: Option<Operation>) -> Result<u64, Failure> {
    let output = output(directory, ENGINE, operation);
    let command = command(&output);
    let status = Command::new(&command[0])
        .args(&command[1..])
        .arg(std::env::current_exe()?)
        .args([ENGINE, name(operation)])
        .stdin(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(format!("the engine ended with {status}").into());
    }
    instructions(&output)
}

/// What a run executed, by its results.
pub fn instructions(output: &Path) -> Result<u64, Failure> {
    let text = std::fs::read(output).map_err(|error| format!("{}: {error}", output.display()))?;
    total(&String::from_utf8_lossy(&text))
        .ok_or(format!("{} has no total: the run was cut off", output.display()).into())
}

fn total(results: &str) -> Option<u64> {
    results.lines().find_map(|line| line.strip_prefix("totals:"))?.trim().parse().ok()
}

fn name(operation: Option<Operation>) -> &'static str {
    operation.map_or(NOTHING, Operation::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found_and_missed() {
        assert_eq!(total("events: Ir\nsummary: 41\nfn=(1)\n7 1\ntotals: 42\n"), Some(42));
        assert_eq!(total("events: Ir\nfn=(1)\n7 1\n"), None);
    }
}
