//! Records: what a frame's payload consists of.
//!
//! Every record has a checksum of its own beside the frame's: an entry read years later for a slow follower is
//! checked without reading the frame around it.

use super::format::{NUMBER_END, get_u32, get_u64};
use super::{EntryKind, HardState, LogEntry};
use crate::types::{LogIndex, NodeId, Term};
use bytes::Bytes;

/// Kind, entry kind, zeros, length, checksum.
pub(super) const RECORD_HEADER_BYTES: usize = 12;
const RECORD_CRC_AT: usize = 8;
const ENTRY_HEAD_BYTES: usize = 16;
const HARD_STATE_BYTES: usize = 24;
const INDEX_BYTES: usize = 8;

const KIND_HARD_STATE: u8 = 1;
const KIND_ENTRY: u8 = 2;
const KIND_POSITION: u8 = 3;
const KIND_RESTART: u8 = 4;

/// One record, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    HardState(HardState),
    Entry {
        index: LogIndex,
        term: Term,
        kind: EntryKind,
        data: &'a [u8],
    },
    /// First in every segment: the last index before this frame.
    Position(LogIndex),
    /// Everything up to this index is in a snapshot; the log goes on behind it.
    Restart(LogIndex),
}

/// The most that the records of one append can take, including what a new segment's first frame repeats.
pub(super) fn payload_bound(entries: &[LogEntry]) -> u64 {
    let fixed = 2 * (RECORD_HEADER_BYTES + INDEX_BYTES) + RECORD_HEADER_BYTES + HARD_STATE_BYTES;
    entries
        .iter()
        .map(|entry| (RECORD_HEADER_BYTES + ENTRY_HEAD_BYTES + entry.data.len()) as u64)
        .sum::<u64>()
        + fixed as u64
}

pub(super) fn put_hard_state(out: &mut Vec<u8>, state: HardState) {
    put(out, KIND_HARD_STATE, 0, |out| {
        out.extend_from_slice(&state.term.get().to_le_bytes());
        out.extend_from_slice(&state.vote.get().to_le_bytes());
        out.extend_from_slice(&state.commit.get().to_le_bytes());
    });
}

pub(super) fn put_entry(out: &mut Vec<u8>, entry: &LogEntry) {
    let kind = match entry.kind {
        EntryKind::Normal => 0,
        EntryKind::ConfChange => 1,
        EntryKind::ConfChangeV2 => 2,
    };
    put(out, KIND_ENTRY, kind, |out| {
        out.extend_from_slice(&entry.index.get().to_le_bytes());
        out.extend_from_slice(&entry.term.get().to_le_bytes());
        out.extend_from_slice(&entry.data);
    });
}

pub(super) fn put_position(out: &mut Vec<u8>, last: LogIndex) {
    put(out, KIND_POSITION, 0, |out| out.extend_from_slice(&last.get().to_le_bytes()));
}

pub(super) fn put_restart(out: &mut Vec<u8>, last: LogIndex) {
    put(out, KIND_RESTART, 0, |out| out.extend_from_slice(&last.get().to_le_bytes()));
}

fn put(out: &mut Vec<u8>, kind: u8, entry_kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[kind, entry_kind, 0, 0]);
    out.extend_from_slice(&[0; 8]);
    body(out);
    let body_bytes = (out.len() - start - RECORD_HEADER_BYTES) as u32;
    out[start + 4..start + 8].copy_from_slice(&body_bytes.to_le_bytes());
    let crc = checksum(&out[start..]);
    out[start + RECORD_CRC_AT..start + RECORD_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}

fn checksum(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[..RECORD_CRC_AT]);
    hasher.update(&record[RECORD_HEADER_BYTES..]);
    hasher.finalize()
}

