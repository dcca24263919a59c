//! The store under test beside its model: takes steps and compares everything that comes back.

use crate::oracle::{Answer, Change, Found, Model, Record};
use crate::steps::{self, Step};
use bytes::Bytes;
use kvstore::command::{
    Operation, OperationOutcome, PutLease, PutValue, RangeQuery, RangeResult, ReadAt, Transaction,
    TransactionOutcome,
};
use kvstore::store::{
    Config, Consistency, Delivered, Delivery, EventKind, Keyspace, Placement, Session, Store, WatchOptions,
};
use kvstore::{Error, KeyRange, KeyspaceId, LeaseId, Revision};
use proptest::test_runner::TestCaseError;
use proptest::{prop_assert, prop_assert_eq};
use std::future::Future;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub type Checked = Result<(), TestCaseError>;

/// Nothing here takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough that no lease of these histories ends by itself.
const TTL_S: i64 = 10_000;

struct Running {
    runtime: Runtime,
    store: Store,
    kv: Keyspace,
}

struct Watcher {
    session: Session,
    options: steps::Watch,
    id: i64,
    /// The next revision that it has not been told of.
    next: i64,
    created: bool,
    /// It began at the floor: there, what the same revision had overwritten may be gone.
    lenient_at: i64,
}

pub struct Subject {
    config: Config,
    running: Option<Running>,
    watchers: Vec<Watcher>,
    model: Model,
    bulk: u8,
    _directory: TempDir,
}

pub fn small(directory: &TempDir, placement: Placement) -> Config {
    Config {
        value_cache_bytes: 16 << 10,
        log_segment_bytes: 1 << 20,
        quota_bytes: None,
        placement,
        ..Config::new(directory.path().join("data"))
    }
}

impl Running {
    pub fn open(config: &Config) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let store = Store::open(config.clone()).unwrap_or_else(|error| panic!("the store opens: {error}"));
        if let Some(core) = store.take_core() {
            runtime.spawn(core);
        }
        let kv = store.keyspace(KeyspaceId::DEFAULT);
        Self { runtime, store, kv }
    }

    /// Runs a future that must not hang.
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let bounded = async { tokio::time::timeout(PATIENCE, future).await };
        self.runtime.block_on(bounded).expect("an answer in time")
    }
}

