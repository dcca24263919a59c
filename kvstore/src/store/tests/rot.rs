//! A table that has rotted under a store: whoever needs it is told so, and nobody else has to suffer.

use super::{config, default_keyspace, in_time, value_of};
use crate::command::{
    Compare, CompareResult, CompareTarget, DeleteRange, Operation, Put, PutLease, PutValue, RangeQuery,
    ReadAt, Transaction,
};
use crate::store::{Config, Consistency, Keyspace, Placement, Store};
use crate::types::{Error, KeyRange, LeaseId, Result, Revision};
use std::path::Path;
use tempfile::TempDir;

/// Of no other value, and longer than a block of a table.
fn value(number: u64) -> Vec<u8> {
    let mut seed = number + 1;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    };
    (0..40 << 10).map(|_| next()).collect()
}

fn cold(directory: &TempDir) -> Config {
    Config { value_cache_bytes: 0, ..config(directory, Placement::Thread) }
}

/// Changes a byte in the middle of `value` in whatever table has it.
fn rot(data_dir: &Path, value: &[u8]) {
    let mut rotten = 0;
    for file in std::fs::read_dir(data_dir.join("state")).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let part = &value[20_000..20_032];
        if path.extension().is_some_and(|extension| extension == "sst")
            && let Some(at) = bytes.windows(part.len()).position(|window| window == part)
        {
            bytes[at] ^= 0x40;
            std::fs::write(&path, bytes).unwrap();
            rotten += 1;
        }
    }
    assert_eq!(rotten, 1, "the value is in one table");
}

