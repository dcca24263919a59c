//! What every bench begins with: a description of the conditions, printed before any figure; its sizes; its directory.
//!
//! `cargo bench` runs a bench in full. Whatever else runs it (`cargo test --benches`) runs each function once, with the
//! sizes that [`sized`] gives then: only to see that it still works.

use crate::machine::{self, FileSystem};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How many syncs the header measures.
const SYNCS: usize = 32;
const SYNC_BYTES: usize = 4096;

/// What a bench does to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// Nothing: everything is in memory.
    Untouched,
    /// Writes that are not synced, as the storage engine's: what makes them durable is the raft log, which is not in it.
    NotSynced,
    /// Everything that the store itself does, `fdatasync` included.
    Synced,
}

/// Whether this run is only to see that the benches work. As criterion decides it: `cargo bench` passes `--bench`, `cargo
/// test` does not.
pub fn is_tiny() -> bool {
    let has = |option: &str| std::env::args().any(|argument| argument == option);
    has("--test") || !has("--bench")
}

/// `full` in `cargo bench`, `tiny` otherwise.
pub fn sized<T>(full: T, tiny: T) -> T {
    if is_tiny() { tiny } else { full }
}

/// A fresh directory for a bench's files: below cargo's target directory, or below `HOLDFAST_BENCH_DIR` to measure another
/// disk. Never where temporary files go, which is often memory.
pub fn directory() -> TempDir {
    tempfile::tempdir_in(base()).expect("the bench's directory can be written to")
}

fn base() -> PathBuf {
    if let Some(base) = std::env::var_os("HOLDFAST_BENCH_DIR") {
        return base.into();
    }
    // Benches lie in TARGET/PROFILE/deps.
    let bench = std::env::current_exe().expect("a bench knows where it is");
    let base = bench.ancestors().nth(3).expect("a bench lies in the target directory").join("tmp");
    std::fs::create_dir_all(&base).expect("cargo's target directory can be written to");
    base
}

/// Prints what a reader has to know before any figure of the bench `name`. `nodes` says what takes part of a cluster.
pub fn print_header(name: &str, disk: Disk, nodes: &str) {
    let base = base();
    let files = FileSystem::of(&base);
    println!("bench     {name}{}", if is_tiny() { ", tiny: figures of this run mean nothing" } else { "" });
    println!("sync      {}", sync(disk, &files, &base));
    println!("nodes     {nodes}");
    println!("machine   {}; load {}", machine::describe(), machine::load());
    match disk {
        Disk::Untouched => println!("data      none"),
        _ => println!("data      {} ({})", base.display(), files.describe()),
    }
    println!("versions  {}\n", machine::versions());
}

fn sync(disk: Disk, files: &FileSystem, base: &Path) -> String {
    match disk {
        Disk::Untouched => "none: nothing here touches a disk".into(),
        Disk::NotSynced => {
            "none: the storage engine's writes, which the raft log makes durable, without that log".into()
        }
        Disk::Synced => {
            let took_us = median_sync(base).as_micros();
            let worth = if files.is_memory() { ", WHICH IS MEMORY: nothing becomes durable" } else { "" };
            format!(
                "fdatasync after each append to the log, into blocks written before; one of 4 KiB takes {took_us} µs on \
                 this {}{worth}",
                files.kind
            )
        }
    }
}

/// What the disk needs for a sync now, by trying: that it is asked for does not say that it is done.
fn median_sync(base: &Path) -> Duration {
    let mut file: File = tempfile::tempfile_in(base).expect("the bench's directory can be written to");
    let block = [0x5a; SYNC_BYTES];
    let mut took: Vec<Duration> = (0..SYNCS)
        .map(|_| {
            file.write_all(&block).expect("there is space for a block");
            let begun = Instant::now();
            file.sync_data().expect("the disk works");
            begun.elapsed()
        })
        .collect();
    took.sort();
    took[SYNCS / 2]
}
