//! A disk that is full, or that became read-only. Needs to mount a small file system: skipped, loudly, where that is not
//! permitted.

use crate::attempt::{check_filled, fill, get, put, refused};
use holdfast_tests::{Node, Setup};
use rustix::fs::statvfs;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A node looks at its disk every second.
const NOTICE_LIMIT: Duration = Duration::from_secs(15);

/// A file system of its own, until it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn on(path: &Path, mib: u32) -> Option<Mounted> {
        let options = format!("size={mib}m,mode=0700");
        let mut command = Command::new("mount");
        let output = command.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).output();
        match output {
            Ok(output) if output.status.success() => Some(Mounted(path.to_path_buf())),
            Ok(output) => {
                eprintln!("SKIPPED: mount: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("SKIPPED: mount: {error}");
                None
            }
        }
    }

    fn remount(&self, options: &str) {
        let mut command = Command::new("mount");
        let status = command.args(["-o", &format!("remount,{options}")]).arg(&self.0).status();
        assert!(status.expect("mount").success(), "{command:?}");
    }

    fn filler(&self) -> PathBuf {
        self.0.join("lost+found")
    }

    /// Takes all room but so many MiB.
    fn leave_mib(&self, mib: u64) {
        let space = statvfs(&self.0).expect("the file system");
        let mut left = (space.f_bavail * space.f_frsize).saturating_sub(mib << 20);
        let mut file = fs::File::options().create(true).append(true).open(self.filler()).expect("a file");
        let block = vec![1; 1 << 16];
        while left > 0 {
            let size = left.min(block.len() as u64);
            if file.write_all(&block[..size as usize]).is_err() {
                return;
            }
            left -= size;
        }
    }

    fn give_back(&self) {
        fs::remove_file(self.filler()).expect("the filler goes");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Also when the test has failed and a node still has files open here.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A stopped node whose data directory is an empty file system of its own.
fn node_on_its_own_disk(mib: u32) -> Option<(Node, Mounted)> {
    let mut node = Setup::subject().start();
    assert!(node.stop().success());
    let mounted = Mounted::on(&node.data_dir(), mib)?;
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

    disk.leave_mib(12);
    wait_for(&node, false).await;
    assert_eq!(get(&node.channel(), "key/3").await, Some(vec![3; 500]), "reads go on");
    let mut kv = holdfast_tests::wire::etcdserverpb::kv_client::KvClient::new(node.channel());
    let probe =
        holdfast_tests::wire::etcdserverpb::DeleteRangeRequest { key: "probe".into(), ..Default::default() };
    kv.delete_range(probe).await.expect("deletes go on");
    disk.give_back();
    wait_for(&node, true).await;

    // Not a byte left, and a crash on top of it.
    disk.leave_mib(0);
    wait_for(&node, false).await;
    node.kill();
    let refusal = refused(&node.data_dir(), &[]);
    refusal.says(&["No space left", "free some space"]);
    disk.give_back();
    node.start();
    check_filled(&node).await;
    assert!(node.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_too_small_for_a_new_store_is_named() {
    let Some((mut node, disk)) = node_on_its_own_disk(160) else { return };
    disk.leave_mib(1);
    refused(&node.data_dir(), &[]).says(&["No space left", "free space"]);
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
    refused(&node.data_dir(), &[]).says(&["data", "Read-only file system", "mount"]);
    disk.remount("rw");
    node.start();
    check_filled(&node).await;
    assert!(node.stop().success());
}
