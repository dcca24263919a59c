//! Watches.

use super::{range::key_range, status};
use crate::proto::etcdserverpb::watch_create_request::FilterType;
use crate::proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use bytes::Bytes;
use kvstore::Revision;
use kvstore::store::{CancelReason, WatchOptions, WatchRefused};

/// The id in responses that belong to no watch: refusals, and progress of the whole stream.
pub const NO_WATCH: i64 = -1;

/// Why a watch ends that needs what could not be read. Its stream goes on: a client that only lost its stream would open
/// another and ask for the same at once, again and again.
const UNREADABLE: &str =
    "etcdserver: the history that this watch needs could not be read (see the server's log)";

/// The watch that `request` asks for; an `Err` is the reason to refuse it, as clients see it.
pub fn options(request: WatchCreateRequest) -> Result<WatchOptions, &'static str> {
    if request.start_revision < 0 {
        return Err(status::COMPACTED.1);
    }
    // "\0" is the smallest key.
    let key = if request.key.is_empty() { Bytes::from_static(b"\0") } else { request.key };
    let filters = |wanted: FilterType| request.filters.contains(&(wanted as i32));
    Ok(WatchOptions {
        id: (request.watch_id != 0).then_some(request.watch_id),
        start: Revision::new(request.start_revision),
        previous: request.prev_kv,
        no_put: filters(FilterType::Noput),
        no_delete: filters(FilterType::Nodelete),
        progress: request.progress_notify,
        fragment: request.fragment,
        range: key_range(key, request.range_end),
    })
}

/// Why a watch was refused, in etcd's words where it has them.
pub fn refusal(refused: &WatchRefused) -> String {
    match refused {
        WatchRefused::EmptyRange => "mvcc: watcher range is empty".into(),
        WatchRefused::DuplicateId(_) => "mvcc: duplicate watch ID provided on the WatchStream".into(),
        other => format!("etcdserver: {other}"),
    }
}

/// A watch that never came to be.
pub fn refused(reason: String, header: Option<ResponseHeader>) -> WatchResponse {
    WatchResponse {
        header,
        watch_id: NO_WATCH,
        created: true,
        canceled: true,
        cancel_reason: reason,
        ..Default::default()
    }
}

/// The end of a watch. `header` has revision 0 when history it needs is gone; then no reason is given either.
pub fn canceled(watch_id: i64, reason: CancelReason, header: Option<ResponseHeader>) -> WatchResponse {
    let (compact_revision, cancel_reason) = match reason {
        CancelReason::Compacted { floor } => (floor.get(), String::new()),
        CancelReason::Unreadable => (0, UNREADABLE.to_owned()),
        CancelReason::Requested | CancelReason::Stopped | CancelReason::Damaged => (0, String::new()),
    };
    WatchResponse { header, watch_id, canceled: true, compact_revision, cancel_reason, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvstore::RangeEnd;

    #[test]
    fn an_empty_key_is_the_smallest_one() {
        let request = WatchCreateRequest { range_end: Bytes::from_static(b"\0"), ..Default::default() };
        let options = options(request).unwrap();
        assert_eq!((&options.range.start[..], options.range.end), (&b"\0"[..], RangeEnd::Unbounded));
        assert_eq!((options.id, options.start), (None, Revision::NONE));
    }

    #[test]
    fn filters_and_ids() {
        let request = WatchCreateRequest {
            key: "k".into(),
            watch_id: -5,
            filters: vec![1, 9],
            prev_kv: true,
            ..Default::default()
        };
        let options = options(request).unwrap();
        assert_eq!(
            (options.no_put, options.no_delete, options.previous, options.id),
            (false, true, true, Some(-5))
        );
    }

    #[test]
    fn the_end_of_a_watch_says_why() {
        let end = |reason| {
            let response = canceled(7, reason, None);
            assert!(response.canceled && response.watch_id == 7);
            (response.compact_revision, response.cancel_reason)
        };
        assert_eq!(end(CancelReason::Compacted { floor: Revision::new(5) }), (5, String::new()));
        assert_eq!(end(CancelReason::Requested), (0, String::new()));
        let (floor, reason) = end(CancelReason::Unreadable);
        assert!(floor == 0 && reason.contains("could not be read"), "{floor} {reason}");
    }

    #[test]
    fn a_negative_start_is_compacted() {
        let reason = options(WatchCreateRequest { start_revision: -1, ..Default::default() }).unwrap_err();
        assert_eq!(reason, "etcdserver: mvcc: required revision has been compacted");
    }
}
