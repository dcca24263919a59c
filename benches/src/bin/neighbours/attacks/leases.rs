//! An attack by letting go: leases that all end in the same second.

use crate::attacker::Attacker;
use etcd_shim::proto::plain::etcdserverpb as pb;
use pb::lease_client::LeaseClient;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tonic::Code;

/// Requests under way while leases are made.
const AT_ONCE: usize = 64;

/// Makes the leases, each with a key, with times to live that end together a little after the neighbours' quiet time.
pub async fn prepare(attacker: Attacker) {
    let count = attacker.scale(100_000i64, 5_000);
    // Making one costs two requests; a slow machine makes a thousand in a second.
    let end = Instant::now() + Duration::from_secs(attacker.scale(75, 6));
    let (channel, kv) = (attacker.channel().await, attacker.kv().await);
    let mut tasks = JoinSet::new();
    for id in 1..=count {
        let (mut leases, mut kv) = (LeaseClient::new(channel.clone()), kv.clone());
        tasks.spawn(async move {
            let asked = Instant::now();
            let ttl_s = end.saturating_duration_since(asked).as_secs().max(2);
            leases.lease_grant(pb::LeaseGrantRequest { id, ttl: ttl_s as i64 }).await.expect("a lease");
            let key = format!("/attack/leased/{id}").into();
            match kv.put(pb::PutRequest { key, value: "v".into(), lease: id, ..Default::default() }).await {
                // On a machine that stands still for so long, a lease is over before its key comes.
                Err(status) if status.code() == Code::NotFound && asked.elapsed().as_secs() >= ttl_s => {}
                outcome => drop(outcome.expect("a key")),
            }
        });
        while tasks.len() >= AT_ONCE {
            tasks.join_next().await;
        }
    }
    tasks.join_all().await;
    let left = end.saturating_duration_since(Instant::now());
    attacker.note(format!("made {:.0} s before their end", left.as_secs_f64()));
    // The neighbours' warming up and quiet time pass before, and the first may end a second early.
    tokio::time::sleep(left.saturating_sub(Duration::from_secs(attacker.scale(12, 3)))).await;
}

/// Waits until all are gone, whatever the time. Asks for the number of their keys: to list all leases again and again would
/// be another attack.
pub async fn expire(attacker: Attacker) {
    let mut kv = attacker.kv().await;
    let mut first_gone: Option<Instant> = None;
    let count = attacker.scale(100_000, 5_000);
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let keys = pb::RangeRequest {
            key: "/attack/leased/".into(),
            range_end: "/attack/leased0".into(),
            count_only: true,
            ..Default::default()
        };
        let outcome = kv.range(keys).await;
        attacker.tell(&outcome);
        let left = outcome.map_or(0, |response| response.into_inner().count);
        if left < count && first_gone.is_none() {
            first_gone = Some(Instant::now());
        }
        if left == 0 {
            let took_s = first_gone.map_or(0.0, |first| first.elapsed().as_secs_f64());
            attacker.note(format!("all were gone {took_s:.1} s after the first"));
            return;
        }
    }
}
