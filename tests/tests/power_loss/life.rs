//! A recorded life: random work, and when each part of it was sent and acknowledged.

use crate::oracle::Model;
use crate::phase::Phases;
use crate::steps::{self, Step};
use bytes::Bytes;
use holdfast_power::{Image, Random, Record, Recorder};
use kvstore::command::{Operation, Put, PutLease, PutValue, Transaction};
use kvstore::store::{Config, Keyspace, Placement, Store};
use kvstore::{KeyspaceId, LeaseId, Revision};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config as ProptestConfig, RngAlgorithm, TestRng, TestRunner};
use std::future::Future;
use std::path::Path;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Nothing here takes longer unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough that no lease ends by itself; expiry.rs is for those that do.
pub const TTL_S: i64 = 10_000;
/// Small, so that segments and flushes turn over within a few steps.
const SEGMENT_BYTES: u64 = 128 << 10;
const FLUSH_LOG_BYTES: u64 = 128 << 10;
/// Lists of steps in one life; and in how many of a hundred cases a step is followed by larger values.
const LISTS: usize = 3;
const BULK_PERCENT: usize = 15;

/// When something was sent and when its answer was there, in operations on the disk.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub sent: usize,
    pub acknowledged: usize,
}

#[derive(Clone, Copy, Debug)]
pub enum Fact {
    /// The keyspace was at this revision afterwards.
    Revision(i64),
    Floor(i64),
    Granted(i64),
    /// The lease, and the revision that deleted its keys if it had any.
    Revoked(i64, Option<i64>),
}

/// What was done, what it did to the disk, and what it led to.
pub struct Life {
    pub record: Record,
    /// What there was at the beginning.
    pub before: Model,
    /// What there was at the end; its history holds that of every moment between.
    pub after: Model,
    pub facts: Vec<(Span, Fact)>,
    /// What was under way where.
    pub phases: Phases,
    /// Log writes that a thread beside the core made, of all its openings.
    pub syncs_beside: u64,
}

pub struct Running {
    pub runtime: Runtime,
    pub store: Store,
    pub kv: Keyspace,
}

pub fn config(data_dir: &Path, placement: Placement) -> Config {
    Config {
        value_cache_bytes: 16 << 10,
        log_segment_bytes: SEGMENT_BYTES,
        flush_log_bytes: FLUSH_LOG_BYTES,
        quota_bytes: None,
        placement,
        ..Config::new(data_dir)
    }
}

impl Running {
    pub fn open(data_dir: &Path, placement: Placement) -> Result<Self, kvstore::Error> {
        Self::with(config(data_dir, placement))
    }

    pub fn with(config: Config) -> Result<Self, kvstore::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let store = Store::open(config)?;
        if let Some(core) = store.take_core() {
            runtime.spawn(core);
        }
        let kv = store.keyspace(KeyspaceId::DEFAULT);
        Ok(Self { runtime, store, kv })
    }

    /// Runs a future that must not hang.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let bounded = async { tokio::time::timeout(PATIENCE, future).await };
        self.runtime.block_on(bounded).expect("an answer in time")
    }

    pub fn stop(self) {
        let Self { runtime, store, kv } = self;
        runtime.block_on(store.stop());
        drop((kv, store));
    }
}

struct Living<'a> {
    recorder: &'a Recorder,
    data_dir: &'a Path,
    placement: Placement,
    running: Running,
    model: Model,
    facts: Vec<(Span, Fact)>,
    /// Compactions that were answered when all was removed.
    physical_compactions: Vec<Span>,
    /// Of the openings before this one.
    syncs_beside: u64,
    bulk: u8,
}

/// Opens the store on `image`, which holds `model`, and does `steps`.
pub fn live(image: &Image, model: Model, placement: Placement, steps: Vec<Step>) -> Life {
    let directory = crate::scratch();
    let root = directory.path().join("disk");
    let recorder = Recorder::start(&root, image);
    let data_dir = root.join("data");
    let running = Running::open(&data_dir, placement).unwrap_or_else(|error| panic!("{error}"));
    let before = model.clone();
    let mut living = Living {
        recorder: &recorder,
        data_dir: &data_dir,
        placement,
        running,
        model,
        facts: Vec::new(),
        physical_compactions: Vec::new(),
        syncs_beside: 0,
        bulk: 0,
    };
    for step in steps {
        living = living.step(step);
    }
    let Living { running, model: after, facts, physical_compactions, syncs_beside, .. } = living;
    let syncs_beside = syncs_beside + running.store.metrics().syncs_beside;
    running.stop();
    let record = recorder.finish();
    assert!(
        record.as_seen(record.operations().len()) == Image::read(&root),
        "something was written past the record"
    );
    let phases = Phases::of(&record, &physical_compactions);
    Life { record, before, after, facts, phases, syncs_beside }
}

