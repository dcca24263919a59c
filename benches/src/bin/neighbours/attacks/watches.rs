//! Attacks by watching.

use crate::attacker::Attacker;
use etcd_shim::proto::plain::etcdserverpb as pb;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use std::cmp::Ordering::{Equal, Greater, Less};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
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
/// Between two looks at whether everything has been written.
const LOOK: Duration = Duration::from_millis(100);
/// What is counted for a watch that was told of everything.
pub const TOLD: &str = "watch told";

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
    let count = attacker.scale(10_000, 2_000);
    let watching = watch(attacker.channel().await).await.expect("a watch");
    for _ in 1..count {
        let _ = watching.requests.send(create(0));
    }
    let progress = Arc::new(Progress::default());
    let mut readers = JoinSet::new();
    readers.spawn(read_until_told(watching, count, progress.clone()));
    watch_until_told(attacker, readers, count, &progress).await;
}

/// A thousand streams over ten connections.
pub async fn many_streams(attacker: Attacker) {
    let per_connection = attacker.scale(100, 20);
    let progress = Arc::new(Progress::default());
    let mut readers = JoinSet::new();
    for _ in 0..10 {
        let channel = attacker.channel().await;
        for _ in 0..per_connection {
            let watching = watch(channel.clone()).await.expect("a watch");
            readers.spawn(read_until_told(watching, 1, progress.clone()));
        }
    }
    watch_until_told(attacker, readers, 10 * per_connection, &progress).await;
}

/// Where all watches of an attack stand.
#[derive(Default)]
struct Progress {
    created: AtomicUsize,
    /// The last revision that will be written; 0 while it is not known.
    newest: AtomicI64,
}

/// Writes now and then until the end, and once more when all watches are there; each has to be told of that.
async fn watch_until_told(
    attacker: Attacker,
    mut readers: JoinSet<Result<usize, String>>,
    watches: usize,
    progress: &Progress,
) {
    write(&attacker, 2, 100).await;
    let begun = Instant::now();
    while progress.created.load(Ordering::Relaxed) < watches && begun.elapsed() < WORD_PATIENCE {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let last = pb::PutRequest { key: KEY.into(), ..Default::default() };
    let response = attacker.kv().await.put(last).await.expect("the last write").into_inner();
    progress.newest.store(response.header.map_or(0, |header| header.revision), Ordering::Relaxed);
    while let Some(reader) = readers.join_next().await {
        match reader.expect("nothing in it panics") {
            Ok(watches) => (0..watches).for_each(|_| attacker.count(TOLD)),
            Err(wrong) => attacker.count(&wrong),
        }
    }
}

/// Reads a stream until each of its watches has been told of the newest revision, and of nothing twice or backwards. How
/// many were; or what was wrong.
async fn read_until_told(
    mut watching: Watching,
    count: usize,
    progress: Arc<Progress>,
) -> Result<usize, String> {
    // The first watch has been created.
    let mut last_of: HashMap<i64, i64> = HashMap::from([(0, 0)]);
    progress.created.fetch_add(1, Ordering::Relaxed);
    // The highest revision that anybody was told of, and how many were.
    let (mut highest, mut told) = (0, 0);
    let mut silent_since = Instant::now();
    loop {
        let newest = progress.newest.load(Ordering::Relaxed);
        if newest > 0 && highest == newest && told == count {
            return Ok(count);
        }
        let response = match tokio::time::timeout(LOOK, watching.responses.message()).await {
            Ok(Ok(Some(response))) => response,
            Ok(end) => return Err(format!("a stream ended: {end:?}")),
            Err(_) if newest == 0 || silent_since.elapsed() < WORD_PATIENCE => continue,
            Err(_) => {
                return Err(format!(
                    "{told} of {count} watches were told of revision {highest}, the last is {newest}"
                ));
            }
        };
        silent_since = Instant::now();
        if response.canceled {
            return Err(format!("a watch was canceled: {}", response.cancel_reason));
        }
        if response.created {
            progress.created.fetch_add(1, Ordering::Relaxed);
        }
        let last = last_of.entry(response.watch_id).or_insert(0);
        for event in response.events {
            let revision = event.kv.map_or(0, |kv| kv.mod_revision);
            if revision <= *last {
                return Err(format!("revision {revision} after {last}"));
            }
            *last = revision;
            match revision.cmp(&highest) {
                Less => {}
                Equal => told += 1,
                Greater => (highest, told) = (revision, 1),
            }
        }
    }
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
