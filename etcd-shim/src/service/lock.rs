//! Lock: not there yet.

use crate::convert::status::not_yet;
use crate::proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse, lock_server::Lock};
use tonic::{Request, Response, Status};

/// `v3lockpb.Lock`.
pub struct LockService;

#[tonic::async_trait]
impl Lock for LockService {
    async fn lock(&self, _: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        Err(not_yet("the lock service"))
    }

    async fn unlock(&self, _: Request<UnlockRequest>) -> Result<Response<UnlockResponse>, Status> {
        Err(not_yet("the lock service"))
    }
}
