//! How a store is opened.

use crate::runtime::Placement;
use crate::types::{Error, NodeId, Result};
use std::path::PathBuf;

/// The longest time to live of a lease, in seconds (etcd's bound).
pub const LEASE_TTL_MAX_S: i64 = 9_000_000_000;

/// Settings of one store. Everything but `node_id` and `cluster_id` may change from start to start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything is kept. Made if missing; must be empty or a data directory of this store.
    pub data_dir: PathBuf,
    /// This member's id; used when the directory is new, kept from then on.
    pub node_id: NodeId,
    /// The cluster's id; used when the directory is new, kept from then on.
    pub cluster_id: u64,
    /// Length of a tick in milliseconds: heartbeats go out once a tick.
    pub heartbeat_ms: u64,
    /// Time without a leader after which a member stands for election, in milliseconds.
    pub election_ms: u64,
    /// Writes are refused once the live data reaches this; `None` for no bound.
    pub quota_bytes: Option<u64>,
    /// Operations in one list of a transaction.
    pub max_txn_ops: usize,
    /// Bytes of one command.
    pub max_request_bytes: usize,
    /// Bytes of values kept in memory for reads.
    pub value_cache_bytes: usize,
    /// Bytes of one log segment: a multiple of 4096, from 64 KiB to 1 GiB.
    pub log_segment_bytes: u64,
    /// Log written since the last flush of the storage engine that makes the next one due, in bytes. It bounds the
    /// log's size on disk, the memory of unflushed data and the replay at the next start.
    pub flush_log_bytes: u64,
    /// Where the core runs.
    pub placement: Placement,
}

impl Config {
    /// The defaults for a single node in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            node_id: NodeId::new(1),
            cluster_id: 1,
            heartbeat_ms: 100,
            election_ms: 1_000,
            quota_bytes: Some(2 << 30),
            max_txn_ops: 128,
            max_request_bytes: 1_572_864,
            value_cache_bytes: 32 << 20,
            log_segment_bytes: 16 << 20,
            flush_log_bytes: 16 << 20,
            placement: Placement::Thread,
        }
    }

    /// The least time to live of a lease, in seconds: one and a half election timeouts (etcd's rule), so that a
    /// lease outlives a change of leader.
    pub fn lease_ttl_min_s(&self) -> i64 {
        (self.election_ms * 3 / 2).div_ceil(1_000) as i64
    }

    pub(super) fn validate(&self) -> Result<()> {
        let fail = |text: &str| Err(Error::Config(text.into()));
        if self.node_id.get() == 0 {
            return fail("node_id must not be 0");
        }
        if self.heartbeat_ms == 0 || self.election_ms < 5 * self.heartbeat_ms {
            return fail("election_ms must be at least five times heartbeat_ms, and heartbeat_ms at least 1");
        }
        if self.election_ms > 50_000 {
            return fail("election_ms must not be above 50000: no failure would be noticed in time");
        }
        if self.max_txn_ops == 0 || self.max_request_bytes == 0 {
            return fail("max_txn_ops and max_request_bytes must be at least 1");
        }
        if self.log_segment_bytes < 64 << 10 || self.flush_log_bytes < 64 << 10 {
            return fail("log_segment_bytes and flush_log_bytes must be at least 64 KiB");
        }
        Ok(())
    }
}
