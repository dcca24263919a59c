//! Attacks by watching.

use crate::attacker::Attacker;
use etcd_shim::proto::plain::etcdserverpb as pb;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// A watch that was left alone and says nothing for so long has lost what it had to say.
const WORD_PATIENCE: Duration = Duration::from_secs(60);
/// One that has said something and is silent for so long has said everything.
const SILENCE: Duration = Duration::from_secs(5);
const KEY: &str = "/attack/watched";

struct Watching {
    requests: mpsc::UnboundedSender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
}

fn create(start_revision: i64) -> pb::WatchRequest {
    let create = pb::WatchCreateRequest { key: KEY.into(), start_revision, ..Default::default() };
    pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

/// A stream with one watch, and its first response.
async fn watch(channel: Channel) -> Result<Watching, tonic::Status> {
    let (requests, sent) = mpsc::unbounded_channel();
    let _ = requests.send(create(0));
    let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
    let mut responses = client.watch(UnboundedReceiverStream::new(sent)).await?.into_inner();
    responses.message().await?;
    Ok(Watching { requests, responses })
}

/// Writes the watched key.
async fn write(attacker: &Attacker, per_s: u64, value_bytes: usize) {
    let kv = attacker.kv().await;
    let its = attacker.clone();
    let work = move |n: u64| {
        let (mut kv, attacker) = (kv.clone(), its.clone());
        async move {
            let value = vec![n as u8; value_bytes].into();
            attacker.tell(&kv.put(pb::PutRequest { key: KEY.into(), value, ..Default::default() }).await);
        }
    };
    attacker.at_rate(per_s, work).await;
}

/// Watchers that are served nothing but their first response. Each has a connection of its own.
pub async fn never_read(attacker: Attacker) {
    let mut held = Vec::new();
    for _ in 0..attacker.scale(100, 20) {
        held.push(watch(attacker.channel().await).await.expect("a watch"));
    }
    write(&attacker, 200, 16 << 10).await;
}

/// One stream that has the same thing to say ten thousand times.
pub async fn many_on_one_stream(attacker: Attacker) {
    let mut watching = watch(attacker.channel().await).await.expect("a watch");
    for _ in 1..attacker.scale(10_000, 2_000) {
        let _ = watching.requests.send(create(0));
    }
    let reader = tokio::spawn(async move {
        let mut events = 0u64;
        while let Ok(Some(response)) = watching.responses.message().await {
            events += response.events.len() as u64;
            if watching.requests.is_closed() {
                break;
            }
        }
        events
    });
    write(&attacker, 2, 100).await;
    reader.abort();
}

/// A thousand streams over ten connections.
pub async fn many_streams(attacker: Attacker) {
    let mut readers = JoinSet::new();
    for _ in 0..10 {
        let channel = attacker.channel().await;
        for _ in 0..attacker.scale(100, 20) {
            let mut watching = watch(channel.clone()).await.expect("a watch");
            readers.spawn(async move { while let Ok(Some(_)) = watching.responses.message().await {} });
        }
    }
    write(&attacker, 2, 100).await;
}

/// Watchers that sleep while what they have not read is compacted. Each is then told so, or gets all of it.
pub async fn lag_over_compaction(attacker: Attacker) {
    let mut held = Vec::new();
    for _ in 0..attacker.scale(20, 5) {
        held.push(watch(attacker.channel().await).await.expect("a watch"));
    }
    let compacting = attacker.clone();
    let compactions = tokio::spawn(async move {
        let mut kv = compacting.kv().await;
        while compacting.goes_on() {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = kv.range(pb::RangeRequest { key: KEY.into(), ..Default::default() }).await;
            let revision = now.map_or(0, |now| now.into_inner().header.map_or(0, |header| header.revision));
            let _ = kv.compact(pb::CompactionRequest { revision, physical: false }).await;
        }
    });
    write(&attacker, 200, 16 << 10).await;
    let _ = compactions.await;
    for mut watching in held {
        attacker.count(&read_to_the_end(&mut watching).await);
    }
}

/// How a watch that was left alone goes on: it must say that it was compacted, or come to the newest revision.
async fn read_to_the_end(watching: &mut Watching) -> String {
    let mut last = 0;
    loop {
        let patience = if last == 0 { WORD_PATIENCE } else { SILENCE };
        let response = match tokio::time::timeout(patience, watching.responses.message()).await {
            Ok(Ok(Some(response))) => response,
            // Silence is right once everything has been told.
            Err(_) if last > 0 => return "read: history".into(),
            other => return format!("a watch ended without a word: {other:?}"),
        };
        if response.canceled {
            return if response.compact_revision > 0 { "canceled: compacted" } else { "canceled: why?" }
                .into();
        }
        for event in response.events {
            let revision = event.kv.map_or(0, |kv| kv.mod_revision);
            if revision <= last {
                return format!("revision {revision} after {last}");
            }
            last = revision;
        }
    }
}
