//! What a machine does not let a test do: said where it is seen, or refused.

use std::io::Write;

/// Set, nothing is skipped: a test that needs root, a file system of its own, a kind of disk or a C compiler fails without.
const NEEDED: &str = "HOLDFAST_NEEDS_MOUNTS";

/// Says that the test which calls this leaves out `what`, and `why`. The caller returns then, and passes.
///
/// # Panics
/// When `HOLDFAST_NEEDS_MOUNTS` is set.
pub fn skipped(what: &str, why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(std::env::var_os(NEEDED).is_none(), "{NEEDED} is set, but {what} cannot be had: {why}");
    // Past the test harness, which keeps to itself what a passing test prints.
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED in {test}: {what}: {why} ***");
}
