//! Cluster.

use super::Shared;
use crate::convert::status::{self, not_yet};
use crate::proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest,
    MemberUpdateResponse, cluster_server::Cluster,
};
use kvstore::Revision;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// `etcdserverpb.Cluster`.
pub struct ClusterService {
    pub(super) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        if request.get_ref().linearizable {
            self.shared.keyspace.read_barrier().await.map_err(status::of)?;
        }
        let identity = &self.shared.identity;
        let me = Member {
            id: identity.member_id,
            name: identity.name.clone(),
            peer_ur_ls: identity.peer_urls.clone(),
            client_ur_ls: identity.client_urls.clone(),
            is_learner: false,
        };
        // Headers of this service show no revision.
        let header = self.shared.header(Revision::NONE);
        Ok(Response::new(MemberListResponse { header, members: vec![me] }))
    }

    async fn member_add(&self, _: Request<MemberAddRequest>) -> Result<Response<MemberAddResponse>, Status> {
        Err(not_yet("adding a member"))
    }

    async fn member_remove(
        &self,
        _: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        Err(not_yet("removing a member"))
    }

    async fn member_update(
        &self,
        _: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        Err(not_yet("updating a member"))
    }

    async fn member_promote(
        &self,
        _: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        Err(not_yet("promoting a member"))
    }
}
