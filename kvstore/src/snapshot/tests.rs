//! Files in, chunks, the same files out; and nothing else is ever let through.

use super::*;
use crate::types::{Error, LogIndex, Result, Term};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

type Content = BTreeMap<String, Vec<u8>>;

/// An empty file, one of whole chunks, one with a rest.
fn content() -> Content {
    let file = |name: &str, bytes: usize| (name.into(), (0..bytes).map(|at| (at * 7) as u8).collect());
    BTreeMap::from([file("000012.sst", 64), file("CURRENT", 17), file("FORMAT", 0), file("MANIFEST-5", 33)])
}

fn write(dir: &Path, content: &Content) {
    fs::create_dir_all(dir).unwrap();
    for (name, bytes) in content {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

fn read(dir: &Path) -> Content {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

fn sender(dir: &Path, snapshot_id: u64, chunk_bytes: usize) -> Sender {
    let position = (LogIndex::new(90), Term::new(4));
    Sender::new(CheckpointFiles::list(dir).unwrap(), snapshot_id, 5, position, chunk_bytes)
}

fn chunks(dir: &Path, snapshot_id: u64, chunk_bytes: usize) -> Vec<Vec<u8>> {
    let mut sender = sender(dir, snapshot_id, chunk_bytes);
    let mut chunks = Vec::new();
    let mut chunk = Vec::new();
    while sender.next_chunk(&mut chunk).unwrap() {
        chunks.push(chunk.clone());
    }
    assert!(!sender.next_chunk(&mut chunk).unwrap() && chunk.is_empty());
    chunks
}

/// What comes out, if all is accepted.
fn received(bytes: &[u8]) -> Result<Content> {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("received");
    fs::create_dir(&dir).unwrap();
    let info = receive(&mut &*bytes, &dir)?;
    let content = read(&dir);
    assert_eq!(info.files as usize, content.len());
    assert_eq!(info.bytes, content.values().map(|bytes| bytes.len() as u64).sum::<u64>());
    Ok(content)
}

fn refusal(bytes: &[u8]) -> String {
    match received(bytes) {
        Err(Error::Snapshot(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_sent_is_received() {
    let home = tempfile::tempdir().unwrap();
    let (dir, content) = (home.path().join("a"), content());
    write(&dir, &content);
    for chunk_bytes in [1, 16, 32, CHUNK_BYTES_MAX] {
        let info = sender(&dir, 1, chunk_bytes).info();
        assert_eq!((info.files, info.bytes, info.applied.get()), (4, 114, 90));
        assert_eq!(received(&chunks(&dir, 1, chunk_bytes).concat()).unwrap(), content);
    }
    // Not a byte more is read.
    let mut bytes = chunks(&dir, 1, 16).concat();
    bytes.extend_from_slice(b"the next one");
    let mut rest = bytes.as_slice();
    fs::create_dir(home.path().join("b")).unwrap();
    receive(&mut rest, &home.path().join("b")).unwrap();
    let full = receive(&mut bytes.as_slice(), &home.path().join("b")).unwrap_err().to_string();
    assert!(full.contains("not empty"), "{full}");
    assert_eq!(rest, b"the next one");

    let nothing = home.path().join("nothing");
    fs::create_dir(&nothing).unwrap();
    assert_eq!(received(&chunks(&nothing, 1, 1).concat()).unwrap(), Content::new());
}

#[test]
fn every_changed_bit_and_every_cut_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("a");
    write(&dir, &content());
    let good = chunks(&dir, 1, 32).concat();
    for at in 0..good.len() {
        assert!(refusal(&good[..at]).contains("it was cut"), "cut at {at}");
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        let text = refusal(&bad);
        assert!(text.contains("nothing was restored"), "byte {at}: {text}");
    }
}

#[test]
fn chunks_out_of_place_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("a");
    write(&dir, &content());
    let good = chunks(&dir, 1, 16);
    let other = chunks(&dir, 2, 16);
    for at in 0..good.len() {
        let mut missing = good.clone();
        missing.remove(at);
        refusal(&missing.concat());
        // Behind the end nobody reads.
        if at + 1 < good.len() {
            let mut doubled = good.clone();
            doubled.insert(at, good[at].clone());
            refusal(&doubled.concat());
        }
        if at > 0 {
            let mut swapped = good.clone();
            swapped.swap(at - 1, at);
            refusal(&swapped.concat());
            let mut foreign = good.clone();
            foreign[at].clone_from(&other[at]);
            assert!(refusal(&foreign.concat()).contains("belongs to another snapshot"));
        }
    }
}

fn stream(bodies: &[Body<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, body) in bodies.iter().enumerate() {
        encode(9, number as u64, body, &mut bytes);
    }
    bytes
}

/// Right checksums alone do not make a snapshot.
#[test]
fn what_no_sender_writes_is_refused() {
    let begin = |files, bytes, chunk_bytes| {
        let (applied, term) = (LogIndex::new(1), Term::new(1));
        Body::Begin(SnapshotInfo { cluster_id: 1, applied, term, files, bytes, chunk_bytes })
    };
    let file = |name, bytes| Body::File { name, bytes };
    for name in ["", ".", "..", "../a", "a/b", "/a", ".hidden", "a\0", "ä"] {
        let text = refusal(&stream(&[begin(1, 0, 1), file(name, 0), Body::End]));
        assert!(text.contains("impossible name"), "{name:?}: {text}");
    }
    let refused = [
        (vec![begin(2, 0, 1), file("b", 0), file("a", 0), Body::End], "order of their names"),
        (vec![begin(2, 0, 1), file("a", 0), file("a", 0), Body::End], "order of their names"),
        (vec![begin(1, 0, 1), file("a", 0), file("b", 0), Body::End], "more files"),
        (vec![begin(1, 3, 4), file("a", 4)], "more files"),
        (vec![begin(2, u64::MAX, 4), file("a", 0), file("b", u64::MAX), Body::End], "ends too early"),
        (vec![begin(2, 0, 1), file("a", 0), Body::End], "before all files"),
        (vec![begin(1, 2, 1), file("a", 1), Body::Data(b"1"), Body::End], "before all files"),
        (vec![begin(1, 4, 2), file("a", 4), Body::Data(b"1")], "wrong length"),
        (vec![begin(1, 4, 2), file("a", 4), Body::Data(b"123")], "wrong length"),
        (vec![begin(1, 4, 2), file("a", 4), Body::Data(b"12"), Body::End], "ends too early"),
        (vec![begin(1, 0, 2), file("a", 0), Body::Data(b"")], "belongs here"),
        (vec![begin(0, 0, 1), begin(0, 0, 1)], "belongs here"),
        (vec![begin(0, 0, 0)], "impossible length"),
        (vec![begin(0, 0, 1 + CHUNK_BYTES_MAX as u32)], "impossible length"),
        (vec![file("a", 0)], "not the beginning"),
        (vec![Body::End], "not the beginning"),
    ];
    for (bodies, why) in refused {
        let text = refusal(&stream(&bodies));
        assert!(text.contains(why), "{bodies:?}: {text}");
    }
    let mut newer = stream(&[begin(0, 0, 1), Body::End]);
    newer[HEADER_BYTES + 8] += 1;
    let crc = crc32fast::hash(&[&newer[..24], &newer[HEADER_BYTES..HEADER_BYTES + 56]].concat());
    newer[24..28].copy_from_slice(&crc.to_le_bytes());
    assert!(refusal(&newer).contains("use the newer program"));
    assert!(refusal(b"HOLDSNAP, or so it says, but it is only text").contains("chunk"));
}

#[test]
fn files_that_change_or_are_none_are_noticed() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("a");
    write(&dir, &content());
    let mut sender = sender(&dir, 1, 16);
    fs::write(dir.join("CURRENT"), "short").unwrap();
    let mut chunk = Vec::new();
    let error = loop {
        match sender.next_chunk(&mut chunk) {
            Ok(more) => assert!(more, "the file is too short"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("CURRENT"), "{error}");
    fs::create_dir(dir.join("folder")).unwrap();
    assert!(CheckpointFiles::list(&dir).unwrap_err().to_string().contains("folder"));
}
