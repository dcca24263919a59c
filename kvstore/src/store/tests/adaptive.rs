//! A core that moves to its own thread while syncs are slow, and back.

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

struct Running {
    store: Store,
    kv: Keyspace,
    disk: Disk,
    core: JoinHandle<()>,
    config: Config,
    _directory: TempDir,
}

fn start() -> Running {
    let directory = tempfile::tempdir().unwrap();
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

    fn is_away(&self) -> bool {
        let metrics = self.store.metrics();
        metrics.core_moves > metrics.core_returns
    }

    /// The disk gets slow, and the core has moved away, if the real disk had not made it move before.
    async fn slow_down(&self) {
        self.disk.take_longer_for_a_sync(SLOW);
        self.write(SYNCS).await;
        assert!(self.is_away(), "the core is where it was");
    }

    /// Whether the caller's runtime is free while a write is synced.
    async fn others_run_during_a_write(&self) -> bool {
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
    running.end().await;
}

#[tokio::test]
async fn the_core_comes_back_when_the_disk_is_fast_again_and_goes_again() {
    let running = start();
    for _ in 0..5 {
        running.slow_down().await;
        running.disk.take_longer_for_a_sync(Duration::ZERO);
        let came_back = async {
            while running.is_away() {
                running.write(10).await;
            }
        };
        in_time(came_back).await;
    }
    running.end().await;
}

#[tokio::test]
async fn a_store_whose_core_is_away_can_be_dropped_and_its_future_aborted() {
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
        let opened = || async {
            loop {
                // The thread may still be about to let go of the directory.
                match Store::open(config.clone()) {
                    Err(error) if error.to_string().contains("already open") => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    opened => return opened.unwrap(),
                }
            }
        };
        let store = in_time(opened()).await;
        assert_eq!(in_time(value_of(&default_keyspace(&store), "a")).await.unwrap(), 3u32.to_be_bytes());
    }
}

#[tokio::test]
async fn a_sync_that_fails_far_away_ends_the_store() {
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