/// Random work.
pub fn draw(random: &mut Random) -> Vec<Step> {
    let seed: Vec<u8> = (0..4).flat_map(|_| random.number().to_le_bytes()).collect();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let mut all = Vec::new();
    for _ in 0..LISTS {
        for step in steps::steps().new_tree(&mut runner).expect("steps").current() {
            all.push(step);
            if random.percent(BULK_PERCENT) {
                all.push(Step::Bulk(1 + random.below(4) as u8, 5 + random.below(85) as u8));
            }
        }
    }
    all
}

impl Living<'_> {
    fn step(mut self, step: Step) -> Self {
        let (floor, current) = (self.model.floor.unwrap_or(0), self.model.revision());
        match step {
            Step::Transact(mut transactions) => {
                transactions.iter_mut().for_each(|one| steps::settle(one, floor, current));
                self.transact(&transactions);
            }
            Step::Bulk(count, kib) => {
                let transactions: Vec<_> = (0..count).map(|_| self.bulk_put(kib)).collect();
                self.transact(&transactions);
            }
            Step::Compact(place, physical) => {
                let to = place.near(floor, current);
                let sent = self.recorder.position();
                let got = self.running.run(self.running.kv.compact(Revision::new(to), physical));
                assert_eq!(got.map(Revision::get), self.model.compact(to), "compact {to}");
                if self.model.floor == Some(to) {
                    self.fact(sent, Fact::Floor(to));
                    let acknowledged = self.recorder.position();
                    self.physical_compactions.extend(physical.then_some(Span { sent, acknowledged }));
                }
            }
            Step::Grant(id) => {
                let sent = self.recorder.position();
                let got = self.running.run(self.running.kv.lease_grant(LeaseId::new(id), TTL_S));
                let granted = self.model.grant(id, TTL_S);
                assert_eq!(got.map(|_| ()), granted);
                if granted.is_ok() {
                    self.fact(sent, Fact::Granted(id));
                }
            }
            Step::Revoke(id) => {
                let sent = self.recorder.position();
                let got = self.running.run(self.running.kv.lease_revoke(LeaseId::new(id)));
                let revoked = self.model.revoke(id);
                assert_eq!(got.map(Revision::get), revoked);
                if let Ok(after) = revoked {
                    self.fact(sent, Fact::Revoked(id, Some(after).filter(|after| *after > current)));
                    self.fact(sent, Fact::Revision(after));
                }
            }
            Step::Renew(id) => {
                let got = self.running.run(self.running.kv.lease_keep_alive(LeaseId::new(id)));
                assert_eq!(got, Ok(self.model.leases.get(&id).copied()));
            }
            Step::Restart => {
                let Self { running, data_dir, placement, syncs_beside, .. } = self;
                let syncs_beside = syncs_beside + running.store.metrics().syncs_beside;
                running.stop();
                let running = Running::open(data_dir, placement).unwrap_or_else(|error| panic!("{error}"));
                self = Self { running, syncs_beside, ..self };
            }
            // Reading leaves nothing on the disk; and each loss of power is an abort.
            Step::Read(_) | Step::Watch(_) | Step::Drain | Step::Abort => {}
        }
        self
    }

    fn fact(&mut self, sent: usize, fact: Fact) {
        self.facts.push((Span { sent, acknowledged: self.recorder.position() }, fact));
    }

    /// Values that repeat neither each other nor themselves.
    fn bulk_put(&mut self, kib: u8) -> Transaction {
        self.bulk = self.bulk.wrapping_add(1);
        let mut noise = Random::new(u64::from(self.bulk));
        let value: Bytes = (0..usize::from(kib) << 10).map(|_| noise.below(256) as u8).collect();
        put(format!("bulk/{}", self.bulk % 4).into(), value)
    }

    fn transact(&mut self, transactions: &[Transaction]) {
        let sent = self.recorder.position();
        let (kv, recorder) = (&self.running.kv, self.recorder);
        let results = self.running.run(async {
            let mut futures: Vec<_> =
                transactions.iter().map(|one| Box::pin(kv.transact(one.clone()))).collect();
            // The first poll submits, in this order.
            let mut results: Vec<_> = futures.iter_mut().map(poll_once).collect();
            let mut answers = Vec::new();
            for (future, result) in futures.into_iter().zip(&mut results) {
                let answer = match result.take() {
                    Some(result) => result,
                    None => future.await,
                };
                answers.push((recorder.position(), answer));
            }
            answers
        });
        for (transaction, (acknowledged, result)) in transactions.iter().zip(results) {
            let got = result.map(|outcome| outcome.revision.get());
            let expected = self.model.transact(transaction).map(|(_, revision)| revision);
            assert_eq!(got, expected, "{transaction:?}");
            if let Ok(revision) = expected {
                self.facts.push((Span { sent, acknowledged }, Fact::Revision(revision)));
            }
        }
    }
}

pub fn put(key: Bytes, value: Bytes) -> Transaction {
    let (value, lease) = (PutValue::Set(value), PutLease::Set(LeaseId::NONE));
    let put = Put { key, value, lease, want_previous: false };
    Transaction { success: vec![Operation::Put(put)], ..Default::default() }
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
