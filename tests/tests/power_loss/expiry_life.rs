//! A recorded life in which leases end by themselves, what of it a client could know, and when.

use crate::check::change_of;
use crate::life::{PATIENCE, Running, config, put};
use crate::oracle::Change;
use crate::{moment, scratch};
use bytes::Bytes;
use holdfast_power::{Image, Random, Record, Recorder};
use kvstore::command::{Operation, Put, PutLease, PutValue, Transaction};
use kvstore::store::{Config, Delivery, Placement, Session, WatchOptions};
use kvstore::{Error, InvalidRequest, KeyRange, LeaseId, Revision};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// In how many of a hundred cases power is lost around the end of some lease, and how many operations around it.
const AROUND_PERCENT: usize = 75;
const AROUND: usize = 3;

/// The shortest time to live that there is, if the election is quick.
const TTL_S: i64 = 1;
const QUICK_MS: (u64, u64) = (10, 100);
/// Rounding to milliseconds, here and in the store.
const ROUNDING: Duration = Duration::from_millis(5);
/// Between two writes of a life.
const PACE: Duration = Duration::from_millis(5);
const VALUE_BYTES: usize = 3 << 10;

/// Granted together, so that some end in one turn; the lease of this number gets so many keys.
const TOGETHER: [i64; 3] = [1, 2, 3];
/// One is renewed on the way, one loses a key to nobody, one never has keys.
const RENEWED: i64 = 4;
const PUT_AGAIN: i64 = 5;
const WITHOUT_KEYS: i64 = 6;
pub const SHORT: std::ops::RangeInclusive<i64> = 1..=6;
/// These never end. The first one has keys.
pub const LONG: [i64; 3] = [7, 8, 9];
const LONG_TTL_S: i64 = 10_000;
/// Other writes between the grants, and before the renewal.
const WRITES_BETWEEN: usize = 10;
const WRITES_BEFORE_RENEWAL: usize = 20;

/// The time that a store's clock has come on at most since the first life began.
pub type Clock = Duration;

/// A lease has its time to live from `made` on, because an answer said so.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    pub lease: i64,
    pub made: Clock,
    pub ttl: Duration,
    pub acknowledged: usize,
}

impl Promise {
    /// What is left of it, if the clock has come to `clock`.
    pub fn left(&self, clock: Clock) -> Option<Duration> {
        (self.made + self.ttl).checked_sub(clock + ROUNDING).filter(|left| !left.is_zero())
    }
}

/// What was done and seen, with the place in the record at which a client could know it.
#[derive(Default)]
pub struct Known {
    pub promises: Vec<Promise>,
    /// All changes of the keyspace, as a watcher was told.
    pub told: Vec<(usize, Change)>,
    /// Leases that a client found to be gone.
    pub gone: Vec<(usize, i64)>,
    /// Revisions that were acknowledged.
    pub acknowledged: Vec<(usize, i64)>,
    /// How far the disk had come, and the clock at most.
    pub times: Vec<(usize, Clock)>,
}

pub struct Life {
    pub record: Record,
    pub known: Known,
}

pub struct Living {
    recorder: Recorder,
    running: Running,
    session: Session,
    began: Instant,
    began_clock: Clock,
    pub known: Known,
}

pub fn open(data_dir: &Path, (heartbeat_ms, election_ms): (u64, u64), placement: Placement) -> Running {
    let config = Config { heartbeat_ms, election_ms, ..config(data_dir, placement) };
    Running::with(config).unwrap_or_else(|error| panic!("the store does not open: {error}"))
}

pub fn watch_all(running: &Running) -> Session {
    let session = running.kv.watch();
    session.create(WatchOptions::new(KeyRange::all()).from_revision(Revision::new(1))).expect("a watcher");
    session
}

fn key_of(lease: i64, number: i64) -> Bytes {
    format!("{lease}/{number}").into()
}

