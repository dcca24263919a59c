//! A disk that is full, or that became read-only. Needs to mount a small file system: skipped where that is not permitted,
//! which is said past the test harness.

use crate::attempt::{check_filled, fill, get, put, refused};
use holdfast_tests::{Kind, Mounted, Node, Setup};
use std::time::{Duration, Instant};

/// A node looks at its disk every second; one on a busy machine may not come to it for a while.
const NOTICE_LIMIT: Duration = Duration::from_secs(60);

/// A stopped node whose data directory is an empty file system of its own.
fn node_on_its_own_disk(mib: u32) -> Option<(Node, Mounted)> {
    let mut node = Setup::subject().start();
    assert!(node.stop().success());
    let mounted = Mounted::new(Kind::Tmpfs, &node.data_dir(), mib)?;
    Some((node, mounted))
}

/// Repeats a put until it passes (`Ok`) or is refused for lack of space (`Err`).
async fn wait_for(node: &Node, passes: bool) {
    let channel = node.channel();
    let deadline = Instant::now() + NOTICE_LIMIT;
    loop {
        match put(&channel, "probe", b"x").await {
            Ok(_) if passes => return,
            Err(status) if !passes => {
                assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
                assert_eq!(status.message(), "etcdserver: mvcc: database space exceeded");
                return;
            }
            other => assert!(Instant::now() < deadline, "still {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_before_it_breaks_them_and_loses_nothing() {
    let Some((mut node, disk)) = node_on_its_own_disk(160) else { return };
    node.start();
    fill(&node).await;

    disk.leave_kib(12 << 10);
    wait_for(&node, false).await;
    assert_eq!(get(&node.channel(), "key/3").await, Some(vec![3; 500]), "reads go on");
    let mut kv = holdfast_tests::wire::etcdserverpb::kv_client::KvClient::new(node.channel());
    let probe =
        holdfast_tests::wire::etcdserverpb::DeleteRangeRequest { key: "probe".into(), ..Default::default() };
    kv.delete_range(probe).await.expect("deletes go on");
    disk.give_back();
    wait_for(&node, true).await;

    // Not a byte left, and a crash on top of it.
    disk.leave_kib(0);
    wait_for(&node, false).await;
    node.kill();
    let refusal = refused(&node.data_dir(), &[]);
    refusal.advises(&["No space left", "free some space"]);
    disk.give_back();
    node.start();
    // The alarm is remembered, and clears itself.
    wait_for(&node, true).await;
    check_filled(&node).await;
    assert!(node.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_too_small_for_a_new_store_is_named() {
    let Some((mut node, disk)) = node_on_its_own_disk(160) else { return };
    disk.leave_kib(1 << 10);
    refused(&node.data_dir(), &[]).advises(&["No space left", "free space"]);
    // What the attempt left behind is no obstacle.
    disk.give_back();
    node.start();
    fill(&node).await;
    check_filled(&node).await;
    assert!(node.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_disk_is_named() {
    let Some((mut node, disk)) = node_on_its_own_disk(160) else { return };
    node.start();
    fill(&node).await;
    assert!(node.stop().success());
    disk.remount("ro");
    refused(&node.data_dir(), &[]).advises(&["data", "Read-only file system", "mount"]);
    disk.remount("rw");
    node.start();
    check_filled(&node).await;
    assert!(node.stop().success());
}
