//! Keys that are there before a scenario begins, and the scenario that measures how they get there.

use crate::Failure;
use crate::arguments::Arguments;
use crate::client::prefix;
use crate::figures::Figures;
use crate::measured::Meter;
use crate::scenario::{Kind, Scenario};
use crate::target::Target;
use bytes::Bytes;
use etcd_shim::proto::plain::etcdserverpb as pb;
use holdfast_benches::requests::{Random, guarded_create, put};
use pb::kv_client::KvClient;
use pb::request_op::Request;
use std::time::Instant;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;

/// Objects of a namespace.
pub const NAMESPACE_KEYS: usize = 250;
const WRITERS: usize = 64;
/// From so many keys on, preparing them (not `fill`) takes a hundred in a transaction.
const LARGE_KEYS: usize = 50_000;
const BATCH_KEYS: usize = 100;
/// Servers refuse requests above 1.5 MiB.
const BATCH_BYTES: usize = 512 << 10;
/// After large transactions so many keys are written again one by one. A server that starts replays the end of its log: that
/// should look like any cluster's, and not like our way to prepare it.
const REWRITTEN_KEYS: usize = 20_000;

pub fn prepared_key(prefix: &str, number: usize) -> Bytes {
    format!("{prefix}{:04}/{number:08}", number / NAMESPACE_KEYS).into()
}

/// The keys that a scenario expects, once.
pub async fn prepare(target: &mut Target, scenario: &Scenario, arguments: &Arguments) -> Result<(), Failure> {
    let prefix = prefix(scenario);
    if target.is_ceiling || !scenario.kind.needs_keys() || !target.prepared.insert(prefix.clone()) {
        return Ok(());
    }
    let value_bytes = arguments.value_bytes;
    let per_batch = (BATCH_BYTES / value_bytes).clamp(1, BATCH_KEYS);
    if scenario.keys >= LARGE_KEYS && per_batch > 1 {
        match put_batches(target, &prefix, scenario.keys, value_bytes, per_batch).await {
            Ok(()) => {
                overwrite(target, &prefix, scenario.keys.min(REWRITTEN_KEYS), value_bytes).await?;
                return Ok(());
            }
            // It takes kube-apiserver's transactions only (kine does).
            Err(failure) if is_refusal(&failure) => {}
            Err(failure) => return Err(failure),
        }
    }
    create(target, &prefix, scenario.keys, value_bytes).await.map(drop)
}

/// Many keys in each transaction.
async fn put_batches(
    target: &Target,
    prefix: &str,
    keys: usize,
    value_bytes: usize,
    per_batch: usize,
) -> Result<(), Failure> {
    let prefix = prefix.to_string();
    let writer = move |mut kv: KvClient<Channel>, batch: usize, random: &mut Random| {
        let numbers = batch * per_batch..((batch + 1) * per_batch).min(keys);
        let puts = numbers.map(|number| {
            let put = put(prepared_key(&prefix, number), random.value(value_bytes));
            pb::RequestOp { request: Some(Request::RequestPut(put)) }
        });
        let transaction = pb::TxnRequest { success: puts.collect(), ..Default::default() };
        async move { kv.txn(transaction).await.map(drop) }
    };
    each(target, keys.div_ceil(per_batch), writer).await.map(drop)
}

/// New values for the first prepared keys: versions that a compaction removes.
pub async fn overwrite(
    target: &Target,
    prefix: &str,
    keys: usize,
    value_bytes: usize,
) -> Result<(), Failure> {
    let prefix = prefix.to_string();
    let writer = move |mut kv: KvClient<Channel>, number: usize, random: &mut Random| {
        let put = put(prepared_key(&prefix, number), random.value(value_bytes));
        async move { kv.put(put).await.map(drop) }
    };
    each(target, keys, writer).await.map(drop)
}

/// Each key with a transaction of its own, as kube-apiserver would.
async fn create(target: &Target, prefix: &str, keys: usize, value_bytes: usize) -> Result<Vec<f32>, Failure> {
    let prefix = prefix.to_string();
    let writer = move |mut kv: KvClient<Channel>, number: usize, random: &mut Random| {
        let create = guarded_create(prepared_key(&prefix, number), random.value(value_bytes));
        async move { kv.txn(create).await.map(drop) }
    };
    each(target, keys, writer).await
}

/// Does it for all numbers with several clients, and says how long each took in microseconds.
async fn each<W, F>(target: &Target, count: usize, writer: W) -> Result<Vec<f32>, Failure>
where
    W: Fn(KvClient<Channel>, usize, &mut Random) -> F + Clone + Send + 'static,
    F: Future<Output = Result<(), tonic::Status>> + Send,
{
    let channels = target.channels(4).await?;
    let mut tasks = JoinSet::new();
    for client in 0..WRITERS {
        let kv = KvClient::new(channels[client % channels.len()].clone());
        let writer = writer.clone();
        tasks.spawn(async move {
            let mut random = Random::new(client as u64 + 1);
            let mut latencies_us = Vec::new();
            for number in (client..count).step_by(WRITERS) {
                let begun = Instant::now();
                writer(kv.clone(), number, &mut random).await?;
                latencies_us.push(begun.elapsed().as_nanos() as f32 / 1e3);
            }
            Ok::<_, tonic::Status>(latencies_us)
        });
    }
    let mut latencies_us = Vec::new();
    while let Some(done) = tasks.join_next().await {
        latencies_us.extend(done??);
    }
    Ok(latencies_us)
}

/// Whether the server says that it does not offer this.
pub fn is_refusal(failure: &Failure) -> bool {
    failure.downcast_ref::<tonic::Status>().is_some_and(|status| {
        let text = status.message();
        status.code() == Code::Unimplemented || text.contains("unsupported") || text.contains("not supported")
    })
}

/// A round of `fill`: an empty server, filled. What it leaves is there for the scenarios behind it.
pub async fn round(
    target: &mut Target,
    scenario: &Scenario,
    arguments: &Arguments,
) -> Result<Figures, Failure> {
    debug_assert_eq!(scenario.kind, Kind::Fill);
    if target.node().is_none() {
        return Err("only a server that was started here can be had empty".into());
    }
    target.refresh(scenario.transport).await?;
    let prefix = prefix(scenario);
    let meter = Meter::new(target).begin(target);
    let begun = Instant::now();
    let latencies_us = create(target, &prefix, scenario.keys, arguments.value_bytes).await?;
    let seconds = begun.elapsed().as_secs_f64();
    target.prepared.insert(prefix);
    Ok(meter.stop(target, Figures::new(latencies_us, seconds)))
}
