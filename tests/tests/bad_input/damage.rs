//! Files that were damaged, cut or removed behind the store's back.
//!
//! Every file of a data directory is flipped, cut, emptied and removed, one at a time. The store must refuse the start with
//! an error that names that file and says what to do, or refuse a read, or have all its data: never anything else. What it refused it must not have
//! touched: with the good file back it starts.

use crate::attempt::{check_filled, refused};
use crate::directory::stopped;
use crate::told::Done;
use holdfast_tests::{copy_all, files};
use kvstore::command::{RangeQuery, ReadAt};
use kvstore::store::{CancelReason, Config, Consistency, Delivered, Delivery, Keyspace, Store, WatchOptions};
use kvstore::{Error, KeyRange, KeyspaceId, Revision};
use std::fs;
use std::path::Path;
use std::time::Duration;

pub const WRITES: i64 = 60;

pub fn config(data_dir: &Path) -> Config {
    Config { log_segment_bytes: 1 << 20, ..Config::new(data_dir) }
}

pub fn value(number: i64) -> Vec<u8> {
    let mut seed = number as u64 + 1;
    std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    })
    .take(40 << 10)
    .collect()
}

pub fn key(number: i64) -> String {
    format!("key/{}", number % 7)
}

/// A directory with a few segments of log; `flushed` tells whether the state holds all of it or next to nothing.
pub async fn make(data_dir: &Path, flushed: bool) {
    let store = Store::open(config(data_dir)).expect("the store opens");
    let kv = store.keyspace(KeyspaceId::DEFAULT);
    fill(&store, 0..WRITES).await;
    if !flushed {
        // As a power failure would leave it: what is on disk while the store still runs.
        let copy = data_dir.with_extension("copy");
        copy_all(data_dir, &copy);
        store.stop().await;
        drop((kv, store));
        fs::remove_dir_all(data_dir).expect("the directory goes");
        fs::rename(copy, data_dir).expect("the copy takes its place");
        return;
    }
    store.stop().await;
}

pub async fn fill(store: &Store, numbers: std::ops::Range<i64>) {
    let kv = store.keyspace(KeyspaceId::DEFAULT);
    for number in numbers {
        kv.put(key(number), value(number)).await.expect("a put");
    }
}

/// `Ok(true)`: all data is there. `Ok(false)`: a read was refused. `Err`: the start was.
pub async fn outcome(data_dir: &Path, done: &Done) -> Result<bool, Error> {
    outcome_of(data_dir, WRITES, done).await
}

/// As [`outcome`], for a directory with so many writes.
pub async fn outcome_of(data_dir: &Path, writes: i64, done: &Done) -> Result<bool, Error> {
    let store = Store::open(config(data_dir))?;
    let kv = store.keyspace(KeyspaceId::DEFAULT);
    let mut whole = read_all(&kv, writes, done).await;
    whole &= watch_all(&kv, writes, done).await;
    whole &= kv.hash_kv(None).inspect_err(|error| done.check_unread(error)).is_ok();
    if whole {
        assert_eq!(kv.put("after", "all").await.expect("a put").revision.get(), writes + 2);
    }
    // Compaction reads and writes tables anew: what it cannot read it must not leave out silently.
    let compacted = kv.compact(Revision::new(writes), true).await;
    assert!(!whole || compacted.is_ok(), "{done}: {compacted:?}");
    let _ = compacted.inspect_err(|error| done.check_unread(error));
    for number in writes - 7..writes {
        let query = RangeQuery::new(KeyRange::single(key(number)));
        match kv.range(query, Consistency::Serializable).await {
            Ok(reply) => assert!(
                reply.result.kvs.first().is_some_and(|kv| kv.value() == value(number)),
                "{done}: write {number} is not there after the compaction"
            ),
            Err(error) => {
                assert!(!whole, "{done}: {error}");
                done.check_unread(&error);
            }
        }
    }
    // Whatever could not be read: the store lives, and what it has taken since does not keep it from starting.
    let replaced = kv.put(key(writes - 1), "anew").await;
    assert!(!whole || replaced.is_ok(), "{done}: {replaced:?}");
    let _ = replaced.inspect_err(|error| done.check_unread(error));
    kv.put("last", "written").await.unwrap_or_else(|error| panic!("{done}: writes do not go on: {error}"));
    store.stop().await;
    drop((kv, store));
    let store =
        Store::open(config(data_dir)).unwrap_or_else(|error| panic!("{done}: the next start: {error}"));
    let query = RangeQuery::new(KeyRange::single("last"));
    let reply = store.keyspace(KeyspaceId::DEFAULT).range(query, Consistency::Linearizable).await;
    assert_eq!(reply.expect("what was written last").result.kvs.len(), 1, "{done}");
    store.stop().await;
    Ok(whole)
}

/// Opens and stops without a flush of what is new, as a node does that is killed while nobody asks it anything.
pub async fn rest(data_dir: &Path) -> Result<(), Error> {
    let store = Store::open(config(data_dir))?;
    let copy = data_dir.with_extension("copy");
    copy_all(data_dir, &copy);
    store.stop().await;
    drop(store);
    fs::remove_dir_all(data_dir).expect("the directory goes");
    fs::rename(copy, data_dir).expect("the copy takes its place");
    Ok(())
}

