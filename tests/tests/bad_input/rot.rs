//! Rot: many flips and cuts at random places of every file, and all lengths that end where a frame of the log does.
//!
//! `HOLDFAST_ROTS` asks for more, `HOLDFAST_SEED` repeats them.

use crate::attempt::{check_filled, get};
use crate::damage::{config, flip, make, outcome, rest, used};
use crate::directory::stopped;
use crate::told::Done;
use bytes::Bytes;
use holdfast_tests::wire::etcdserverpb::kv_client::KvClient;
use holdfast_tests::wire::etcdserverpb::maintenance_client::MaintenanceClient;
use holdfast_tests::wire::etcdserverpb::watch_client::WatchClient;
use holdfast_tests::wire::etcdserverpb::watch_request::RequestUnion;
use holdfast_tests::wire::etcdserverpb::{
    CompactionRequest, Compare, HashKvRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest, WatchRequest, compare, request_op,
};
use holdfast_tests::{check_advice, copy_all, files};
use kvstore::store::Store;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tonic::{Code, Status};

/// For each of the two directories.
const ROTS: u64 = 16;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn random(state: &mut u64, below: usize) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 16) as usize % below.max(1)
}

/// Damages the file at a place drawn at random; says how.
fn damage(path: &Path, good: &[u8], state: &mut u64) -> String {
    // Most of a file may be zeros that nobody has used yet.
    let places = if random(state, 4) == 0 { good.len() } else { used(good) };
    let at = random(state, places);
    let mut bad = good.to_vec();
    let what = match random(state, 5) {
        0 => {
            flip(path, good, at);
            return format!("bit 6 of byte {at} of {places}");
        }
        1 => {
            bad.truncate(at);
            format!("cut at byte {at} of {places}")
        }
        2 => {
            bad.truncate(at / 4096 * 4096);
            format!("cut at byte {} of {places}, where a page ends", at / 4096 * 4096)
        }
        3 => {
            let end = (at / 512 * 512 + 512).min(bad.len());
            bad[at / 512 * 512..end].fill(0);
            format!("zeros in the sector of byte {at} of {places}")
        }
        _ => {
            let end = (at + 1 + random(state, 64)).min(bad.len());
            for byte in &mut bad[at.min(end)..end] {
                *byte = random(state, 256) as u8;
            }
            format!("noise in bytes {at}..{end} of {places}")
        }
    };
    fs::write(path, bad).expect("a file is written");
    what
}

async fn rots(flushed: bool) {
    let count = variable("HOLDFAST_ROTS").unwrap_or(ROTS);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    let seed = variable("HOLDFAST_SEED").unwrap_or(now.subsec_nanos().into());
    println!("HOLDFAST_ROTS={count} HOLDFAST_SEED={seed}");
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let good = directory.path().join("good");
    make(&good, flushed).await;
    if !flushed {
        // Until the log is sealed, nothing tells rot in its last frame from a torn write.
        assert_eq!(rest(&good).await, Ok(()));
    }
    let all = files(&good);
    for number in 0..count as usize {
        let file = &all[number % all.len()];
        let name = file.strip_prefix(&good).expect("it lies there").to_path_buf();
        let bad = directory.path().join("bad");
        copy_all(&good, &bad);
        let bytes = fs::read(file).expect("the good file");
        let what = damage(&bad.join(&name), &bytes, &mut state);
        let done = Done::to(&name, what);
        let told = outcome(&bad, &done).await;
        println!("{done}: {told:?}");
        if let Err(error) = told {
            done.check_refused(&bad, &error);
            fs::write(bad.join(&name), &bytes).expect("the good file is put back");
            assert_eq!(outcome(&bad, &done.undone()).await, Ok(true), "{}", done.undone());
        }
        fs::remove_dir_all(&bad).expect("the directory goes");
    }
}

#[tokio::test]
async fn rot_in_a_store_that_stopped_is_noticed_or_harmless() {
    rots(true).await;
}

#[tokio::test]
async fn rot_in_a_store_that_crashed_is_noticed_or_harmless() {
    rots(false).await;
}

