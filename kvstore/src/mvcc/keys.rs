//! The byte layouts of the three families: the one place that knows them.
//!
//! | family | key | value |
//! |---|---|---|
//! | `Revisions` | keyspace u32 ‖ revision u64 ‖ sub u32 | kind u8 ‖ previous revision u64 ‖ previous sub u32 ‖ previous value's length u32 ‖ record in wire form |
//! | `Heads` | keyspace u32 ‖ key | the fields of [`Head`] in order, fixed size |
//! | `Meta` | tag u8 ‖ … | see the `META_` tags |
//!
//! All numbers are big-endian, so that byte order is number order. A delete's record holds the key and the mod
//! revision only.
//!
//! The previous version's length stands in the record because compaction must say how many bytes it frees, and
//! would otherwise have to read every value that it throws away.

use super::entry::Head;
use crate::types::{KeyValue, KeyspaceId, LeaseId, Revision, SubRevision, VersionId, record};
use bytes::{Bytes, BytesMut};

/// Meta tag: the format of the data directory's state.
pub const META_FORMAT: u8 = 0x01;
/// Meta tag: applied log index and term, and the logical clock.
pub const META_APPLIED: u8 = 0x02;
/// Meta tag: the mark of the raft log that the state belongs to, u32; absent in states that were last written before there was this.
pub const META_LOG: u8 = 0x03;
/// Meta tag ‖ keyspace: revision u64 ‖ live bytes u64.
pub const META_COUNTERS: u8 = 0x10;
/// Meta tag ‖ keyspace: the compaction floor u64; absent when nothing was ever compacted.
pub const META_FLOOR: u8 = 0x11;
/// Meta tag ‖ keyspace: how far the dead versions are removed, see `removal`.
pub const META_REMOVED: u8 = 0x12;
/// Meta tag ‖ keyspace ‖ lease id: a lease.
pub const META_LEASE: u8 = 0x20;
/// Meta tag: the alarms.
pub const META_ALARMS: u8 = 0x30;

/// Bytes of every key in `Revisions`.
pub const REVISION_KEY_BYTES: usize = 16;
const RECORD_HEADER_BYTES: usize = 17;
const HEAD_BYTES: usize = 52;
/// The key's field in the wire form of a record, always the first (left out when the key is empty).
pub(super) const TAG_KEY: u8 = 0x0a;

/// The key of a version in `Revisions`.
pub fn revision_key(keyspace: KeyspaceId, id: VersionId) -> [u8; REVISION_KEY_BYTES] {
    let mut key = [0; REVISION_KEY_BYTES];
    key[..4].copy_from_slice(&keyspace.get().to_be_bytes());
    key[4..12].copy_from_slice(&id.revision.get().to_be_bytes());
    key[12..].copy_from_slice(&id.sub.get().to_be_bytes());
    key
}

/// The version that a key of `Revisions` names. `None`: not such a key.
pub fn parse_revision_key(key: &[u8]) -> Option<VersionId> {
    let key: &[u8; REVISION_KEY_BYTES] = key.try_into().ok()?;
    Some(read_id(&key[4..]))
}

/// The key of a head in `Heads`.
pub fn head_key(keyspace: KeyspaceId, key: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + key.len());
    out.extend_from_slice(&keyspace.get().to_be_bytes());
    out.extend_from_slice(key);
    out.freeze()
}

/// The first key of `Heads` or `Revisions` that belongs to `keyspace`.
pub fn keyspace_start(keyspace: KeyspaceId) -> [u8; 4] {
    keyspace.get().to_be_bytes()
}

/// The first key behind those of `keyspace`; empty (the end) for the last one.
pub fn keyspace_end(keyspace: KeyspaceId) -> Vec<u8> {
    keyspace.get().checked_add(1).map_or_else(Vec::new, |next| next.to_be_bytes().to_vec())
}

/// The user's key in a key of `Heads`.
pub fn parse_head_key(key: &[u8]) -> Option<&[u8]> {
    key.get(4..)
}

