//! Every single damaged byte is noticed or harmless.

use super::*;
use crate::types::Error;
use std::path::{Path, PathBuf};

const SEGMENT_BYTES: u64 = 8 << 10;
const BYTES: usize = 600;
const LAST: u64 = 28;

struct Finished {
    disk: Arc<Disk>,
    expected: Recovered,
    before_last_frame: Recovered,
    last_file: PathBuf,
    last_frame: std::ops::Range<usize>,
}

/// Some segments of frames, recycled ones among them, and two prepared ones.
fn finished() -> Finished {
    let disk = Disk::new();
    let (mut log, _) = open(&disk, SEGMENT_BYTES, 1).unwrap();
    log.append(Some(hard_state(4, 0)), &[]).unwrap();
    let mut before_last_frame = Recovered::default();
    let mut last_start = 0;
    for at in 1..=LAST {
        if at == 20 {
            log.purge_below(index(14)).unwrap();
        }
        if at > 20 {
            keep_house(&mut log).unwrap();
        }
        if at == LAST {
            last_start = log.segments.back().unwrap().end as usize;
            let entries = read_all(&log).into_iter().filter(|entry| entry.index >= index(15)).collect();
            before_last_frame = Recovered { hard_state: log.hard_state(), entries, torn_tail_bytes: 0 };
        }
        log.append((at % 4 == 0).then(|| hard_state(4, at)), &[entry(at, 4, BYTES)]).unwrap();
    }
    keep_house(&mut log).unwrap();
    let (last_file, end) = {
        let last = log.segments.back().unwrap();
        (last.path.clone(), last.end as usize)
    };
    assert!(last_start > 4096 && last_start < end, "the last frame is not the first one of its segment");
    disk.kill();
    let (log, expected) = open(&disk, SEGMENT_BYTES, 15).unwrap();
    assert_eq!(expected.entries.last().unwrap(), &entry(LAST, 4, BYTES));
    assert!(log.segments.len() == 4 && disk.names().len() == log.segments.len() + 2, "{:?}", disk.names());
    drop(log);
    disk.kill();
    Finished { disk, expected, before_last_frame, last_file, last_frame: last_start..end }
}

fn same(a: &Recovered, b: &Recovered) -> bool {
    a.entries == b.entries && a.hard_state == b.hard_state
}

fn flip(disk: &Disk, path: &Path, at: usize, mask: u8) {
    disk.tamper(path, |bytes| bytes[at] ^= mask);
}

#[test]
fn every_flipped_byte_is_noticed_or_harmless() {
    let finished = finished();
    let (mut refused, mut torn, mut harmless) = (0, 0, 0);
    let lengths = finished.last_frame.start + 24..finished.last_frame.start + 28;
    for path in finished.disk.names() {
        for at in 0..finished.disk.bytes_of(&path) {
            let disk = finished.disk.copy();
            flip(&disk, &path, at, [0xff, 1 << (at % 8)][at % 2]);
            let tampered = disk.everything();
            let in_last_frame = path == finished.last_file && finished.last_frame.contains(&at);
            match open(&disk, SEGMENT_BYTES, 15) {
                Ok((log, recovered)) if in_last_frame => {
                    assert!(same(&recovered, &finished.before_last_frame), "byte {at} of {path:?}");
                    assert!(recovered.torn_tail_bytes > 0);
                    assert_eq!(log.last_index(), index(LAST - 1));
                    torn += 1;
                }
                Ok((log, recovered)) => {
                    assert!(same(&recovered, &finished.expected), "byte {at} of {path:?}");
                    assert_eq!(log.last_index(), index(LAST));
                    harmless += 1;
                }
                Err(error @ Error::Damaged { .. }) => {
                    // A length that goes beyond the file is no torn write, even in the last frame.
                    assert!(!in_last_frame || lengths.contains(&at), "{error}");
                    assert_eq!(disk.everything(), tampered, "a refused start changes nothing");
                    assert!(
                        error.to_string().contains(path.file_name().unwrap().to_str().unwrap()),
                        "{path:?}: {error}"
                    );
                    refused += 1;
                }
                Err(other) => panic!("byte {at} of {path:?}: {other}"),
            }
        }
    }
    assert!(
        refused > 5000 && torn >= finished.last_frame.len() - lengths.len() && harmless > 5000,
        "{refused} {torn} {harmless}"
    );
}

/// However short the last file is made: what was durable is never taken for a torn write unless the cut falls
/// where a frame begins, or where a header lies in two sectors.
#[test]
fn a_file_that_was_cut_is_noticed() {
    let finished = finished();
    let frame = finished.last_frame.clone();
    for bytes in (1..frame.len()).map(|at| frame.start + at) {
        let disk = finished.disk.copy();
        disk.tamper(&finished.last_file, |all| all.truncate(bytes));
        match open(&disk, SEGMENT_BYTES, 15) {
            Err(Error::Damaged { path, reason, .. }) => {
                assert!(path == finished.last_file && reason.contains("cut"), "{bytes}: {reason}");
            }
            Ok(_) => {
                // The log counts whole pages, and an unfinished growth may have left a part of one.
                let page = bytes - bytes % 4096;
                assert!(page < frame.start + 64, "cut at byte {bytes} of {frame:?}");
            }
            Err(other) => panic!("{bytes}: {other}"),
        }
    }
}

#[test]
fn a_second_opening_after_a_torn_tail_is_clean() {
    let finished = finished();
    flip(&finished.disk, &finished.last_file, finished.last_frame.start + 40, 4);
    let (mut log, recovered) = open(&finished.disk, SEGMENT_BYTES, 15).unwrap();
    assert_eq!(recovered.torn_tail_bytes, finished.last_frame.len() as u64);
    log.append(None, &[entry(LAST, 5, 1)]).unwrap();
    finished.disk.lose_power(|| false);
    let (_, recovered) = open(&finished.disk, SEGMENT_BYTES, LAST).unwrap();
    assert_eq!(recovered.entries, [entry(LAST, 5, 1)]);
    assert_eq!(recovered.torn_tail_bytes, 0);
}
