//! Attacks below the requests: connections, frames, streams.

use crate::attacker::Attacker;
use etcd_shim::proto::plain::etcdserverpb as pb;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::codegen::Service;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

async fn connect(attacker: &Attacker) -> Option<TcpStream> {
    match TcpStream::connect(&attacker.address).await {
        Ok(stream) => Some(stream),
        Err(error) => {
            attacker.count(&format!("no connection: {error}"));
            None
        }
    }
}

/// Connections that say nothing, or nothing more than that they speak HTTP/2.
pub async fn half_open(attacker: Attacker) {
    let mut held = Vec::new();
    for n in 0..attacker.scale(2_000, 300) {
        let Some(mut stream) = connect(&attacker).await else { continue };
        if n % 2 == 0 && stream.write_all(&[PREFACE, SETTINGS].concat()).await.is_err() {
            attacker.count("closed");
        }
        attacker.count("ok");
        held.push(stream);
    }
    attacker.wait_for_the_end().await;
}

/// Requests of HTTP/1 and prefaces of HTTP/2 that come byte by byte.
pub async fn slowloris(attacker: Attacker) {
    let mut held = JoinSet::new();
    for n in 0..attacker.scale(500, 100) {
        let attacker = attacker.clone();
        held.spawn(async move {
            let text: &[u8] = if n % 2 == 0 { b"GET /health HTTP/1.1\r\nX-Slow: aaaaaaaaa" } else { PREFACE };
            let Some(mut stream) = connect(&attacker).await else { return };
            for byte in text.iter().cycle() {
                if !attacker.goes_on() {
                    return attacker.count("ok");
                }
                if stream.write_all(&[*byte]).await.is_err() {
                    return attacker.count("closed");
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }
    held.join_all().await;
}

/// Connections that come and go, some with a word.
pub async fn flood(attacker: Attacker) {
    let its = attacker.clone();
    let per_s = attacker.scale(1_000, 500);
    let work = move |n: u64| {
        let attacker = its.clone();
        async move {
            let Some(mut stream) = connect(&attacker).await else { return };
            let _ = match n % 3 {
                0 => Ok(()),
                1 => stream.write_all(PREFACE).await,
                _ => stream.write_all(b"GET /version HTTP/1.0\r\n\r\n").await,
            };
            attacker.count("ok");
        }
    };
    attacker.at_rate(per_s, work).await;
}

/// Frames that each want an answer.
pub async fn frames(attacker: Attacker) {
    let mut senders = JoinSet::new();
    for n in 0..attacker.scale(4, 2) {
        let attacker = attacker.clone();
        senders.spawn(async move {
            let Some(stream) = connect(&attacker).await else { return };
            let (mut from, mut to) = stream.into_split();
            let drain = tokio::spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                while matches!(from.read(&mut buffer).await, Ok(length) if length > 0) {}
            });
            let many = (if n % 2 == 0 { PING } else { SETTINGS }).repeat(50);
            let mut alive = to.write_all(&[PREFACE, SETTINGS].concat()).await.is_ok();
            while alive && attacker.goes_on() {
                alive = to.write_all(&many).await.is_ok();
                attacker.count(if alive { "ok" } else { "closed" });
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            drain.abort();
        });
    }
    senders.join_all().await;
}

/// Calls that are given up as soon as they are made.
pub async fn resets(attacker: Attacker) {
    let kv = attacker.kv().await;
    let its = attacker.clone();
    let per_s = attacker.scale(2_000, 1_000);
    let work = move |_| {
        let (mut kv, attacker) = (kv.clone(), its.clone());
        async move {
            let get = kv.range(pb::RangeRequest { key: "/attack".into(), ..Default::default() });
            // The request leaves, its answer is not waited for.
            let _ = tokio::time::timeout(Duration::from_micros(1), get).await;
            attacker.count("ok");
        }
    };
    attacker.at_rate(per_s, work).await;
}

/// Messages of which the second half never comes: the prefix announces more than is sent.
pub async fn unfinished(attacker: Attacker) {
    const ANNOUNCED_BYTES: u32 = 3 << 19;
    const SENT_BYTES: usize = 1 << 20;
    let mut held = JoinSet::new();
    let mut channels = Vec::new();
    for _ in 0..20 {
        channels.push(attacker.channel().await);
    }
    for n in 0..attacker.scale(400, 50) {
        let (mut channel, attacker) = (channels[n % channels.len()].clone(), attacker.clone());
        held.spawn(async move {
            let mut begun = vec![0];
            begun.extend(ANNOUNCED_BYTES.to_be_bytes());
            begun.resize(SENT_BYTES, 7);
            let body = crate::body::Unfinished::new(begun.into());
            let request = http::Request::post("/etcdserverpb.KV/Put")
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(tonic::body::Body::new(body))
                .expect("a request");
            if std::future::poll_fn(|context| channel.poll_ready(context)).await.is_err() {
                return attacker.count("no connection");
            }
            tokio::select! {
                answer = channel.call(request) => match answer {
                    Ok(response) => {
                        let status = response.headers().get("grpc-status").cloned();
                        attacker.count(if status.is_some() { "refused" } else { "accepted?" });
                        attacker.wait_for_the_end().await;
                    }
                    Err(error) => attacker.count(&format!("broken: {error}")),
                },
                () = attacker.wait_for_the_end() => attacker.count("ok"),
            }
        });
    }
    held.join_all().await;
}
