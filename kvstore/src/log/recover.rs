//! Opens a log's directory: checks all of it, then cuts a torn tail, and changes nothing if there is damage.

use super::damage::{damaged, foreign, io_failed, newer, strange, unusable};
use super::file::{File, Files};
use super::format::{
    BadHeader, FRAME_HEADER_BYTES, FileRole, LogId, NUMBER_END, PAGE_BYTES, SEGMENT_HEADER_BYTES,
    SegmentHeader, Sequence, page_start, zeros_end,
};
use super::record::{self, Record};
use super::scan::{Frame, Scanned, Window, scan};
use super::segment::{Segment, write_zeros};
use super::table::{Slot, Table};
use super::{LogConfig, LogEntry, Recovered};
use crate::types::{LogIndex, Result};
use bytes::Bytes;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory that was read and is ready to be written to.
pub(super) struct Opened {
    pub log_id: LogId,
    /// Never empty; the last one is in use.
    pub segments: VecDeque<Segment>,
    pub prepared: VecDeque<Segment>,
    pub table: Table,
    pub next_frame: u64,
    /// The bytes of the page that the next frame begins in, up to there.
    pub tail: Vec<u8>,
    pub recovered: Recovered,
}

/// Reads the log; nothing if there is none yet.
pub(super) fn open(files: &dyn Files, config: &LogConfig, wanted_from: LogIndex) -> Result<Option<Opened>> {
    let dir = config.dir.as_path();
    files.create_dir(dir).map_err(|error| io_failed(dir, "making the log's directory", &error))?;
    let listing = list(files, dir)?;
    if config.must_exist && listing.sequences.is_empty() {
        return Err(unusable(dir, "all segments of the raft log are missing"));
    }
    let mut segments = open_segments(files, dir, &listing.sequences)?;
    if let (Some(mark), Some(found)) = (config.mark, segments.first())
        && found.header.log_id.mark() != mark
    {
        return Err(strange(dir));
    }
    let mut replay = Replay::new(wanted_from);
    let scans = replay_segments(&segments, &mut replay)?;
    check_reach(dir, &listing.sequences, &replay.table, wanted_from)?;

    // Everything was read and is sound. From here on the directory changes.
    remove_leftovers(files, &listing.leftovers)?;
    // A former process may have died between a renaming and its sync; what is written next relies on it.
    files.sync_dir(dir).map_err(|error| io_failed(dir, "syncing the directory", &error))?;
    let Some(log_id) = segments.first().map(|found| found.header.log_id) else { return Ok(None) };
    let last_used = scans.iter().rposition(|scanned| scanned.last_frame.is_some()).unwrap_or(0);
    let mut tail = Vec::new();
    for (at, (found, scanned)) in segments.iter_mut().zip(&scans).enumerate().skip(last_used) {
        report_torn(&found.segment, scanned);
        replay.recovered.torn_tail_bytes += scanned.torn_bytes;
        let settled = settle(&found.segment, scanned)?;
        if at == last_used {
            tail = settled;
        }
    }
    for (found, scanned) in segments.iter_mut().zip(&scans) {
        found.segment.end = scanned.end;
    }
    let mut segments: VecDeque<Segment> = segments.into_iter().map(|found| found.segment).collect();
    let prepared = segments.split_off(last_used + 1);
    Ok(Some(Opened {
        log_id,
        segments,
        prepared,
        table: replay.table,
        next_frame: replay.next_frame.unwrap_or(1),
        tail,
        recovered: replay.recovered,
    }))
}

struct Listing {
    sequences: Vec<Sequence>,
    leftovers: Vec<PathBuf>,
}

fn list(files: &dyn Files, dir: &Path) -> Result<Listing> {
    let names = files.list(dir).map_err(|error| io_failed(dir, "listing the log's directory", &error))?;
    let mut listing = Listing { sequences: Vec::new(), leftovers: Vec::new() };
    for name in names {
        let path = dir.join(&name);
        match name.to_str().map_or(FileRole::Foreign, FileRole::of) {
            FileRole::Segment(sequence) => listing.sequences.push(sequence),
            FileRole::Preparing => listing.leftovers.push(path),
            FileRole::Ignored => {}
            FileRole::Foreign => return Err(foreign(&path)),
        }
    }
    listing.sequences.sort_unstable();
    for pair in listing.sequences.windows(2) {
        if pair[1] != pair[0].plus(1) {
            return Err(unusable(
                &pair[0].plus(1).segment_path(dir),
                "this segment of the raft log is missing",
            ));
        }
    }
    Ok(listing)
}

struct Found {
    header: SegmentHeader,
    segment: Segment,
}

