//! SIGKILL at random moments under mixed load, on a disk and in memory: what was acknowledged is there, whole and in
//! order; what was not is there whole or not at all; nobody ever sees anything else.
//!
//! ```text
//!  traffic ── clients: puts, guards, transactions, leases, compactions ──▶ calls ──┐
//!  streams ── the follower: a watch of everything across all crashes ───▶ witness ─┼─▶ linearizable, leases
//!          └─ watchers: some watches on some streams, every option ─────▶ logs ────┴─▶ guarantees
//! ```
//!
//! Everything is recorded first and judged when the run is over, by `model`, which knows etcd's rules and nothing of the
//! store. `linearizable` says why its judgement is sound and complete, `guarantees` which promises of a watch it holds to.
//! Both have tests with histories that are wrong on purpose: a judge that finds no fault has to be able to.
//!
//! Deliberately missing: power failures (`power_loss`) and full disks (`faulty_disk`).
//!
//! A real etcd can be asked with `HOLDFAST_PROGRAM`. It answers its calls without a fault and does not pass: it takes the
//! previous version away from any event that a compaction overtakes, where this server ends the watch with the floor, and
//! it tells of no further progress on a stream one of whose watches a compaction has ended, so that the run's end is not
//! reached.
//!
//! `HOLDFAST_KILLS` says how often altogether (default 4; continuous integration more), `HOLDFAST_SEED` repeats the
//! moments and the requests, though not what the machine makes of them. `HOLDFAST_NEEDS_MOUNTS=1` fails where there is no
//! ext4 or no tmpfs to kill on, where the run otherwise only says so, in `.ci/run` too.

mod disks;
mod guarantees;
mod history;
mod leases;
mod linearizable;
mod model;
mod run;
mod streams;
mod traffic;
mod wire;
mod wrong_calls;
mod wrong_watches;

use history::{Call, Compactions, Delete, KEYS, Operation, Outcome, Put, Read, Request, Witness};
use holdfast_tests::{Node, Setup};
use run::{PATIENCE, Random, Run};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use streams::Log;
use traffic::Client;

const CLIENTS: usize = 8;
/// Streams of any watches beside the follower; one more has those that are told of large transactions in fragments.
const STREAMS: usize = 4;
/// Between the crashes: from a node that has hardly started to one that has done some work.
const UP_MS: Range<u64> = 30..600;
/// Long enough for most clients to have their answers.
const REST: Duration = Duration::from_millis(15);
/// About what a start takes.
const STARTING_MS: u64 = 300;
/// Requests without an answer for each kill, on average: one for each client when it comes, sometimes one more on the old
/// connection, and some for a slow machine. More says that the node fails by itself.
const UNKNOWN_MAX: u64 = 4 * CLIENTS as u64;
/// So many requests have every kind among them.
const CALLS_OF_EVERY_KIND: usize = 3000;
/// With these, so many watches meet all but the rarest that can happen to one: one in fourteen ends at a floor.
const WATCHES_OF_EVERY_KIND: usize = 200;
/// And five times as many requests and watches the rarest: one in fifty misses a previous version.
const RAREST: usize = 5;
/// How many faults a failure shows: they come in crowds.
const FAULTS_SHOWN: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_wrong_is_seen() {
    let kills = variable("HOLDFAST_KILLS").unwrap_or(4);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    let seed = variable("HOLDFAST_SEED").unwrap_or(now.subsec_nanos().into());
    println!("HOLDFAST_KILLS={kills} HOLDFAST_SEED={seed}");
    let disks = disks::found();
    let share = kills.div_ceil(disks.len() as u64);
    for disk in disks {
        println!("{share} kills on {}", disk.name);
        let flags = ["--watch-progress-notify-interval=100ms", "--max-request-bytes=65536"];
        let setup = flags.into_iter().fold(Setup::subject(), Setup::flag).parent(disk.directory);
        let recorded = record(setup, share, seed).await;
        judge(&recorded, share);
    }
}

/// All that happened in a run.
struct Recorded {
    calls: Vec<Call>,
    witness: Witness,
    logs: Vec<Log>,
}

