//! The neighbours: a few clients that put and get at a fixed rate, whatever the answers take, on a thread of their own.

use crate::host::{Host, Taken};
use bytes::Bytes;
use etcd_shim::proto::plain::etcdserverpb as pb;
use kvstore::runtime::Pace;
use pb::kv_client::KvClient;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

/// Puts and gets in a second. Far below what the server can do: the neighbours must not be the load.
pub const RATE_PER_S: u64 = 300;
/// An answer that takes longer is a failure: one that never comes. How long the others take is in the table.
const PATIENCE: Duration = Duration::from_secs(60);
const KEYS: u64 = 1000;
const VALUE_BYTES: usize = 256;
const CONNECTIONS: usize = 4;

/// What is going on around the neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Before = 0,
    During = 1,
    After = 2,
    /// What is measured now counts for nothing: the attack sets in or ends.
    Between = 3,
    End = 4,
}

/// Latencies of one phase, sorted.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    pub fn at_ms(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * share) as usize).map_or(f64::NAN, |us| *us as f64 / 1e3)
    }
}

/// What the neighbours saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub puts: [Latencies; 3],
    pub gets: [Latencies; 3],
    pub failures: Vec<String>,
    /// Requests of each phase, and how many of them the host left alone: only those are among the above.
    pub requests: [usize; 3],
    pub counted: [usize; 3],
}

/// A request that was answered.
struct Answered {
    phase: usize,
    is_put: bool,
    begun: Instant,
    took: Duration,
}

/// What they write down while they are at work.
#[derive(Default)]
struct Notebook {
    answered: Vec<Answered>,
    failures: Vec<String>,
    /// Which of their connections have had an answer.
    are_used: [bool; CONNECTIONS],
}

impl Notebook {
    /// What they saw while the host let them.
    fn seen(&self, taken: &Taken) -> Seen {
        let mut seen = Seen { failures: self.failures.clone(), ..Seen::default() };
        for answered in &self.answered {
            seen.requests[answered.phase] += 1;
            if taken.touches(answered.begun, answered.begun + answered.took) {
                continue;
            }
            seen.counted[answered.phase] += 1;
            let phases = if answered.is_put { &mut seen.puts } else { &mut seen.gets };
            phases[answered.phase].0.push(answered.took.as_micros() as u64);
        }
        for latencies in seen.puts.iter_mut().chain(&mut seen.gets) {
            latencies.0.sort_unstable();
        }
        seen
    }
}

/// Neighbours at work.
pub struct Neighbours {
    phase: Arc<AtomicUsize>,
    notebook: Arc<Mutex<Notebook>>,
    thread: std::thread::JoinHandle<()>,
}

impl Neighbours {
    pub fn start(url: String) -> Neighbours {
        let phase = Arc::new(AtomicUsize::new(Phase::Between as usize));
        let notebook = Arc::new(Mutex::new(Notebook::default()));
        let (its_phase, its_notebook) = (phase.clone(), notebook.clone());
        let thread = std::thread::spawn(move || {
            // It measures, and takes hardly any of the processor. A system that refuses makes it measure worse.
            Pace::Prompt.set();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(run(url, its_phase, its_notebook));
        });
        Neighbours { phase, notebook, thread }
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as usize, Ordering::Relaxed);
    }

    /// Waits until each of their connections has been used; whether that came to pass.
    pub fn wait_until_served(&self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && !self.thread.is_finished() {
            if self.notebook.lock().expect("nobody panics with it").are_used.iter().all(|is_used| *is_used) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Ends them once every request has its answer; what they saw while the host took nothing.
    pub fn finish(self, host: &Host) -> Seen {
        self.enter(Phase::End);
        let _ = self.thread.join();
        self.notebook.lock().expect("nobody panics with it").seen(&host.taken())
    }
}

async fn run(url: String, phase: Arc<AtomicUsize>, notebook: Arc<Mutex<Notebook>>) {
    let endpoint = Endpoint::from_shared(url).expect("our own URL").tcp_nodelay(true);
    let mut channels: Vec<Channel> = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(endpoint.connect().await.expect("a connection"));
    }
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / RATE_PER_S));
    let mut requests = JoinSet::new();
    for number in 0u64.. {
        ticks.tick().await;
        let now = phase.load(Ordering::Relaxed);
        if now == Phase::End as usize {
            break;
        }
        let connection = number as usize % CONNECTIONS;
        let mut kv = KvClient::new(channels[connection].clone());
        let notebook = notebook.clone();
        while requests.try_join_next().is_some() {}
        requests.spawn(async move {
            let is_put = (number / CONNECTIONS as u64).is_multiple_of(2);
            let begun = Instant::now();
            let outcome = tokio::time::timeout(PATIENCE, request(&mut kv, number, is_put)).await;
            let took = begun.elapsed();
            let mut notebook = notebook.lock().expect("nobody panics with it");
            notebook.are_used[connection] |= matches!(outcome, Ok(Ok(())));
            match outcome {
                Ok(Ok(())) if now < 3 => {
                    notebook.answered.push(Answered { phase: now, is_put, begun, took });
                }
                Ok(Ok(())) => {}
                Ok(Err(status)) => {
                    notebook.failures.push(format!("{:?}: {}", status.code(), status.message()));
                }
                Err(_) => notebook.failures.push(format!("no answer in {PATIENCE:?}")),
            }
        });
    }
    // A request whose answer never comes must not end unseen.
    requests.join_all().await;
}

async fn request(kv: &mut KvClient<Channel>, number: u64, is_put: bool) -> Result<(), tonic::Status> {
    let key = Bytes::from(format!("/neighbour/{:04}", number % KEYS));
    if is_put {
        let value = vec![number as u8; VALUE_BYTES].into();
        return kv.put(pb::PutRequest { key, value, ..Default::default() }).await.map(|_| ());
    }
    let response = kv.range(pb::RangeRequest { key: key.clone(), ..Default::default() }).await?.into_inner();
    // Nobody else writes there, and always one byte again and again.
    let is_whole = |value: &[u8]| value.len() == VALUE_BYTES && value.iter().all(|byte| *byte == value[0]);
    match response.kvs.as_slice() {
        [] => Ok(()),
        [kv] if kv.key == key && is_whole(&kv.value) => Ok(()),
        wrong => Err(tonic::Status::data_loss(format!("a wrong answer: {wrong:?}"))),
    }
}
