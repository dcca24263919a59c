//! What must hold when a log is opened on any bytes.

use super::memory::{DIRECTORY, Memory};
use kvstore::log::{EntryKind, HardState, Log, LogConfig, LogEntry, Recovered};
use kvstore::{Error, LogIndex, NodeId, Result, Term};
use std::path::Path;
use std::sync::Arc;

/// Small, so that logs of a few frames have several segments.
pub const SEGMENT_BYTES: u64 = 8 << 10;

pub fn config() -> LogConfig {
    LogConfig { segment_bytes: SEGMENT_BYTES, ..LogConfig::new(DIRECTORY) }
}

fn open(memory: &Arc<Memory>, wanted_from: LogIndex) -> Result<(Log, Recovered)> {
    Log::open(memory.clone(), config(), wanted_from)
}

/// Opens the log in `memory`: refused with everything as it was, or a log that can be read, reads the same when it is
/// opened again, and goes on.
pub fn check(memory: &Arc<Memory>, wanted_from: u64) {
    let before = memory.everything();
    let wanted_from = LogIndex::new(wanted_from.max(1));
    let (log, found) = match open(memory, wanted_from) {
        Ok(opened) => opened,
        Err(error) => {
            check_refusal(&error);
            assert!(memory.everything() == before, "a refused start changed something: {error}");
            return;
        }
    };
    check_found(&log, &found, wanted_from);
    let (first, last) = (log.first_index(), log.last_index());
    drop(log);

    let (mut log, again) = open(memory, wanted_from).expect("what was opened once opens again");
    assert_eq!(again.torn_tail_bytes, 0, "a torn tail is cut off once");
    assert_eq!((&again.entries, again.hard_state), (&found.entries, found.hard_state));
    assert_eq!((log.first_index(), log.last_index()), (first, last));

    let entry =
        LogEntry { index: last.next(), term: Term::new(9), kind: EntryKind::Normal, data: "more".into() };
    let state = HardState { term: Term::new(9), vote: NodeId::new(1), commit: last };
    log.append(Some(state), std::slice::from_ref(&entry)).expect("a log that was opened goes on");
    drop(log);

    let (log, longer) = open(memory, wanted_from).expect("what was appended to opens again");
    assert_eq!((longer.hard_state, longer.torn_tail_bytes), (Some(state), 0));
    let mut expected = found.entries;
    expected.extend((entry.index >= wanted_from).then_some(entry));
    assert_eq!(longer.entries, expected);
    check_found(&log, &longer, wanted_from);
}

/// The operator is told which file it is about.
fn check_refusal(error: &Error) {
    let path = match error {
        Error::Damaged { path, .. } | Error::DataDir { path, .. } => path,
        other => panic!("a refusal that names no file: {other:?}"),
    };
    assert!(path.starts_with(Path::new(DIRECTORY)), "{error}");
}

/// What was recovered is the log's own end, without holes, and all of the log can be read.
fn check_found(log: &Log, found: &Recovered, wanted_from: LogIndex) {
    let (first, end) = (log.first_index(), log.last_index().next());
    assert!(first <= wanted_from, "the log begins with {first}, but {wanted_from} was wanted");
    let all = log.read(first, end, u64::MAX).expect("a log that was opened is read");
    assert!(all.iter().map(|entry| entry.index.get()).eq(first.get()..end.get()), "no holes");
    let wanted = all.iter().filter(|entry| entry.index >= wanted_from);
    assert!(wanted.eq(&found.entries), "recovered is what the log holds from {wanted_from} on");
}
