//! Appends: a frame is encoded by the log's owner, written and synced by whoever may wait for the disk, and then made
//! part of the log by its owner again. [`Log::append`] does all three at once.

use super::damage::io_failed;
use super::file::File;
use super::format::{
    FRAME_HEADER_BYTES, FrameHeader, MAX_PAYLOAD_BYTES, SegmentHeader, frame_bytes, page_start, zeros_end,
};
use super::seal::Sealed;
use super::table::{Slot, Table};
use super::{HardState, Log, LogEntry, record};
use crate::types::{Error, InvalidRequest, LogIndex, Result};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The buffer for a frame is kept from append to append up to this size.
const KEPT_BUFFER_BYTES: usize = 4 << 20;

/// A frame on its way to the disk, made by [`Log::begin_append`]. Run it, on any thread, and hand it to
/// [`Log::finish_append`]: until then the log takes nothing else, and nothing of it may be acknowledged.
#[must_use = "nothing is written before it is run, and nothing is appended before the log has it back"]
pub struct Append {
    file: Arc<dyn File>,
    /// Whole pages, and where they go.
    buffer: Vec<u8>,
    start: u64,
    /// `None` until it was run.
    outcome: Option<io::Result<()>>,
    /// The write and the sync together: a disk without a cache of its own is slow in the first, others in the second.
    disk_took: Duration,
    /// What the log is once this is durable.
    after: After,
}

struct After {
    end: u64,
    hard_state: Option<HardState>,
    restart: Option<LogIndex>,
    slots: Vec<(LogIndex, Slot)>,
}

impl Append {
    /// Writes the frame and makes it durable; blocks for as long as the disk takes. How it went the log finds out.
    ///
    /// # Panics
    /// The second time.
    pub fn run(&mut self) {
        assert!(self.outcome.is_none(), "a frame is written once");
        self.outcome = Some(self.write_and_sync());
    }

    fn write_and_sync(&mut self) -> io::Result<()> {
        let before = Instant::now();
        self.file.write_at(self.start, &self.buffer)?;
        self.file.sync_data()?;
        self.disk_took = before.elapsed();
        Ok(())
    }
}

impl fmt::Debug for Append {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Append").field("bytes", &self.buffer.len()).finish_non_exhaustive()
    }
}

impl Log {
    /// Makes the hard state (if it changed) and the entries durable, in one write and one sync.
    ///
    /// An entry with an index that is there already replaces that one and everything behind it. On
    /// [`Error::NoSpace`] nothing was written and the same call may be tried again; any other failure poisons.
    ///
    /// # Panics
    /// If the entries are not consecutive or do not continue (or replace) the ones that are there.
    pub fn append(&mut self, hard_state: Option<HardState>, entries: &[LogEntry]) -> Result<()> {
        match self.begin_append(hard_state, entries)? {
            Some(append) => self.run_and_finish(append),
            None => Ok(()),
        }
    }

    /// The first half of [`Log::append`], which makes the bytes, and room for them: that waits for the disk if the next
    /// segment is due and not ready ([`Log::unprepared_count`]). `None`: there is nothing to write.
    ///
    /// # Errors
    /// As [`Log::append`].
    ///
    /// # Panics
    /// As [`Log::append`].
    pub fn begin_append(
        &mut self,
        hard_state: Option<HardState>,
        entries: &[LogEntry],
    ) -> Result<Option<Append>> {
        self.check_usable()?;
        if hard_state.is_none() && entries.is_empty() {
            return Ok(None);
        }
        if let Some(first) = entries.first() {
            assert!(
                self.table.accepts(first.index),
                "entry {} neither continues nor replaces the log's {}..={}",
                first.index,
                self.first_index(),
                self.last_index()
            );
            assert!(
                entries.windows(2).all(|pair| pair[1].index == pair[0].index.next()),
                "the entries of one append are consecutive"
            );
        }
        self.begin_frame(hard_state, None, entries).map(Some)
    }

