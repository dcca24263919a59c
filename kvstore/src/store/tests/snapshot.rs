//! Snapshots of a running store, and stores of snapshots.

use super::*;
use crate::command::{Alarm, AlarmKind};
use crate::store::SnapshotInfo;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc;

fn open(data_dir: &Path) -> Result<Store> {
    Store::open(Config { log_segment_bytes: 1 << 20, ..Config::new(data_dir) })
}

fn restore(data_dir: &Path, bytes: &[u8]) -> Result<SnapshotInfo> {
    Store::restore_snapshot(&Config { log_segment_bytes: 1 << 20, ..Config::new(data_dir) }, &mut &*bytes)
}

fn saved(store: &Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    let info = store.save_snapshot(&mut bytes).unwrap();
    assert!(info.bytes > 0 && info.applied <= store.status().applied);
    bytes
}

fn checkpoints(data_dir: &Path) -> usize {
    fs::read_dir(data_dir.join("state.checkpoints")).unwrap().count()
}

/// Stops in the middle until it is told to go on.
struct Stalled {
    bytes: Vec<u8>,
    reached: mpsc::Sender<()>,
    go_on: mpsc::Receiver<()>,
}

impl Write for Stalled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            self.reached.send(()).unwrap();
            self.go_on.recv().map_err(|_| io::Error::other("nobody reads any more"))?;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_snapshot_holds_up_nobody_and_holds_what_was_acknowledged() {
    let home = tempfile::tempdir().unwrap();
    let data_dir = home.path().join("data");
    let store = open(&data_dir).unwrap();
    let kv = default_keyspace(&store);
    in_time(kv.put("before", "1")).await.unwrap();
    in_time(kv.lease_grant(LeaseId::new(7), 1000)).await.unwrap();
    let revision = kv.revision();

    let (reached, at) = mpsc::channel();
    let (go, go_on) = mpsc::channel();
    let its_store = store.clone();
    let saving = std::thread::spawn(move || {
        let mut output = Stalled { bytes: Vec::new(), reached, go_on };
        its_store.save_snapshot(&mut output).map(|info| (info, output.bytes))
    });
    at.recv_timeout(PATIENCE).unwrap();
    for number in 0..2_000 {
        in_time(kv.put(format!("meanwhile/{}", number % 9), vec![1; 1000])).await.unwrap();
    }
    in_time(kv.compact(kv.revision(), true)).await.unwrap();
    // Another one at the same time has all of that.
    let later = saved(&store);
    go.send(()).unwrap();
    let (info, bytes) = saving.join().unwrap().unwrap();
    assert_eq!(checkpoints(&data_dir), 0);
    in_time(store.stop()).await;

    assert_eq!(restore(&home.path().join("earlier"), &bytes).unwrap(), info);
    let earlier = open(&home.path().join("earlier")).unwrap();
    let kv = default_keyspace(&earlier);
    assert_eq!(kv.revision(), revision);
    assert_eq!(in_time(value_of(&kv, "before")).await.unwrap(), b"1");
    assert_eq!(in_time(value_of(&kv, "meanwhile/1")).await.unwrap(), b"");
    assert_eq!(kv.leases().unwrap(), [LeaseId::new(7)]);
    assert_eq!(in_time(kv.put("after", "2")).await.unwrap().revision, revision.next());
    in_time(earlier.stop()).await;
    drop((kv, earlier));
    // It is a store like any other.
    let again = open(&home.path().join("earlier")).unwrap();
    assert_eq!(in_time(value_of(&default_keyspace(&again), "after")).await.unwrap(), b"2");
    in_time(again.stop()).await;

    restore(&home.path().join("later"), &later).unwrap();
    let kv = default_keyspace(&open(&home.path().join("later")).unwrap());
    assert_eq!(kv.revision().get(), revision.get() + 2_000);
    assert_eq!(kv.reader().floor(), kv.revision());
    assert_eq!(in_time(value_of(&kv, "meanwhile/8")).await.unwrap(), vec![1; 1000]);
}

