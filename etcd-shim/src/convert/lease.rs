//! Leases.

use crate::proto::etcdserverpb::{LeaseLeasesResponse, LeaseStatus, LeaseTimeToLiveResponse, ResponseHeader};
use kvstore::LeaseId;
use kvstore::store::LeaseInfo;

/// What is left of a lease; a missing one has −1.
pub fn time_to_live(
    id: i64,
    info: Option<LeaseInfo>,
    header: Option<ResponseHeader>,
) -> LeaseTimeToLiveResponse {
    match info {
        Some(info) => LeaseTimeToLiveResponse {
            header,
            id,
            ttl: info.remaining_ttl_s,
            granted_ttl: info.granted_ttl_s,
            keys: info.keys,
        },
        None => LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() },
    }
}

/// All leases.
pub fn leases(ids: Vec<LeaseId>, header: Option<ResponseHeader>) -> LeaseLeasesResponse {
    LeaseLeasesResponse { header, leases: ids.into_iter().map(|id| LeaseStatus { id: id.get() }).collect() }
}
