//! Open watches beside a load: those that read as fast as they are told, and those that have stopped reading.

use crate::Failure;
use crate::target::Target;
use etcd_shim::proto::plain::etcdserverpb as pb;
use holdfast_benches::requests::prefix_end;
use pb::watch_client::WatchClient;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// Streams of watchers share connections, as in apiservers.
const WATCHERS_OF_A_CONNECTION: usize = 25;

/// A watch that the server has confirmed. It ends when this is dropped.
pub struct Watch {
    pub answers: Streaming<pb::WatchResponse>,
    _requests: Sender<pb::WatchRequest>,
}

/// Watches that are open until this is dropped.
pub struct Watches {
    reading: JoinSet<()>,
    stopped: Vec<Watch>,
}

pub async fn open(channel: Channel, prefix: &str, prev_kv: bool) -> Result<Watch, Failure> {
    let (requests, receiver) = tokio::sync::mpsc::channel(1);
    let create = pb::WatchCreateRequest {
        key: prefix.to_string().into(),
        range_end: prefix_end(prefix.as_bytes()),
        prev_kv,
        ..Default::default()
    };
    let create = pb::watch_request::RequestUnion::CreateRequest(create);
    requests.send(pb::WatchRequest { request_union: Some(create) }).await?;
    let mut answers = WatchClient::new(channel).watch(ReceiverStream::new(receiver)).await?.into_inner();
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
        let mut watch = open(reads[at % reads.len()].clone(), prefix, true).await?;
        watches.reading.spawn(async move { while let Ok(Some(_)) = watch.answers.message().await {} });
    }
    for at in 0..stopped {
        watches.stopped.push(open(stops[at % stops.len()].clone(), prefix, true).await?);
    }
    Ok(watches)
}

impl Watches {
    pub fn len(&self) -> usize {
        self.reading.len() + self.stopped.len()
    }

    /// Whether one of those that read has ended.
    pub fn has_ended(&mut self) -> bool {
        self.reading.try_join_next().is_some()
    }
}
