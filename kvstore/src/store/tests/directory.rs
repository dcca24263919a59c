//! A data directory that others change while the store is in use: it ends before it acknowledges what nobody could find, and
//! nobody else is let in.

use super::{config, default_keyspace, in_time, value_of};
use crate::store::{Config, Placement, Store};
use crate::types::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// That a log of small segments keeps ready.
const SPARE_SEGMENTS: usize = 2;

const PLACEMENTS: [Placement; 2] = [Placement::Thread, Placement::Adaptive];

/// The store has ended by itself, for this reason.
async fn reason_of(store: &Store) -> String {
    match in_time(store.failed()).await {
        Error::Poisoned(reason) => reason,
        other => panic!("{other}"),
    }
}

fn open(directory: &tempfile::TempDir, placement: Placement) -> Store {
    let store = Store::open(config(directory, placement)).unwrap();
    store.take_core().map(tokio::spawn);
    store
}

fn segments(data_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data_dir.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "segment")).collect();
    segments.sort();
    segments
}

/// Somebody takes the file for a stale one. Whoever came in would cut off what the first one is just writing.
#[tokio::test]
async fn without_its_lock_file_a_store_is_locked_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory, Placement::Adaptive);
    let kv = default_keyspace(&store);
    in_time(kv.put("a", "1")).await.unwrap();
    fs::remove_file(directory.path().join("data/LOCK")).unwrap();
    let refused = Store::open(config(&directory, Placement::Adaptive)).err().expect("it is in use");
    assert!(refused.to_string().contains("LOCK somebody removed"), "{refused}");
    in_time(kv.put("a", "2")).await.unwrap();
    in_time(store.stop()).await;
    drop((kv, store));
    let store = open(&directory, Placement::Adaptive);
    assert_eq!(in_time(value_of(&default_keyspace(&store), "a")).await.unwrap(), b"2");
    in_time(store.stop()).await;
}

#[tokio::test]
async fn a_directory_that_was_moved_ends_the_store_and_has_everything() {
    for placement in PLACEMENTS {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory, placement);
        let kv = default_keyspace(&store);
        in_time(kv.put("a", "1")).await.unwrap();
        // The spare ones are made, and nothing else is under way.
        in_time(async {
            while segments(&directory.path().join("data")).len() < 1 + SPARE_SEGMENTS {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
        let (here, there) = (directory.path().join("data"), directory.path().join("moved"));
        fs::rename(&here, &there).unwrap();
        // As another store would make it.
        fs::create_dir_all(here.join("state")).unwrap();
        let mut written = 1;
        while in_time(kv.put("a", (written + 1).to_string())).await.is_ok() {
            written += 1;
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let reason = reason_of(&store).await;
        assert!(reason.contains(&*here.to_string_lossy()) && reason.contains("was moved"), "{reason}");
        in_time(store.stop()).await;
        drop((kv, store));
        assert_eq!(fs::read_dir(here.join("state")).unwrap().count(), 0, "nothing was written in its place");
        let config = Config { data_dir: there, ..config(&directory, placement) };
        let store = Store::open(config).unwrap();
        store.take_core().map(tokio::spawn);
        let found = in_time(value_of(&default_keyspace(&store), "a")).await.unwrap();
        assert_eq!(String::from_utf8(found).unwrap(), written.to_string());
        in_time(store.stop()).await;
    }
}

#[tokio::test]
async fn a_segment_that_was_removed_or_cut_ends_the_store_and_is_named() {
    let ways: [fn(&Path); 2] = [|path| fs::remove_file(path).unwrap(), |path| fs::write(path, b"").unwrap()];
    for (placement, way) in PLACEMENTS.into_iter().zip(ways) {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory, placement);
        in_time(default_keyspace(&store).put("a", "1")).await.unwrap();
        let first = segments(&directory.path().join("data")).remove(0);
        way(&first);
        let reason = reason_of(&store).await;
        assert!(reason.contains(&*first.to_string_lossy()) && reason.contains("restore"), "{reason}");
        in_time(store.stop()).await;
    }
}

#[tokio::test]
async fn a_state_that_was_emptied_ends_the_store() {
    for placement in PLACEMENTS {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory, placement);
        in_time(default_keyspace(&store).put("a", "1")).await.unwrap();
        for file in fs::read_dir(directory.path().join("data/state")).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        let reason = reason_of(&store).await;
        assert!(reason.contains("emptied") && reason.contains("backup"), "{reason}");
        in_time(store.stop()).await;
    }
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for() {
    for name in ["LOCK", "HOLDFAST"] {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("data");
        fs::create_dir(&data_dir).unwrap();
        let (pipe, mode) = (data_dir.join(name), rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let refused = Store::open(config(&directory, Placement::Adaptive)).err().expect("no data directory");
        assert!(refused.to_string().contains(&*pipe.to_string_lossy()), "{refused}");
    }
}
