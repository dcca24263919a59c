//! Watch requests: conversion, and what they bring.

use super::input::Input;
use super::state::{State, delete, put};
use bytes::Bytes;
use etcd_shim::fuzzing;
use etcd_shim::proto::EncodedEvent;
use etcd_shim::proto::etcdserverpb::watch_request::RequestUnion;
use etcd_shim::proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use etcd_shim::proto::plain::{etcdserverpb as plain, mvccpb};
use kvstore::Revision;
use kvstore::command::{Operation, Transaction};
use kvstore::mvcc::{Event, EventKind};
use kvstore::store::{CancelReason, Delivered, Delivery, WatchOptions, WatchRefused};
use kvstore::watch::{Hub, Session, WatchLimits};
use prost::Message;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// No more watchers than this in one input.
const WATCHERS_MAX: usize = 16;
/// Nor more requests.
const REQUESTS_MAX: usize = 64;
/// Sizes of messages that the events here are around, in bytes.
const MESSAGE_LIMITS: [usize; 4] = [1, 60, 110, 300];

/// Bytes: the requests of one stream, each with its length before it. All watch the same short history; half of it is there
/// from the beginning. One that asks for nothing is a moment: one more revision is written, the server's timer ticks, and
/// the client reads all that is ready. What is not written then is written at the end.
pub fn watch(data: &[u8]) {
    let mut input = Input::new(data);
    let mut stream = Stream::open();
    for _ in 0..REQUESTS_MAX {
        if input.is_empty() || stream.created == WATCHERS_MAX {
            break;
        }
        let Ok(request) = WatchRequest::decode(Bytes::copy_from_slice(input.piece())) else { return };
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => stream.create(request),
            Some(RequestUnion::CancelRequest(request)) => stream.cancel(request.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => stream.request_progress(),
            None => stream.moment(),
        }
    }
    stream.finish();
}

/// A watcher that was accepted.
#[derive(Clone)]
struct Watcher {
    /// Among all that were ever accepted.
    number: usize,
    options: WatchOptions,
    created_at: Revision,
    /// So many events of the history were there when the client last read.
    events_read: usize,
}

/// The naive stream beside the session.
struct Stream {
    state: State,
    hub: Arc<Hub>,
    session: Session,
    /// What is written yet.
    history: VecDeque<Vec<Operation>>,
    created: usize,
    living: BTreeMap<i64, Watcher>,
    /// Accepted and not told of it, in order.
    unannounced: VecDeque<(i64, Watcher)>,
    /// What has to be told of those that ended, in order.
    ended: Vec<(i64, CancelReason, Events)>,
    told: Told,
    questions: usize,
    /// The newest revision when the client asked for progress, until there is an answer.
    asked_at: Option<Revision>,
}

/// Revision and position of each event.
type Events = Vec<(i64, u32)>;

/// What the client was told.
#[derive(Default)]
struct Told {
    living: BTreeMap<i64, (Watcher, Events)>,
    /// In order.
    ended: Vec<(i64, CancelReason, Events)>,
    answers: usize,
}

impl Stream {
    fn open() -> Self {
        let mut state = State::with_history();
        let hub = Hub::new(state.reader(), small());
        Self {
            session: hub.session(),
            state,
            hub,
            history: more_history(),
            created: 0,
            living: BTreeMap::new(),
            unannounced: VecDeque::new(),
            ended: Vec::new(),
            told: Told::default(),
            questions: 0,
            asked_at: None,
        }
    }

    fn create(&mut self, request: WatchCreateRequest) {
        let options = match fuzzing::watch_options(request) {
            Ok(options) => options,
            Err(reason) => return check_refusal(reason.to_owned()),
        };
        let id = match self.session.create(options.clone()) {
            Ok(id) => id,
            Err(refused) => return self.check_refused(&refused, &options),
        };
        assert!(options.id.is_none_or(|wanted| wanted == id));
        let (created_at, floor) = (self.newest(), self.state.reader().floor());
        let watcher = Watcher { number: self.created, options, created_at, events_read: 0 };
        self.created += 1;
        self.unannounced.push_back((id, watcher.clone()));
        if watcher.options.start != Revision::NONE && watcher.options.start < floor {
            // Created and ended at once: its id is free again.
            self.ended.push((id, CancelReason::Compacted { floor }, Vec::new()));
        } else {
            assert!(self.living.insert(id, watcher).is_none(), "an id is given once");
        }
    }

