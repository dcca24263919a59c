//! Power loss under the storage engine alone: flushes, the compactions of tables that follow from them, and checkpoints.
//!
//! What a flush reported is there afterwards, whole over all families; a checkpoint that was reported opens, and holds what
//! the engine held.

use crate::life::Span;
use crate::phase::{Phase, Phases};
use crate::{moment, scratch, seed, variable};
use holdfast_power::{Image, Random, Record, Recorder};
use kvstore::storage::{Batch, Engine, Family, RocksEngine, RocksOptions};
use std::path::Path;

const CUTS: u64 = 20;
/// Writes in one life of an engine.
const WRITES: u64 = 60;
/// Losses in one life; of these, on purpose during compactions of tables, and during checkpoints.
const CUTS_OF_A_LIFE: usize = 10;
const CUTS_OF_A_PHASE: usize = 2;
/// Losses after which each of these has been interrupted with certainty.
const CUTS_MANY: u64 = 60;

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

/// What an engine did, and what it reported of it.
struct Life {
    record: Record,
    phases: Phases,
    /// Where in the record how many batches were reported durable.
    flushed: Vec<(usize, u64)>,
    checkpoints: Vec<Checkpoint>,
}

struct Checkpoint {
    name: String,
    /// How many batches are in it.
    held: u64,
    /// Where in the record it was asked for, and where it was reported.
    span: Span,
}

fn live(root: &Path, random: &mut Random) -> Life {
    let recorder = Recorder::start(root, &Image::default());
    let engine = RocksEngine::open(root.join("state"), &RocksOptions::default()).expect("an engine");
    let (mut flushed, mut checkpoints) = (vec![(0, 0)], Vec::new());
    for number in 0..WRITES {
        engine.write(batch(number)).expect("a write");
        if random.percent(20) {
            engine.flush().expect("a flush");
            flushed.push((recorder.position(), number + 1));
        }
        if random.percent(5) {
            let name = format!("checkpoint-{number}");
            let sent = recorder.position();
            engine.checkpoint(&root.join(&name)).expect("a checkpoint");
            let span = Span { sent, acknowledged: recorder.position() };
            checkpoints.push(Checkpoint { name, held: number + 1, span });
        }
    }
    drop(engine);
    let record = recorder.finish();
    let seen = record.as_seen(record.operations().len());
    assert!(seen == Image::read(root), "something was written past the record");
    let phases = Phases::of(&record, &[]);
    Life { record, phases, flushed, checkpoints }
}

impl Life {
    /// A moment for the loss of this number: the first ones on purpose, the others anywhere.
    fn moment(&self, number: usize, random: &mut Random) -> usize {
        let on_purpose = match number / CUTS_OF_A_PHASE {
            0 => self.phases.moment(Phase::TableCompaction, &self.record, random),
            1 if !self.checkpoints.is_empty() => {
                let Span { sent, acknowledged } = self.checkpoints[random.below(self.checkpoints.len())].span;
                Some(moment(&self.record, sent + 1..acknowledged - 1, random))
            }
            _ => None,
        };
        on_purpose.unwrap_or_else(|| moment(&self.record, 0..self.record.operations().len(), random))
    }

    /// Opens what a loss at `at` has left.
    fn check(&self, at: usize, left: &Path, about: &str) {
        let engine = RocksEngine::open(left.join("state"), &RocksOptions::default());
        let engine = engine.unwrap_or_else(|error| panic!("{about}: {error:?}"));
        let found = count(&engine, about);
        let durable = self.flushed.iter().rfind(|(position, _)| *position <= at).expect("the start").1;
        assert!(found >= durable, "{about}: {durable} batches were durable, {found} are there");
        for Checkpoint { name, held, span } in &self.checkpoints {
            if span.acknowledged <= at {
                let copy = RocksEngine::open(left.join(name), &RocksOptions::default());
                let copy = copy.unwrap_or_else(|error| panic!("{about}, {name}: {error:?}"));
                assert_eq!(count(&copy, about), *held, "{about}: {name}");
            }
        }
    }
}

#[test]
fn power_is_lost_during_flushes_and_checkpoints() {
    let cuts = variable("HOLDFAST_POWER_CUTS").map_or(CUTS, |cuts| cuts / 4);
    let seed = seed();
    println!("HOLDFAST_SEED={seed}");
    let mut random = Random::new(seed);
    let (mut done, mut in_compactions, mut in_checkpoints) = (0, 0, 0);
    while done < cuts {
        let directory = scratch();
        let life = live(&directory.path().join("disk"), &mut random);
        for number in 0..CUTS_OF_A_LIFE {
            done += 1;
            let at = life.moment(number, &mut random);
            let left = directory.path().join(format!("after-{done}"));
            life.record.after_power_loss(at, &mut random).write(&left);
            life.check(at, &left, &format!("HOLDFAST_SEED={seed} at {at}"));
            in_compactions += u64::from(life.phases.at(at).any(|phase| phase == Phase::TableCompaction));
            let is_in = |span: Span| span.sent < at && at < span.acknowledged;
            in_checkpoints += u64::from(life.checkpoints.iter().any(|checkpoint| is_in(checkpoint.span)));
        }
    }
    println!("{done} losses, {in_compactions} in compactions of tables, {in_checkpoints} in checkpoints");
    assert!(done < CUTS_MANY || in_compactions > 0, "power was never lost during a compaction of tables");
    assert!(done < CUTS_MANY || in_checkpoints > 0, "power was never lost during a checkpoint");
}