impl Subject {
    pub fn start(placement: Placement) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = small(&directory, placement);
        Self {
            running: Some(Running::open(&config)),
            config,
            watchers: Vec::new(),
            model: Model::default(),
            bulk: 0,
            _directory: directory,
        }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the store runs between steps")
    }

    fn bounds(&self) -> (i64, i64) {
        (self.model.floor.unwrap_or(0), self.model.revision())
    }

    pub fn step(&mut self, step: Step) -> Checked {
        let (floor, current) = self.bounds();
        match step {
            Step::Transact(mut transactions) => {
                transactions.iter_mut().for_each(|one| steps::settle(one, floor, current));
                self.transact(&transactions)
            }
            Step::Bulk(count, kib) => {
                let transactions: Vec<_> = (0..count).map(|_| self.bulk_put(kib)).collect();
                self.transact(&transactions)
            }
            Step::Read(mut query) => {
                steps::settle_query(&mut query, floor, current);
                self.read(&query)
            }
            Step::Compact(place, physical) => {
                // A watcher that compaction overtakes is cancelled: let each see all that there is first.
                self.drain()?;
                let to = place.near(floor, current);
                let running = self.running();
                let got = running.run(running.kv.compact(Revision::new(to), physical));
                prop_assert_eq!(got.map(Revision::get), self.model.compact(to), "compact {}", to);
                Ok(())
            }
            Step::Grant(id) => {
                let running = self.running();
                let got = running.run(running.kv.lease_grant(LeaseId::new(id), TTL_S));
                let got = got.map(|granted| (granted.id.get(), granted.ttl_s, granted.revision.get()));
                let expected = self.model.grant(id, TTL_S).map(|()| (id, TTL_S, current));
                prop_assert_eq!(got, expected);
                Ok(())
            }
            Step::Revoke(id) => {
                let running = self.running();
                let got = running.run(running.kv.lease_revoke(LeaseId::new(id)));
                prop_assert_eq!(got.map(Revision::get), self.model.revoke(id));
                Ok(())
            }
            Step::Renew(id) => {
                let running = self.running();
                let got = running.run(running.kv.lease_keep_alive(LeaseId::new(id)));
                prop_assert_eq!(got, Ok(self.model.leases.get(&id).copied()));
                Ok(())
            }
            Step::Watch(options) => self.watch(options),
            Step::Drain => self.drain(),
            Step::Restart => self.restart(true),
            Step::Abort => self.restart(false),
        }
    }

    pub fn finish(mut self) -> Checked {
        self.restart(true)?;
        // From the floor on everything can be told once more.
        let floor = self.model.floor.unwrap_or(0).max(1);
        let everything = WatchOptions {
            previous: true,
            ..WatchOptions::new(KeyRange::all()).from_revision(Revision::new(floor))
        };
        let options = steps::Watch {
            range: KeyRange::all(),
            start: None,
            previous: true,
            no_put: false,
            no_delete: false,
        };
        self.follow(options, everything, floor)?;
        self.drain()?;
        self.watchers.clear();
        let Running { runtime, store, kv } = self.running.take().expect("the store runs");
        runtime.block_on(store.stop());
        let query = RangeQuery::new(KeyRange::all());
        let answer = runtime.block_on(kv.range(query, Consistency::Linearizable)).map(|_| ());
        prop_assert_eq!(answer, Err(Error::Stopped));
        Ok(())
    }

    /// Values that repeat neither each other nor themselves.
    fn bulk_put(&mut self, kib: u8) -> Transaction {
        self.bulk = self.bulk.wrapping_add(1);
        let mut seed = u64::from(self.bulk) | 1;
        let noise = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 56) as u8
        });
        let value: Bytes = noise.take(usize::from(kib) << 10).collect();
        put(format!("bulk/{}", self.bulk % 4).into(), value)
    }

    fn transact(&mut self, transactions: &[Transaction]) -> Checked {
        let running = self.running.as_ref().expect("the store runs");
        let kv = &running.kv;
        let results = running.run(async {
            let mut futures: Vec<_> =
                transactions.iter().map(|one| Box::pin(kv.transact(one.clone()))).collect();
            // The first poll submits: in this order, all before the core's next turn if it runs here.
            let mut results: Vec<_> = futures.iter_mut().map(poll_once).collect();
            for (future, result) in futures.into_iter().zip(&mut results) {
                if result.is_none() {
                    *result = Some(future.await);
                }
            }
            results.into_iter().flatten().collect::<Vec<_>>()
        });
        for (transaction, result) in transactions.iter().zip(results) {
            let got = result.map(|outcome| (answer_of(&outcome), outcome.revision.get()));
            prop_assert_eq!(got, self.model.transact(transaction), "{:?}", transaction);
        }
        Ok(())
    }

    fn read(&self, query: &RangeQuery) -> Checked {
        let running = self.running();
        for consistency in [Consistency::Linearizable, Consistency::Serializable] {
            let reply = running.run(running.kv.range(query.clone(), consistency));
            let got = reply.map(|reply| (found_of(&reply.result), reply.revision.get()));
            let expected = self.model.range(query).map(|found| (found, self.model.revision()));
            prop_assert_eq!(got, expected, "{:?}", query);
        }
        Ok(())
    }

    fn watch(&mut self, watch: steps::Watch) -> Checked {
        let (floor, current) = self.bounds();
        let start = watch.start.map_or(0, |place| place.near(floor, current));
        let options = WatchOptions {
            previous: watch.previous,
            no_put: watch.no_put,
            no_delete: watch.no_delete,
            ..WatchOptions::new(watch.range.clone()).from_revision(Revision::new(start))
        };
        self.follow(watch, options, start)
    }

    fn follow(&mut self, watch: steps::Watch, options: WatchOptions, start: i64) -> Checked {
        let (floor, current) = self.bounds();
        let running = self.running();
        let session = running.kv.watch();
        let created = session.create(options);
        if watch.range.is_empty() {
            prop_assert!(created.is_err(), "an empty range is watched: {:?}", watch.range);
            return Ok(());
        }
        let id = created.map_err(|error| TestCaseError::fail(error.to_string()))?;
        if start != 0 && start < floor {
            let Delivery::Created { .. } = running.run(session.next()) else {
                return Err(TestCaseError::fail("a compacted watch is not created first"));
            };
            let end = running.run(session.next());
            prop_assert!(
                matches!(&end, Delivery::Canceled { reason, .. }
                if format!("{reason:?}").contains(&format!("Compacted {{ floor: Revision({floor})"))),
                "{:?}",
                end
            );
            return Ok(());
        }
        let next = if start == 0 { current + 1 } else { start };
        self.watchers.push(Watcher { session, options: watch, id, next, created: false, lenient_at: floor });
        Ok(())
    }

    /// Lets each watcher tell all that has happened, and nothing else.
    fn drain(&mut self) -> Checked {
        let mut watchers = std::mem::take(&mut self.watchers);
        for watcher in &mut watchers {
            self.drain_one(watcher)?;
        }
        self.watchers = watchers;
        Ok(())
    }

    fn drain_one(&self, watcher: &mut Watcher) -> Checked {
        let running = self.running();
        let current = self.model.revision();
        let mut told: Vec<Change> = Vec::new();
        // Progress comes behind every event that is due; there is none before the start is reached.
        let waits = watcher.next > current;
        let due = watcher.next <= current;
        if due {
            watcher.session.request_progress();
        }
        loop {
            let delivery = if waits {
                let polled = running
                    .run(std::future::poll_fn(|context| Poll::Ready(watcher.session.poll_next(context))));
                match polled {
                    Poll::Ready(delivery) => delivery,
                    Poll::Pending => break,
                }
            } else {
                running.run(watcher.session.next())
            };
            match delivery {
                Delivery::Created { id, .. } => {
                    prop_assert_eq!(id, watcher.id);
                    prop_assert!(!watcher.created && told.is_empty());
                    watcher.created = true;
                }
                Delivery::Events { id, events, revision } => {
                    prop_assert_eq!(id, watcher.id);
                    prop_assert!(revision.get() <= current && !events.is_empty());
                    told.extend(events.iter().map(change_of));
                }
                Delivery::Progress { revision, .. } => {
                    prop_assert_eq!(revision.get(), current);
                    break;
                }
                Delivery::Canceled { reason, .. } => {
                    return Err(TestCaseError::fail(format!("a watcher is cancelled: {reason:?}")));
                }
            }
        }
        self.compare_told(watcher, &told)?;
        watcher.next = watcher.next.max(current + 1);
        Ok(())
    }

    fn compare_told(&self, watcher: &Watcher, told: &[Change]) -> Checked {
        let Watcher { options, next, lenient_at, .. } = watcher;
        let expected = self.model.changes.iter().enumerate().filter(|(_, change)| {
            change.revision >= *next
                && options.range.contains(&change.record.key)
                && !(if change.is_delete { options.no_delete } else { options.no_put })
        });
        let mut told = told.iter().peekable();
        for (at, change) in expected {
            let mut change = change.clone();
            let floor = self.model.floor.unwrap_or(0);
            if !options.previous || change.revision <= floor {
                change.previous = None;
            }
            if told.peek() == Some(&&change) {
                told.next();
                continue;
            }
            let superseded = self.model.changes[at + 1..]
                .iter()
                .take_while(|later| later.revision == change.revision)
                .any(|later| later.record.key == change.record.key);
            prop_assert!(
                superseded && change.revision <= *lenient_at,
                "expected {:?}, told {:?} (watch {:?} from {})",
                change,
                told.peek(),
                options,
                next
            );
        }
        prop_assert_eq!(told.next(), None, "told too much (watch {:?} from {})", options, next);
        Ok(())
    }

    /// Ends the store, cleanly or not, and looks at everything once it is back.
    fn restart(&mut self, clean: bool) -> Checked {
        self.drain()?;
        let hash = self.hash()?;
        let watches: Vec<_> =
            self.watchers.drain(..).map(|watcher| (watcher.options, watcher.next)).collect();
        let Running { runtime, store, kv } = self.running.take().expect("the store runs");
        if clean {
            runtime
                .block_on(async { tokio::time::timeout(PATIENCE, store.stop()).await })
                .expect("a stop in time");
        }
        drop(kv);
        if self.config.placement == Placement::Caller && !clean {
            // The core goes in the middle of its life, without a chance to flush anything.
            drop(runtime);
            drop(store);
        } else {
            drop(store);
            drop(runtime);
        }
        self.running = Some(Running::open(&self.config));
        prop_assert_eq!(self.hash()?, hash, "the hash of the history");
        self.check_everything()?;
        for (watch, next) in watches {
            let options = WatchOptions {
                previous: watch.previous,
                no_put: watch.no_put,
                no_delete: watch.no_delete,
                ..WatchOptions::new(watch.range.clone()).from_revision(Revision::new(next))
            };
            self.follow(watch, options, next)?;
        }
        Ok(())
    }

    fn hash(&self) -> Result<u32, TestCaseError> {
        let hash = self.running().kv.hash_kv(None).map_err(|error| TestCaseError::fail(error.to_string()))?;
        Ok(hash.hash)
    }

    fn check_everything(&self) -> Checked {
        let running = self.running();
        prop_assert_eq!(running.kv.revision().get(), self.model.revision());
        let floor = self.model.floor.unwrap_or(0).max(1);
        for at in [floor, (floor + self.model.revision()) / 2, self.model.revision()] {
            let at = ReadAt::Revision(Revision::new(at));
            self.read(&RangeQuery { at, ..RangeQuery::new(KeyRange::all()) })?;
        }
        let mut leases: Vec<i64> = running.kv.leases().unwrap().into_iter().map(LeaseId::get).collect();
        leases.sort_unstable();
        prop_assert_eq!(leases, self.model.leases.keys().copied().collect::<Vec<_>>());
        for id in steps::LEASES {
            let info = running.kv.lease_time_to_live(LeaseId::new(id), true).unwrap();
            prop_assert_eq!(info.is_some(), self.model.leases.contains_key(&id));
            if let Some(info) = info {
                prop_assert_eq!(info.keys, self.model.keys_of(id));
                prop_assert_eq!(info.granted_ttl_s, TTL_S);
                prop_assert!(info.remaining_ttl_s <= TTL_S && info.remaining_ttl_s > TTL_S - 120);
            }
        }
        Ok(())
    }
}

