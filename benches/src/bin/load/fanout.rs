//! Events to many watchers: how many, and how long from the put to each of them.

use crate::Failure;
use crate::arguments::Arguments;
use crate::figures::Figures;
use crate::round::with_usage;
use crate::scenario::Scenario;
use crate::target::Target;
use bytes::Bytes;
use etcd_shim::proto::plain::etcdserverpb as pb;
use holdfast_benches::requests::{prefix_end, put};
use pb::kv_client::KvClient;
use pb::watch_client::WatchClient;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

const PREFIX: &str = "/registry/fanout/";
/// Streams of watchers share connections, as in apiservers.
const WATCHERS_OF_A_CONNECTION: usize = 25;
/// After the last put everything is told within this, or something is lost.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);

pub async fn round(
    target: &mut Target,
    scenario: &Scenario,
    arguments: &Arguments,
) -> Result<Figures, Failure> {
    let channels = target.channels(scenario.watchers.div_ceil(WATCHERS_OF_A_CONNECTION)).await?;
    let clock = Instant::now();
    let told = Arc::new(Mutex::new(Vec::new()));
    let (ready, mut all_ready) = tokio::sync::mpsc::channel(scenario.watchers);
    let mut watchers = JoinSet::new();
    for at in 0..scenario.watchers {
        let channel = channels[at % channels.len()].clone();
        watchers.spawn(follow(channel, clock, Arc::clone(&told), ready.clone()));
    }
    drop(ready);
    while all_ready.recv().await.is_some() {}

    let before = target.usage();
    let begun = Instant::now();
    let until = begun + Duration::from_secs_f64(arguments.seconds);
    let pause = arguments.rate.map(|rate| Duration::from_secs_f64(scenario.clients as f64 / rate));
    let mut writers = JoinSet::new();
    for client in 0..scenario.clients {
        let mut kv = KvClient::new(target.channel().await?);
        let value_bytes = arguments.value_bytes;
        writers.spawn(async move {
            let mut count = 0u32;
            while Instant::now() < until {
                // The first bytes say when it was sent.
                let mut value = vec![b'x'; value_bytes.max(8)];
                value[..8].copy_from_slice(&(clock.elapsed().as_nanos() as u64).to_be_bytes());
                kv.put(put(Bytes::from(format!("{PREFIX}{client}")), value.into())).await?;
                count += 1;
                if let Some(pause) = pause {
                    tokio::time::sleep_until((begun + pause * count).into()).await;
                }
            }
            Ok::<u32, tonic::Status>(count)
        });
    }
    let mut puts = 0;
    while let Some(done) = writers.join_next().await {
        puts += u64::from(done??);
    }
    let expected = puts * scenario.watchers as u64;
    let written = Instant::now();
    let count = || told.lock().expect("no panic").len() as u64;
    while count() < expected {
        if written.elapsed() > CATCH_UP_LIMIT {
            let told = count();
            return Err(format!("{}: {told} of {expected} events were told", target.name).into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let after = target.usage();
    watchers.abort_all();
    let latencies_us = std::mem::take(&mut *told.lock().expect("no panic"));
    let mut figures = with_usage(Figures::new(latencies_us, seconds), seconds, before, after);
    figures.disk_mib = target.disk_mib();
    Ok(figures)
}

/// One watcher: notes how old each event is when it is told.
async fn follow(
    channel: Channel,
    clock: Instant,
    told: Arc<Mutex<Vec<f32>>>,
    ready: tokio::sync::mpsc::Sender<()>,
) -> Result<(), Failure> {
    let (requests, receiver) = tokio::sync::mpsc::channel(1);
    let create = pb::WatchCreateRequest {
        key: PREFIX.into(),
        range_end: prefix_end(PREFIX.as_bytes()),
        ..Default::default()
    };
    let create = pb::watch_request::RequestUnion::CreateRequest(create);
    requests.send(pb::WatchRequest { request_union: Some(create) }).await?;
    let mut answers = WatchClient::new(channel).watch(ReceiverStream::new(receiver)).await?.into_inner();
    answers.message().await?.ok_or("a watch ended at once")?;
    drop(ready);
    while let Some(answer) = answers.message().await? {
        let now = clock.elapsed().as_nanos() as u64;
        let ages = answer.events.iter().map(|event| {
            let value = event.kv.as_ref().map_or(&[][..], |kv| &kv.value[..8]);
            let sent = value.try_into().map_or(now, u64::from_be_bytes);
            now.saturating_sub(sent) as f32 / 1e3
        });
        told.lock().expect("no panic").extend(ages);
    }
    Ok(())
}
