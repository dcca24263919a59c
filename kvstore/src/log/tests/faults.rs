//! A disk that fails, is full, or holds what it should not.

use super::*;
use crate::log::format::{FrameHeader, LogId, SegmentHeader, Sequence};
use crate::log::{Files, record};
use crate::types::{Action, Error};
use std::path::{Path, PathBuf};

const SMALL: u64 = 16 << 10;

fn filled(disk: &Arc<Disk>, count: u64) -> Log {
    let (mut log, _) = open(disk, SMALL, 1).unwrap();
    for at in 1..=count {
        log.append(Some(hard_state(1, at)), &[entry(at, 1, 1000)]).unwrap();
    }
    log
}

fn segment(sequence: u64) -> PathBuf {
    Sequence(sequence).segment_path(Path::new(DIR))
}

#[test]
fn the_first_failed_sync_poisons_for_ever() {
    let disk = Disk::new();
    let mut log = filled(&disk, 3);
    disk.fail_next_sync();
    let failed = log.append(None, &[entry(4, 1, 10)]).unwrap_err();
    assert!(matches!(&failed, Error::Poisoned(why) if why.contains("the disk failed")), "{failed}");
    assert_eq!(failed.action(), Action::Fatal);
    assert_eq!(log.append(None, &[entry(4, 1, 10)]).unwrap_err(), failed);
    assert_eq!(log.append(None, &[]).unwrap_err(), failed);
    assert_eq!(log.purge_below(index(3)).unwrap_err(), failed);
    assert_eq!(log.restart_after(index(3), None).unwrap_err(), failed);
    assert!(log.housekeeping().is_none());
    assert_eq!(log.last_index(), index(3), "what failed is not there");
}

#[test]
fn a_seal_that_fails_poisons_like_every_write() {
    for durably in [false, true] {
        let disk = Disk::new();
        let mut log = filled(&disk, 3);
        if durably {
            disk.fail_next_sync();
        } else {
            disk.die_after(1);
        }
        let failed = if durably { log.seal_durably() } else { log.seal() }.unwrap_err();
        assert!(matches!(&failed, Error::Poisoned(why) if why.contains("sealing the raft log")), "{failed}");
        assert_eq!(log.append(None, &[entry(4, 1, 10)]).unwrap_err(), failed);
        disk.lose_power(|| false);
        assert_eq!(open(&disk, SMALL, 1).unwrap().1.entries.len(), 3);
    }
}

#[test]
fn a_frame_whose_sync_failed_is_written_again_before_it_is_built_on() {
    let disk = Disk::new();
    let mut log = filled(&disk, 3);
    disk.fail_next_sync();
    log.append(None, &[entry(4, 1, 3000)]).unwrap_err();
    disk.kill();
    // The kernel shows the frame and takes it for written, but it is not on the disk.
    let (mut log, recovered) = open(&disk, SMALL, 4).unwrap();
    assert_eq!(recovered.entries, [entry(4, 1, 3000)]);
    log.append(None, &[entry(5, 1, 10)]).unwrap();
    disk.lose_power(|| false);
    assert_eq!(open(&disk, SMALL, 4).unwrap().1.entries, [entry(4, 1, 3000), entry(5, 1, 10)]);
}

#[test]
fn a_full_disk_refuses_and_the_same_append_passes_when_there_is_space() {
    let disk = Disk::new();
    let mut log = filled(&disk, 10);
    disk.set_capacity(Some(disk.used_bytes() + 5000));
    let mut next = 11;
    let refused = loop {
        match log.append(None, &[entry(next, 1, 1000)]) {
            Ok(()) => next += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&refused, Error::NoSpace(why) if why.contains("free space")), "{refused}");
    assert_eq!(refused.action(), Action::Exhausted);
    assert_eq!(log.append(None, &[entry(next, 1, 1000)]).unwrap_err(), refused);
    assert!(log.append(None, &[entry(next, 1, 100_000)]).is_err());
    assert_eq!(read_all(&log).len() as u64, next - 1);
    // A smaller one still fits into the segment in use.
    log.append(Some(hard_state(2, 1)), &[]).unwrap();

    // A full disk is no reason not to start either.
    disk.kill();
    let (mut log, recovered) = open(&disk, SMALL, 1).unwrap();
    assert_eq!(recovered.entries.len() as u64, next - 1);
    assert!(matches!(log.append(None, &[entry(next, 1, 1000)]), Err(Error::NoSpace(_))));
    assert!(log.housekeeping().unwrap().run().is_err());
    disk.set_capacity(None);
    log.append(None, &[entry(next, 1, 1000)]).unwrap();
    keep_house(&mut log).unwrap();
    disk.lose_power(|| false);
    let (_, recovered) = open(&disk, SMALL, 1).unwrap();
    assert_eq!(recovered.entries.last(), Some(&entry(next, 1, 1000)));
    assert_eq!(recovered.hard_state, Some(hard_state(2, 1)));
}

