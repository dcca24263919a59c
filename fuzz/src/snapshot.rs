//! Chunks of snapshots, as damage, mistakes and malice leave them.

use super::input::Input;
use kvstore::snapshot::{Body, Decoder, HEADER_BYTES, SnapshotInfo, encode};
use kvstore::{LogIndex, Term};
use std::collections::BTreeMap;

/// A snapshot's chunks are edited no more often than this.
const EDITS_MAX: usize = 32;
/// Files of one snapshot, and bytes of one file.
const FILES_MAX: usize = 6;
const FILE_BYTES_MAX: usize = 2_000;

type Content = BTreeMap<String, Vec<u8>>;

/// Decodes arbitrary bytes, chunks of any kind with right checksums, or the edited chunks of a sound snapshot.
///
/// What is accepted to its end is written again from what was understood, and has to be the same bytes: so no two streams
/// mean the same, and nothing that no sender writes is let through.
pub fn snapshot(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 3 {
        0 => drop(accept(input.rest())),
        1 => drop(accept(&arbitrary_chunks(&mut input))),
        _ => edited(&mut input),
    }
}

/// What a stream holds if it is a whole snapshot, with how many bytes of it were read.
fn accept(stream: &[u8]) -> Option<(Content, usize)> {
    let mut decoder = Decoder::default();
    let mut content = Content::new();
    let mut name = String::new();
    let mut rest = stream;
    let mut id = 0;
    while !decoder.is_complete() {
        let header: [u8; HEADER_BYTES] = *rest.first_chunk()?;
        let chunk = rest.get(..HEADER_BYTES + decoder.body_bytes(&header).ok()?)?;
        match decoder.accept(chunk).ok()? {
            Body::Begin(_) => id = u64::from_le_bytes(*chunk.first_chunk().expect("a header")),
            Body::File { name: next, .. } => {
                assert!(!next.contains('/') && !next.starts_with('.'), "{next:?} is a path");
                name = next.into();
                assert!(content.insert(name.clone(), Vec::new()).is_none(), "{name} came twice");
            }
            Body::Data(bytes) => content.get_mut(&name).expect("a file has begun").extend_from_slice(bytes),
            Body::End => {}
        }
        rest = &rest[chunk.len()..];
    }
    let info = decoder.info().expect("a whole snapshot has a beginning");
    let read = stream.len() - rest.len();
    let again = sound(id, info.chunk_bytes as usize, (info.cluster_id, info.applied, info.term), &content);
    assert!(again.concat() == stream[..read], "what was accepted is not what a sender writes");
    Some((content, read))
}

/// The chunks of a snapshot, written from the format's description.
fn sound(
    id: u64,
    chunk_bytes: usize,
    (cluster_id, applied, term): (u64, LogIndex, Term),
    content: &Content,
) -> Vec<Vec<u8>> {
    let (files, bytes) = (content.len() as u32, content.values().map(|bytes| bytes.len() as u64).sum());
    let begin = SnapshotInfo { cluster_id, applied, term, files, bytes, chunk_bytes: chunk_bytes as u32 };
    let mut bodies = vec![Body::Begin(begin)];
    for (name, bytes) in content {
        bodies.push(Body::File { name, bytes: bytes.len() as u64 });
        bodies.extend(bytes.chunks(chunk_bytes).map(Body::Data));
    }
    bodies.push(Body::End);
    let encoded = |(number, body): (usize, &Body<'_>)| {
        let mut chunk = Vec::new();
        encode(id, number as u64, body, &mut chunk);
        chunk
    };
    bodies.iter().enumerate().map(encoded).collect()
}

/// Chunks that are right by themselves.
fn arbitrary_chunks(input: &mut Input<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut number = 0;
    while !input.is_empty() {
        let kind = input.byte();
        // Now and then a number that is not the next one.
        number = if kind & 0x80 == 0 { number } else { u64::from(input.byte()) };
        let id = u64::from(kind >> 5 & 1);
        let name: String;
        let body = match kind % 4 {
            0 => Body::Begin(SnapshotInfo {
                cluster_id: input.u64(),
                applied: LogIndex::new(input.u64()),
                term: Term::new(input.u64()),
                files: u32::from(input.byte()),
                bytes: if kind & 0x10 == 0 { u64::from(input.byte()) } else { input.u64() },
                chunk_bytes: u32::from(input.byte()),
            }),
            1 => {
                name = String::from_utf8_lossy(input.piece()).chars().take(60).collect();
                let bytes = if kind & 0x10 == 0 { u64::from(input.byte()) } else { input.u64() };
                Body::File { name: &name, bytes }
            }
            2 => Body::Data(input.piece()),
            _ => Body::End,
        };
        encode(id, number, &body, &mut stream);
        number = number.wrapping_add(1);
    }
    stream
}

/// A sound snapshot is accepted; its chunks in another order, or parts of them, are refused. (Changed bytes, too, unless
/// somebody makes the checksum right, which a fuzzer may learn to.)
fn edited(input: &mut Input<'_>) {
    let chunk_bytes = usize::from(input.byte()).max(1);
    let mut content = Content::new();
    for number in 0..usize::from(input.byte()) % FILES_MAX {
        let bytes = vec![input.byte(); usize::from(input.u16()) % FILE_BYTES_MAX];
        content.insert(format!("{number:06}.sst"), bytes);
    }
    let position = (input.u64(), LogIndex::new(input.u64()), Term::new(input.u64()));
    let good = sound(1, chunk_bytes, position, &content);
    let whole = good.concat();
    let accepted = accept(&whole);
    assert_eq!(accepted, Some((content.clone(), whole.len())), "a sound snapshot was not understood");

    let mut chunks = good.clone();
    let mut bytes_changed = false;
    for _ in 0..EDITS_MAX {
        if input.is_empty() || chunks.is_empty() {
            break;
        }
        bytes_changed |= edit(&mut chunks, &good, input);
    }
    if let Some((found, read)) = accept(&chunks.concat())
        && !bytes_changed
    {
        assert_eq!((found, read), (content, whole.len()), "an edited snapshot reads as another one");
    }
}

/// Whether bytes were put where others were.
fn edit(chunks: &mut Vec<Vec<u8>>, good: &[Vec<u8>], input: &mut Input<'_>) -> bool {
    let (what, at) = (input.byte(), usize::from(input.u16()) % chunks.len());
    match what % 8 {
        0 => drop(chunks.remove(at)),
        1 => chunks.insert(at, good[usize::from(input.u16()) % good.len()].clone()),
        2 => {
            let other = usize::from(input.u16()) % chunks.len();
            chunks.swap(at, other);
        }
        3 => {
            let length = usize::from(input.u16()) % (chunks[at].len() + 1);
            chunks[at].truncate(length);
        }
        4 => {
            let piece = input.piece();
            chunks[at].extend_from_slice(piece);
            return true;
        }
        _ => {
            let length = chunks[at].len();
            if length > 0 {
                chunks[at][usize::from(input.u16()) % length] ^= input.byte();
            }
            return true;
        }
    }
    false
}
