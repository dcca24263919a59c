//! Reads one segment's frames, and judges where and how they end.

use super::damage::{damaged, io_failed};
use super::file::File;
use super::format::{
    FRAME_ALIGN_BYTES, FRAME_HEADER_BYTES, FrameHeader, MAX_PAYLOAD_BYTES, PAGE_BYTES, SEGMENT_HEADER_BYTES,
    SegmentHeader, frame_bytes, zeros_end,
};
use crate::types::Result;
use std::path::Path;

/// A segment is read in pieces of this size, or of one frame if that is larger.
const WINDOW_BYTES: u64 = 1 << 20;
/// What a disk writes whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// A valid frame.
pub(super) struct Frame<'a> {
    pub number: u64,
    /// Of the payload in the segment.
    pub payload_at: u64,
    pub payload: &'a [u8],
}

/// What a segment consists of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Scanned {
    /// Where the last valid frame begins.
    pub last_frame: Option<u64>,
    /// Where the next one belongs: also where a seal stands, if there is one.
    pub end: u64,
    /// Bytes from `end` on that somebody began to write; 0 when zeros follow, as they should.
    pub torn_bytes: u64,
}

/// Reads a file through one buffer.
pub(super) struct Window<'a> {
    file: &'a dyn File,
    path: &'a Path,
    file_bytes: u64,
    start: u64,
    buffer: Vec<u8>,
}

impl<'a> Window<'a> {
    pub fn new(file: &'a dyn File, path: &'a Path, file_bytes: u64) -> Self {
        Self { file, path, file_bytes, start: 0, buffer: Vec::new() }
    }

    /// The bytes at `offset`, or nothing if the file ends before them.
    pub fn get(&mut self, offset: u64, bytes: u64) -> Result<Option<&[u8]>> {
        if bytes > self.file_bytes.saturating_sub(offset) {
            return Ok(None);
        }
        if offset < self.start || offset + bytes > self.start + self.buffer.len() as u64 {
            let wanted = bytes.max(WINDOW_BYTES).min(self.file_bytes - offset);
            self.buffer.resize(wanted as usize, 0);
            self.start = offset;
            if let Err(error) = self.file.read_at(offset, &mut self.buffer) {
                self.buffer.clear();
                return Err(io_failed(self.path, "reading the log segment", &error));
            }
        }
        let at = (offset - self.start) as usize;
        Ok(Some(&self.buffer[at..at + bytes as usize]))
    }
}

