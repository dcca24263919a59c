//! Seals: how a log that rests tells rot in its last frame from a torn write. The module's text has the reasons.

use super::Log;
use super::damage::io_failed;
use super::format::{FRAME_HEADER_BYTES, FrameHeader, SegmentHeader, page_start, zeros_end};
use crate::types::Result;

/// Whether a seal stands behind the last frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sealed {
    No,
    /// Written; the kernel has not been asked to make it durable.
    Written,
    Durably,
}

impl Log {
    /// Puts a seal behind the last frame, unless one is there: proof that this frame was durable once, so that rot in it
    /// is not taken for a torn write. For times when the log rests: one write and no sync, and the next frame is
    /// written over it. What a crash leaves of it does no harm.
    pub fn seal(&mut self) -> Result<()> {
        self.seal_to(Sealed::Written)
    }

    /// As [`Log::seal`], and makes the seal durable.
    pub fn seal_durably(&mut self) -> Result<()> {
        self.seal_to(Sealed::Durably)
    }

    /// The number of the next frame: it changes with every append.
    pub fn next_frame(&self) -> u64 {
        self.next_frame
    }

    fn seal_to(&mut self, wanted: Sealed) -> Result<()> {
        self.check_usable()?;
        let end = self.active().end;
        let behind = end + FRAME_HEADER_BYTES;
        // A seal is never the first frame of a segment, and a segment of an older version may have no room left.
        if self.sealed >= wanted || !self.active().has_frames() || behind > self.active().bytes {
            return Ok(());
        }
        let tail_bytes = self.buffer.len();
        let header = SegmentHeader { log_id: self.log_id, sequence: self.active().sequence };
        self.buffer.resize(tail_bytes + FRAME_HEADER_BYTES as usize, 0);
        FrameHeader::seal(header, self.next_frame, &mut self.buffer[tail_bytes..]);
        let zeros_end = zeros_end(behind, self.active().bytes);
        let start = page_start(end);
        self.buffer.resize((zeros_end - start) as usize, 0);
        let active = self.active();
        let written = active.file.write_lazily_at(start, &self.buffer).and_then(|()| match wanted {
            Sealed::Durably => active.file.sync_data(),
            Sealed::Written | Sealed::No => Ok(()),
        });
        let written = written.map_err(|error| io_failed(&active.path, "sealing the raft log", &error));
        self.buffer.truncate(tail_bytes);
        written.map_err(|error| self.poison(&error))?;
        self.sealed = wanted;
        Ok(())
    }
}
