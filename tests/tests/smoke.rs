//! The shortest way through a node: start, write, read, stop, start, read; on every transport.

use holdfast_tests::wire::etcdserverpb::kv_client::KvClient;
use holdfast_tests::wire::etcdserverpb::{PutRequest, RangeRequest};
use holdfast_tests::{Setup, Transport};
use std::os::unix::process::ExitStatusExt;

#[tokio::test]
async fn plain() {
    there_and_back(Transport::Plain).await;
}

#[tokio::test]
async fn mutual_tls() {
    there_and_back(Transport::MutualTls).await;
}

#[tokio::test]
async fn tls_without_client_certificates() {
    there_and_back(Transport::Tls).await;
}

#[tokio::test]
async fn unix() {
    there_and_back(Transport::Unix).await;
}

async fn there_and_back(transport: Transport) {
    let mut node = Setup::subject().transport(transport).start();
    let put = PutRequest { key: "greeting".into(), value: "hello".into(), ..Default::default() };
    let written = KvClient::new(node.channel()).put(put).await.expect("a put").into_inner();
    assert_eq!(written.header.expect("a header").revision, 2, "the first write of a fresh store");

    let status = node.stop();
    assert!(status.success() || status.signal() == Some(15), "a clean stop: {status}");
    node.start();

    let get = RangeRequest { key: "greeting".into(), ..Default::default() };
    let read = KvClient::new(node.channel()).range(get).await.expect("a range").into_inner();
    assert_eq!(read.header.expect("a header").revision, 2);
    assert_eq!(read.kvs.len(), 1);
    assert_eq!(read.kvs[0].value, "hello");
    assert_eq!(read.kvs[0].mod_revision, 2);
}