/// Visits the valid frames from the start, a seal as the last one. A bad frame with a valid one behind it is an error.
pub(super) fn scan(
    window: &mut Window<'_>,
    segment: SegmentHeader,
    mut visit: impl FnMut(Frame<'_>) -> Result<()>,
) -> Result<Scanned> {
    let mut scanned = Scanned { last_frame: None, end: SEGMENT_HEADER_BYTES, torn_bytes: 0 };
    let mut behind_seal = None;
    while let Some(frame) = frame_at(window, segment, scanned.end)? {
        let next = scanned.end + frame_bytes(frame.payload.len() as u64);
        let is_seal = frame.payload.is_empty();
        visit(frame)?;
        if is_seal {
            behind_seal = Some(next);
            break;
        }
        scanned.last_frame = Some(scanned.end);
        scanned.end = next;
    }
    let unread = behind_seal.unwrap_or(scanned.end + FRAME_ALIGN_BYTES);
    if let Some(valid) = find_frame(window, segment, unread)? {
        let what = match behind_seal {
            None => format!("this frame of the raft log is broken, and a valid one follows at byte {valid}"),
            Some(_) => {
                format!("a frame of the raft log is missing here, and a valid one follows at byte {valid}")
            }
        };
        return Err(damaged(window.path, scanned.end, &what));
    }
    check_not_cut(window, segment, scanned.end)?;
    scanned.torn_bytes = match behind_seal {
        None => torn_bytes(window, segment, scanned.end)?,
        // The first sector of the frame in flight, which would have replaced the seal, is lost.
        Some(behind) => match torn_bytes(window, segment, behind)? {
            0 => 0,
            torn => behind - scanned.end + torn,
        },
    };
    Ok(scanned)
}

/// A file is durably as long as it has to be before a frame is written into it: a frame that goes beyond its end is
/// no torn tail, it was written whole and somebody made the file shorter.
fn check_not_cut(window: &mut Window<'_>, segment: SegmentHeader, end: u64) -> Result<()> {
    // Across two sectors the length may be an older life's bytes.
    if end % SECTOR_BYTES + FRAME_HEADER_BYTES > SECTOR_BYTES {
        return Ok(());
    }
    let file_bytes = window.file_bytes;
    let header = window.get(end, FRAME_HEADER_BYTES)?.and_then(|bytes| FrameHeader::decode(segment, bytes));
    let claimed = header.map(|header| header.payload_bytes).filter(|bytes| *bytes <= MAX_PAYLOAD_BYTES);
    if claimed.is_some_and(|payload_bytes| frame_bytes(payload_bytes) > file_bytes - end) {
        let what = format!("the file ends inside the frame that begins at byte {end}: it was cut");
        return Err(damaged(window.path, file_bytes, &what));
    }
    Ok(())
}

/// The frame of this life that begins at `offset`, if there is a whole one.
fn frame_at<'w>(
    window: &'w mut Window<'_>,
    segment: SegmentHeader,
    offset: u64,
) -> Result<Option<Frame<'w>>> {
    let Some(header) = window.get(offset, FRAME_HEADER_BYTES)? else { return Ok(None) };
    let Some(header) = FrameHeader::decode(segment, header) else { return Ok(None) };
    if header.payload_bytes > MAX_PAYLOAD_BYTES {
        return Ok(None);
    }
    let Some(frame) = window.get(offset, FRAME_HEADER_BYTES + header.payload_bytes)? else { return Ok(None) };
    Ok(header.matches(frame).then(|| Frame {
        number: header.number,
        payload_at: offset + FRAME_HEADER_BYTES,
        payload: &frame[FRAME_HEADER_BYTES as usize..],
    }))
}

/// The first valid frame of this life at or behind `offset`.
fn find_frame(window: &mut Window<'_>, segment: SegmentHeader, offset: u64) -> Result<Option<u64>> {
    let opening = FrameHeader::opening(segment);
    let mut at = offset;
    while at + FRAME_HEADER_BYTES <= window.file_bytes {
        let bytes = WINDOW_BYTES.min(window.file_bytes - at);
        let Some(piece) = window.get(at, bytes)? else { break };
        let candidates: Vec<u64> = piece
            .windows(opening.len())
            .step_by(FRAME_ALIGN_BYTES as usize)
            .zip((at..).step_by(FRAME_ALIGN_BYTES as usize))
            .filter_map(|(bytes, place)| (bytes == opening).then_some(place))
            .collect();
        for candidate in candidates {
            if frame_at(window, segment, candidate)?.is_some() {
                return Ok(Some(candidate));
            }
        }
        // The last places of a piece have too few bytes behind them; they are looked at with the next one.
        at += if bytes == WINDOW_BYTES { WINDOW_BYTES - PAGE_BYTES } else { bytes };
    }
    Ok(None)
}

/// How much of what stands at `end` was begun and not finished.
fn torn_bytes(window: &mut Window<'_>, segment: SegmentHeader, end: u64) -> Result<u64> {
    let zeros_end = zeros_end(end, window.file_bytes);
    if end >= zeros_end {
        return Ok(0);
    }
    let rest = window.file_bytes - end;
    let Some(bytes) = window.get(end, zeros_end - end)? else { return Ok(0) };
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(0);
    }
    let header =
        (bytes.len() as u64 >= FRAME_HEADER_BYTES).then(|| FrameHeader::decode(segment, bytes)).flatten();
    let claimed = header.map(|header| frame_bytes(header.payload_bytes)).filter(|claimed| *claimed <= rest);
    Ok(claimed.unwrap_or(zeros_end - end))
}
