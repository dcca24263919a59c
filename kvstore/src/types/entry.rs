//! What consensus hands to the log: entries and the hard state.

use super::{LogIndex, NodeId, Term};
use bytes::Bytes;

/// What a member must never forget: written before any message that depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct HardState {
    /// The newest term the member has seen.
    pub term: Term,
    /// Whom it voted for in that term; 0 is nobody.
    pub vote: NodeId,
    /// The commit index it knew when this was written; it may lag, never lead.
    pub commit: LogIndex,
}

/// What a log entry carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A batch of commands; empty for the entry a new leader begins its term with.
    Normal,
    /// A membership change of one member, in raft's first encoding.
    ConfChange,
    /// A membership change, in raft's second encoding.
    ConfChangeV2,
}

/// One entry of the raft log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its position.
    pub index: LogIndex,
    /// The term of the leader that proposed it.
    pub term: Term,
    /// What it carries.
    pub kind: EntryKind,
    /// The payload, shared.
    pub data: Bytes,
}
