//! Maintenance.

use super::Shared;
use crate::convert::maintenance::{alarm_kind, alarm_member, alarm_text, compact_revision};
use crate::convert::status::{self, not_yet};
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, DowngradeInfo, DowngradeRequest,
    DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse, MoveLeaderRequest,
    MoveLeaderResponse, SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse,
    maintenance_server::Maintenance,
};
use kvstore::Revision;
use kvstore::command::Alarm;
use kvstore::store::{HashKv, Status as StoreStatus};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// `etcdserverpb.Maintenance`.
pub struct MaintenanceService {
    pub(super) shared: Arc<Shared>,
}

impl MaintenanceService {
    /// Hashes off this thread: every record of the keyspace is read.
    async fn hash(&self, at: Option<Revision>) -> Result<HashKv, Status> {
        let keyspace = self.shared.keyspace.clone();
        self.shared.large_reads.hash(move || keyspace.hash_kv(at)).await?.map_err(status::of)
    }

    async fn change_alarm(&self, alarm: Alarm, activate: bool) -> Result<(Vec<Alarm>, Revision), Status> {
        let store = &self.shared.store;
        let was_set = store.alarms().contains(&alarm);
        let changed =
            if activate { store.alarm_activate(alarm).await } else { store.alarm_deactivate(alarm).await };
        let (_, revision) = changed.map_err(status::of)?;
        // etcd shows the one that was set or cleared; clearing one that was not set shows nothing.
        let shown = if activate || was_set { vec![alarm] } else { Vec::new() };
        Ok((shown, revision))
    }

    /// The id that clients know a node by.
    fn member_of(&self, status: &StoreStatus) -> u64 {
        match status.leader {
            Some(leader) if leader == status.node_id => self.shared.identity.member_id,
            Some(leader) => leader.get(),
            None => 0,
        }
    }
}

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let status = self.shared.store.status();
        let identity = &self.shared.identity;
        let mut errors = Vec::new();
        if status.leader.is_none() {
            errors.push(status::NO_LEADER.1.to_owned());
        }
        errors.extend(status.alarms.iter().map(alarm_text));
        Ok(Response::new(StatusResponse {
            header: self.shared.headers.at(self.shared.keyspace.revision(), status.term),
            version: identity.version.clone(),
            // What is not flushed yet is only in the log; etcd's size in use is never above its size.
            db_size: status.disk_bytes.max(status.live_bytes) as i64,
            leader: self.member_of(&status),
            raft_index: status.committed.get(),
            raft_term: status.term.get(),
            raft_applied_index: status.applied.get(),
            errors,
            db_size_in_use: status.live_bytes as i64,
            is_learner: status.is_learner,
            storage_version: storage_version(&identity.version),
            // etcd's flag is negative when the quota is off.
            db_size_quota: status.quota_bytes.map_or(-1, |bytes| bytes as i64),
            downgrade_info: Some(DowngradeInfo::default()),
        }))
    }

    async fn alarm(&self, request: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        let request = request.into_inner();
        let kind = alarm_kind(request.alarm);
        let (alarms, revision) = match (AlarmAction::try_from(request.action), kind) {
            (Ok(AlarmAction::Get), _) => {
                self.shared.keyspace.read_barrier().await.map_err(status::of)?;
                let mut alarms = self.shared.store.alarms();
                alarms.retain(|alarm| request.alarm == 0 || Some(alarm.kind) == kind);
                (alarms, self.shared.keyspace.revision())
            }
            (Ok(action), Some(kind)) => {
                let alarm = Alarm { member: request.member_id, kind };
                self.change_alarm(alarm, action == AlarmAction::Activate).await?
            }
            // "All" or an unknown number cannot be set or cleared: nothing happens, as in etcd.
            _ => (Vec::new(), self.shared.keyspace.revision()),
        };
        Ok(Response::new(AlarmResponse {
            header: self.shared.header(revision),
            alarms: alarms.iter().map(alarm_member).collect(),
        }))
    }

    /// There is nothing to do: space comes back by itself after a compaction. No header, as in etcd.
    async fn defragment(
        &self,
        _: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        Ok(Response::new(DefragmentResponse { header: None }))
    }

    /// The hash of all data; here the same as [`Self::hash_kv`] at the newest revision.
    async fn hash(&self, _: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let hashed = self.hash(None).await?;
        Ok(Response::new(HashResponse { header: self.shared.header(hashed.current), hash: hashed.hash }))
    }

    async fn hash_kv(&self, request: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        let revision = request.into_inner().revision;
        let hashed = self.hash((revision > 0).then(|| Revision::new(revision))).await?;
        Ok(Response::new(HashKvResponse {
            header: self.shared.header(hashed.current),
            hash: hashed.hash,
            compact_revision: compact_revision(hashed.compact_revision),
            hash_revision: hashed.hash_revision.get(),
        }))
    }

    type SnapshotStream = tokio_stream::Empty<Result<SnapshotResponse, Status>>;

    async fn snapshot(&self, _: Request<SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(not_yet("a snapshot"))
    }

    async fn move_leader(
        &self,
        _: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        Err(not_yet("moving the leader"))
    }

    async fn downgrade(&self, _: Request<DowngradeRequest>) -> Result<Response<DowngradeResponse>, Status> {
        Err(not_yet("a downgrade"))
    }
}

/// The version without its patch level: etcd's data format follows the minor version.
fn storage_version(version: &str) -> String {
    let mut parts = version.splitn(3, '.');
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => format!("{major}.{minor}.0"),
        _ => version.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_storage_version_has_no_patch_level() {
        assert_eq!(storage_version("3.7.3"), "3.7.0");
        assert_eq!(storage_version("3.8.0-alpha.0"), "3.8.0");
        assert_eq!(storage_version("odd"), "odd");
    }
}
