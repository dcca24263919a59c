//! Connections that say nothing, too little, too slowly or too much.

use crate::attack::Attacked;
use holdfast_tests::wire::etcdserverpb::RangeRequest;
use holdfast_tests::{Setup, Transport};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::codegen::{Body, Bytes, Service, http};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
/// The node's patience with the first bytes is ten seconds.
const CLOSED_LIMIT: Duration = Duration::from_secs(40);

async fn connect(attacked: &Attacked) -> TcpStream {
    let address = attacked.node.url().split("://").nth(1).expect("a URL");
    TcpStream::connect(address).await.expect("a connection")
}

/// Waits until the other side has closed.
async fn closed(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    let end = async { while matches!(stream.read(&mut buffer).await, Ok(length) if length > 0) {} };
    tokio::time::timeout(CLOSED_LIMIT, end).await.expect("it stays open");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_or_says_it_slowly_is_let_go() {
    let attacked = Attacked::start(Setup::subject()).await;
    let mut silent = JoinSet::new();
    for _ in 0..100 {
        let stream = connect(&attacked).await;
        silent.spawn(closed(stream));
    }
    for text in [PREFACE, b"GET /health HTTP/1.1\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
        for _ in 0..50 {
            let stream = connect(&attacked).await;
            silent.spawn(async move {
                let (mut from, mut to) = stream.into_split();
                let slow = async {
                    for byte in text.iter().cycle() {
                        if to.write_all(&[*byte]).await.is_err() {
                            return;
                        }
                        tokio::time::sleep(Duration::from_millis(1_000)).await;
                    }
                };
                let mut buffer = [0; 4096];
                let end = async { while matches!(from.read(&mut buffer).await, Ok(length) if length > 0) {} };
                tokio::time::timeout(CLOSED_LIMIT, async {
                    tokio::select! { () = slow => (), () = end => () }
                })
                .await
                .expect("it stays open");
            });
        }
    }
    silent.join_all().await;
    assert!(attacked.added_mib() <= 64, "{} MiB", attacked.added_mib());
    attacked.check_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_never_end_are_let_go() {
    let attacked = Attacked::start(Setup::subject().transport(Transport::MutualTls)).await;
    let mut held = JoinSet::new();
    for n in 0..100 {
        let mut stream = connect(&attacked).await;
        if n % 2 == 0 {
            // The beginning of a hello.
            stream.write_all(&[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]).await.expect("room");
        }
        held.spawn(closed(stream));
    }
    held.join_all().await;
    attacked.check_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_bound_wait_and_are_served_when_others_leave() {
    const BOUND: usize = 20;
    let setup = Setup::subject().flag(format!("--max-client-connections={BOUND}"));
    let attacked = Attacked::start(setup).await;
    // One is the neighbours'.
    let mut held = Vec::new();
    for _ in 1..BOUND {
        let mut stream = connect(&attacked).await;
        stream.write_all(&[PREFACE, SETTINGS].concat()).await.expect("room");
        held.push(stream);
    }
    let mut late = attacked.kv();
    let get = RangeRequest { key: "neighbour/0".into(), ..Default::default() };
    let mut waiting = tokio::spawn(async move { late.range(get).await });
    let early = tokio::time::timeout(Duration::from_millis(500), &mut waiting).await;
    assert!(early.is_err(), "the bound is passed: {early:?}");
    held.truncate(BOUND / 2);
    let served = tokio::time::timeout(CLOSED_LIMIT, waiting).await.expect("room in time").expect("a task");
    assert_eq!(served.expect("an answer").into_inner().kvs.len(), 1);
    drop(held);
    attacked.check_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_connections_and_frames_hold_up_nobody() {
    let attacked = Attacked::start(Setup::subject()).await;
    for n in 0..2_000 {
        let mut stream = connect(&attacked).await;
        let _ = match n % 3 {
            0 => Ok(()),
            1 => stream.write_all(PREFACE).await,
            _ => stream.write_all(b"GET /version HTTP/1.0\r\n\r\n").await,
        };
    }
    let mut floods = JoinSet::new();
    for frame in [PING, SETTINGS] {
        let stream = connect(&attacked).await;
        floods.spawn(async move {
            let (mut from, mut to) = stream.into_split();
            let drain = tokio::spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                while matches!(from.read(&mut buffer).await, Ok(length) if length > 0) {}
            });
            let mut alive = to.write_all(&[PREFACE, SETTINGS].concat()).await;
            for _ in 0..200 {
                // Ended for it or not: both are well.
                if alive.is_err() {
                    break;
                }
                alive = to.write_all(&frame.repeat(100)).await;
            }
            drop(to);
            let _ = drain.await;
        });
    }
    floods.join_all().await;
    assert!(attacked.added_mib() <= 64, "{} MiB", attacked.added_mib());
    attacked.check_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_given_up_at_once_leave_nothing() {
    /// Three hundred calls with answers of three frames each: a client ends a connection by itself on which it was sent more
    /// than a thousand frames for calls that it has forgotten.
    const ROUNDS_OF_A_CONNECTION: usize = 3;
    let attacked = Attacked::start(Setup::subject()).await;
    let get = || RangeRequest { key: "neighbour/0".into(), ..Default::default() };
    let mut connections: Vec<_> = (0..17).map(|_| attacked.kv()).collect();
    for kv in &mut connections {
        // What is given up before there is a connection does not leave.
        kv.range(get()).await.expect("an answer");
        for _ in 0..ROUNDS_OF_A_CONNECTION {
            let mut calls = JoinSet::new();
            for _ in 0..100 {
                let (mut kv, get) = (kv.clone(), get());
                calls.spawn(async move {
                    // The request leaves; its answer is not waited for.
                    let _ = tokio::time::timeout(Duration::from_micros(1), kv.range(get)).await;
                });
            }
            calls.join_all().await;
        }
    }
    // The connections that did it still serve.
    for kv in &mut connections {
        kv.range(get()).await.expect("an answer");
    }
    assert!(attacked.added_mib() <= 64, "{} MiB", attacked.added_mib());
    drop(connections);
    attacked.check_unharmed().await;
}

/// Sends its bytes, then waits for ever.
struct Unfinished(Option<Bytes>);

impl Body for Unfinished {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, tonic::Status>>> {
        match self.0.take() {
            Some(bytes) => Poll::Ready(Some(Ok(http_body::Frame::data(bytes)))),
            None => Poll::Pending,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_never_end_are_bounded_and_refused_in_etcds_words() {
    const ANNOUNCED_BYTES: u32 = 3 << 19;
    const SENT_BYTES: usize = 1 << 20;
    /// Of them 256 fit.
    const REQUESTS: usize = 300;
    let attacked = Attacked::start(Setup::subject()).await;
    let channels: Vec<_> = (0..30).map(|_| attacked.node.channel()).collect();
    let mut begun = vec![0];
    begun.extend(ANNOUNCED_BYTES.to_be_bytes());
    begun.resize(SENT_BYTES, 7);
    let begun = Bytes::from(begun);
    let (told, mut telling) = tokio::sync::mpsc::unbounded_channel();
    let mut held = JoinSet::new();
    for n in 0..REQUESTS {
        let (mut channel, told) = (channels[n % channels.len()].clone(), told.clone());
        let request = http::Request::post("/etcdserverpb.KV/Put")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(tonic::body::Body::new(Unfinished(Some(begun.clone()))))
            .expect("a request");
        held.spawn(async move {
            std::future::poll_fn(|context| channel.poll_ready(context)).await.expect("a connection");
            let response = channel.call(request).await.expect("a response");
            let header = |name| response.headers().get(name).map(|value| value.as_bytes().to_vec());
            let _ = told.send((header("grpc-status"), header("grpc-message")));
        });
    }
    for _ in 256..REQUESTS {
        let next = tokio::time::timeout(CLOSED_LIMIT, telling.recv()).await;
        let (code, text) = next.expect("a refusal in time").expect("a refusal");
        assert_eq!(code.as_deref(), Some(b"2" as &[u8]));
        let text = String::from_utf8(text.expect("a text")).expect("text").replace("%20", " ");
        assert_eq!(text, "etcdserver: too many requests");
    }
    // What is kept, twice (a buffer that grows is copied), and what waits in the windows of refused streams.
    assert!(attacked.added_mib() <= 2 * 256 + 64, "{} MiB", attacked.added_mib());
    drop((held, channels));
    attacked.check_unharmed().await;
}
