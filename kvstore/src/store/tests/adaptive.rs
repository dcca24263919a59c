//! A core that leaves its syncs to a thread beside, if they are slow or much is to be written.

use super::disk::Disk;
use super::{config, default_keyspace, in_time, value_of};
use crate::store::{Config, Keyspace, Placement, Store};
use crate::types::Error;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Syncs that are slow beyond any doubt, and so many of them that the mean tells.
const SLOW: Duration = Duration::from_millis(20);
const SYNCS: u32 = 4;
/// Others may be on the machine.
const ATTEMPTS: u32 = 100;

struct Running {
    store: Store,
    kv: Keyspace,
    disk: Disk,
    core: JoinHandle<()>,
    config: Config,
    _directory: TempDir,
}

fn start() -> Running {
    // In memory, where there is such a place: a write is fast unless the test wants it slow.
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let config = config(&directory, Placement::Adaptive);
    let disk = Disk::default();
    let store = Store::open_on(config.clone(), Arc::new(disk.clone())).unwrap();
    let core = tokio::spawn(store.take_core().unwrap());
    Running { kv: default_keyspace(&store), store, disk, core, config, _directory: directory }
}

impl Running {
    async fn write(&self, times: u32) {
        for number in 0..times {
            in_time(self.kv.put("a", number.to_be_bytes().to_vec())).await.unwrap();
        }
    }

    /// Whether the next write is synced beside.
    async fn syncs_beside(&self) -> bool {
        let before = self.store.metrics().syncs_beside;
        self.write(1).await;
        self.store.metrics().syncs_beside > before
    }

    /// The disk gets slow, and syncs are done beside.
    async fn slow_down(&self) {
        self.disk.take_longer_for_a_sync(SLOW);
        self.write(SYNCS).await;
        assert!(self.syncs_beside().await, "syncs are done where they were");
    }

    /// Whether the caller's runtime is free while a write is synced: if it has the processor meanwhile.
    async fn others_run_during_a_write(&self) -> bool {
        for _ in 0..ATTEMPTS {
            if self.others_run_during_this_write().await {
                return true;
            }
        }
        false
    }

    async fn others_run_during_this_write(&self) -> bool {
        let mut put = std::pin::pin!(self.kv.put("b", "1"));
        let mut polls = 0;
        loop {
            tokio::select! {
                biased;
                done = &mut put => { done.unwrap(); return polls > 2; }
                () = tokio::time::sleep(Duration::from_millis(2)) => polls += 1,
            }
        }
    }

