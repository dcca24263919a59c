//! A snapshot that meets a full file system: where it is restored, and where it is taken. Either it is said what to do, or
//! it is done; with space back it is done in any case.

use holdfast_tests::{Kind, Mounted, check_advice};
use kvstore::store::{Config, Store};
use kvstore::{Error, KeyspaceId, Revision};
use std::path::Path;

const MIB: u32 = 64;
/// Room at a restore of about 4 MiB and a log segment of 1 MiB: for nothing, a part of a table, all tables, all but a page.
const LEFT_KIB: &[u64] = &[0, 64, 1 << 10, 3 << 10, 4 << 10, 5 << 10, 6 << 10];

fn config(data_dir: &Path) -> Config {
    Config { log_segment_bytes: 1 << 20, ..Config::new(data_dir) }
}

/// Whoever reads it knows what was wrong.
fn check_told(error: &Error, about: &str) {
    let text = error.to_string();
    let is_told = text.contains("No space left") || text.contains("bytes are left");
    assert!(is_told, "{about}: {text}");
    check_advice(&text, about);
}

async fn written(data_dir: &Path) -> (Store, Revision) {
    let store = Store::open(config(data_dir)).expect("a store");
    let kv = store.keyspace(KeyspaceId::DEFAULT);
    for number in 0..40_u32 {
        // Bytes that cannot be made smaller.
        let mut state = u64::from(number) + 1;
        let byte = |_| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (state >> 56) as u8
        };
        let value: Vec<u8> = (0..100_000).map(byte).collect();
        kv.put(format!("k{number}"), value).await.expect("a put");
    }
    let revision = kv.revision();
    (store, revision)
}

async fn restored_where_it_is_full(kind: Kind) {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (store, revision) = written(&home.path().join("source")).await;
    let mut bytes = Vec::new();
    store.save_snapshot(&mut bytes).expect("a snapshot");
    store.stop().await;
    let data_dir = home.path().join("data");
    let Some(disk) = Mounted::new(kind, &data_dir, MIB) else { return };
    let mut refused = 0;
    for left_kib in LEFT_KIB {
        disk.leave_kib(*left_kib);
        let about = format!("{kind:?}, {left_kib} KiB left");
        match Store::restore_snapshot(&config(&data_dir), &mut bytes.as_slice()) {
            Ok(_) => {
                disk.give_back();
                break;
            }
            Err(error) => check_told(&error, &about),
        }
        let text = Store::open(config(&data_dir)).err().expect("a refusal").to_string();
        assert!(
            ["restore it again", "free some space"].iter().any(|words| text.contains(words)),
            "{about}: {text}"
        );
        refused += 1;
        disk.give_back();
    }
    assert!(refused >= 4, "{kind:?}: it was never full");
    if refused == LEFT_KIB.len() {
        Store::restore_snapshot(&config(&data_dir), &mut bytes.as_slice()).expect("a restore");
    }
    let store = Store::open(config(&data_dir)).expect("the restored store");
    assert_eq!(store.keyspace(KeyspaceId::DEFAULT).revision(), revision);
    store.stop().await;
    drop(store);
    drop(disk);
}

/// Where the store itself has no room: the snapshot is refused, and the store is none the worse for it.
async fn saved_where_it_is_full(kind: Kind) {
    let home = tempfile::tempdir().expect("a temporary directory");
    let data_dir = home.path().join("data");
    let Some(disk) = Mounted::new(kind, &data_dir, 2 * MIB) else { return };
    let (store, revision) = written(&data_dir).await;
    for left_kib in [0, 8, 64, 1 << 10, 16 << 10] {
        let about = format!("{kind:?}, {left_kib} KiB left");
        disk.leave_kib(left_kib);
        let refused = store.save_snapshot(&mut Vec::new()).expect_err("a refusal");
        check_told(&refused, &about);
        disk.give_back();
        store
            .save_snapshot(&mut Vec::new())
            .unwrap_or_else(|error| panic!("{about}, with space back: {error}"));
    }
    store.stop().await;
    drop(store);
    let store = Store::open(config(&data_dir)).expect("the store opens");
    assert_eq!(store.keyspace(KeyspaceId::DEFAULT).revision(), revision);
    store.stop().await;
    drop(store);
    drop(disk);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_on_a_full_disk_says_so_and_loses_nothing() {
    saved_where_it_is_full(Kind::Tmpfs).await;
    saved_where_it_is_full(Kind::Ext4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_to_a_full_tmpfs_can_be_repeated() {
    restored_where_it_is_full(Kind::Tmpfs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_to_a_full_ext4_can_be_repeated() {
    restored_where_it_is_full(Kind::Ext4).await;
}
