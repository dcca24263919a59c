//! The bytes of the log, format version 2. All numbers are little-endian.
//!
//! ```text
//! segment := header page (4096 bytes), frames, zeros or remains of the file's earlier life
//! header  := magic "HOLDFLOG", version u32, zero u32, sequence u64, log identity u64, crc32 u32, zero u32,
//!            length of the segment u64, crc32 u32, zeros
//! frame   := log identity u64, sequence u64, number u64, payload length u32, crc32 u32,
//!            payload (records), zeros up to a multiple of 8
//! record  := kind u8, entry kind u8, zero u16, body length u32, crc32 u32, body
//! ```
//!
//! The header's fields up to the first checksum keep their places in every later version, so that an older program
//! can say "newer" instead of "damaged". The second checksum covers everything before it. The length is that to which
//! the file was durably written through: a shorter file was cut. Version 1 had neither.
//!
//! A frame without a payload is a *seal*: it says that the frame before it was durable once. It has the number and
//! the place of the frame that comes next, which is written over it. A frame's checksum covers its header before the checksum, and the payload. Its first
//! field is the log's random identity instead of a constant: a client that stores bytes which look like frames
//! cannot know it, and so cannot make recovery find frames in a value.

use super::LogMark;
use std::fmt;
use std::path::{Path, PathBuf};

/// The version that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 2;
/// Writes begin and end on multiples of this, so that the kernel never reads a page to change part of it.
pub(super) const PAGE_BYTES: u64 = 4096;
/// The last version whose segments do not say how long they are.
const VERSION_WITHOUT_LENGTH: u32 = 1;
/// Where a segment's frames begin. A page of its own: it is written again only when the segment grows.
pub(super) const SEGMENT_HEADER_BYTES: u64 = PAGE_BYTES;
/// A frame's header.
pub(super) const FRAME_HEADER_BYTES: u64 = 32;
/// Frames begin on multiples of this: recovery looks for them there.
pub(super) const FRAME_ALIGN_BYTES: u64 = 8;
/// Where the numbers of segments, frames and entries end: no log lives long enough to get there. What claims to be
/// beyond is damaged, so that counting on from any number that was read cannot overflow.
pub(super) const NUMBER_END: u64 = 1 << 62;
/// The longest payload of one frame: far above what is ever proposed at once, and safe in 32 bits.
pub(super) const MAX_PAYLOAD_BYTES: u64 = 1 << 30;

const SEGMENT_MAGIC: [u8; 8] = *b"HOLDFLOG";
const SEGMENT_HEADER_CRC_AT: usize = 32;
const SEGMENT_BYTES_AT: usize = 40;
const SEGMENT_BYTES_CRC_AT: usize = 48;
const FRAME_CRC_AT: usize = 28;
const SEGMENT_SUFFIX: &str = ".segment";
const PREPARING_SUFFIX: &str = ".preparing";

/// The random number that all segments and frames of one log carry. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LogId(pub u64);

impl LogId {
    pub fn mark(self) -> LogMark {
        LogMark(crc32fast::hash(&self.0.to_le_bytes()))
    }
}

/// A segment's place in the log, from 1. A recycled file gets a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Sequence(pub u64);

impl Sequence {
    pub const FIRST: Self = Self(1);

    pub fn plus(self, count: usize) -> Self {
        Self(self.0 + count as u64)
    }

    /// Of the segment before, if this is not the first.
    pub fn before(self) -> Option<Self> {
        (self > Self::FIRST).then(|| Self(self.0 - 1))
    }

    pub fn segment_path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{:020}{SEGMENT_SUFFIX}", self.0))
    }

    /// The name under which the file is made ready.
    pub fn preparing_path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{:020}{PREPARING_SUFFIX}", self.0))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a file in the log's directory is, by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FileRole {
    Segment(Sequence),
    /// Was being made ready when a process died; holds nothing.
    Preparing,
    /// The file system's own.
    Ignored,
    Foreign,
}

