//! A data directory in the repository, and out of it again.

use holdfast_tests::files;
use std::fs;
use std::path::{Path, PathBuf};

/// The format of the data directory that is written today.
pub const FORMAT: u32 = 2;
/// The fixture of what is written today.
pub const NEWEST: &str = "v2-log-mark";
/// The one of the same format from before the state said which log it belongs to.
pub const WITHOUT_MARK: &str = "v2";

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/format")
}

pub fn dir(version: &str) -> PathBuf {
    home().join(version)
}

/// The versions that are kept: what `prefix` and a number begin.
pub fn versions(prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(home()).expect("our own directory").map(|entry| entry.expect("an entry"));
    let mut versions: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| {
            name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
        .collect();
    versions.sort_unstable();
    versions
}

/// Keeps `data_dir`: all but locks, and the storage engine's diary and notes, which it does not read.
pub fn pack(version: &str, data_dir: &Path, content: &str) {
    let dir = dir(version);
    let _ = fs::remove_dir_all(&dir);
    let mut lengths = String::new();
    for path in files(data_dir) {
        let name = path.strip_prefix(data_dir).expect("it lies there").to_str().expect("plain names");
        if name.ends_with("LOCK") || name.starts_with("state/LOG") || name.starts_with("state/OPTIONS") {
            continue;
        }
        let bytes = fs::read(&path).expect("a file");
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let target = dir.join("data").join(name);
        fs::create_dir_all(target.parent().expect("it lies somewhere")).expect("a directory");
        fs::write(target, &bytes[..used]).expect("a file");
        lengths.push_str(&format!("{} {name}\n", bytes.len()));
    }
    fs::write(dir.join("lengths"), lengths).expect("the lengths");
    fs::write(dir.join("content"), content).expect("the content");
}

pub fn unpack(version: &str, data_dir: &Path) {
    let dir = dir(version);
    let lengths = fs::read_to_string(dir.join("lengths")).expect("the lengths");
    for line in lengths.lines() {
        let (bytes, name) = line.split_once(' ').expect("a length and a name");
        let target = data_dir.join(name);
        fs::create_dir_all(target.parent().expect("it lies somewhere")).expect("a directory");
        fs::copy(dir.join("data").join(name), &target).expect("a copy");
        let file = fs::File::options().write(true).open(target).expect("the copy");
        file.set_len(bytes.parse().expect("a length")).expect("zeros at the end");
    }
}

/// The checksum of a segment's header, and the mark of a log, bit by bit.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}
