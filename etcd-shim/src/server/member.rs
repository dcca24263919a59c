//! The store as health and metrics see it.

use crate::convert::status;
use crate::http::{Answer, CallKind, Exposition, Facts, Member, Method};
use kvstore::command::RangeQuery;
use kvstore::store::{Consistency, HistogramSnapshot, Keyspace, MetricsSnapshot, Store};
use kvstore::{KeyRange, KeyspaceId};
use prost::Message;
use prost_types::FileDescriptorSet;

/// A store with the keyspace that clients see.
pub struct StoreMember {
    store: Store,
    keyspace: Keyspace,
}

impl StoreMember {
    /// Shows keyspace `default`.
    pub fn new(store: Store) -> StoreMember {
        let keyspace = store.keyspace(KeyspaceId::DEFAULT);
        StoreMember { store, keyspace }
    }

    fn read(&self, consistency: Consistency) -> Answer<'_> {
        Box::pin(async move {
            // etcd reads the empty key: a key that cannot exist, through the whole path of a read.
            let query = RangeQuery::new(KeyRange::single(&b""[..]));
            match self.keyspace.range(query, consistency).await {
                Ok(_) => Ok(()),
                Err(error) => Err(status::of(error).message().to_owned()),
            }
        })
    }
}

impl Member for StoreMember {
    fn serializable_read(&self) -> Answer<'_> {
        self.read(Consistency::Serializable)
    }

    fn linearizable_read(&self) -> Answer<'_> {
        self.read(Consistency::Linearizable)
    }

    fn facts(&self) -> Facts {
        let status = self.store.status();
        Facts {
            has_leader: status.leader.is_some(),
            is_learner: status.is_learner,
            alarms: status.alarms.iter().map(|alarm| alarm.kind).collect(),
        }
    }

    fn expose(&self, out: &mut Exposition) {
        self.expose_raft(out);
        self.expose_space(out);
        self.expose_keyspace(out);
        expose_work(out, &self.store.metrics());
    }
}

impl StoreMember {
    fn expose_raft(&self, out: &mut Exposition) {
        let status = self.store.status();
        let flag = |is: bool| f64::from(u8::from(is));
        let leads = status.leader == Some(status.node_id);
        out.gauge(
            "etcd_server_has_leader",
            "Whether or not a leader exists. 1 is existence, 0 is not.",
            flag(status.leader.is_some()),
        );
        let help = "Whether or not this member is a leader. 1 if is, 0 otherwise.";
        out.gauge("etcd_server_is_leader", help, flag(leads));
        let help = "Whether or not this member is a learner. 1 if is, 0 otherwise.";
        out.gauge("etcd_server_is_learner", help, flag(status.is_learner));
        // Gauges in etcd too, in spite of their names.
        let help = "The total number of consensus proposals committed.";
        out.gauge("etcd_server_proposals_committed_total", help, status.committed.get() as f64);
        let help = "The total number of consensus proposals applied.";
        out.gauge("etcd_server_proposals_applied_total", help, status.applied.get() as f64);
        let help = "The current number of pending proposals to commit.";
        out.gauge("etcd_server_proposals_pending", help, self.store.commands_in_flight() as f64);
    }

    fn expose_space(&self, out: &mut Exposition) {
        let status = self.store.status();
        let help = "Total size of the underlying database physically allocated in bytes.";
        out.gauge("etcd_mvcc_db_total_size_in_bytes", help, status.disk_bytes as f64);
        let help = "Total size of the underlying database logically in use in bytes.";
        out.gauge("etcd_mvcc_db_total_size_in_use_in_bytes", help, status.live_bytes as f64);
        let help = "Current backend storage quota size in bytes.";
        out.gauge("etcd_server_quota_backend_bytes", help, status.quota_bytes.unwrap_or(0) as f64);
        if status.alarms.is_empty() {
            return;
        }
        let help = "Alarms for every member in cluster. 1 for 'server_id' label with current ID.";
        let mut family = out.family("etcd_debugging_server_alarms", help, "gauge");
        for alarm in &status.alarms {
            let kind = match alarm.kind {
                kvstore::command::AlarmKind::NoSpace => "NOSPACE",
                kvstore::command::AlarmKind::Corrupt => "CORRUPT",
            };
            family.sample(&[("alarm_type", kind), ("server_id", &format!("{:x}", alarm.member))], 1.0);
        }
    }