#[test]
fn space_that_runs_out_only_at_the_sync_of_a_growing_segment_poisons_nothing() {
    let disk = Disk::new();
    let mut log = filled(&disk, 3);
    disk.fail_next_sync_as(std::io::ErrorKind::StorageFull);
    // The next segment is being made, so the one in use has to grow.
    let job = log.housekeeping().unwrap();
    let refused = log.append(None, &[entry(4, 1, 20_000)]).unwrap_err();
    assert!(matches!(refused, Error::NoSpace(_)), "{refused}");
    log.append(None, &[entry(4, 1, 20_000)]).unwrap();
    drop(job);
    disk.lose_power(|| false);
    assert_eq!(open(&disk, SMALL, 4).unwrap().1.entries, [entry(4, 1, 20_000)]);
}

#[test]
fn a_torn_tail_is_zeroed() {
    let disk = Disk::new();
    let mut log = filled(&disk, 2);
    let end = log.segments.back().unwrap().end as usize;
    disk.fail_next_sync();
    log.append(None, &[entry(3, 1, 9000)]).unwrap_err();
    disk.kill();
    disk.tamper(&segment(1), |bytes| bytes[end + 5000] ^= 1);
    let (_, recovered) = open(&disk, SMALL, 3).unwrap();
    assert!((recovered.torn_tail_bytes as usize) > 9000 && recovered.entries.is_empty());
    disk.lose_power(|| false);
    disk.tamper(&segment(1), |bytes| {
        // Behind the new seal.
        assert!(bytes[end + 32..].iter().all(|byte| *byte == 0));
    });
    assert_eq!(open(&disk, SMALL, 3).unwrap().1.torn_tail_bytes, 0);
}

#[test]
fn a_frame_out_of_turn_is_refused() {
    let disk = Disk::new();
    drop(filled(&disk, 5));
    disk.kill();
    // Frames two to five are equally long; the fourth one now stands in the third one's place.
    let (first, others) = (4096 + 1120, 1096);
    disk.tamper(&segment(1), |bytes| {
        bytes.copy_within(first + 2 * others..first + 3 * others, first + others)
    });
    let refused = open(&disk, SMALL, 1).unwrap_err();
    assert!(
        matches!(&refused, Error::Damaged { offset, reason, .. }
                 if *offset == (first + others) as u64 && reason.contains("missing before this one")),
        "{refused}"
    );
}

#[test]
fn a_segment_that_does_not_continue_the_entries_before_it_is_refused() {
    let disk = Disk::new();
    let log = filled(&disk, 20);
    assert_eq!(log.segments.len(), 2);
    let mut forged = Vec::new();
    record::put_position(&mut forged, index(7));
    let life = SegmentHeader { log_id: LogId(disk.random_number() | 1), sequence: Sequence(2) };
    disk.kill();
    disk.tamper(&segment(2), |bytes| {
        let frame = &mut bytes[4096..];
        let header = FrameHeader::decode(life, frame).unwrap();
        frame[32..32 + forged.len()].copy_from_slice(&forged);
        FrameHeader::seal(life, header.number, &mut frame[..32 + header.payload_bytes as usize]);
    });
    let refused = open(&disk, SMALL, 1).unwrap_err();
    assert!(
        refused.to_string().contains("entries of the raft log are missing before this frame"),
        "{refused}"
    );
}

#[test]
fn purging_frees_a_full_disk() {
    let disk = Disk::new();
    let mut log = filled(&disk, 30);
    disk.set_capacity(Some(disk.used_bytes()));
    let mut next = 31;
    while log.append(None, &[entry(next, 1, 1000)]).is_ok() {
        next += 1;
    }
    log.purge_below(index(next)).unwrap();
    // Without a job: the append recycles a purged segment itself.
    log.append(None, &[entry(next, 1, 1000)]).unwrap();
}

