//! KV.

use super::extent::{self, Extent};
use super::large_reads::{self, Wanted};
use super::range_stream::RangeStream;
use super::{Shared, caller, read_transaction, wire};
use crate::convert::{range, status, transaction, write};
use crate::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, TxnRequest, TxnResponse, kv_server::Kv,
};
use kvstore::command::{Operation, OperationOutcome, RangeQuery, TransactionOutcome};
use kvstore::store::Consistency;
use kvstore::{KeyRange, Revision};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// `etcdserverpb.KV`.
pub struct KvService {
    pub(super) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl Kv for KvService {
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let request = request.into_inner();
        let consistency =
            if request.serializable { Consistency::Serializable } else { Consistency::Linearizable };
        let (query, shape) = range::query(request)?;
        if !extent::is_small(self.shared.keyspace.reader(), &query) {
            // A read of no key: it waits as this one has to.
            let nothing = RangeQuery::new(KeyRange::single(&b""[..]));
            self.shared.keyspace.range(nothing, consistency).await.map_err(status::of)?;
            let shared = Arc::clone(&self.shared);
            let extent = extent::extent(shared.keyspace.reader(), &query);
            let work = move |wanted: &Wanted<'_>| large_reads::range(&shared, &query, shape, wanted);
            return self.shared.read_beside(extent, work).await;
        }
        let reply = self.shared.keyspace.range(query, consistency).await.map_err(status::of)?;
        self.shared.answer(range::response(reply.result, shape, self.shared.header(reply.revision))).await
    }

    type RangeStreamStream = RangeStream;

    async fn range_stream(&self, request: Request<RangeRequest>) -> Result<Response<RangeStream>, Status> {
        RangeStream::open(request.into_inner(), &self.shared).await.map(Response::new)
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let (caller, request) = (caller(&request), request.into_inner());
        let size_fits = self.shared.check_size(&request);
        let put = write::put(request)?;
        let request_bytes = size_fits?;
        let put = write::alone(Operation::Put(put));
        let (outcome, place) = self.shared.transact(caller, put, request_bytes).await?;
        let header = self.shared.header(outcome.revision);
        match first(outcome)? {
            OperationOutcome::Put { previous } => {
                self.shared.answer_write(write::put_response(previous, header), place, wire::put).await
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let (caller, request) = (caller(&request), request.into_inner());
        let size_fits = self.shared.check_size(&request);
        let delete = write::delete(request)?;
        let request_bytes = size_fits?;
        let delete = write::alone(Operation::Delete(delete));
        let (outcome, place) = self.shared.transact(caller, delete, request_bytes).await?;
        let header = self.shared.header(outcome.revision);
        match first(outcome)? {
            OperationOutcome::Delete { deleted, previous } => {
                let response = write::delete_response(deleted, previous, header);
                self.shared.answer_write(response, place, wire::delete).await
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let (caller, request) = (caller(&request), request.into_inner());
        let (read_only, serializable) = transaction::read_only(&request);
        let size_fits = if read_only { Ok(0) } else { self.shared.check_size(&request) };
        let (transaction, shapes) = transaction::transaction(request, self.shared.settings.max_txn_ops)?;
        let request_bytes = size_fits?;
        if read_only {
            if !serializable {
                self.shared.keyspace.read_barrier().await.map_err(status::of)?;
            }
            if !extent::is_small_transaction(self.shared.keyspace.reader(), &transaction) {
                let shared = Arc::clone(&self.shared);
                let work = move |wanted: &Wanted<'_>| {
                    large_reads::transaction(&shared, &transaction, shapes, wanted)
                };
                return self.shared.read_beside(Extent::Any, work).await;
            }
            let outcome = read_transaction::execute(&transaction, self.shared.keyspace.reader())?;
            let header = self.shared.header(outcome.revision);
            return self.shared.answer(transaction::response(outcome, shapes, header)).await;
        }
        let (outcome, place) = self.shared.transact(caller, transaction, request_bytes).await?;
        let header = self.shared.header(outcome.revision);
        let response = transaction::response(outcome, shapes, header);
        self.shared.answer_write(response, place, wire::transaction).await
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let (caller, request) = (caller(&request), request.into_inner());
        if request.revision < 0 {
            // Below etcd's floor of a fresh store, which is −1.
            return Err(status::COMPACTED.into());
        }
        let revision = Revision::new(request.revision);
        let keyspace = self.shared.keyspace.of_caller(caller);
        let current = keyspace.compact(revision, request.physical).await.map_err(status::of)?;
        Ok(Response::new(CompactionResponse { header: self.shared.header(current) }))
    }
}

/// The result of a transaction's only operation.
fn first(outcome: TransactionOutcome) -> Result<OperationOutcome, Status> {
    outcome
        .results
        .into_iter()
        .next()
        .ok_or_else(|| Status::internal("etcdserver: an outcome without results"))
}

fn unexpected(outcome: &OperationOutcome) -> Status {
    Status::internal(format!("etcdserver: unexpected outcome {outcome:?}"))
}