    fn check_refused(&self, refused: &WatchRefused, options: &WatchOptions) {
        match refused {
            WatchRefused::EmptyRange => assert!(options.range.is_empty()),
            WatchRefused::DuplicateId(id) => assert!(self.living.contains_key(id)),
            other => panic!("{other}: {options:?}"),
        }
        check_refusal(fuzzing::watch_refusal(refused));
    }

    /// What was not read is not told any more.
    fn cancel(&mut self, id: i64) {
        let watcher = self.living.remove(&id);
        assert_eq!(self.session.cancel(id), watcher.is_some(), "{id} ends once");
        if let Some(watcher) = watcher {
            let events = self.expected(&watcher, watcher.events_read);
            self.ended.push((id, CancelReason::Requested, events));
        }
        if self.living.is_empty() {
            self.asked_at = None;
        }
    }

    fn request_progress(&mut self) {
        self.session.request_progress();
        self.questions += 1;
        if !self.living.is_empty() && self.asked_at.is_none() {
            self.asked_at = Some(self.newest());
        }
    }

    fn moment(&mut self) {
        if let Some(success) = self.history.pop_front() {
            let known = self.state.events.len();
            let written = self.state.transact(Transaction { success, ..Transaction::default() });
            written.expect("the history is not refused");
            self.hub.publish(&self.state.events[known..], self.newest());
        }
        self.session.tick_progress();
        while let Some(delivery) = next(&self.session) {
            self.take(delivery);
        }
        assert!(self.unannounced.is_empty(), "all are told that they exist");
        for watcher in self.living.values_mut() {
            watcher.events_read = self.state.events.len();
        }
    }