    /// The second half of [`Log::append`]: how the write and the sync went, and what follows.
    ///
    /// # Panics
    /// If `append` was not run, or is not the one under way.
    pub fn finish_append(&mut self, append: Append) -> Result<()> {
        assert!(std::mem::take(&mut self.is_appending), "an append of this log is under way");
        let outcome = append.outcome.expect("an append is run before it is finished");
        let failed = |error| io_failed(&self.active().path, "writing the raft log", &error);
        outcome.map_err(failed).map_err(|error| self.poison(&error))?;

        // Durable from here on.
        let after = append.after;
        self.last_write = append.disk_took;
        self.sealed = Sealed::No;
        self.next_frame += 1;
        self.hard_state = after.hard_state.or(self.hard_state);
        if let Some(last) = after.restart {
            self.table = Table::starting_after(last);
        }
        for (index, slot) in after.slots {
            self.table.set(index, slot);
        }
        self.active_mut().end = after.end;
        self.keep_tail(append.buffer, append.start, after.end);
        Ok(())
    }

    /// Forgets all entries: a snapshot up to `last` was installed durably, and the log goes on behind it.
    pub fn restart_after(&mut self, last: LogIndex, hard_state: Option<HardState>) -> Result<()> {
        self.check_usable()?;
        let append = self.begin_frame(hard_state, Some(last), &[])?;
        self.run_and_finish(append)
    }

    fn run_and_finish(&mut self, mut append: Append) -> Result<()> {
        append.run();
        self.finish_append(append)
    }

    fn begin_frame(
        &mut self,
        hard_state: Option<HardState>,
        restart: Option<LogIndex>,
        entries: &[LogEntry],
    ) -> Result<Append> {
        let payload_bound = record::payload_bound(entries);
        if payload_bound > MAX_PAYLOAD_BYTES {
            let [size_bytes, limit_bytes] = [payload_bound, MAX_PAYLOAD_BYTES].map(|bytes| bytes as usize);
            return Err(InvalidRequest::TooLarge { size_bytes, limit_bytes }.into());
        }
        match self.make_room(frame_bytes(payload_bound) + FRAME_HEADER_BYTES) {
            Err(error @ Error::NoSpace(_)) => return Err(error),
            other => other.map_err(|error| self.poison(&error))?,
        }
        let first_in_segment = !self.active().has_frames();
        let hard_state = hard_state.or(if first_in_segment { self.hard_state } else { None });
        let (start, old_end) = (page_start(self.active().end), self.active().end);
        let header = SegmentHeader { log_id: self.log_id, sequence: self.active().sequence };

        let mut buffer = std::mem::take(&mut self.buffer);
        let frame_at = buffer.len();
        buffer.resize(frame_at + FRAME_HEADER_BYTES as usize, 0);
        if first_in_segment {
            record::put_position(&mut buffer, self.table.last_index());
        }
        if let Some(last) = restart {
            record::put_restart(&mut buffer, last);
        }
        if let Some(state) = hard_state {
            record::put_hard_state(&mut buffer, state);
        }
        let mut slots = Vec::with_capacity(entries.len());
        for entry in entries {
            let at = buffer.len();
            record::put_entry(&mut buffer, entry);
            let bytes = (buffer.len() - at) as u32;
            slots.push((entry.index, Slot { sequence: header.sequence, offset: start + at as u64, bytes }));
        }
        FrameHeader::seal(header, self.next_frame, &mut buffer[frame_at..]);
        let end = old_end + frame_bytes((buffer.len() - frame_at) as u64 - FRAME_HEADER_BYTES);
        // Zeros behind it, to the end of a page.
        let segment_bytes = self.active().bytes;
        assert!(end <= segment_bytes, "room was made for the frame");
        buffer.resize((zeros_end(end, segment_bytes) - start) as usize, 0);
        self.is_appending = true;
        Ok(Append {
            file: Arc::clone(&self.active().file),
            buffer,
            start,
            outcome: None,
            disk_took: Duration::ZERO,
            after: After { end, hard_state, restart, slots },
        })
    }

    /// Keeps what the next write begins with.
    fn keep_tail(&mut self, mut buffer: Vec<u8>, start: u64, end: u64) {
        let tail = (page_start(end) - start) as usize..(end - start) as usize;
        let bytes = tail.len();
        buffer.copy_within(tail, 0);
        buffer.truncate(bytes);
        buffer.shrink_to(KEPT_BUFFER_BYTES);
        self.buffer = buffer;
    }
}