/// A meta key of one keyspace.
pub fn meta_key(tag: u8, keyspace: KeyspaceId) -> [u8; 5] {
    let mut key = [tag; 5];
    key[1..].copy_from_slice(&keyspace.get().to_be_bytes());
    key
}

/// What a record says of its key's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// A put that begins a life: before it the key did not exist (its previous version, if any, is a tombstone).
    Create = 0,
    /// A delete; the version before it is a put.
    Delete = 1,
    /// A put over a put.
    Overwrite = 2,
}

impl RecordKind {
    /// Whether the key existed before this record.
    pub fn follows_life(self) -> bool {
        self != RecordKind::Create
    }
}

/// A record of `Revisions` as it lies in the engine, not copied.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// What it is.
    pub kind: RecordKind,
    /// The key's version before it.
    pub previous: VersionId,
    /// Bytes of that version's value.
    pub previous_value_len: u32,
    /// The [`KeyValue`] in wire form.
    pub encoded: &'a [u8],
}

impl<'a> RecordView<'a> {
    /// Reads the header. `None` when the bytes are not a record.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, encoded) = bytes.split_at_checked(RECORD_HEADER_BYTES)?;
        let kind = match header[0] {
            0 => RecordKind::Create,
            1 => RecordKind::Delete,
            2 => RecordKind::Overwrite,
            _ => return None,
        };
        let previous_value_len = u32::from_be_bytes(header[13..].try_into().ok()?);
        Some(Self { kind, previous: read_id(&header[1..]), previous_value_len, encoded })
    }

    /// The user's key: always the first field of the wire form.
    pub fn key(&self) -> Option<&'a [u8]> {
        if self.encoded.first() != Some(&TAG_KEY) {
            return Some(b"");
        }
        let (len, at) = record::get_varint(self.encoded, 1)?;
        self.encoded.get(at..at.checked_add(usize::try_from(len).ok()?)?)
    }
}

/// A record that owns (a share of) its bytes.
#[derive(Clone, Debug)]
pub struct Record {
    /// What it is.
    pub kind: RecordKind,
    /// The key's version before it.
    pub previous: VersionId,
    /// The version itself; a delete's has key and mod revision only.
    pub kv: KeyValue,
}

impl Record {
    /// Reads a value of `Revisions`; shares the buffer.
    pub fn decode(bytes: Bytes) -> Option<Self> {
        let view = RecordView::parse(&bytes)?;
        let (kind, previous) = (view.kind, view.previous);
        let kv = KeyValue::decode(bytes.slice(RECORD_HEADER_BYTES..))?;
        Some(Self { kind, previous, kv })
    }
}

/// The value of `Revisions` for a version.
pub fn encode_record(kind: RecordKind, previous: Option<&Head>, kv: &KeyValue) -> Bytes {
    let mut out = BytesMut::with_capacity(RECORD_HEADER_BYTES + kv.encoded().len());
    out.extend_from_slice(&[kind as u8]);
    put_id(&mut out, previous.map_or(VersionId::NONE, |head| head.id));
    out.extend_from_slice(&previous.map_or(0, |head| head.value_len).to_be_bytes());
    out.extend_from_slice(kv.encoded());
    out.freeze()
}

/// The value of `Heads` for a head.
pub fn encode_head(head: &Head) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES);
    put_id(&mut out, head.id);
    out.extend_from_slice(&head.create_revision.get().to_be_bytes());
    out.extend_from_slice(&head.version.to_be_bytes());
    out.extend_from_slice(&head.lease.get().to_be_bytes());
    put_id(&mut out, head.previous);
    out.extend_from_slice(&head.value_len.to_be_bytes());
    debug_assert_eq!(out.len(), HEAD_BYTES);
    out.freeze()
}

