//! The load: who does what, how often, and what they counted.

use crate::Failure;
use crate::traffic::{Slots, compactions, leases, visitors, watcher};
use etcd_shim::proto::plain::etcdserverpb::kv_client::KvClient;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};

/// Connections that the requests are spread over, as several apiservers would.
const CONNECTIONS: usize = 4;
/// Tasks that send requests; each has keys of its own, so that a guard fails only when something is wrong.
const WORKERS: usize = 64;
/// Watchers of everything.
const WATCHERS: usize = 20;
/// What is due is sent; more than so many unanswered ones of a worker mean that the server cannot keep up.
const BEHIND_MAX: Duration = Duration::from_secs(30);
/// Watchers have so long to be told the rest.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(30);

/// What has happened so far.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    pub at: Instant,
    pub compactions: u64,
    pub leases_ended: u64,
    pub events: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self { at: Instant::now(), compactions: 0, leases_ended: 0, events: 0 }
    }
}

/// Shared by all tasks.
#[derive(Default)]
pub struct Common {
    pub stop: AtomicBool,
    /// Changes that were acknowledged.
    pub written: AtomicU64,
    /// The newest revision that an answer named.
    pub revision: AtomicU64,
    pub compactions: AtomicU64,
    pub leases_ended: AtomicU64,
    /// Events told, of each watcher.
    pub events: [AtomicU64; WATCHERS],
    latencies_us: std::sync::Mutex<Vec<u32>>,
    failure: std::sync::Mutex<Option<String>>,
}

impl Common {
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub fn saw(&self, revision: i64) {
        self.revision.fetch_max(revision as u64, Ordering::Relaxed);
    }

    pub fn fail(&self, what: impl fmt::Display) {
        if !self.stopped() {
            self.failure.lock().expect("no panic").get_or_insert(what.to_string());
        }
    }

    fn took(&self, due: Instant) {
        let us = due.elapsed().as_micros().min(u32::MAX.into()) as u32;
        self.latencies_us.lock().expect("no panic").push(us);
    }
}

pub struct Load {
    common: Arc<Common>,
    workers: Vec<tokio::task::JoinHandle<()>>,
    others: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    pub async fn start(url: &str, rate: u64, compact_every: Duration) -> Result<Self, Failure> {
        let common = Arc::new(Common::default());
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS {
            channels.push(Endpoint::from_shared(url.to_string())?.tcp_nodelay(true).connect().await?);
        }
        let channel = |at: usize| channels[at % CONNECTIONS].clone();
        let mut others = Vec::new();
        for at in 0..WATCHERS {
            others.push(tokio::spawn(watcher(channel(at), Arc::clone(&common), at)));
        }
        others.push(tokio::spawn(compactions(channel(0), Arc::clone(&common), compact_every)));
        others.push(tokio::spawn(leases(channel(1), Arc::clone(&common))));
        others.push(tokio::spawn(visitors(url.to_string(), Arc::clone(&common))));
        // Watchers begin at the first revision, so that it does not matter who comes first.
        let pause = Duration::from_secs_f64(WORKERS as f64 / rate as f64);
        let workers = (0..WORKERS)
            .map(|worker| tokio::spawn(work(channel(worker), Arc::clone(&common), worker, pause)))
            .collect();
        Ok(Self { common, workers, others })
    }

    pub fn counts(&self) -> Counts {
        let all = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            at: Instant::now(),
            compactions: all(&self.common.compactions),
            leases_ended: all(&self.common.leases_ended),
            events: self.common.events.iter().map(all).sum(),
        }
    }

    pub fn take_latencies(&self) -> Vec<u32> {
        std::mem::take(&mut *self.common.latencies_us.lock().expect("no panic"))
    }

    pub fn failure(&self) -> Option<String> {
        self.common.failure.lock().expect("no panic").clone()
    }

    /// Stops, waits until every watcher was told everything, and counts.
    pub async fn finish(self) -> Result<String, Failure> {
        self.common.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.await?;
        }
        let begun = Instant::now();
        let told = || self.common.events.iter().map(|events| events.load(Ordering::Relaxed));
        // Leases go on ending, each with its key, until the last one is gone.
        loop {
            let written = self.common.written.load(Ordering::Relaxed)
                + self.common.leases_ended.load(Ordering::Relaxed);
            if told().all(|events| events == written) {
                self.others.iter().for_each(tokio::task::JoinHandle::abort);
                return Ok(format!("{WATCHERS} watchers were told of all {written} changes, once each"));
            }
            if begun.elapsed() > CATCH_UP_LIMIT {
                let told: Vec<u64> = told().collect();
                return Err(
                    format!("{written} changes were acknowledged, watchers were told of {told:?}").into()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// One request after the other, each at its time.
async fn work(channel: Channel, common: Arc<Common>, worker: usize, pause: Duration) {
    let mut kv = KvClient::new(channel);
    let mut slots = Slots::new(worker);
    let begun = Instant::now() + pause.mul_f64(worker as f64 / WORKERS as f64);
    for number in 0.. {
        let due = begun + pause * number;
        tokio::time::sleep_until(due.into()).await;
        if common.stopped() {
            return;
        }
        if due.elapsed() > BEHIND_MAX {
            return common.fail("the server does not keep up with this rate");
        }
        match slots.request(&mut kv, &common).await {
            Ok(()) => common.took(due),
            Err(error) => return common.fail(error),
        }
    }
}