#[tokio::test]
async fn a_restore_takes_over_no_data_and_can_be_repeated() {
    let home = tempfile::tempdir().unwrap();
    let [data_dir, target] = ["data", "target"].map(|name| home.path().join(name));
    let store = open(&data_dir).unwrap();
    in_time(default_keyspace(&store).put("a", "1")).await.unwrap();
    let bytes = saved(&store);
    let text = restore(&data_dir, &bytes).unwrap_err().to_string();
    assert!(text.contains("already open"), "{text}");
    in_time(store.stop()).await;
    drop(store);
    let text = restore(&data_dir, &bytes).unwrap_err().to_string();
    assert!(text.contains("holds a store already"), "{text}");
    assert_eq!(in_time(value_of(&default_keyspace(&open(&data_dir).unwrap()), "a")).await.unwrap(), b"1");

    fs::create_dir(&target).unwrap();
    fs::write(target.join("mine"), "").unwrap();
    assert!(restore(&target, &bytes).unwrap_err().to_string().contains("mine"));
    fs::remove_file(target.join("mine")).unwrap();
    for cut in [0, 10, bytes.len() / 2, bytes.len() - 1] {
        assert!(matches!(restore(&target, &bytes[..cut]), Err(Error::Snapshot(_))));
        let text = open(&target).err().expect("a refusal").to_string();
        assert!(text.contains("restore it again"), "{text}");
    }
    restore(&target, &bytes).unwrap();
    assert!(!target.join("RESTORING").exists());
    let store = open(&target).unwrap();
    assert_eq!(in_time(value_of(&default_keyspace(&store), "a")).await.unwrap(), b"1");
    in_time(store.stop()).await;
    assert_eq!(store.save_snapshot(&mut Vec::new()), Err(Error::Stopped));
}

#[tokio::test]
async fn a_snapshot_that_nobody_takes_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let data_dir = home.path().join("data");
    let store = open(&data_dir).unwrap();
    let (reached, _at) = mpsc::channel();
    let (_, go_on) = mpsc::channel();
    let mut output = Stalled { bytes: Vec::new(), reached, go_on };
    let text = store.save_snapshot(&mut output).unwrap_err().to_string();
    assert!(text.contains("nobody reads any more"), "{text}");
    assert_eq!(checkpoints(&data_dir), 0);
    in_time(default_keyspace(&store).put("a", "1")).await.unwrap();
    in_time(store.stop()).await;
    drop(store);
    // As a process leaves it that is killed meanwhile.
    fs::create_dir_all(data_dir.join("state.checkpoints/1.tmp")).unwrap();
    fs::write(data_dir.join("state.checkpoints/1.tmp/000001.sst"), "").unwrap();
    let store = open(&data_dir).unwrap();
    assert_eq!(checkpoints(&data_dir), 0);
    in_time(store.stop()).await;
}

/// The ids are those of the new store, and it clears the alarm of the old one once it has room.
#[tokio::test]
async fn a_restored_store_is_who_its_configuration_says() {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("data")).unwrap();
    let full = Alarm { member: store.status().node_id.get(), kind: AlarmKind::NoSpace };
    in_time(store.alarm_activate(full)).await.unwrap();
    let bytes = saved(&store);
    let config = Config {
        node_id: crate::NodeId::new(77),
        cluster_id: 88,
        log_segment_bytes: 1 << 20,
        ..Config::new(home.path().join("restored"))
    };
    Store::restore_snapshot(&config, &mut &*bytes).unwrap();
    let store = Store::open(config).unwrap();
    let status = store.status();
    assert_eq!((status.node_id.get(), status.cluster_id), (77, 88));
    let put = async {
        while let Err(error) = default_keyspace(&store).put("a", "1").await {
            assert!(matches!(error, Error::NoSpace(_)), "{error}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    in_time(put).await;
    assert_eq!(store.alarms(), []);
}

/// The parts may be other disks: they stay what they are.
#[tokio::test]
async fn a_restore_takes_directories_that_are_there() {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("data")).unwrap();
    in_time(default_keyspace(&store).put("a", "1")).await.unwrap();
    let bytes = saved(&store);
    let target = home.path().join("some/new/target");
    for part in ["log", "state"] {
        let elsewhere = home.path().join("elsewhere").join(part);
        fs::create_dir_all(&elsewhere).unwrap();
        fs::create_dir_all(&target).unwrap();
        std::os::unix::fs::symlink(elsewhere, target.join(part)).unwrap();
    }
    assert!(restore(&target, &bytes[..bytes.len() - 1]).is_err());
    restore(&target, &bytes).unwrap();
    assert!(target.join("log").is_symlink());
    assert_eq!(in_time(value_of(&default_keyspace(&open(&target).unwrap()), "a")).await.unwrap(), b"1");
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(restore(&file, &bytes).unwrap_err().to_string().contains("is not a directory"));
}
