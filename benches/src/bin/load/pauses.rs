//! What may hold writes up, asked for while they are measured.

use crate::Failure;
use crate::arguments::Arguments;
use crate::client::prefix;
use crate::fill::overwrite;
use crate::scenario::{Disturbance, Scenario};
use crate::target::Target;
use etcd_shim::proto::plain::etcdserverpb as pb;
use holdfast_benches::requests::{Random, put};
use pb::kv_client::KvClient;
use pb::maintenance_client::MaintenanceClient;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// The prepared keys that each round gives a new value, so that there are old versions to remove: every fifth.
const OVERWRITTEN_SHARE: usize = 5;
/// Of the round, before the disturbance.
const LEAD_SHARE: f64 = 0.2;
const FLUSH_WRITERS: usize = 2;
const FLUSH_WRITES: usize = 256;
const FLUSH_VALUE_BYTES: usize = 64 << 10;

pub async fn prepare(target: &mut Target, scenario: &Scenario, arguments: &Arguments) -> Result<(), Failure> {
    let keys = scenario.keys.div_ceil(OVERWRITTEN_SHARE);
    overwrite(target, &prefix(scenario), keys, arguments.value_bytes).await
}

/// Asks for it, and says how many milliseconds that took. The load goes on after that.
pub async fn disturb(
    target: &Target,
    disturbance: Disturbance,
    arguments: &Arguments,
) -> Result<Option<f64>, Failure> {
    tokio::time::sleep(Duration::from_secs_f64(arguments.seconds * LEAD_SHARE)).await;
    let channel = target.channel().await?;
    let begun = Instant::now();
    match disturbance {
        Disturbance::Nothing => return Ok(None),
        Disturbance::Compaction => {
            let mut kv = KvClient::new(channel);
            let newest = kv.range(pb::RangeRequest { key: "/".into(), ..Default::default() }).await?;
            let revision = crate::client::revision(newest.into_inner().header)?;
            kv.compact(pb::CompactionRequest { revision, physical: true }).await?;
        }
        Disturbance::Defragment => {
            MaintenanceClient::new(channel).defragment(pb::DefragmentRequest {}).await?;
        }
        Disturbance::Flush => {
            let mut writers = JoinSet::new();
            for writer in 0..FLUSH_WRITERS {
                let mut kv = KvClient::new(target.channel().await?);
                writers.spawn(async move {
                    let mut random = Random::new(writer as u64 + 1);
                    for number in 0..FLUSH_WRITES {
                        let key = format!("/registry/large/{writer}-{number}");
                        kv.put(put(key.into(), random.value(FLUSH_VALUE_BYTES))).await?;
                    }
                    Ok::<(), tonic::Status>(())
                });
            }
            while let Some(done) = writers.join_next().await {
                done??;
            }
        }
    }
    Ok(Some(begun.elapsed().as_secs_f64() * 1e3))
}
