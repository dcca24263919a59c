//! Random work, random crashes, and afterwards exactly what was acknowledged, with at most the one frame that
//! was in flight on top.

use super::*;
use crate::log::SegmentJob;
use crate::types::Error;
use proptest::prelude::*;

const SEGMENT_BYTES: u64 = 12 << 10;

#[derive(Clone, Debug)]
enum Step {
    /// Entries from `back` before the end on, of these sizes; with a hard state or not.
    Append {
        state: bool,
        back: u64,
        sizes: Vec<usize>,
    },
    Purge {
        back: u64,
    },
    /// Runs a job at once.
    House,
    /// Takes a job; it is run some steps later, or never.
    TakeJob,
    RunJob,
    Restart {
        ahead: u64,
    },
    FailSync,
    Seal {
        durably: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum End {
    Kill,
    LosePower { keep_percent: u64 },
}

#[derive(Clone, Debug)]
struct Life {
    steps: Vec<Step>,
    /// The disk dies at this operation, counted from the opening.
    dies_after: Option<u64>,
    end: End,
    wanted_back: u64,
}

fn steps() -> impl Strategy<Value = Step> {
    let size = prop_oneof![8 => 0usize..1500, 3 => 1500usize..6000, 1 => 6000usize..30_000];
    prop_oneof![
        12 => (any::<bool>(), 0u64..4, prop::collection::vec(size, 0..4))
            .prop_map(|(state, back, sizes)| Step::Append { state, back, sizes }),
        2 => (0u64..6).prop_map(|back| Step::Purge { back }),
        2 => Just(Step::House),
        1 => Just(Step::TakeJob),
        1 => Just(Step::RunJob),
        1 => prop_oneof![4 => Just(0u64), 1 => 1u64..50].prop_map(|ahead| Step::Restart { ahead }),
        1 => prop_oneof![4 => Just(Step::House), 1 => Just(Step::FailSync)],
        4 => prop_oneof![4 => Just(false), 1 => Just(true)].prop_map(|durably| Step::Seal { durably }),
    ]
}

fn lives() -> impl Strategy<Value = Life> {
    let end = prop_oneof![
        1 => Just(End::Kill),
        3 => prop_oneof![Just(0), Just(50), Just(90), Just(100)]
            .prop_map(|keep_percent| End::LosePower { keep_percent }),
    ];
    (prop::collection::vec(steps(), 0..40), prop::option::of(1u64..120), end, 0u64..4)
        .prop_map(|(steps, dies_after, end, wanted_back)| Life { steps, dies_after, end, wanted_back })
}

/// What the log must hold.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    /// Everything since the last restart, purged or not.
    entries: Vec<LogEntry>,
    before_first: u64,
    hard_state: Option<HardState>,
    keep_from: u64,
    term: u64,
}

impl Model {
    fn last(&self) -> u64 {
        self.before_first + self.entries.len() as u64
    }

    fn from(&self, first: u64) -> &[LogEntry] {
        &self.entries[(first - self.before_first - 1).min(self.entries.len() as u64) as usize..]
    }

    fn matches(&self, log: &Log, recovered: &Recovered, wanted_from: u64) -> bool {
        recovered.hard_state == self.hard_state
            && log.last_index().get() == self.last()
            && log.first_index().get() > self.before_first
            && recovered.entries == self.from(wanted_from.max(self.before_first + 1))
            && read_all(log) == self.from(log.first_index().get())
    }
}

struct Machine {
    disk: Arc<Disk>,
    random: u64,
    model: Model,
    /// The model if the call in flight when it failed has taken effect after all.
    in_flight: Option<Model>,
}

impl Machine {
    fn coin(random: &mut u64, percent: u64) -> bool {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        (*random >> 20) % 100 < percent
    }

    fn end(&mut self, end: End) {
        match end {
            End::Kill => self.disk.kill(),
            End::LosePower { keep_percent } => {
                self.disk.lose_power(|| Self::coin(&mut self.random, keep_percent));
            }
        }
    }

