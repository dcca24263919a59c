//! What a data directory holds: the storage engine and the raft log, opened, and checked against each other.

use super::config::Config;
use super::data_dir::DataDir;
use super::open::random_number;
use crate::apply::StateMachine;
use crate::consensus::{Node, NodeConfig, Restored};
use crate::log::{Files, Log, LogConfig, LogMark};
use crate::storage::{Engine, RocksEngine, RocksOptions};
use crate::types::{Error, LogIndex, Result, Term};
use std::path::PathBuf;
use std::sync::Arc;

type Applied = (LogIndex, Term);

/// Both of them, and what they say.
pub(super) struct Recovered {
    pub(super) engine: Arc<dyn Engine>,
    /// What is in the engine: durable, since it opened its files for writing.
    pub(super) applied: Applied,
    pub(super) log: Log,
    pub(super) node: Node,
    /// Of the log's entries behind `applied`.
    pub(super) unflushed_log_bytes: u64,
}

/// The storage engine and the log, once it is clear that they fit each other. To open the engine for writing is to let
/// it remove tables that its list does not name: the log has to agree with that list before.
pub(super) fn open_engine_and_log(
    config: &Config,
    data_dir: &DataDir,
    files: Arc<dyn Files>,
) -> Result<Recovered> {
    let mut engine = open_engine(data_dir, data_dir.begun())?;
    let applied = StateMachine::applied_in(&engine).map_err(|error| refuse_start(data_dir, error))?;
    let mark = StateMachine::log_of(&engine).map_err(|error| refuse_start(data_dir, error))?;
    let (log, node, unflushed_log_bytes) = open_raft(config, data_dir, files, applied, mark)?;
    if data_dir.begun() {
        drop(engine);
        engine = open_engine(data_dir, false)?;
    }
    Ok(Recovered { engine: Arc::new(engine), applied, log, node, unflushed_log_bytes })
}

fn open_engine(data_dir: &DataDir, read_only: bool) -> Result<RocksEngine> {
    let options = RocksOptions { must_exist: data_dir.begun(), read_only, ..RocksOptions::default() };
    RocksEngine::open(data_dir.state(), &options).map_err(|error| {
        let path = error.path.unwrap_or_else(|| data_dir.state());
        // Said once is enough.
        let named = format!("{}: ", path.display());
        let message = error.message.strip_prefix(&named).unwrap_or(&error.message);
        let reason = format!("{message}; {}", what_to_do(message));
        Error::DataDir { path, reason }
    })
}

pub(super) fn log_config(config: &Config, dir: PathBuf, must_exist: bool) -> LogConfig {
    LogConfig { segment_bytes: config.log_segment_bytes, must_exist, ..LogConfig::new(dir) }
}

/// What would end a running store is at the start an error about its files.
pub(super) fn refuse_start(data_dir: &DataDir, error: Error) -> Error {
    let what = match error {
        Error::Poisoned(what) => what,
        // It says what to do.
        Error::Unreadable(reason) => return Error::DataDir { path: data_dir.state(), reason },
        Error::Damaged { path, offset, reason } if path.is_relative() => {
            return Error::Damaged { path: data_dir.path().join(path), offset, reason };
        }
        other => return other,
    };
    let path = data_dir.state();
    let reason = format!("{what}; {}", what_to_do(&what));
    Error::DataDir { path, reason }
}

/// Advice that cannot make it worse: good data is never to be thrown away for a full disk.
fn what_to_do(message: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["in use by another store"]) {
        "stop the other store; one of this process lives on in its handles, readers and watch sessions"
    } else if says(&["No space left", "Disk quota"]) {
        "nothing is lost; free some space and start again"
    } else if says(&["Permission denied", "Read-only", "Operation not permitted"]) {
        "nothing is lost; check the owner, the mode and the mount"
    } else if says(&["Too many open files"]) {
        "nothing is lost; raise the limit of open files (ulimit -n) and start again"
    } else if says(&["newer version"]) {
        // Which one to start, it has said.
        "nothing is lost"
    } else if says(&["Input/output error", "IO error"]) && !says(&["No such file"]) {
        "nothing was changed; look for errors of this disk in the system's log, and start again once it works"
    } else {
        "nothing was changed; put the file back, or restore the whole data directory from a backup"
    }
}

fn open_raft(
    config: &Config,
    data_dir: &DataDir,
    files: Arc<dyn Files>,
    applied: Applied,
    mark: Option<LogMark>,
) -> Result<(Log, Node, u64)> {
    let log_config = LogConfig { mark, ..log_config(config, data_dir.log(), data_dir.begun()) };
    let (log, recovered) = Log::open(files, log_config, applied.0.next())?;
    let damaged = |reason: String| Error::DataDir { path: data_dir.log(), reason };
    if recovered.hard_state.is_none() && applied.0.get() > 0 {
        return Err(damaged(
            "the raft log is missing although the state has applied entries; restore the whole directory"
                .into(),
        ));
    }
    let [last, next] = log.end_paths().map(|path| path.display().to_string());
    let end = format!("it ends in {last}, and nothing of it is in {next}");
    if recovered.entries.is_empty() && log.last_index() < applied.0 {
        return Err(damaged(format!(
            "the raft log ends at entry {} but the state has applied {} ({end}): segments at its end are missing or empty, \
             or parts of different times were put together; restore the whole data directory from a backup",
            log.last_index(),
            applied.0
        )));
    }
    let ticks = |ms: u64| (ms / config.heartbeat_ms) as usize;
    let node_config = NodeConfig {
        node_id: data_dir.node_id,
        election_ticks: ticks(config.election_ms),
        election_jitter_ticks: (random_number() % ticks(config.election_ms).max(1) as u64) as usize,
        heartbeat_ticks: 1,
    };
    let unflushed_log_bytes = recovered.entries.iter().map(|entry| entry.data.len() as u64).sum();
    let restored = Restored {
        applied,
        hard_state: recovered.hard_state.unwrap_or_default(),
        entries: recovered.entries,
        voters: vec![data_dir.node_id],
    };
    let node = Node::new(&node_config, restored)
        .map_err(|what| damaged(format!("{what} ({end}); restore the whole data directory from a backup")))?;
    Ok((log, node, unflushed_log_bytes))
}
