//! Space: the quota with its alarm, and the removal of what is compacted.

use super::disk::Disk;
use super::{config, default_keyspace, in_time, value_of};
use crate::command::{Operation, Put, PutLease, PutValue, Transaction};
use crate::store::{Config, CoreFuture, Placement, Store};
use crate::types::{Error, LeaseId};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A store that is full starts, serves what it has and refuses more, as often as it is started; with a larger quota nobody
/// has to lift the alarm.
#[tokio::test]
async fn a_larger_quota_clears_the_alarm_at_the_next_start() {
    const QUOTA_BYTES: u64 = 64 << 10;
    // Above the share below which the alarm clears itself.
    const VALUE_BYTES: usize = 60_000;
    let directory = tempfile::tempdir().unwrap();
    let with_quota = |bytes| Config { quota_bytes: Some(bytes), ..config(&directory, Placement::Thread) };
    for start in 0..3 {
        let store = Store::open(with_quota(QUOTA_BYTES)).unwrap();
        let kv = default_keyspace(&store);
        if start == 0 {
            in_time(kv.put("a", vec![7; VALUE_BYTES])).await.unwrap();
        }
        assert_eq!(in_time(value_of(&kv, "a")).await.unwrap().len(), VALUE_BYTES);
        let refused = in_time(kv.put("b", vec![7; VALUE_BYTES])).await.unwrap_err();
        assert!(matches!(refused, Error::NoSpace(_)), "{refused}");
        assert_eq!(store.alarms().len(), 1, "start {start}");
        in_time(store.stop()).await;
    }
    let store = Store::open(with_quota(4 * QUOTA_BYTES)).unwrap();
    let kv = default_keyspace(&store);
    let cleared = async {
        while !store.alarms().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    in_time(cleared).await;
    in_time(kv.put("b", vec![7; VALUE_BYTES])).await.unwrap();
    in_time(store.stop()).await;
}

/// What `work` gives, while the core takes a turn whenever `work` has nothing to do.
async fn beside<T>(core: &mut CoreFuture, work: impl Future<Output = T>) -> T {
    let both = async {
        tokio::select! {
            biased;
            result = work => result,
            () = core => panic!("the core has ended"),
        }
    };
    in_time(both).await
}

/// A step of removal is a turn's work, and others' commands do not wait for the steps that follow.
#[tokio::test]
async fn a_put_passes_between_two_steps_of_removal() {
    const KEYS: u64 = 100;
    const ROUNDS: u64 = 101;
    let dead = KEYS * (ROUNDS - 1);
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(config(&directory, Placement::Caller)).unwrap();
    let mut core = store.take_core().unwrap();
    let kv = default_keyspace(&store);
    let put = |key: u64| {
        let (value, lease) = (PutValue::Set("value".into()), PutLease::Set(LeaseId::NONE));
        Operation::Put(Put { key: format!("k{key}").into(), value, lease, want_previous: false })
    };
    for _ in 0..ROUNDS {
        let everything = Transaction { success: (0..KEYS).map(put).collect(), ..Default::default() };
        beside(&mut core, kv.transact(everything)).await.unwrap();
    }
    beside(&mut core, kv.compact(kv.revision(), false)).await.unwrap();
    let removed = || store.metrics().versions_removed;
    let more_than = async |count: u64| {
        while removed() <= count {
            tokio::task::yield_now().await;
        }
    };
    beside(&mut core, more_than(0)).await;
    let before = removed();
    beside(&mut core, kv.put("between", "1")).await.unwrap();
    assert!(removed() < dead, "the put waited for {dead} versions, of which {before} were removed before");
    assert_eq!(beside(&mut core, value_of(&kv, "between")).await.unwrap(), b"1");
    beside(&mut core, more_than(dead - 1)).await;
    assert_eq!(removed(), dead);
    in_time(async { tokio::join!(store.stop(), core) }).await;
}

/// What a compaction frees is told at once, also when nobody writes any more.
#[tokio::test]
async fn the_size_in_use_is_right_after_a_compaction_on_an_idle_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(config(&directory, Placement::Thread)).unwrap();
    let kv = default_keyspace(&store);
    for _ in 0..100 {
        in_time(kv.put("a", vec![7; 1_000])).await.unwrap();
    }
    let before = store.status().live_bytes;
    in_time(kv.compact(kv.revision(), true)).await.unwrap();
    let after = store.status().live_bytes;
    assert!(after < before / 10, "{before} bytes in use, {after} after one of 100 versions was left");
    in_time(store.stop()).await;
}

