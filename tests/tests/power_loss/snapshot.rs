//! Power loss while a snapshot is restored, and while one is taken of the store that it became.
//!
//! A restore that was reported is there, whole. One that was not is there whole, or refused with what to do; and then it
//! can be done again, also on what was left. A snapshot that is being read changes nothing of what is acknowledged. What was
//! written to the restored store is there as it was then, to the last byte and by the history's hash.

use crate::life::{Running, config, put};
use crate::{moment, scratch, seed, variable};
use holdfast_power::{Image, Random, Record, Recorder};
use kvstore::KeyRange;
use kvstore::command::RangeQuery;
use kvstore::store::{Consistency, Placement, Store};
use std::collections::BTreeMap;
use std::path::Path;

const CUTS: u64 = 30;
const CUTS_OF_A_RESTORE: u64 = 15;
/// Restores of one directory, one after the other.
const RESTORES_MAX: usize = 4;
const PLACEMENT: Placement = Placement::Thread;

/// What a store holds, by everything that can be asked for at once.
#[derive(Clone, Debug, PartialEq)]
struct Content {
    revision: i64,
    hash: u32,
    keys: BTreeMap<Vec<u8>, (Vec<u8>, i64)>,
}

fn content(running: &Running) -> Content {
    let query = RangeQuery::new(KeyRange::all());
    let reply = running.run(running.kv.range(query, Consistency::Linearizable)).expect("a read");
    let of = |kv: &kvstore::KeyValue| (kv.key().to_vec(), (kv.value().to_vec(), kv.mod_revision.get()));
    Content {
        revision: running.kv.revision().get(),
        hash: running.kv.hash_kv(None).expect("a hash").hash,
        keys: reply.result.kvs.iter().map(of).collect(),
    }
}

fn write_some(running: &Running, count: usize, random: &mut Random) {
    for _ in 0..count {
        let value = "v".repeat(random.below(3_000));
        running
            .run(running.kv.transact(put(format!("k{}", random.below(40)).into(), value.into())))
            .expect("a write");
    }
}

/// A snapshot, and what is in it.
fn snapshot(random: &mut Random) -> (Vec<u8>, Content) {
    let directory = scratch();
    let running = Running::open(&directory.path().join("data"), PLACEMENT).expect("a store");
    write_some(&running, 150, random);
    let revision = running.kv.revision();
    running.run(running.kv.compact(revision, true)).expect("a compaction");
    write_some(&running, 30, random);
    let mut bytes = Vec::new();
    running.store.save_snapshot(&mut bytes).expect("a snapshot");
    let content = content(&running);
    running.stop();
    (bytes, content)
}

fn restore(data_dir: &Path, bytes: &[u8]) -> kvstore::Result<()> {
    Store::restore_snapshot(&config(data_dir, PLACEMENT), &mut &*bytes).map(drop)
}

/// What happened to the disk in a restore and after it.
struct Restored {
    record: Record,
    /// Where the restore was reported.
    reported_at: usize,
    /// The writes after it.
    writes: Vec<Write>,
    began_at: usize,
}

/// Where a write was sent and acknowledged, and what there was then.
struct Write {
    sent: usize,
    acknowledged: usize,
    content: Content,
}

fn restore_and_live(disk: Record, bytes: &[u8], random: &mut Random) -> Restored {
    let directory = scratch();
    let root = directory.path().join("disk");
    let began_at = disk.operations().len();
    let recorder = Recorder::after(&root, disk);
    restore(&root.join("data"), bytes).expect("a restore");
    let reported_at = recorder.position();
    let running = Running::open(&root.join("data"), PLACEMENT).expect("the restored store");
    let mut writes = Vec::new();
    for _ in 0..3 {
        for _ in 0..5 {
            let sent = recorder.position();
            write_some(&running, 1, random);
            writes.push(Write { sent, acknowledged: recorder.position(), content: content(&running) });
        }
        running.store.save_snapshot(&mut Vec::new()).expect("a snapshot of it");
    }
    running.stop();
    let record = recorder.finish();
    let seen = record.as_seen(record.operations().len());
    assert!(seen == Image::read(&root), "something was written past the record");
    Restored { record, reported_at, writes, began_at }
}

/// Opens what a loss at `at` has left. Gives the disk if it is to be restored once more.
fn check(restored: &Restored, at: usize, left: &Image, expected: &Content, about: &str) -> Option<Image> {
    let directory = scratch();
    let root = directory.path().join("disk");
    left.write(&root);
    match Running::open(&root.join("data"), PLACEMENT) {
        Ok(running) => {
            let found = content(&running);
            running.stop();
            if found.revision == 1 && at < restored.reported_at {
                // Nothing of the restore had reached the disk: a new store, as in any empty directory.
                assert!(found.keys.is_empty(), "{about}");
                let had_begun = left.file("data/RESTORING").is_some() || left.file("data/HOLDFAST").is_some();
                assert!(!had_begun, "{about}: taken for a new store");
                return None;
            }
            let sent = restored.writes.iter().take_while(|write| write.sent <= at);
            let acknowledged = restored.writes.iter().rfind(|write| write.acknowledged <= at);
            let least = acknowledged.map_or(expected, |write| &write.content).revision;
            assert!(
                found.revision >= least,
                "{about}: {least} was acknowledged, {} is there",
                found.revision
            );
            let mut possible = sent.map(|write| &write.content).chain([expected]);
            let then = possible.find(|content| content.revision == found.revision);
            let then = then.unwrap_or_else(|| panic!("{about}: nobody had sent {}", found.revision));
            assert_eq!(found, *then, "{about}");
            None
        }
        Err(error) => {
            assert!(at < restored.reported_at, "{about}: {error}");
            assert!(error.to_string().contains("restore it again"), "{about}: {error}");
            Some(left.clone())
        }
    }
}

#[test]
fn power_is_lost_during_restores_and_snapshots() {
    let cuts = variable("HOLDFAST_POWER_CUTS").map_or(CUTS, |cuts| cuts / 4);
    let seed = seed();
    println!("HOLDFAST_SEED={seed}");
    let mut random = Random::new(seed);
    let (mut done, mut refused, mut repeated) = (0, 0, 0);
    while done < cuts {
        let (bytes, expected) = snapshot(&mut random);
        let mut disk = Record::on(Image::default());
        for number in 0..RESTORES_MAX {
            let restored = restore_and_live(disk, &bytes, &mut random);
            let mut again = None;
            for _ in 0..CUTS_OF_A_RESTORE {
                done += 1;
                // Most of them during the restore.
                let until = match random.percent(70) {
                    true => restored.reported_at,
                    false => restored.record.operations().len(),
                };
                let at = moment(&restored.record, restored.began_at..until, &mut random);
                let about = format!("HOLDFAST_SEED={seed}, restore {number}, at {at}");
                let left = restored.record.after_power_loss(at, &mut random);
                let to_repeat = check(&restored, at, &left, &expected, &about);
                refused += u64::from(to_repeat.is_some());
                again = to_repeat.or(again);
            }
            let Some(image) = again else { break };
            repeated += 1;
            disk = Record::on(image);
        }
    }
    println!("{done} losses, {refused} starts refused, {repeated} restores done again");
    assert!(refused > 0 && repeated > 0, "no restore was interrupted");
}
