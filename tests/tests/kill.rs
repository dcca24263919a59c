//! SIGKILL at random moments under load: what was acknowledged is there, at the revision that was acknowledged; revisions
//! have neither a gap nor a double; a watch that goes on where it was after each crash sees every change once, in order.
//!
//! A write whose answer got lost may have happened or not. Nothing else is forgiven.
//!
//! `HOLDFAST_KILLS` says how often (default 5; continuous integration more), `HOLDFAST_SEED` repeats the moments.

use holdfast_tests::wire::etcdserverpb::kv_client::KvClient;
use holdfast_tests::wire::etcdserverpb::watch_client::WatchClient;
use holdfast_tests::wire::etcdserverpb::watch_request::RequestUnion;
use holdfast_tests::wire::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest, WatchRequest};
use holdfast_tests::{Setup, wire::mvccpb::Event};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

const WRITERS: usize = 8;
const PREFIX: &str = "k/";
/// The interval's end: the prefix with its last byte plus one.
const PREFIX_END: &str = "k0";
const LAST_KEY: &str = "k/last";
/// Values of a size that makes the log's records cross sectors and pages.
const VALUE_BYTES: usize = 700;
/// No answer within this is as good as none.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// After the last crash the watch has to catch up within this.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);
/// Between the crashes: from a node that has hardly started to one that has done some work.
const UP_MS: std::ops::Range<u64> = 30..600;

/// A write and the revision that its answer named.
struct Acknowledged {
    key: String,
    number: u64,
    revision: i64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost() {
    let kills = variable("HOLDFAST_KILLS").unwrap_or(5);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    let seed = variable("HOLDFAST_SEED").unwrap_or(now.subsec_nanos().into());
    println!("HOLDFAST_KILLS={kills} HOLDFAST_SEED={seed}");
    let mut random = seed | 1;

    let mut node = Setup::subject().start();
    let stop = Arc::new(AtomicBool::new(false));
    let watch = tokio::spawn(follow(node.channel()));
    let writers = (0..WRITERS)
        .map(|writer| tokio::spawn(write(node.channel(), format!("{PREFIX}{writer}"), Arc::clone(&stop))))
        .collect::<Vec<_>>();

    for _ in 0..kills {
        let up_ms = UP_MS.start + next(&mut random) % (UP_MS.end - UP_MS.start);
        tokio::time::sleep(Duration::from_millis(up_ms)).await;
        // Blocking in the test's own thread; the writers and the watch have others.
        tokio::task::block_in_place(|| {
            node.kill();
            node.start();
        });
    }
    tokio::time::sleep(Duration::from_millis(UP_MS.end)).await;
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.expect("a writer"));
    }
    println!("{} acknowledged writes", acknowledged.len());
    assert!(acknowledged.len() as u64 > kills, "hardly any write was acknowledged");

    let mut client = KvClient::new(node.channel());
    client.put(put(LAST_KEY, 0)).await.expect("a write after the last crash");
    let events =
        tokio::time::timeout(CATCH_UP_LIMIT, watch).await.expect("the watch goes on").expect("the watch");

    check_events(&events);
    for write in &acknowledged {
        let event = &events[usize::try_from(write.revision - 2).expect("revisions begin with 2")];
        assert_eq!(
            key_and_number(event),
            (write.key.clone(), write.number),
            "at revision {}",
            write.revision
        );
    }
    check_present(&mut client, &events).await;
}

/// Puts one number after the other until told to stop; returns what was acknowledged.
async fn write(channel: Channel, key: String, stop: Arc<AtomicBool>) -> Vec<Acknowledged> {
    let mut client = KvClient::new(channel);
    let mut acknowledged = Vec::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        // A number is tried once: what happened to it stays unknown if there is no answer.
        number += 1;
        match tokio::time::timeout(REQUEST_LIMIT, client.put(put(&key, number))).await {
            Ok(Ok(answer)) => {
                let revision = answer.into_inner().header.expect("a header").revision;
                acknowledged.push(Acknowledged { key: key.clone(), number, revision });
            }
            Ok(Err(_)) | Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    acknowledged
}

/// Watches everything from the first revision on, across all crashes, until the last key is written.
async fn follow(channel: Channel) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let next_revision = events.last().map_or(2, |event| revision(event) + 1);
        // The sender stays: to end the requests is to end the watch.
        let (requests, receiver) = tokio::sync::mpsc::channel(1);
        let create = WatchCreateRequest {
            key: PREFIX.into(),
            range_end: PREFIX_END.into(),
            start_revision: next_revision,
            prev_kv: true,
            ..Default::default()
        };
        let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        requests.send(create).await.expect("the receiver is here");
        let answers = WatchClient::new(channel.clone()).watch(ReceiverStream::new(receiver)).await;
        let Ok(answers) = answers else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let mut answers = answers.into_inner();
        while let Ok(Some(answer)) = answers.message().await {
            assert!(!answer.canceled, "the watch was canceled: {answer:?}");
            let last = answer.events.last().map_or(0, revision);
            assert!(answer.header.expect("a header").revision >= last, "a header behind its events");
            events.extend(answer.events);
            if events.last().is_some_and(|event| key_and_number(event).0 == LAST_KEY) {
                return events;
            }
        }
    }
}

/// Every revision once and in order; every number of a key once and in order; every previous value the one before.
fn check_events(events: &[Event]) {
    let mut newest = BTreeMap::new();
    for (position, event) in events.iter().enumerate() {
        assert_eq!(revision(event), position as i64 + 2, "event {position}: a gap or a double");
        let (key, number) = key_and_number(event);
        let previous = event.prev_kv.as_ref().map(|kv| number_of(&kv.value));
        assert_eq!(previous, newest.get(&key).copied(), "the previous value of {key} at {}", revision(event));
        if let Some(previous) = previous {
            assert!(number > previous, "{key} went from {previous} to {number}");
        }
        newest.insert(key, number);
    }
}

/// What is stored is what the events lead to.
async fn check_present(client: &mut KvClient<Channel>, events: &[Event]) {
    let all = RangeRequest { key: PREFIX.into(), range_end: PREFIX_END.into(), ..Default::default() };
    let answer = client.range(all).await.expect("a range").into_inner();
    assert_eq!(answer.header.expect("a header").revision, revision(events.last().expect("the last event")));
    let mut newest = BTreeMap::new();
    for event in events {
        let (key, number) = key_and_number(event);
        let version = newest.get(&key).map_or(0, |(_, _, version)| *version) + 1;
        newest.insert(key, (number, revision(event), version));
    }
    let stored = answer.kvs.iter().map(|kv| {
        let key = String::from_utf8(kv.key.to_vec()).expect("our own keys");
        (key, (number_of(&kv.value), kv.mod_revision, kv.version))
    });
    assert_eq!(stored.collect::<BTreeMap<_, _>>(), newest);
}

fn put(key: &str, number: u64) -> PutRequest {
    let value = format!("{number:020} {}", "x".repeat(VALUE_BYTES));
    PutRequest { key: key.to_string().into(), value: value.into(), ..Default::default() }
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().expect("an event has a key").mod_revision
}

fn key_and_number(event: &Event) -> (String, u64) {
    let kv = event.kv.as_ref().expect("an event has a key");
    (String::from_utf8(kv.key.to_vec()).expect("our own keys"), number_of(&kv.value))
}

fn number_of(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).expect("our own values");
    text.split(' ').next().and_then(|number| number.parse().ok()).expect("our own values")
}

/// Small and repeatable; nothing here needs more.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}