#[test]
fn a_segment_taken_for_a_frame_that_had_no_space_is_not_all_that_purging_leaves() {
    let disk = Disk::new();
    let mut log = filled(&disk, 5);
    keep_house(&mut log).unwrap();
    disk.set_capacity(Some(disk.used_bytes()));
    assert!(matches!(log.append(None, &[entry(6, 1, 100_000)]), Err(Error::NoSpace(_))));
    log.purge_below(index(6)).unwrap();
    let _ = keep_house(&mut log);
    disk.lose_power(|| false);
    let (log, recovered) = open(&disk, SMALL, 6).unwrap();
    assert_eq!(recovered.hard_state, Some(hard_state(1, 5)));
    assert_eq!(log.last_index(), index(5));
}

#[test]
fn a_hole_in_the_middle_names_file_and_offset() {
    let disk = Disk::new();
    drop(filled(&disk, 30));
    disk.tamper(&segment(2), |bytes| bytes[4096 + 2000..4096 + 2100].fill(0));
    disk.kill();
    let refused = open(&disk, SMALL, 1).unwrap_err();
    let Error::Damaged { path, offset, reason } = &refused else { panic!("{refused}") };
    assert_eq!((path, *offset), (&segment(2), 4096 + 1088 + 32), "{refused}");
    assert!(reason.contains("restore this data directory from a backup"), "{reason}");
}

#[test]
fn a_missing_segment_a_foreign_file_and_a_wrong_name_are_refused() {
    let disk = Disk::new();
    drop(filled(&disk, 60));
    disk.kill();
    let refused = |change: &dyn Fn(&Disk)| {
        let disk = disk.copy();
        change(&disk);
        open(&disk, SMALL, 1).unwrap_err()
    };
    let missing = refused(&|disk| disk.remove(&segment(3)).unwrap());
    assert!(
        matches!(&missing, Error::DataDir { path, reason } if *path == segment(3) && reason.contains("missing"))
    );
    let first = refused(&|disk| disk.remove(&segment(1)).unwrap()).to_string();
    assert!(first.contains(&format!("{} is missing", segment(1).display())), "{first}");
    let foreign = refused(&|disk| drop(disk.create(&Path::new(DIR).join("000004.sst")).unwrap()));
    assert!(foreign.to_string().contains("000004.sst: not a file of the raft log"), "{foreign}");
    let renamed = refused(&|disk| {
        disk.rename(&segment(2), &segment(99)).unwrap();
        disk.rename(&segment(3), &segment(2)).unwrap();
        disk.rename(&segment(99), &segment(3)).unwrap();
    });
    assert!(renamed.to_string().contains("is segment 3 of a raft log"), "{renamed}");
    let oldest = refused(&|disk| disk.remove(&segment(1)).unwrap());
    assert!(oldest.to_string().contains("begins with entry"), "{oldest}");
    let all_but_prepared = refused(&|disk| {
        let (mut log, _) = open(&disk.copy(), SMALL, 1).unwrap();
        keep_house(&mut log).unwrap();
        for path in disk.names() {
            disk.remove(&path).unwrap();
        }
        let header = SegmentHeader { log_id: LogId(5), sequence: Sequence(9) };
        disk.create(&segment(9)).unwrap().write_at(0, &header.encode(8 << 10)).unwrap();
    });
    assert!(all_but_prepared.to_string().contains("no frame is left"), "{all_but_prepared}");
    let other_log = refused(&|disk| {
        let header = SegmentHeader { log_id: LogId(5), sequence: Sequence(2) };
        disk.tamper(&segment(2), |bytes| bytes[..4096].copy_from_slice(&header.encode(SMALL)[..4096]));
    });
    assert!(other_log.to_string().contains("belongs to another raft log"), "{other_log}");
    let short = refused(&|disk| disk.tamper(&segment(2), |bytes| bytes.truncate(100)));
    assert!(matches!(short, Error::Damaged { .. }), "{short}");
}

#[test]
fn a_newer_format_is_refused_as_such() {
    let disk = Disk::new();
    drop(filled(&disk, 3));
    disk.kill();
    disk.tamper(&segment(1), |bytes| {
        bytes[8] = 3;
        let crc = crc32fast::hash(&bytes[..32]);
        bytes[32..36].copy_from_slice(&crc.to_le_bytes());
    });
    let refused = open(&disk, SMALL, 1).unwrap_err();
    assert!(refused.to_string().contains("written by a newer version (log format 3"), "{refused}");
}

