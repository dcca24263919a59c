//! Power loss under the storage engine alone: flushes and checkpoints.
//!
//! What a flush reported is there afterwards, whole over all families; a checkpoint that was reported opens, and holds what
//! the engine held.

use crate::{moment, scratch, seed, variable};
use holdfast_power::{Image, Random, Recorder};
use kvstore::storage::{Batch, Engine, Family, RocksEngine, RocksOptions};

const CUTS: u64 = 20;
/// Writes in one life of an engine.
const WRITES: u64 = 60;

/// One batch puts its number into all families: what is there must be there in each.
fn batch(number: u64) -> Batch {
    let mut batch = Batch::default();
    for family in Family::ALL {
        batch.put(family, number.to_be_bytes().to_vec(), vec![number as u8; 300]);
    }
    batch.put(Family::Meta, &b"count"[..], (number + 1).to_be_bytes().to_vec());
    batch
}

/// How many batches are there; panics when one is there in part.
fn count(engine: &RocksEngine, about: &str) -> u64 {
    let count = engine.get(Family::Meta, b"count").expect("a read");
    let count = count.map_or(0, |bytes| u64::from_be_bytes(bytes.as_ref().try_into().expect("eight bytes")));
    for number in 0..count + 5 {
        for family in Family::ALL {
            let found = engine.get(family, &number.to_be_bytes()).expect("a read");
            assert_eq!(found.is_some(), number < count, "{about}: batch {number} of {count} in {family:?}");
        }
    }
    count
}

#[test]
fn power_is_lost_during_flushes_and_checkpoints() {
    let cuts = variable("HOLDFAST_POWER_CUTS").map_or(CUTS, |cuts| cuts / 4);
    let seed = seed();
    println!("HOLDFAST_SEED={seed}");
    let mut random = Random::new(seed);
    let mut done = 0;
    while done < cuts {
        let directory = scratch();
        let root = directory.path().join("disk");
        let recorder = Recorder::start(&root, &Image::default());
        let engine = RocksEngine::open(root.join("state"), &RocksOptions::default()).expect("an engine");
        // Where in the record how many batches were reported durable; and which checkpoint holds how many.
        let (mut flushed, mut checkpoints) = (vec![(0, 0)], Vec::new());
        for number in 0..WRITES {
            engine.write(batch(number)).expect("a write");
            if random.percent(20) {
                engine.flush().expect("a flush");
                flushed.push((recorder.position(), number + 1));
            }
            if random.percent(5) {
                let name = format!("checkpoint-{number}");
                engine.checkpoint(&root.join(&name)).expect("a checkpoint");
                checkpoints.push((recorder.position(), name, number + 1));
            }
        }
        drop(engine);
        let record = recorder.finish();
        assert!(
            record.as_seen(record.operations().len()) == Image::read(&root),
            "something was written past the record"
        );
        for _ in 0..10 {
            done += 1;
            let at = moment(&record, 0..record.operations().len(), &mut random);
            let about = format!("HOLDFAST_SEED={seed} at {at}");
            let after = directory.path().join(format!("after-{done}"));
            record.after_power_loss(at, &mut random).write(&after);
            let engine = RocksEngine::open(after.join("state"), &RocksOptions::default());
            let engine = engine.unwrap_or_else(|error| panic!("{about}: {error:?}"));
            let found = count(&engine, &about);
            let durable = flushed.iter().rfind(|(position, _)| *position <= at).expect("the start").1;
            assert!(found >= durable, "{about}: {durable} batches were durable, {found} are there");
            for (position, name, held) in &checkpoints {
                if *position <= at {
                    let copy = RocksEngine::open(after.join(name), &RocksOptions::default());
                    let copy = copy.unwrap_or_else(|error| panic!("{about}, {name}: {error:?}"));
                    assert_eq!(count(&copy, &about), *held, "{about}: {name}");
                }
            }
        }
    }
}
