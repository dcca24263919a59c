//! How soon the system runs the server's threads.

use holdfast_tests::Setup;
use std::fs;

/// The slice of time that a thread has asked for. None if the system tells of no slices: before Linux 6.12 there is one
/// for all.
fn slice(thread: &str) -> Option<u64> {
    let told = fs::read_to_string(format!("/proc/{thread}/sched")).ok()?;
    let line = told.lines().find(|line| line.starts_with("se.slice"))?;
    line.split_whitespace().last()?.parse().ok()
}

#[test]
fn threads_that_requests_pass_through_ask_for_short_turns() {
    let node = Setup::subject().start();
    let (process, Some(usual)) = (node.process_id(), slice("thread-self")) else { return };
    let threads: Vec<(String, Option<u64>)> = fs::read_dir(format!("/proc/{process}/task"))
        .expect("our own child")
        .flatten()
        .map(|entry| {
            let thread = format!("{process}/task/{}", entry.file_name().to_string_lossy());
            // A thread may have ended by now.
            let name = fs::read_to_string(format!("/proc/{thread}/comm")).unwrap_or_default();
            (name.trim().to_owned(), slice(&thread))
        })
        .collect();
    let of = |wanted: &str| threads.iter().find(|(name, _)| name == wanted).and_then(|(_, slice)| *slice);
    assert!(of("holdfast-sync").is_some_and(|slice| slice < usual), "{usual}: {threads:?}");
    assert!(slice(&process.to_string()).is_some_and(|slice| slice < usual), "{usual}: {threads:?}");
    assert_eq!(of("holdfast-maint"), Some(usual), "{threads:?}");
}
