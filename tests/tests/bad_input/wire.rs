//! Bytes from the network: a node answers, or closes, and goes on serving everybody else.

use crate::attempt::{check_filled, fill, put};
use bytes::{Buf, BufMut, Bytes};
use holdfast_tests::wire::etcdserverpb::kv_client::KvClient;
use holdfast_tests::wire::etcdserverpb::{PutRequest, RangeRequest};
use holdfast_tests::{Node, Setup};
use prost::Message;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};

const PATIENCE: Duration = Duration::from_secs(60);
/// How long a connection may stay open: less than the ten seconds after which a node closes one that says nothing.
const OPEN_LIMIT: Duration = Duration::from_secs(8);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// etcd's default limit of a request.
const REQUEST_BYTES_MAX: usize = 1_572_864;

/// Messages as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;
    fn encoder(&mut self) -> Raw {
        Raw
    }
    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Sends bytes as the message of a unary call.
async fn raw(node: &Node, path: &'static str, message: impl Into<Bytes>) -> Result<Bytes, Status> {
    let mut grpc = tonic::client::Grpc::new(node.channel());
    grpc.ready().await.expect("a connection");
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
    let call = grpc.unary(Request::new(message.into()), path, Raw);
    tokio::time::timeout(PATIENCE, call).await.expect("an answer in time").map(tonic::Response::into_inner)
}

/// Sends bytes to the port; gives what comes back until it is closed, or `None` if it stays open.
fn send(node: &Node, bytes: &[u8]) -> Option<Vec<u8>> {
    let address = node.url().trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(OPEN_LIMIT)).expect("a limit");
    stream.set_write_timeout(Some(Duration::from_secs(3))).expect("a limit");
    // It may close before it has read all.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Some(answer),
            Ok(length) => answer.extend(&chunk[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Some(answer),
            Err(_) => return None,
        }
    }
}

fn noise(mut seed: u64, length: usize) -> Vec<u8> {
    std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    })
    .take(length)
    .collect()
}