impl Living {
    pub fn begin(root: &Path, image: &Image, began_clock: Clock, placement: Placement) -> Self {
        let recorder = Recorder::start(root, image);
        let began = Instant::now();
        let running = open(&root.join("data"), QUICK_MS, placement);
        let session = watch_all(&running);
        Self { recorder, running, session, began, began_clock, known: Known::default() }
    }

    fn clock(&self) -> Clock {
        self.began_clock + self.began.elapsed()
    }

    fn note_time(&mut self) {
        let position = self.recorder.position();
        self.known.times.push((position, self.clock()));
    }

    fn promise(&mut self, lease: i64, made: Clock, ttl_s: i64) {
        let (ttl, acknowledged) = (Duration::from_secs(ttl_s as u64), self.recorder.position());
        self.known.promises.push(Promise { lease, made, ttl, acknowledged });
    }

    /// Grants leases, all at once.
    fn grant(&mut self, leases: [i64; 3], ttl_s: i64) {
        let (made, kv) = (self.clock(), &self.running.kv);
        let [a, b, c] = leases.map(|lease| kv.lease_grant(LeaseId::new(lease), ttl_s));
        let (a, b, c) = self.running.run(async { tokio::join!(a, b, c) });
        for granted in [a, b, c] {
            let granted = granted.expect("a lease");
            assert_eq!(granted.ttl_s, ttl_s);
            self.promise(granted.id.get(), made, ttl_s);
        }
        self.note_time();
    }

    /// Puts keys on a lease, in one revision. `None` if the lease has ended.
    fn hang(&mut self, lease: i64, keys: impl Iterator<Item = Bytes>) -> Option<()> {
        let mut transaction = Transaction::default();
        for key in keys {
            let (value, lease) = (PutValue::Set("held".into()), PutLease::Set(LeaseId::new(lease)));
            let put = Put { key, value, lease, want_previous: false };
            transaction.success.push(Operation::Put(put));
        }
        self.write(transaction)
    }

    fn write(&mut self, transaction: Transaction) -> Option<()> {
        match self.running.run(self.running.kv.transact(transaction)) {
            Ok(outcome) => {
                self.known.acknowledged.push((self.recorder.position(), outcome.revision.get()));
                self.note_time();
                Some(())
            }
            Err(Error::Invalid(InvalidRequest::LeaseNotFound)) => None,
            Err(error) => panic!("a write: {error}"),
        }
    }

    /// Something for flushes and segments to turn over.
    fn write_other(&mut self, number: usize) -> Option<()> {
        self.write(put(format!("other-{}", number % 4).into(), vec![number as u8; VALUE_BYTES].into()))
    }

    fn renew(&mut self, lease: i64) -> Option<()> {
        let made = self.clock();
        let ttl_s =
            self.running.run(self.running.kv.lease_keep_alive(LeaseId::new(lease))).expect("an answer")?;
        self.promise(lease, made, ttl_s);
        Some(())
    }

    /// Takes what the watcher is told, if it is told something soon.
    fn listen(&mut self) -> bool {
        let next = async { tokio::time::timeout(PACE, self.session.next()).await };
        let changes = match self.running.run(next) {
            Ok(Delivery::Events { events, .. }) => events.iter().map(change_of).collect(),
            Ok(Delivery::Canceled { reason, .. }) => panic!("the watcher is cancelled: {reason:?}"),
            Ok(Delivery::Created { .. } | Delivery::Progress { .. }) => Vec::new(),
            Err(_) => return false,
        };
        let position = self.recorder.position();
        self.known.told.extend(changes.into_iter().map(|change| (position, change)));
        true
    }