/// The log of a store that rests, cut wherever a page ends, and in each sector of the last entries flipped: the state has
/// none of it.
#[tokio::test]
async fn the_last_entries_of_a_log_at_rest_are_not_taken_for_a_torn_write() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let good = directory.path().join("good");
    make(&good, false).await;
    // The copy was taken right after the last write; a start and an end in the middle of nothing bring it to rest.
    assert_eq!(rest(&good).await, Ok(()));
    let segments = files(&good.join("log"));
    let last = segments.iter().rfind(|path| used(&fs::read(path).expect("a segment")) > 4096);
    let last = last.expect("a segment with frames");
    let name = last.strip_prefix(&good).expect("it lies there");
    let bytes = fs::read(last).expect("the segment");
    let end = used(&bytes);
    let cuts =
        (1..=4).map(|pages| end.next_multiple_of(4096).saturating_sub(pages * 8192)).map(|at| (at, true));
    let flips = (1..=12).map(|sectors| end - 64 - sectors * 3000).map(|at| (at, false));
    for (at, is_cut) in cuts.chain(flips) {
        let bad = directory.path().join("bad");
        copy_all(&good, &bad);
        if is_cut {
            fs::write(bad.join(name), &bytes[..at]).expect("a file is written");
        } else {
            flip(&bad.join(name), &bytes, at);
        }
        let done = Done::to(name, format!("the last frames, at byte {at}"));
        done.check_refused(&bad, &outcome(&bad, &done).await.expect_err("damage"));
        fs::remove_dir_all(&bad).expect("the directory goes");
    }
    assert_eq!(outcome(&good, &Done::nothing("undamaged")).await, Ok(true));
}

/// A list of tables that ends early and is nevertheless whole, record by record: no checksum is wrong.
async fn manifest_cuts(lives: u32) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let good = directory.path().join("good");
    make(&good, true).await;
    for _ in 1..lives {
        Store::open(config(&good)).expect("the store opens").stop().await;
    }
    let manifest = files(&good.join("state"))
        .into_iter()
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST-")))
        .expect("a manifest");
    let name = manifest.strip_prefix(&good).expect("it lies there");
    let bytes = fs::read(&manifest).expect("the manifest");
    let (mut at, mut refusals) = (0, 0);
    while at < bytes.len() {
        let bad = directory.path().join("bad");
        copy_all(&good, &bad);
        fs::write(bad.join(name), &bytes[..at]).expect("a file is written");
        let done = Done::to(name, format!("of life {lives}, cut at byte {at}, where a record ends"));
        let told = outcome(&bad, &done).await;
        println!("{done}: {told:?}");
        match told {
            // Without the flush all of it is still in the log.
            Ok(whole) => assert!(whole, "{done}"),
            Err(error) => {
                done.check_refused(&bad, &error);
                assert!(error.to_string().contains(&name.display().to_string()), "{done}: {error}");
                refusals += 1;
                fs::write(bad.join(name), &bytes).expect("the good file is put back");
                assert_eq!(outcome(&bad, &done.undone()).await, Ok(true), "{}", done.undone());
            }
        }
        fs::remove_dir_all(&bad).expect("the directory goes");
        // A record is four bytes of checksum, two of length, one of its kind, and its data.
        at += 7 + usize::from(u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]));
    }
    assert!(refusals > 5, "{refusals} refusals");
}

#[tokio::test]
async fn a_manifest_cut_where_a_record_ends_is_noticed_or_harmless() {
    manifest_cuts(1).await;
}

/// It begins with all the tables that there are, family by family.
#[tokio::test]
async fn a_later_manifest_cut_where_a_record_ends_is_noticed_or_harmless() {
    manifest_cuts(2).await;
}

fn check_data_loss(status: &Status) {
    assert_eq!(status.code(), Code::DataLoss, "{status}");
    assert!(status.message().contains("damaged"), "{status}");
}

