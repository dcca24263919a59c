//! What attacks have in common: where they strike, how hard, how long, and what they were told.

use etcd_shim::proto::plain::etcdserverpb as pb;
use pb::kv_client::KvClient;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// One attacker. Clones are the same one.
#[derive(Clone)]
pub struct Attacker {
    pub address: String,
    /// Small enough for a check of every change; else as large as the issue of this program.
    pub is_short: bool,
    stop: Arc<AtomicBool>,
    told: Arc<Mutex<BTreeMap<String, u64>>>,
    notes: Arc<Mutex<Vec<String>>>,
}

impl Attacker {
    pub fn new(address: String, is_short: bool) -> Attacker {
        let (stop, told, notes) = Default::default();
        Attacker { address, is_short, stop, told, notes }
    }

    /// One of two scales.
    pub fn scale<T>(&self, full: T, short: T) -> T {
        if self.is_short { short } else { full }
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Until the attack is to end.
    pub async fn wait_for_the_end(&self) {
        while self.goes_on() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Counts what came of a request.
    pub fn tell<T>(&self, outcome: &Result<T, Status>) {
        match outcome {
            Ok(_) => self.count("ok"),
            Err(status) => self.count(&format!("{:?}: {}", status.code(), status.message())),
        }
    }

    pub fn count(&self, what: &str) {
        *self.told.lock().expect("nobody panics with it").entry(what.to_owned()).or_default() += 1;
    }

    pub fn note(&self, text: String) {
        self.notes.lock().expect("nobody panics with it").push(text);
    }

    pub fn told(&self) -> BTreeMap<String, u64> {
        self.told.lock().expect("nobody panics with it").clone()
    }

    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().expect("nobody panics with it").clone()
    }

    pub async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).expect("our own URL");
        endpoint.tcp_nodelay(true).connect().await.expect("a connection")
    }

    pub async fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel().await).max_decoding_message_size(usize::MAX)
    }

    /// Writes `count` keys of `value_bytes` as fast as it goes, a hundred in a transaction.
    pub async fn fill(&self, prefix: &str, count: u64, value_bytes: usize) {
        const AT_ONCE: u64 = 100;
        let mut tasks = JoinSet::new();
        let kv = self.kv().await;
        for first in (0..count).step_by(AT_ONCE as usize) {
            let put = |n: u64| pb::PutRequest {
                key: format!("{prefix}{n:08}").into(),
                value: vec![n as u8; value_bytes].into(),
                ..Default::default()
            };
            let operation = |n| pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put(n))) };
            let success = (first..count.min(first + AT_ONCE)).map(operation).collect();
            let mut kv = kv.clone();
            tasks.spawn(async move {
                kv.txn(pb::TxnRequest { success, ..Default::default() }).await.expect("the filling");
            });
            if tasks.len() >= 32 {
                tasks.join_next().await;
            }
        }
        tasks.join_all().await;
    }

    /// Starts `work` so many times a second until the end, each on its own; at least once, however soon that comes.
    pub async fn at_rate<F: Future<Output = ()> + Send + 'static>(
        &self,
        per_s: u64,
        mut work: impl FnMut(u64) -> F,
    ) {
        // Timers have a millisecond: what is due is started together.
        let begun = tokio::time::Instant::now();
        let mut tasks = JoinSet::new();
        let mut started = 0;
        while started == 0 || self.goes_on() {
            let due = (begun.elapsed().as_millis() as u64 * per_s / 1000).max(1);
            while started < due {
                tasks.spawn(work(started));
                started += 1;
            }
            while tasks.try_join_next().is_some() {}
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tasks.join_all().await;
    }
}

/// A request with a deadline.
pub fn within<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}
