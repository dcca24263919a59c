//! Watchers: streams with some watches each, opened, changed, dropped and resumed at random, and every word of them kept.
//!
//! A watch that loses its stream goes on behind the last revision that it has whole, or behind the last progress: that is
//! all a client has to do, and what `guarantees` proves to be enough.

use crate::history::{Event, KEYS, Key, Moment};
use crate::run::{Random, Run};
use crate::wire;
use holdfast_tests::wire::etcdserverpb::watch_client::WatchClient;
use holdfast_tests::wire::etcdserverpb::watch_request::RequestUnion;
use holdfast_tests::wire::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

const WATCHES_PER_STREAM: usize = 3;
/// Between two things that a client does on its own.
const ACT_EVERY: Duration = Duration::from_millis(40);
/// Requests that may wait; the stream itself takes them at once.
const REQUESTS_MAX: usize = 64;
/// How far into the past a watch may begin, and into the future.
const PAST_REVISIONS: u64 = 600;
/// The same where large values are read again each time.
const RECENT_REVISIONS: u64 = 40;
pub const FUTURE_REVISIONS: u64 = 40;

/// What a watch asks for.
#[derive(Clone, Debug)]
pub struct Options {
    pub keys: Range<Key>,
    /// 0: from now on.
    pub start: i64,
    pub previous: bool,
    pub no_put: bool,
    pub no_delete: bool,
    pub progress: bool,
    pub fragment: bool,
}

impl Options {
    pub fn wants(&self, event: &Event) -> bool {
        self.keys.contains(&event.record.key) && !(if event.is_delete { self.no_delete } else { self.no_put })
    }
}

/// What went over a stream, in the order in which the client saw it.
#[derive(Clone, Debug)]
pub enum Message {
    Create(Options),
    Cancel {
        watch: i64,
    },
    Created {
        watch: i64,
        revision: i64,
    },
    Events {
        watch: i64,
        revision: i64,
        /// More of the same revision may follow.
        fragment: bool,
        events: Vec<Event>,
    },
    /// Of one watch, or of the whole stream.
    Progress {
        watch: Option<i64>,
        revision: i64,
    },
    Canceled {
        watch: i64,
        /// The oldest revision left, if that is the reason.
        compacted: i64,
        reason: String,
    },
}

/// One stream from its opening to its end.
pub type Log = Vec<(Moment, Message)>;

/// How a stream chooses its watches.
pub type Choose = fn(&Run, &mut Random) -> Options;

/// Watches until the run has a last revision and all watches have been told that they are there.
pub async fn watch(channel: Channel, run: Arc<Run>, mut random: Random, choose: Choose) -> Vec<Log> {
    let mut logs = Vec::new();
    let mut wanted = (0..WATCHES_PER_STREAM).map(|_| choose(&run, &mut random)).collect::<Vec<_>>();
    loop {
        let (requests, receiver) = tokio::sync::mpsc::channel(REQUESTS_MAX);
        let mut client = Client::new(&run, requests, choose);
        for options in wanted {
            client.create(options).await;
        }
        // A server may wait for a first event before it says anything: the requests go first.
        if let Ok(answers) = WatchClient::new(channel.clone()).watch(ReceiverStream::new(receiver)).await {
            client.talk(answers.into_inner(), &mut random).await;
        }
        let done = client.is_done();
        wanted = client.rest();
        logs.push(client.log);
        if done {
            return logs;
        }
        if run.last().is_none() {
            for watch in &mut wanted {
                if random.one_in(3) {
                    *watch = choose(&run, &mut random);
                }
            }
        }
        // An empty stream may be told nothing, not even that it is there.
        while wanted.len() < WATCHES_PER_STREAM {
            wanted.push(choose(&run, &mut random));
        }
        run.serving().await;
    }
}

/// Everything, with what was there before, in fragments: from a revision that is there, so that the run's last word is told
/// to each of these, however late it began.
pub fn fragments(run: &Run, random: &mut Random) -> Options {
    Options {
        keys: 0..KEYS,
        start: (run.followed() - random.below(RECENT_REVISIONS) as i64).max(1),
        previous: true,
        no_put: random.one_in(3),
        no_delete: false,
        progress: random.one_in(2),
        fragment: true,
    }
}