/// A client that reads what has rotted is told so, and the operator is told where; all else is served.
#[tokio::test(flavor = "multi_thread")]
async fn rot_in_a_table_is_data_loss_to_clients_and_named_to_the_operator() {
    let mut node = stopped().await;
    let state = node.data_dir().join("state");
    let is_table = |path: &&std::path::PathBuf| path.extension().is_some_and(|extension| extension == "sst");
    // The largest table has the values.
    let table = files(&state)
        .iter()
        .filter(is_table)
        .max_by_key(|path| fs::metadata(path).expect("a file").len())
        .cloned();
    let table = table.expect("a table");
    let good = fs::read(&table).expect("the table");
    flip(&table, &good, 100);
    let name = table.file_name().expect("a name").to_string_lossy().into_owned();
    node.start();
    let channel = node.channel();
    let mut kv = KvClient::new(channel.clone());
    let key = |number: u32| RangeRequest { key: format!("key/{number}").into(), ..Default::default() };
    let mut unread = Vec::new();
    for number in 0..20 {
        match kv.range(key(number)).await {
            Ok(answer) => {
                let value = answer.into_inner().kvs[0].value.to_vec();
                assert_eq!(value, vec![number as u8; 500], "key {number}");
            }
            Err(status) => {
                check_data_loss(&status);
                assert!(status.message().contains(&name), "{status}");
                check_advice(status.message(), "a refused read");
                unread.push(number);
            }
        }
    }
    let rotten = *unread.first().expect("the table is read");
    let mut maintenance = MaintenanceClient::new(channel.clone());
    let unread = maintenance.hash_kv(HashKvRequest { revision: 0 }).await.expect_err("no hash");
    check_data_loss(&unread);
    assert!(unread.message().contains(&name), "{unread}");
    // A watch has no word for the file: the server's log has it.
    check_data_loss(&watch_from_the_first(&node).await);
    // It compacts: what is above is asked before.
    check_writers_are_told(&node, rotten).await;
    crate::attempt::put(&channel, "new", b"new").await.expect("writes go on");
    assert_eq!(get(&channel, "new").await.as_deref(), Some(&b"new"[..]));
    assert!(node.log().contains(&name), "the operator is not told");
    node.kill();
    // What was refused is not in the log; the removal that was given up is tried once more.
    node.start();
    check_writers_are_told(&node, rotten).await;
    assert_eq!(get(&node.channel(), "new").await.as_deref(), Some(&b"new"[..]));
    node.kill();
    fs::write(&table, &good).expect("the good table");
    node.start();
    check_filled(&node).await;
}

/// Who needs the value of this key to write, or a compaction that has to pass it, is told so; the node goes on.
async fn check_writers_are_told(node: &holdfast_tests::Node, rotten: u32) {
    let mut kv = KvClient::new(node.channel());
    let key = Bytes::from(format!("key/{rotten}"));
    let with_previous = PutRequest { key: key.clone(), prev_kv: true, ..Default::default() };
    check_data_loss(&kv.put(with_previous).await.expect_err("a previous value"));
    let kept = PutRequest { key: key.clone(), ignore_value: true, ..Default::default() };
    check_data_loss(&kv.put(kept).await.expect_err("a kept value"));
    // As kube-apiserver creates a key that is there already.
    let compare = Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(compare::TargetUnion::ModRevision(0)),
        ..Default::default()
    };
    let put = PutRequest { key: key.clone(), ..Default::default() };
    let read = RangeRequest { key, ..Default::default() };
    let operation = |request| vec![RequestOp { request: Some(request) }];
    let create = TxnRequest {
        compare: vec![compare],
        success: operation(request_op::Request::RequestPut(put)),
        failure: operation(request_op::Request::RequestRange(read)),
    };
    check_data_loss(&kv.txn(create).await.expect_err("the value that is there"));
    let newest = crate::attempt::put(&node.channel(), "newest", b"").await.expect("writes go on");
    let compaction = CompactionRequest { revision: newest, physical: true };
    check_data_loss(&kv.compact(compaction).await.expect_err("nothing is removed"));
    assert_eq!(get(&node.channel(), "newest").await.as_deref(), Some(&b""[..]));
}

/// How a watch of everything from the first revision ends.
async fn watch_from_the_first(node: &holdfast_tests::Node) -> Status {
    let create = WatchCreateRequest {
        key: b"\0".to_vec().into(),
        range_end: b"\0".to_vec().into(),
        start_revision: 1,
        ..Default::default()
    };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    // The stream of requests stays open: its end would be the watch's.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    sender.send(request).await.expect("room for one");
    let mut client = WatchClient::new(node.channel());
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut answers = client.watch(requests).await.expect("a watch").into_inner();
    loop {
        match tokio::time::timeout(Duration::from_secs(30), answers.message()).await.expect("an end in time")
        {
            Ok(Some(answer)) => assert!(answer.events.len() < 20, "rotten events"),
            Ok(None) => panic!("the watch ended without a reason"),
            Err(status) => return status,
        }
    }
}
