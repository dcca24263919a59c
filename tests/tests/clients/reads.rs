//! Lists of everything, and hashes of it.

use crate::attack::{self, Attacked, fill};
use holdfast_tests::Setup;
use holdfast_tests::wire::etcdserverpb::kv_client::KvClient;
use holdfast_tests::wire::etcdserverpb::maintenance_client::MaintenanceClient;
use holdfast_tests::wire::etcdserverpb::{HashKvRequest, PutRequest, RangeRequest, RangeResponse};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

const PREFIX: &str = "attack/list/";
const KEYS: usize = 20_000;
const VALUE_BYTES: usize = 200;

fn everything() -> RangeRequest {
    RangeRequest { key: PREFIX.into(), range_end: "attack/list0".into(), ..Default::default() }
}

async fn filled() -> Attacked {
    let node = Setup::subject().start();
    fill(&node, PREFIX, KEYS, VALUE_BYTES).await;
    Attacked::with(node).await
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_everything_are_whole_and_hold_up_nobody() {
    let attacked = filled().await;
    let mut readers = JoinSet::new();
    for _ in 0..4 {
        let mut kv = attacked.kv();
        readers.spawn(async move {
            for _ in 0..5 {
                let list = kv.range(everything()).await.expect("a list").into_inner();
                assert_eq!((list.kvs.len(), list.count, list.more), (KEYS, KEYS as i64, false));
                assert!(list.kvs.is_sorted_by(|a, b| a.key < b.key));
            }
        });
    }
    readers.join_all().await;
    attacked.check_unharmed().await;
}

async fn unread(channel: Channel, request: RangeRequest) -> Result<Streaming<RangeResponse>, Status> {
    attack::unread(channel, "/etcdserverpb.KV/Range", request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_nobody_reads_cost_their_size_and_are_forgotten() {
    const READERS: usize = 20;
    let attacked = filled().await;
    let mut held = Vec::new();
    for _ in 0..READERS {
        held.push(unread(attacked.node.channel(), everything()).await.expect("a list"));
    }
    let list_mib = (KEYS * (VALUE_BYTES + 50)) as u64 >> 20;
    let bound_mib = (READERS as u64 + 2) * (list_mib + 1) + 64;
    assert!(attacked.added_mib() <= bound_mib, "{} MiB, {bound_mib} are the bound", attacked.added_mib());
    // One of them reads after all.
    let mut late = held.pop().expect("one of them");
    let list = late.message().await.expect("a message").expect("a message");
    assert_eq!(list.kvs.len(), KEYS);
    drop((held, late));
    attacked.check_unharmed().await;
}

/// No single one is large, but one connection may ask for any number of them.
#[tokio::test(flavor = "multi_thread")]
async fn gets_that_nobody_reads_are_bounded_together() {
    const GETS: usize = 600;
    const VALUE_BYTES: usize = 1_400_000;
    // What large responses may take together, and the engine's and the cache's share.
    const BOUND_MIB: u64 = 512 + 128;
    let node = Setup::subject().start();
    let mut kv = KvClient::new(node.channel());
    let key = |n: usize| format!("big/{}", n % 100);
    for n in 0..100 {
        let value = vec![n as u8; VALUE_BYTES];
        kv.put(PutRequest { key: key(n).into(), value: value.into(), ..Default::default() })
            .await
            .expect("a put");
    }
    drop(kv);
    let attacked = Attacked::with(node).await;
    let channel = attacked.node.channel();
    let mut held = Vec::new();
    for n in 0..GETS {
        let request = RangeRequest { key: key(n).into(), ..Default::default() };
        match unread(channel.clone(), request).await {
            Ok(answer) => held.push(answer),
            Err(status) => assert_eq!(status.message(), "etcdserver: too many requests"),
        }
    }
    assert!(attacked.added_mib() <= BOUND_MIB, "{} MiB, {BOUND_MIB} are the bound", attacked.added_mib());
    drop((held, channel));
    // A reader is served.
    let request = RangeRequest { key: key(1).into(), ..Default::default() };
    let answer = attacked.kv().range(request).await.expect("a get").into_inner();
    assert_eq!(answer.kvs[0].value, vec![1; VALUE_BYTES]);
    attacked.check_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hashes_wait_for_each_other() {
    let attacked = filled().await;
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let mut maintenance = MaintenanceClient::new(attacked.node.channel());
        callers.spawn(async move {
            maintenance.hash_kv(HashKvRequest { revision: 50 }).await.expect("a hash").into_inner().hash
        });
    }
    let threads = || holdfast_tests::Usage::of(attacked.node.process_id()).threads;
    let before = threads();
    let mut hashes = Vec::new();
    while let Some(hash) = callers.join_next().await {
        hashes.push(hash.expect("a caller"));
        assert!(threads() <= before + 4, "{} threads after {before}", threads());
    }
    assert!(hashes.len() == 20 && hashes.iter().all(|hash| *hash == hashes[0]));
    attacked.check_unharmed().await;
}