fn open_segments(files: &dyn Files, dir: &Path, sequences: &[Sequence]) -> Result<Vec<Found>> {
    let mut found: Vec<Found> = Vec::new();
    for &sequence in sequences {
        let path = sequence.segment_path(dir);
        let opened = files.open(&path).and_then(|file| file.len().map(|bytes| (file, bytes)));
        let (file, bytes) = opened.map_err(|error| io_failed(&path, "opening the log segment", &error))?;
        let (header, bytes) = read_header(&*file, &path, bytes)?;
        if header.sequence != sequence {
            return Err(unusable(&path, &format!("this file is segment {} of a raft log", header.sequence)));
        }
        if found.first().is_some_and(|first| first.header.log_id != header.log_id) {
            return Err(unusable(&path, "this segment belongs to another raft log"));
        }
        let segment = Segment { sequence, path, file: Arc::from(file), bytes, end: SEGMENT_HEADER_BYTES };
        found.push(Found { header, segment });
    }
    Ok(found)
}

/// The header of a file of so many bytes, and how many of these may hold frames.
fn read_header(file: &dyn File, path: &Path, bytes: u64) -> Result<(SegmentHeader, u64)> {
    if bytes < SEGMENT_HEADER_BYTES {
        return Err(damaged(path, bytes, "the file is too short for a segment of the raft log"));
    }
    let mut page = vec![0; PAGE_BYTES as usize];
    file.read_at(0, &mut page).map_err(|error| io_failed(path, "reading the log segment", &error))?;
    let (header, claimed) = SegmentHeader::decode(&page).map_err(|bad| match bad {
        BadHeader::Damaged => damaged(path, 0, "the header of this segment of the raft log is broken"),
        BadHeader::Newer(version) => newer(path, version),
    })?;
    match claimed {
        Some(claimed) if bytes < claimed => {
            let what =
                format!("the file ends here, but its header says that it has {claimed} bytes: it was cut");
            Err(damaged(path, bytes, &what))
        }
        // A growth that was not finished may have left more, which never held anything.
        Some(claimed) => Ok((header, claimed)),
        None => Ok((header, page_start(bytes))),
    }
}

/// Reads all frames. The result has one element for each segment.
fn replay_segments(found: &[Found], replay: &mut Replay) -> Result<Vec<Scanned>> {
    let mut scans: Vec<Scanned> = Vec::with_capacity(found.len());
    for (at, Found { header, segment }) in found.iter().enumerate() {
        let mut first_in_segment = true;
        let mut window = Window::new(&*segment.file, &segment.path, segment.bytes);
        let scanned = scan(&mut window, *header, |frame| {
            if first_in_segment {
                first_in_segment = false;
                check_handover(replay, &found[..at], &scans, segment, &frame)?;
            }
            replay.frame(segment, frame)
        })?;
        scans.push(scanned);
    }
    match found.first() {
        // Older segments go only when a newer one holds a frame.
        Some(Found { segment, .. }) if replay.next_frame.is_none() && segment.sequence != Sequence::FIRST => {
            Err(damaged(
                &segment.path,
                SEGMENT_HEADER_BYTES,
                "older segments were purged, but no frame is left",
            ))
        }
        _ => Ok(scans),
    }
}

/// Nothing may be missing between the frames before and this first one of `segment`.
fn check_handover(
    replay: &Replay,
    before: &[Found],
    scans: &[Scanned],
    segment: &Segment,
    frame: &Frame<'_>,
) -> Result<()> {
    let (Some(previous), Some(scanned)) = (before.last(), scans.last()) else {
        if segment.sequence == Sequence::FIRST && frame.number != 1 {
            return Err(damaged(
                &segment.path,
                SEGMENT_HEADER_BYTES,
                "the first frame of the raft log is missing",
            ));
        }
        return Ok(());
    };
    if replay.next_frame == Some(frame.number) && scanned.last_frame.is_some() {
        return Ok(());
    }
    let what = format!(
        "frames of the raft log are broken or missing here: the next segment goes on with frame {}",
        frame.number
    );
    Err(damaged(&previous.segment.path, scanned.end, &what))
}

/// Puts the frames together.
struct Replay {
    wanted_from: LogIndex,
    next_frame: Option<u64>,
    table: Table,
    recovered: Recovered,
}

impl Replay {
    fn new(wanted_from: LogIndex) -> Self {
        Self {
            wanted_from,
            next_frame: None,
            table: Table::starting_after(LogIndex::NONE),
            recovered: Recovered::default(),
        }
    }