/// It still serves, and nothing in it broke.
async fn check_unharmed(node: &mut Node) {
    check_filled(node).await;
    assert!(!node.log().contains("panicked"), "something panicked");
    assert!(node.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_port_closes_that_connection_only() {
    let mut node = Setup::subject().start();
    fill(&node).await;
    let with_preface = |rest: &[u8]| [PREFACE, rest].concat();
    let settings: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let closed: Vec<(&str, Vec<u8>)> = vec![
        ("noise", noise(1, 4096)),
        ("zeros", vec![0; 4096]),
        ("a TLS hello", [&[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3][..], &noise(2, 192)].concat()),
        ("HTTP of no version", b"GET / HTTP/9.9\r\n\r\n".to_vec()),
        ("a method of noise", b"\xff\xfe /health HTTP/1.1\r\n\r\n".to_vec()),
        ("headers without an end", [&b"GET /health HTTP/1.1\r\nX: "[..], &vec![b'a'; 2 << 20]].concat()),
        ("noise behind the preface", with_preface(&noise(3, 4096))),
        ("a frame of 16 MiB", with_preface(&[settings, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat())),
        ("data of no stream", with_preface(&[settings, &[0, 0, 1, 0, 0, 0, 0, 0, 7, 0]].concat())),
        (
            "a broken header block",
            with_preface(&[settings, &[0, 0, 4, 1, 5, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]].concat()),
        ),
    ];
    for (what, bytes) in closed {
        let answer = tokio::task::block_in_place(|| send(&node, &bytes));
        assert!(answer.is_some(), "{what}: the connection stays open");
    }
    // Silence is no offence, and holds up nobody.
    let address = node.url().trim_start_matches("http://").to_string();
    let silent: Vec<TcpStream> =
        (0..20).map(|_| TcpStream::connect(&address).expect("a connection")).collect();
    let mut slow = TcpStream::connect(&address).expect("a connection");
    slow.write_all(&PREFACE[..10]).expect("half a preface");
    check_unharmed(&mut node).await;
    drop((silent, slow));
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_are_refused_one_by_one() {
    let mut node = Setup::subject().start();
    fill(&node).await;
    let whole = PutRequest { key: "cut".into(), value: vec![7; 300].into(), ..Default::default() };
    let whole = whole.encode_to_vec();
    for length in [1, 2, 4, 6, whole.len() / 2, whole.len() - 1] {
        let status = raw(&node, "/etcdserverpb.KV/Put", whole[..length].to_vec()).await;
        let status = status.expect_err("a cut message");
        assert_eq!(status.code(), Code::Internal, "{length}: {status}");
        assert!(!status.message().is_empty());
    }
    for path in [
        "/etcdserverpb.KV/Range",
        "/etcdserverpb.KV/Put",
        "/etcdserverpb.KV/DeleteRange",
        "/etcdserverpb.KV/Txn",
        "/etcdserverpb.KV/Compact",
        "/etcdserverpb.Lease/LeaseGrant",
        "/etcdserverpb.Lease/LeaseRevoke",
        "/etcdserverpb.Lease/LeaseTimeToLive",
        "/etcdserverpb.Watch/Watch",
        "/etcdserverpb.Lease/LeaseKeepAlive",
        "/etcdserverpb.Maintenance/Status",
        "/etcdserverpb.Maintenance/HashKV",
        "/etcdserverpb.Cluster/MemberList",
    ] {
        for seed in 0..8 {
            // Field 1 of a wire type that does not exist, then noise: never a message.
            let message = [&[0x0f][..], &noise(seed, 64)].concat();
            let status = raw(&node, path, message).await.expect_err("noise");
            assert!(
                !matches!(status.code(), Code::Ok | Code::Unknown | Code::Unavailable),
                "{path}: {status}"
            );
        }
    }
    let status = raw(&node, "/etcdserverpb.KV/Nothing", Bytes::new()).await.expect_err("no such method");
    assert_eq!(status.code(), Code::Unimplemented, "{status}");
    let status = raw(&node, "/nothing/at/all", Bytes::new()).await.expect_err("no such service");
    assert_eq!(status.code(), Code::Unimplemented, "{status}");
    check_unharmed(&mut node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_and_named() {
    let mut node = Setup::subject().start();
    fill(&node).await;
    let channel = node.channel();
    // As large as may be, with room for the key and the framing.
    put(&channel, "large", &vec![1; REQUEST_BYTES_MAX - 512]).await.expect("a put just below the limit");
    let status = put(&channel, "large", &vec![1; REQUEST_BYTES_MAX + 1]).await.expect_err("too large");
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "etcdserver: request is too large")
    );
    let status = put(&channel, "large", &vec![1; 4 << 20]).await.expect_err("far too large");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");

    let mut kv = KvClient::new(node.channel());
    let mut request = Request::new(RangeRequest { key: "key/1".into(), ..Default::default() });
    let huge = "x".repeat(1 << 20);
    request.metadata_mut().insert("x-huge", huge.parse().expect("a header"));
    let answer = tokio::time::timeout(PATIENCE, kv.range(request)).await.expect("an answer in time");
    assert!(answer.is_err(), "a header of 1 MiB is taken");
    check_unharmed(&mut node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_is_no_text_is_refused_where_text_is_needed() {
    let mut node = Setup::subject().start();
    fill(&node).await;
    let mut kv = KvClient::new(node.channel());
    for (name, is_refused) in [("client-api-version", true), ("x-whatever", false)] {
        let mut request = Request::new(RangeRequest { key: "key/1".into(), ..Default::default() });
        let value = MetadataValue::try_from(&b"3.5\xff\xfe"[..]).expect("bytes that a header may have");
        request.metadata_mut().insert(name, value);
        let answer = tokio::time::timeout(PATIENCE, kv.range(request)).await.expect("an answer in time");
        assert_eq!(answer.is_err(), is_refused, "{name}: {answer:?}");
        if let Err(status) = answer {
            assert_eq!(
                (status.code(), status.message()),
                (Code::InvalidArgument, "etcdserver: invalid client api version")
            );
        }
    }
    check_unharmed(&mut node).await;
}
