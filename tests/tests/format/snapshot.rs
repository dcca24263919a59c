//! A snapshot that was saved once can be restored for ever. One of each version is kept as `snapshot-vN/saved`; what it
//! holds, as text, in `snapshot-vN/content`.

use crate::config;
use crate::content::{content, write};
use kvstore::snapshot::FORMAT_VERSION;
use kvstore::store::Store;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

fn dir(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/format/snapshot-v{version}"))
}

#[tokio::test]
async fn every_version_of_a_snapshot_is_restored() {
    for version in 1..=FORMAT_VERSION {
        let home = tempfile::tempdir().expect("a temporary directory");
        let config = config(&home.path().join("data"));
        let mut saved = File::open(dir(version).join("saved")).expect("the snapshot");
        let info = Store::restore_snapshot(&config, &mut saved).expect("it is restored");
        let store = Store::open(config).expect("the store opens");
        assert!(store.status().applied > info.applied, "it goes on behind the snapshot");
        let expected = fs::read_to_string(dir(version).join("content")).expect("the content");
        let found = content(&store).await;
        assert!(found == expected, "v{version} reads differently:\n{found}\ninstead of\n{expected}");
        store.stop().await;
    }
}

#[tokio::test]
#[ignore = "writes into the sources"]
async fn write_the_snapshot() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let copy = home.path().join("copy");
    let written = write(&home.path().join("data"), &copy).await;
    let store = Store::open(config(&copy)).expect("the store opens");
    fs::create_dir_all(dir(FORMAT_VERSION)).expect("a directory");
    let mut saved = File::create(dir(FORMAT_VERSION).join("saved")).expect("a file");
    store.save_snapshot(&mut saved).expect("a snapshot");
    fs::write(dir(FORMAT_VERSION).join("content"), written).expect("the content");
    store.stop().await;
}