    fn expose_keyspace(&self, out: &mut Exposition) {
        let snapshot = self.keyspace.reader().snapshot();
        let all = KeyRange::all();
        if let Ok(keys) = snapshot.count(&all, kvstore::command::ReadAt::Latest) {
            out.gauge("etcd_debugging_mvcc_keys_total", "Total number of keys.", keys as f64);
        }
        let help = "The current revision of store.";
        out.gauge("etcd_debugging_mvcc_current_revision", help, snapshot.revision().get() as f64);
        let help = "The revision of the last compaction in store.";
        out.gauge("etcd_debugging_mvcc_compact_revision", help, snapshot.floor().get().max(0) as f64);
        let watch = self.keyspace.watch_stats();
        let help = "Total number of watch streams.";
        out.gauge("etcd_debugging_mvcc_watch_stream_total", help, watch.sessions as f64);
        out.gauge("etcd_debugging_mvcc_watcher_total", "Total number of watchers.", watch.watchers as f64);
        let help = "Total number of unsynced slow watchers.";
        out.gauge("etcd_debugging_mvcc_slow_watcher_total", help, watch.lagging as f64);
        let help = "Total number of pending events to be sent.";
        out.gauge("etcd_debugging_mvcc_pending_events_total", help, watch.queued as f64);
        let help = "Total number of events sent by this member.";
        out.counter("etcd_debugging_mvcc_events_total", help, watch.delivered);
        let help = "How often a full session made a watcher fall back to reading the past.";
        out.counter("holdfast_watch_overflows_total", help, watch.overflows);
        let help = "Memory that the ring of recent events takes.";
        out.gauge("holdfast_watch_ring_bytes", help, watch.ring_bytes as f64);
        let help = "Leases that exist.";
        // Not known any more when the store has failed.
        if let Ok(count) = self.keyspace.lease_count() {
            out.gauge("holdfast_leases", help, count as f64);
        }
    }
}

fn expose_work(out: &mut Exposition, metrics: &MetricsSnapshot) {
    let help = "The latency distributions of fsync called by WAL.";
    histogram(out, "etcd_disk_wal_fsync_duration_seconds", help, &metrics.log_sync);
    let help = "The latency distributions of commit called by backend.";
    histogram(out, "etcd_disk_backend_commit_duration_seconds", help, &metrics.apply);
    let help = "Total number of bytes written in WAL.";
    out.gauge("etcd_disk_wal_write_bytes_total", help, metrics.log_bytes as f64);
    for (name, help, value) in [
        (
            "etcd_server_leader_changes_seen_total",
            "The number of leader changes seen.",
            metrics.leader_changes,
        ),
        (
            "etcd_server_proposals_failed_total",
            "The total number of failed proposals seen.",
            metrics.commands_refused,
        ),
        (
            "etcd_debugging_server_lease_expired_total",
            "The total number of expired leases.",
            metrics.leases_expired,
        ),
        ("holdfast_entries_proposed_total", "Raft entries proposed.", metrics.entries_proposed),
        ("holdfast_commands_applied_total", "Commands applied.", metrics.commands_applied),
        ("holdfast_read_indexes_total", "Reads that had to ask the group.", metrics.read_indexes),
        ("holdfast_flushes_total", "Flushes of the storage engine.", metrics.flushes),
        (
            "holdfast_syncs_beside_total",
            "Log writes that were synced on a thread beside the one that serves requests.",
            metrics.syncs_beside,
        ),
        ("holdfast_versions_removed_total", "Dead versions removed by compaction.", metrics.versions_removed),
        (
            "holdfast_removals_failed_total",
            "Removals of dead versions that met data that could not be read.",
            metrics.removals_failed,
        ),
    ] {
        out.counter(name, help, value);
    }
}

fn histogram(out: &mut Exposition, name: &str, help: &str, snapshot: &HistogramSnapshot) {
    let mut family = out.family(name, help, "histogram");
    family.histogram(&[], &snapshot.buckets, snapshot.count, snapshot.sum_s);
}

/// Every method of every service, for counting calls.
pub fn methods() -> Vec<Method> {
    let mut methods = Vec::new();
    for descriptors in [crate::proto::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET] {
        // Both were compiled with this binary; a test reads them.
        let set = FileDescriptorSet::decode(descriptors).expect("compiled descriptors are valid");
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    methods.push(Method {
                        service: format!("{}.{}", file.package(), service.name()),
                        name: method.name().to_owned(),
                        kind: CallKind::new(method.client_streaming(), method.server_streaming()),
                    });
                }
            }
        }
    }
    methods
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_known_by_its_kind() {
        let methods = methods();
        let kind = |service: &str, name: &str| {
            methods.iter().find(|method| method.service == service && method.name == name).map(|m| m.kind)
        };
        assert_eq!(kind("etcdserverpb.KV", "Range"), Some(CallKind::Unary));
        assert_eq!(kind("etcdserverpb.Watch", "Watch"), Some(CallKind::BidiStream));
        assert_eq!(kind("etcdserverpb.Lease", "LeaseKeepAlive"), Some(CallKind::BidiStream));
        assert_eq!(kind("etcdserverpb.Maintenance", "Snapshot"), Some(CallKind::ServerStream));
        assert_eq!(kind("grpc.health.v1.Health", "Check"), Some(CallKind::Unary));
    }
}
