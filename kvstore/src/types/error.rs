//! Errors by what the caller must do.

use super::{NodeId, Revision};
use std::path::PathBuf;

/// What a caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The request was not executed; the same request may succeed later or at another member.
    RetryElsewhere,
    /// The request can never succeed as it is.
    FixRequest,
    /// The asked-for history is gone (or does not exist yet); list again and start from there.
    Compacted,
    /// A bound is reached; free something or slow down.
    Exhausted,
    /// The store has stopped for good; see its log.
    Fatal,
    /// The request may or may not have been executed; read before trying again.
    OutcomeUnknown,
}

/// Why a request was refused as malformed or impossible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// The key is empty.
    #[error("the key is empty")]
    EmptyKey,
    /// "keep the value" or "keep the lease" on a key that does not exist.
    #[error("the key to keep a value or lease of does not exist")]
    KeyNotFound,
    /// One transaction writes the same key twice.
    #[error("a transaction writes the same key twice")]
    DuplicateKey,
    /// A transaction has more operations or compares than the limit.
    #[error("a transaction has {count} operations in one list, the limit is {limit}")]
    TooManyOperations {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The request is larger than the limit.
    #[error("the request has {size_bytes} bytes, the limit is {limit_bytes}")]
    TooLarge {
        /// Its size.
        size_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// The lease to attach or renew does not exist.
    #[error("the lease does not exist")]
    LeaseNotFound,
    /// The lease id to grant is taken.
    #[error("the lease exists already")]
    LeaseExists,
    /// The time to live is above the limit.
    #[error("the lease's time to live is too large")]
    LeaseTtlTooLarge,
}

/// Any failure of the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request cannot be executed as it is.
    #[error("invalid request: {0}")]
    Invalid(#[from] InvalidRequest),
    /// The revision is below the compaction floor.
    #[error("revision is compacted; the oldest readable revision is {floor}")]
    Compacted {
        /// The oldest revision that can still be read.
        floor: Revision,
    },
    /// The revision does not exist yet.
    #[error("revision is in the future; the store is at {current}")]
    FutureRevision {
        /// The store's revision.
        current: Revision,
    },
    /// The quota or the disk is full; only deletes, compaction and reads pass.
    #[error("no space: {0}")]
    NoSpace(String),
    /// A member found its data corrupt; writes are refused.
    #[error("the data of a member is corrupt")]
    CorruptAlarm,
    /// More requests are in flight than the bound allows.
    #[error("too many requests in flight")]
    TooManyRequests,
    /// This member does not lead.
    #[error("this member is not the leader")]
    NotLeader {
        /// Who leads, when known.
        leader: Option<NodeId>,
    },
    /// There is no leader now.
    #[error("there is no leader")]
    NoLeader,
    /// The request did not finish in time; it was not proposed.
    #[error("the request timed out before it was proposed")]
    Timeout,
    /// The leader changed, or the caller's patience ended, after the request had been proposed.
    #[error("the outcome is unknown: {0}")]
    OutcomeUnknown(String),
    /// The store is stopping or has stopped.
    #[error("the store is stopped")]
    Stopped,
    /// The store stopped itself: a sync failed or an invariant broke. Nothing was acknowledged after that.
    #[error("the store stopped itself: {0}")]
    Poisoned(String),
    /// The disk did not give what a read needs. Nothing else is wrong: the store goes on, and a later read may succeed.
    #[error("the data could not be read: {0}")]
    Unreadable(String),
    /// The data directory cannot be used.
    #[error("{path}: {reason}", path = path.display())]
    DataDir {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A file is damaged.
    #[error("{path}: damaged at byte {offset}: {reason}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What was found.
        reason: String,
    },
    /// A snapshot cannot be written or read; the store that it is of is as it was.
    #[error("snapshot: {0}")]
    Snapshot(String),
    /// The configuration cannot be used.
    #[error("configuration: {0}")]
    Config(String),
}

impl Error {
    /// What the caller can do.
    pub fn action(&self) -> Action {
        match self {
            Error::Invalid(_) | Error::Config(_) | Error::Snapshot(_) => Action::FixRequest,
            Error::Compacted { .. } | Error::FutureRevision { .. } => Action::Compacted,
            Error::NoSpace(_) | Error::TooManyRequests => Action::Exhausted,
            Error::NotLeader { .. } | Error::NoLeader | Error::Timeout | Error::Unreadable(_) => {
                Action::RetryElsewhere
            }
            Error::OutcomeUnknown(_) => Action::OutcomeUnknown,
            Error::Stopped
            | Error::Poisoned(_)
            | Error::CorruptAlarm
            | Error::DataDir { .. }
            | Error::Damaged { .. } => Action::Fatal,
        }
    }
}

/// Result with the store's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
