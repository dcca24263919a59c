//! Clients that write until they are told to stop, remember what was acknowledged, and look for it later.

use holdfast_tests::wire::etcdserverpb::kv_client::KvClient;
use holdfast_tests::wire::etcdserverpb::{PutRequest, RangeRequest};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tonic::Status;
use tonic::transport::Channel;

const CLIENTS: usize = 4;
/// No answer within this is as good as none.
const REQUEST_LIMIT: Duration = Duration::from_secs(20);
/// Beside small values, some that fill the log's segments and the engine's buffers soon.
const LARGE_BYTES: usize = 300 << 10;
const LARGE_EVERY: u64 = 2;

/// What was acknowledged: the key's number, which says its value too, and its revision.
#[derive(Default)]
pub struct Acknowledged {
    pub revisions: BTreeMap<u64, i64>,
    /// Acknowledged although it was begun after the disk had failed.
    pub after_failure: Vec<u64>,
}

impl Acknowledged {
    fn add(&mut self, other: Acknowledged) {
        self.revisions.extend(other.revisions);
        self.after_failure.extend(other.after_failure);
    }
}

/// Clients at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<Acknowledged>>,
}

pub fn key(number: u64) -> String {
    format!("key/{number:08}")
}

fn value(number: u64) -> Vec<u8> {
    let bytes = if number.is_multiple_of(LARGE_EVERY) { LARGE_BYTES } else { 700 };
    let mut seed = number + 1;
    let words = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 16).to_le_bytes()
    });
    words.flatten().take(bytes).collect()
}

impl Load {
    /// `writes` puts of new keys from `first` on, unless it is stopped or the server is gone before.
    pub fn start(channel: &Channel, first: u64, writes: u64, note: &Path) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicU64::new(first));
        let client = |_| {
            let (channel, stop, next) = (channel.clone(), Arc::clone(&stop), Arc::clone(&next));
            tokio::spawn(client(channel, stop, next, first + writes, note.to_path_buf()))
        };
        let clients = (0..CLIENTS).map(client).collect();
        Load { stop, clients }
    }

    pub fn is_done(&self) -> bool {
        self.clients.iter().all(tokio::task::JoinHandle::is_finished)
    }

    pub async fn end(self) -> Acknowledged {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Acknowledged::default();
        for client in self.clients {
            all.add(client.await.expect("a client"));
        }
        all
    }
}

async fn client(
    channel: Channel,
    stop: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
    end: u64,
    note: PathBuf,
) -> Acknowledged {
    let mut acknowledged = Acknowledged::default();
    let mut client = KvClient::new(channel);
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= end {
            break;
        }
        let has_failed = note.exists();
        let request =
            PutRequest { key: key(number).into(), value: value(number).into(), ..Default::default() };
        // Tried once: what became of it stays unknown if there is no answer.
        match tokio::time::timeout(REQUEST_LIMIT, client.put(request)).await {
            Ok(Ok(answer)) => {
                acknowledged.revisions.insert(number, answer.into_inner().header.expect("a header").revision);
                if has_failed {
                    acknowledged.after_failure.push(number);
                }
            }
            Ok(Err(_)) | Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    acknowledged
}

/// Waits until the clients have done all their writes.
pub async fn finished(load: Load) -> Acknowledged {
    while !load.is_done() {
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    load.end().await
}

/// As [`look_for`], where the server has to answer.
pub async fn check_present(channel: &Channel, acknowledged: &Acknowledged, about: &str) -> u64 {
    look_for(channel, acknowledged, about).await.unwrap_or_else(|status| panic!("{about}: {status}"))
}

/// Everything acknowledged is there at its revision and with its value, and no revision is missing or there twice.
/// Every key is written once, so each revision is that of one key. Gives the number of keys, or
/// why a read was refused.
pub async fn look_for(channel: &Channel, acknowledged: &Acknowledged, about: &str) -> Result<u64, Status> {
    let mut client = KvClient::new(channel.clone());
    let all = RangeRequest {
        key: b"key/".to_vec().into(),
        range_end: b"key0".to_vec().into(),
        keys_only: true,
        ..Default::default()
    };
    let answer = tokio::time::timeout(REQUEST_LIMIT, client.range(all)).await.expect("an answer in time");
    let kvs = answer?.into_inner().kvs;
    let mut revisions: Vec<i64> = kvs.iter().map(|kv| kv.mod_revision).collect();
    revisions.sort_unstable();
    let expected: Vec<i64> = (2..).take(revisions.len()).collect();
    assert!(revisions == expected, "{about}: revisions with gaps or doubles: {revisions:?}");
    let there: BTreeMap<Vec<u8>, i64> = kvs.iter().map(|kv| (kv.key.to_vec(), kv.mod_revision)).collect();
    for (number, revision) in &acknowledged.revisions {
        let found = there.get(key(*number).as_bytes());
        assert_eq!(found, Some(revision), "{about}: acknowledged write {number} is not there as it was");
        let one = RangeRequest { key: key(*number).into(), ..Default::default() };
        let answer = tokio::time::timeout(REQUEST_LIMIT, client.range(one)).await.expect("an answer in time");
        let answer = answer?.into_inner();
        assert!(answer.kvs[0].value == value(*number), "{about}: write {number} has another value");
    }
    Ok(kvs.len() as u64)
}
