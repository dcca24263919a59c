//! A file system that is really full: before the first start, under writes at any distance from the end (a new segment of
//! the log, a flush, a compaction meet it), at the next start, and at the replay. With space back, everything is there.

use crate::is_thorough;
use crate::load::{Load, check_present, finished, look_for};
use crate::server::{Place, Server};
use holdfast_tests::{Kind, Mounted};
use std::path::Path;
use std::time::Duration;

/// Room for the log's segments, some tables and the server's reserve.
const MIB: u32 = 192;
const WRITES: u64 = 260;
/// What is left when the file system fills under writes: less than a segment of the log.
const LEFT_KIB: &[u64] = &[9 << 10];
/// Nothing, next to nothing, about a segment, a segment and some tables.
const LEFT_KIB_MORE: &[u64] =
    &[0, 64, 1 << 10, 2 << 10, 5 << 10, 14 << 10, 18 << 10, 25 << 10, 33 << 10, 40 << 10];

async fn wait_for_some(load: &Load) {
    for _ in 0..15 {
        if load.is_done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A kill leaves something to replay, a clean stop has to flush where there is no space.
fn end_either_way(server: Server, data_dir: &Path, left_kib: u64, about: &str) {
    if left_kib.is_multiple_of(3) {
        server.kill();
        return;
    }
    let end = server.stop();
    // A flush without space may have ended it just before.
    if !end.status.success() {
        end.check_told(data_dir, about);
    }
}

/// A file system that is full from the beginning, or nearly.
async fn before_the_first_start(kind: Kind) -> Option<()> {
    let place = Place::new();
    let disk = Mounted::new(kind, &place.data_dir(), MIB)?;
    for left_kib in [0, 700, 20 << 10] {
        disk.leave_kib(left_kib);
        match place.start(&[]) {
            Err(end) => end.check_told(&place.data_dir(), &format!("a first start with {left_kib} KiB")),
            Ok(server) => server.kill(),
        }
        disk.give_back();
    }
    let server = place.start(&[]).unwrap_or_else(|end| panic!("with space back: {}", end.text));
    let load = Load::start(&place.channel(), 0, 20, &place.note());
    let acknowledged = finished(load).await;
    assert_eq!(acknowledged.revisions.len(), 20);
    check_present(&place.channel(), &acknowledged, "with space back").await;
    assert!(server.stop().status.success());
    Some(())
}

/// Under writes, all but `left_kib` is taken at once; then the server starts again on the full file system.
async fn under_writes(kind: Kind, left_kib: u64) -> Option<()> {
    let about = format!("{kind:?}, {left_kib} KiB left");
    let place = Place::new();
    let disk = Mounted::new(kind, &place.data_dir(), MIB)?;
    let mut server = place.start(&[]).unwrap_or_else(|end| panic!("{}", end.text));
    let load = Load::start(&place.channel(), 0, WRITES, &place.note());
    wait_for_some(&load).await;
    disk.leave_kib(left_kib);
    // Refused writes come back at once: the clients are done soon, whatever happens.
    while !load.is_done() && server.ended().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let acknowledged = load.end().await;
    let end = server.ended();
    println!("{about}: {} acknowledged, ended by itself: {}", acknowledged.revisions.len(), end.is_some());
    match end {
        Some(end) => end.check_told(&place.data_dir(), &about),
        None => end_either_way(server, &place.data_dir(), left_kib, &about),
    }
    // The next start, with its replay, finds it still full, and then without a byte.
    for attempt in 0..2 {
        match place.start(&[]) {
            Err(end) => end.check_told(&place.data_dir(), &format!("{about}, start {attempt}")),
            Ok(server) => {
                let about = format!("{about}, still full");
                // It may end while it is asked, for a flush that has no space.
                match look_for(&place.channel(), &acknowledged, &about).await {
                    Ok(_) => server.kill(),
                    Err(_) => server.wait().check_told(&place.data_dir(), &about),
                }
            }
        }
        disk.leave_kib(0);
    }
    disk.give_back();
    let server = place.start(&[]).unwrap_or_else(|end| panic!("{about}, with space back: {}", end.text));
    check_present(&place.channel(), &acknowledged, &format!("{about}, with space back")).await;
    let end = server.stop();
    assert!(end.status.success(), "{about}: {}", end.text);
    Some(())
}

async fn fill_at_every_step(kind: Kind) {
    if before_the_first_start(kind).await.is_none() {
        return;
    }
    let more = is_thorough();
    for left_kib in LEFT_KIB.iter().chain(if more { LEFT_KIB_MORE } else { &[] }) {
        under_writes(kind, *left_kib).await.expect("it could be mounted before");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_tmpfs_loses_nothing() {
    fill_at_every_step(Kind::Tmpfs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_ext4_loses_nothing() {
    fill_at_every_step(Kind::Ext4).await;
}
