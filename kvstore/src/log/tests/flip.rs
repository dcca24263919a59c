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
    sealed: bool,
}

/// Some segments of frames, recycled ones among them, and two prepared ones; at rest, or killed right after the last
/// append.
fn finished(sealed: bool) -> Finished {
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
    if sealed {
        let syncs = disk.syncs();
        log.seal().unwrap();
        assert_eq!(disk.syncs(), syncs, "a seal waits for nothing");
    }
    let (last_file, end) = {
        let last = log.segments.back().unwrap();
        (last.path.clone(), last.end as usize)
    };
    assert!(last_start > 4096 && last_start < end, "the last frame is not the first one of its segment");
    disk.kill();
    let (log, expected) = open(&disk.copy(), SEGMENT_BYTES, 15).unwrap();
    assert_eq!(expected.entries.last().unwrap(), &entry(LAST, 4, BYTES));
    assert!(log.segments.len() == 4 && disk.names().len() == log.segments.len() + 2, "{:?}", disk.names());
    Finished { disk, expected, before_last_frame, last_file, last_frame: last_start..end, sealed }
}

fn same(a: &Recovered, b: &Recovered) -> bool {
    a.entries == b.entries && a.hard_state == b.hard_state
}

fn flip(disk: &Disk, path: &Path, at: usize, mask: u8) {
    disk.tamper(path, |bytes| bytes[at] ^= mask);
}

#[derive(Default)]
struct Count {
    refused: usize,
    torn: usize,
    harmless: usize,
}

/// Changes a file, opens, and checks that what comes out is true.
fn check_change(
    finished: &Finished,
    path: &Path,
    about: &str,
    in_last_frame: bool,
    count: &mut Count,
    change: impl FnOnce(&mut Vec<u8>),
) {
    let disk = finished.disk.copy();
    disk.tamper(path, change);
    let tampered = disk.everything();
    match open(&disk, SEGMENT_BYTES, 15) {
        Ok((log, recovered)) if in_last_frame && !same(&recovered, &finished.expected) => {
            assert!(!finished.sealed, "{about}: a sealed frame is gone");
            assert!(same(&recovered, &finished.before_last_frame), "{about}");
            assert!(recovered.torn_tail_bytes > 0, "{about}");
            assert_eq!(log.last_index(), index(LAST - 1), "{about}");
            count.torn += 1;
        }
        Ok((log, recovered)) => {
            assert!(same(&recovered, &finished.expected), "{about}");
            assert_eq!(log.last_index(), index(LAST), "{about}");
            count.harmless += 1;
        }
        Err(error @ Error::Damaged { .. }) => {
            assert_eq!(disk.everything(), tampered, "{about}: a refused start changes nothing");
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(error.to_string().contains(name), "{about}: {error}");
            count.refused += 1;
        }
        Err(other) => panic!("{about}: {other}"),
    }
}

fn flip_every_byte(sealed: bool) -> (Finished, Count) {
    let finished = finished(sealed);
    let mut count = Count::default();
    for path in finished.disk.names() {
        // All of them once; the killed log differs in the last file only.
        let step = if sealed || path == finished.last_file { 1 } else { 7 };
        for at in (0..finished.disk.bytes_of(&path)).step_by(step) {
            let in_last_frame = path == finished.last_file && finished.last_frame.contains(&at);
            let about = format!("byte {at} of {path:?}");
            check_change(&finished, &path, &about, in_last_frame, &mut count, |bytes| {
                bytes[at] ^= [0xff, 1 << (at % 8)][at % 2];
            });
        }
    }
    assert!(count.refused > 1500 && count.harmless > 3000, "{} {}", count.refused, count.harmless);
    (finished, count)
}

#[test]
fn every_flipped_byte_of_a_log_at_rest_is_noticed_or_harmless() {
    let (_, count) = flip_every_byte(true);
    assert_eq!(count.torn, 0);
}

/// Killed at work: there was no time for a seal, and the last frame may be torn as far as anybody can tell.
#[test]
fn every_flipped_byte_outside_the_last_frame_of_a_killed_log_is_noticed_or_harmless() {
    let (finished, count) = flip_every_byte(false);
    // A length that goes beyond the file is no torn write.
    let (lengths, padding) = (4, 8);
    assert!(count.torn >= finished.last_frame.len() - lengths - padding, "{}", count.torn);
}

/// What rots is a sector as a rule, not a bit.
#[test]
fn a_lost_sector_of_the_last_frame_of_a_log_at_rest_is_noticed() {
    let finished = finished(true);
    let file = finished.last_file.clone();
    for fill in [0x00, 0xff, 0xa5] {
        for sector in finished.last_frame.start / 512..=(finished.last_frame.end - 1) / 512 {
            let from = (sector * 512).max(finished.last_frame.start);
            // Where the seal begins in the same sector it would be lost too, and with it the proof.
            let to = ((sector + 1) * 512).min(finished.last_frame.end);
            let mut count = Count::default();
            let about = format!("{from}..{to} filled with {fill:#x}");
            check_change(&finished, &file, &about, true, &mut count, |bytes| bytes[from..to].fill(fill));
            assert_eq!(count.refused, 1, "{about}");
        }
    }
}

