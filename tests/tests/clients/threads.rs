//! How soon the system runs the server's threads.

use holdfast_tests::Setup;
use std::fs;
use std::time::{Duration, Instant};

/// A thread gives itself its name and its pace, maybe some time after the node has said that it is ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// The slice of time that a thread has asked for. None if the system tells of no slices: before Linux 6.12 there is one
/// for all.
fn slice(thread: &str) -> Option<u64> {
    let told = fs::read_to_string(format!("/proc/{thread}/sched")).ok()?;
    let line = told.lines().find(|line| line.starts_with("se.slice"))?;
    line.split_whitespace().last()?.parse().ok()
}

/// The names of a process's threads, and their slices.
fn threads(process: u32) -> Vec<(String, Option<u64>)> {
    fs::read_dir(format!("/proc/{process}/task"))
        .expect("our own child")
        .flatten()
        .map(|entry| {
            let thread = format!("{process}/task/{}", entry.file_name().to_string_lossy());
            // A thread may have ended by now.
            let name = fs::read_to_string(format!("/proc/{thread}/comm")).unwrap_or_default();
            (name.trim().to_owned(), slice(&thread))
        })
        .collect()
}

#[test]
fn threads_that_requests_pass_through_ask_for_short_turns() {
    let node = Setup::subject().start();
    let (process, Some(usual)) = (node.process_id(), slice("thread-self")) else { return };
    let begun = Instant::now();
    loop {
        let (threads, serving) = (threads(process), slice(&process.to_string()));
        let of = |wanted: &str| threads.iter().find(|(name, _)| name == wanted).and_then(|(_, slice)| *slice);
        let is_short = |slice: Option<u64>| slice.is_some_and(|slice| slice < usual);
        if is_short(of("holdfast-sync")) && is_short(serving) && of("holdfast-maint") == Some(usual) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{usual}: serving {serving:?}, {threads:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