/// Reads the record at the start of `bytes`: the record and its length, or what is wrong.
pub(super) fn get(bytes: &[u8]) -> Result<(Record<'_>, usize), &'static str> {
    if bytes.len() < RECORD_HEADER_BYTES {
        return Err("a record's header is cut off");
    }
    let body_bytes = get_u32(bytes, 4) as usize;
    if body_bytes > bytes.len() - RECORD_HEADER_BYTES {
        return Err("a record is longer than what holds it");
    }
    let length = RECORD_HEADER_BYTES + body_bytes;
    let bytes = &bytes[..length];
    if checksum(bytes) != get_u32(bytes, RECORD_CRC_AT) {
        return Err("a record's checksum is wrong");
    }
    let body = &bytes[RECORD_HEADER_BYTES..];
    let record = match (bytes[0], body_bytes) {
        (KIND_HARD_STATE, HARD_STATE_BYTES) => Record::HardState(HardState {
            term: Term::new(get_u64(body, 0)),
            vote: NodeId::new(get_u64(body, 8)),
            commit: LogIndex::new(get_u64(body, 16)),
        }),
        (KIND_POSITION, INDEX_BYTES) => Record::Position(get_index(body)?),
        (KIND_RESTART, INDEX_BYTES) => Record::Restart(get_index(body)?),
        (KIND_ENTRY, ENTRY_HEAD_BYTES..) => Record::Entry {
            index: get_index(body)?,
            term: Term::new(get_u64(body, 8)),
            kind: match bytes[1] {
                0 => EntryKind::Normal,
                1 => EntryKind::ConfChange,
                2 => EntryKind::ConfChangeV2,
                _ => return Err("an entry of a kind that this format does not know"),
            },
            data: &body[ENTRY_HEAD_BYTES..],
        },
        _ => return Err("a record of a kind or length that this format does not know"),
    };
    Ok((record, length))
}

/// The index that `body` begins with.
fn get_index(body: &[u8]) -> Result<LogIndex, &'static str> {
    match get_u64(body, 0) {
        index if index < NUMBER_END => Ok(LogIndex::new(index)),
        _ => Err("an entry's index is larger than any log gets"),
    }
}

/// Reads the entry that `record` consists of, sharing its bytes.
pub(super) fn get_entry(record: &Bytes) -> Result<LogEntry, &'static str> {
    match get(record)? {
        (Record::Entry { index, term, kind, data }, length) if length == record.len() => {
            Ok(LogEntry { index, term, kind, data: record.slice_ref(data) })
        }
        _ => Err("another record stands where an entry was written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_entry_reads_back(numbers in (0..NUMBER_END, any::<u64>()), kind in 0..3,
                               data in prop::collection::vec(any::<u8>(), 0..200)) {
            let kinds = [EntryKind::Normal, EntryKind::ConfChange, EntryKind::ConfChangeV2];
            let entry = LogEntry { index: LogIndex::new(numbers.0), term: Term::new(numbers.1),
                                   kind: kinds[kind as usize], data: data.into() };
            let mut out = Vec::new();
            put_entry(&mut out, &entry);
            prop_assert!(out.len() as u64 <= payload_bound(std::slice::from_ref(&entry)));
            prop_assert_eq!(get_entry(&out.into()), Ok(entry));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = get(&bytes);
        }
    }

    #[test]
    fn an_index_that_no_log_reaches_is_refused() {
        for (index, is_sound) in [(NUMBER_END - 1, true), (NUMBER_END, false), (u64::MAX, false)] {
            let mut records = [Vec::new(), Vec::new(), Vec::new()];
            let index = LogIndex::new(index);
            put_position(&mut records[0], index);
            put_restart(&mut records[1], index);
            let (term, kind) = (Term::new(u64::MAX), EntryKind::Normal);
            put_entry(&mut records[2], &LogEntry { index, term, kind, data: Bytes::new() });
            for record in &records {
                assert_eq!(get(record).is_ok(), is_sound, "{index}");
            }
        }
    }

    #[test]
    fn a_full_head_fits_the_bound() {
        let mut out = Vec::new();
        put_position(&mut out, LogIndex::new(1));
        put_hard_state(&mut out, HardState::default());
        put_restart(&mut out, LogIndex::new(2));
        assert_eq!(out.len() as u64, payload_bound(&[]));
    }
}
