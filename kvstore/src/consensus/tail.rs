//! The end of the log in memory: what raft-rs reads synchronously inside a step.

use crate::types::{HardState, LogEntry, LogIndex, Term};
use raft::eraftpb::{ConfState, Entry};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use std::collections::VecDeque;

/// How many bytes of entries stay in memory after they were applied, for followers that lag a little. Older
/// ones are read from the log's files. One append to a follower carries at most 1 MiB, so this feeds a few.
pub(super) const TAIL_BYTES_MAX: usize = 4 << 20;

/// A contiguous run of entries that ends with the newest one.
///
/// Everything not applied yet is always in it: raft-rs asks for committed entries synchronously.
pub(super) struct Tail {
    /// The entry before the first one held.
    before: (LogIndex, Term),
    entries: VecDeque<Entry>,
    bytes: usize,
    initial: RaftState,
}

impl Tail {
    pub(super) fn new(before: (LogIndex, Term), hard_state: HardState, conf_state: ConfState) -> Self {
        let hard_state = raft::eraftpb::HardState {
            term: hard_state.term.get(),
            vote: hard_state.vote.get(),
            commit: hard_state.commit.get(),
            ..Default::default()
        };
        let initial = RaftState { hard_state, conf_state };
        Self { before, entries: VecDeque::new(), bytes: 0, initial }
    }

    /// Adds entries; one at or before the end cuts what follows it first.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index > self.before.0.get() && first.index <= self.last() + 1,
            "entries must join the tail without a gap"
        );
        while self.last() >= first.index {
            if let Some(cut) = self.entries.pop_back() {
                self.bytes -= cut.data.len();
            }
        }
        self.bytes += entries.iter().map(|entry| entry.data.len()).sum::<usize>();
        self.entries.extend(entries.iter().cloned());
    }

    /// Forgets applied entries beyond the bound.
    pub(super) fn trim(&mut self, applied: LogIndex) {
        while self.bytes > TAIL_BYTES_MAX {
            match self.entries.front() {
                Some(entry) if entry.index <= applied.get() => {
                    self.before = (LogIndex::new(entry.index), Term::new(entry.term));
                    self.bytes -= entry.data.len();
                    self.entries.pop_front();
                }
                _ => break,
            }
        }
    }

    fn last(&self) -> u64 {
        self.before.0.get() + self.entries.len() as u64
    }

    fn position(&self, index: u64) -> Option<usize> {
        index.checked_sub(self.before.0.get() + 1).map(|offset| offset as usize)
    }
}

/// The raft-rs form of an entry.
pub(super) fn to_raft(entry: &LogEntry) -> Entry {
    use crate::types::EntryKind;
    use raft::eraftpb::EntryType;
    let entry_type = match entry.kind {
        EntryKind::Normal => EntryType::EntryNormal,
        EntryKind::ConfChange => EntryType::EntryConfChange,
        EntryKind::ConfChangeV2 => EntryType::EntryConfChangeV2,
    };
    Entry {
        entry_type,
        term: entry.term.get(),
        index: entry.index.get(),
        data: entry.data.clone(),
        ..Default::default()
    }
}

/// Our form of an entry.
pub(super) fn from_raft(entry: &Entry) -> LogEntry {
    use crate::types::EntryKind;
    use raft::eraftpb::EntryType;
    let kind = match entry.entry_type {
        EntryType::EntryNormal => EntryKind::Normal,
        EntryType::EntryConfChange => EntryKind::ConfChange,
        EntryType::EntryConfChangeV2 => EntryKind::ConfChangeV2,
    };
    LogEntry {
        index: LogIndex::new(entry.index),
        term: Term::new(entry.term),
        kind,
        data: entry.data.clone(),
    }
}

impl Storage for Tail {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let Some(from) = self.position(low) else {
            let error = if context.can_async() {
                StorageError::LogTemporarilyUnavailable
            } else {
                StorageError::Compacted
            };
            return Err(error.into());
        };
        let to = self.position(high).unwrap_or(0).min(self.entries.len());
        let limit_bytes = max_size.into().unwrap_or(u64::MAX);
        let mut taken = Vec::with_capacity(to.saturating_sub(from));
        let mut bytes = 0u64;
        for entry in self.entries.range(from..to) {
            bytes += entry.data.len() as u64;
            // At least one entry is always given, or a large one would never move.
            if bytes > limit_bytes && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        Ok(taken)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.before.0.get() {
            return Ok(self.before.1.get());
        }
        match self.position(index) {
            Some(at) => match self.entries.get(at) {
                Some(entry) => Ok(entry.term),
                None => Err(StorageError::Unavailable.into()),
            },
            None => Err(StorageError::Compacted.into()),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.before.0.get() + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<raft::eraftpb::Snapshot> {
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, bytes: usize) -> Entry {
        Entry { index, term: 3, data: vec![0; bytes].into(), ..Default::default() }
    }

    #[test]
    fn applied_entries_leave_memory_beyond_the_bound_and_others_stay() {
        const MIB: usize = 1 << 20;
        let mut tail =
            Tail::new((LogIndex::new(4), Term::new(2)), HardState::default(), ConfState::default());
        for index in 5..=20 {
            tail.append(&[entry(index, MIB)]);
            tail.trim(LogIndex::new(4));
        }
        assert_eq!((tail.first_index(), tail.bytes), (Ok(5), 16 * MIB), "nothing of it is applied");
        tail.trim(LogIndex::new(10));
        assert_eq!((tail.first_index(), tail.bytes), (Ok(11), 10 * MIB), "what is not applied is needed");
        tail.trim(LogIndex::new(20));
        assert_eq!((tail.first_index(), tail.bytes), (Ok(17), TAIL_BYTES_MAX));
        assert_eq!((tail.term(16), tail.last_index()), (Ok(3), Ok(20)));
        tail.append(&[entry(19, MIB / 2)]);
        assert_eq!(
            (tail.last_index(), tail.bytes),
            (Ok(19), 2 * MIB + MIB / 2),
            "what is replaced counts no more"
        );
    }
}
