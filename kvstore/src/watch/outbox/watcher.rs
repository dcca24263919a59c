//! A watcher as its session knows it, and what waits for it.

use crate::types::{KeyRange, Revision};
use crate::watch::batch::{Batch, Filter};
use crate::watch::options::CancelReason;
use std::collections::VecDeque;
use std::sync::Arc;

/// Names a watcher of a session; never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::watch) struct WatcherRef {
    pub(in crate::watch) serial: u64,
    pub(super) slot: u32,
}

/// Where a watcher gets its events from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) enum Mode {
    /// From each publish.
    Live,
    /// From the past, read by the session itself.
    Lagging,
    /// From nowhere: it gets what is queued and then this reason.
    Ended(CancelReason),
}

/// A watcher as its session knows it.
pub(in crate::watch) struct Watcher {
    pub(in crate::watch) id: i64,
    pub(in crate::watch) serial: u64,
    pub(in crate::watch) range: KeyRange,
    pub(in crate::watch) filter: Filter,
    pub(in crate::watch) mode: Mode,
    /// The start that was asked for: only there may a previous version be missing, as in etcd.
    pub(super) start: Revision,
    pub(super) previous: bool,
    pub(super) progress: bool,
    pub(super) pending: VecDeque<Entry>,
    /// Whether a token for `pending` is in the queue.
    pub(super) queued: bool,
    /// Whether a token for this watcher's progress is in the queue.
    pub(super) progress_queued: bool,
    /// Whether events went out since the last tick.
    pub(super) busy: bool,
}

/// A batch on its way to one watcher.
pub(super) struct Entry {
    pub(super) batch: Arc<Batch>,
    /// The first event that was not handed out.
    pub(super) place: usize,
    /// Events below are not for this watcher.
    pub(super) from: Revision,
    /// The store's revision while catching up, else none: what the header shows.
    pub(super) current: Revision,
    /// Bytes on this entry's account: watchers of one session share a batch, and its first holder pays.
    pub(super) charged: usize,
}

pub(super) fn find(watchers: &mut [Option<Watcher>], at: WatcherRef) -> Option<&mut Watcher> {
    watchers.get_mut(at.slot as usize)?.as_mut().filter(|watcher| watcher.serial == at.serial)
}