    /// Opens; the disk may die meanwhile, after which it is tried once more.
    fn open(&mut self, life: &Life) -> Result<Log, TestCaseError> {
        let keep_from = self.in_flight.as_ref().map_or(0, |model| model.keep_from).max(self.model.keep_from);
        let wanted_from = keep_from.saturating_sub(life.wanted_back).max(1);
        if let Some(count) = life.dies_after {
            self.disk.die_after(count);
        }
        // What the model must not go below may be gone, and what it need not keep may be asked for.
        let attempt = |machine: &Self, wanted_from| match open(&machine.disk, SEGMENT_BYTES, wanted_from) {
            Err(error)
                if error.to_string().contains("the raft log begins with entry")
                    && wanted_from < keep_from =>
            {
                (keep_from, open(&machine.disk, SEGMENT_BYTES, keep_from))
            }
            other => (wanted_from, other),
        };
        let (mut used_from, mut opened) = attempt(self, wanted_from);
        if opened.as_ref().is_err_and(|error| error.to_string().contains("the power is off")) {
            self.end(life.end);
            (used_from, opened) = attempt(self, wanted_from);
        }
        let (log, recovered) = opened.map_err(|error| TestCaseError::fail(format!("refused: {error}")))?;
        if let Some(in_flight) = self.in_flight.take()
            && in_flight.matches(&log, &recovered, used_from)
        {
            self.model = in_flight;
        }
        prop_assert!(
            self.model.matches(&log, &recovered, used_from),
            "wanted from {used_from}: {log:?} {recovered:#?} instead of {:#?}",
            self.model
        );
        Ok(log)
    }

    fn run(&mut self, log: &mut Log, life: &Life) -> Result<(), TestCaseError> {
        let mut job: Option<SegmentJob> = None;
        for step in &life.steps {
            let result = match step {
                Step::Append { state, back, sizes } => self.append(log, *state, *back, sizes),
                Step::Restart { ahead } if *ahead > 0 => self.restart(log, *ahead),
                Step::Restart { .. } => Ok(()),
                Step::Purge { back } => {
                    self.model.keep_from =
                        (self.model.last() + 1).saturating_sub(*back).max(self.model.keep_from);
                    log.purge_below(index(self.model.keep_from))
                }
                Step::House => keep_house(log),
                Step::TakeJob => {
                    job = log.housekeeping().or(job);
                    Ok(())
                }
                Step::RunJob => job.take().map_or(Ok(()), |job| job.run().map(|done| log.finish(done))),
                Step::FailSync => {
                    self.disk.fail_next_sync();
                    Ok(())
                }
                Step::Seal { durably: false } => log.seal(),
                Step::Seal { durably: true } => log.seal_durably(),
            };
            if let (Err(_), Step::Append { .. } | Step::Restart { .. } | Step::Seal { .. }) = (&result, step)
            {
                let again = log.append(Some(hard_state(9, 9)), &[]);
                prop_assert!(matches!(again, Err(Error::Poisoned(_))), "{again:?} after {result:?}");
                break;
            }
        }
        Ok(())
    }

    fn append(&mut self, log: &mut Log, state: bool, back: u64, sizes: &[usize]) -> Result<()> {
        let mut after = self.model.clone();
        let lowest = log.first_index().get().max(self.model.keep_from);
        let first = (self.model.last() + 1).saturating_sub(back).max(lowest).min(self.model.last() + 1);
        after.term += 1;
        let entries: Vec<_> = (first..).zip(sizes).map(|(at, bytes)| entry(at, after.term, *bytes)).collect();
        if !entries.is_empty() {
            after.entries.truncate((first - after.before_first - 1) as usize);
            after.entries.extend_from_slice(&entries);
        }
        let state = state.then(|| hard_state(after.term, first));
        after.hard_state = state.or(after.hard_state);
        let result = log.append(state, &entries);
        self.settle(after, &result);
        result
    }

    fn restart(&mut self, log: &mut Log, ahead: u64) -> Result<()> {
        let mut after = self.model.clone();
        after.term += 1;
        after.before_first = after.last() + ahead;
        after.entries.clear();
        after.keep_from = after.before_first + 1;
        after.hard_state = Some(hard_state(after.term, after.before_first));
        let result = log.restart_after(index(after.before_first), after.hard_state);
        self.settle(after, &result);
        result
    }

    fn settle(&mut self, after: Model, result: &Result<()>) {
        match result {
            Ok(()) => self.model = after,
            Err(_) => self.in_flight = Some(after),
        }
    }
}

fn check(lives: &[Life], seed: u64) -> Result<(), TestCaseError> {
    let model = Model { entries: Vec::new(), before_first: 0, hard_state: None, keep_from: 1, term: 0 };
    let mut machine = Machine { disk: Disk::new(), random: seed | 1, model, in_flight: None };
    for life in lives {
        let mut log = machine.open(life)?;
        machine.run(&mut log, life)?;
        drop(log);
        machine.end(life.end);
    }
    let quiet = Life { steps: Vec::new(), dies_after: None, end: End::Kill, wanted_back: 0 };
    machine.open(&quiet)?;
    Ok(())
}

/// A few seconds' worth; PROPTEST_CASES asks for more.
fn config() -> ProptestConfig {
    let cases =
        if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { 100 };
    ProptestConfig { cases, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_acknowledged_append_survives(lives in prop::collection::vec(lives(), 1..8), seed in any::<u64>()) {
        check(&lives, seed)?;
    }
}
