//! Writes that may answer much.

use super::*;
use crate::service::large_reads::{RESPONSES_HELD_BYTES_MAX, UNCOUNTED_RESPONSE_BYTES_MAX};
use crate::service::large_writes::WAITING_WRITES_BYTES_MAX;
use pb::{request_op, response_op};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// More than a small read has.
const KEYS: usize = 1_200;

fn op(request: request_op::Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn put(key: &str, value_bytes: usize) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: vec![7; value_bytes].into(), ..Default::default() }
}

fn range(key: &'static str, end: &'static str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.into(), range_end: end.into(), ..Default::default() }
}

fn both(put: pb::PutRequest, range: pb::RangeRequest) -> pb::TxnRequest {
    let success =
        vec![op(request_op::Request::RequestPut(put)), op(request_op::Request::RequestRange(range))];
    pb::TxnRequest { success, ..Default::default() }
}

fn found(response: &pb::TxnResponse) -> usize {
    match &response.responses[1].response {
        Some(response_op::Response::ResponseRange(range)) => range.kvs.len(),
        other => panic!("not a range: {other:?}"),
    }
}

async fn filled() -> Server {
    let server = Server::start();
    for first in (0..KEYS).step_by(100) {
        let put = |n: usize| op(request_op::Request::RequestPut(put(&format!("many/{n:05}"), 100)));
        let success = (first..first + 100).map(put).collect();
        server.kv().txn(pb::TxnRequest { success, ..Default::default() }).await.unwrap();
    }
    server
}

impl Server {
    async fn take_room(&self, bytes: usize) -> OwnedSemaphorePermit {
        self.services.shared.large_reads.room_for(bytes).await.unwrap()
    }

    fn free_bytes(&self) -> usize {
        self.services.shared.large_reads.room_bytes_free()
    }

    async fn is_there(&self, key: &'static str) -> bool {
        let get = pb::RangeRequest { count_only: true, ..range(key, "") };
        self.kv().range(get).await.unwrap().into_inner().count == 1
    }
}

async fn is_pending<F: Future + Unpin>(call: &mut F) -> bool {
    tokio::time::timeout(Duration::from_millis(100), call).await.is_err()
}

#[tokio::test]
async fn a_write_that_may_answer_much_waits_for_room_before_it_is_done() {
    let server = filled().await;
    let room = server.take_room(RESPONSES_HELD_BYTES_MAX).await;
    let mut kv = server.kv();
    let mut large = Box::pin(kv.txn(both(put("large", 1), range("many/", "many0"))));
    let mut kv = server.kv();
    let delete = pb::DeleteRangeRequest { key: "many/".into(), range_end: "many0".into(), prev_kv: true };
    let mut deletion = Box::pin(kv.delete_range(delete));
    assert!(is_pending(&mut large).await && is_pending(&mut deletion).await);
    assert!(!server.is_there("large").await && server.is_there("many/00000").await);
    // What is small waits for nobody.
    server.put("a", "1").await;
    let again = pb::PutRequest { prev_kv: true, ..put("a", 10) };
    assert_eq!(server.kv().put(again).await.unwrap().into_inner().prev_kv.unwrap().value, "1");
    assert_eq!(found(&server.kv().txn(both(put("b", 1), range("a", "b"))).await.unwrap().into_inner()), 1);
    server.delete("a").await;
    drop(room);
    let response = large.await.unwrap().into_inner();
    assert_eq!(found(&response), KEYS);
    assert!(server.is_there("large").await);
    let response = deletion.await.unwrap().into_inner();
    assert_eq!((response.deleted, response.prev_kvs.len()), (KEYS as i64, KEYS));
    assert_eq!(server.free_bytes(), RESPONSES_HELD_BYTES_MAX);
    server.stop().await;
}

#[tokio::test]
async fn writes_that_answer_much_take_turns_and_few_of_them_wait() {
    let server = filled().await;
    let turns = server.services.shared.large_writes.take_all_turns();
    let mut kv = server.kv();
    let mut large = Box::pin(kv.txn(both(put("large", 1), range("many/", "many0"))));
    assert!(is_pending(&mut large).await);
    let waiting = server.services.shared.large_writes.take_waiting(WAITING_WRITES_BYTES_MAX / 2);
    assert!(waiting.is_some());
    let much = both(put("much", 1), range("many/", "many0"));
    let rest = server.services.shared.large_writes.take_waiting(WAITING_WRITES_BYTES_MAX / 2 - 6_000);
    assert!(rest.is_some());
    let refused = fault(server.kv().txn(much.clone()).await);
    assert_eq!(refused, (Code::Unknown, "etcdserver: too many requests".into()));
    assert!(!server.is_there("much").await);
    drop((waiting, rest, turns));
    assert_eq!(found(&large.await.unwrap().into_inner()), KEYS);
    assert_eq!(found(&server.kv().txn(much).await.unwrap().into_inner()), KEYS);
    server.stop().await;
}

/// What a write has put is found by all of its own reads.
#[tokio::test]
async fn what_a_write_puts_itself_may_be_much() {
    let server = Server::start();
    let _turns = server.services.shared.large_writes.take_all_turns();
    let mut success = vec![op(request_op::Request::RequestPut(put("own", 200 << 10)))];
    success.extend((0..6).map(|_| op(request_op::Request::RequestRange(range("own", "")))));
    let mut kv = server.kv();
    let mut large = Box::pin(kv.txn(pb::TxnRequest { success, ..Default::default() }));
    assert!(is_pending(&mut large).await);
    let one = server.kv().txn(both(put("own", 1 << 20), range("own", ""))).await.unwrap().into_inner();
    assert_eq!(found(&one), 1);
    server.stop().await;
}

/// The call's answer without its message.
async fn unread(server: &Server, transaction: pb::TxnRequest) -> tonic::Streaming<pb::TxnResponse> {
    let mut grpc = tonic::client::Grpc::new(server.routes.clone()).max_decoding_message_size(usize::MAX);
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/etcdserverpb.KV/Txn");
    let codec = tonic_prost::ProstCodec::<pb::TxnRequest, pb::TxnResponse>::default();
    grpc.server_streaming(Request::new(transaction), path, codec).await.unwrap().into_inner()
}

#[tokio::test]
async fn the_response_of_a_write_is_counted_and_never_waits() {
    let server = filled().await;
    let before = server.free_bytes();
    let mut large = unread(&server, both(put("large", 1), range("many/", "many0"))).await;
    let taken = before - server.free_bytes();
    assert!(taken > KEYS * 100, "{taken} bytes");
    assert_eq!(found(&large.message().await.unwrap().unwrap()), KEYS);
    drop(large);
    assert_eq!(server.free_bytes(), before);

    let room = server.take_room(RESPONSES_HELD_BYTES_MAX - UNCOUNTED_RESPONSE_BYTES_MAX).await;
    let mut little = unread(&server, both(put("k", 60 << 10), range("k", "l"))).await;
    assert_eq!(server.free_bytes(), UNCOUNTED_RESPONSE_BYTES_MAX, "a little is not counted");
    assert_eq!(found(&little.message().await.unwrap().unwrap()), 1);
    drop(room);
    server.stop().await;
}
