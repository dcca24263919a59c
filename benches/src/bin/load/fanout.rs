//! Events to many watchers: how many, and how long from the write to each of them.

use crate::Failure;
use crate::arguments::Arguments;
use crate::client::revision;
use crate::figures::Figures;
use crate::measured::Meter;
use crate::scenario::Scenario;
use crate::schedule::{Schedule, Timer, Window};
use crate::target::Target;
use crate::watching::{Watch, channels, open};
use etcd_shim::proto::plain::etcdserverpb as pb;
use holdfast_benches::requests::{Random, guarded_create, guarded_put};
use pb::kv_client::KvClient;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tonic::transport::Channel;

const PREFIX: &str = "/registry/fanout/";
/// After the last write everything is told within this, or something is lost.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);
/// The first bytes of a value: when its write was due.
const STAMP_BYTES: usize = 8;

/// What all watchers together were told.
#[derive(Default)]
struct Told {
    events: u64,
    /// From the moment a write was due to the moment a watcher knew; only of those that count.
    latencies_us: Vec<f32>,
}

pub async fn round(
    target: &mut Target,
    scenario: &Scenario,
    arguments: &Arguments,
    number: usize,
) -> Result<Figures, Failure> {
    let channels = channels(target, scenario.watchers).await?;
    let told = Arc::new(Mutex::new(Told::default()));
    let mut watches = Vec::new();
    for at in 0..scenario.watchers {
        watches.push(open(channels[at % channels.len()].clone(), PREFIX, false).await?);
    }
    let meter = Meter::new(target);
    let window = Window::new(arguments.warm_up_s, arguments.seconds);
    let mut watchers = JoinSet::new();
    watches.into_iter().for_each(|watch| drop(watchers.spawn(follow(watch, window, Arc::clone(&told)))));
    let mut writers = JoinSet::new();
    for client in 0..scenario.clients {
        let schedule = Schedule::of_client(window, scenario.rate, scenario.clients, client);
        let kv = KvClient::new(target.channel().await?);
        let key = format!("{PREFIX}{}-{number}-{client}", std::process::id());
        let random = Random::new((number * 10_000 + client) as u64 + 1);
        writers.spawn(write(kv, key, schedule, window, random, arguments.value_bytes));
    }
    tokio::time::sleep_until(window.counts_from.into()).await;
    let meter = meter.begin(target);
    let mut writes = 0;
    while let Some(done) = writers.join_next().await {
        writes += done??;
    }
    let (expected, written) = (writes * scenario.watchers as u64, Instant::now());
    let events = || told.lock().expect("no panic").events;
    while events() < expected {
        if let Some(ended) = watchers.try_join_next() {
            return Err(format!("a watch has ended: {}", ended?).into());
        }
        if written.elapsed() > CATCH_UP_LIMIT {
            return Err(format!("{} of {expected} events were told", events()).into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let seconds = window.counts_from.elapsed().as_secs_f64();
    watchers.abort_all();
    let latencies_us = std::mem::take(&mut told.lock().expect("no panic").latencies_us);
    Ok(meter.stop(target, Figures::new(latencies_us, seconds)))
}

/// One writer: changes its key again and again.
async fn write(
    mut kv: KvClient<Channel>,
    key: String,
    schedule: Schedule,
    window: Window,
    mut random: Random,
    value_bytes: usize,
) -> Result<u64, Failure> {
    let timer = Timer::new()?;
    let (mut known, mut writes, mut counted) = (None, 0, 0);
    while let Some(due) = schedule.due(writes, counted, Instant::now()) {
        timer.wait_until(due).await?;
        let mut value = random.value(value_bytes.max(STAMP_BYTES)).to_vec();
        let stamp = due.saturating_duration_since(window.begins).as_nanos() as u64;
        value[..STAMP_BYTES].copy_from_slice(&stamp.to_be_bytes());
        let transaction = match known {
            Some(known) => guarded_put(key.clone().into(), known, value.into()),
            None => guarded_create(key.clone().into(), value.into()),
        };
        let done = kv.txn(transaction).await?.into_inner();
        if !done.succeeded {
            return Err("a key that only this client writes has changed".into());
        }
        known = Some(revision(done.header)?);
        writes += 1;
        counted += usize::from(schedule.counts(due));
    }
    Ok(writes)
}

/// One watcher: notes how old each event is when it is told. Returns why there are no more.
async fn follow(mut watch: Watch, window: Window, told: Arc<Mutex<Told>>) -> String {
    loop {
        let answer = match watch.next().await {
            Ok(answer) => answer,
            Err(reason) => return reason,
        };
        let now = Instant::now();
        let mut told = told.lock().expect("no panic");
        for event in &answer.events {
            told.events += 1;
            let stamp = event.kv.as_ref().and_then(|kv| kv.value.first_chunk::<STAMP_BYTES>());
            let Some(stamp) = stamp else { continue };
            let due = window.begins + Duration::from_nanos(u64::from_be_bytes(*stamp));
            if due >= window.counts_from {
                told.latencies_us.push(now.saturating_duration_since(due).as_nanos() as f32 / 1e3);
            }
        }
    }
}
