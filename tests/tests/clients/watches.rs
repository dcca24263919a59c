//! Watchers that do not read, or are too many.

use crate::attack::{Attacked, fill};
use holdfast_tests::wire::etcdserverpb::kv_client::KvClient;
use holdfast_tests::wire::etcdserverpb::lease_client::LeaseClient;
use holdfast_tests::wire::etcdserverpb::watch_client::WatchClient;
use holdfast_tests::wire::etcdserverpb::watch_request::RequestUnion;
use holdfast_tests::wire::etcdserverpb::{
    CompactionRequest, LeaseKeepAliveRequest, PutRequest, RangeRequest, WatchCreateRequest, WatchRequest,
    WatchResponse,
};
use holdfast_tests::{Setup, Transport};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

const KEY: &str = "attack/watched";
const PATIENCE: Duration = Duration::from_secs(60);

struct Watching {
    _requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Watching {
    async fn next(&mut self) -> WatchResponse {
        let next = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        next.expect("a response in time").expect("no error").expect("no end")
    }
}

/// A stream with so many watches of the key, all of them made.
async fn watch(channel: Channel, watches: usize) -> Watching {
    let (requests, sent) = mpsc::channel(watches);
    for _ in 0..watches {
        let create = WatchCreateRequest { key: KEY.into(), ..Default::default() };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        requests.send(request).await.expect("room");
    }
    let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
    let responses = client.watch(ReceiverStream::new(sent)).await.expect("a stream").into_inner();
    let mut watching = Watching { _requests: requests, responses };
    for _ in 0..watches {
        assert!(watching.next().await.created);
    }
    watching
}

/// Puts the key so often; the revision of the last one.
async fn write(attacked: &Attacked, count: usize, value_bytes: usize) -> i64 {
    let mut kv = attacked.kv();
    let mut last = 0;
    for n in 0..count {
        let put =
            PutRequest { key: KEY.into(), value: vec![n as u8; value_bytes].into(), ..Default::default() };
        last = kv.put(put).await.expect("a put").into_inner().header.map_or(0, |header| header.revision);
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_never_reads_costs_a_bound_and_misses_nothing() {
    const STREAMS: usize = 10;
    const EVENTS: usize = 1_500;
    let attacked = Attacked::start(Setup::subject()).await;
    let mut held = Vec::new();
    for _ in 0..STREAMS {
        held.push(watch(attacked.node.channel(), 1).await);
    }
    // 48 MiB of events: six times the ring, and far more than any queue.
    let last = write(&attacked, EVENTS, 32 << 10).await;
    // The store's own share (the cache of values, the engine's buffers, the ring), and what LIMITS.md says for a stream.
    let bound_mib = 128 + STREAMS as u64 * 4;
    assert!(attacked.added_mib() <= bound_mib, "{} MiB, {bound_mib} are the bound", attacked.added_mib());
    // Late is not lost.
    let mut late = held.pop().expect("one of them");
    let (mut seen, mut newest) = (0, 0);
    while newest < last {
        for event in late.next().await.events {
            let revision = event.kv.expect("a record").mod_revision;
            assert!(revision > newest, "{revision} after {newest}");
            newest = revision;
            seen += 1;
        }
    }
    assert_eq!((seen, newest), (EVENTS, last));
    drop((held, late));
    attacked.check_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lagging_watcher_that_compaction_overtakes_is_told_so() {
    let attacked = Attacked::start(Setup::subject()).await;
    let mut lagging = watch(attacked.node.channel(), 1).await;
    let last = write(&attacked, 1_000, 32 << 10).await;
    let compact = CompactionRequest { revision: last, physical: true };
    attacked.kv().compact(compact).await.expect("a compaction");
    let mut newest = 0;
    let end = loop {
        let response = lagging.next().await;
        if response.canceled {
            break response;
        }
        for event in response.events {
            let revision = event.kv.expect("a record").mod_revision;
            assert!(revision > newest && revision < last, "{revision} after {newest}");
            newest = revision;
        }
    };
    assert_eq!(end.compact_revision, last);
    drop(lagging);
    attacked.check_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_watches_on_one_stream_get_everything() {
    const WATCHES: usize = 4_000;
    let attacked = Attacked::start(Setup::subject()).await;
    let mut watching = watch(attacked.node.channel(), WATCHES).await;
    let last = write(&attacked, 3, 100).await;
    let mut seen = vec![Vec::new(); WATCHES];
    while seen.iter().map(Vec::len).sum::<usize>() < 3 * WATCHES {
        let response = watching.next().await;
        let revisions = response.events.iter().map(|event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision));
        seen[response.watch_id as usize].extend(revisions);
    }
    for revisions in &seen {
        assert!(revisions.len() == 3 && revisions.is_sorted() && revisions[2] == last, "{revisions:?}");
    }
    assert!(attacked.added_mib() <= 96, "{} MiB", attacked.added_mib());
    drop(watching);
    attacked.check_unharmed().await;
}

/// A connection that lists fill all the time, encrypted: what lies in front of an event there is bounded.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_beside_large_lists_on_one_tls_connection_gets_its_events() {
    const LISTERS: usize = 4;
    const KEYS: usize = 10_000;
    const EVENTS: usize = 100;
    let node = Setup::subject().transport(Transport::Tls).start();
    fill(&node, "attack/list/", KEYS, 200).await;
    let attacked = Attacked::with(node).await;
    let shared = attacked.node.channel();
    let mut watching = watch(shared.clone(), 1).await;
    let (stop, lists) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut listers = JoinSet::new();
    for _ in 0..LISTERS {
        let (stop, lists) = (stop.clone(), lists.clone());
        let mut kv = KvClient::new(shared.clone()).max_decoding_message_size(usize::MAX);
        listers.spawn(async move {
            let everything = || RangeRequest {
                key: "attack/list/".into(),
                range_end: "attack/list0".into(),
                ..Default::default()
            };
            while !stop.load(Ordering::Relaxed) {
                let list = kv.range(everything()).await.expect("a list").into_inner();
                assert_eq!(list.kvs.len(), KEYS);
                lists.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    // However fast either is: some lists are made and sent meanwhile.
    let made = || lists.load(Ordering::Relaxed);
    let mut sent = 0;
    while sent < EVENTS || made() < 2 * LISTERS as u64 {
        // On another connection: what might wait here is the watch.
        let revision = write(&attacked, 1, 100).await;
        let events = watching.next().await.events;
        let seen: Vec<_> = events.iter().map(|event| event.kv.as_ref().map(|kv| kv.mod_revision)).collect();
        assert_eq!(seen, [Some(revision)], "each in its turn and none twice");
        sent += 1;
    }
    stop.store(true, Ordering::Relaxed);
    listers.join_all().await;
    drop((watching, shared));
    attacked.check_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_over_few_connections_are_served_and_go() {
    const STREAMS: usize = 200;
    let attacked = Attacked::start(Setup::subject()).await;
    let channels = [attacked.node.channel(), attacked.node.channel()];
    let mut streams = Vec::new();
    for n in 0..STREAMS {
        streams.push(watch(channels[n % channels.len()].clone(), 1).await);
    }
    let last = write(&attacked, 1, 100).await;
    for stream in &mut streams {
        let response = stream.next().await;
        assert_eq!(response.events[0].kv.as_ref().map(|kv| kv.mod_revision), Some(last));
    }
    drop((streams, channels));
    attacked.check_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_streams_that_nobody_reads() {
    let attacked = Attacked::start(Setup::subject()).await;
    let unread = watch(attacked.node.channel(), 1).await;
    let mut idle = watch(attacked.node.channel(), 1).await;
    let last = write(&attacked, 300, 32 << 10).await;
    // This one has read all there is.
    let mut newest = 0;
    while newest < last {
        let events = idle.next().await.events;
        newest = events.last().and_then(|event| event.kv.as_ref()).map_or(newest, |kv| kv.mod_revision);
    }
    let mut leases = LeaseClient::new(attacked.node.channel());
    let (_requests, sent) = mpsc::channel(1);
    let keep_alives = leases.lease_keep_alive(ReceiverStream::<LeaseKeepAliveRequest>::new(sent)).await;
    let mut keep_alives = keep_alives.expect("a stream").into_inner();
    let mut node = attacked.alone().await;
    assert!(tokio::task::block_in_place(|| node.stop()).success());
    let end = loop {
        match tokio::time::timeout(PATIENCE, idle.responses.message()).await.expect("an end in time") {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a stream ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.message(), "etcdserver: server stopped");
    let end = keep_alives.message().await.expect_err("an end with a word");
    assert_eq!(end.message(), "etcdserver: server stopped");
    drop((unread, node));
}