/// Runs clients and watchers while the node is killed again and again, then lets everything come to rest.
async fn record(setup: Setup, kills: u64, seed: u64) -> Recorded {
    let mut node = setup.start();
    let run = Arc::new(Run::new());
    let follower = tokio::spawn(streams::follow(node.channel(), Arc::clone(&run)));
    let clients = (0..CLIENTS).map(|number| {
        let client = Client::new(number, node.channel(), Arc::clone(&run));
        tokio::spawn(client.work(Random::new(seed, number as u64)))
    });
    let clients = clients.collect::<Vec<_>>();
    let watchers = (0..=STREAMS).map(|number| {
        let random = Random::new(seed, (CLIENTS + number) as u64);
        let choose = if number < STREAMS { streams::options } else { streams::fragments };
        tokio::spawn(streams::watch(node.channel(), Arc::clone(&run), random, choose))
    });
    let watchers = watchers.collect::<Vec<_>>();

    let mut random = Random::new(seed, u64::MAX);
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(UP_MS.start + random.below(UP_MS.end - UP_MS.start))).await;
        // Under load the node is nearly always writing, and what it has just answered was written before. At rest
        // the last answer is all that there is to lose.
        let rest = random.one_in(3).then(|| run.pause());
        if rest.is_some() {
            tokio::time::sleep(REST).await;
        }
        kill(&mut node, &run, &mut random);
        drop(rest);
    }
    tokio::time::sleep(Duration::from_millis(UP_MS.end)).await;
    run.stop();
    let mut calls = Vec::new();
    for client in clients {
        calls.extend(client.await.expect("a client"));
    }
    let mut last = Client::new(CLIENTS, node.channel(), Arc::clone(&run));
    traffic::await_ends_of_leases(&mut last).await;
    // Watches that begin in the future begin now.
    for _ in 0..=streams::FUTURE_REVISIONS {
        let put = Put { key: 0, value: run.next_value(), lease: 0, previous: true };
        last.must(Request::Keys(Operation::Put(put))).await;
    }
    // The last word, so that all those who can be told of it in fragments are.
    for request in traffic::sweep(&run, 0) {
        last.must(request).await;
    }
    let (revision, _) = last.must(read_all()).await;
    run.end_at(revision);
    let witness = tokio::time::timeout(PATIENCE, follower).await;
    let witness = witness.expect("the follower goes on").expect("the follower");
    let mut logs = Vec::new();
    for watcher in watchers {
        let log = tokio::time::timeout(PATIENCE, watcher).await;
        logs.extend(log.expect("the watches are told that they have everything").expect("a watcher"));
    }
    // Once more at rest: what is there now came from the disk alone.
    kill(&mut node, &run, &mut random);
    last.must(read_all()).await;
    calls.append(&mut last.calls);
    Recorded { calls, witness, logs }
}

/// Kills the node and starts it again; sometimes it is killed once more before it serves.
fn kill(node: &mut Node, run: &Run, random: &mut Random) {
    run.set_serving(false);
    assert_eq!(node.exited(), None, "the node ended by itself");
    // Blocking in the test's own thread; clients and watchers have others.
    tokio::task::block_in_place(|| {
        node.kill();
        if random.one_in(4) {
            node.launch();
            std::thread::sleep(Duration::from_millis(random.below(STARTING_MS)));
            node.kill();
        }
        node.start();
    });
    run.set_serving(true);
}

fn read_all() -> Request {
    Request::Keys(Operation::Read(Read { keys: 0..KEYS, limit: 0, revision: 0, serializable: false }))
}

fn judge(recorded: &Recorded, kills: u64) {
    let Recorded { calls, witness, logs } = recorded;
    let began = std::time::Instant::now();
    let mut faults = linearizable::faults(calls, witness);
    let mut seen = guarantees::Seen::default();
    faults.extend(guarantees::faults(logs, witness, &Compactions::of(calls), &mut seen));
    let count = tally(calls);
    println!("revisions: {}; calls as answered, refused, unknown: {count:?}", witness.revision());
    println!("{} streams: {seen:?}; judged in {:?}", logs.len(), began.elapsed());
    let shown = faults.iter().take(FAULTS_SHOWN).cloned().collect::<Vec<_>>().join("\n");
    assert!(faults.is_empty(), "{} faults:\n{shown}", faults.len());
    // The rarest are one in a hundred.
    if calls.len() > CALLS_OF_EVERY_KIND {
        for kind in ["put", "delete", "transaction", "read", "grant", "renew", "revoke", "compact"] {
            assert!(count.get(kind).is_some_and(|[answered, ..]| *answered > 0), "no {kind} was answered");
        }
    }
    let unknown = calls.iter().filter(|call| call.is_unknown()).count() as u64;
    assert!(unknown <= UNKNOWN_MAX * (kills + 1), "{unknown} requests without an answer");
    assert!(witness.revision() as u64 > 20 * kills, "hardly anything was written");
    assert!(seen.events > 0 && seen.progress > 0, "the watches were told nothing");
    let is_long =
        |times| calls.len() > times * CALLS_OF_EVERY_KIND && seen.watches > times * WATCHES_OF_EVERY_KIND;
    assert!(!is_long(1) || seen.notifications > 0, "no idle watch was told of progress: {seen:?}");
    assert!(!is_long(1) || seen.compacted > 0, "no watch met a floor: {seen:?}");
    assert!(!is_long(RAREST) || seen.previous_compacted > 0, "no previous version was gone: {seen:?}");
    assert!(seen.fragments > 0 && seen.reassembled > 0, "no revision came in fragments: {seen:?}");
}

/// By kind of request: answered, refused, unknown.
fn tally(calls: &[Call]) -> BTreeMap<&'static str, [usize; 3]> {
    let mut count = BTreeMap::new();
    for call in calls {
        let kind = match &call.request {
            Request::Keys(Operation::Put(_)) => "put",
            Request::Keys(Operation::Delete(Delete { .. })) => "delete",
            Request::Keys(Operation::Read(_)) => "read",
            Request::Keys(Operation::Transaction(_)) => "transaction",
            Request::Grant { .. } => "grant",
            Request::Revoke { .. } => "revoke",
            Request::Renew { .. } => "renew",
            Request::TimeToLive { .. } => "time to live",
            Request::Compact { .. } => "compact",
        };
        let outcome = match call.outcome {
            Outcome::Answered { .. } => 0,
            Outcome::Refused(_) => 1,
            Outcome::Unknown => 2,
        };
        count.entry(kind).or_insert([0; 3])[outcome] += 1;
    }
    count
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}