    /// Goes on until all short leases have ended, none before its time. When the watcher has nothing to tell, `between` has
    /// its turn, with the number of turns before.
    pub fn outlive(&mut self, mut between: impl FnMut(&mut Self, usize) -> Option<()>) -> Option<()> {
        let began = Instant::now();
        let mut left: BTreeSet<i64> = SHORT.collect();
        let mut rests = 0;
        loop {
            if !self.listen() {
                between(self, rests)?;
                rests += 1;
            }
            for lease in left.clone() {
                let info = self.running.kv.lease_time_to_live(LeaseId::new(lease), false);
                if info.expect("the store works").is_none() {
                    self.known.gone.push((self.recorder.position(), lease));
                    left.remove(&lease);
                    let promise = self.known.promises.iter().rfind(|promise| promise.lease == lease);
                    let early = promise.and_then(|promise| promise.left(self.clock()));
                    assert_eq!(early, None, "lease {lease} has ended before its time");
                }
            }
            self.note_time();
            let told = self.known.told.last().map_or(1, |(_, change)| change.revision);
            if left.is_empty() && told == self.running.kv.revision().get() {
                return Some(());
            }
            assert!(began.elapsed() < PATIENCE, "leases {left:?} do not end");
        }
    }

    pub fn stop(mut self) -> Life {
        let Self { running, session, .. } = self;
        drop(session);
        running.stop();
        let times = (self.recorder.position(), self.began_clock + self.began.elapsed());
        self.known.times.push(times);
        Life { record: self.recorder.finish(), known: self.known }
    }
}

/// A first life. `None` if leases ended before all was done with them: the machine was busy with other things.
pub fn live(placement: Placement) -> Option<Life> {
    let directory = scratch();
    let mut living = Living::begin(&directory.path().join("disk"), &Image::default(), Clock::ZERO, placement);
    let is_whole = grant_and_outlive(&mut living);
    let life = living.stop();
    (is_whole.is_some() && life.moment_with_a_lease().is_some()).then_some(life)
}

fn grant_and_outlive(living: &mut Living) -> Option<()> {
    let keys = |lease, count| (0..count).map(move |number| key_of(lease, number));
    living.grant(LONG, LONG_TTL_S);
    living.hang(LONG[0], keys(LONG[0], 2))?;
    living.grant(TOGETHER, TTL_S);
    for lease in TOGETHER {
        living.hang(lease, keys(lease, lease))?;
    }
    for number in 0..WRITES_BETWEEN {
        living.write_other(number)?;
    }
    living.grant([RENEWED, PUT_AGAIN, WITHOUT_KEYS], TTL_S);
    living.hang(RENEWED, keys(RENEWED, 2))?;
    living.hang(PUT_AGAIN, keys(PUT_AGAIN, 3))?;
    // Taken off its lease, this key outlives it.
    living.write(put(key_of(PUT_AGAIN, 0), "free".into()))?;
    living.outlive(|living, number| {
        if number == WRITES_BEFORE_RENEWAL {
            living.renew(RENEWED)?;
        }
        living.write_other(number)
    })
}

impl Life {
    /// A moment at which a short lease is there for certain.
    fn moment_with_a_lease(&self) -> Option<usize> {
        let mut promises = self.known.promises.iter().filter(|promise| SHORT.contains(&promise.lease));
        let promise = promises.rfind(|promise| promise.left(self.clock_at(promise.acknowledged)).is_some());
        promise.map(|promise| promise.acknowledged)
    }

    /// A moment for the loss of this number: while a lease is there for certain, when all have ended, and then mostly around
    /// the end of one.
    pub fn moment(&self, number: usize, random: &mut Random) -> usize {
        let Known { told, gone, .. } = &self.known;
        let seen = told.iter().filter(|(_, change)| change.is_delete).map(|(position, _)| *position);
        let ends: Vec<usize> = seen.chain(gone.iter().map(|(position, _)| *position)).collect();
        let count = self.record.operations().len();
        match number {
            0 => self.moment_with_a_lease().expect("a first life has one"),
            1 => count,
            _ if random.percent(AROUND_PERCENT) && !ends.is_empty() => {
                let end = ends[random.below(ends.len())];
                moment(&self.record, end.saturating_sub(AROUND)..count.min(end + AROUND), random)
            }
            _ => moment(&self.record, 0..count, random),
        }
    }

    /// How far the store's clock had come, at most, when so much was done to the disk.
    pub fn clock_at(&self, at: usize) -> Clock {
        let later = self.known.times.iter().find(|(position, _)| *position >= at);
        later.expect("the last time is that of the end").1
    }
}
