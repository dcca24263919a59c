//! Attacks by reading.

use crate::attacker::Attacker;
use etcd_shim::proto::plain::etcdserverpb as pb;
use pb::maintenance_client::MaintenanceClient;
use std::time::Instant;
use tokio::task::JoinSet;

const PREFIX: &str = "/attack/list/";

fn everything() -> pb::RangeRequest {
    pb::RangeRequest { key: PREFIX.into(), range_end: "/attack/list0".into(), ..Default::default() }
}

fn keys(attacker: &Attacker) -> u64 {
    attacker.scale(1_000_000, 50_000)
}

/// The keys to list.
pub async fn fill(attacker: Attacker) {
    attacker.fill(PREFIX, keys(&attacker), 100).await;
}

/// Two clients that list everything, again and again.
pub async fn lists(attacker: Attacker) {
    let mut readers = JoinSet::new();
    for _ in 0..2 {
        let attacker = attacker.clone();
        readers.spawn(async move {
            let mut kv = attacker.kv().await;
            while attacker.goes_on() {
                let begun = Instant::now();
                let outcome = kv.range(everything()).await;
                attacker.tell(&outcome);
                if let Ok(response) = outcome {
                    let found = response.into_inner().kvs.len() as u64;
                    assert_eq!(found, keys(&attacker), "a list that is not whole");
                    attacker.note(format!("a list took {:.1} s", begun.elapsed().as_secs_f64()));
                }
            }
        });
    }
    readers.join_all().await;
}

/// Clients that ask for everything and read nothing of it.
pub async fn unread_lists(attacker: Attacker) {
    let mut readers = JoinSet::new();
    for _ in 0..20 {
        let attacker = attacker.clone();
        readers.spawn(async move {
            let mut grpc = tonic::client::Grpc::new(attacker.channel().await);
            grpc.ready().await.expect("a connection");
            let path = http::uri::PathAndQuery::from_static("/etcdserverpb.KV/Range");
            let codec = tonic_prost::ProstCodec::<pb::RangeRequest, pb::RangeResponse>::default();
            // As a stream: the head of the answer is read, its message is left to the window.
            let call = grpc.server_streaming(tonic::Request::new(everything()), path, codec);
            tokio::select! {
                outcome = call => {
                    attacker.tell(&outcome);
                    // Holds the answer, and reads nothing of it.
                    attacker.wait_for_the_end().await;
                }
                () = attacker.wait_for_the_end() => attacker.count("still in line"),
            }
        });
    }
    readers.join_all().await;
}

/// As many hashes as one likes, all at once.
pub async fn hashes(attacker: Attacker) {
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let attacker = attacker.clone();
        callers.spawn(async move {
            let mut maintenance = MaintenanceClient::new(attacker.channel().await);
            while attacker.goes_on() {
                tokio::select! {
                    outcome = maintenance.hash_kv(pb::HashKvRequest { revision: 0 }) => attacker.tell(&outcome),
                    () = attacker.wait_for_the_end() => {}
                }
            }
        });
    }
    callers.join_all().await;
}
