//! Power loss around the moments at which leases end by themselves.
//!
//! A life grants leases that are short, hangs keys on them, and writes on until the leader has ended each of them. Power
//! is lost at many moments, most of them around such an end. What is left is looked at twice:
//! - once by a store whose first tick is far off, so that it ends nothing: a lease and its keys are there together or gone
//!   together, an end that a client could have seen is still so, and a lease whose time is not up is there with what is
//!   left of it;
//! - once by a store that goes on: what is overdue ends, each lease in one revision and none before its time. Power is
//!   lost in that life too, and what it leaves is looked at in the same way.
//!
//! How much of a lease's time has passed only the store knows. The test knows a bound: its clock stands still between two
//! openings, so no more than the time that the processes before had lived, as a clock here measured it. Nothing fails
//! because a machine is slow.

use crate::check::told_so_far;
use crate::expiry_life::{Known, LONG, Life, Living, Promise, SHORT, live, open, watch_all};
use crate::oracle::Change;
use crate::{scratch, seed, variable};
use bytes::Bytes;
use holdfast_power::{Image, Random};
use kvstore::LeaseId;
use kvstore::store::{LeaseInfo, Placement};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// Losses in an ordinary run of the tests; and in one life, before those in the lives that follow from it.
const CUTS: u64 = 8;
const CUTS_OF_A_LIFE: usize = 16;
/// Number of a loss that is not one of the first of a life, which have their places.
const AFTER_THE_FIRST: usize = 2;
/// The slowest ticks that there are. Whoever looks for longer than this may have had one.
const SLOW_MS: (u64, u64) = (10_000, 50_000);
const LOOK_MAX: Duration = Duration::from_secs(9);

/// The keys on each lease after these changes, in which leases end whole: one in a revision, with all its keys and nothing
/// else.
fn check_whole<'a>(changes: impl Iterator<Item = &'a Change>) -> BTreeMap<i64, Vec<Bytes>> {
    let mut revisions = BTreeMap::<i64, Vec<&Change>>::new();
    changes.for_each(|change| revisions.entry(change.revision).or_default().push(change));
    let mut on_leases = BTreeMap::<i64, BTreeSet<Bytes>>::new();
    for (revision, changes) in revisions {
        let keys: BTreeSet<_> = changes.iter().map(|change| change.record.key.clone()).collect();
        if changes.iter().any(|change| change.is_delete) {
            let ended = on_leases.iter().find(|(_, held)| **held == keys).map(|(lease, _)| *lease);
            let ended = ended.unwrap_or_else(|| panic!("revision {revision} ends no lease: {changes:?}"));
            assert!(changes.iter().all(|change| change.is_delete) && SHORT.contains(&ended));
            on_leases.remove(&ended);
            continue;
        }
        on_leases.values_mut().for_each(|held| held.retain(|key| !keys.contains(key)));
        for Change { record, .. } in changes.iter().filter(|change| change.record.lease != 0) {
            on_leases.entry(record.lease).or_default().insert(record.key.clone());
        }
    }
    on_leases.into_iter().map(|(lease, keys)| (lease, keys.into_iter().collect())).collect()
}

/// What a store said that ended nothing by itself.
struct Found {
    told: Vec<Change>,
    leases: BTreeMap<i64, LeaseInfo>,
    ids: BTreeSet<i64>,
    /// How long that took.
    took: Duration,
}

fn look(image: &Image, placement: Placement) -> Found {
    loop {
        let directory = scratch();
        let root = directory.path().join("disk");
        image.write(&root);
        let began = Instant::now();
        let running = open(&root.join("data"), SLOW_MS, placement);
        let session = watch_all(&running);
        let (told, revision) = told_so_far(&running, &session);
        let newest = told.last().map_or(1, |change| change.revision);
        assert_eq!((revision, newest), (newest, running.kv.revision().get()));
        let info = |id: LeaseId| Some((id.get(), running.kv.lease_time_to_live(id, true).unwrap()?));
        let ids = running.kv.leases().unwrap();
        let leases = SHORT.chain(LONG).filter_map(|lease| info(LeaseId::new(lease))).collect();
        let found =
            Found { told, leases, ids: ids.into_iter().map(LeaseId::get).collect(), took: began.elapsed() };
        drop(session);
        running.stop();
        if found.took < LOOK_MAX {
            return found;
        }
    }
}

