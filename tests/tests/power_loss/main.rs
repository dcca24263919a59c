//! Power loss at random moments of a store's life, again and again: nothing acknowledged is lost, nothing unacknowledged is
//! half there.
//!
//! A *life* is a store doing random work (the model test's steps: transactions that share a batch, large values,
//! compactions, leases, stops and starts) in a recorded directory, with log segments and flushes as small as they may be,
//! so that segments are recycled and RocksDB flushes and compacts all the time. Everything the process does to the disk is
//! recorded by `holdfast-power`, log, RocksDB and the rest in one order, together with the moments at which writes were
//! sent and acknowledged. Then the power is lost at many moments of that one life, some of them on purpose while RocksDB
//! flushes or compacts, the history is compacted or a segment is recycled (phase.rs): the disk as it would have been left is
//! opened and compared with the model. Opening is recorded too, and power is lost during the opening, and during the next
//! opening. From one of these disks the next life begins.
//!
//! Checked after each loss (check.rs): the revision is one that had been reached, not before an acknowledged one and not
//! beyond what had been sent; floor and leases are still as an opening has shown them; whole revisions without gaps; every change and every state since the floor; counts; floor;
//! leases with their keys; the history's hash, computed a second time from the model; a new write works; and what a
//! compaction made unreadable is removed, whatever of that was lost. Leases that end by themselves have lives of their own
//! (expiry.rs), and so have the storage engine alone (engine.rs) and restored snapshots (snapshot.rs).
//!
//! `HOLDFAST_POWER_CUTS` says how many losses (default few; continuous integration over a thousand), `HOLDFAST_SEED`
//! repeats a run as far as threads allow: the place of each loss in the record varies with their timing.

mod check;
mod engine;
mod expiry;
mod expiry_life;
mod hash;
mod life;
#[path = "../model/oracle.rs"]
#[allow(dead_code)] // Its reads are the model test's.
mod oracle;
mod phase;
mod snapshot;
#[path = "../model/steps.rs"]
#[allow(dead_code)]
mod steps;

use check::{Expected, check};
use holdfast_power::{Image, Operation, Random, Record};
use kvstore::store::Placement;
use life::{Life, draw, live};
use oracle::Model;
use phase::Phase;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

/// Losses in an ordinary run of the tests.
const CUTS: u64 = 40;
/// Losses in one life: a life costs about as much as so many of them.
const CUTS_OF_A_LIFE: usize = 24;
/// Openings that fail one after the other.
const OPENINGS_MAX: usize = 4;
/// Of these, so many with each of the things under way that random moments seldom meet.
const CUTS_OF_A_PHASE: usize = 2;
/// Lives after which each of these things has been interrupted with certainty.
const LIVES_MANY: u64 = 6;
/// In how many of a hundred cases only the process ends.
const KILL_PERCENT: usize = 20;

/// Where the disks of a test lie. In memory if possible: nothing here is really synced.
pub fn scratch() -> tempfile::TempDir {
    let below = holdfast_tests::memory().unwrap_or_else(std::env::temp_dir);
    tempfile::Builder::new().prefix("holdfast-power-").tempdir_in(below).expect("a temporary directory")
}

/// A number from the environment.
pub fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// `HOLDFAST_SEED`, or another one each time.
pub fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    variable("HOLDFAST_SEED").unwrap_or(now.as_micros() as u64)
}

/// A moment to lose power: anywhere; or right before or after one of a kind of operation on a kind of file drawn first, so
/// that the rare ones (renames, removals, syncs of directories) have their turn; or right before a sync of a kind of
/// file, when most is at stake.
pub fn moment(record: &Record, within: Range<usize>, random: &mut Random) -> usize {
    if random.percent(40) {
        return within.start + random.below(within.len() + 1);
    }
    let syncs_only = random.percent(40);
    let names = record.names();
    let mut kinds: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for at in within.clone() {
        let kind = kind(&record.operations()[at], &names);
        if !syncs_only || kind.0 == "sync" {
            kinds.entry(kind).or_default().push(at);
        }
    }
    if kinds.is_empty() {
        return within.start;
    }
    let places = kinds.values().nth(random.below(kinds.len())).expect("one of them");
    places[random.below(places.len())] + if syncs_only { 0 } else { random.below(2) }
}

