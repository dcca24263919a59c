//! The ends of a store: stopped, dropped, failed. Nobody waits for ever and nobody is told anything false.

mod adaptive;
mod directory;
mod disk;
mod leases;
mod rot;
mod snapshot;
mod space;

use super::{Config, Consistency, Delivery, Keyspace, Placement, Store, WatchOptions};
use crate::command::{Projection, RangeQuery};
use crate::propose::COMMAND_BYTES_IN_FLIGHT_MAX;
use crate::types::{Error, KeyRange, KeyspaceId, LeaseId, Result, Revision};
use disk::Disk;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tempfile::TempDir;

/// Nothing here takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(directory: &TempDir, placement: Placement) -> Config {
    Config { log_segment_bytes: 1 << 20, placement, ..Config::new(directory.path().join("data")) }
}

fn default_keyspace(store: &Store) -> Keyspace {
    store.keyspace(KeyspaceId::DEFAULT)
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("an answer in time")
}

async fn value_of(kv: &Keyspace, key: &'static str) -> Result<Vec<u8>> {
    let query = RangeQuery::new(KeyRange::single(key));
    let reply = kv.range(query, Consistency::Linearizable).await?;
    Ok(reply.result.kvs.first().map(|kv| kv.value().to_vec()).unwrap_or_default())
}

/// Every kind of request to a store that has ended.
async fn answers_of(kv: &Keyspace) -> Vec<Error> {
    let all = || RangeQuery::new(KeyRange::all());
    vec![
        kv.put("a", "late").await.unwrap_err(),
        kv.delete(KeyRange::all()).await.unwrap_err(),
        kv.compact(Revision::new(1), true).await.unwrap_err(),
        kv.read_barrier().await.unwrap_err(),
        kv.range(all(), Consistency::Linearizable).await.unwrap_err(),
        kv.range(all(), Consistency::Serializable).await.unwrap_err(),
        kv.lease_grant(LeaseId::NONE, 60).await.unwrap_err(),
        kv.lease_revoke(LeaseId::new(1)).await.unwrap_err(),
        kv.lease_keep_alive(LeaseId::new(1)).await.unwrap_err(),
    ]
}