#[test]
fn stale_frames_of_a_recycled_file_are_never_taken() {
    // The same entries again in a recycled file: old frames stand exactly where new ones would.
    let disk = Disk::new();
    let mut log = filled(&disk, 14);
    for at in 15..=120 {
        log.append(None, &[entry(at, 1, 1000)]).unwrap();
        log.purge_below(index(at)).unwrap();
        keep_house(&mut log).unwrap();
        let copy = disk.copy();
        copy.kill();
        let (copied, recovered) = open(&copy, SMALL, at).unwrap();
        assert_eq!((recovered.entries.as_slice(), recovered.torn_tail_bytes), (&[entry(at, 1, 1000)][..], 0));
        assert_eq!(copied.last_index(), index(at));
    }
}

#[test]
fn bytes_of_a_client_that_look_like_a_frame_are_not_taken_for_one() {
    let disk = Disk::new();
    let mut log = filled(&disk, 1);
    // All that a client could know or guess, but for the log's identity.
    let mut forged = vec![0; 32];
    record::put_hard_state(&mut forged, hard_state(9, 9));
    FrameHeader::seal(SegmentHeader { log_id: LogId(1), sequence: Sequence(1) }, 3, &mut forged);
    forged.resize(forged.len().next_multiple_of(8), 0);
    let data: Bytes = (0..8).flat_map(|shift| [vec![0; shift], forged.clone()].concat()).collect();
    log.append(None, &[LogEntry { data, ..entry(2, 1, 0) }]).unwrap();
    let end = log.segments.back().unwrap().end as usize;
    disk.kill();
    disk.tamper(&segment(1), |bytes| bytes[end - 20] ^= 1);
    let (_, recovered) = open(&disk, SMALL, 1).unwrap();
    assert_eq!(recovered.entries, [entry(1, 1, 1000)]);
    assert!(recovered.torn_tail_bytes > 0);
}

#[test]
fn an_unfinished_segment_is_removed_at_the_start() {
    let disk = Disk::new();
    drop(filled(&disk, 3));
    disk.kill();
    disk.create(&Sequence(2).preparing_path(Path::new(DIR))).unwrap();
    let (_, recovered) = open(&disk, SMALL, 1).unwrap();
    assert_eq!(recovered.entries.len(), 3);
    assert_eq!(disk.names(), [segment(1)]);
}

#[test]
fn a_rotten_entry_is_noticed_when_it_is_read() {
    let disk = Disk::new();
    let log = filled(&disk, 5);
    disk.tamper(&segment(1), |bytes| bytes[4096 + 500] ^= 1);
    let refused = log.read(index(1), index(3), u64::MAX).unwrap_err();
    assert!(matches!(&refused, Error::Damaged { path, .. } if *path == segment(1)), "{refused}");
    assert_eq!(log.read(index(2), index(4), u64::MAX).unwrap().len(), 2);
}

#[test]
fn a_process_killed_anywhere_in_a_job_leaves_nothing_that_a_later_power_loss_takes_back() {
    for dies_after in 1.. {
        let disk = Disk::new();
        let mut log = filled(&disk, 8);
        disk.die_after(dies_after);
        let done = log.housekeeping().unwrap().run().is_ok();
        disk.kill();
        let mut log = open(&disk, SMALL, 1).unwrap().0;
        for at in 9..=16 {
            log.append(None, &[entry(at, 1, 1000)]).unwrap();
        }
        assert_eq!(log.segments.len(), 2);
        disk.lose_power(|| false);
        let (_, recovered) = open(&disk, SMALL, 1).unwrap();
        assert_eq!(recovered.entries.len(), 16, "killed after {dies_after} operations");
        if done {
            break;
        }
    }
}

#[test]
fn a_failing_job_harms_nothing_and_the_next_one_tries_again() {
    for dies_after in 1..30 {
        let disk = Disk::new();
        let mut log = filled(&disk, 60);
        log.purge_below(index(50)).unwrap();
        // The first job fails at every place in turn, without the process noticing anything else.
        let job = log.housekeeping().unwrap();
        disk.die_after(dies_after);
        let failed = job.run().is_err();
        disk.revive();
        for at in 61..=120 {
            log.append(None, &[entry(at, 1, 1000)]).unwrap();
            log.purge_below(index(at - 10)).unwrap();
            keep_house(&mut log).unwrap();
        }
        disk.lose_power(|| false);
        let (_, recovered) = open(&disk, SMALL, 110).unwrap();
        assert_eq!(recovered.entries.len(), 11, "failed after {dies_after} operations");
        if !failed {
            break;
        }
    }
}
