//! What a store tells about itself.

use crate::command::Alarm;
use crate::types::{LogIndex, NodeId, Term};

/// One member's view at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// This member.
    pub node_id: NodeId,
    /// Its cluster.
    pub cluster_id: u64,
    /// Who leads, when known.
    pub leader: Option<NodeId>,
    /// The term.
    pub term: Term,
    /// The last entry whose effects are visible.
    pub applied: LogIndex,
    /// The last entry known to be committed.
    pub committed: LogIndex,
    /// Bytes of all versions that are not compacted.
    pub live_bytes: u64,
    /// Bytes on disk, log included.
    pub disk_bytes: u64,
    /// The bound on `live_bytes`.
    pub quota_bytes: Option<u64>,
    /// Alarms that are set, of all members.
    pub alarms: Vec<Alarm>,
    /// Whether this member does not vote.
    pub is_learner: bool,
}
