//! Segment files, and the job that makes them ready on another thread.

use super::damage::io_failed;
use super::file::{File, Files};
use super::format::{LogId, PAGE_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, Sequence};
use crate::types::Result;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Zeros are written this many bytes at a time: large enough for the disk, small enough for the program.
const ZEROS_BYTES: usize = 256 << 10;

/// Aligned like pages, so that a direct write takes them as they are.
#[repr(align(4096))]
struct Zeros([u8; ZEROS_BYTES]);

static ZEROS: Zeros = Zeros([0; ZEROS_BYTES]);
/// And synced this many at a time.
const SYNC_STEP_BYTES: usize = 2 << 20;
/// How many purged segments wait on disk to be recycled; the oldest beyond that are removed. The state engine
/// frees a few segments at once when it flushes; without this they would be removed and made again.
const RETIRED_SEGMENTS: usize = 4;

/// A segment that is in use or ready to be.
pub(super) struct Segment {
    pub sequence: Sequence,
    pub path: PathBuf,
    /// Shared with an append under way.
    pub file: Arc<dyn File>,
    /// How much of the file is written through and may hold frames.
    pub bytes: u64,
    /// Where the next frame begins.
    pub end: u64,
}

impl Segment {
    pub fn has_frames(&self) -> bool {
        self.end > SEGMENT_HEADER_BYTES
    }

    /// Writes zeros from the present size up to `bytes`, so that a larger frame fits. Synced by itself: a file
    /// system may find out only then that it has no space, and the frame is not to be part of that. The header says
    /// so before the first frame goes there, and after the file is durably that long: it must never claim too much.
    pub fn grow(&mut self, log_id: LogId, bytes: u64) -> Result<()> {
        let header = SegmentHeader { log_id, sequence: self.sequence }.encode(bytes);
        write_zeros(&*self.file, self.bytes, bytes)
            .and_then(|()| self.file.sync_data())
            .and_then(|()| self.file.write_at(0, &header[..SEGMENT_HEADER_BYTES as usize]))
            .and_then(|()| self.file.sync_data())
            .map_err(|error| io_failed(&self.path, "growing the log segment", &error))?;
        self.bytes = bytes;
        Ok(())
    }
}

/// A purged segment, still under its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retired {
    pub sequence: Sequence,
    pub bytes: u64,
}

/// The purged segments, oldest first. Shared with the job, which takes one off only when it is durably gone:
/// whatever fails in between, segments never leave the directory out of order.
pub(super) type RetiredQueue = Arc<Mutex<VecDeque<Retired>>>;

/// Allows one job at a time; dropped with the job or with what it made.
pub(super) struct Ticket(Arc<AtomicBool>);

impl Ticket {
    pub fn take(busy: &Arc<AtomicBool>) -> Option<Self> {
        (!busy.swap(true, Ordering::AcqRel)).then(|| Self(busy.clone()))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Work for another thread: recycles or removes purged segments, makes the next one ready.
///
/// If it fails, or is dropped without being run, the log is none the worse: the next job tries again.
#[must_use = "a job does nothing until it is run"]
pub struct SegmentJob {
    pub(super) ticket: Ticket,
    pub(super) files: Arc<dyn Files>,
    pub(super) dir: PathBuf,
    pub(super) retired: RetiredQueue,
    pub(super) plan: Option<Plan>,
}

/// The segment to make.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub log_id: LogId,
    pub sequence: Sequence,
    pub bytes: u64,
}

/// What a [`SegmentJob`] made; hand it to [`super::Log::finish`].
#[must_use = "a prepared segment is used only after Log::finish"]
pub struct PreparedSegment {
    pub(super) segment: Option<Segment>,
    pub(super) _ticket: Ticket,
}

impl SegmentJob {
    /// Does the work; blocks for as long as the disk takes.
    pub fn run(self) -> Result<PreparedSegment> {
        let recycled = self.dispose()?;
        let segment = match self.plan {
            Some(plan) => Some(self.prepare(plan, recycled)?),
            None => None,
        };
        Ok(PreparedSegment { segment, _ticket: self.ticket })
    }

    /// Whether a purged segment waits that this job should take care of.
    pub(super) fn has_work(plan: Option<Plan>, retired: &RetiredQueue) -> bool {
        plan.is_some() || retired.lock().len() > RETIRED_SEGMENTS
    }

