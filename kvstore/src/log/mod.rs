//! The durable raft log: a segmented write-ahead log of our own.
//!
//! What raft must remember (hard state and entries) goes through [`Log::append`]: one call is one *frame*,
//! one write and one `fdatasync`, and when it returns the frame survives a power loss. The state engine runs
//! without a write-ahead log of its own because this log is that log. [`Log::begin_append`] and [`Log::finish_append`]
//! are the two halves of it, for an owner who must not wait for the disk: between them the log takes nothing else.
//!
//! On disk the log is a directory of *segments*, `<sequence>.segment`, each written through with zeros and
//! synced before it is used: a sync into blocks that were written before costs half of one that makes the
//! file system allocate or grow something. Segments below the purge point are renamed, given a new header and
//! used again. Frames are packed one behind the other; each carries the log's random identity, the segment's
//! sequence number, its own number and a checksum over all of it, so that what an earlier life of a recycled
//! file left behind can never be taken for a frame of this life. `format.rs` has the exact bytes.
//!
//! Invariants:
//! - frame numbers are consecutive over the whole log; a frame that is missing anywhere but at the very end
//!   is noticed, and so is a missing segment;
//! - behind the last frame there are always zeros up to the end of a page (or the end of the segment), so
//!   that an end and a broken frame can be told apart; a seal may stand between them (see below);
//! - a segment's header says how long the file was made before any frame went so far: a shorter one was cut;
//! - every segment's first frame repeats the hard state and the last index, so that purging older segments
//!   loses neither;
//! - segments leave the directory oldest first, each made durable before the next: there is never a hole;
//! - recovery truncates a torn tail and only that (see below), and it makes sure of the last frame by writing
//!   it again: a former process may have died between its write and its sync, or its sync may have failed;
//! - the first write or sync that fails poisons the log for ever. It is never retried: after a failed sync
//!   nobody knows what the disk holds. Lack of space for a *new* segment is different: nothing was written
//!   yet, nothing is lost, and the same append may be tried again.
//!
//! Torn tail or damage? The log keeps at most one frame in flight. After a crash that frame may be there
//! whole (then it is kept: nobody was told that it failed), in part or not at all. So a bad frame with no
//! valid frame behind it is a torn tail: it is cut off, zeroed, counted and logged as a warning. A bad frame
//! with a valid one behind it cannot come from a crash: acknowledged data is damaged, and the start is refused
//! with file and offset, leaving everything as it is.
//!
//! Rot inside the very last frame would look like a torn tail. So a log that rests is *sealed*: an empty frame stands
//! behind the last one. It is written only after that frame's sync, so with a valid seal behind it a bad frame is
//! damage. It costs a busy log nothing: it is written when nothing was appended for a while, without a sync, and at
//! the end of each opening and at a clean stop, with one. The next frame is written over it, under the same number:
//! its header and the seal's differ in eight aligned bytes only, so that whatever a crash leaves of the two is the
//! one, the other, or a torn write. What is left is rot in the last frame of a log that was killed at work or lost
//! its power before the seal was on the disk; the caller's applied index, which must not lie behind
//! [`Log::last_index`], covers some of it.
//!
//! Deliberately missing: a lock on the directory (the data directory has one), compression, encryption,
//! knowledge of raft, threads (a [`SegmentJob`] runs wherever the caller wants).

mod append;
mod damage;
mod direct;
mod file;
mod format;
mod read;
mod record;
mod recover;
mod scan;
mod seal;
mod segment;
mod table;
mod writer;

#[cfg(test)]
mod tests;

pub use append::Append;
pub use file::{File, Files, OsFiles};
pub use format::FORMAT_VERSION;
pub use segment::{PreparedSegment, SegmentJob};
pub use writer::Log;

pub use crate::types::{EntryKind, HardState, LogEntry, LogMark};
use std::path::PathBuf;

/// Where the log lives and how it is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The log's directory; nothing else may be in it. Made if missing (its parent must exist).
    pub dir: PathBuf,
    /// Size of a segment's file: a multiple of 4096, from 8 KiB to 1 GiB. May differ from run to run.
    pub segment_bytes: u64,
    /// How many segments are kept ready ahead of the one in use, so that an append need not make one.
    pub spare_segments: usize,
    /// Whether a log was there before: then an empty directory is refused, not taken for a new log.
    pub must_exist: bool,
    /// Which log is there, if its owner knows: another one is refused.
    pub mark: Option<LogMark>,
}

impl LogConfig {
    /// 16 MiB segments: 50 ms to write through on a slow disk, about 12,000 writes of 1 KiB between two changes.
    pub const DEFAULT_SEGMENT_BYTES: u64 = 16 << 20;
    /// Two: one is taken, the other covers the time until the next is ready.
    pub const DEFAULT_SPARE_SEGMENTS: usize = 2;

    /// The defaults, in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: Self::DEFAULT_SEGMENT_BYTES,
            spare_segments: Self::DEFAULT_SPARE_SEGMENTS,
            must_exist: false,
            mark: None,
        }
    }
}

/// What [`Log::open`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The newest hard state; none in a new log.
    pub hard_state: Option<HardState>,
    /// The entries from `wanted_from` on, without holes; where the log says two things, the later one.
    pub entries: Vec<LogEntry>,
    /// Bytes of a frame in flight that a crash had cut; they are gone and were never acknowledged.
    pub torn_tail_bytes: u64,
}
