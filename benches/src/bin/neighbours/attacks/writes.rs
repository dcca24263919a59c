//! Attacks by writing.

use crate::attacker::{Attacker, within};
use etcd_shim::proto::plain::etcdserverpb as pb;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A value that fits a request of the default size just so.
const LARGE_VALUE_BYTES: usize = 1_572_864 - 512;

fn put(key: String, value_bytes: usize) -> pb::PutRequest {
    pb::PutRequest { key: key.into(), value: vec![7; value_bytes].into(), ..Default::default() }
}

/// Far more operations than a transaction may have.
pub async fn too_many_operations(attacker: Attacker) {
    const OPERATIONS: usize = 100_000;
    let get = pb::RangeRequest { key: "/attack".into(), ..Default::default() };
    let operation = pb::RequestOp { request: Some(pb::request_op::Request::RequestRange(get)) };
    let kv = attacker.kv().await;
    let its = attacker.clone();
    let per_s = attacker.scale(5, 2);
    let work = move |_| {
        let (mut kv, attacker, operation) = (kv.clone(), its.clone(), operation.clone());
        async move {
            let txn = pb::TxnRequest { success: vec![operation; OPERATIONS], ..Default::default() };
            attacker.tell(&kv.txn(txn).await);
        }
    };
    attacker.at_rate(per_s, work).await;
}

/// As many of the largest values as the server takes.
pub async fn large_values(attacker: Attacker) {
    let mut clients = JoinSet::new();
    for client in 0..attacker.scale(64, 48) {
        let attacker = attacker.clone();
        clients.spawn(async move {
            let mut kv = attacker.kv().await;
            while attacker.goes_on() {
                let outcome = kv.put(put(format!("/attack/large/{client}"), LARGE_VALUE_BYTES)).await;
                attacker.tell(&outcome);
                if outcome.is_err() {
                    // A client that is told so waits; one that does not would only burn its own time.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        });
    }
    clients.join_all().await;
}

/// Everything at once, then a rest.
pub async fn bursts(attacker: Attacker) {
    let puts = attacker.scale(20_000, 4_000);
    burst_after_burst(attacker, 8, puts, 100).await;
}

/// More of the largest values at once than may be in flight, each on a connection of its own; then a rest.
pub async fn large_bursts(attacker: Attacker) {
    let puts = attacker.scale(200, 160);
    burst_after_burst(attacker, puts, puts, LARGE_VALUE_BYTES).await;
}

async fn burst_after_burst(attacker: Attacker, connection_count: usize, puts: usize, value_bytes: usize) {
    let mut connections = Vec::new();
    for _ in 0..connection_count {
        connections.push(attacker.kv().await);
    }
    while attacker.goes_on() {
        let (mut burst, begun) = (JoinSet::new(), Instant::now());
        for n in 0..puts {
            let (mut kv, attacker) = (connections[n % connections.len()].clone(), attacker.clone());
            let key = format!("/attack/burst/{n}");
            burst.spawn(async move { attacker.tell(&kv.put(put(key, value_bytes)).await) });
        }
        burst.join_all().await;
        attacker.note(format!("a burst took {:.1} s", begun.elapsed().as_secs_f64()));
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// Puts whose callers give up at once.
pub async fn deadlines(attacker: Attacker) {
    let kv = attacker.kv().await;
    let its = attacker.clone();
    let per_s = attacker.scale(1_000, 500);
    let work = move |n| {
        let (mut kv, attacker) = (kv.clone(), its.clone());
        async move {
            let put = put(format!("/attack/late/{}", n % 1000), 1000);
            // Every second one is too short for any server, so that some pass.
            let deadline = Duration::from_micros(if n % 2 == 0 { 1_000 } else { 100 });
            attacker.tell(&kv.put(within(put, deadline)).await);
        }
    };
    attacker.at_rate(per_s, work).await;
}
