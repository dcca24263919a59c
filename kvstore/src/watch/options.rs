//! What a watcher asks for, and what a session hands out.

use crate::mvcc::Event;
use crate::types::{Error, KeyRange, KeyValue, Revision};
use bytes::Bytes;
use std::sync::Arc;

/// What to watch, from where, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchOptions {
    /// The watcher's id, or `None` to take the session's next free one.
    pub id: Option<i64>,
    /// Which keys.
    pub range: KeyRange,
    /// The first revision whose events are wanted; [`Revision::NONE`] is "from now on".
    pub start: Revision,
    /// Whether each event must carry the version that it replaced.
    pub previous: bool,
    /// Leave out puts.
    pub no_put: bool,
    /// Leave out deletions.
    pub no_delete: bool,
    /// Whether [`Session::tick_progress`](super::Session::tick_progress) reports this watcher while it is idle.
    pub progress: bool,
    /// Whether the server may split one delivery into several messages. The hub never does; it only carries
    /// the wish to the place that knows the size of a message.
    pub fragment: bool,
}

impl WatchOptions {
    /// Everything that happens in `range` from now on.
    pub fn new(range: KeyRange) -> Self {
        Self {
            id: None,
            range,
            start: Revision::NONE,
            previous: false,
            no_put: false,
            no_delete: false,
            progress: false,
            fragment: false,
        }
    }
    /// The same, from `start` on.
    pub fn from_revision(mut self, start: Revision) -> Self {
        self.start = start;
        self
    }
}

/// Why a watcher was not created. Nothing is queued in that case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchRefused {
    /// The id asked for belongs to a watcher of this session.
    #[error("the watch id {0} is in use in this session")]
    DuplicateId(i64),
    /// No key can be in the range.
    #[error("the range to watch is empty")]
    EmptyRange,
    /// The session has as many watchers as it may have.
    #[error("the session has {limit} watchers, which is the limit")]
    TooManyWatchers {
        /// The bound.
        limit: usize,
    },
    /// The session's answers are not being read, and there are as many unread ones as there may be.
    #[error("the session has {limit} unread answers, which is the limit")]
    TooManyUnread {
        /// The bound.
        limit: usize,
    },
    /// The store is stopping.
    #[error("the store is stopped")]
    Stopped,
}

/// Why a watcher ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// [`Session::cancel`](super::Session::cancel).
    Requested,
    /// What it needed next is compacted. List again and watch from there.
    Compacted {
        /// The oldest revision that can still be watched from.
        floor: Revision,
    },
    /// The store stops, or stopped itself.
    Stopped,
    /// What it needed next cannot be read: the data is damaged. The store's log says where.
    Damaged,
    /// What it needed next could not be read, for a reason that the store's log has. The store and its other watchers
    /// go on.
    Unreadable,
}

impl CancelReason {
    /// What `error`, of reading the past, means for a watcher.
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::Compacted { floor } => Self::Compacted { floor: *floor },
            Error::Damaged { .. } => Self::Damaged,
            // The store goes on: only what it has to write itself, or to remove, ends it.
            _ => Self::Unreadable,
        }
    }
}

/// An event as one watcher is told of it.
///
/// What it replaced was looked up once, when the event was taken for delivery: a compaction that comes later
/// takes nothing away, and one that came earlier is not undone by another watcher's memory of the version.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The event, shared with every other watcher that gets it.
    pub event: Arc<Event>,
    /// The version before, if the watcher wants it, there was one, and it was not compacted.
    pub previous: Option<KeyValue>,
}

impl Delivered {
    /// The event in wire form, encoded once for all who are told the same.
    pub fn wire(&self) -> Bytes {
        self.event.wire(self.previous.as_ref())
    }
}

/// One thing for the reader of a session, in the order in which it must be passed on.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// The watcher exists. Always precedes everything else of that watcher.
    Created {
        /// The watcher.
        id: i64,
        /// The store's revision when it was created.
        revision: Revision,
    },
    /// Events of one watcher, in order; whole revisions only; never empty.
    Events {
        /// The watcher.
        id: i64,
        /// The events, with the versions before for a watcher that wants them.
        events: Vec<Delivered>,
        /// For the header: the revision of the newest event, or the store's while catching up. It promises
        /// nothing about revisions without events.
        revision: Revision,
    },
    /// Everything up to `revision` was delivered.
    Progress {
        /// The watcher, or `None`: every watcher of the session.
        id: Option<i64>,
        /// No event at or below this revision follows.
        revision: Revision,
    },
    /// The watcher ended; nothing more of it follows and its id is free.
    Canceled {
        /// The watcher.
        id: i64,
        /// Why.
        reason: CancelReason,
    },
}