/// However short a file is made, the ends of frames and headers across two sectors among them.
#[test]
fn a_file_that_was_cut_is_noticed() {
    for sealed in [true, false] {
        let finished = finished(sealed);
        for path in finished.disk.names() {
            let full = finished.disk.bytes_of(&path);
            // Every length of the file in use; of the others enough to meet every place of a header.
            let step = if path == finished.last_file { 1 } else { 23 };
            for bytes in (0..full).step_by(step) {
                let mut count = Count::default();
                let about = format!("{path:?} cut at byte {bytes} of {full}");
                check_change(&finished, &path, &about, false, &mut count, |all| all.truncate(bytes));
                assert_eq!(count.refused, 1, "{about}");
            }
        }
    }
}

/// Also where it had grown because a frame was larger than a segment.
#[test]
fn a_grown_file_that_was_cut_is_noticed() {
    let disk = Disk::new();
    let (mut log, _) = open(&disk, SEGMENT_BYTES, 1).unwrap();
    let job = log.housekeeping().unwrap();
    // The next segment is being made: the one in use has to grow, and grows again.
    for at in 1..=3 {
        log.append(Some(hard_state(1, at)), &[entry(at, 1, 700_000)]).unwrap();
    }
    drop(job);
    assert_eq!(log.segments.len(), 1);
    let (file, end) = {
        let segment = log.segments.back().unwrap();
        (segment.path.clone(), segment.end as usize)
    };
    disk.kill();
    let full = disk.bytes_of(&file);
    let frames = [4096 + 32, 700_000, 1_400_000, end - 1, end, full - 4096, full - 1];
    for bytes in frames.into_iter().chain((0..full).step_by(77_777)) {
        let disk = disk.copy();
        disk.tamper(&file, |all| all.truncate(bytes));
        let refused = open(&disk, SEGMENT_BYTES, 1).unwrap_err();
        assert!(matches!(&refused, Error::Damaged { path, .. } if *path == file), "{bytes}: {refused}");
    }
    assert_eq!(open(&disk, SEGMENT_BYTES, 1).unwrap().1.entries.len(), 3);
}

#[test]
fn a_second_opening_after_a_torn_tail_is_clean() {
    let finished = finished(false);
    flip(&finished.disk, &finished.last_file, finished.last_frame.start + 40, 4);
    let (mut log, recovered) = open(&finished.disk, SEGMENT_BYTES, 15).unwrap();
    assert_eq!(recovered.torn_tail_bytes, finished.last_frame.len() as u64);
    log.append(None, &[entry(LAST, 5, 1)]).unwrap();
    finished.disk.lose_power(|| false);
    let (_, recovered) = open(&finished.disk, SEGMENT_BYTES, LAST).unwrap();
    assert_eq!(recovered.entries, [entry(LAST, 5, 1)]);
    assert_eq!(recovered.torn_tail_bytes, 0);
}

/// A seal that is lost, torn or rotten costs nothing but the proof.
#[test]
fn a_broken_seal_is_harmless() {
    let finished = finished(true);
    let seal = finished.last_frame.end..finished.last_frame.end + 32;
    let whole = open(&finished.disk.copy(), SEGMENT_BYTES, 15).unwrap().1;
    assert_eq!(whole.torn_tail_bytes, 0);
    for at in seal.clone() {
        let disk = finished.disk.copy();
        disk.tamper(&finished.last_file, |bytes| bytes[at..seal.end].fill(0));
        let (mut log, recovered) = open(&disk, SEGMENT_BYTES, 15).unwrap();
        assert!(same(&recovered, &finished.expected), "torn at byte {at}");
        log.append(None, &[entry(LAST + 1, 5, 1)]).unwrap();
        disk.lose_power(|| false);
        assert_eq!(open(&disk, SEGMENT_BYTES, LAST + 1).unwrap().1.entries, [entry(LAST + 1, 5, 1)]);
    }
}

/// The frame that replaces a seal may reach the disk in any part of its sectors: it was never acknowledged, and all
/// before it is there.
#[test]
fn a_frame_written_over_a_seal_may_be_torn_anywhere() {
    for first in [600, 471, 479, 487, 400, 3900] {
        for next in [1, 100, 700, 2000] {
            for pattern in 0u32..64 {
                let disk = Disk::new();
                let (mut log, _) = open(&disk, 16 << 10, 1).unwrap();
                log.append(Some(hard_state(1, 0)), &[entry(1, 1, first)]).unwrap();
                if pattern % 2 == 0 {
                    log.seal().unwrap()
                } else {
                    log.seal_durably().unwrap()
                }
                disk.fail_next_sync_as(std::io::ErrorKind::Interrupted);
                disk.die_after(2);
                log.append(None, &[entry(2, 1, next)]).unwrap_err();
                let mut bit = 0;
                disk.lose_power(|| {
                    bit += 1;
                    pattern >> (1 + bit % 5) & 1 == 1
                });
                let about = format!("{first} {next} {pattern:b}");
                let (log, recovered) = open(&disk, 16 << 10, 1).unwrap_or_else(|e| panic!("{about}: {e}"));
                assert_eq!(recovered.entries[0], entry(1, 1, first), "{about}");
                assert!(
                    recovered.entries.len() == 1 || recovered.entries[1..] == [entry(2, 1, next)],
                    "{about}"
                );
                assert_eq!(log.last_index().get() as usize, recovered.entries.len());
            }
        }
    }
}