/// Follows everything from the first revision on, as a client does that was away.
async fn watch_all(kv: &Keyspace, writes: i64, done: &Done) -> bool {
    let session = kv.watch();
    session.create(WatchOptions::new(KeyRange::all()).from_revision(Revision::new(1))).expect("a watch");
    let mut number = 0;
    while number < writes {
        let next = tokio::time::timeout(Duration::from_secs(30), session.next()).await;
        match next.expect("a watch goes on or ends") {
            Delivery::Events { events, .. } => {
                for Delivered { event, .. } in events {
                    let expected = (key(number).into_bytes(), value(number), number + 2);
                    let found =
                        (event.kv.key().to_vec(), event.kv.value().to_vec(), event.kv.mod_revision.get());
                    assert!(found == expected, "{done}: event {number} is not what was written");
                    number += 1;
                }
            }
            Delivery::Canceled { reason, .. } => {
                assert!(
                    matches!(reason, CancelReason::Damaged | CancelReason::Unreadable),
                    "{done}: {reason:?}"
                );
                return false;
            }
            _ => {}
        }
    }
    true
}

/// Reads every write at its revision.
async fn read_all(kv: &Keyspace, writes: i64, done: &Done) -> bool {
    let mut whole = true;
    for number in 0..writes {
        let at = ReadAt::Revision(Revision::new(number + 2));
        let query = RangeQuery { at, ..RangeQuery::new(KeyRange::single(key(number))) };
        match kv.range(query, Consistency::Serializable).await {
            Ok(reply) => {
                let found = reply.result.kvs.first().map(|kv| kv.value().to_vec());
                assert!(
                    found == Some(value(number)),
                    "{done}: write {number} is not there, and nobody says so"
                );
            }
            Err(error) => {
                done.check_unread(&error);
                whole = false;
            }
        }
    }
    whole
}

type Damage = (&'static str, fn(&Path, &[u8]));

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("a file is written");
}

const DAMAGES: &[Damage] = &[
    ("flipped at the start", |path, good| flip(path, good, 0)),
    ("flipped at a third of what is used", |path, good| flip(path, good, used(good) / 3)),
    ("flipped at two thirds of what is used", |path, good| flip(path, good, used(good) * 2 / 3)),
    ("cut in half", |path, good| write(path, &good[..good.len() / 2])),
    ("emptied", |path, _| write(path, b"")),
    ("removed", |path, _| fs::remove_file(path).expect("a file is removed")),
];

pub fn used(good: &[u8]) -> usize {
    good.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

pub fn flip(path: &Path, good: &[u8], at: usize) {
    let mut bad = good.to_vec();
    if let Some(byte) = bad.get_mut(at) {
        *byte ^= 0x40;
    }
    write(path, &bad);
}

async fn every_file_every_damage(flushed: bool) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let good = directory.path().join("good");
    make(&good, flushed).await;
    let (mut refusals, mut recoveries) = (0, 0);
    for file in files(&good) {
        let name = file.strip_prefix(&good).expect("it lies there").to_path_buf();
        for (what, damage) in DAMAGES {
            let bad = directory.path().join("bad");
            copy_all(&good, &bad);
            let bytes = fs::read(&file).expect("the good file");
            damage(&bad.join(&name), &bytes);
            let done = Done::to(&name, *what);
            let told = outcome(&bad, &done).await;
            println!("{done}: {told:?}");
            match told {
                Ok(true) => recoveries += 1,
                // Started, so it has written since: nothing to put back.
                Ok(false) => refusals += 1,
                Err(error) => {
                    refusals += 1;
                    done.check_refused(&bad, &error);
                    write(&bad.join(&name), &bytes);
                    assert_eq!(outcome(&bad, &done.undone()).await, Ok(true), "{}", done.undone());
                }
            }
            fs::remove_dir_all(&bad).expect("the directory goes");
        }
    }
    assert!(refusals > 10 && recoveries > 10, "{refusals} refusals, {recoveries} recoveries");
}

#[tokio::test]
async fn damage_to_a_store_that_stopped_cleanly_is_noticed_or_harmless() {
    every_file_every_damage(true).await;
}

#[tokio::test]
async fn damage_to_a_store_that_crashed_is_noticed_or_harmless() {
    every_file_every_damage(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_names_file_and_offset_of_a_damaged_log() {
    let mut node = stopped().await;
    let segment = files(&node.data_dir().join("log"))
        .into_iter()
        .find(|path| used(&fs::read(path).expect("a segment")) > 8_000)
        .expect("a segment with entries");
    let good = fs::read(&segment).expect("the segment");
    flip(&segment, &good, used(&good) / 2);
    let name = segment.file_name().expect("a name").to_string_lossy().into_owned();
    refused(&node.data_dir(), &[]).advises(&[&name, "damaged at byte"]);
    write(&segment, &good);

    // The whole log gone, or just its end cut off with all that the state knows of.
    let aside = node.data_dir().join("../log-aside");
    fs::rename(node.data_dir().join("log"), &aside).expect("a move");
    refused(&node.data_dir(), &[]).advises(&["log", "missing", "restore"]);
    fs::create_dir(node.data_dir().join("log")).expect("a directory");
    refused(&node.data_dir(), &[]).advises(&["log", "missing", "restore"]);
    fs::remove_dir_all(node.data_dir().join("log")).expect("the directory goes");
    fs::rename(&aside, node.data_dir().join("log")).expect("a move back");

    node.start();
    check_filled(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_manifest_or_table_is_named() {
    let mut node = stopped().await;
    let state = node.data_dir().join("state");
    for kind in ["MANIFEST", ".sst", "CURRENT"] {
        let path = files(&state)
            .into_iter()
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(kind)))
            .unwrap_or_else(|| panic!("no {kind} in the state"));
        let aside = node.data_dir().join("../aside");
        fs::rename(&path, &aside).expect("a move");
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        refused(&node.data_dir(), &[]).advises(&[&name, "restore"]);
        fs::rename(&aside, &path).expect("a move back");
    }
    node.start();
    check_filled(&node).await;
}