/// Anything that a watch can ask for.
pub fn options(run: &Run, random: &mut Random) -> Options {
    let keys = match random.below(4) {
        0 => 0..KEYS,
        1 => {
            let decade = 10 * random.key(0..KEYS / 10);
            decade..decade + 10
        }
        2 => {
            let key = random.key(0..KEYS);
            key..key + 1
        }
        _ => {
            let start = random.key(0..KEYS - 2);
            start..start + 2 + random.key(0..KEYS - start - 1)
        }
    };
    let newest = run.followed();
    let start = match random.below(6) {
        0 | 1 => 0,
        // Once the clients have stopped, hardly any revision follows.
        2 if run.is_stopped() => 0,
        2 => newest + 1 + random.below(FUTURE_REVISIONS) as i64,
        // At the floor, where a previous version may be missing, and a little below and above it.
        3 => run.compacted() - 1 + random.below(3) as i64,
        _ => newest - random.below(PAST_REVISIONS) as i64,
    };
    let filter = random.below(6);
    Options {
        keys,
        start: start.max(0),
        previous: random.one_in(2),
        no_put: filter == 0,
        no_delete: filter == 1,
        progress: random.one_in(2),
        fragment: random.one_in(2),
    }
}

/// The client's side of a stream.
struct Client<'a> {
    run: &'a Run,
    choose: Choose,
    requests: Sender<WatchRequest>,
    log: Log,
    /// Asked for and not yet created, in order.
    pending: VecDeque<Options>,
    /// By id; `start` moves on with what has come.
    live: BTreeMap<i64, Options>,
}

impl<'a> Client<'a> {
    fn new(run: &'a Run, requests: Sender<WatchRequest>, choose: Choose) -> Client<'a> {
        Client { run, choose, requests, log: Vec::new(), pending: VecDeque::new(), live: BTreeMap::new() }
    }

    fn note(&mut self, message: Message) {
        self.log.push((self.run.now(), message));
    }

    /// Sends a request; a stream that has ended says so by itself.
    async fn send(&self, request: RequestUnion) {
        let _ = self.requests.send(WatchRequest { request_union: Some(request) }).await;
    }

    async fn create(&mut self, options: Options) {
        let (key, range_end) = wire::bounds(&options.keys);
        let filters = [(options.no_put, 0), (options.no_delete, 1)];
        let request = WatchCreateRequest {
            key,
            range_end,
            start_revision: options.start,
            prev_kv: options.previous,
            progress_notify: options.progress,
            fragment: options.fragment,
            filters: filters.into_iter().filter(|(wanted, _)| *wanted).map(|(_, filter)| filter).collect(),
            ..Default::default()
        };
        self.pending.push_back(options.clone());
        self.note(Message::Create(options));
        self.send(RequestUnion::CreateRequest(request)).await;
    }

    /// Reads and acts until the stream ends, is given up, or everything has come.
    async fn talk(&mut self, mut answers: tonic::Streaming<WatchResponse>, random: &mut Random) {
        let mut actions = tokio::time::interval(ACT_EVERY);
        actions.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.is_done() {
            tokio::select! {
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => self.take(&answer).await,
                    Ok(None) | Err(_) => return,
                },
                _ = actions.tick() => {
                    if !self.act(random).await {
                        return;
                    }
                }
            }
        }
    }