#[tokio::test]
async fn a_stopped_store_says_so_to_everybody_and_can_be_stopped_again() {
    for placement in [Placement::Thread, Placement::Caller, Placement::Adaptive] {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(config(&directory, placement)).unwrap();
        let core = store.take_core().map(tokio::spawn);
        let kv = default_keyspace(&store);
        in_time(kv.put("a", "1")).await.unwrap();
        let session = kv.watch();
        session.create(WatchOptions::new(KeyRange::all())).unwrap();
        in_time(store.stop()).await;
        in_time(store.stop()).await;
        assert_eq!(in_time(store.failed()).await, Error::Stopped);
        assert_eq!(in_time(answers_of(&kv)).await, vec![Error::Stopped; 9], "{placement:?}");
        assert!(matches!(in_time(session.next()).await, Delivery::Created { .. }));
        let end = in_time(session.next()).await;
        assert!(matches!(end, Delivery::Canceled { reason: super::CancelReason::Stopped, .. }), "{end:?}");
        assert_eq!(store.commands_in_flight(), 0);
        if let Some(core) = core {
            in_time(core).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_core_that_nobody_runs_can_be_stopped_and_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(&directory, Placement::Caller);
    let store = Store::open(config.clone()).unwrap();
    let kv = default_keyspace(&store);
    {
        // Admitted, queued, and never looked at.
        let mut put = pin!(kv.put("a", "1"));
        assert!(put.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        in_time(store.stop()).await;
        assert_eq!(in_time(put).await.unwrap_err(), Error::Stopped);
    }
    drop((store, kv));
    drop(Store::open(config.clone()).unwrap());
    drop(Store::open(config).unwrap());
}

#[tokio::test]
async fn a_store_that_is_dropped_leaves_its_directory_to_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(&directory, Placement::Thread);
    for number in 0..8u8 {
        let store = Store::open(config.clone()).unwrap();
        let kv = default_keyspace(&store);
        drop(store);
        in_time(kv.put("a", vec![number])).await.unwrap();
        // Under way, proposed or not (or even done), and nobody waits for it any more.
        let mut given_up = Box::pin(kv.put("given-up", "x"));
        let _ = given_up.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        drop(given_up);
    }
    let store = Store::open(config).unwrap();
    assert_eq!(in_time(value_of(&default_keyspace(&store), "a")).await.unwrap(), [7]);
    let given_up = in_time(value_of(&default_keyspace(&store), "given-up")).await.unwrap();
    assert!(given_up.is_empty() || given_up == b"x", "{given_up:?}");
}

#[tokio::test]
async fn a_future_that_is_dropped_ends_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(&directory, Placement::Caller);
    let store = Store::open(config.clone()).unwrap();
    let core = tokio::spawn(store.take_core().unwrap());
    assert!(store.take_core().is_none());
    let kv = default_keyspace(&store);
    in_time(kv.put("a", "1")).await.unwrap();
    let mut queued = Box::pin(kv.put("a", "2"));
    assert!(queued.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    core.abort();
    let _ = core.await;
    assert_eq!(in_time(store.failed()).await, Error::Stopped);
    assert_eq!(in_time(queued).await.unwrap_err(), Error::Stopped);
    assert_eq!(in_time(answers_of(&kv)).await, vec![Error::Stopped; 9]);
    drop((kv, store));
    // Nothing was flushed: the log has it.
    let store = Store::open(config).unwrap();
    let core = tokio::spawn(store.take_core().unwrap());
    assert_eq!(in_time(value_of(&default_keyspace(&store), "a")).await.unwrap(), b"1");
    in_time(store.stop()).await;
    in_time(core).await.unwrap();
}

#[tokio::test]
async fn whoever_still_reads_keeps_the_directory_and_the_error_says_how_to_end_that() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(&directory, Placement::Thread);
    let store = Store::open(config.clone()).unwrap();
    let kv = default_keyspace(&store);
    let session = kv.watch();
    in_time(store.stop()).await;
    drop(store);
    let text = Store::open(config.clone()).err().unwrap().to_string();
    assert!(text.contains("already open") && text.contains("handles"), "{text}");
    drop(kv);
    let text = Store::open(config.clone()).err().unwrap().to_string();
    assert!(text.contains("watch sessions") && !text.contains("restore"), "{text}");
    drop(session);
    Store::open(config).unwrap();
}

#[tokio::test]
async fn the_first_failed_write_ends_the_store_and_loses_nothing_acknowledged() {
    for placement in [Placement::Thread, Placement::Caller, Placement::Adaptive] {
        let directory = tempfile::tempdir().unwrap();
        let config = config(&directory, placement);
        let disk = Disk::default();
        let store = Store::open_on(config.clone(), Arc::new(disk.clone())).unwrap();
        let core = store.take_core().map(tokio::spawn);
        let kv = default_keyspace(&store);
        in_time(kv.put("a", "acknowledged")).await.unwrap();

        disk.fail_every_sync();
        let mut puts: Vec<_> = (0..50).map(|_| Box::pin(kv.put("a", "unknown"))).collect();
        let mut begun = Vec::new();
        for put in &mut puts {
            begun.push(put.as_mut().poll(&mut Context::from_waker(Waker::noop())));
        }
        for (put, begun) in puts.into_iter().zip(begun) {
            // A store that has failed already answers at once.
            let answer = match begun {
                Poll::Ready(answer) => answer,
                Poll::Pending => in_time(put).await,
            };
            let error = answer.unwrap_err();
            // Proposed with the write that failed, or still queued when it did.
            assert!(matches!(error, Error::OutcomeUnknown(_) | Error::Poisoned(_)), "{error}");
        }
        let reason = in_time(store.failed()).await;
        assert!(matches!(&reason, Error::Poisoned(text) if text.contains("the disk is gone")), "{reason}");
        assert_eq!(in_time(answers_of(&kv)).await, vec![reason.clone(); 9], "{placement:?}");
        in_time(store.stop()).await;
        if let Some(core) = core {
            in_time(core).await.unwrap();
        }
        drop((kv, store));

        let store = Store::open(config).unwrap();
        let core = store.take_core().map(tokio::spawn);
        let value = in_time(value_of(&default_keyspace(&store), "a")).await.unwrap();
        assert_eq!(value, b"acknowledged", "a write that failed before it reached the disk is not there");
        in_time(store.stop()).await;
        drop((store, core));
    }
}

/// What a turn has not come to when it fails: the clock of a lease is due to be written down, which fails before the put
/// that waits in the same turn is looked at.
#[tokio::test]
async fn what_a_failed_turn_had_not_come_to_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    // The clock goes on for two of these without the core.
    let tick = Duration::from_millis(1_500);
    let config = Config { heartbeat_ms: 1_500, election_ms: 7_500, ..config(&directory, Placement::Caller) };
    let disk = Disk::default();
    let store = Store::open_on(config, Arc::new(disk.clone())).unwrap();
    let kv = default_keyspace(&store);
    let mut core = Box::pin(store.take_core().unwrap());
    let mut run = |turns: u32| {
        for _ in 0..turns {
            let _ = core.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
    };
    let mut grant = Box::pin(kv.lease_grant(LeaseId::new(1), 100));
    assert!(grant.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    run(3);
    in_time(grant).await.unwrap();

    // It is due after five seconds: the core runs through the first four.
    let left_s = || kv.lease_time_to_live(LeaseId::new(1), false).unwrap().unwrap().remaining_ttl_s;
    while left_s() > 95 {
        run(1);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while left_s() > 94 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(tick).await;
    let mut put = Box::pin(kv.put("a", "1"));
    let mut compact = Box::pin(kv.compact(Revision::new(1), true));
    assert!(put.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert!(compact.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    disk.fail_every_sync();
    run(1);
    for error in [in_time(put).await.unwrap_err(), in_time(compact).await.unwrap_err()] {
        assert!(matches!(&error, Error::Poisoned(text) if text.contains("disk is gone")), "{error}");
    }
    in_time(store.failed()).await;
    assert_eq!(store.commands_in_flight(), 0);
}

#[tokio::test]
async fn a_caller_that_gives_up_leaves_nothing_and_changes_nothing_for_its_neighbours() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(config(&directory, Placement::Caller)).unwrap();
    let kv = default_keyspace(&store);
    let mut puts: Vec<_> = (0..10u8).map(|number| Box::pin(kv.put(vec![b'k', number], "v"))).collect();
    for put in &mut puts {
        assert!(put.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let kept: Vec<_> = puts.into_iter().enumerate().filter(|(at, _)| at % 2 == 1).collect();
    let core = tokio::spawn(store.take_core().unwrap());
    for (at, put) in kept {
        // What was given up before its turn is not done at all.
        assert_eq!(in_time(put).await.unwrap().revision.get(), 2 + at as i64 / 2);
    }
    assert_eq!(store.commands_in_flight(), 0);
    in_time(store.stop()).await;
    in_time(core).await.unwrap();
}

#[test]
fn an_answer_needs_no_runtime() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(config(&directory, Placement::Thread)).unwrap();
    let kv = default_keyspace(&store);
    let mut put = pin!(kv.put("a", "1"));
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        if let Poll::Ready(result) = put.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            assert_eq!(result.unwrap().revision.get(), 2);
            return;
        }
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A copy of the store's directory in which one byte of the value "needle" has rotted in the log, opened.
fn opened_with_rot(config: &Config) -> Result<()> {
    let home = tempfile::tempdir().unwrap();
    let copy = Config { data_dir: home.path().join("data"), ..config.clone() };
    let mut rotten = 0;
    for part in ["", "log", "state"] {
        std::fs::create_dir_all(copy.data_dir.join(part)).unwrap();
        for entry in std::fs::read_dir(config.data_dir.join(part)).unwrap() {
            let path = entry.unwrap().path();
            // A segment that is being made ready may be gone again.
            let Some(mut bytes) = path.is_file().then(|| std::fs::read(&path).ok()).flatten() else {
                continue;
            };
            if let Some(at) = bytes.windows(6).rposition(|bytes| bytes == b"needle")
                && part == "log"
            {
                bytes[at] ^= 1;
                rotten += 1;
            }
            std::fs::write(copy.data_dir.join(part).join(path.file_name().unwrap()), bytes).unwrap();
        }
    }
    assert_eq!(rotten, 1);
    Store::open(copy).map(drop)
}

fn names_the_log(refused: &Error) -> bool {
    matches!(refused, Error::Damaged { path, .. } if path.extension().is_some_and(|it| it == "segment"))
}

#[tokio::test]
async fn a_store_that_rests_can_tell_rot_in_its_last_write_from_a_torn_one() {
    for placement in [Placement::Thread, Placement::Caller, Placement::Adaptive] {
        let directory = tempfile::tempdir().unwrap();
        let config = Config { heartbeat_ms: 10, election_ms: 100, ..config(&directory, placement) };
        let store = Store::open(config.clone()).unwrap();
        let core = store.take_core().map(tokio::spawn);
        let kv = default_keyspace(&store);
        in_time(kv.put("a", "first")).await.unwrap();
        in_time(kv.put("a", "needle")).await.unwrap();
        // Two ticks later, but who knows when that is.
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            tokio::time::sleep(Duration::from_millis(25)).await;
            match opened_with_rot(&config) {
                Err(refused) => {
                    assert!(names_the_log(&refused), "{refused}");
                    break;
                }
                Ok(()) => assert!(std::time::Instant::now() < deadline, "the log is not sealed"),
            }
        }
        // The next write takes the seal's place, and nothing is amiss.
        assert_eq!(in_time(kv.put("a", "third")).await.unwrap().revision.get(), 4);
        in_time(store.stop()).await;
        drop((kv, store, core));
        let store = Store::open(config).unwrap();
        let core = store.take_core().map(tokio::spawn);
        assert_eq!(in_time(value_of(&default_keyspace(&store), "a")).await.unwrap(), b"third");
        in_time(store.stop()).await;
        drop(core);
    }
}

#[tokio::test]
async fn a_store_that_stopped_can_tell_rot_in_its_last_write_from_a_torn_one() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(&directory, Placement::Thread);
    let store = Store::open(config.clone()).unwrap();
    let kv = default_keyspace(&store);
    in_time(kv.put("a", "needle")).await.unwrap();
    in_time(store.stop()).await;
    drop((kv, store));
    let refused = opened_with_rot(&config).unwrap_err();
    assert!(names_the_log(&refused), "{refused}");
    drop(Store::open(config).unwrap());
}

/// Polls once; `true` when it waits.
fn waits<F: Future + Unpin>(future: &mut F) -> bool {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// More than may be in flight: what is beyond the bound is refused at once, and nothing of it is done.
#[tokio::test]
async fn what_has_no_room_is_refused_and_the_rest_is_done() {
    const BYTES: usize = 3 << 19;
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(config(&directory, Placement::Caller)).unwrap();
    let kv = store.keyspace(KeyspaceId::DEFAULT);
    let value = vec![7; BYTES - 200];
    let mut waiting = Vec::new();
    let mut refused = 0;
    for n in 0..100 {
        let mut put = Box::pin(kv.put(format!("large/{n:03}"), value.clone()));
        match put.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => waiting.push(put),
            Poll::Ready(answer) => {
                assert_eq!(answer.unwrap_err(), Error::TooManyRequests);
                refused += 1;
            }
        }
    }
    let room = COMMAND_BYTES_IN_FLIGHT_MAX / BYTES;
    assert!((room..=room + 1).contains(&waiting.len()), "{} wait, {refused} were refused", waiting.len());
    let core = tokio::spawn(store.take_core().unwrap());
    let count = waiting.len();
    for put in waiting {
        in_time(put).await.unwrap();
    }
    assert_eq!(store.commands_in_flight(), 0);
    let query = RangeQuery { projection: Projection::CountOnly, ..RangeQuery::new(KeyRange::all()) };
    let found = in_time(kv.range(query, Consistency::Linearizable)).await.unwrap();
    assert_eq!(found.result.count, count as u64, "what was refused is not there");
    in_time(kv.put("later", "1")).await.unwrap();
    in_time(store.stop()).await;
    core.await.unwrap();
}

#[tokio::test]
async fn large_commands_wait_for_small_ones_and_are_all_answered() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(config(&directory, Placement::Caller)).unwrap();
    let kv = store.keyspace(KeyspaceId::DEFAULT);
    let large: Vec<_> = (0..10)
        .map(|n| {
            let mut put = Box::pin(kv.put(format!("large/{n}"), vec![7; 1 << 20]));
            assert!(waits(&mut put));
            put
        })
        .collect();
    let mut small = Box::pin(kv.put("small", "1"));
    assert!(waits(&mut small));
    let core = tokio::spawn(store.take_core().unwrap());
    assert_eq!(small.await.unwrap().revision, Revision::new(2), "it came last and went first");
    let mut revisions = Vec::new();
    for put in large {
        revisions.push(put.await.unwrap().revision.get());
    }
    assert_eq!(revisions, (3..=12).collect::<Vec<_>>(), "in their own order");
    store.stop().await;
    core.await.unwrap();
}

#[tokio::test]
async fn a_stop_answers_the_large_commands_that_wait() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(config(&directory, Placement::Caller)).unwrap();
    let kv = store.keyspace(KeyspaceId::DEFAULT);
    let mut large: Vec<_> =
        (0..10).map(|n| Box::pin(kv.put(format!("large/{n}"), vec![7; 1 << 20]))).collect();
    assert!(large.iter_mut().all(waits));
    let core = store.take_core().unwrap();
    let mut stop = Box::pin(store.stop());
    assert!(waits(&mut stop));
    let core = tokio::spawn(core);
    let mut answers = Vec::new();
    for put in large {
        answers.push(tokio::time::timeout(PATIENCE, put).await.expect("an answer").is_ok());
    }
    assert!(
        answers.is_sorted_by(|a, b| a >= b),
        "those of the last turn and nobody behind them: {answers:?}"
    );
    assert!(answers[0] && !answers[9], "{answers:?}");
    stop.await;
    core.await.unwrap();
}
