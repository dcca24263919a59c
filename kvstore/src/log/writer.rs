//! The log itself: one owner, its segments, and what of it is on the disk.

use super::file::Files;
use super::format::{LogId, PAGE_BYTES, SEGMENT_HEADER_BYTES, Sequence};
use super::recover::{self, Opened};
use super::seal::Sealed;
use super::segment::{
    Plan, PreparedSegment, Retired, RetiredQueue, Segment, SegmentJob, Ticket, is_usable_size,
};
use super::table::Table;
use super::{HardState, LogConfig, LogMark, Recovered};
use crate::types::{Error, LogIndex, Result};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A segment that must grow because the next one is not ready grows by at least this, so that not every append
/// pays for it.
const GROW_BYTES: u64 = 1 << 20;

/// The durable raft log. See the module's text.
pub struct Log {
    files: Arc<dyn Files>,
    config: LogConfig,
    pub(super) log_id: LogId,
    /// In order, without holes; the last one is in use.
    pub(super) segments: VecDeque<Segment>,
    /// The ones that come next, in order.
    prepared: VecDeque<Segment>,
    retired: RetiredQueue,
    job_running: Arc<AtomicBool>,
    pub(super) table: Table,
    pub(super) hard_state: Option<HardState>,
    pub(super) next_frame: u64,
    /// The bytes of the page that the next frame begins in, up to there. An append under way has them.
    pub(super) buffer: Vec<u8>,
    pub(super) sealed: Sealed,
    poisoned: Option<String>,
    /// Between the two halves of an append.
    pub(super) is_appending: bool,
    pub(super) last_write: Duration,
    unprepared: u64,
}

impl Log {
    /// Opens the log, or makes one if the directory is empty or missing, and gives what it holds.
    ///
    /// All of the log is checked, but only entries ≥ `wanted_from` (the first one the caller's state does not
    /// have durably) are kept in memory, beside 24 bytes for every entry. A log that begins behind `wanted_from`
    /// is refused. A log that *ends* before it is the caller's to judge: [`Log::last_index`] below the applied
    /// index means that acknowledged entries are gone, unless the state was restored on purpose, after which
    /// [`Log::restart_after`] is due.
    pub fn open(files: Arc<dyn Files>, config: LogConfig, wanted_from: LogIndex) -> Result<(Log, Recovered)> {
        if !is_usable_size(config.segment_bytes) {
            let text = "segment_bytes must be a multiple of 4096 from 8192 to 1073741824";
            return Err(Error::Config(format!("{text}, not {}", config.segment_bytes)));
        }
        let opened = recover::open(&*files, &config, wanted_from)?;
        let is_new = opened.is_none();
        let opened = opened.unwrap_or_else(|| Opened {
            log_id: LogId(files.random_number() | 1),
            segments: VecDeque::new(),
            prepared: VecDeque::new(),
            table: Table::starting_after(LogIndex::NONE),
            next_frame: 1,
            tail: Vec::new(),
            recovered: Recovered::default(),
        });
        let mut log = Log {
            files,
            config,
            log_id: opened.log_id,
            segments: opened.segments,
            prepared: opened.prepared,
            retired: Arc::new(Mutex::new(VecDeque::new())),
            job_running: Arc::new(AtomicBool::new(false)),
            table: opened.table,
            hard_state: opened.recovered.hard_state,
            next_frame: opened.next_frame,
            buffer: opened.tail,
            sealed: Sealed::No,
            poisoned: None,
            is_appending: false,
            last_write: Duration::ZERO,
            unprepared: 0,
        };
        if is_new {
            log.prepare_now()?;
            log.rotate();
        }
        log.seal_durably()?;
        Ok((log, opened.recovered))
    }

    /// Which log this is.
    pub fn mark(&self) -> LogMark {
        self.log_id.mark()
    }

    /// Gives up the segments that hold only entries below `keep_from`. No disk work: [`Log::housekeeping`]
    /// has it done. The hard state survives.
    pub fn purge_below(&mut self, keep_from: LogIndex) -> Result<()> {
        self.check_usable()?;
        // The newest frame stays, whatever is in it: it proves where the log ends. The segment in use may be
        // without one, if there was no space for the frame that it was taken for.
        let newest = self.segments.iter().rev().find(|segment| segment.has_frames());
        let newest = newest.map_or(Sequence::FIRST, |segment| segment.sequence);
        let oldest = self.table.oldest_needed(keep_from).map_or(newest, |needed| needed.min(newest));
        while self.segments.front().is_some_and(|segment| segment.sequence < oldest) {
            if let Some(segment) = self.segments.pop_front() {
                self.retired.lock().push_back(Retired { sequence: segment.sequence, bytes: segment.bytes });
            }
        }
        self.table.forget_before(oldest);
        Ok(())
    }

    /// Work to be run on another thread, if there is any: making the next segment, recycling purged ones.
    /// One job at a time: there is none while the last one's result lives and is not handed to [`Log::finish`].
    pub fn housekeeping(&mut self) -> Option<SegmentJob> {
        if self.poisoned.is_some() {
            return None;
        }
        let plan = (self.prepared.len() < self.config.spare_segments).then(|| self.next_plan());
        if !SegmentJob::has_work(plan, &self.retired) {
            return None;
        }
        self.job(plan)
    }