    /// Does something, or gives the stream up.
    async fn act(&mut self, random: &mut Random) -> bool {
        // A watch that goes on behind the last revision begins in the future, and a stream with one of those is told
        // of no progress until then.
        let ending = self.run.is_stopped();
        match random.below(24) {
            0 if !ending => return false,
            1 | 2 if !ending => {
                if let Some(watch) = self.live.keys().nth(random.below(4) as usize).copied() {
                    // It stays among the live ones until the server confirms.
                    self.note(Message::Cancel { watch });
                    self.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: watch })).await;
                }
            }
            3..=12 => self.send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await,
            _ if ending => self.send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await,
            _ => {}
        }
        if self.live.len() + self.pending.len() < WATCHES_PER_STREAM {
            self.create((self.choose)(self.run, random)).await;
        }
        true
    }

    async fn take(&mut self, answer: &WatchResponse) {
        let revision = answer.header.as_ref().expect("every answer has a header").revision;
        let watch = answer.watch_id;
        if answer.created {
            self.note(Message::Created { watch, revision });
            let mut options = self.pending.pop_front().expect("a watch that was asked for");
            if options.start == 0 {
                options.start = revision + 1;
            }
            self.live.insert(watch, options);
        }
        if answer.canceled {
            self.canceled(answer).await;
        } else if let Some(newest) = answer.events.last() {
            let newest = newest.kv.as_ref().expect("an event has a key").mod_revision;
            let events = answer.events.iter().map(wire::event).collect();
            self.note(Message::Events { watch, revision, fragment: answer.fragment, events });
            if let Some(options) = self.live.get_mut(&watch) {
                // The rest of a revision comes in the next fragment, or never: then all of it again.
                options.start = options.start.max(newest + i64::from(!answer.fragment));
            }
        } else if !answer.created {
            let watch = (watch >= 0).then_some(watch);
            self.note(Message::Progress { watch, revision });
            let told = self.live.iter_mut().filter(|(id, _)| watch.is_none_or(|watch| watch == **id));
            told.for_each(|(_, options)| options.start = options.start.max(revision + 1));
        }
    }

    async fn canceled(&mut self, answer: &WatchResponse) {
        let (watch, compacted) = (answer.watch_id, answer.compact_revision);
        self.note(Message::Canceled { watch, compacted, reason: answer.cancel_reason.clone() });
        let options = self.live.remove(&watch);
        // What clients do: list, which is none of our business here, and watch on from what is left.
        if let Some(options) = options.filter(|_| compacted > 0) {
            self.create(Options { start: compacted, ..options }).await;
        }
    }

    /// Whether all watches were told that they have everything.
    fn is_done(&self) -> bool {
        let Some(last) = self.run.last() else { return false };
        let all_live = self.live.len() == WATCHES_PER_STREAM && self.pending.is_empty();
        all_live && self.live.values().all(|options| options.start > last)
    }

    /// How to go on on the next stream.
    fn rest(&self) -> Vec<Options> {
        self.live.values().chain(&self.pending).cloned().collect()
    }
}

/// Everything from the first revision on, across all crashes, until the run has a last revision and it is there.
pub async fn follow(server: Channel, run: Arc<Run>) -> crate::history::Witness {
    let mut witness = crate::history::Witness::default();
    loop {
        let next = witness.revision() + 1;
        // The sender stays: to end the requests is to end the watch.
        let (requests, receiver) = channel(1);
        let create = WatchCreateRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            start_revision: next,
            prev_kv: true,
            ..Default::default()
        };
        let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        requests.send(create).await.expect("the receiver is here");
        let answers = WatchClient::new(server.clone()).watch(ReceiverStream::new(receiver)).await;
        let Ok(answers) = answers else {
            run.serving().await;
            continue;
        };
        let mut answers = answers.into_inner();
        loop {
            if run.last().is_some_and(|last| witness.revision() >= last) {
                return witness;
            }
            // The last revision may be known only after its events have come.
            let Ok(answer) = tokio::time::timeout(ACT_EVERY, answers.message()).await else { continue };
            let Ok(Some(answer)) = answer else { break };
            assert!(!answer.canceled, "the follower was canceled: {answer:?}");
            let seen = run.now();
            let (before, header) = (witness.revision(), answer.header.expect("a header").revision);
            for event in answer.events.iter().map(wire::event) {
                assert!(event.revision() > before, "revision {before} in two answers, or again: {event:?}");
                witness.push(event, seen);
            }
            assert!(header >= witness.revision() || answer.events.is_empty(), "a header behind its events");
            run.follow(witness.revision());
        }
        run.serving().await;
    }
}
