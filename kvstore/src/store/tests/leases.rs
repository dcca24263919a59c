//! Leases of a real store: their clock through kills and standstills, and their ends.

use super::*;
use crate::command::{Alarm, AlarmKind};
use crate::runtime::EXPIRE_WORK_MAX;
use std::time::Instant;

const LEASE: LeaseId = LeaseId::new(1);
const TTL_S: i64 = 2;

fn remaining_s(kv: &Keyspace, id: LeaseId) -> Option<i64> {
    kv.lease_time_to_live(id, false).unwrap().map(|info| info.remaining_ttl_s)
}

/// A store on a disk that can be told to stand still.
fn on_a_disk(directory: &TempDir) -> (Store, Keyspace, Disk) {
    let disk = Disk::default();
    let store = Store::open_on(config(directory, Placement::Thread), Arc::new(disk.clone())).unwrap();
    let kv = default_keyspace(&store);
    (store, kv, disk)
}

/// A client counts from the answer: a lease that was granted before the disk stood still, and acknowledged afterwards, has
/// its whole time then.
#[tokio::test]
async fn a_lease_whose_grant_took_longer_than_its_time_to_live_lives_so_long_from_the_answer_on() {
    let directory = tempfile::tempdir().unwrap();
    let (store, kv, disk) = on_a_disk(&directory);
    let held = disk.hold_syncs();
    let granting = tokio::spawn({
        let kv = kv.clone();
        async move { kv.lease_grant(LEASE, TTL_S).await }
    });
    tokio::time::sleep(Duration::from_millis(TTL_S as u64 * 1_000 + 1_000)).await;
    assert!(!granting.is_finished(), "the disk does not stand still");
    // The answer comes later than this.
    let released = Instant::now();
    drop(held);
    in_time(granting).await.unwrap().unwrap();
    let ended = async {
        while remaining_s(&kv, LEASE).is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    in_time(ended).await;
    let lived = released.elapsed();
    assert!(lived >= Duration::from_secs(TTL_S as u64), "it ended {lived:?} after the answer");
    in_time(store.stop()).await;
}

/// A renewal that came in time waits behind the same disk as the lease's end would.
#[tokio::test]
async fn a_renewal_that_waits_for_the_disk_comes_before_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let (store, kv, disk) = on_a_disk(&directory);
    in_time(kv.lease_grant(LEASE, TTL_S)).await.unwrap();
    let held = disk.hold_syncs();
    let put = tokio::spawn({
        let kv = kv.clone();
        async move { kv.put("a", "1").await }
    });
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let renewing = tokio::spawn({
        let kv = kv.clone();
        async move { kv.lease_keep_alive(LEASE).await }
    });
    tokio::time::sleep(Duration::from_millis(TTL_S as u64 * 1_000)).await;
    assert!(!renewing.is_finished(), "it did not wait for the disk");
    drop(held);
    assert_eq!(in_time(renewing).await.unwrap(), Ok(Some(TTL_S)));
    in_time(put).await.unwrap().unwrap();
    in_time(store.stop()).await;
}

/// One after the other they would take longer than a short time to live.
#[tokio::test]
async fn renewals_of_many_leases_share_one_entry() {
    const LEASES: i64 = 300;
    const LONG_TTL_S: i64 = 600;
    let directory = tempfile::tempdir().unwrap();
    let (store, kv, disk) = on_a_disk(&directory);
    let ids: Vec<_> = (1..=LEASES).map(LeaseId::new).collect();
    for &id in &ids {
        in_time(kv.lease_grant(id, LONG_TTL_S)).await.unwrap();
    }
    // No grant covers a renewal after this.
    tokio::time::sleep(Duration::from_millis(50)).await;
    disk.take_longer_for_a_sync(Duration::from_millis(20));
    let mut asked = ids.clone();
    asked.extend([LeaseId::new(LEASES + 1), ids[7], ids[0]]);
    let before = store.metrics().entries_proposed;
    let answers = in_time(kv.lease_keep_alive_many(&asked)).await.unwrap();
    let proposed = store.metrics().entries_proposed - before;
    let expected = asked.iter().map(|id| (id.get() <= LEASES).then_some(LONG_TTL_S));
    assert_eq!(answers, expected.collect::<Vec<_>>());
    // The clock may be written down meanwhile.
    assert!((1..=3).contains(&proposed), "{proposed} entries");
    assert_eq!(in_time(kv.lease_keep_alive_many(&[])).await, Ok(Vec::new()));
    in_time(store.stop()).await;
}

