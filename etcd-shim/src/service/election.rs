//! Election: not there yet.

use crate::convert::status::not_yet;
use crate::proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderRequest, LeaderResponse, ProclaimRequest, ProclaimResponse,
    ResignRequest, ResignResponse, election_server::Election,
};
use tonic::{Request, Response, Status};

/// `v3electionpb.Election`.
pub struct ElectionService;

const WHAT: &str = "the election service";

#[tonic::async_trait]
impl Election for ElectionService {
    async fn campaign(&self, _: Request<CampaignRequest>) -> Result<Response<CampaignResponse>, Status> {
        Err(not_yet(WHAT))
    }

    async fn proclaim(&self, _: Request<ProclaimRequest>) -> Result<Response<ProclaimResponse>, Status> {
        Err(not_yet(WHAT))
    }

    async fn leader(&self, _: Request<LeaderRequest>) -> Result<Response<LeaderResponse>, Status> {
        Err(not_yet(WHAT))
    }

    type ObserveStream = tokio_stream::Empty<Result<LeaderResponse, Status>>;

    async fn observe(&self, _: Request<LeaderRequest>) -> Result<Response<Self::ObserveStream>, Status> {
        Err(not_yet(WHAT))
    }

    async fn resign(&self, _: Request<ResignRequest>) -> Result<Response<ResignResponse>, Status> {
        Err(not_yet(WHAT))
    }
}
