//! What was written once must be read for ever: whole data directories, kept in the repository, are opened and compared with
//! what the version that wrote them said was in them. What is newer, or somebody else's, is refused with what to do.
//!
//! A directory is kept as `vN/data`, each file without the zeros at its end, with its length in `vN/lengths`; what it holds,
//! as text, is in `vN/content`. A fixture is due for a new format, and for whatever else is written from now on that was not
//! before (`vN-WHAT`): name it in fixture.rs, and `cargo test -p holdfast-tests --test format write_the_fixture -- --ignored`
//! writes it; the older ones stay as they are.

mod content;
mod fixture;
mod snapshot;

use content::{ALARM, content};
use fixture::{FORMAT, NEWEST, WITHOUT_MARK, unpack, versions};
use holdfast_tests::copy_all;
use kvstore::storage::{Engine, Family, RocksEngine, RocksOptions};
use kvstore::store::{Config, Store};
use kvstore::{KeyspaceId, Result};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn config(data_dir: &Path) -> Config {
    Config { log_segment_bytes: 1 << 20, ..Config::new(data_dir) }
}

fn unpacked(version: &str) -> (TempDir, String) {
    let home = tempfile::tempdir().expect("a temporary directory");
    unpack(version, &home.path().join("data"));
    let expected = fs::read_to_string(fixture::dir(version).join("content")).expect("the content");
    (home, expected)
}

fn refused(data_dir: &Path) -> String {
    let opened: Result<Store> = Store::open(config(data_dir));
    opened.err().expect("a refusal").to_string()
}

fn first_segment(data_dir: &Path) -> PathBuf {
    let segments = fs::read_dir(data_dir.join("log")).expect("the log");
    segments.map(|entry| entry.expect("an entry").path()).min().expect("a segment")
}

/// What the state says of its log, as it lies there.
fn mark_in_state(data_dir: &Path) -> Option<Vec<u8>> {
    let options = RocksOptions { must_exist: true, read_only: true, ..RocksOptions::default() };
    let engine = RocksEngine::open(data_dir.join("state"), &options).expect("the state opens");
    engine.get(Family::Meta, &[3]).expect("a read").map(|bytes| bytes.to_vec())
}

/// The mark of the log beside it: a checksum of the random number in the header of its segments.
fn mark_of_log(data_dir: &Path) -> Vec<u8> {
    let segment = fs::read(first_segment(data_dir)).expect("the segment");
    fixture::crc32(&segment[24..32]).to_be_bytes().to_vec()
}

#[tokio::test]
async fn every_version_is_read_and_written_on() {
    let versions = versions("v");
    for wanted in [NEWEST, WITHOUT_MARK] {
        assert!(versions.iter().any(|version| version == wanted), "the fixture {wanted} is missing");
    }
    for version in &versions {
        let (home, expected) = unpacked(version);
        let data_dir = home.path().join("data");
        // The second time nothing of it is replayed any more, and the third time there is more in it.
        for _ in 0..2 {
            let store = Store::open(config(&data_dir)).unwrap_or_else(|error| panic!("{version}: {error}"));
            let found = content(&store).await;
            assert!(found == expected, "{version} reads differently:\n{found}\ninstead of\n{expected}");
            store.stop().await;
        }
        let store = Store::open(config(&data_dir)).expect("the store opens");
        store.alarm_deactivate(ALARM).await.expect("the alarm is cleared");
        let kv = store.keyspace(KeyspaceId::DEFAULT);
        let before = kv.revision();
        let put = kv.put("after", "all").await.expect("a put");
        assert_eq!(put.revision, before.next());
        store.stop().await;
    }
}

/// With other bytes or another checksum, or under another key, a later version would take every directory that there is for
/// one of two stores, or let two stores be mixed.
#[test]
fn the_state_has_the_mark_of_its_log() {
    let (home, _) = unpacked(NEWEST);
    let data_dir = home.path().join("data");
    assert_eq!(mark_in_state(&data_dir), Some(mark_of_log(&data_dir)));
    let (other, _) = unpacked(WITHOUT_MARK);
    fs::remove_dir_all(data_dir.join("log")).expect("the log goes");
    copy_all(&other.path().join("data/log"), &data_dir.join("log"));
    let text = refused(&data_dir);
    assert!(text.contains("of two stores"), "{text}");
}

#[tokio::test]
async fn a_state_without_the_mark_of_its_log_is_given_it() {
    let (home, _) = unpacked(WITHOUT_MARK);
    let data_dir = home.path().join("data");
    assert_eq!(mark_in_state(&data_dir), None);
    let store = Store::open(config(&data_dir)).expect("the store opens");
    store.alarm_deactivate(ALARM).await.expect("the alarm is cleared");
    store.stop().await;
    drop(store);
    assert_eq!(mark_in_state(&data_dir), Some(mark_of_log(&data_dir)));
}

#[test]
fn a_newer_format_is_refused_by_each_part() {
    type Change = fn(&Path);
    let newer_identity: Change = |data| {
        let path = data.join("HOLDFAST");
        let text = fs::read_to_string(&path).expect("the identity");
        fs::write(path, text.replace(&format!("format {FORMAT}\n"), &format!("format {}\n", FORMAT + 1)))
            .expect("an identity");
    };
    let newer_state: Change =
        |data| fs::write(data.join("state/FORMAT"), "holdfast storage 2\n").expect("a format");
    let newer_log: Change = |data| {
        let first = first_segment(data);
        let mut bytes = fs::read(&first).expect("the segment");
        bytes[8] += 1;
        let checksum = fixture::crc32(&bytes[..32]);
        bytes[32..36].copy_from_slice(&checksum.to_le_bytes());
        fs::write(first, bytes).expect("a segment");
    };
    for (name, change) in
        [("HOLDFAST", newer_identity), ("state/FORMAT", newer_state), (".segment", newer_log)]
    {
        let (home, _) = unpacked(NEWEST);
        let data_dir = home.path().join("data");
        change(&data_dir);
        let text = refused(&data_dir);
        assert!(text.contains(name) && text.contains("newer"), "{name}: {text}");
        assert!(
            text.contains("start it with the newer program") || text.contains("run a newer version"),
            "{text}"
        );
    }
}

#[test]
fn the_directory_of_another_program_is_refused() {
    let home = tempfile::tempdir().expect("a temporary directory");
    for (name, file) in [
        ("etcd", "member/wal/0000000000000000-0000000000000000.wal"),
        ("dqlite", "metadata1"),
        ("bare", "log/1"),
    ] {
        let data_dir = home.path().join(name);
        let file = data_dir.join(file);
        fs::create_dir_all(file.parent().expect("it lies somewhere")).expect("a directory");
        fs::write(&file, "precious").expect("a file");
        let text = refused(&data_dir);
        assert!(
            text.contains("not a Holdfast data directory") && text.contains("give an empty or new"),
            "{text}"
        );
        assert_eq!(fs::read(&file).expect("the file"), b"precious");
    }
}

#[tokio::test]
#[ignore = "writes into the sources"]
async fn write_the_fixture() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let data_dir = home.path().join("data");
    let written = content::write(&data_dir, &home.path().join("copy")).await;
    fixture::pack(NEWEST, &home.path().join("copy"), &written);
}