    /// Takes what a job made.
    pub fn finish(&mut self, done: PreparedSegment) {
        if let Some(segment) = done.segment {
            assert_eq!(
                segment.sequence,
                self.next_plan().sequence,
                "the job is of this log, and the only one"
            );
            self.prepared.push_back(segment);
        }
    }

    /// The first entry that can be read; one above [`Log::last_index`] if there is none.
    pub fn first_index(&self) -> LogIndex {
        self.table.first_index()
    }

    /// The last entry, or where the log starts behind if there is none.
    pub fn last_index(&self) -> LogIndex {
        self.table.last_index()
    }

    /// The file in which it ends, and the one in which it would go on.
    pub fn end_paths(&self) -> [PathBuf; 2] {
        let active = self.active();
        [active.path.clone(), active.sequence.plus(1).segment_path(&self.config.dir)]
    }

    /// The newest durable hard state.
    pub fn hard_state(&self) -> Option<HardState> {
        self.hard_state
    }

    /// Bytes written to segments that are not purged.
    pub fn live_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.end).sum()
    }

    /// How long the disk took for the last append.
    pub fn last_write(&self) -> Duration {
        self.last_write
    }

    /// How often an append had to make a segment, or make one longer, because none was ready.
    pub fn unprepared_count(&self) -> u64 {
        self.unprepared
    }

    /// Looks whether somebody has removed or cut a segment behind the log's back: what is appended then would be lost
    /// with it.
    ///
    /// # Errors
    /// [`Error::Poisoned`]: the log must not be used any more.
    pub fn check_kept(&mut self) -> Result<()> {
        let is_kept = |segment: &Segment| {
            // What cannot be told is left to the next write.
            segment.file.has_name().unwrap_or(true)
                && segment.file.len().map_or(true, |bytes| bytes >= segment.bytes)
        };
        let Some(lost) = self.segments.iter().find(|segment| !is_kept(segment)) else { return Ok(()) };
        let reason = "was removed or cut by somebody else while the store was in use; everything acknowledged up to now \
                      may be in it alone: restore the whole data directory from a backup unless the store starts again";
        let error = Error::DataDir { path: lost.path.clone(), reason: reason.into() };
        Err(self.poison(&error))
    }

    pub(super) fn check_usable(&self) -> Result<()> {
        assert!(!self.is_appending, "what an append under way leads to is not known yet");
        match &self.poisoned {
            Some(why) => Err(Error::Poisoned(why.clone())),
            None => Ok(()),
        }
    }

    pub(super) fn poison(&mut self, error: &Error) -> Error {
        let why = format!("raft log: {error}");
        tracing::error!(why, "the raft log stops: what the disk holds is not known any more");
        self.poisoned = Some(why.clone());
        Error::Poisoned(why)
    }

    pub(super) fn active(&self) -> &Segment {
        let Some(active) = self.segments.back() else { unreachable!("a segment is in use from open on") };
        active
    }

    pub(super) fn active_mut(&mut self) -> &mut Segment {
        let Some(active) = self.segments.back_mut() else { unreachable!("a segment is in use from open on") };
        active
    }

    /// Sees to it that the segment in use has room for `bytes`.
    pub(super) fn make_room(&mut self, bytes: u64) -> Result<()> {
        if self.active().end + bytes <= self.active().bytes {
            return Ok(());
        }
        if self.active().has_frames() {
            if self.prepared.is_empty() {
                self.unprepared += 1;
                self.prepare_now()?;
            }
            self.rotate();
        }
        let needed = (self.active().end + bytes).next_multiple_of(PAGE_BYTES);
        let log_id = self.log_id;
        let active = self.active_mut();
        if needed > active.bytes {
            // A frame larger than a segment, or the next segment is still being made on another thread.
            let ahead = if active.has_frames() { GROW_BYTES } else { 0 };
            active.grow(log_id, needed.max(active.bytes + ahead))?;
        }
        Ok(())
    }

    /// Makes the next segment here and now, unless a job is at it.
    fn prepare_now(&mut self) -> Result<()> {
        if let Some(job) = self.job(Some(self.next_plan())) {
            let done = job.run()?;
            self.finish(done);
        }
        Ok(())
    }

    /// Takes the next segment into use, if one is ready.
    fn rotate(&mut self) {
        if let Some(next) = self.prepared.pop_front() {
            self.segments.push_back(next);
            self.buffer.clear();
        }
    }

    fn next_plan(&self) -> Plan {
        let last = self.segments.back().map_or(Sequence(0), |segment| segment.sequence);
        let sequence = last.plus(1 + self.prepared.len());
        Plan { log_id: self.log_id, sequence, bytes: self.config.segment_bytes }
    }

    fn job(&self, plan: Option<Plan>) -> Option<SegmentJob> {
        Some(SegmentJob {
            ticket: Ticket::take(&self.job_running)?,
            files: self.files.clone(),
            dir: self.config.dir.clone(),
            retired: self.retired.clone(),
            plan,
        })
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.config.dir)
            .field("first_index", &self.first_index())
            .field("last_index", &self.last_index())
            .field("poisoned", &self.poisoned)
            .finish_non_exhaustive()
    }
}

const _: () = assert!(SEGMENT_HEADER_BYTES.is_multiple_of(PAGE_BYTES));
