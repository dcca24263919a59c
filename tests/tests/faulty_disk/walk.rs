//! Each call that a server makes, on each kind of file that it makes it on: all of them fail once.

use crate::library::{EIO, Fault, library};
use crate::server::Place;
use crate::{FEW, MANY, Outcome, Stop, is_thorough, strike, used_place};
use holdfast_tests::copy_all;

/// The calls that a server makes, and the files that it makes them on.
pub const CALLS: &[(&str, &[&str])] = &[
    ("fdatasync", &[".segment", ".segment", ".preparing", ".sst", "MANIFEST", "/data/"]),
    ("fsync", &["HOLDFAST", "FORMAT", "/log", "/state", "/data"]),
    ("pwrite", &[".segment", ".segment", ".preparing", "/data/"]),
    ("write", &[".sst", "MANIFEST", "HOLDFAST", "/state", "/data/"]),
    ("pread", &[".segment", ".sst", "/data/"]),
    ("read", &["HOLDFAST", "FORMAT", "/data/"]),
    ("open", &["/log", ".segment", "/state", ".sst", "CURRENT", "MANIFEST", "HOLDFAST", "LOCK"]),
    ("create", &[".preparing", ".sst", "MANIFEST", "HOLDFAST", "LOCK", "/state"]),
    ("rename", &[".preparing", "HOLDFAST", "FORMAT", "/state"]),
    ("unlink", &[".sst", "/state", "/data/"]),
    ("mkdir", &["/log", "/state"]),
    ("ftruncate", &["/state"]),
    ("fallocate", &["/state"]),
    ("sync_file_range", &["/state"]),
];

/// In a new directory, in a used one, or under enough writes for flushes: somewhere each of them is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_on_each_kind_of_file_fails_once() {
    if library().is_none() || !is_thorough() {
        return;
    }
    let (used, before) = used_place().await;
    let mut not_met = Vec::new();
    for (call, places) in CALLS {
        for (number, file) in places.iter().enumerate() {
            // Some stand there twice, so that they are drawn more often.
            if places[..number].contains(file) {
                continue;
            }
            let fault = Fault::once(call, file, 0, EIO);
            let mut outcome = strike(&Place::new(), 0, FEW, fault, Stop::AfterWrites).await;
            if outcome == Outcome::NotMet {
                let place = Place::new();
                copy_all(&used.data_dir(), &place.data_dir());
                // A table goes when a compaction has come to its end.
                let is_late = (*call, *file) == ("unlink", ".sst");
                let stop = if is_late { Stop::AfterFault } else { Stop::AfterWrites };
                outcome = strike(&place, before, MANY, fault, stop).await;
            }
            println!("{outcome:?}: {call} of {file}");
            if outcome == Outcome::NotMet {
                not_met.push(format!("{call} of {file}"));
            }
        }
    }
    assert!(not_met.is_empty(), "no such call is made: {not_met:?}");
}
