use super::*;
use crate::turn::{DELIVERIES_SLICE, Turn};
use futures_util::StreamExt as _;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough that something that is on its way would have come.
const QUIET: Duration = Duration::from_millis(80);
const REQUESTS_WAITING_MAX: usize = 64;

struct Watching {
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: tonic::Streaming<pb::WatchResponse>,
}

impl Watching {
    async fn open(server: &Server) -> Self {
        Self::open_with(server, http::Extensions::new()).await
    }

    async fn open_with(server: &Server, extensions: http::Extensions) -> Self {
        let (requests, receiver) = mpsc::channel(REQUESTS_WAITING_MAX);
        let mut client = WatchClient::new(server.routes.clone()).max_decoding_message_size(usize::MAX);
        let mut request = Request::new(ReceiverStream::new(receiver));
        *request.extensions_mut() = extensions;
        let responses = client.watch(request).await.unwrap().into_inner();
        Self { requests, responses }
    }

    async fn send(&self, request: RequestUnion) {
        self.requests.send(pb::WatchRequest { request_union: Some(request) }).await.unwrap();
    }

    async fn create(&self, request: pb::WatchCreateRequest) {
        self.send(RequestUnion::CreateRequest(request)).await;
    }

    async fn next(&mut self) -> pb::WatchResponse {
        tokio::time::timeout(PATIENCE, self.responses.message()).await.expect("an answer").unwrap().unwrap()
    }

    async fn assert_quiet(&mut self) {
        let more = tokio::time::timeout(QUIET, self.responses.next()).await;
        assert!(more.is_err(), "{more:?}");
    }
}

fn prefix(from: &str, to: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: from.to_owned().into(),
        range_end: to.to_owned().into(),
        ..Default::default()
    }
}

fn revisions(response: &pb::WatchResponse) -> Vec<i64> {
    response.events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision).collect()
}

#[tokio::test]
async fn events_follow_the_announcement_with_what_was_asked_for() {
    let server = Server::start();
    server.put("k", "0").await;
    let mut watching = Watching::open(&server).await;
    watching.create(pb::WatchCreateRequest { prev_kv: true, ..prefix("k", "l") }).await;
    let created = watching.next().await;
    assert!(created.created && !created.canceled);
    assert_eq!((created.watch_id, created.header.unwrap().revision), (0, 2));
    server.put("k", "1").await;
    let put = watching.next().await;
    assert_eq!((revisions(&put), put.header.unwrap().revision), (vec![3], 3));
    assert_eq!(put.events[0].prev_kv.as_ref().unwrap().value, "0");
    server.delete("k").await;
    server.put("other", "1").await;
    let deleted = watching.next().await.events.remove(0);
    assert_eq!((deleted.r#type, deleted.prev_kv.unwrap().value), (1, "1".into()));
    let kv = deleted.kv.unwrap();
    assert_eq!((&kv.key[..], kv.mod_revision, kv.create_revision, kv.version), (&b"k"[..], 4, 0, 0));
    watching.assert_quiet().await;
    server.stop().await;
}

#[tokio::test]
async fn the_past_is_replayed_and_filtered() {
    let server = Server::start();
    for value in ["1", "2"] {
        server.put("k", value).await;
    }
    server.delete("k").await;
    let mut watching = Watching::open(&server).await;
    watching.create(pb::WatchCreateRequest { start_revision: 3, filters: vec![1], ..prefix("k", "") }).await;
    watching.create(pb::WatchCreateRequest { start_revision: 2, filters: vec![0], ..prefix("k", "") }).await;
    let mut seen = [Vec::new(), Vec::new()];
    for _ in 0..4 {
        let response = watching.next().await;
        seen[response.watch_id as usize].extend(revisions(&response));
    }
    assert_eq!(seen, [vec![3], vec![4]]);
    server.stop().await;
}

#[tokio::test]
async fn refusals_keep_the_order_of_the_requests() {
    let server = Server::start();
    let mut watching = Watching::open(&server).await;
    watching.create(pb::WatchCreateRequest { watch_id: 9, ..prefix("a", "") }).await;
    watching.create(pb::WatchCreateRequest { watch_id: 9, ..prefix("b", "") }).await;
    watching.create(pb::WatchCreateRequest { start_revision: -1, ..prefix("b", "") }).await;
    watching.create(prefix("b", "a")).await;
    watching.create(prefix("c", "")).await;
    let mut found = Vec::new();
    for _ in 0..5 {
        let response = watching.next().await;
        assert!(response.created);
        found.push((response.watch_id, response.canceled, response.cancel_reason));
    }
    let refused = |reason: &str| (-1, true, reason.to_owned());
    assert_eq!(
        found,
        [
            (9, false, String::new()),
            refused("mvcc: duplicate watch ID provided on the WatchStream"),
            refused("etcdserver: mvcc: required revision has been compacted"),
            refused("mvcc: watcher range is empty"),
            (0, false, String::new()),
        ]
    );
    server.stop().await;
}

#[tokio::test]
async fn a_compacted_start_is_announced_and_then_canceled() {
    let server = Server::start();
    for value in ["1", "2", "3"] {
        server.put("k", value).await;
    }
    server.compact(3).await;
    let mut watching = Watching::open(&server).await;
    watching.create(pb::WatchCreateRequest { start_revision: 2, ..prefix("k", "") }).await;
    let created = watching.next().await;
    assert!(created.created && !created.canceled);
    let canceled = watching.next().await;
    assert!(canceled.canceled && !canceled.created);
    assert_eq!((canceled.compact_revision, &*canceled.cancel_reason), (3, ""));
    assert_eq!(canceled.header.unwrap().revision, 0);
    watching.create(pb::WatchCreateRequest { start_revision: 3, ..prefix("k", "") }).await;
    assert!(watching.next().await.created);
    assert_eq!(revisions(&watching.next().await), [3, 4]);
    server.stop().await;
}

#[tokio::test]
async fn cancel_answers_once_and_ends_the_events() {
    let server = Server::start();
    let mut watching = Watching::open(&server).await;
    watching.create(prefix("k", "")).await;
    watching.next().await;
    for watch_id in [0, 0, 44] {
        watching.send(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id })).await;
    }
    let canceled = watching.next().await;
    assert!(canceled.canceled && canceled.watch_id == 0 && canceled.cancel_reason.is_empty());
    assert_eq!((canceled.compact_revision, canceled.header.unwrap().revision), (0, 1));
    server.put("k", "1").await;
    watching.assert_quiet().await;
    server.stop().await;
}