/// What is done, and to which kind of file: its name without numbers.
fn kind(operation: &Operation, names: &BTreeMap<u32, OsString>) -> (&'static str, String) {
    let (what, name) = match operation {
        Operation::CreateFile { name, .. } => ("create", Some(name)),
        Operation::CreateDirectory { name, .. } => ("create directory", Some(name)),
        Operation::Link { name, .. } => ("link", Some(name)),
        Operation::Remove { name, .. } => ("remove", Some(name)),
        Operation::Rename { to, .. } => ("rename", Some(to)),
        Operation::Write { node, .. } => ("write", names.get(node)),
        Operation::Resize { node, .. } => ("resize", names.get(node)),
        Operation::Sync { node } => ("sync", names.get(node)),
    };
    let name = name.map(|name| name.to_string_lossy().replace(|c: char| c.is_ascii_hexdigit(), ""));
    (what, name.unwrap_or_default())
}

#[derive(Debug, Default)]
struct Tally {
    cuts: u64,
    kills: u64,
    lives: u64,
    during_openings: u64,
    unacknowledged_kept: u64,
    unacknowledged_lost: u64,
    /// Log segments that were given a second life.
    recycled_segments: usize,
    /// RocksDB's tables, those of flushes and of compactions.
    tables: usize,
    syncs_beside: u64,
    /// Losses of power in a life, by what was under way.
    under_way: BTreeMap<Phase, u64>,
}

impl Tally {
    fn count_life(&mut self, life: &Life) {
        self.lives += 1;
        self.syncs_beside += life.syncs_beside;
        let ends_in = |name: &OsStr, end: &str| name.to_string_lossy().ends_with(end);
        for operation in life.record.operations() {
            match operation {
                Operation::Rename { from, to, .. }
                    if ends_in(from, ".segment") && ends_in(to, ".preparing") =>
                {
                    self.recycled_segments += 1;
                }
                Operation::CreateFile { name, .. } if ends_in(name, ".sst") => self.tables += 1,
                _ => {}
            }
        }
    }

    fn count_cut(&mut self, life: &Life, at: usize) {
        for phase in life.phases.at(at) {
            *self.under_way.entry(phase).or_default() += 1;
        }
    }
}

fn lose_power_again_and_again(placement: Placement) {
    let cuts = variable("HOLDFAST_POWER_CUTS").unwrap_or(CUTS);
    let seed = seed();
    println!("{placement:?}: HOLDFAST_POWER_CUTS={cuts} HOLDFAST_SEED={seed}");
    let mut random = Random::new(seed ^ placement as u64);
    let mut tally = Tally::default();
    let (mut image, mut model) = (Image::default(), Model::default());
    while tally.cuts < cuts {
        // A new store now and then: its first start is full of moments of its own.
        if tally.lives.is_multiple_of(4) {
            (image, model) = (Image::default(), Model::default());
        }
        let life = live(&image, model, placement, draw(&mut random));
        tally.count_life(&life);
        let mut next = None;
        for number in 0..CUTS_OF_A_LIFE {
            let phase = Phase::ALL.get(number / CUTS_OF_A_PHASE);
            let at = phase.and_then(|phase| life.phases.moment(*phase, &life.record, &mut random));
            let at =
                at.unwrap_or_else(|| moment(&life.record, 0..life.record.operations().len(), &mut random));
            let about = format!("HOLDFAST_SEED={seed} {placement:?}, life {}, at {at}", tally.lives);
            next = Some(lose_power(&life, at, placement, &about, &mut random, &mut tally));
        }
        (image, model) = next.expect("at least one cut");
    }
    println!("{placement:?}: {tally:?}");
    assert!(tally.during_openings > 0, "no opening was interrupted");
    assert!(tally.recycled_segments > 0 && tally.tables > 10, "the lives were too quiet");
    for phase in Phase::ALL {
        let is_met = tally.under_way.contains_key(&phase);
        assert!(is_met || tally.lives < LIVES_MANY, "power was never lost during a {phase:?}");
    }
    assert_eq!(tally.syncs_beside > 0, placement == Placement::Adaptive, "syncs beside the core");
}

