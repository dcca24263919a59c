//! Frames and records of any order, with right checksums: what only a program with a mistake, or somebody who knows the
//! log's identity, can write.

use super::input::Input;
use super::log_check::check;
use super::memory::Memory;
use super::sealed::{PAGE_BYTES, header, put_frame, put_record, segment_name};
use std::collections::BTreeMap;

const HARD_STATE: u8 = 1;
const ENTRY: u8 = 2;
const POSITION: u8 = 3;
const RESTART: u8 = 4;
/// No more frames than this in one input, each a few records.
const FRAMES_MAX: usize = 200;

/// Writes the log that the bytes describe, and opens it.
pub fn frame(data: &[u8]) {
    let mut input = Input::new(data);
    let wanted_from = u64::from(input.byte());
    let mut writer = Writer::new(u64::from(input.byte() % 3) + 1);
    while !input.is_empty() && writer.frames < FRAMES_MAX {
        writer.step(&mut input);
    }
    writer.end_segment(0);
    check(&Memory::with(writer.files), wanted_from);
}

struct Writer {
    files: BTreeMap<String, Vec<u8>>,
    sequence: u64,
    segment: Vec<u8>,
    payload: Vec<u8>,
    frames: usize,
    next_frame: u64,
    /// The log's last entry, as far as the steps made sense.
    last: u64,
}

impl Writer {
    fn new(sequence: u64) -> Self {
        Self {
            files: BTreeMap::new(),
            sequence,
            segment: header(sequence),
            payload: Vec::new(),
            frames: 0,
            next_frame: 1,
            last: 0,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let what = input.byte();
        let detail = u64::from(what >> 4);
        match what & 15 {
            0..=2 => self.entry(self.last.wrapping_add(1), detail, input.piece()),
            3 => self.entry(self.last.saturating_sub(detail), detail, input.piece()),
            4 => self.entry(input.u64(), detail, input.piece()),
            5 => {
                let state = [detail, 1, self.last].map(u64::to_le_bytes).concat();
                put_record(&mut self.payload, HARD_STATE, 0, &state);
            }
            6 => self.position(self.last),
            7 => self.position(input.u64()),
            8 => self.restart(self.last.wrapping_add(detail)),
            9 => self.restart(input.u64()),
            10 => put_record(&mut self.payload, detail as u8, input.byte(), input.piece()),
            11 => self.payload.extend_from_slice(input.piece()),
            12 => self.end_frame(detail),
            13 => {
                self.end_frame(0);
                self.segment.extend_from_slice(input.piece());
            }
            14 => {
                self.next_frame = input.u64();
            }
            _ => {
                self.end_segment(detail);
                // Anything else is no log: the segment begins as it must.
                self.position(self.last);
            }
        }
    }

    fn entry(&mut self, index: u64, detail: u64, data: &[u8]) {
        if self.segment.len() == PAGE_BYTES && self.payload.is_empty() {
            self.position(self.last);
        }
        let body = [&index.to_le_bytes()[..], &detail.to_le_bytes(), data].concat();
        put_record(&mut self.payload, ENTRY, (detail % 4) as u8, &body);
        self.last = index;
    }

    fn position(&mut self, last: u64) {
        put_record(&mut self.payload, POSITION, 0, &last.to_le_bytes());
        self.last = last;
    }

    fn restart(&mut self, last: u64) {
        put_record(&mut self.payload, RESTART, 0, &last.to_le_bytes());
        self.last = last;
    }

    fn end_frame(&mut self, skip: u64) {
        if self.payload.is_empty() {
            return;
        }
        let payload = std::mem::take(&mut self.payload);
        let number = self.next_frame.wrapping_add(skip);
        put_frame(&mut self.segment, self.sequence, number, &payload);
        self.next_frame = number.wrapping_add(1);
        self.frames += 1;
    }

    /// Ends the segment with zeros; the next has the sequence number after `skip` more.
    fn end_segment(&mut self, skip: u64) {
        self.end_frame(0);
        let next = self.sequence + 1 + skip / 8;
        let mut segment = std::mem::replace(&mut self.segment, header(next));
        segment.resize((segment.len() + 64).next_multiple_of(PAGE_BYTES), 0);
        self.files.insert(segment_name(self.sequence), segment);
        self.sequence = next;
    }
}
