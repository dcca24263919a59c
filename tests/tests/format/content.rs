//! Something of everything that is stored, and a text that says all of it.

use crate::config;
use holdfast_tests::copy_all;
use kvstore::command::{
    Alarm, AlarmKind, Compare, CompareResult, CompareTarget, DeleteRange, Operation, Put, PutLease, PutValue,
    RangeQuery, Transaction,
};
use kvstore::store::{Consistency, Delivered, Delivery, EventKind, Keyspace, Store, WatchOptions};
use kvstore::{KeyRange, KeyspaceId, LeaseId, Revision};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// One that no store clears by itself.
pub const ALARM: Alarm = Alarm { member: 1, kind: AlarmKind::Corrupt };

const KEYSPACES: [(&str, KeyspaceId); 2] = [("default", KeyspaceId::DEFAULT), ("k8sd", KeyspaceId::K8SD)];
/// In years no lease ends: the clock stands still while a directory lies in the repository.
const LONG_S: i64 = 1_000_000;

fn put(key: &str, value: impl Into<Vec<u8>>, lease: i64) -> Operation {
    Operation::Put(Put {
        key: key.to_string().into(),
        value: PutValue::Set(value.into().into()),
        lease: PutLease::Set(LeaseId::new(lease)),
        want_previous: false,
    })
}

fn delete(range: KeyRange) -> Operation {
    Operation::Delete(DeleteRange { range, want_previous: false })
}

async fn transact(kv: &Keyspace, success: Vec<Operation>) {
    let exists = Compare {
        range: KeyRange::single("/a/1"),
        target: CompareTarget::Version(0),
        result: CompareResult::Greater,
    };
    kv.transact(Transaction { compares: vec![exists], success, failure: Vec::new() })
        .await
        .expect("a transaction");
}

/// What the tables hold after a flush: all kinds of records, a floor, leases.
async fn write_flushed(store: &Store) {
    for (_, id) in KEYSPACES {
        let kv = store.keyspace(id);
        for number in 0..12 {
            kv.put(format!("/a/{number}"), format!("value {number}")).await.expect("a put");
        }
        kv.lease_grant(LeaseId::new(0x1001), LONG_S).await.expect("a lease");
        kv.lease_grant(LeaseId::new(0x1002), LONG_S + 1).await.expect("a lease");
        transact(
            &kv,
            vec![
                put("/leased/1", "one", 0x1001),
                put("/leased/2", "two", 0x1002),
                put("/a/3", vec![0, 255, 10], 0),
            ],
        )
        .await;
        kv.delete(KeyRange::single("/a/4")).await.expect("a deletion");
        kv.put("/a/5", vec![7; 3000]).await.expect("a put");
        let revision = kv.put("/a/5", "").await.expect("a put").revision;
        kv.compact(revision, true).await.expect("a compaction");
        kv.put("/a/4", "again").await.expect("a put");
    }
}

/// What only the log holds.
async fn write_unflushed(store: &Store) {
    for (_, id) in KEYSPACES {
        let kv = store.keyspace(id);
        transact(
            &kv,
            vec![delete(KeyRange::prefix("/a/1")), put("/b/1", "b", 0), put("/leased/3", "three", 0x1001)],
        )
        .await;
        kv.lease_keep_alive(LeaseId::new(0x1001)).await.expect("a renewal");
        kv.lease_revoke(LeaseId::new(0x1002)).await.expect("a revocation");
        kv.lease_grant(LeaseId::new(0x1003), LONG_S + 2).await.expect("a lease");
        kv.put("/b/2", vec![b'x'; 5000]).await.expect("a put");
        kv.put("/\u{e9}/\0", "odd").await.expect("a put");
    }
    store.alarm_activate(ALARM).await.expect("an alarm");
}

/// Writes a directory and copies it to `copy` as a crash would leave it. Gives its content.
pub async fn write(data_dir: &Path, copy: &Path) -> String {
    let store = Store::open(config(data_dir)).expect("the store opens");
    write_flushed(&store).await;
    store.stop().await;
    drop(store);
    let store = Store::open(config(data_dir)).expect("the store opens");
    write_unflushed(&store).await;
    let written = content(&store).await;
    // Some ticks without a write: the log is sealed.
    tokio::time::sleep(Duration::from_secs(1)).await;
    copy_all(data_dir, copy);
    store.stop().await;
    written
}

/// All that can be asked of a store, as text.
pub async fn content(store: &Store) -> String {
    let mut text = String::new();
    let status = store.status();
    line(&mut text, format!("member {:x} of cluster {:x}", status.node_id.get(), status.cluster_id));
    line(&mut text, format!("alarms {:?}", store.alarms()));
    for (name, id) in KEYSPACES {
        let kv = store.keyspace(id);
        line(
            &mut text,
            format!("keyspace {name}: revision {}, floor {}", kv.revision(), kv.reader().floor()),
        );
        keys(&mut text, &kv).await;
        history(&mut text, &kv).await;
        for lease in kv.leases().unwrap() {
            let info = kv.lease_time_to_live(lease, true).unwrap().expect("a lease");
            assert!(info.remaining_ttl_s > info.granted_ttl_s / 2, "its time stands still");
            line(&mut text, format!("lease {lease}: {} s, keys {:?}", info.granted_ttl_s, info.keys));
        }
        for revision in kv.reader().floor().get()..=kv.revision().get() {
            let hash = kv.hash_kv(Some(Revision::new(revision))).expect("a hash");
            line(
                &mut text,
                format!("hash at {revision}: {:08x}, compacted {:?}", hash.hash, hash.compact_revision),
            );
        }
    }
    text
}

fn line(text: &mut String, words: String) {
    writeln!(text, "{words}").expect("memory takes all");
}

fn shown(value: &[u8]) -> String {
    let word: String =
        value.iter().take(20).flat_map(|byte| std::ascii::escape_default(*byte)).map(char::from).collect();
    format!("{} bytes \"{word}\" sum {}", value.len(), value.iter().map(|byte| u64::from(*byte)).sum::<u64>())
}

async fn keys(text: &mut String, kv: &Keyspace) {
    let reply = kv.range(RangeQuery::new(KeyRange::all()), Consistency::Linearizable).await.expect("a read");
    for found in reply.result.kvs {
        line(
            text,
            format!(
                "key {}: created {} changed {} version {} lease {}: {}",
                found.key().escape_ascii(),
                found.create_revision,
                found.mod_revision,
                found.version,
                found.lease,
                shown(found.value())
            ),
        );
    }
}

/// The events from the floor on.
async fn history(text: &mut String, kv: &Keyspace) {
    let session = kv.watch();
    let from = kv.reader().floor();
    session.create(WatchOptions::new(KeyRange::all()).from_revision(from)).expect("a watch");
    let mut seen = Revision::NONE;
    while seen < kv.revision() {
        let next = tokio::time::timeout(Duration::from_secs(30), session.next()).await;
        match next.expect("events in time") {
            Delivery::Events { events, .. } => {
                for Delivered { event, .. } in events {
                    seen = event.revision();
                    let kind = if event.kind == EventKind::Put { "put" } else { "delete" };
                    let (key, value) = (event.kv.key().escape_ascii(), shown(event.kv.value()));
                    line(text, format!("event {seen}: {kind} {key} version {}: {value}", event.kv.version));
                }
            }
            Delivery::Canceled { reason, .. } => panic!("{reason:?}"),
            _ => {}
        }
    }
}
