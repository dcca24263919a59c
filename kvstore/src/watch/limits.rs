//! Every bound of this folder: its unit, its reason, and what happens at it.

/// The bounds of a hub and its sessions. `Default` is right for one store with a few hundred streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchLimits {
    /// Bytes of recent events kept in memory, so that a client that comes back, or a slow one, needs no disk.
    /// Beyond it the oldest go, and who needs those reads them from disk.
    pub ring_bytes: usize,
    /// Bytes of events that wait in one session. Beyond it a watcher stops being fed and catches up later
    /// from the ring or the disk: memory is bounded by sessions × this, and mostly shared with the ring.
    pub queue_bytes: usize,
    /// Entries (one batch for one watcher) that wait in one session; beyond it as with `queue_bytes`. Well
    /// above a large session's number of watchers, so that one event for all of them fits several times.
    pub queue_entries: usize,
    /// Bytes read in one step of catching up: about a millisecond from disk, so that other sessions on the
    /// same thread wait no longer than that.
    pub page_bytes: usize,
    /// Events in one step of catching up, for the same reason when events are small.
    pub page_events: usize,
    /// Different revisions in one delivery (etcd's bound for a batch of history).
    pub delivery_revisions: usize,
    /// Bytes in one delivery, so that one message never gets much larger than a request may be. A single
    /// revision that is larger still travels whole.
    pub delivery_bytes: usize,
    /// Events in one delivery to a watcher that wants previous versions: each may cost a read from disk.
    pub delivery_previous_events: usize,
    /// Events handled by a session before it lets the other tasks of its thread run.
    pub turn_events: usize,
    /// Watchers in one session; beyond it creating one is refused.
    pub watchers: usize,
    /// Answers (created, canceled, progress) that wait in one session; beyond it creating a watcher is
    /// refused. A client that sends requests and reads nothing meets this bound.
    pub unread: usize,
    /// Watchers that rejoin the live set in one go: the publisher waits for no more than these.
    pub join_watchers: usize,
}

/// Default of [`WatchLimits::ring_bytes`].
pub const RING_BYTES_MAX: usize = 8 << 20;
/// Default of [`WatchLimits::queue_bytes`].
pub const QUEUE_BYTES_MAX: usize = 2 << 20;
/// Default of [`WatchLimits::queue_entries`].
pub const QUEUE_ENTRIES_MAX: usize = 64 << 10;
/// Default of [`WatchLimits::page_bytes`].
pub const PAGE_BYTES_MAX: usize = 256 << 10;
/// Default of [`WatchLimits::page_events`].
pub const PAGE_EVENTS_MAX: usize = 1000;
/// Default of [`WatchLimits::delivery_revisions`].
pub const DELIVERY_REVISIONS_MAX: usize = 1000;
/// Default of [`WatchLimits::delivery_bytes`].
pub const DELIVERY_BYTES_MAX: usize = 1 << 20;
/// Default of [`WatchLimits::delivery_previous_events`].
pub const DELIVERY_PREVIOUS_EVENTS_MAX: usize = 256;
/// Default of [`WatchLimits::turn_events`].
pub const TURN_EVENTS_MAX: usize = 512;
/// Default of [`WatchLimits::watchers`].
pub const WATCHERS_MAX: usize = 64 << 10;
/// Default of [`WatchLimits::unread`].
pub const UNREAD_MAX: usize = 2 * WATCHERS_MAX;
/// Default of [`WatchLimits::join_watchers`].
pub const JOIN_WATCHERS_MAX: usize = 256;

/// Deliveries after which a session must do one step for its lagging watchers, even if more is ready: its
/// busy watchers must not starve the others.
pub(super) const DELIVERIES_BETWEEN_PAGES_MAX: usize = 16;
/// Revisions between two lagging watchers of a session below which they share one reading of history: reading
/// so many twice costs less than making one of them wait for the other.
pub(super) const RUN_GAP_REVISIONS_MAX: i64 = 1000;
/// Watchers that a closing session takes out of the hub in one go, for the reason of `join_watchers`.
pub(super) const LEAVE_WATCHERS_MAX: usize = 256;
/// Entries given to watchers before a waiting publisher is let in.
pub(super) const PUSHES_BETWEEN_YIELDS_MAX: usize = 256;

// One event for every watcher of a session must fit its queue, or a full session would lag for ever.
const _: () = assert!(QUEUE_ENTRIES_MAX >= WATCHERS_MAX);
// What catching up puts into a queue at once must fit into the half that it may use.
const _: () = assert!(PAGE_BYTES_MAX * 2 <= QUEUE_BYTES_MAX);
// Each watcher can owe two answers at once: created and canceled.
const _: () = assert!(UNREAD_MAX >= 2 * WATCHERS_MAX);

impl Default for WatchLimits {
    fn default() -> Self {
        Self {
            ring_bytes: RING_BYTES_MAX,
            queue_bytes: QUEUE_BYTES_MAX,
            queue_entries: QUEUE_ENTRIES_MAX,
            page_bytes: PAGE_BYTES_MAX,
            page_events: PAGE_EVENTS_MAX,
            delivery_revisions: DELIVERY_REVISIONS_MAX,
            delivery_bytes: DELIVERY_BYTES_MAX,
            delivery_previous_events: DELIVERY_PREVIOUS_EVENTS_MAX,
            turn_events: TURN_EVENTS_MAX,
            watchers: WATCHERS_MAX,
            unread: UNREAD_MAX,
            join_watchers: JOIN_WATCHERS_MAX,
        }
    }
}
