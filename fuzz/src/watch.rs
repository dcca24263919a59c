//! Watch requests: conversion, and the events they bring.

use super::input::Input;
use super::state::{State, delete, put};
use bytes::Bytes;
use etcd_shim::fuzzing;
use etcd_shim::proto::etcdserverpb::WatchCreateRequest;
use etcd_shim::proto::plain::mvccpb;
use kvstore::Revision;
use kvstore::command::Transaction;
use kvstore::mvcc::{Event, EventKind};
use kvstore::store::{CancelReason, Delivery, WatchOptions, WatchRefused};
use kvstore::watch::{Hub, Session, WatchLimits};
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// No more watchers than this in one input.
const WATCHERS_MAX: usize = 16;

/// Bytes: create requests, each with its length before it. All of them watch the same short history; half of it is
/// written after they were created.
pub fn watch(data: &[u8]) {
    let mut input = Input::new(data);
    let mut state = State::with_history();
    let hub = Hub::new(state.reader(), small());
    let session = hub.session();
    let floor = state.reader().floor();
    let mut watchers: BTreeMap<i64, WatchOptions> = BTreeMap::new();
    // Created and ended at once: their ids are free again.
    let mut too_late = Vec::new();
    while !input.is_empty() && watchers.len() + too_late.len() < WATCHERS_MAX {
        let Ok(request) = WatchCreateRequest::decode(Bytes::copy_from_slice(input.piece())) else { return };
        let options = match fuzzing::watch_options(request) {
            Ok(options) => options,
            Err(reason) => {
                assert!(!reason.is_empty());
                continue;
            }
        };
        match session.create(options.clone()) {
            Ok(id) => {
                assert!(options.id.is_none_or(|wanted| wanted == id));
                if options.start != Revision::NONE && options.start < floor {
                    too_late.push(id);
                    continue;
                }
                assert_eq!(watchers.insert(id, options), None, "an id is given once");
            }
            Err(refused) => check_refused(&refused, &options, &watchers),
        }
    }
    let created_at = state.reader().revision();
    let known = state.events.len();
    more_history(&mut state);
    let current = state.reader().revision();
    hub.publish(&state.events[known..], current);

    let Told { mut living, ended } = read_all(&session);
    for (id, options) in &watchers {
        let got = living.remove(id).expect("it was told that it exists");
        assert_eq!(got, expected(&state.events, options, created_at), "{options:?}");
    }
    assert!(living.is_empty(), "nobody else was told anything");
    let expected: Vec<_> =
        too_late.into_iter().map(|id| (id, CancelReason::Compacted { floor }, Vec::new())).collect();
    assert_eq!(ended, expected);
    for id in watchers.keys() {
        let lives = session.cancel(*id);
        assert!(!session.cancel(*id), "{id} ends once, {lives}");
    }
}

/// Limits that a short history reaches.
fn small() -> WatchLimits {
    WatchLimits {
        ring_bytes: 2 << 10,
        page_events: 2,
        delivery_revisions: 2,
        turn_events: 3,
        ..WatchLimits::default()
    }
}

fn more_history(state: &mut State) {
    let steps = [
        vec![put("a", "new", 0), put("b", "new", 9)],
        vec![delete("a")],
        vec![put("zoo", "z", 0), delete("b"), put("a", "newer", 0)],
        vec![put("foo/1", "6", 9)],
    ];
    for success in steps {
        state
            .transact(Transaction { success, ..Transaction::default() })
            .expect("the history is not refused");
    }
}

fn check_refused(refused: &WatchRefused, options: &WatchOptions, watchers: &BTreeMap<i64, WatchOptions>) {
    match refused {
        WatchRefused::EmptyRange => assert!(options.range.is_empty()),
        WatchRefused::DuplicateId(id) => assert!(watchers.contains_key(id)),
        other => panic!("{other}: {options:?}"),
    }
    assert!(!fuzzing::watch_refusal(refused).is_empty());
}

/// Revision and position of each event.
type Events = Vec<(i64, u32)>;

/// What watchers were told.
#[derive(Default)]
struct Told {
    living: BTreeMap<i64, Events>,
    /// In order.
    ended: Vec<(i64, CancelReason, Events)>,
}

fn read_all(session: &Session) -> Told {
    let mut told = Told::default();
    while let Some(delivery) = next(session) {
        match delivery {
            Delivery::Created { id, .. } => {
                assert_eq!(told.living.insert(id, Events::new()), None, "{id} is created once");
            }
            Delivery::Events { id, events, .. } => {
                let got = told.living.get_mut(&id).expect("a watcher that lives");
                assert!(!events.is_empty());
                for told in &events {
                    let event = &told.event;
                    let plain = mvccpb::Event::decode(told.wire()).expect("an event is protobuf");
                    assert_eq!(plain.kv.map(|kv| kv.key), Some(event.kv.key_bytes()));
                    got.push((event.revision().get(), event.version.sub.get()));
                }
            }
            Delivery::Canceled { id, reason } => {
                let got = told.living.remove(&id).expect("a watcher that lives");
                told.ended.push((id, reason, got));
            }
            Delivery::Progress { .. } => panic!("nobody asked for progress"),
        }
    }
    told
}

/// The events of the whole history that a watcher must get.
fn expected(events: &[Arc<Event>], options: &WatchOptions, created_at: Revision) -> Events {
    let from = if options.start == Revision::NONE { created_at.next() } else { options.start };
    let wanted = |event: &&Arc<Event>| {
        let filtered = match event.kind {
            EventKind::Put => options.no_put,
            EventKind::Delete => options.no_delete,
        };
        event.revision() >= from && options.range.contains(event.key()) && !filtered
    };
    events.iter().filter(wanted).map(|event| (event.revision().get(), event.version.sub.get())).collect()
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The next delivery; none when the session is idle.
fn next(session: &Session) -> Option<Delivery> {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    loop {
        let before = woken.0.load(Ordering::Relaxed);
        match session.poll_next(&mut Context::from_waker(&waker)) {
            Poll::Ready(delivery) => return Some(delivery),
            Poll::Pending if woken.0.load(Ordering::Relaxed) > before => {}
            Poll::Pending => return None,
        }
    }
}