    fn frame(&mut self, segment: &Segment, frame: Frame<'_>) -> Result<()> {
        let frame_at = frame.payload_at - FRAME_HEADER_BYTES;
        let bad = |what: &str| damaged(&segment.path, frame_at, what);
        if self.next_frame.is_some_and(|expected| expected != frame.number) {
            return Err(bad("a frame of the raft log is missing before this one"));
        }
        if frame.number >= NUMBER_END {
            return Err(bad("this frame's number is larger than any log gets"));
        }
        let first_in_log = self.next_frame.is_none();
        let first_in_segment = frame_at == SEGMENT_HEADER_BYTES;
        if frame.payload.is_empty() {
            // A seal: the frame that it stands for is still to come.
            return if first_in_segment { Err(bad("an empty frame begins this segment")) } else { Ok(()) };
        }
        self.next_frame = Some(frame.number + 1);
        let mut at = 0;
        while at < frame.payload.len() {
            let (record, bytes) = record::get(&frame.payload[at..]).map_err(&bad)?;
            let is_position = matches!(record, Record::Position(_));
            if is_position != (first_in_segment && at == 0) {
                return Err(bad("the raft log's position stands elsewhere than at the start of a segment"));
            }
            let slot = Slot {
                sequence: segment.sequence,
                offset: frame.payload_at + at as u64,
                bytes: bytes as u32,
            };
            self.record(record, slot, first_in_log).map_err(&bad)?;
            at += bytes;
        }
        Ok(())
    }

    fn record(&mut self, record: Record<'_>, slot: Slot, first_in_log: bool) -> Result<(), &'static str> {
        match record {
            Record::HardState(state) => self.recovered.hard_state = Some(state),
            Record::Position(last) if first_in_log => self.table = Table::starting_after(last),
            Record::Position(last) if last != self.table.last_index() => {
                return Err("entries of the raft log are missing before this frame");
            }
            Record::Position(_) => {}
            Record::Restart(last) => {
                self.table = Table::starting_after(last);
                self.recovered.entries.clear();
            }
            Record::Entry { index, term, kind, data } => {
                if index > self.table.last_index().next() || index == LogIndex::NONE {
                    return Err("an entry of the raft log does not continue the one before");
                }
                // What this entry replaces can be purged by now, together with what stood before it.
                if index < self.table.first_index() {
                    self.table = Table::starting_after(LogIndex::new(index.get() - 1));
                }
                self.table.set(index, slot);
                while self.recovered.entries.last().is_some_and(|last| last.index >= index) {
                    self.recovered.entries.pop();
                }
                if index >= self.wanted_from {
                    // Copied: a slice would keep all of the window alive for one small entry.
                    let data = Bytes::copy_from_slice(data);
                    self.recovered.entries.push(LogEntry { index, term, kind, data });
                }
            }
        }
        Ok(())
    }
}

fn remove_leftovers(files: &dyn Files, leftovers: &[PathBuf]) -> Result<()> {
    for path in leftovers {
        tracing::info!(file = %path.display(), "removing a log segment that was not finished and never in use");
        files.remove(path).map_err(|error| io_failed(path, "removing the unfinished log segment", &error))?;
    }
    Ok(())
}

fn report_torn(segment: &Segment, scanned: &Scanned) {
    if scanned.torn_bytes > 0 {
        tracing::warn!(
            file = %segment.path.display(), offset = scanned.end, bytes = scanned.torn_bytes,
            "cutting off a torn write at the end of the raft log: it was in flight when the process or the \
             machine died and was never acknowledged"
        );
    }
}

/// Makes sure of the last frame and zeroes what is torn behind it. Gives the bytes of the last page up to the end.
///
/// The last frame is written again even if it is whole: the former process may not have synced it, or its sync
/// may have failed, after which the kernel takes the pages for clean and a sync alone would do nothing.
fn settle(segment: &Segment, scanned: &Scanned) -> Result<Vec<u8>> {
    let end = scanned.end;
    if scanned.last_frame.is_none() && scanned.torn_bytes == 0 {
        return Ok(Vec::new());
    }
    let start = page_start(scanned.last_frame.unwrap_or(end));
    let zeros_from = zeros_end(end, segment.bytes).max(end);
    let torn_end = (end + scanned.torn_bytes).next_multiple_of(PAGE_BYTES).min(segment.bytes);
    let mut bytes = vec![0; (zeros_from - start) as usize];
    let rewritten = segment.file.read_at(start, &mut bytes[..(end - start) as usize]).and_then(|()| {
        segment.file.write_at(start, &bytes)?;
        write_zeros(&*segment.file, zeros_from, torn_end)?;
        segment.file.sync_data()
    });
    rewritten.map_err(|error| io_failed(&segment.path, "writing the end of the raft log again", &error))?;
    Ok(bytes[(page_start(end) - start) as usize..(end - start) as usize].to_vec())
}

/// The entries that the state needs must not lie before the log.
fn check_reach(dir: &Path, sequences: &[Sequence], table: &Table, wanted_from: LogIndex) -> Result<()> {
    if table.first_index() <= wanted_from.max(LogIndex::NONE.next()) {
        return Ok(());
    }
    let before = sequences.first().and_then(|first| first.before());
    let missing = before.map_or_else(String::new, |before| {
        format!("{} is missing, with all segments before it, or ", before.segment_path(dir).display())
    });
    let what = format!(
        "the raft log begins with entry {}, but the state needs it from entry {wanted_from} on: {missing}the state is \
         older than the log: its list of tables, MANIFEST-*, was cut or is of an earlier time",
        table.first_index()
    );
    Err(unusable(dir, &what))
}
