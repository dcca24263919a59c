//! What everybody in a run shares: the clock, what is known so far, and what is going on.

use crate::history::{Key, Moment};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long somebody who met a dead node waits before looking again.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Whatever is waited for happens within this, on any machine that deserves a test.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Run {
    began: Instant,
    /// Whether the node is there, as far as its killer knows.
    serving: AtomicBool,
    /// When it was killed, and when it was there again.
    kills: Mutex<Vec<(Moment, Option<Moment>)>>,
    /// How many want the clients to wait before their next request.
    paused: AtomicUsize,
    /// Whether the clients should end.
    stopped: AtomicBool,
    /// The revision up to which the follower has the whole history.
    followed: AtomicI64,
    /// The highest floor that was asked for.
    compacted: AtomicI64,
    /// The last revision of the run once there will be no further one, else 0.
    last: AtomicI64,
    values: AtomicU64,
    leases: AtomicI64,
}

impl Run {
    pub fn new() -> Run {
        Run {
            began: Instant::now(),
            serving: AtomicBool::new(true),
            kills: Mutex::default(),
            paused: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            followed: AtomicI64::new(1),
            compacted: AtomicI64::new(0),
            last: AtomicI64::new(0),
            values: AtomicU64::new(1),
            leases: AtomicI64::new(1),
        }
    }

    pub fn now(&self) -> Moment {
        self.began.elapsed()
    }
    pub fn set_serving(&self, serving: bool) {
        let mut kills = self.kills.lock().expect("nobody panics with it");
        match kills.last_mut() {
            Some((_, over)) if serving => *over = Some(self.now()),
            _ => kills.push((self.now(), None)),
        }
        self.serving.store(serving, Ordering::SeqCst);
    }
    /// Whether the node was killed, or not there, at some moment between the two.
    pub fn was_killed(&self, from: Moment, to: Moment) -> bool {
        let kills = self.kills.lock().expect("nobody panics with it");
        kills.iter().any(|(killed, over)| *killed <= to && over.is_none_or(|over| over >= from))
    }
    /// Lets the clients rest until what it gives is dropped.
    pub fn pause(&self) -> Rest<'_> {
        self.paused.fetch_add(1, Ordering::SeqCst);
        Rest(self)
    }
    /// Ends the clients.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
    pub fn follow(&self, revision: i64) {
        self.followed.store(revision, Ordering::SeqCst);
    }
    pub fn followed(&self) -> i64 {
        self.followed.load(Ordering::SeqCst)
    }
    pub fn compact(&self, revision: i64) {
        self.compacted.fetch_max(revision, Ordering::SeqCst);
    }
    pub fn compacted(&self) -> i64 {
        self.compacted.load(Ordering::SeqCst)
    }
    /// Tells watchers and the follower where the history ends.
    pub fn end_at(&self, revision: i64) {
        self.last.store(revision, Ordering::SeqCst);
    }
    pub fn last(&self) -> Option<i64> {
        Some(self.last.load(Ordering::SeqCst)).filter(|revision| *revision > 0)
    }
    /// A value that nobody else writes.
    pub fn next_value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::SeqCst)
    }
    /// A lease that nobody else grants.
    pub fn next_lease(&self) -> i64 {
        self.leases.fetch_add(1, Ordering::SeqCst)
    }

    /// Returns when the clients may go on.
    pub async fn going(&self) {
        while self.paused.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Returns when the node is there again: a request to a dead one teaches nothing.
    pub async fn serving(&self) {
        tokio::time::sleep(LOOK_EVERY).await;
        while !self.serving.load(Ordering::SeqCst) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The clients rest while it is there.
pub struct Rest<'a>(&'a Run);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.0.paused.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Small and repeatable; nothing here needs more.
pub struct Random(u64);

impl Random {
    /// The `stream`-th generator of a seed.
    pub fn new(seed: u64, stream: u64) -> Random {
        let mut random = Random((seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1);
        // Near seeds have near first numbers.
        for _ in 0..16 {
            random.next();
        }
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    pub fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }
    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
    pub fn key(&mut self, keys: Range<Key>) -> Key {
        keys.start + self.below((keys.end - keys.start).into()) as Key
    }
}