pub fn put(key: Bytes, value: Bytes) -> Transaction {
    let put = kvstore::command::Put {
        key,
        value: PutValue::Set(value),
        lease: PutLease::Set(LeaseId::NONE),
        want_previous: false,
    };
    Transaction { success: vec![Operation::Put(put)], ..Default::default() }
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut future = std::pin::Pin::new(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn found_of(result: &RangeResult) -> Found {
    Found { records: result.kvs.iter().map(Record::from).collect(), more: result.more, count: result.count }
}

fn answer_of(outcome: &TransactionOutcome) -> Answer {
    let results = outcome.results.iter().map(|result| match result {
        OperationOutcome::Range(found) => Answer::Range(found_of(found)),
        OperationOutcome::Put { previous } => Answer::Put(previous.as_ref().map(Record::from)),
        OperationOutcome::Delete { deleted, previous } => {
            Answer::Delete(*deleted, previous.iter().map(Record::from).collect())
        }
        OperationOutcome::Transaction(nested) => answer_of(nested),
    });
    Answer::Transaction(outcome.succeeded, results.collect())
}

fn change_of(Delivered { event, previous }: &Delivered) -> Change {
    Change {
        revision: event.revision().get(),
        is_delete: event.kind == EventKind::Delete,
        record: Record::from(&event.kv),
        previous: previous.as_ref().map(Record::from),
    }
}