    async fn end(self) {
        in_time(self.store.stop()).await;
        in_time(self.core).await.unwrap();
        assert_eq!(in_time(self.kv.put("a", "late")).await.unwrap_err(), Error::Stopped);
        drop((self.store, self.kv));
        let store = Store::open(Config { placement: Placement::Thread, ..self.config }).unwrap();
        assert!(!in_time(value_of(&default_keyspace(&store), "a")).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_slow_disk_holds_up_writes_only() {
    let running = start();
    running.write(3).await;
    running.slow_down().await;
    assert!(running.others_run_during_a_write().await);

    let held = running.disk.hold_syncs();
    let before = running.store.metrics().syncs_beside;
    let kv = running.kv.clone();
    let put = tokio::spawn(async move { kv.put("b", "2").await });
    let is_synced = async {
        while running.store.metrics().syncs_beside == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    in_time(is_synced).await;
    assert_eq!(
        in_time(value_of(&running.kv, "b")).await.unwrap(),
        b"1",
        "what is not on the disk is not shown"
    );
    assert!(!put.is_finished(), "the read waited for the write's sync");
    drop(held);
    in_time(put).await.unwrap().unwrap();
    assert_eq!(in_time(value_of(&running.kv, "b")).await.unwrap(), b"2");
    running.end().await;
}

#[tokio::test]
async fn a_disk_that_is_slow_in_its_writes_holds_up_writes_only() {
    let running = start();
    running.disk.take_longer_for_a_write(SLOW);
    running.write(SYNCS).await;
    assert!(running.syncs_beside().await);
    assert!(running.others_run_during_a_write().await);
    running.disk.take_longer_for_a_write(Duration::ZERO);
    running.end().await;
}

#[tokio::test]
async fn syncs_come_back_when_the_disk_is_fast_again_and_go_again() {
    let running = start();
    for _ in 0..5 {
        running.slow_down().await;
        running.disk.take_longer_for_a_sync(Duration::ZERO);
        let came_back = async {
            while running.syncs_beside().await {
                running.write(10).await;
            }
        };
        in_time(came_back).await;
    }
    running.end().await;
}

#[tokio::test]
async fn a_store_that_syncs_beside_can_be_dropped_and_its_future_aborted() {
    for abort in [true, false] {
        let running = start();
        running.write(3).await;
        running.slow_down().await;
        let Running { store, kv, core, config, _directory, .. } = running;
        let failed = store.clone();
        if abort {
            core.abort();
            let _ = core.await;
            assert_eq!(in_time(failed.failed()).await, Error::Stopped);
            drop((store, kv, failed));
        } else {
            drop((store, kv, failed));
            in_time(core).await.unwrap();
        }
        let config = Config { placement: Placement::Thread, ..config };
        let store = in_time(opened(&config)).await;
        let value = in_time(value_of(&default_keyspace(&store), "a")).await.unwrap();
        assert_eq!(value, 0u32.to_be_bytes(), "the last write's");
    }
}

#[tokio::test]
async fn a_sync_that_fails_beside_ends_the_store() {
    let running = start();
    running.write(3).await;
    running.slow_down().await;
    running.disk.fail_every_sync();
    let error = in_time(running.kv.put("a", "unknown")).await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown(_) | Error::Poisoned(_)), "{error}");
    let reason = in_time(running.store.failed()).await;
    assert!(matches!(&reason, Error::Poisoned(text) if text.contains("the disk is gone")), "{reason}");
    in_time(running.core).await.unwrap();
}

/// However fast the disk: whoever reads does not wait for the write of a large command.
#[tokio::test]
async fn large_commands_are_synced_beside() {
    let running = start();
    for (commands, bytes) in [(1, 200 << 10), (20, 64 << 10)] {
        let before = running.store.metrics().syncs_beside;
        let puts: Vec<_> = (0..commands)
            .map(|number| {
                let kv = running.kv.clone();
                tokio::spawn(async move { kv.put(format!("{number}"), vec![b'x'; bytes]).await })
            })
            .collect();
        for put in puts {
            in_time(put).await.unwrap().unwrap();
        }
        assert!(running.store.metrics().syncs_beside > before, "{commands} of {bytes} bytes");
        assert_eq!(in_time(value_of(&running.kv, "0")).await.unwrap().len(), bytes);
    }
    running.write(1).await;
    running.end().await;
}

/// A future that is dropped in the middle of a sync: nobody hangs, nothing is said of what nobody knows, and the directory
/// is free only when the sync is over.
#[tokio::test]
async fn a_future_that_is_aborted_during_a_sync_leaves_the_outcome_unknown() {
    let running = start();
    running.write(3).await;
    running.slow_down().await;
    let held = running.disk.hold_syncs();
    let kv = running.kv.clone();
    let put = tokio::spawn(async move { kv.put("b", "perhaps").await });
    let syncs = running.store.metrics().syncs_beside;
    let under_way = async {
        while running.store.metrics().syncs_beside == syncs {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    in_time(under_way).await;
    running.core.abort();
    let error = in_time(put).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown(_)), "{error}");
    drop(held);
    let Running { store, kv, config, _directory, .. } = running;
    drop((store, kv));
    let store = in_time(opened(&Config { placement: Placement::Thread, ..config })).await;
    assert_eq!(in_time(value_of(&default_keyspace(&store), "b")).await.unwrap(), b"perhaps");
}

/// Opens what another thread may still be about to let go of.
async fn opened(config: &Config) -> Store {
    loop {
        match Store::open(config.clone()) {
            Err(error) if error.to_string().contains("already open") => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            opened => return opened.unwrap(),
        }
    }
}
