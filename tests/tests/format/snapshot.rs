//! A snapshot that was saved once can be restored for ever. One of each version is kept as `snapshot-vN/saved`, and one for
//! whatever else came to be written (`snapshot-vN-WHAT`); what it holds, as text, is in `content` beside it.

use crate::config;
use crate::content::{content, write};
use crate::fixture::{dir, versions};
use crate::{mark_in_state, mark_of_log};
use kvstore::snapshot::{FORMAT_VERSION, receive};
use kvstore::store::Store;
use std::fs::{self, File};

const PREFIX: &str = "snapshot-v";
/// The fixture of what is written today: the state in it has the mark of the log that it was saved beside.
const NEWEST: &str = "snapshot-v1-log-mark";

#[tokio::test]
async fn every_version_of_a_snapshot_is_restored() {
    let versions = versions(PREFIX);
    for wanted in (1..=FORMAT_VERSION).map(|number| format!("{PREFIX}{number}")).chain([NEWEST.into()]) {
        assert!(versions.contains(&wanted), "the fixture {wanted} is missing");
    }
    for version in &versions {
        let home = tempfile::tempdir().expect("a temporary directory");
        let data_dir = home.path().join("data");
        let config = config(&data_dir);
        let mut saved = File::open(dir(version).join("saved")).expect("the snapshot");
        let info = Store::restore_snapshot(&config, &mut saved).expect("it is restored");
        assert_eq!(
            mark_in_state(&data_dir),
            Some(mark_of_log(&data_dir)),
            "{version}: the mark of its new log"
        );
        let store = Store::open(config).expect("the store opens");
        assert!(store.status().applied > info.applied, "it goes on behind the snapshot");
        let expected = fs::read_to_string(dir(version).join("content")).expect("the content");
        let found = content(&store).await;
        assert!(found == expected, "{version} reads differently:\n{found}\ninstead of\n{expected}");
        store.stop().await;
    }
}

/// So that the mark of the log that a snapshot was taken beside is read, and replaced, for ever.
#[test]
fn the_newest_snapshot_has_the_mark_of_a_log() {
    for (version, has_mark) in [("snapshot-v1", false), (NEWEST, true)] {
        let home = tempfile::tempdir().expect("a temporary directory");
        let state = home.path().join("state");
        fs::create_dir(&state).expect("a directory");
        let mut saved = File::open(dir(version).join("saved")).expect("the snapshot");
        receive(&mut saved, &state).expect("a whole snapshot");
        assert_eq!(mark_in_state(home.path()).is_some(), has_mark, "{version}");
    }
}

#[tokio::test]
#[ignore = "writes into the sources"]
async fn write_the_snapshot() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let copy = home.path().join("copy");
    let written = write(&home.path().join("data"), &copy).await;
    let store = Store::open(config(&copy)).expect("the store opens");
    fs::create_dir_all(dir(NEWEST)).expect("a directory");
    let mut saved = File::create(dir(NEWEST).join("saved")).expect("a file");
    store.save_snapshot(&mut saved).expect("a snapshot");
    fs::write(dir(NEWEST).join("content"), written).expect("the content");
    store.stop().await;
}
