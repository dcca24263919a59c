use super::*;
use crate::log::OsFiles;
use crate::types::{Error, InvalidRequest};
use std::path::Path;

const SMALL: u64 = 16 << 10;

#[test]
fn a_new_log_is_empty_and_reopens_empty() {
    let disk = Disk::new();
    for _ in 0..3 {
        let (log, recovered) = open(&disk, SMALL, 1).unwrap();
        assert_eq!(recovered, Recovered::default());
        assert_eq!((log.first_index().get(), log.last_index().get()), (1, 0));
        disk.kill();
    }
}

#[test]
fn an_append_is_one_sync_and_survives() {
    let disk = Disk::new();
    let (mut log, _) = open(&disk, SMALL, 1).unwrap();
    let syncs = disk.syncs();
    let entries: Vec<_> = (1..=5).map(|at| entry(at, 1, 100)).collect();
    log.append(Some(hard_state(1, 0)), &entries).unwrap();
    assert_eq!(disk.syncs(), syncs + 1);
    log.append(None, &[]).unwrap();
    assert_eq!(disk.syncs(), syncs + 1, "nothing to remember, nothing to sync");
    log.append(Some(hard_state(1, 5)), &[]).unwrap();
    disk.lose_power(|| false);
    let (log, recovered) = open(&disk, SMALL, 1).unwrap();
    assert_eq!(
        recovered,
        Recovered { hard_state: Some(hard_state(1, 5)), entries: entries.clone(), torn_tail_bytes: 0 }
    );
    assert_eq!(read_all(&log), entries);
}

#[test]
fn a_later_entry_replaces_the_suffix() {
    let disk = Disk::new();
    let (mut log, _) = open(&disk, SMALL, 1).unwrap();
    log.append(None, &(1..=9).map(|at| entry(at, 1, 50)).collect::<Vec<_>>()).unwrap();
    log.append(None, &[entry(4, 2, 10), entry(5, 2, 10)]).unwrap();
    log.append(None, &[entry(6, 2, 2000)]).unwrap();
    let expected: Vec<_> = [(1, 1, 50), (2, 1, 50), (3, 1, 50), (4, 2, 10), (5, 2, 10), (6, 2, 2000)]
        .map(|(a, t, n)| entry(a, t, n))
        .into();
    assert_eq!(read_all(&log), expected);
    disk.kill();
    let (log, recovered) = open(&disk, SMALL, 3).unwrap();
    assert_eq!(recovered.entries, expected[2..]);
    assert_eq!(read_all(&log), expected);
}

#[test]
#[should_panic(expected = "neither continues nor replaces")]
fn a_hole_is_refused() {
    let (mut log, _) = open(&Disk::new(), SMALL, 1).unwrap();
    let _ = log.append(None, &[entry(2, 1, 1)]);
}

#[test]
fn reads_keep_to_their_budget_but_give_one() {
    let (mut log, _) = open(&Disk::new(), SMALL, 1).unwrap();
    for at in 1..=20 {
        log.append(None, &[entry(at, 1, 1000)]).unwrap();
    }
    let read = |from, to, max| log.read(index(from), index(to), max).unwrap();
    assert_eq!(read(3, 9, 0), [entry(3, 1, 1000)]);
    assert_eq!(read(3, 9, 2100), [entry(3, 1, 1000), entry(4, 1, 1000)]);
    assert_eq!(read(3, 3, 2100), []);
    assert_eq!(read(1, 21, u64::MAX).len(), 20);
}

#[test]
fn segments_rotate_and_recycle() {
    let disk = Disk::new();
    let (mut log, _) = open(&disk, SMALL, 1).unwrap();
    keep_house(&mut log).unwrap();
    log.append(Some(hard_state(3, 0)), &[]).unwrap();
    for at in 1..=300 {
        log.append(None, &[entry(at, 1, 1000)]).unwrap();
        if at % 10 == 0 {
            log.purge_below(index(at - 5)).unwrap();
            keep_house(&mut log).unwrap();
        }
    }
    assert_eq!(log.unprepared_count(), 0);
    assert!(log.first_index() > index(250) && log.first_index() <= index(295), "{log:?}");
    assert!(log.live_bytes() < 3 * SMALL);
    assert!(disk.names().len() <= 9, "{:?}", disk.names());
    // Every segment ever made is one of the first few files.
    assert!(disk.used_bytes() <= 9 * SMALL as usize, "{}", disk.used_bytes());
    disk.lose_power(|| false);
    let (log, recovered) = open(&disk, SMALL, 295).unwrap();
    assert_eq!(recovered.hard_state, Some(hard_state(3, 0)), "the hard state outlives its segment");
    assert_eq!(recovered.entries, (295..=300).map(|at| entry(at, 1, 1000)).collect::<Vec<_>>());
    assert_eq!(log.last_index(), index(300));
}

