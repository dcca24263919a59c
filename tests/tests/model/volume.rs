//! More data than the cache and several logs hold: values come from disk, segments are recycled and purged.

use crate::subject::{put, small};
use bytes::Bytes;
use kvstore::command::{RangeQuery, ReadAt};
use kvstore::store::{Consistency, Placement, Store};
use kvstore::{KeyRange, KeyspaceId, Revision};

/// Twice what the core writes between two flushes, and some.
const LOG_BYTES: usize = 40 << 20;
const VALUE_BYTES: usize = 160 << 10;
const KEYS: usize = 24;

/// Values that do not compress, different for each write.
fn value(number: usize) -> Bytes {
    let mut seed = number as u64 + 1;
    let noise = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed.to_be_bytes()
    });
    noise.take(VALUE_BYTES / 8).flatten().collect()
}

fn segments(directory: &std::path::Path) -> usize {
    std::fs::read_dir(directory.join("data/log")).expect("the log").count()
}

#[tokio::test]
async fn data_beyond_the_cache_and_a_purged_log_survive_starts() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = small(&directory, Placement::Thread);
    let writes = LOG_BYTES / VALUE_BYTES;
    let mut store = Store::open(config.clone()).expect("the store opens");
    let mut kv = store.keyspace(KeyspaceId::DEFAULT);
    let mut most_segments = 0;
    for number in 0..writes {
        let key = format!("k{:02}", number % KEYS);
        kv.transact(put(key.into(), value(number))).await.expect("a put");
        most_segments = most_segments.max(segments(directory.path()));
        if number % 100 == 99 {
            if number % 200 == 199 {
                store.stop().await;
            }
            drop((kv, store));
            store = Store::open(config.clone()).expect("the store opens again");
            kv = store.keyspace(KeyspaceId::DEFAULT);
        }
    }
    assert!(most_segments < 48, "{most_segments} segments: the log is never purged");

    for number in (0..writes).rev().step_by(7) {
        // Revision 2 is the first write.
        let at = ReadAt::Revision(Revision::new(number as i64 + 2));
        let query = RangeQuery { at, ..RangeQuery::new(KeyRange::single(format!("k{:02}", number % KEYS))) };
        let found = kv.range(query, Consistency::Linearizable).await.expect("a read").result.kvs;
        assert_eq!(found[0].value(), &value(number)[..], "write {number}");
    }
    let all = kv.range(RangeQuery::new(KeyRange::all()), Consistency::Linearizable).await.expect("a read");
    for (at, kv) in all.result.kvs.iter().enumerate() {
        let newest = (0..writes).rev().find(|number| number % KEYS == at).expect("each key was written");
        assert_eq!(kv.value(), &value(newest)[..]);
    }
    assert_eq!(all.result.kvs.len(), KEYS);
    store.stop().await;
}