/// A store with these values in its tables, stopped; the revision of the first is 2.
async fn written(config: &Config, values: &[(&'static str, u64)]) {
    let store = Store::open(config.clone()).unwrap();
    let kv = default_keyspace(&store);
    for (key, number) in values {
        in_time(kv.put(*key, value(*number))).await.unwrap();
    }
    in_time(store.stop()).await;
}

fn put(key: &'static str, value: PutValue, want_previous: bool) -> Operation {
    Operation::Put(Put { key: key.into(), value, lease: PutLease::Set(LeaseId::NONE), want_previous })
}

fn set(key: &'static str) -> Operation {
    put(key, PutValue::Set("new".into()), false)
}

fn read(key: &'static str) -> Operation {
    Operation::Range(RangeQuery::new(KeyRange::single(key)))
}

/// What kube-apiserver sends: a change of what it has seen, or else what is there instead.
fn guarded(key: &'static str, seen: i64) -> Transaction {
    let compare = Compare {
        range: KeyRange::single(key),
        target: CompareTarget::ModRevision(Revision::new(seen)),
        result: CompareResult::Equal,
    };
    Transaction { compares: vec![compare], success: vec![set(key)], failure: vec![read(key)] }
}

fn is_value(key: &'static str, expected: Vec<u8>) -> Compare {
    Compare {
        range: KeyRange::single(key),
        target: CompareTarget::Value(expected.into()),
        result: CompareResult::Equal,
    }
}

fn alone(operation: Operation) -> Transaction {
    Transaction { success: vec![operation], ..Default::default() }
}

/// Transactions that need the value of "rotten".
fn readers() -> Vec<(&'static str, Transaction)> {
    let delete = DeleteRange { range: KeyRange::all(), want_previous: true };
    let nested =
        Transaction { failure: vec![Operation::Transaction(guarded("rotten", 99))], ..guarded("good", 99) };
    let compared = Transaction {
        compares: vec![is_value("rotten", value(1))],
        success: vec![set("x")],
        failure: vec![],
    };
    let at = ReadAt::Revision(Revision::new(3));
    let past = RangeQuery { at, ..RangeQuery::new(KeyRange::single("rotten")) };
    vec![
        ("a failure branch that reads", guarded("rotten", 99)),
        ("a previous value", alone(put("rotten", PutValue::Set("new".into()), true))),
        ("a kept value", alone(put("rotten", PutValue::Keep, false))),
        ("a value compared", compared),
        ("previous values of a delete", alone(Operation::Delete(delete))),
        ("a branch in a branch", nested),
        ("the past", Transaction { success: vec![set("x"), Operation::Range(past)], ..Default::default() }),
    ]
}

async fn read_plainly(kv: &Keyspace, key: &'static str) -> Result<Vec<u8>> {
    value_of(kv, key).await
}

#[tokio::test]
async fn a_transaction_that_needs_rotten_values_is_refused_and_the_next_start_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let config = cold(&directory);
    written(&config, &[("good", 0), ("rotten", 1), ("other", 2)]).await;
    rot(&config.data_dir, &value(1));
    for start in 0..2 {
        let store = Store::open(config.clone()).unwrap();
        let kv = default_keyspace(&store);
        let told = in_time(read_plainly(&kv, "rotten")).await.unwrap_err();
        assert!(matches!(&told, Error::Damaged { .. }), "{told}");
        let entries = store.metrics().entries_proposed;
        for (what, transaction) in readers() {
            let refused = in_time(kv.transact(transaction)).await.map(|_| ()).unwrap_err();
            assert_eq!(refused, told, "{what}, start {start}");
        }
        let metrics = store.metrics();
        assert_eq!((metrics.entries_proposed, metrics.commands_refused), (entries, readers().len() as u64));

        // Those who do not need it are served, together with one that does.
        let (good, refused) = tokio::join!(kv.transact(alone(set("a"))), kv.transact(guarded("rotten", 99)));
        assert_eq!((good.map(|outcome| outcome.succeeded), refused.map(|_| ())), (Ok(true), Err(told)));
        assert_eq!(in_time(read_plainly(&kv, "good")).await.unwrap(), value(0));
        in_time(kv.put("other", "x")).await.unwrap();
        in_time(store.stop()).await;
    }
    // What need not be read can be replaced, and is whole again.
    let store = Store::open(config).unwrap();
    let kv = default_keyspace(&store);
    assert!(in_time(kv.transact(guarded("rotten", 3))).await.unwrap().succeeded);
    assert_eq!(in_time(read_plainly(&kv, "rotten")).await.unwrap(), b"new");
    assert!(!in_time(kv.transact(guarded("rotten", 3))).await.unwrap().succeeded);
    in_time(store.stop()).await;
}

#[tokio::test]
async fn a_removal_that_meets_rot_is_given_up_until_the_next_compaction() {
    let directory = tempfile::tempdir().unwrap();
    let config = cold(&directory);
    written(&config, &[("a", 0), ("a", 1), ("a", 2), ("b", 3)]).await;
    rot(&config.data_dir, &value(1));
    let mut revision = 5;
    for start in 0..3 {
        let store = Store::open(config.clone()).unwrap();
        let kv = default_keyspace(&store);
        let failed = || store.metrics().removals_failed;
        // Each start after a compaction tries once.
        let at_start = u64::from(start > 0);
        let tried = async {
            while failed() < at_start {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        in_time(tried).await;
        revision = in_time(kv.put("c", format!("{start}"))).await.unwrap().revision.get().max(revision);
        assert_eq!(failed(), at_start, "start {start}: tried again without a compaction");
        let compacted = in_time(kv.compact(Revision::new(revision), true)).await;
        let error = compacted.unwrap_err();
        assert!(matches!(&error, Error::Damaged { path, .. } if path.extension().is_some()), "{error}");
        assert!(error.to_string().contains("restore"), "{error}");
        assert_eq!(failed(), at_start + 1);

        // Alive, and nothing is gone that lives.
        assert_eq!(in_time(read_plainly(&kv, "a")).await.unwrap(), value(2));
        assert_eq!(in_time(read_plainly(&kv, "b")).await.unwrap(), value(3));
        let newest = in_time(kv.put("c", "after")).await.unwrap().revision;
        assert_eq!(newest.get(), revision + 1);
        let query = RangeQuery { at: ReadAt::Revision(newest), ..RangeQuery::new(KeyRange::all()) };
        let all = in_time(kv.range(query, Consistency::Linearizable)).await.unwrap();
        assert_eq!(all.result.kvs.len(), 3);
        let metrics = store.metrics();
        assert_eq!((metrics.removals_failed, metrics.versions_removed), (at_start + 1, 0), "start {start}");
        in_time(store.stop()).await;
        assert_eq!(in_time(store.failed()).await, Error::Stopped, "start {start}");
        revision += 1;
    }
}
