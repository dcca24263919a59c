//! The log's bytes with right checksums, written a second time from the description in `kvstore/src/log/format.rs`.
//!
//! A second writer on purpose: it can write what the log never would, and if the two ever disagree about what is sound,
//! the targets say so.

/// The identity of all logs here.
pub const LOG_ID: u64 = 0x1234_5678_9abc_def1;
pub const PAGE_BYTES: usize = 4096;
pub const FRAME_HEADER_BYTES: usize = 32;
pub const RECORD_HEADER_BYTES: usize = 12;

pub fn segment_name(sequence: u64) -> String {
    format!("{sequence:020}.segment")
}

/// A segment's first page, of the first version of the format: what the log writes itself is of the newest.
pub fn header(sequence: u64) -> Vec<u8> {
    let mut page = vec![0; PAGE_BYTES];
    page[..8].copy_from_slice(b"HOLDFLOG");
    page[8] = 1;
    page[16..24].copy_from_slice(&sequence.to_le_bytes());
    page[24..32].copy_from_slice(&LOG_ID.to_le_bytes());
    seal_header(&mut page);
    page
}

/// Appends a frame, with zeros up to a multiple of 8.
pub fn put_frame(out: &mut Vec<u8>, sequence: u64, number: u64, payload: &[u8]) {
    let at = out.len();
    out.extend_from_slice(&LOG_ID.to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    seal_frame(&mut out[at..]);
    out.resize(out.len().next_multiple_of(8), 0);
}

/// Appends a record.
pub fn put_record(out: &mut Vec<u8>, kind: u8, entry_kind: u8, body: &[u8]) {
    let at = out.len();
    out.extend_from_slice(&[kind, entry_kind, 0, 0]);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(body);
    seal_record(&mut out[at..]);
}

/// Makes every checksum of a segment right as far as its lengths lead.
pub fn seal_all(segment: &mut [u8]) {
    if segment.len() < PAGE_BYTES {
        return;
    }
    seal_header(segment);
    let mut at = PAGE_BYTES;
    while let Some(length) = frame_length(segment, at) {
        let frame = &mut segment[at..at + length];
        seal_records(&mut frame[FRAME_HEADER_BYTES..]);
        seal_frame(frame);
        at += length.next_multiple_of(8);
    }
}

/// The length of the frame at `at`, header and payload, if one of this segment's life begins there and fits.
fn frame_length(segment: &[u8], at: usize) -> Option<usize> {
    let header = segment.get(at..at + FRAME_HEADER_BYTES)?;
    let is_of_this_life = header[..8] == segment[24..32] && header[8..16] == segment[16..24];
    let length = FRAME_HEADER_BYTES + u32_at(header, 24) as usize;
    (is_of_this_life && at + length <= segment.len()).then_some(length)
}

fn seal_records(payload: &mut [u8]) {
    let mut at = 0;
    while at + RECORD_HEADER_BYTES <= payload.len() {
        let length = RECORD_HEADER_BYTES + u32_at(payload, at + 4) as usize;
        let Some(record) = payload.get_mut(at..at + length) else { return };
        seal_record(record);
        at += length;
    }
}

fn seal_header(page: &mut [u8]) {
    let crc = crc32fast::hash(&page[..32]);
    page[32..36].copy_from_slice(&crc.to_le_bytes());
    // The second version says how long the segment is, under a checksum of its own.
    if page[8] == 2 {
        let crc = crc32fast::hash(&page[..48]);
        page[48..52].copy_from_slice(&crc.to_le_bytes());
    }
}

fn seal_frame(frame: &mut [u8]) {
    let crc = checksum(&frame[..28], &frame[FRAME_HEADER_BYTES..]);
    frame[28..32].copy_from_slice(&crc.to_le_bytes());
}

fn seal_record(record: &mut [u8]) {
    let crc = checksum(&record[..8], &record[RECORD_HEADER_BYTES..]);
    record[8..12].copy_from_slice(&crc.to_le_bytes());
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(body);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