#[test]
fn without_housekeeping_appends_make_their_segments() {
    let disk = Disk::new();
    let (mut log, _) = open(&disk, SMALL, 1).unwrap();
    for at in 1..=100 {
        log.append(None, &[entry(at, 1, 1000)]).unwrap();
        log.purge_below(index(at)).unwrap();
    }
    assert!(log.unprepared_count() >= 8);
    assert!(disk.names().len() <= 7, "{:?}", disk.names());
    disk.kill();
    assert_eq!(open(&disk, SMALL, 100).unwrap().1.entries, [entry(100, 1, 1000)]);
}

#[test]
fn a_frame_larger_than_a_segment_fits() {
    let disk = Disk::new();
    let (mut log, _) = open(&disk, SMALL, 1).unwrap();
    let sizes = [10, 100_000, 10, 16_000, 12_000, 300_000, 300_000, 1];
    let expected: Vec<_> = (1..).zip(sizes).map(|(at, bytes)| entry(at, 1, bytes)).collect();
    for entry in &expected {
        log.append(None, std::slice::from_ref(entry)).unwrap();
    }
    assert_eq!(read_all(&log), expected);
    disk.lose_power(|| false);
    let (mut log, recovered) = open(&disk, SMALL, 1).unwrap();
    assert_eq!(recovered.entries, expected);
    for at in 9..=100 {
        log.append(None, &[entry(at, 1, 1000)]).unwrap();
        log.purge_below(index(at)).unwrap();
        keep_house(&mut log).unwrap();
    }
    assert!(disk.names().iter().all(|path| disk.bytes_of(path) < 300_000), "a large segment is not recycled");
}

#[test]
fn a_frame_beyond_the_format_is_refused_and_harms_nothing() {
    let (mut log, _) = open(&Disk::new(), SMALL, 1).unwrap();
    let data = Bytes::from(vec![0; 1 << 20]);
    let entries: Vec<_> = (1..=1025).map(|at| LogEntry { data: data.clone(), ..entry(at, 1, 0) }).collect();
    let refused = log.append(None, &entries);
    assert!(matches!(refused, Err(Error::Invalid(InvalidRequest::TooLarge { .. }))), "{refused:?}");
    log.append(None, &entries[..1]).unwrap();
}

#[test]
fn an_append_during_a_job_does_not_wait_for_it() {
    let disk = Disk::new();
    let (mut log, _) = open(&disk, SMALL, 1).unwrap();
    let job = log.housekeeping().unwrap();
    assert!(log.housekeeping().is_none(), "one job at a time");
    for at in 1..=40 {
        log.append(None, &[entry(at, 1, 1000)]).unwrap();
    }
    assert_eq!(disk.names().len(), 1, "the segment in use grew");
    log.finish(job.run().unwrap());
    log.append(None, &[entry(41, 1, 1_100_000)]).unwrap();
    assert_eq!(disk.names().len(), 2);
    drop(log.housekeeping().unwrap());
    drop(log.housekeeping().unwrap().run().unwrap());
    let again = log.housekeeping().unwrap().run().unwrap();
    log.finish(again);
    let expected = read_all(&log);
    assert_eq!(expected.len(), 41);
    disk.lose_power(|| false);
    assert_eq!(open(&disk, SMALL, 1).unwrap().1.entries, expected);
}

#[test]
fn a_restart_forgets_entries_and_goes_on_behind_the_snapshot() {
    let disk = Disk::new();
    let (mut log, _) = open(&disk, SMALL, 1).unwrap();
    for at in 1..=30 {
        log.append(Some(hard_state(1, at)), &[entry(at, 1, 1000)]).unwrap();
    }
    log.restart_after(index(100), Some(hard_state(2, 100))).unwrap();
    assert_eq!((log.first_index(), log.last_index()), (index(101), index(100)));
    log.append(None, &[entry(101, 2, 10)]).unwrap();
    disk.kill();
    let (mut log, recovered) = open(&disk, SMALL, 101).unwrap();
    assert_eq!(recovered.entries, [entry(101, 2, 10)]);
    assert_eq!(recovered.hard_state, Some(hard_state(2, 100)));
    log.purge_below(index(102)).unwrap();
    keep_house(&mut log).unwrap();
    disk.kill();
    assert_eq!(open(&disk, SMALL, 101).unwrap().1, recovered);
}

