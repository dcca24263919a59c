//! The ceiling: a server without a store, so that a comparison shows how much of its figures is gRPC, the disk and the load
//! generator itself.
//!
//! One thread. A write is answered when its bytes are durable, with everything that was waiting at the same time in one
//! write and one sync, into blocks that were written before; nothing is remembered. A read is answered from values made at
//! the start. It keeps no promise but that of the sync: of use for put, create, get and list only, and told apart by its
//! name. Takes etcd's `--listen-client-urls` and `--data-dir`, ignores every other flag.

use bytes::Bytes;
use etcd_shim::proto::EncodedKeyValue;
use etcd_shim::proto::etcdserverpb as pb;
use kvstore::{KeyValue, LeaseId, Revision};
use pb::kv_server::{Kv, KvServer};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::Pin;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

const VALUE_BYTES: usize = 1024;
/// A page of more keys than this is not asked for in comparisons.
const PAGE_KEYS_MAX: usize = 10_000;
/// The file that writes go round in.
const FILE_BYTES: u64 = 64 << 20;
const PAGE_BYTES: u64 = 4096;
const WAITING_MAX: usize = 16_384;

struct Null {
    writes: mpsc::Sender<(Bytes, oneshot::Sender<i64>)>,
    page: Vec<EncodedKeyValue>,
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { cluster_id: 1, member_id: 1, revision, raft_term: 1 })
}

fn kv(key: &[u8]) -> EncodedKeyValue {
    EncodedKeyValue(KeyValue::new(
        key,
        &[7; VALUE_BYTES],
        Revision::new(2),
        Revision::new(2),
        1,
        LeaseId::NONE,
    ))
}

impl Null {
    async fn write(&self, bytes: Bytes) -> Result<i64, Status> {
        let (done, waits) = oneshot::channel();
        self.writes.send((bytes, done)).await.map_err(|_| Status::unavailable("stopped"))?;
        waits.await.map_err(|_| Status::unavailable("the write failed"))
    }
}

#[tonic::async_trait]
impl Kv for Null {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let request = request.into_inner();
        if request.count_only {
            let count = PAGE_KEYS_MAX as i64;
            return Ok(Response::new(pb::RangeResponse { header: header(2), count, ..Default::default() }));
        }
        let kvs = if request.range_end.is_empty() {
            vec![kv(&request.key)]
        } else {
            let limit =
                usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(PAGE_KEYS_MAX);
            self.page[..limit.min(PAGE_KEYS_MAX)].to_vec()
        };
        let count = kvs.len() as i64;
        Ok(Response::new(pb::RangeResponse { header: header(2), kvs, more: true, count }))
    }

    type RangeStreamStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<pb::RangeStreamResponse, Status>> + Send>>;

    async fn range_stream(
        &self,
        _: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented("not a store"))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        let revision = self.write(request.into_inner().value).await?;
        Ok(Response::new(pb::PutResponse { header: header(revision), ..Default::default() }))
    }

    async fn delete_range(
        &self,
        _: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        Err(Status::unimplemented("not a store"))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let first = request.into_inner().success.into_iter().next().and_then(|operation| operation.request);
        let Some(pb::request_op::Request::RequestPut(put)) = first else {
            return Err(Status::unimplemented("not a store"));
        };
        let revision = self.write(put.value).await?;
        let put = pb::response_op::Response::ResponsePut(pb::PutResponse {
            header: header(revision),
            ..Default::default()
        });
        let responses = vec![pb::ResponseOp { response: Some(put) }];
        Ok(Response::new(pb::TxnResponse { header: header(revision), succeeded: true, responses }))
    }

    async fn compact(
        &self,
        _: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        Err(Status::unimplemented("not a store"))
    }
}

/// Whatever waits goes into one write and one sync, on this very thread.
async fn write_all(
    file: File,
    mut writes: mpsc::Receiver<(Bytes, oneshot::Sender<i64>)>,
) -> std::io::Result<()> {
    let (mut offset, mut revision, mut waiting, mut buffer) = (0, 1, Vec::new(), Vec::new());
    while writes.recv_many(&mut waiting, WAITING_MAX).await > 0 {
        buffer.clear();
        waiting.iter().for_each(|(bytes, _)| buffer.extend_from_slice(bytes));
        buffer.resize(buffer.len().next_multiple_of(PAGE_BYTES as usize), 0);
        if offset + buffer.len() as u64 > FILE_BYTES {
            offset = 0;
        }
        file.write_all_at(&buffer, offset)?;
        file.sync_data()?;
        offset += buffer.len() as u64;
        for (_, done) in waiting.drain(..) {
            revision += 1;
            // Whoever has gone away does not want to know.
            let _ = done.send(revision);
        }
    }
    Ok(())
}

fn flag(name: &str) -> Option<String> {
    let start = format!("--{name}=");
    std::env::args().find_map(|argument| Some(argument.strip_prefix(&start)?.to_string()))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = flag("listen-client-urls").unwrap_or("http://127.0.0.1:2379".into());
    let address =
        url.strip_prefix("http://").ok_or("only plain TCP: --listen-client-urls=http://HOST:PORT")?;
    let data_dir = PathBuf::from(flag("data-dir").unwrap_or("null-server.data".into()));
    std::fs::create_dir_all(&data_dir)?;
    let file = File::create(data_dir.join("writes"))?;
    for offset in (0..FILE_BYTES).step_by(1 << 20) {
        file.write_all_at(&vec![0; 1 << 20], offset)?;
    }
    file.sync_all()?;
    let (writes, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        if let Err(error) = write_all(file, receiver).await {
            eprintln!("null-server: {error}");
            std::process::exit(1);
        }
    });
    let page =
        (0..PAGE_KEYS_MAX).map(|number| kv(format!("/registry/null/{number:08}").as_bytes())).collect();
    let listener = TcpListener::bind(address).await?;
    println!("ready to serve client requests");
    let server = tonic::transport::Server::builder().add_service(KvServer::new(Null { writes, page }));
    server.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))).await?;
    Ok(())
}