#[tokio::test]
async fn progress_on_request_speaks_for_the_whole_stream() {
    let server = Server::start();
    let mut watching = Watching::open(&server).await;
    let progress = || RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
    watching.send(progress()).await;
    watching.assert_quiet().await;
    watching.create(prefix("k", "")).await;
    watching.next().await;
    let revision = server.put("other", "1").await;
    watching.send(progress()).await;
    let answer = watching.next().await;
    assert_eq!((answer.watch_id, answer.events.len()), (-1, 0));
    assert_eq!(answer.header.unwrap().revision, revision);
    watching.create(pb::WatchCreateRequest { start_revision: 99, ..prefix("k", "") }).await;
    watching.next().await;
    watching.send(progress()).await;
    watching.assert_quiet().await;
    server.stop().await;
}

#[tokio::test]
async fn idle_watches_that_want_it_are_told_of_progress() {
    let interval = Duration::from_millis(1);
    let server = Server::with(Settings { watch_progress_interval: interval, ..Settings::default() });
    let mut watching = Watching::open(&server).await;
    let began = std::time::Instant::now();
    watching.create(prefix("k", "")).await;
    watching.create(pb::WatchCreateRequest { progress_notify: true, ..prefix("k", "") }).await;
    assert!(watching.next().await.created && watching.next().await.created);
    let told = watching.next().await;
    assert_eq!((told.watch_id, told.events.len(), told.header.unwrap().revision), (1, 0, 1));
    assert!(began.elapsed() >= Duration::from_millis(50), "the interval has a floor of 100 ms");
    server.stop().await;
}

#[tokio::test]
async fn a_large_batch_is_sent_in_fragments_if_asked_for() {
    let server = Server::with(Settings { max_request_bytes: 64 * 1024, ..Settings::default() });
    let value = "v".repeat(60 * 1024);
    for at in 0..14 {
        server.put(&format!("k{at:02}"), &value).await;
    }
    let mut watching = Watching::open(&server).await;
    watching.create(pb::WatchCreateRequest { prev_kv: true, fragment: true, ..prefix("k", "l") }).await;
    watching.create(pb::WatchCreateRequest { prev_kv: true, ..prefix("k", "l") }).await;
    assert!(watching.next().await.created && watching.next().await.created);
    let all = pb::DeleteRangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
    server.kv().delete_range(all).await.unwrap();
    let mut parts = [Vec::new(), Vec::new()];
    for _ in 0..3 {
        let response = watching.next().await;
        parts[response.watch_id as usize].push((response.events.len(), response.fragment));
    }
    // 576 KiB hold nine values of 60 KiB.
    assert_eq!(parts, [vec![(9, true), (5, false)], vec![(14, false)]]);
    server.stop().await;
}