#[test]
fn a_restart_before_the_end_forgets_the_entries_behind_it_too() {
    let disk = Disk::new();
    let (mut log, _) = open(&disk, SMALL, 1).unwrap();
    log.append(Some(hard_state(1, 5)), &(1..=10).map(|at| entry(at, 1, 10)).collect::<Vec<_>>()).unwrap();
    log.restart_after(index(5), None).unwrap();
    assert_eq!(read_all(&log), []);
    disk.kill();
    let (log, recovered) = open(&disk, SMALL, 6).unwrap();
    assert_eq!(recovered.entries, []);
    assert_eq!((log.first_index(), log.last_index()), (index(6), index(5)));
}

#[test]
fn only_what_is_wanted_is_given_and_a_log_that_begins_too_late_is_refused() {
    let disk = Disk::new();
    let (mut log, _) = open(&disk, SMALL, 1).unwrap();
    for at in 1..=100 {
        log.append(None, &[entry(at, 1, 1000)]).unwrap();
    }
    log.purge_below(index(50)).unwrap();
    for at in 101..=200 {
        log.append(None, &[entry(at, 1, 1000)]).unwrap();
    }
    keep_house(&mut log).unwrap();
    let first = log.first_index().get();
    disk.kill();
    assert_eq!(open(&disk, SMALL, 201).unwrap().1.entries, []);
    disk.kill();
    assert_eq!(open(&disk, SMALL, 500).unwrap().0.last_index(), index(200));
    disk.kill();
    for path in disk.names().iter().take(5) {
        crate::log::Files::remove(&*disk, path).unwrap();
    }
    let (log, _) = open(&disk, SMALL, 190).unwrap();
    assert!(log.first_index().get() > first);
    disk.kill();
    let refused = open(&disk, SMALL, first).unwrap_err();
    assert!(refused.to_string().contains("the raft log begins with entry"), "{refused}");
}

#[test]
fn bad_configurations_are_refused() {
    for segment_bytes in [0, 4096, 10_000, 2 << 30] {
        assert!(matches!(open(&Disk::new(), segment_bytes, 1), Err(Error::Config(_))));
    }
}

#[test]
fn the_segment_size_may_change() {
    let disk = Disk::new();
    let mut at = 0;
    for segment_bytes in [SMALL, 8 << 10, 64 << 10, SMALL] {
        let (mut log, recovered) = open(&disk, segment_bytes, 1).unwrap();
        assert_eq!(recovered.entries.len() as u64, at);
        for _ in 0..40 {
            at += 1;
            log.append(None, &[entry(at, 1, 1000)]).unwrap();
            keep_house(&mut log).unwrap();
        }
        disk.kill();
    }
}

#[test]
fn log_and_job_may_move_to_other_threads() {
    fn is_send<T: Send>() {}
    is_send::<Log>();
    is_send::<crate::log::SegmentJob>();
    is_send::<crate::log::PreparedSegment>();
}

#[test]
fn it_works_on_real_files() {
    let parent = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 64 << 10, ..LogConfig::new(parent.path().join("log")) };
    let open = || Log::open(Arc::new(OsFiles), config.clone(), index(1)).unwrap();
    let (mut log, _) = open();
    let mut expected = Vec::new();
    for at in 1..=300 {
        let fresh = entry(at, 1, (at * 37 % 3000) as usize);
        log.append(Some(hard_state(1, at)), std::slice::from_ref(&fresh)).unwrap();
        expected.push(fresh);
        if let Some(job) = log.housekeeping() {
            log.finish(std::thread::spawn(|| job.run()).join().unwrap().unwrap());
        }
        if at == 150 {
            log.purge_below(index(100)).unwrap();
        }
    }
    assert!(!log.last_write().is_zero());
    let first = log.first_index().get();
    assert!(first > 1 && first <= 100);
    assert_eq!(read_all(&log), expected[first as usize - 1..]);
    drop(log);
    let (log, recovered) = Log::open(Arc::new(OsFiles), config.clone(), index(100)).unwrap();
    assert_eq!(recovered.entries, expected[99..]);
    assert_eq!(recovered.hard_state, Some(hard_state(1, 300)));
    drop(log);
    std::fs::write(config.dir.join("notes.txt"), "x").unwrap();
    let refused = Log::open(Arc::new(OsFiles), config.clone(), index(100)).unwrap_err();
    assert!(refused.to_string().contains("notes.txt"), "{refused}");
}

#[test]
fn an_impossible_directory_is_an_error_with_its_name() {
    let refused =
        Log::open(Arc::new(OsFiles), LogConfig::new("/proc/holdfast-no/log"), index(1)).unwrap_err();
    assert!(
        matches!(&refused, Error::DataDir { path, .. } if path == Path::new("/proc/holdfast-no/log")),
        "{refused}"
    );
}
