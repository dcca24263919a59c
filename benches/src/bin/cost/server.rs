//! The server under callgrind, and its client, which is not.

use crate::work::{self, Operation, PAGE, PAGED, Subject, WATCHED, WATCHERS};
use crate::{Failure, callgrind};
use bytes::Bytes;
use etcd_shim::proto::plain::etcdserverpb as pb;
use holdfast_benches::requests::{prefix_end, put};
use holdfast_tests::Setup;
use pb::kv_client::KvClient;
use pb::request_op::Request;
use pb::watch_client::WatchClient;
use std::path::Path;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

struct Server {
    kv: KvClient<Channel>,
    watchers: Vec<Watcher>,
}

struct Watcher {
    answers: Streaming<pb::WatchResponse>,
    /// The stream ends when its requests do.
    _requests: mpsc::Sender<pb::WatchRequest>,
}

/// Starts the server, works, stops it; gives what it executed.
pub fn instructions(program: &Path, directory: &Path, operation: Option<Operation>) -> Result<u64, Failure> {
    let output = callgrind::output(directory, "server", operation);
    let mut node = Setup::program(program.to_path_buf()).under(callgrind::command(&output)).start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let channel = {
        let _inside = runtime.enter();
        node.channel()
    };
    runtime.block_on(async {
        let mut watchers = Vec::new();
        for _ in 0..WATCHERS {
            watchers.push(watch(channel.clone()).await?);
        }
        work::run(&mut Server { kv: KvClient::new(channel), watchers }, operation).await
    })?;
    let status = node.stop();
    if !status.success() {
        return Err(format!("the server ended with {status}:\n{}", node.log()).into());
    }
    callgrind::instructions(&output)
}

async fn watch(channel: Channel) -> Result<Watcher, Failure> {
    let (requests, receiver) = mpsc::channel(1);
    let create = pb::WatchCreateRequest { key: WATCHED.into(), ..Default::default() };
    let create = pb::watch_request::RequestUnion::CreateRequest(create);
    requests.send(pb::WatchRequest { request_union: Some(create) }).await?;
    let mut answers = WatchClient::new(channel).watch(ReceiverStream::new(receiver)).await?.into_inner();
    answers.message().await?.ok_or("a watch ended at once")?;
    Ok(Watcher { answers, _requests: requests })
}

impl Server {
    async fn range(&mut self, request: pb::RangeRequest) -> Result<u64, Failure> {
        Ok(self.kv.range(request).await?.into_inner().kvs.len() as u64)
    }
}

impl Subject for Server {
    async fn fill(&mut self, keys: Vec<Bytes>, value: Bytes) -> Result<(), Failure> {
        let operation = |key| pb::RequestOp { request: Some(Request::RequestPut(put(key, value.clone()))) };
        let success = keys.into_iter().map(operation).collect();
        self.kv.txn(pb::TxnRequest { success, ..Default::default() }).await?;
        Ok(())
    }

    async fn put(&mut self, key: Bytes, value: Bytes) -> Result<(), Failure> {
        self.kv.put(put(key, value)).await?;
        Ok(())
    }

    async fn get(&mut self, key: Bytes) -> Result<u64, Failure> {
        self.range(pb::RangeRequest { key, ..Default::default() }).await
    }

    async fn page(&mut self) -> Result<u64, Failure> {
        self.range(pb::RangeRequest {
            key: PAGED.into(),
            range_end: prefix_end(PAGED.as_bytes()),
            limit: PAGE as i64,
            ..Default::default()
        })
        .await
    }

    async fn told(&mut self) -> Result<(), Failure> {
        for watcher in &mut self.watchers {
            while watcher.answers.message().await?.ok_or("a watch ended")?.events.is_empty() {}
        }
        Ok(())
    }
}