    fn take(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Created { id, revision } => {
                let (expected, watcher) = self.unannounced.pop_front().expect("somebody was created");
                assert_eq!((id, revision), (expected, watcher.created_at));
                let before = self.told.living.insert(id, (watcher, Events::new()));
                assert!(before.is_none(), "{id} is created once");
            }
            Delivery::Events { id, events, revision } => {
                check_fragments(id, &events);
                let (watcher, got) = self.told.living.get_mut(&id).expect("a watcher that lives");
                assert!(!events.is_empty());
                for told in &events {
                    let event = &told.event;
                    let plain = mvccpb::Event::decode(told.wire()).expect("an event is protobuf");
                    assert_eq!(plain.kv.map(|kv| kv.key), Some(event.kv.key_bytes()));
                    assert!(watcher.options.previous || plain.prev_kv.is_none());
                    assert!(event.revision() <= revision, "the header is not behind");
                    got.push((event.revision().get(), event.version.sub.get()));
                }
            }
            Delivery::Canceled { id, reason } => {
                let response = fuzzing::watch_canceled(id, reason, None).encode_to_vec();
                let plain = plain::WatchResponse::decode(&response[..]).expect("a response is readable");
                assert!(plain.canceled && !plain.created && plain.watch_id == id);
                let (_, got) = self.told.living.remove(&id).expect("a watcher that lives");
                self.told.ended.push((id, reason, got));
            }
            Delivery::Progress { id: Some(id), revision } => {
                let (watcher, _) = &self.told.living[&id];
                assert!(watcher.options.progress, "{id} did not want to know");
                self.check_progress(id, revision);
            }
            Delivery::Progress { id: None, revision } => {
                self.told.answers += 1;
                assert!(self.told.answers <= self.questions, "nobody asked for progress");
                assert!(self.asked_at.is_none_or(|asked_at| revision >= asked_at), "known already");
                self.asked_at = None;
                for id in self.told.living.keys() {
                    self.check_progress(*id, revision);
                }
            }
        }
    }

    /// Whoever is told of progress has been told everything up to there, unless it has ended meanwhile.
    fn check_progress(&self, id: i64, revision: Revision) {
        let (watcher, got) = &self.told.living[&id];
        if self.living.get(&id).is_some_and(|living| living.number == watcher.number) {
            let mut due = self.expected(watcher, self.state.events.len());
            due.retain(|(of, _)| *of <= revision.get());
            assert!(got.starts_with(&due), "{id} has {got:?} and was told of {revision}");
        }
        assert!(revision <= self.newest(), "{revision} is yet to come");
    }

    fn newest(&self) -> Revision {
        self.state.events.last().expect("there is a history").revision()
    }

    /// Of the first `count` events of the history those that a watcher must get.
    fn expected(&self, watcher: &Watcher, count: usize) -> Events {
        let Watcher { options, created_at, .. } = watcher;
        let from = if options.start == Revision::NONE { created_at.next() } else { options.start };
        let wanted = |event: &&Arc<Event>| {
            let filtered = match event.kind {
                EventKind::Put => options.no_put,
                EventKind::Delete => options.no_delete,
            };
            event.revision() >= from && options.range.contains(event.key()) && !filtered
        };
        let events = self.state.events[..count].iter().filter(wanted);
        events.map(|event| (event.revision().get(), event.version.sub.get())).collect()
    }

    fn finish(mut self) {
        // Once more even if all is written: the last requests are not answered yet.
        self.moment();
        while !self.history.is_empty() {
            self.moment();
        }
        let current = self.newest();
        let is_fed = self.living.values().all(|watcher| watcher.options.start <= current);
        assert!(!is_fed || self.asked_at.is_none(), "the question after progress has no answer");
        assert_eq!(self.told.living.len(), self.living.len(), "nobody else was told anything");
        for (id, watcher) in &self.living {
            let (_, got) = &self.told.living[id];
            assert_eq!(got, &self.expected(watcher, self.state.events.len()), "{:?}", watcher.options);
        }
        let all: Vec<i64> = self.living.keys().copied().collect();
        all.into_iter().for_each(|id| self.cancel(id));
        self.moment();
        assert_eq!(self.told.ended, self.ended);
        assert!(self.told.living.is_empty());
    }
}

/// The response to a watch that never came to be.
fn check_refusal(reason: String) {
    assert!(!reason.is_empty());
    let response = fuzzing::watch_refused(reason.clone(), None).encode_to_vec();
    let plain = plain::WatchResponse::decode(&response[..]).expect("a response is readable");
    assert!(plain.created && plain.canceled && plain.watch_id == -1);
    assert_eq!(plain.cancel_reason, reason);
}

/// Events split to the size of a message are the same events, in messages below that size or of one event.
fn check_fragments(id: i64, events: &[Delivered]) {
    let wires: Vec<Bytes> = events.iter().map(Delivered::wire).collect();
    let events = wires.iter().cloned().map(EncodedEvent).collect();
    let whole = WatchResponse { watch_id: id, events, ..Default::default() };
    for limit_bytes in MESSAGE_LIMITS {
        let parts = fuzzing::watch_split(whole.clone(), limit_bytes);
        let mut joined = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            assert_eq!((part.watch_id, part.fragment), (id, number + 1 < parts.len()));
            assert!(part.encoded_len() < limit_bytes || part.events.len() == 1, "{part:?}");
            joined.extend(part.events.iter().map(|event| event.0.clone()));
        }
        assert_eq!(joined, wires);
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

fn more_history() -> VecDeque<Vec<Operation>> {
    let steps = [
        vec![put("a", "new", 0), put("b", "new", 9)],
        vec![delete("a")],
        vec![put("zoo", "z", 0), delete("b"), put("a", "newer", 0)],
        vec![put("foo/1", "6", 9)],
    ];
    steps.into()
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
