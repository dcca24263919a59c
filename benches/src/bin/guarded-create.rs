//! Guarded creates (kube-apiserver's transaction) against several etcd endpoints, interleaved round by round.
//!
//! `guarded-create --clients 64 --connections 4 --rounds 6 --seconds 3 etcd=http://127.0.0.1:2379 ours=http://…`
//!
//! Closed loop. Prints each endpoint's median rate and latency and the ratio to the first one, round by round so
//! that a noisy machine shows. The full load generator is later work; this one answers a single question.

use bytes::Bytes;
use etcd_shim::proto::plain::etcdserverpb as pb;
use pb::kv_client::KvClient;
use std::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};

const VALUE_BYTES: usize = 1024;

struct Arguments {
    clients: usize,
    connections: usize,
    rounds: usize,
    seconds: u64,
    targets: Vec<(String, String)>,
}

#[derive(Clone, Copy)]
struct Round {
    per_s: f64,
    p50_us: f64,
    p99_us: f64,
}

fn parse() -> Result<Arguments, String> {
    let mut arguments = Arguments { clients: 64, connections: 4, rounds: 6, seconds: 3, targets: vec![] };
    let mut rest = std::env::args().skip(1);
    while let Some(argument) = rest.next() {
        let mut number = || -> Result<usize, String> {
            let text = rest.next().ok_or(format!("{argument} needs a number"))?;
            text.parse().map_err(|_| format!("{argument}: {text:?} is not a number"))
        };
        match argument.as_str() {
            "--clients" => arguments.clients = number()?,
            "--connections" => arguments.connections = number()?,
            "--rounds" => arguments.rounds = number()?,
            "--seconds" => arguments.seconds = number()? as u64,
            target => {
                let (name, url) = target.split_once('=').ok_or(format!("{target:?} is not NAME=URL"))?;
                arguments.targets.push((name.into(), url.into()));
            }
        }
    }
    if arguments.targets.is_empty() {
        return Err("give at least one NAME=URL".into());
    }
    Ok(arguments)
}

fn create(key: String, value: Bytes) -> pb::TxnRequest {
    let key = Bytes::from(key);
    let absent = pb::Compare {
        result: pb::compare::CompareResult::Equal as i32,
        target: pb::compare::CompareTarget::Mod as i32,
        key: key.clone(),
        target_union: Some(pb::compare::TargetUnion::ModRevision(0)),
        ..Default::default()
    };
    let put = pb::PutRequest { key: key.clone(), value, ..Default::default() };
    let get = pb::RangeRequest { key, ..Default::default() };
    let op = |request| pb::RequestOp { request: Some(request) };
    pb::TxnRequest {
        compare: vec![absent],
        success: vec![op(pb::request_op::Request::RequestPut(put))],
        failure: vec![op(pb::request_op::Request::RequestRange(get))],
    }
}

/// A value that does not compress: the same bytes would flatter a store that compresses.
fn value(seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(VALUE_BYTES).collect::<Vec<u8>>().into()
}

async fn round(arguments: &Arguments, channels: &[Channel], tag: &str) -> Result<Round, tonic::Status> {
    let until = Instant::now() + Duration::from_secs(arguments.seconds);
    let started = Instant::now();
    let mut tasks = Vec::new();
    for client in 0..arguments.clients {
        let mut kv = KvClient::new(channels[client % channels.len()].clone());
        let tag = tag.to_string();
        tasks.push(tokio::spawn(async move {
            let mut latencies_us = Vec::new();
            let mut count = 0u64;
            while Instant::now() < until {
                let request =
                    create(format!("/registry/bench/{tag}/{client}/{count}"), value(count + client as u64));
                let begun = Instant::now();
                let reply = kv.txn(request).await?.into_inner();
                latencies_us.push(begun.elapsed().as_nanos() as f64 / 1e3);
                assert!(reply.succeeded, "a fresh key cannot exist");
                count += 1;
            }
            Ok::<_, tonic::Status>(latencies_us)
        }));
    }
    let mut latencies_us = Vec::new();
    for task in tasks {
        latencies_us.extend(task.await.map_err(|e| tonic::Status::internal(e.to_string()))??);
    }
    let elapsed_s = started.elapsed().as_secs_f64();
    latencies_us.sort_by(f64::total_cmp);
    let at = |share: f64| latencies_us[((latencies_us.len() - 1) as f64 * share) as usize];
    Ok(Round { per_s: latencies_us.len() as f64 / elapsed_s, p50_us: at(0.5), p99_us: at(0.99) })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = parse()?;
    let mut targets = Vec::new();
    for (name, url) in &arguments.targets {
        let mut channels = Vec::new();
        for _ in 0..arguments.connections.min(arguments.clients) {
            channels.push(Endpoint::from_shared(url.clone())?.tcp_nodelay(true).connect().await?);
        }
        targets.push((name.clone(), channels, Vec::<Round>::new()));
    }
    // A tag of this run: the keys of an earlier run against the same server must not be in the way.
    let run = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
    println!(
        "guarded create, {} clients over {} connections, {VALUE_BYTES} B values, closed loop, {} rounds of {} s",
        arguments.clients, arguments.connections, arguments.rounds, arguments.seconds
    );
    for number in 0..arguments.rounds {
        let forward = number % 2 == 0;
        let count = targets.len();
        for at in 0..count {
            let (name, channels, rounds) = &mut targets[if forward { at } else { count - 1 - at }];
            let done = round(&arguments, channels, &format!("{run}-{number}")).await?;
            println!(
                "round {number} {name:>12}: {:>8.0}/s  p50 {:>7.0} µs  p99 {:>7.0} µs",
                done.per_s, done.p50_us, done.p99_us
            );
            rounds.push(done);
        }
    }
    let base: Vec<f64> = targets[0].2.iter().map(|round| round.per_s).collect();
    for (name, _, rounds) in &targets {
        let ratios: Vec<f64> = rounds.iter().zip(&base).map(|(round, base)| round.per_s / base).collect();
        let (low, high) =
            ratios.iter().fold((f64::MAX, f64::MIN), |(low, high), r| (low.min(*r), high.max(*r)));
        println!(
            "{name:>12}: median {:>8.0}/s  p50 {:>7.0} µs  p99 {:>7.0} µs  ratio {:.2} [{low:.2}..{high:.2}]",
            median(rounds.iter().map(|r| r.per_s).collect()),
            median(rounds.iter().map(|r| r.p50_us).collect()),
            median(rounds.iter().map(|r| r.p99_us).collect()),
            median(ratios),
        );
    }
    Ok(())
}