/// Loses power at `at` and during what follows; gives a disk on which all was well, and what is on it.
fn lose_power(
    life: &Life,
    at: usize,
    placement: Placement,
    about: &str,
    random: &mut Random,
    tally: &mut Tally,
) -> (Image, Model) {
    let mut expected = Expected::of(life, at);
    let cuts = tally.cuts;
    let mut disk = end(&life.record, at, random, tally);
    if tally.cuts > cuts {
        tally.count_cut(life, at);
    }
    let mut about = about.to_string();
    for opening in 1.. {
        let opened = check(disk, &expected, placement, &about);
        let reached = opened.model.revision();
        if reached > expected.acknowledged {
            tally.unacknowledged_kept += 1;
        } else if expected.sent > expected.acknowledged {
            tally.unacknowledged_lost += 1;
        }
        if opening == OPENINGS_MAX || random.percent(60) {
            return (opened.record.as_seen(opened.looked), opened.model);
        }
        tally.during_openings += 1;
        let at = moment(&opened.record, opened.opened_from..opened.looked, random);
        if at >= opened.served_from {
            expected.was_shown(&opened.model);
        }
        about = format!("{about}, opening {opening} at {at}");
        disk = end(&opened.record, at, random, tally);
    }
    unreachable!("the last opening returns")
}

/// The power fails; or, less often, only the process is killed: then what it had written and not synced can still be seen,
/// and is lost by the next loss of power.
fn end(record: &Record, at: usize, random: &mut Random, tally: &mut Tally) -> Record {
    if random.percent(KILL_PERCENT) {
        tally.kills += 1;
        return record.until(at);
    }
    tally.cuts += 1;
    Record::on(record.after_power_loss(at, random))
}

#[test]
fn power_is_lost_with_the_core_on_a_thread() {
    lose_power_again_and_again(Placement::Thread);
}

#[test]
fn power_is_lost_with_the_core_on_its_callers_thread() {
    lose_power_again_and_again(Placement::Caller);
}

#[test]
fn power_is_lost_with_syncs_beside_the_core() {
    lose_power_again_and_again(Placement::Adaptive);
}

/// A first start is short and full of names that come into being. After each change of a name the process is killed, the
/// next one is let to serve, and then the power fails.
#[test]
fn a_first_start_is_interrupted_everywhere() {
    let seed = seed();
    let mut random = Random::new(seed);
    let placement = Placement::Thread;
    let life = live(&Image::default(), Model::default(), placement, vec![steps::Step::Bulk(1, 1)]);
    let names = life.record.names();
    for (at, operation) in life.record.operations().iter().enumerate() {
        if matches!(operation, Operation::Write { .. } | Operation::Resize { .. }) {
            continue;
        }
        let about = format!("HOLDFAST_SEED={seed}, first start at {at}, {:?}", kind(operation, &names));
        let mut expected = Expected::of(&life, at + 1);
        check(Record::on(life.record.after_power_loss(at + 1, &mut random)), &expected, placement, &about);
        let opened = check(life.record.until(at + 1), &expected, placement, &about);
        expected.was_shown(&opened.model);
        let left = opened.record.after_power_loss(opened.served_from, &mut random);
        check(Record::on(left), &expected, placement, &format!("{about}, then killed and opened"));
    }
}
