//! A log's directory as damage, mistakes and malice leave it.

use super::input::Input;
use super::log_check::{self, check};
use super::memory::Memory;
use super::sealed::{self, header, seal_all, segment_name};
use kvstore::log::{EntryKind, HardState, Log, LogEntry};
use kvstore::{LogIndex, NodeId, Term};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// No more edits than this of one log: each is a few steps, but a file may be copied.
const EDITS_MAX: usize = 64;
/// Files grow by copying up to this, in bytes.
const FILE_BYTES_MAX: usize = 64 << 10;
/// No more files than this.
const FILES_MAX: usize = 8;

/// Opens arbitrary files, or an edited log, and checks what comes of it.
///
/// First byte: bit 0 chooses between the two, bit 1 makes the checksums right again afterwards, the rest is the index
/// that is wanted from the log.
pub fn segment(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.byte();
    let mut files = if how & 1 == 0 { arbitrary(&mut input) } else { edited(&mut input) };
    if how & 2 != 0 {
        files.values_mut().for_each(|bytes| seal_all(bytes));
    }
    check(&Memory::with(files), u64::from(how >> 2));
}

/// Files of any content. A frame needs a header before it, so there may be one.
fn arbitrary(input: &mut Input<'_>) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    while !input.is_empty() && files.len() < FILES_MAX {
        let kind = input.byte();
        let sequence = u64::from(kind & 15);
        let mut bytes = if kind & 16 == 0 { header(sequence) } else { Vec::new() };
        bytes.extend_from_slice(if kind & 128 == 0 { input.rest() } else { input.piece() });
        if kind & 32 == 0 {
            bytes.resize(bytes.len().next_multiple_of(sealed::PAGE_BYTES), 0);
        }
        files.insert(segment_name(sequence), bytes);
    }
    files
}

/// A sound log of three segments and a spare one, by name.
fn sound() -> BTreeMap<String, Vec<u8>> {
    static SOUND: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    SOUND.get_or_init(write_sound).clone()
}

/// Every kind of record, a replaced suffix, a purged segment, and one that is ready.
fn write_sound() -> BTreeMap<String, Vec<u8>> {
    let memory = Memory::with([]);
    let entry = |at: u64, term, bytes| LogEntry {
        index: LogIndex::new(at),
        term: Term::new(term),
        kind: [EntryKind::Normal, EntryKind::ConfChange, EntryKind::ConfChangeV2][at as usize % 3],
        data: vec![at as u8; bytes].into(),
    };
    let state = |term, commit| {
        Some(HardState { term: Term::new(term), vote: NodeId::new(1), commit: LogIndex::new(commit) })
    };
    let written = "a log in memory takes every write";
    let (mut log, _) = Log::open(memory.clone(), log_check::config(), LogIndex::new(1)).expect(written);
    log.append(state(1, 0), &[entry(1, 1, 100), entry(2, 1, 200)]).expect(written);
    log.append(None, &[entry(2, 2, 30), entry(3, 2, 3000)]).expect(written);
    log.restart_after(LogIndex::new(6), state(3, 6)).expect(written);
    for at in 7..=12 {
        log.append(state(3, at - 1), &[entry(at, 3, 900)]).expect(written);
    }
    log.purge_below(LogIndex::new(7)).expect(written);
    while let Some(job) = log.housekeeping() {
        log.finish(job.run().expect(written));
    }
    memory.everything()
}

fn edited(input: &mut Input<'_>) -> BTreeMap<String, Vec<u8>> {
    let mut files = sound();
    for _ in 0..EDITS_MAX {
        if input.is_empty() || files.is_empty() {
            break;
        }
        edit(&mut files, input);
    }
    files
}

/// One edit of one file.
fn edit(files: &mut BTreeMap<String, Vec<u8>>, input: &mut Input<'_>) {
    let what = input.byte();
    let (names, has_room) = (files.keys().cloned().collect::<Vec<_>>(), files.len() < FILES_MAX);
    let name = names[usize::from(what >> 4) % names.len()].clone();
    let Some(bytes) = files.get_mut(&name) else { return };
    // Frames begin behind the header's page: half of the offsets are counted from there.
    let offset = usize::from(input.u16());
    let offset = if offset & 1 == 0 { offset >> 1 } else { sealed::PAGE_BYTES + (offset >> 1) };
    let offset = offset.min(bytes.len());
    match what & 15 {
        0 | 1 => {
            let piece = input.piece();
            let end = (offset + piece.len()).min(bytes.len());
            bytes[offset..end].copy_from_slice(&piece[..end - offset]);
        }
        2 => bytes.truncate(offset),
        3 => drop(files.remove(&name)),
        4 => {
            let to = segment_name(u64::from(input.byte()));
            if let Some(bytes) = files.remove(&name) {
                files.insert(to, bytes);
            }
        }
        5 if has_room => {
            let copy = bytes.clone();
            files.insert(segment_name(u64::from(input.byte())), copy);
        }
        6 => {
            let end = (offset + usize::from(input.u16())).min(bytes.len());
            bytes[offset..end].fill(0);
        }
        7 if bytes.len() < FILE_BYTES_MAX => {
            // A piece of a file once more, elsewhere: frames that follow themselves.
            let (from, count) = (usize::from(input.u16()).min(bytes.len()), usize::from(input.u16()));
            let copy = bytes[from..(from + count).min(bytes.len())].to_vec();
            if bytes.len() < offset + copy.len() {
                bytes.resize((offset + copy.len()).next_multiple_of(sealed::PAGE_BYTES), 0);
            }
            bytes[offset..offset + copy.len()].copy_from_slice(&copy);
        }
        8 if has_room => {
            let name = String::from_utf8_lossy(input.piece()).replace(['/', '\0'], "_");
            if !name.is_empty() && name != "." && name != ".." {
                files.insert(name, Vec::new());
            }
        }
        9 => {
            let number = input.u64();
            let end = (offset + 8).min(bytes.len());
            bytes[offset..end].copy_from_slice(&number.to_le_bytes()[..end - offset]);
        }
        _ => {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= input.byte();
            }
        }
    }
}
