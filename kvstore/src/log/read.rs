//! Reading entries that are no longer in the caller's memory.

use super::damage::{damaged, io_failed};
use super::record;
use super::segment::Segment;
use super::table::Slot;
use super::{Log, LogEntry};
use crate::types::{LogIndex, Result};
use bytes::Bytes;

/// Entries with at most this between them are read together: a frame's end and the next one's header.
const GAP_BYTES: u64 = 64;
/// Read at once at most (or one entry): entries of one read share a buffer, which lives as long as any of them.
const RUN_BYTES: u64 = 1 << 20;

impl Log {
    /// The entries `from..to`, as many as have `max_bytes` of records in all, but at least one.
    ///
    /// # Panics
    /// If the range reaches outside [`Log::first_index`]`..=`[`Log::last_index`].
    pub fn read(&self, from: LogIndex, to: LogIndex, max_bytes: u64) -> Result<Vec<LogEntry>> {
        assert!(
            self.first_index() <= from && from <= to && to <= self.last_index().next(),
            "{from}..{to} is not in the log's {}..={}",
            self.first_index(),
            self.last_index()
        );
        let mut slots = Vec::new();
        let mut budget = max_bytes;
        for index in from.get()..to.get() {
            let Some(slot) = self.table.get(LogIndex::new(index)) else { break };
            match budget.checked_sub(u64::from(slot.bytes)) {
                Some(rest) => budget = rest,
                None if slots.is_empty() => budget = 0,
                None => break,
            }
            slots.push(slot);
        }
        let mut entries = Vec::with_capacity(slots.len());
        let mut rest = &slots[..];
        while !rest.is_empty() {
            let (run, others) = rest.split_at(run_length(rest));
            self.read_run(run, &mut entries)?;
            rest = others;
        }
        for (entry, expected) in entries.iter().zip(from.get()..) {
            assert_eq!(entry.index.get(), expected, "the table says where each entry lies");
        }
        Ok(entries)
    }

    /// Reads slots that lie close together, in one go.
    fn read_run(&self, run: &[Slot], entries: &mut Vec<LogEntry>) -> Result<()> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
        let segment = self.segment_of(*first);
        let mut bytes = vec![0; (last.offset - first.offset) as usize + last.bytes as usize];
        segment
            .file
            .read_at(first.offset, &mut bytes)
            .map_err(|error| io_failed(&segment.path, "reading the log segment", &error))?;
        let bytes = Bytes::from(bytes);
        for slot in run {
            let at = (slot.offset - first.offset) as usize;
            let entry = record::get_entry(&bytes.slice(at..at + slot.bytes as usize));
            entries.push(entry.map_err(|what| damaged(&segment.path, slot.offset, what))?);
        }
        Ok(())
    }

    fn segment_of(&self, slot: Slot) -> &Segment {
        let oldest = self.segments.front().map_or(0, |segment| segment.sequence.0);
        &self.segments[(slot.sequence.0 - oldest) as usize]
    }
}

/// How many of `slots` can be read together.
fn run_length(slots: &[Slot]) -> usize {
    let first = slots[0];
    let close = slots.windows(2).take_while(|pair| {
        let (a, b) = (pair[0], pair[1]);
        let end = a.offset + u64::from(a.bytes);
        a.sequence == b.sequence
            && (end..=end + GAP_BYTES).contains(&b.offset)
            && b.offset + u64::from(b.bytes) - first.offset <= RUN_BYTES
    });
    1 + close.count()
}
