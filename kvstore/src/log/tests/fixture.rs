//! A log of each format version lies in `fixtures/`: what was written once must be read for ever, and what is
//! written today must not change without a new version.

use super::*;
use crate::log::{FORMAT_VERSION, Files};
use std::fs;
use std::path::{Path, PathBuf};

const SEGMENT_BYTES: u64 = 8 << 10;

fn fixture_dir(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/log/tests/fixtures/v{version}"))
}

/// Every kind of record, a replaced suffix, purged and recycled segments, a restart, a prepared segment.
fn write() -> Arc<Disk> {
    let disk = Disk::new();
    let config = LogConfig { spare_segments: 1, ..config(SEGMENT_BYTES) };
    let (mut log, _) = Log::open(disk.clone(), config, index(1)).unwrap();
    log.append(Some(hard_state(1, 0)), &(1..=12).map(|at| entry(at, 1, 300)).collect::<Vec<_>>()).unwrap();
    log.append(None, &(9..=12).map(|at| entry(at, 2, 300)).collect::<Vec<_>>()).unwrap();
    log.restart_after(index(20), Some(hard_state(3, 20))).unwrap();
    log.purge_below(index(20)).unwrap();
    for at in 21..=26 {
        log.append(None, &[entry(at, 3, 500)]).unwrap();
        keep_house(&mut log).unwrap();
    }
    log.append(Some(hard_state(4, 26)), &[entry(26, 4, 0), entry(27, 4, 1), entry(28, 4, 2)]).unwrap();
    log.seal().unwrap();
    disk.kill();
    disk
}

fn check(disk: &Arc<Disk>) {
    let (log, recovered) = open(disk, SEGMENT_BYTES, 23).unwrap();
    assert_eq!(recovered.hard_state, Some(hard_state(4, 26)));
    let expected: Vec<_> = (21..=25)
        .map(|at| entry(at, 3, 500))
        .chain((26..=28).map(|at| entry(at, 4, at as usize - 26)))
        .collect();
    assert!(recovered.entries == expected[2..]);
    assert!(read_all(&log) == expected);
    disk.kill();
}

#[test]
fn every_version_is_read() {
    for version in 1..=FORMAT_VERSION {
        let disk = Disk::new();
        for file in fs::read_dir(fixture_dir(version)).unwrap() {
            let file = file.unwrap();
            let path = Path::new(DIR).join(file.file_name());
            disk.create(&path).unwrap();
            disk.tamper(&path, |bytes| *bytes = fs::read(file.path()).unwrap());
        }
        disk.sync_dir(Path::new(DIR)).unwrap();
        check(&disk);
    }
}

#[test]
fn what_is_written_today_is_the_newest_version() {
    let written = write();
    for (path, bytes) in written.everything() {
        let name = path.file_name().unwrap();
        let fixture = fs::read(fixture_dir(FORMAT_VERSION).join(name)).unwrap();
        assert!(bytes == fixture, "{name:?} is not what format version {FORMAT_VERSION} looked like");
    }
    assert_eq!(written.names().len(), fs::read_dir(fixture_dir(FORMAT_VERSION)).unwrap().count());
    check(&written);
}

/// For a new format version: `cargo test -p kvstore write_the_fixture -- --ignored`, then commit the files.
#[test]
#[ignore = "writes into the sources"]
fn write_the_fixture() {
    let dir = fixture_dir(FORMAT_VERSION);
    fs::create_dir_all(&dir).unwrap();
    for (path, bytes) in write().everything() {
        fs::write(dir.join(path.file_name().unwrap()), bytes).unwrap();
    }
}
