//! The real server on a disk that fails: each system call that it makes on each kind of its files, at steps of its life.
//!
//! A small library under the server lets chosen calls fail (`faulty_disk.c`). Whatever fails: the server refuses to start or
//! ends by itself, with an error that names the file and says what to do; or it goes on because nothing is at stake. A
//! write that began after a failure of the log is never acknowledged. And once the disk works again, the next start has
//! everything that was acknowledged, at its revision, without a gap.
//!
//! `HOLDFAST_FAULTS` asks for the longer lists, for each call on each kind of file (`walk`), and for so many more faults at
//! random places; `HOLDFAST_SEED` repeats them.
//! `HOLDFAST_NEEDS_MOUNTS=1` fails without a C compiler or where nothing can be mounted, where the run otherwise only says
//! so, in `.ci/run` too.

mod library;
mod load;
mod reads;
mod restore;
mod server;
mod space;
mod walk;

use holdfast_tests::copy_all;
use library::{EIO, ENOSPC, Fault, SHORT, library};
use load::{Acknowledged, Load, check_present, finished};
use server::{End, Place, Server};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use walk::CALLS;

/// Enough to fill two segments of the log, so that one is taken into use and one made ready, and for a flush or two of
/// the state.
const MANY: u64 = 240;
/// Enough for syncs of the log.
const FEW: u64 = 40;
/// How long a stop waits for a fault that strikes beside the writes, and then for what the server makes of it.
const FAULT_PATIENCE: Duration = Duration::from_secs(30);
const END_PATIENCE: Duration = Duration::from_secs(5);

/// What a fault met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// No such call came.
    NotMet,
    /// The start was refused.
    Refused,
    /// The server ended by itself.
    Ended,
    /// It went on.
    WentOn,
}

/// When the server is asked to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stop {
    /// When all is written.
    AfterWrites,
    /// When the fault has struck too: what it is to strike is done beside the writes, and may come to an end after them.
    AfterFault,
}

/// A stopped server's directory with some data; how many keys are in it.
async fn used_place() -> (Place, u64) {
    let place = Place::new();
    let server = place.start(&[]).unwrap_or_else(|end| panic!("{}", end.text));
    let load = Load::start(&place.channel(), 0, FEW, &place.note());
    let acknowledged = finished(load).await;
    assert_eq!(acknowledged.revisions.len() as u64, FEW);
    // As after a crash: there is something to replay.
    server.kill();
    let server = place.start(&[]).unwrap_or_else(|end| panic!("{}", end.text));
    assert!(server.stop().status.success());
    let server = place.start(&[]).unwrap_or_else(|end| panic!("{}", end.text));
    server.kill();
    (place, FEW)
}

/// Lets `fault` happen to a server in `place`, which holds `before` keys, under `writes` writes and then a clean stop.
async fn strike(place: &Place, before: u64, writes: u64, fault: Fault, stop: Stop) -> Outcome {
    let about = format!("{fault:?}, {before} keys before");
    let library = library().expect("the caller has asked");
    let (mut acknowledged, mut by_itself) = (Acknowledged::default(), true);
    let started = place.start(&fault.environment(library, &place.note()));
    let refused = started.is_err();
    let end = match started {
        Err(end) => end,
        Ok(mut server) => {
            let load = Load::start(&place.channel(), before, writes, &place.note());
            let end = own_end(&mut server, &load, &place.note(), stop).await;
            acknowledged = load.end().await;
            by_itself = end.is_some();
            end.unwrap_or_else(|| server.stop())
        }
    };
    let note = fs::read_to_string(place.note()).unwrap_or_default();
    if end.status.success() {
        assert!(!by_itself, "{about}: ended with success: {}", end.text);
    } else {
        assert!(!note.is_empty(), "{about}: failed without a fault: {}", end.text);
        end.check_told(&place.data_dir(), &about);
        end.check_named(&note, &about);
    }
    check_log_failure(&note, &acknowledged, &end, fault, &about);
    check_next_start(place, &acknowledged, before, &about).await;
    match (note.is_empty(), refused, end.status.success()) {
        (true, ..) => Outcome::NotMet,
        (_, true, _) => Outcome::Refused,
        (_, _, false) => Outcome::Ended,
        (_, _, true) => Outcome::WentOn,
    }
}