/// Reads a value of `Heads`. `None` when the bytes are not a head.
pub fn decode_head(bytes: &[u8]) -> Option<Head> {
    let bytes: &[u8; HEAD_BYTES] = bytes.try_into().ok()?;
    Some(Head {
        id: read_id(bytes),
        create_revision: Revision::new(read_i64(&bytes[12..])),
        version: read_i64(&bytes[20..]),
        lease: LeaseId::new(read_i64(&bytes[28..])),
        previous: read_id(&bytes[36..]),
        value_len: u32::from_be_bytes([bytes[48], bytes[49], bytes[50], bytes[51]]),
    })
}

/// Appends a version's name: 12 bytes.
pub(super) fn put_id(out: &mut BytesMut, id: VersionId) {
    out.extend_from_slice(&id.revision.get().to_be_bytes());
    out.extend_from_slice(&id.sub.get().to_be_bytes());
}

/// Reads what [`put_id`] wrote.
///
/// # Panics
/// When there are fewer than 12 bytes.
pub(super) fn read_id(bytes: &[u8]) -> VersionId {
    let sub = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    VersionId::new(Revision::new(read_i64(bytes)), SubRevision::new(sub))
}

/// Reads a big-endian number.
///
/// # Panics
/// When there are fewer than 8 bytes.
pub(super) fn read_i64(bytes: &[u8]) -> i64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[..8]);
    i64::from_be_bytes(raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(revision: i64, sub: u32) -> VersionId {
        VersionId::new(Revision::new(revision), SubRevision::new(sub))
    }

    #[test]
    fn revision_keys_sort_as_versions_do() {
        let keyspace = KeyspaceId::new(3);
        let ids = [id(0, 0), id(1, 0), id(1, 1), id(1, 256), id(2, 0), id(256, 0), id(i64::MAX, u32::MAX)];
        let keys: Vec<_> = ids.iter().map(|id| revision_key(keyspace, *id)).collect();
        assert!(keys.is_sorted());
        assert!(keys.iter().all(|key| key[..] > keyspace_start(keyspace)[..]));
        assert!(keys.iter().all(|key| key[..] < keyspace_end(keyspace)[..]));
        let back: Vec<_> = keys.iter().filter_map(|key| parse_revision_key(key)).collect();
        assert_eq!(back, ids);
    }

    #[test]
    fn the_last_keyspace_ends_at_the_end() {
        assert!(keyspace_end(KeyspaceId::new(u32::MAX)).is_empty());
        assert_eq!(keyspace_end(KeyspaceId::new(0xff)), [0, 0, 1, 0]);
    }

    proptest! {
        #[test]
        fn heads_and_records_read_back(
            key in prop::collection::vec(any::<u8>(), 0..200),
            value in prop::collection::vec(any::<u8>(), 0..40),
            numbers in any::<(u32, u32, u32, u32, i64, u32)>(),
            kind in 0..3,
        ) {
            let head = Head {
                id: id(numbers.0.into(), numbers.1),
                create_revision: Revision::new(numbers.2.into()),
                version: numbers.3.into(),
                lease: LeaseId::new(numbers.4),
                previous: id(numbers.5.into(), numbers.0),
                value_len: numbers.5,
            };
            prop_assert_eq!(decode_head(&encode_head(&head)), Some(head));

            let kv = KeyValue::new(&key, &value, head.create_revision, head.id.revision, head.version, head.lease);
            let kind = [RecordKind::Create, RecordKind::Delete, RecordKind::Overwrite][kind as usize];
            let bytes = encode_record(kind, Some(&head), &kv);
            let view = RecordView::parse(&bytes).unwrap();
            prop_assert_eq!(view.key(), Some(&key[..]));
            prop_assert_eq!((view.kind, view.previous, view.previous_value_len), (kind, head.id, head.value_len));
            let record = Record::decode(bytes.clone()).unwrap();
            prop_assert_eq!((record.kind, record.previous, record.kv), (kind, head.id, kv));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode_head(&bytes);
            let _ = parse_revision_key(&bytes);
            if let Some(view) = RecordView::parse(&bytes) {
                let _ = view.key();
            }
            let _ = Record::decode(bytes.into());
        }
    }
}
