//! What the clients do.

use crate::Failure;
use crate::load::Common;
use bytes::Bytes;
use etcd_shim::proto::plain::etcdserverpb as pb;
use holdfast_benches::requests::{Random, guarded_delete, guarded_put};
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::watch_client::WatchClient;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

/// Keys of one worker.
const SLOTS: usize = 300;
const VALUE_BYTES: usize = 1024;
const PAGE_KEYS: i64 = 500;
const ALL: &str = "/registry/";
const ALL_END: &str = "/registry0";
/// Leases that a client forgets; the server ends them with their key. So many are granted each second.
const LEASES_PER_S: u64 = 10;
const LEASE_TTL_S: i64 = 2;
/// A client that connects, looks and goes; so often.
const VISIT_EVERY: Duration = Duration::from_millis(200);

/// A worker's keys: the revision of each that lives.
pub struct Slots {
    worker: usize,
    revisions: Vec<Option<i64>>,
    random: Random,
}

impl Slots {
    pub fn new(worker: usize) -> Self {
        Self { worker, revisions: vec![None; SLOTS], random: Random::new(worker as u64 + 1) }
    }

    /// One request, as an apiserver would send it, drawn at random.
    pub async fn request(&mut self, kv: &mut KvClient<Channel>, common: &Common) -> Result<(), Failure> {
        let slot = self.random.below(SLOTS as u64) as usize;
        let key = Bytes::from(format!("{ALL}pods/{:03}/{slot:04}", self.worker));
        let range = pb::RangeRequest { key: key.clone(), ..Default::default() };
        match self.random.below(100) {
            0..25 => {
                let found = kv.range(range).await?.into_inner();
                let revision = found.kvs.first().map(|kv| kv.mod_revision);
                if revision != self.revisions[slot] {
                    return Err(format!("{key:?} is {revision:?}, not {:?}", self.revisions[slot]).into());
                }
            }
            25..30 => {
                let page = pb::RangeRequest { range_end: ALL_END.into(), limit: PAGE_KEYS, ..range };
                kv.range(page).await?;
            }
            draw => {
                let known = self.revisions[slot];
                // As many go as come, so that about half of the slots live.
                let deletes = known.is_some() && draw < 50;
                let request = if deletes {
                    guarded_delete(key.clone(), known.unwrap_or(0))
                } else {
                    let value = self.random.value(VALUE_BYTES);
                    guarded_put(key.clone(), known.unwrap_or(0), value)
                };
                let reply = kv.txn(request).await?.into_inner();
                if !reply.succeeded {
                    return Err(format!("{key:?} is not at {known:?}: {reply:?}").into());
                }
                let revision = reply.header.ok_or("an answer without a header")?.revision;
                common.written.fetch_add(1, Ordering::Relaxed);
                common.saw(revision);
                self.revisions[slot] = (!deletes).then_some(revision);
            }
        }
        Ok(())
    }
}

/// Watches everything from the first revision on.
pub async fn watcher(channel: Channel, common: Arc<Common>, number: usize) {
    let follow = async {
        let (requests, receiver) = tokio::sync::mpsc::channel(1);
        let create = pb::WatchCreateRequest {
            key: ALL.into(),
            range_end: ALL_END.into(),
            start_revision: 1,
            prev_kv: number.is_multiple_of(2),
            ..Default::default()
        };
        let create = pb::watch_request::RequestUnion::CreateRequest(create);
        requests.send(pb::WatchRequest { request_union: Some(create) }).await?;
        let mut answers = WatchClient::new(channel).watch(ReceiverStream::new(receiver)).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            if answer.canceled {
                return Err(Failure::from(format!("a watch was canceled: {answer:?}")));
            }
            common.events[number].fetch_add(answer.events.len() as u64, Ordering::Relaxed);
        }
        Err("a watch ended".into())
    };
    let ended: Result<(), Failure> = follow.await;
    if let Err(error) = ended {
        common.fail(error);
    }
}

/// Compacts, again and again, to where the store was one time earlier.
pub async fn compactions(channel: Channel, common: Arc<Common>, every: Duration) {
    let mut kv = KvClient::new(channel);
    let mut revision = 0;
    loop {
        tokio::time::sleep(every).await;
        if revision > 0 {
            let request = pb::CompactionRequest { revision, ..Default::default() };
            match kv.compact(request).await {
                Ok(_) => drop(common.compactions.fetch_add(1, Ordering::Relaxed)),
                Err(error) => return common.fail(error),
            }
        }
        revision = common.revision.load(Ordering::Relaxed) as i64;
    }
}

/// Grants leases, puts a key on each, and forgets them.
pub async fn leases(channel: Channel, common: Arc<Common>) {
    let mut kv = KvClient::new(channel.clone());
    let mut client = LeaseClient::new(channel);
    let mut granted = 0;
    while !common.stopped() {
        tokio::time::sleep(Duration::from_secs(1) / LEASES_PER_S as u32).await;
        let asked = Instant::now();
        let one = async {
            let lease =
                client.lease_grant(pb::LeaseGrantRequest { ttl: LEASE_TTL_S, id: 0 }).await?.into_inner().id;
            let key = format!("{ALL}leases/{lease}");
            kv.put(pb::PutRequest { key: key.into(), lease, ..Default::default() }).await
        };
        match one.await {
            Ok(_) => {
                granted += 1;
                // The put now, and the deletion when the lease ends: each is told.
                common.written.fetch_add(1, Ordering::Relaxed);
            }
            // On a machine that stands still for so long, a lease is over before its key comes: none of the two is there.
            Err(status) if status.code() == Code::NotFound && is_over(asked) => {}
            Err(error) => return common.fail(error),
        }
        let left = client.lease_leases(pb::LeaseLeasesRequest {}).await;
        match left {
            Ok(left) => {
                let ended = granted - left.into_inner().leases.len() as u64;
                common.leases_ended.store(ended, Ordering::Relaxed);
            }
            Err(error) => return common.fail(error),
        }
    }
    // The last ones end.
    while let Ok(left) = client.lease_leases(pb::LeaseLeasesRequest {}).await {
        common.leases_ended.store(granted - left.into_inner().leases.len() as u64, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Whether a lease that was asked for then may have ended by now.
fn is_over(asked: Instant) -> bool {
    asked.elapsed() >= Duration::from_secs(LEASE_TTL_S as u64)
}

/// Clients that connect, read one key and go.
pub async fn visitors(url: String, common: Arc<Common>) {
    loop {
        tokio::time::sleep(VISIT_EVERY).await;
        let visit = async {
            let channel = Endpoint::from_shared(url.clone())?.connect().await?;
            KvClient::new(channel).range(pb::RangeRequest { key: ALL.into(), ..Default::default() }).await?;
            Ok::<_, Failure>(())
        };
        if let Err(error) = visit.await {
            return common.fail(error);
        }
    }
}