    /// Takes purged segments out of the directory, oldest first. Whether one of them now waits under the
    /// name that the plan's segment is prepared under.
    fn dispose(&self) -> Result<bool> {
        loop {
            let (oldest, count) = {
                let retired = self.retired.lock();
                (retired.front().copied(), retired.len())
            };
            let Some(oldest) = oldest else { return Ok(false) };
            let path = oldest.sequence.segment_path(&self.dir);
            let recycle = self.plan.filter(|plan| plan.bytes == oldest.bytes);
            let done = if let Some(plan) = recycle {
                tracing::debug!(segment = %path.display(), as_sequence = plan.sequence.0, "recycling a log segment");
                self.files.rename(&path, &plan.sequence.preparing_path(&self.dir))
            } else if self.plan.is_some() || count > RETIRED_SEGMENTS {
                tracing::info!(segment = %path.display(), "removing a purged log segment");
                self.files.remove(&path)
            } else {
                return Ok(false);
            };
            // Not found: an earlier job came this far and failed then.
            let gone_before = match done {
                Err(error) if error.kind() == io::ErrorKind::NotFound => true,
                other => {
                    other.map_err(|error| io_failed(&path, "retiring the log segment", &error))?;
                    false
                }
            };
            // The old name must be durably gone before the next one goes, and before the header changes.
            self.sync_dir()?;
            self.retired.lock().pop_front();
            if recycle.is_some() && !gone_before {
                return Ok(true);
            }
        }
    }

    fn prepare(&self, plan: Plan, recycled: bool) -> Result<Segment> {
        let preparing = plan.sequence.preparing_path(&self.dir);
        let path = plan.sequence.segment_path(&self.dir);
        let made = self.fill(plan, &preparing, recycled).and_then(|file| {
            self.files.rename(&preparing, &path)?;
            Ok(file)
        });
        let file: Arc<dyn File> = Arc::from(made.map_err(|error| {
            // Holds nothing and may be what filled the disk. If this fails too, the next start removes it.
            let _ = self.files.remove(&preparing);
            io_failed(&path, "making the log segment", &error)
        })?);
        self.sync_dir()?;
        Ok(Segment { sequence: plan.sequence, path, file, bytes: plan.bytes, end: SEGMENT_HEADER_BYTES })
    }

    fn fill(&self, plan: Plan, preparing: &Path, recycled: bool) -> io::Result<Box<dyn File>> {
        let header = SegmentHeader { log_id: plan.log_id, sequence: plan.sequence }.encode(plan.bytes);
        let file = if recycled {
            self.files.open(preparing)?
        } else {
            let file = self.files.create(preparing)?;
            // Step by step: a sync of the log in use finds no more than that before it on the disk.
            for from in (header.len() as u64..plan.bytes).step_by(SYNC_STEP_BYTES) {
                write_zeros(&*file, from, plan.bytes.min(from + SYNC_STEP_BYTES as u64))?;
                file.sync_data()?;
            }
            file
        };
        file.write_at(0, &header)?;
        file.sync_data()?;
        Ok(file)
    }

    fn sync_dir(&self) -> Result<()> {
        self.files.sync_dir(&self.dir).map_err(|error| io_failed(&self.dir, "syncing the directory", &error))
    }
}

/// Writes zeros over `from..to`. Real ones: blocks that are only allocated cost a journal commit when first
/// written, which is what this is to avoid.
pub(super) fn write_zeros(file: &dyn File, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let bytes = (to - at).min(ZEROS_BYTES as u64);
        file.write_at(at, &ZEROS.0[..bytes as usize])?;
        at += bytes;
    }
    Ok(())
}

/// Whether a segment of this size can be used.
pub(super) fn is_usable_size(bytes: u64) -> bool {
    bytes.is_multiple_of(PAGE_BYTES) && (2 * PAGE_BYTES..=1 << 30).contains(&bytes)
}

impl fmt::Debug for SegmentJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentJob")
            .field("prepares", &self.plan.map(|plan| plan.sequence.0))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PreparedSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sequence = self.segment.as_ref().map(|segment| segment.sequence.0);
        f.debug_struct("PreparedSegment").field("sequence", &sequence).finish_non_exhaustive()
    }
}
