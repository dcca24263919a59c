//! Tests of the log as a whole.

mod basic;
mod crash;
mod disk;
mod faults;
mod fixture;
mod flip;

use super::{EntryKind, HardState, Log, LogConfig, LogEntry, Recovered};
use crate::types::{LogIndex, NodeId, Result, Term};
use bytes::Bytes;
use disk::Disk;
use std::sync::Arc;

const DIR: &str = "/log";

fn config(segment_bytes: u64) -> LogConfig {
    LogConfig { segment_bytes, ..LogConfig::new(DIR) }
}

fn index(raw: u64) -> LogIndex {
    LogIndex::new(raw)
}

/// An entry whose data can be told from that of any other index, term and length.
fn entry(at: u64, term: u64, data_bytes: usize) -> LogEntry {
    let data: Bytes = (0..data_bytes as u64).map(|n| (n * 31 + at * 7 + term * 13) as u8).collect();
    let kind = [EntryKind::Normal, EntryKind::ConfChange, EntryKind::ConfChangeV2][(at % 3) as usize];
    LogEntry { index: index(at), term: Term::new(term), kind, data }
}

fn hard_state(term: u64, commit: u64) -> HardState {
    HardState { term: Term::new(term), vote: NodeId::new(term % 3), commit: index(commit) }
}

fn open(disk: &Arc<Disk>, segment_bytes: u64, wanted_from: u64) -> Result<(Log, Recovered)> {
    Log::open(disk.clone(), config(segment_bytes), index(wanted_from))
}

/// Everything that the log can still read.
fn read_all(log: &Log) -> Vec<LogEntry> {
    log.read(log.first_index(), log.last_index().next(), u64::MAX).unwrap()
}

/// Runs jobs until there is none.
fn keep_house(log: &mut Log) -> Result<()> {
    while let Some(job) = log.housekeeping() {
        log.finish(job.run()?);
    }
    Ok(())
}