/// While nothing may be changed, a lease whose time is up stays, and nobody tries to end it again and again.
#[tokio::test]
async fn leases_of_a_corrupt_member_end_when_the_alarm_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(config(&directory, Placement::Thread)).unwrap();
    let kv = default_keyspace(&store);
    in_time(kv.lease_grant(LEASE, TTL_S)).await.unwrap();
    let alarm = Alarm { member: 1, kind: AlarmKind::Corrupt };
    in_time(store.alarm_activate(alarm)).await.unwrap();
    let before = store.metrics().entries_proposed;
    let is_over = async {
        while remaining_s(&kv, LEASE) != Some(0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    in_time(is_over).await;
    // Long enough for it to be ended, if it could be.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(remaining_s(&kv, LEASE), Some(0));
    let proposed = store.metrics().entries_proposed - before;
    // The clock is written down now and then.
    assert!(proposed < 10, "{proposed} entries while nothing was asked for");
    in_time(store.alarm_deactivate(alarm)).await.unwrap();
    let ended = async {
        while remaining_s(&kv, LEASE).is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    in_time(ended).await;
    in_time(store.stop()).await;
}

/// What a kill would leave of the store's directory: everything that was written, flushed by nobody.
fn as_killed(config: &Config, home: &TempDir) -> Config {
    let copy = Config { data_dir: home.path().join("data"), ..config.clone() };
    for part in ["", "log", "state"] {
        std::fs::create_dir_all(copy.data_dir.join(part)).unwrap();
        for entry in std::fs::read_dir(config.data_dir.join(part)).unwrap() {
            let path = entry.unwrap().path();
            // A segment that is being made ready may be gone again.
            if let Some(bytes) = path.is_file().then(|| std::fs::read(&path).ok()).flatten() {
                std::fs::write(copy.data_dir.join(part).join(path.file_name().unwrap()), bytes).unwrap();
            }
        }
    }
    copy
}

/// The state on disk may be hours older than the log: its clock must not be what a start goes on with.
#[tokio::test]
async fn a_kill_does_not_turn_the_clock_of_leases_back() {
    let [directory, home] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let config = Config { heartbeat_ms: 20, election_ms: 200, ..config(&directory, Placement::Thread) };
    let store = Store::open(config.clone()).unwrap();
    let kv = default_keyspace(&store);
    let (short, long) = (LeaseId::new(1), LeaseId::new(2));
    in_time(kv.lease_grant(short, 3)).await.unwrap();
    in_time(kv.lease_grant(long, 30)).await.unwrap();
    let nearly_over = async {
        while remaining_s(&kv, short).is_some_and(|left_s| left_s > 0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    in_time(nearly_over).await;
    in_time(kv.put("a", "carries the clock")).await.unwrap();

    let killed = as_killed(&config, &home);
    let again = Store::open(killed.clone()).unwrap();
    let kv = default_keyspace(&again);
    assert!(
        matches!(remaining_s(&kv, short), None | Some(0)),
        "{:?} of 3 s after more than 2 s",
        remaining_s(&kv, short)
    );
    let promised = Instant::now();
    assert_eq!(in_time(kv.lease_keep_alive(long)).await, Ok(Some(30)));
    in_time(again.stop()).await;
    drop((kv, again));

    let again = Store::open(killed).unwrap();
    let left = remaining_s(&default_keyspace(&again), long).unwrap();
    assert!(left >= 29 - promised.elapsed().as_secs() as i64, "{left} s of the 30 s that were promised");
    in_time(again.stop()).await;
    in_time(store.stop()).await;
}

/// Thousands that end together hold nobody up for long, and need no tick for every hundred of them.
#[tokio::test]
async fn many_leases_that_end_together_do_so_in_small_steps_without_a_pause() {
    const LEASES: i64 = 3_000;
    // Longer than all the grants take together.
    const TTL_S: i64 = 15;
    let directory = tempfile::tempdir().unwrap();
    let config = Config { heartbeat_ms: 1_000, election_ms: 5_000, ..config(&directory, Placement::Thread) };
    let store = Store::open(config).unwrap();
    let kv = default_keyspace(&store);
    let grants: Vec<_> = (1..=LEASES)
        .map(|id| {
            let kv = kv.clone();
            tokio::spawn(async move { kv.lease_grant(LeaseId::new(id), TTL_S).await })
        })
        .collect();
    for grant in grants {
        in_time(grant).await.unwrap().unwrap();
    }
    let entries = store.metrics().entries_proposed;
    let until = async |left: usize| {
        while kv.leases().unwrap().len() > left {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    in_time(until(LEASES as usize - 1)).await;
    let begun = Instant::now();
    in_time(until(0)).await;
    let took = begun.elapsed();
    let entries = store.metrics().entries_proposed - entries;
    assert!(entries >= LEASES as u64 / EXPIRE_WORK_MAX as u64, "{entries} entries");
    // At a hundred for each tick, 30 s.
    assert!(took < Duration::from_secs(25), "{took:?}");
    in_time(store.stop()).await;
}
