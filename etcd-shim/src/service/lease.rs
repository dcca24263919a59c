//! Lease.

use super::Shared;
use super::caller;
use super::extent::{Extent, SMALL_READ_KEYS_MAX};
use super::pieces::{Pieces, Writer};
use super::stream_end::StreamEnd;
use crate::convert::{lease, status};
use crate::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, lease_server::Lease,
};
use kvstore::store::Keyspace;
use kvstore::{Error, LeaseId};
use prost::Message;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

/// Keep-alives of one stream that are renewed together, and wait for the disk once. A client has all of its leases on one
/// stream: one after the other, 2,000 of them could not be renewed in ten seconds. Not more, because everybody waits for
/// the turn that renews them.
const RENEWALS_AT_ONCE: usize = 256;

/// Until renewals are tried again for which the store had no room. Their stream goes on: a client that lost it would only
/// open another, and be told so again.
const RENEWAL_PAUSE: Duration = Duration::from_millis(20);

/// `etcdserverpb.Lease`.
pub struct LeaseService {
    pub(super) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl Lease for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        let (caller, request) = (caller(&request), request.into_inner());
        let granted = self
            .shared
            .keyspace
            .of_caller(caller)
            .lease_grant(LeaseId::new(request.id), request.ttl)
            .await
            .map_err(status::of)?;
        Ok(Response::new(LeaseGrantResponse {
            header: self.shared.header(granted.revision),
            id: granted.id.get(),
            ttl: granted.ttl_s,
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let (caller, id) = (caller(&request), LeaseId::new(request.into_inner().id));
        let keyspace = self.shared.keyspace.of_caller(caller);
        let revision = keyspace.lease_revoke(id).await.map_err(status::of)?;
        Ok(Response::new(LeaseRevokeResponse { header: self.shared.header(revision) }))
    }

    type LeaseKeepAliveStream = KeepAlives;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<KeepAlives>, Status> {
        Ok(Response::new(KeepAlives {
            end: StreamEnd::of(request.metadata().as_ref(), &self.shared),
            keyspace: self.shared.keyspace.of_caller(caller(&request)),
            requests: request.into_inner(),
            shared: Arc::clone(&self.shared),
            renewals: None,
            answers: VecDeque::new(),
            last: None,
            ended: false,
        }))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        self.shared.keyspace.read_barrier().await.map_err(status::of)?;
        // First: a client that watches from behind a revision that is too late misses something.
        let header = self.shared.header_now();
        let info = self.shared.keyspace.lease_time_to_live(LeaseId::new(id), keys).map_err(status::of)?;
        let is_long = info.as_ref().is_some_and(|info| info.keys.len() > SMALL_READ_KEYS_MAX);
        if is_long {
            return self
                .shared
                .read_beside(Extent::Any, move |_| whole(&lease::time_to_live(id, info, header)))
                .await;
        }
        self.shared.answer(lease::time_to_live(id, info, header)).await
    }

    async fn lease_leases(
        &self,
        _: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        // Not looked up beside: whoever is put off while it holds the leases' lock puts off everybody.
        let header = self.shared.header_now();
        let leases = self.shared.keyspace.leases().map_err(status::of)?;
        if leases.len() <= SMALL_READ_KEYS_MAX {
            return Ok(Response::new(lease::leases(leases, header)));
        }
        self.shared.read_beside(Extent::Any, move |_| whole(&lease::leases(leases, header))).await
    }
}

/// A message that was made at once.
fn whole(message: &impl Message) -> Result<Pieces, Status> {
    let mut writer = Writer::default();
    writer.message(message)?;
    Ok(writer.finish())
}

type Renewals = Pin<Box<dyn Future<Output = Result<VecDeque<LeaseKeepAliveResponse>, Status>> + Send>>;

/// Answers keep-alives in their order; those that have arrived meanwhile are renewed together.
pub struct KeepAlives {
    requests: Streaming<LeaseKeepAliveRequest>,
    shared: Arc<Shared>,
    /// On behalf of the stream's connection.
    keyspace: Keyspace,
    end: StreamEnd,
    /// Those that are under way.
    renewals: Option<Renewals>,
    /// What the client has not taken yet; nothing further is read before.
    answers: VecDeque<LeaseKeepAliveResponse>,
    /// What came behind the last request.
    last: Option<Result<(), Status>>,
    ended: bool,
}

impl KeepAlives {
    fn poll_answer(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<LeaseKeepAliveResponse, Status>>> {
        if let Poll::Ready(end) = self.end.poll(context) {
            return Poll::Ready(Some(Err(end)));
        }
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Poll::Ready(Some(Ok(answer)));
            }
            if let Some(renewals) = &mut self.renewals {
                let answers = ready!(renewals.as_mut().poll(context));
                self.renewals = None;
                match answers {
                    Ok(answers) => self.answers = answers,
                    Err(status) => return Poll::Ready(Some(Err(status))),
                }
                continue;
            }
            if let Some(last) = self.last.take() {
                return Poll::Ready(last.err().map(Err));
            }
            let ids = ready!(self.poll_ids(context));
            if !ids.is_empty() {
                let renewals = renew(Arc::clone(&self.shared), self.keyspace.clone(), ids);
                self.renewals = Some(Box::pin(renewals));
            }
        }
    }

    /// What can be read at once; nothing only at the end of the requests.
    fn poll_ids(&mut self, context: &mut Context<'_>) -> Poll<Vec<LeaseId>> {
        let mut ids = Vec::new();
        while ids.len() < RENEWALS_AT_ONCE && self.last.is_none() {
            match Pin::new(&mut self.requests).poll_next(context) {
                Poll::Ready(Some(Ok(request))) => ids.push(LeaseId::new(request.id)),
                Poll::Ready(Some(Err(status))) => self.last = Some(Err(status)),
                Poll::Ready(None) => self.last = Some(Ok(())),
                Poll::Pending if ids.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(ids)
    }
}

impl Stream for KeepAlives {
    type Item = Result<LeaseKeepAliveResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let answer = ready!(self.poll_answer(context));
        self.ended = !matches!(answer, Some(Ok(_)));
        Poll::Ready(answer)
    }
}

/// Renews as often as it takes for them to be admitted, while the client waits.
async fn renew(
    shared: Arc<Shared>,
    keyspace: Keyspace,
    ids: Vec<LeaseId>,
) -> Result<VecDeque<LeaseKeepAliveResponse>, Status> {
    loop {
        // Before the renewal: a client must never see "renewed" with a revision in which the lease was gone.
        let header = shared.header_now();
        let ttls_s = match keyspace.lease_keep_alive_many(&ids).await {
            Err(Error::TooManyRequests) => {
                tokio::time::sleep(RENEWAL_PAUSE).await;
                continue;
            }
            renewed => renewed.map_err(status::of)?,
        };
        let answer = |(id, ttl_s): (&LeaseId, Option<i64>)| LeaseKeepAliveResponse {
            header,
            id: id.get(),
            ttl: ttl_s.unwrap_or(0),
        };
        return Ok(ids.iter().zip(ttls_s).map(answer).collect());
    }
}
