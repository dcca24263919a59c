//! Whether a server syncs what it acknowledges: seen at the disk, not read in its manual.

use crate::Failure;
use crate::target::Target;
use bytes::Bytes;
use etcd_shim::proto::plain::etcdserverpb::kv_client::KvClient;
use holdfast_benches::requests::{Random, guarded_create};
use std::time::Instant;

/// One after the other, each answered before the next is sent: no two can share a sync.
const WRITES: u64 = 100;
const VALUE_BYTES: usize = 1024;

/// What the disk was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Cache flushes during the writes.
    pub flushes: u64,
    /// In the same time without them, by whoever else uses the disk.
    pub idle_flushes: u64,
}

/// Others who use the disk blur the picture; it is looked at so often.
const ATTEMPTS: usize = 5;

/// None if the disk does not count: in memory, on a network.
pub async fn probe(target: &Target) -> Result<Option<Seen>, Failure> {
    for attempt in 1.. {
        let seen = attempt_one(target, attempt).await?;
        if attempt == ATTEMPTS || seen.is_none_or(Seen::is_clear) {
            return Ok(seen);
        }
    }
    unreachable!("the last attempt has returned")
}

async fn attempt_one(target: &Target, attempt: usize) -> Result<Option<Seen>, Failure> {
    let Some(device) = target.device() else { return Ok(None) };
    let mut kv = KvClient::new(target.channel().await?);
    let mut random = Random::new(1);
    // The first one makes the connection, and files that do not exist yet.
    let mut create = async |number: u64| {
        let key = Bytes::from(format!("/registry/durable/{attempt}-{number:04}"));
        kv.txn(guarded_create(key, random.value(VALUE_BYTES))).await.map(drop)
    };
    create(0).await?;
    let (before, begun) = (device.counters(), Instant::now());
    for number in 1..=WRITES {
        create(number).await?;
    }
    let after = device.counters();
    tokio::time::sleep(begun.elapsed()).await;
    let idle = device.counters();
    let (Some(before), Some(after), Some(idle)) = (before, after, idle) else { return Ok(None) };
    Ok(Some(Seen { flushes: after.flushes - before.flushes, idle_flushes: idle.flushes - after.flushes }))
}

impl Seen {
    /// A flush for each write that nobody else asked for, or too few for all of them.
    fn is_clear(self) -> bool {
        self.flushes < WRITES || self.flushes.saturating_sub(self.idle_flushes) >= WRITES
    }
}

/// A sentence about it.
pub fn sentence(seen: Option<Seen>) -> String {
    let Some(Seen { flushes, idle_flushes }) = seen else {
        return "its disk does not count flushes: whether writes are durable was not seen".into();
    };
    let verdict = if flushes < WRITES {
        "NOT DURABLE: it answers before the disk has the write"
    } else if (Seen { flushes, idle_flushes }).is_clear() {
        "durable"
    } else {
        "not seen clearly, others use the disk too"
    };
    format!(
        "{flushes} cache flushes of the disk during {WRITES} writes one after the other ({idle_flushes} in the same time \
         without): {verdict}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_flush_for_each_write_is_durable() {
        let of = |flushes, idle_flushes| sentence(Some(Seen { flushes, idle_flushes }));
        assert!(of(100, 0).ends_with(": durable"));
        assert!(of(260, 20).ends_with(": durable"));
        assert!(of(99, 0).contains("NOT DURABLE"));
        assert!(of(150, 60).contains("not seen clearly"));
        assert!(sentence(None).contains("was not seen"));
    }
}