/// Waits for an end by itself, until it is time to stop the server.
async fn own_end(server: &mut Server, load: &Load, note: &Path, stop: Stop) -> Option<End> {
    let (mut written, mut struck): (Option<Instant>, Option<Instant>) = (None, None);
    loop {
        if let Some(end) = server.ended() {
            return Some(end);
        }
        if load.is_done() {
            let written = *written.get_or_insert_with(Instant::now);
            if note.exists() {
                struck.get_or_insert_with(Instant::now);
            }
            let is_early = match struck {
                Some(struck) => struck.elapsed() < END_PATIENCE,
                None => written.elapsed() < FAULT_PATIENCE,
            };
            if stop == Stop::AfterWrites || !is_early {
                return None;
            }
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// The first failed write or sync of the log ends the server, and nothing is acknowledged after it.
fn check_log_failure(note: &str, acknowledged: &Acknowledged, end: &End, fault: Fault, about: &str) {
    let of_a_segment = note.lines().any(|line| line.ends_with(".segment"));
    let is_write = matches!(fault.call, "pwrite" | "fdatasync" | "fsync");
    if of_a_segment && is_write && fault.error != SHORT {
        assert!(!end.status.success(), "{about}: the log failed and the server went on: {}", end.text);
        assert!(
            acknowledged.after_failure.is_empty(),
            "{about}: acknowledged after the log had failed: {:?}",
            acknowledged.after_failure
        );
    }
    let is_sync = matches!(fault.call, "fdatasync" | "fsync");
    if !note.is_empty() && is_sync && fault.error == EIO {
        assert!(!end.status.success(), "{about}: a failed sync and no word about it: {}", end.text);
    }
}

async fn check_next_start(place: &Place, acknowledged: &Acknowledged, before: u64, about: &str) {
    let server = place.start(&[]).unwrap_or_else(|end| panic!("{about}: the next start: {}", end.text));
    let keys = check_present(&place.channel(), acknowledged, about).await;
    assert!(keys >= before + acknowledged.revisions.len() as u64, "{about}: {keys} keys");
    let end = server.stop();
    assert!(end.status.success(), "{about}: the next stop: {}", end.text);
}

/// Faults in a new directory, and what each must lead to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_under_writes_ends_the_server_and_loses_nothing() {
    if library().is_none() {
        return;
    }
    let quick = [
        // Frames of the log: a sync and a write. How many of the writes share one varies, so there are more than enough.
        (Fault::once("fdatasync", ".segment", 9, EIO), MANY, Outcome::Ended),
        (Fault::once("pwrite", ".segment", 11, ENOSPC), MANY, Outcome::Ended),
        // A segment being made ready, which is synced in nine steps, after the one of the start: no space is no reason to
        // end, everything else is.
        (Fault::once("fdatasync", ".preparing", 12, EIO), MANY, Outcome::Ended),
        // The state: a flush at work, and one at the end, for which space may be wanting.
        (Fault::once("write", ".sst", 0, EIO), MANY, Outcome::Ended),
        (Fault::once("create", ".sst", 0, ENOSPC), FEW, Outcome::WentOn),
        (Fault::once("fdatasync", ".sst", 0, EIO), FEW, Outcome::Ended),
    ];
    let more = [
        (Fault::once("fdatasync", ".segment", 14, EIO).for_ever(), MANY, Outcome::Ended),
        (Fault::once("pwrite", ".segment", 14, EIO), MANY, Outcome::Ended),
        (Fault::once("pwrite", ".segment", 5, SHORT).for_ever(), FEW, Outcome::WentOn),
        // 66 writes make one: the third.
        (Fault::once("pwrite", ".preparing", 150, ENOSPC), MANY, Outcome::WentOn),
        (Fault::once("fdatasync", ".sst", 0, EIO), MANY, Outcome::Ended),
        (Fault::once("write", "/state/MANIFEST", 14, EIO), MANY, Outcome::Ended),
    ];
    let mut wrong = Vec::new();
    for (fault, writes, expected) in
        quick.into_iter().chain(if is_thorough() { more.to_vec() } else { vec![] })
    {
        let stop = if fault.place == ".preparing" { Stop::AfterFault } else { Stop::AfterWrites };
        let outcome = strike(&Place::new(), 0, writes, fault, stop).await;
        println!("{outcome:?}: {fault:?}");
        if outcome != expected {
            wrong.push(format!("{outcome:?} instead of {expected:?}: {fault:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_at_the_start_is_named_and_loses_nothing() {
    if library().is_none() {
        return;
    }
    let quick = [Fault::once("rename", "HOLDFAST", 0, EIO), Fault::once("fdatasync", ".preparing", 0, EIO)];
    let more = [
        Fault::once("fsync", "HOLDFAST", 0, EIO),
        Fault::once("create", "FORMAT.new", 0, ENOSPC),
        Fault::once("mkdir", "/log", 0, ENOSPC),
    ];
    let mut wrong = Vec::new();
    for fault in quick.into_iter().chain(if is_thorough() { more.to_vec() } else { vec![] }) {
        let outcome = strike(&Place::new(), 0, 0, fault, Stop::AfterWrites).await;
        if outcome != Outcome::Refused {
            wrong.push(format!("{outcome:?}: {fault:?}, in a new directory"));
        }
    }
    let (used, before) = used_place().await;
    let quick = [
        Fault::once("pread", ".segment", 0, EIO),
        Fault::once("fdatasync", ".segment", 0, EIO),
        Fault::once("pread", ".sst", 0, EIO).for_ever(),
    ];
    let more = [
        Fault::once("pread", ".segment", 2, EIO),
        Fault::once("open", ".segment", 0, EIO),
        Fault::once("read", "HOLDFAST", 0, EIO),
        Fault::once("open", "/state/CURRENT", 0, EIO),
        Fault::once("open", "/state/MANIFEST", 0, EIO),
        Fault::once("open", ".sst", 0, EIO).for_ever(),
    ];
    for fault in quick.into_iter().chain(if is_thorough() { more.to_vec() } else { vec![] }) {
        let place = Place::new();
        copy_all(&used.data_dir(), &place.data_dir());
        let outcome = strike(&place, before, 0, fault, Stop::AfterWrites).await;
        if outcome != Outcome::Refused {
            wrong.push(format!("{outcome:?}: {fault:?}"));
        }
    }
    // Reads that give less than was asked for are no fault. (What RocksDB reads through stdio is not seen here.)
    let short = [
        Fault::once("pread", ".segment", 0, SHORT),
        Fault::once("pread", ".sst", 0, SHORT),
        Fault::once("read", "HOLDFAST", 0, SHORT),
    ];
    for fault in short.into_iter().filter(|_| is_thorough()) {
        let place = Place::new();
        copy_all(&used.data_dir(), &place.data_dir());
        let outcome = strike(&place, before, FEW, fault, Stop::AfterWrites).await;
        println!("{outcome:?}: {fault:?}");
        if outcome != Outcome::WentOn {
            wrong.push(format!("{outcome:?} instead of WentOn: {fault:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Any call, any place, any moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_call_fails_nothing_acknowledged_is_lost() {
    if library().is_none() {
        return;
    }
    let count = variable("HOLDFAST_FAULTS").unwrap_or(2);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    let seed = variable("HOLDFAST_SEED").unwrap_or(now.subsec_nanos().into());
    println!("HOLDFAST_FAULTS={count} HOLDFAST_SEED={seed}");
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let (used, before) = used_place().await;
    let mut met = 0;
    for _ in 0..count {
        let fault = random_fault(&mut random);
        let (place, is_used) = (Place::new(), pick(&mut random, &[true, false]));
        if is_used {
            copy_all(&used.data_dir(), &place.data_dir());
        }
        let writes = pick(&mut random, &[FEW, FEW, MANY]);
        let before = if is_used { before } else { 0 };
        let outcome = strike(&place, before, writes, fault, Stop::AfterWrites).await;
        println!("{outcome:?}: {fault:?}, {writes} writes, used: {is_used}");
        met += u64::from(outcome != Outcome::NotMet);
    }
    println!("{met} of {count} faults were met");
    assert!(count < 20 || met > count / 8, "{met} of {count} faults were met");
}

/// The quick lists have one of each kind.
fn is_thorough() -> bool {
    variable("HOLDFAST_FAULTS").is_some()
}

fn random_fault(random: &mut u64) -> Fault {
    let (call, places) = pick(random, CALLS);
    let moves = matches!(call, "read" | "write" | "pread" | "pwrite");
    let errors: &[i32] = if moves { &[EIO, ENOSPC, SHORT] } else { &[EIO, ENOSPC] };
    // Of names there are only a few changes, of the rest there are many.
    let is_frequent = matches!(call, "write" | "pwrite" | "fdatasync" | "pread" | "open");
    let after: &[u32] = if is_frequent { &[0, 1, 2, 4, 7, 11, 18, 30, 70] } else { &[0, 0, 1, 2, 3] };
    Fault {
        call,
        place: pick(random, places),
        after: pick(random, after),
        times: pick(random, &[1, 1, 3, 0]),
        error: pick(random, errors),
    }
}

fn pick<T: Copy>(random: &mut u64, from: &[T]) -> T {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    from[(*random >> 16) as usize % from.len()]
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}