/// A segment prepared beside that finds no room is tried again now and then, not at once and for ever: each try fills the
/// disk up for everybody on it.
#[tokio::test]
async fn a_segment_without_room_is_not_tried_again_at_once() {
    // A look at the disk each second begins the next try.
    const WATCHED: Duration = Duration::from_millis(500);
    const TRIES_MAX: u64 = 5;
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let store = Store::open_on(config(&directory, Placement::Thread), Arc::new(disk.clone())).unwrap();
    let kv = default_keyspace(&store);
    disk.have_no_room();
    // As much as makes the log go on in the segment that was prepared before.
    while disk.refused_files() == 0 {
        in_time(kv.put("a", vec![7; 100_000])).await.unwrap();
    }
    tokio::time::sleep(WATCHED).await;
    in_time(kv.put("b", "1")).await.unwrap();
    let tries = disk.refused_files();
    assert!(tries <= TRIES_MAX, "{tries} in {WATCHED:?}");
    in_time(store.stop()).await;
}

/// Bytes of the log's segments on the disk.
fn log_bytes(directory: &TempDir) -> u64 {
    let files = std::fs::read_dir(directory.path().join("data/log")).unwrap();
    // One that is renamed meanwhile is counted another time.
    files.filter_map(|file| file.unwrap().metadata().ok()).map(|file| file.len()).sum()
}

/// The segment in use, two ready ones, four to be used again, what a [`short_life`] writes, and twice that: a segment grows
/// while none is ready.
const LOG_BYTES_MAX: u64 = 20 << 20;

/// Fills two segments; it takes seven of them until a flush is due.
async fn short_life(store: &Store) {
    let kv = default_keyspace(store);
    for _ in 0..8 {
        in_time(kv.put("a", vec![7; VALUE_BYTES])).await.unwrap();
    }
}

const VALUE_BYTES: usize = 300_000;

/// None of them writes so much that it would have to flush; each leaves everything flushed.
#[tokio::test]
async fn the_log_of_many_short_lives_is_purged() {
    let directory = tempfile::tempdir().unwrap();
    for life in 0..16 {
        let store = Store::open(config(&directory, Placement::Thread)).unwrap();
        short_life(&store).await;
        in_time(store.stop()).await;
        let bytes = log_bytes(&directory);
        assert!(bytes <= LOG_BYTES_MAX, "{bytes} bytes after life {life}");
    }
    let store = Store::open(config(&directory, Placement::Thread)).unwrap();
    assert_eq!(store.metrics().flushes, 0);
    assert_eq!(in_time(value_of(&default_keyspace(&store), "a")).await.unwrap().len(), VALUE_BYTES);
    in_time(store.stop()).await;
}

/// Those that are killed leave nothing flushed: what all of them have left makes a flush due, whoever wrote it.
#[tokio::test]
async fn the_log_of_lives_that_were_killed_is_flushed() {
    // Fewer bytes than the storage engine flushes by itself.
    const LIVES: u64 = 3;
    let mut directory = tempfile::tempdir().unwrap();
    for _ in 0..LIVES {
        let store = Store::open(config(&directory, Placement::Thread)).unwrap();
        short_life(&store).await;
        assert_eq!(store.metrics().flushes, 0);
        let killed = tempfile::tempdir().unwrap();
        copy(&directory.path().join("data"), &killed.path().join("data"));
        in_time(store.stop()).await;
        directory = killed;
    }
    let left_bytes = LIVES * 8 * VALUE_BYTES as u64;
    let with = |flush_log_bytes| Config { flush_log_bytes, ..config(&directory, Placement::Thread) };
    let store = Store::open(with(left_bytes)).unwrap();
    let flushed = async {
        while store.metrics().flushes == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    in_time(flushed).await;
    assert_eq!(in_time(value_of(&default_keyspace(&store), "a")).await.unwrap().len(), VALUE_BYTES);
    in_time(store.stop()).await;
}

/// Copies what is there; a segment that is prepared meanwhile may be gone.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else if let Err(error) = std::fs::copy(&from, &to) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
    }
}
