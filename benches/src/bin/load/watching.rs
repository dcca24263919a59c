//! Open watches beside a load: those that read as fast as they are told, and those that have stopped reading.

use crate::Failure;
use crate::client::MESSAGE_BYTES_MAX;
use crate::target::Target;
use etcd_shim::proto::plain::etcdserverpb as pb;
use holdfast_benches::requests::prefix_end;
use pb::watch_client::WatchClient;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// Streams of watchers share connections, as in apiservers.
const WATCHERS_OF_A_CONNECTION: usize = 25;
/// A server that has not confirmed a watch by then never will.
const OPEN_LIMIT: Duration = Duration::from_secs(60);

/// A watch that the server has confirmed. It ends when this is dropped.
pub struct Watch {
    answers: Streaming<pb::WatchResponse>,
    _requests: Sender<pb::WatchRequest>,
}

impl Watch {
    /// What it is told next, or why there is nothing more.
    pub async fn next(&mut self) -> Result<pb::WatchResponse, String> {
        match self.answers.message().await {
            Ok(Some(answer)) if answer.canceled => Err(answer.cancel_reason),
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err("closed by the server".into()),
            Err(status) => Err(status.to_string()),
        }
    }

    /// Reads as fast as it is told, and returns why there is no more. Takes the whole watch: without its sender it would be
    /// half closed, which some servers take for its end.
    async fn read_to_its_end(mut self) -> String {
        loop {
            if let Err(reason) = self.next().await {
                return reason;
            }
        }
    }
}

/// Watches that are open until this is dropped.
pub struct Watches {
    /// Each returns why its watch has ended.
    reading: JoinSet<String>,
    stopped: Vec<Watch>,
}

pub async fn open(channel: Channel, prefix: &str, prev_kv: bool) -> Result<Watch, Failure> {
    let opened = tokio::time::timeout(OPEN_LIMIT, ask_for(channel, prefix, prev_kv)).await;
    opened.unwrap_or_else(|_| Err(format!("a watch was not confirmed within {OPEN_LIMIT:?}").into()))
}

async fn ask_for(channel: Channel, prefix: &str, prev_kv: bool) -> Result<Watch, Failure> {
    let (requests, receiver) = tokio::sync::mpsc::channel(1);
    let create = pb::WatchCreateRequest {
        key: prefix.to_string().into(),
        range_end: prefix_end(prefix.as_bytes()),
        prev_kv,
        ..Default::default()
    };
    let create = pb::watch_request::RequestUnion::CreateRequest(create);
    requests.send(pb::WatchRequest { request_union: Some(create) }).await?;
    let mut client = WatchClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut answers = client.watch(ReceiverStream::new(receiver)).await?.into_inner();
    let first = answers.message().await?.ok_or("a watch ended at once")?;
    if !first.created || first.canceled {
        return Err("a watch was not created".into());
    }
    Ok(Watch { answers, _requests: requests })
}

/// Connections for so many watchers.
pub async fn channels(target: &Target, watchers: usize) -> Result<Vec<Channel>, Failure> {
    target.channels(watchers.div_ceil(WATCHERS_OF_A_CONNECTION).max(1)).await
}

/// Watchers of a prefix, the last ones of them stopped, on connections of their own: what they do not read must not hold up
/// the others on our side of the wire.
pub async fn watch_beside(
    target: &Target,
    prefix: &str,
    watchers: usize,
    stopped: usize,
) -> Result<Watches, Failure> {
    let mut watches = Watches { reading: JoinSet::new(), stopped: Vec::new() };
    if watchers == 0 {
        return Ok(watches);
    }
    let (reads, stops) = (channels(target, watchers).await?, channels(target, stopped).await?);
    for at in 0..watchers - stopped {
        let watch = open(reads[at % reads.len()].clone(), prefix, true).await?;
        watches.reading.spawn(watch.read_to_its_end());
    }
    for at in 0..stopped {
        watches.stopped.push(open(stops[at % stops.len()].clone(), prefix, true).await?);
    }
    Ok(watches)
}

impl Watches {
    /// Why one of those that read has ended, if one has.
    pub fn ended(&mut self) -> Option<String> {
        self.reading.try_join_next().map(|ended| ended.unwrap_or_else(|error| error.to_string()))
    }
}