/// Holds what is left of `life` by a loss at `at` against what was known then.
fn check(life: &Life, at: usize, found: &Found) {
    let Known { promises, told, gone, acknowledged, .. } = &life.known;
    let revision = found.told.last().map_or(1, |change| change.revision);
    let before = told.iter().map(|(_, change)| change).take_while(|change| change.revision <= revision);
    assert!(before.eq(&found.told), "the changes up to revision {revision}");
    let seen = told.iter().map(|(position, change)| (*position, change.revision));
    for (_, seen) in seen.chain(acknowledged.iter().copied()).filter(|(position, _)| *position <= at) {
        assert!(seen <= revision, "revision {seen} was seen, {revision} is all there is");
    }
    for (_, lease) in gone.iter().filter(|(position, _)| *position <= at) {
        assert!(!found.leases.contains_key(lease), "lease {lease} was gone, and is back");
    }
    let on_leases = check_whole(found.told.iter());
    for lease in SHORT.chain(LONG) {
        let keys = on_leases.get(&lease).cloned().unwrap_or_default();
        let held = found.leases.get(&lease).map(|info| info.keys.clone());
        assert_eq!(held.unwrap_or_default(), keys, "the keys of lease {lease}");
    }
    assert!(found.leases.keys().eq(&found.ids), "the list of leases");
    let clock = life.clock_at(at) + found.took;
    for promise in promises.iter().filter(|promise| promise.acknowledged <= at) {
        let Some(left) = promise.left(clock) else { continue };
        let info = found.leases.get(&promise.lease);
        let info = info.unwrap_or_else(|| panic!("lease {} is gone, it had {left:?}", promise.lease));
        assert!(info.remaining_ttl_s >= left.as_secs() as i64, "{promise:?} has {left:?}: {info:?}");
    }
}

/// Goes on with what a loss of `life` at `at` has left, until all short leases have ended.
fn go_on(life: &Life, at: usize, image: &Image, found: &Found, placement: Placement) -> Life {
    let directory = scratch();
    let mut living = Living::begin(&directory.path().join("disk"), image, life.clock_at(at), placement);
    let promises = life.known.promises.iter().filter(|promise| promise.acknowledged <= at);
    living.known.promises = promises.map(|promise| Promise { acknowledged: 0, ..*promise }).collect();
    living.outlive(|_, _| Some(())).expect("nothing is put on a lease");
    let life = living.stop();
    let told = || life.known.told.iter().map(|(_, change)| change);
    let old = told().take(found.told.len());
    assert!(old.eq(&found.told), "the changes that were there before");
    assert!(told().skip(found.told.len()).all(|change| change.is_delete), "nothing else was written");
    check_whole(told());
    life
}

#[derive(Debug, Default)]
struct Tally {
    lives: u64,
    cuts: u64,
    /// Leases that had ended before power was lost; those of them whose end nobody had seen; and those that ended in a store
    /// that was opened afterwards.
    ended: usize,
    ended_unseen: usize,
    ended_later: usize,
}

/// Loses power at `at`, and looks at what is left.
fn lose_power(
    life: &Life,
    at: usize,
    placement: Placement,
    random: &mut Random,
    tally: &mut Tally,
) -> (Image, Found) {
    let image = life.record.after_power_loss(at, random);
    let found = look(&image, placement);
    check(life, at, &found);
    tally.cuts += 1;
    for (position, lease) in &life.known.gone {
        let is_granted = life.known.promises.iter().any(|it| it.lease == *lease && it.acknowledged <= at);
        let has_ended = is_granted && !found.leases.contains_key(lease);
        tally.ended += usize::from(has_ended);
        tally.ended_unseen += usize::from(has_ended && *position > at);
    }
    (image, found)
}

/// Loses power at `at`, and again in the life that follows.
fn lose_power_twice(
    life: &Life,
    at: usize,
    placement: Placement,
    about: &str,
    random: &mut Random,
    tally: &mut Tally,
) {
    let mut about = about.to_owned();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let (image, found) = lose_power(life, at, placement, random, tally);
        let next = go_on(life, at, &image, &found, placement);
        tally.ended_later += SHORT.filter(|lease| found.leases.contains_key(lease)).count();
        let at = next.moment(AFTER_THE_FIRST, random);
        about = format!("{about}, then at {at}");
        lose_power(&next, at, placement, random, tally);
    }));
    result.unwrap_or_else(|panic| {
        eprintln!("{about}");
        resume_unwind(panic)
    });
}

#[test]
fn power_is_lost_around_the_end_of_leases() {
    let cuts = variable("HOLDFAST_POWER_CUTS").map_or(CUTS, |cuts| cuts / 5);
    let seed = seed();
    println!("HOLDFAST_SEED={seed}");
    let mut random = Random::new(seed);
    let mut tally = Tally::default();
    while tally.cuts < cuts {
        let placement = [Placement::Thread, Placement::Caller, Placement::Adaptive][random.below(3)];
        let Some(life) = live(placement) else { continue };
        check_whole(life.known.told.iter().map(|(_, change)| change));
        tally.lives += 1;
        for number in 0..CUTS_OF_A_LIFE {
            if tally.cuts >= cuts {
                break;
            }
            let at = life.moment(number, &mut random);
            let about = format!("HOLDFAST_SEED={seed} {placement:?}, life {}, at {at}", tally.lives);
            lose_power_twice(&life, at, placement, &about, &mut random, &mut tally);
        }
    }
    println!("{tally:?}");
    assert!(tally.ended > 0, "power was never lost after a lease had ended");
    assert!(tally.ended_later > 0, "power was never lost before a lease had ended");
}