/// The end of a watch is told behind what is queued; by then its id may be another watch's.
#[tokio::test]
async fn a_watch_under_an_id_that_was_given_back_is_sent_in_fragments() {
    let server = Server::with(Settings { max_request_bytes: 64 * 1024, ..Settings::default() });
    let mut watching = Watching::open(&server).await;
    let fragmented =
        pb::WatchCreateRequest { watch_id: 5, fragment: true, prev_kv: true, ..prefix("k", "l") };
    watching.create(fragmented.clone()).await;
    watching.create(prefix("other", "")).await;
    assert!(watching.next().await.created && watching.next().await.created);
    // This waits to be read while both requests come.
    server.put("other", "1").await;
    watching.send(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 5 })).await;
    watching.create(fragmented).await;
    assert_eq!(revisions(&watching.next().await), [2]);
    assert!(watching.next().await.canceled && watching.next().await.created);

    let value = "v".repeat(60 * 1024);
    for at in 0..14 {
        server.put(&format!("k{at:02}"), &value).await;
        watching.next().await;
    }
    let all = pb::DeleteRangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
    server.kv().delete_range(all).await.unwrap();
    let parts = [watching.next().await, watching.next().await];
    assert_eq!(parts.map(|part| (part.events.len(), part.fragment)), [(9, true), (5, false)]);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_sends_nothing_more_still_gets_its_events() {
    let server = Server::start();
    let mut watching = Watching::open(&server).await;
    watching.create(prefix("k", "")).await;
    watching.next().await;
    let (closed, _) = mpsc::channel(1);
    watching.requests = closed;
    server.put("k", "1").await;
    assert_eq!(revisions(&watching.next().await), [2]);
    server.stop().await;
}

#[tokio::test]
async fn a_stopping_server_ends_the_stream() {
    let server = Server::start();
    let mut watching = Watching::open(&server).await;
    watching.create(prefix("k", "")).await;
    watching.next().await;
    server.stop().await;
    let end = tokio::time::timeout(PATIENCE, watching.responses.message()).await.unwrap();
    let status = end.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: server stopped"));
}

#[tokio::test]
async fn streams_end_when_told_to_even_without_watches() {
    let server = Server::start();
    let mut watching = Watching::open(&server).await;
    watching.assert_quiet().await;
    server.services.end_streams();
    let end = tokio::time::timeout(PATIENCE, watching.responses.message()).await.unwrap();
    assert_eq!(end.unwrap_err().message(), "etcdserver: server stopped");
    server.stop().await;
}

/// As a refusal of the watch it would be final: clients go on only when their stream ends with this code.
#[tokio::test]
async fn a_watch_of_a_store_that_has_ended_ends_its_stream() {
    let server = Server::start();
    let mut watching = Watching::open(&server).await;
    server.store.stop().await;
    watching.create(prefix("a", "z")).await;
    let end = tokio::time::timeout(PATIENCE, watching.responses.message()).await.expect("an end");
    let end = end.unwrap_err();
    assert_eq!((end.code(), end.message()), (Code::Unavailable, "etcdserver: server stopped"));
}

/// One event for all watches of a stream does not keep the thread from the others.
#[tokio::test]
async fn a_turn_has_so_many_deliveries() {
    const WATCHES: usize = 3 * DELIVERIES_SLICE;
    /// What a stream says in one turn.
    async fn said_in(turn: &Turn, watching: &mut Watching) -> Vec<pb::WatchResponse> {
        turn.begin();
        let mut all = Vec::new();
        loop {
            // A new share of the runtime's own bound.
            tokio::task::yield_now().await;
            match watching.responses.poll_next_unpin(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(said) => all.push(said.unwrap().unwrap()),
                Poll::Pending => return all,
            }
        }
    }
    let server = Server::start();
    let turn = Turn::default();
    let mut extensions = http::Extensions::new();
    extensions.insert(turn.clone());
    let mut watching = Watching::open_with(&server, extensions).await;
    let mut created = 0;
    while created < WATCHES {
        for _ in 0..REQUESTS_WAITING_MAX.min(WATCHES - created) {
            watching.create(prefix("k", "")).await;
        }
        created += said_in(&turn, &mut watching).await.len();
    }
    // What it is told, the earlier stream has been told before.
    let mut witness = Watching::open(&server).await;
    witness.create(prefix("k", "")).await;
    witness.next().await;
    // One event for each watch; then so many for each that the session itself ends the turn.
    for puts in [1, 20] {
        let mut revision = 0;
        for _ in 0..puts {
            revision = server.put("k", "1").await;
        }
        while revisions(&witness.next().await).last() != Some(&revision) {}
        let (mut told, mut turns) = (Vec::new(), 0);
        while told.len() < WATCHES {
            let said = said_in(&turn, &mut watching).await;
            assert!(said.len() <= DELIVERIES_SLICE, "{} in a turn", said.len());
            told.extend(said.into_iter().map(|response| (revisions(&response), response.watch_id)));
            assert!(
                turn.is_used_up() || told.len() == WATCHES,
                "the connection has to wait in line for its next turn"
            );
            turns += 1;
            assert!(turns <= WATCHES, "the stream stands still");
        }
        let all = Vec::from_iter(revision - puts + 1..=revision);
        let everybody = (0..WATCHES as i64).map(|watch| (all.clone(), watch));
        assert_eq!(told, everybody.collect::<Vec<_>>());
        assert!(said_in(&turn, &mut watching).await.is_empty());
    }
    server.stop().await;
}
