//! The history's hash, from the model and etcd's definition alone.

use crate::oracle::{Change, Model, Record};

/// etcd's HashKV of everything up to the newest revision.
pub fn hash(model: &Model) -> u32 {
    let floor = model.floor.unwrap_or(0);
    // With nothing alive now, what the floor keeps stays.
    let kept_at = if model.now().is_empty() { floor } else { model.revision() };
    let mut hash = crc32c(!0, b"key");
    let mut sub = 0;
    for (at, change) in model.changes.iter().enumerate() {
        let is_first = at == 0 || model.changes[at - 1].revision != change.revision;
        sub = if is_first { 0 } else { sub + 1 };
        if model.floor.is_none() || change.revision > floor || is_kept(model, at, kept_at) {
            hash = crc32c(hash, &name(change, sub));
            hash = crc32c(hash, &value(change));
        }
    }
    !hash
}

/// Whether the change made the version that its key has at `revision`.
fn is_kept(model: &Model, at: usize, revision: i64) -> bool {
    let change = &model.changes[at];
    let later = model.changes[at + 1..].iter().take_while(|later| later.revision <= revision);
    !change.is_delete
        && change.revision <= revision
        && later.into_iter().all(|later| later.record.key != change.record.key)
}

fn name(change: &Change, sub: u64) -> Vec<u8> {
    let mut name = change.revision.to_be_bytes().to_vec();
    name.push(b'_');
    name.extend_from_slice(&sub.to_be_bytes());
    if change.is_delete {
        name.push(b't');
    }
    name
}

/// `mvccpb.KeyValue` on the wire; of a deletion just the key.
fn value(change: &Change) -> Vec<u8> {
    let Record { key, value, create, modified, version, lease } = &change.record;
    let mut wire = Vec::new();
    bytes_field(&mut wire, 1, key);
    if change.is_delete {
        return wire;
    }
    for (number, field) in [(2, create), (3, modified), (4, version)] {
        number_field(&mut wire, number, *field);
    }
    bytes_field(&mut wire, 5, value);
    number_field(&mut wire, 6, *lease);
    wire
}

fn bytes_field(wire: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        wire.push(number << 3 | 2);
        varint(wire, bytes.len() as u64);
        wire.extend_from_slice(bytes);
    }
}

fn number_field(wire: &mut Vec<u8>, number: u8, field: i64) {
    if field != 0 {
        wire.push(number << 3);
        varint(wire, field as u64);
    }
}

fn varint(wire: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        wire.push(number as u8 | 0x80);
        number >>= 7;
    }
    wire.push(number as u8);
}

/// Castagnoli's polynomial, bit by bit; the complements are the caller's.
fn crc32c(mut crc: u32, bytes: &[u8]) -> u32 {
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    crc
}

#[test]
fn the_check_value_of_the_polynomial() {
    assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
}
