//! One round of requests on one target, as fast as the answers come or at a given rate.

use crate::Failure;
use crate::arguments::Arguments;
use crate::client::{Client, prefix};
use crate::figures::Figures;
use crate::scenario::{Kind, Scenario};
use crate::target::Target;
use etcd_shim::proto::plain::etcdserverpb as pb;
use holdfast_benches::requests::prefix_end;
use holdfast_tests::Usage;
use pb::watch_client::WatchClient;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// How long before a round its clients are all there.
const LEAD: Duration = Duration::from_millis(20);

pub async fn round(
    target: &mut Target,
    scenario: &Scenario,
    arguments: &Arguments,
    number: usize,
) -> Result<Figures, Failure> {
    let channels = target.channels(scenario.connections()).await?;
    let mut watches = JoinSet::new();
    if scenario.kind == Kind::Kube {
        for _ in 0..scenario.watchers {
            watches.spawn(watch(target.channel().await?, prefix(scenario)));
        }
    }
    let mut clients = Vec::new();
    for at in 0..scenario.clients {
        let channel = channels[at % channels.len()].clone();
        clients.push(Client::new(channel, *scenario, at, number, arguments.value_bytes).await?);
    }
    let before = target.usage();
    let begun = Instant::now() + LEAD;
    let until = begun + Duration::from_secs_f64(arguments.seconds);
    // Each client has its share of the rate, the first requests spread evenly.
    let pause = arguments.rate.map(|rate| Duration::from_secs_f64(scenario.clients as f64 / rate));
    let mut tasks = JoinSet::new();
    for (at, client) in clients.into_iter().enumerate() {
        let first = begun + pause.unwrap_or_default().mul_f64(at as f64 / scenario.clients as f64);
        tasks.spawn(drive(client, first, until, pause));
    }
    let mut latencies_us = Vec::new();
    while let Some(done) = tasks.join_next().await {
        latencies_us.extend(done??);
    }
    let seconds = begun.elapsed().as_secs_f64();
    watches.abort_all();
    let mut figures = with_usage(Figures::new(latencies_us, seconds), seconds, before, target.usage());
    figures.disk_mib = target.disk_mib();
    Ok(figures)
}

/// What the server took from one moment to another, for each request.
pub fn with_usage(
    mut figures: Figures,
    seconds: f64,
    before: Option<Usage>,
    after: Option<Usage>,
) -> Figures {
    let (Some(before), Some(after)) = (before, after) else { return figures };
    let count = (figures.per_s * seconds).max(1.0);
    figures.cpu_us = Some((after.cpu_ms - before.cpu_ms) as f64 * 1e3 / count);
    figures.written_bytes = Some((after.written_bytes - before.written_bytes) as f64 / count);
    figures.rss_mib = Some(after.memory_mib as f64);
    figures
}

async fn drive(
    mut client: Client,
    first: Instant,
    until: Instant,
    pause: Option<Duration>,
) -> Result<Vec<f32>, Failure> {
    let mut latencies_us = Vec::new();
    tokio::time::sleep_until(first.into()).await;
    let mut due = Instant::now();
    while due < until {
        client.request().await?;
        latencies_us.push(due.elapsed().as_nanos() as f32 / 1e3);
        due = match pause {
            None => Instant::now(),
            // What was due while the last answer was awaited is late already, and its latency says so.
            Some(pause) => {
                let next = due.max(first) + pause;
                tokio::time::sleep_until(next.into()).await;
                next
            }
        };
    }
    Ok(latencies_us)
}

/// One of the watches that an apiserver keeps open; reads as fast as it is told.
async fn watch(channel: Channel, prefix: String) -> Result<(), Failure> {
    let (requests, receiver) = tokio::sync::mpsc::channel(1);
    let create = pb::WatchCreateRequest {
        range_end: prefix_end(prefix.as_bytes()),
        key: prefix.into(),
        prev_kv: true,
        ..Default::default()
    };
    let create = pb::watch_request::RequestUnion::CreateRequest(create);
    requests.send(pb::WatchRequest { request_union: Some(create) }).await?;
    let mut answers = WatchClient::new(channel).watch(ReceiverStream::new(receiver)).await?.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}