impl FileRole {
    pub fn of(name: &str) -> Self {
        let number = |digits: &str| match digits.parse::<u64>() {
            Ok(number) if number > 0 && digits.len() == 20 && !digits.starts_with('+') => {
                Some(Sequence(number))
            }
            _ => None,
        };
        if let Some(sequence) = name.strip_suffix(SEGMENT_SUFFIX).and_then(number) {
            return Self::Segment(sequence);
        }
        if name.strip_suffix(PREPARING_SUFFIX).and_then(number).is_some() {
            return Self::Preparing;
        }
        if name == "lost+found" { Self::Ignored } else { Self::Foreign }
    }
}

/// Who a segment is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentHeader {
    pub log_id: LogId,
    pub sequence: Sequence,
}

/// Why a header cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BadHeader {
    Damaged,
    Newer(u32),
}

impl SegmentHeader {
    /// The header page of a segment of so many bytes, and behind it a page of zeros which say that no frame follows.
    pub fn encode(self, segment_bytes: u64) -> Vec<u8> {
        let mut bytes = vec![0; (SEGMENT_HEADER_BYTES + PAGE_BYTES) as usize];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.log_id.0.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..SEGMENT_HEADER_CRC_AT]);
        bytes[SEGMENT_HEADER_CRC_AT..SEGMENT_HEADER_CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        bytes[SEGMENT_BYTES_AT..SEGMENT_BYTES_AT + 8].copy_from_slice(&segment_bytes.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..SEGMENT_BYTES_CRC_AT]);
        bytes[SEGMENT_BYTES_CRC_AT..SEGMENT_BYTES_CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `page` holds the whole header page. Beside the header: how long the segment is, where it says so.
    pub fn decode(page: &[u8]) -> Result<(Self, Option<u64>), BadHeader> {
        let crc = crc32fast::hash(&page[..SEGMENT_HEADER_CRC_AT]);
        if page[..8] != SEGMENT_MAGIC || crc != get_u32(page, SEGMENT_HEADER_CRC_AT) {
            return Err(BadHeader::Damaged);
        }
        let version = get_u32(page, 8);
        if version > FORMAT_VERSION {
            return Err(BadHeader::Newer(version));
        }
        let (log_id, sequence) = (LogId(get_u64(page, 24)), Sequence(get_u64(page, 16)));
        if log_id.0 == 0 || sequence.0 == 0 || sequence.0 >= NUMBER_END || version == 0 {
            return Err(BadHeader::Damaged);
        }
        let header = Self { log_id, sequence };
        if version == VERSION_WITHOUT_LENGTH {
            return Ok((header, None));
        }
        let segment_bytes = get_u64(page, SEGMENT_BYTES_AT);
        let crc = crc32fast::hash(&page[..SEGMENT_BYTES_CRC_AT]);
        if crc != get_u32(page, SEGMENT_BYTES_CRC_AT)
            || segment_bytes < SEGMENT_HEADER_BYTES
            || !segment_bytes.is_multiple_of(PAGE_BYTES)
        {
            return Err(BadHeader::Damaged);
        }
        Ok((header, Some(segment_bytes)))
    }
}

/// A frame's header, as far as it can be judged without the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FrameHeader {
    pub number: u64,
    pub payload_bytes: u64,
    crc: u32,
}

impl FrameHeader {
    /// Fills in the header of `frame`, which holds room for it and the payload.
    pub fn seal(segment: SegmentHeader, number: u64, frame: &mut [u8]) {
        let payload_bytes = frame.len() - FRAME_HEADER_BYTES as usize;
        assert!(payload_bytes as u64 <= MAX_PAYLOAD_BYTES, "the caller bounds the payload");
        frame[..16].copy_from_slice(&Self::opening(segment));
        frame[16..24].copy_from_slice(&number.to_le_bytes());
        frame[24..28].copy_from_slice(&(payload_bytes as u32).to_le_bytes());
        let (header, payload) = frame.split_at(FRAME_HEADER_BYTES as usize);
        let crc = Self::checksum(header, payload);
        frame[FRAME_CRC_AT..FRAME_CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    }

    /// The bytes with which all frames of this life of a segment begin.
    pub fn opening(segment: SegmentHeader) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&segment.log_id.0.to_le_bytes());
        bytes[8..].copy_from_slice(&segment.sequence.0.to_le_bytes());
        bytes
    }

    /// The header, if a frame of this life of this segment begins with these bytes.
    pub fn decode(segment: SegmentHeader, header: &[u8]) -> Option<Self> {
        (header[..16] == Self::opening(segment)).then(|| Self {
            number: get_u64(header, 16),
            payload_bytes: u64::from(get_u32(header, 24)),
            crc: get_u32(header, FRAME_CRC_AT),
        })
    }

    /// Whether `frame`, header and payload, is what was written.
    pub fn matches(self, frame: &[u8]) -> bool {
        let (header, payload) = frame.split_at(FRAME_HEADER_BYTES as usize);
        Self::checksum(header, payload) == self.crc
    }

    fn checksum(header: &[u8], payload: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&header[..FRAME_CRC_AT]);
        hasher.update(payload);
        hasher.finalize()
    }
}

/// What a frame with this payload takes of a segment.
pub(super) const fn frame_bytes(payload_bytes: u64) -> u64 {
    (FRAME_HEADER_BYTES + payload_bytes).next_multiple_of(FRAME_ALIGN_BYTES)
}

/// The start of the page that `offset` lies in.
pub(super) const fn page_start(offset: u64) -> u64 {
    offset - offset % PAGE_BYTES
}

/// Up to where zeros must stand behind a frame that ends at `end`, in a segment of `segment_bytes`:
/// room for a header, and on to the end of the page.
pub(super) fn zeros_end(end: u64, segment_bytes: u64) -> u64 {
    (end + FRAME_HEADER_BYTES).next_multiple_of(PAGE_BYTES).min(segment_bytes)
}

pub(super) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(raw)
}

pub(super) fn get_u64(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_file_is() {
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let dir = Path::new("/d");
        assert_eq!(FileRole::of(&name(Sequence(7).segment_path(dir))), FileRole::Segment(Sequence(7)));
        assert_eq!(
            FileRole::of(&name(Sequence(u64::MAX).segment_path(dir))),
            FileRole::Segment(Sequence(u64::MAX))
        );
        assert_eq!(FileRole::of(&name(Sequence(7).preparing_path(dir))), FileRole::Preparing);
        assert_eq!(FileRole::of("lost+found"), FileRole::Ignored);
        for foreign in [
            "000001.log",
            "7.segment",
            "00000000000000000000.segment",
            "+0000000000000000007.segment",
            "00000000000000000007.segment.bak",
            ".segment",
            "",
        ] {
            assert_eq!(FileRole::of(foreign), FileRole::Foreign, "{foreign}");
        }
    }

    #[test]
    fn a_header_of_a_newer_version_is_told_from_a_damaged_one() {
        let header = SegmentHeader { log_id: LogId(9), sequence: Sequence(3) };
        let bytes = header.encode(8 << 10);
        assert_eq!(SegmentHeader::decode(&bytes), Ok((header, Some(8 << 10))));
        let mut newer = bytes;
        newer[8] = 3;
        assert_eq!(SegmentHeader::decode(&newer), Err(BadHeader::Damaged));
        let crc = crc32fast::hash(&newer[..32]);
        newer[32..36].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&newer), Err(BadHeader::Newer(3)));
    }

    #[test]
    fn a_sequence_that_no_log_reaches_is_damage() {
        for (sequence, is_sound) in [(NUMBER_END - 1, true), (NUMBER_END, false), (u64::MAX, false)] {
            let header = SegmentHeader { log_id: LogId(9), sequence: Sequence(sequence) };
            assert_eq!(SegmentHeader::decode(&header.encode(8 << 10)).is_ok(), is_sound, "{sequence}");
        }
    }

    #[test]
    fn a_frame_is_valid_in_its_own_life_only() {
        let life = SegmentHeader { log_id: LogId(9), sequence: Sequence(3) };
        let mut frame = vec![7; 100];
        FrameHeader::seal(life, 55, &mut frame);
        let header = FrameHeader::decode(life, &frame).unwrap();
        assert_eq!((header.number, header.payload_bytes), (55, 68));
        assert!(header.matches(&frame));
        assert!(FrameHeader::decode(SegmentHeader { sequence: Sequence(4), ..life }, &frame).is_none());
        assert!(FrameHeader::decode(SegmentHeader { log_id: LogId(8), ..life }, &frame).is_none());
        frame[99] ^= 1;
        assert!(!header.matches(&frame));
    }
}
