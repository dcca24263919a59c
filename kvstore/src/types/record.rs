//! The record: one version of one key, in one shared buffer.
//!
//! The buffer is in protobuf wire form with the field numbers of etcd's `mvccpb.KeyValue` (key 1,
//! create_revision 2, mod_revision 3, version 4, value 5, lease 6; zero fields omitted, fields in ascending
//! order). These numbers are fixed for ever by every etcd client, which makes them a good disk format too: a
//! server passes the bytes on to a client without decoding or encoding them again.

use super::{LeaseId, Revision};
use bytes::{BufMut, Bytes, BytesMut};

const TAG_KEY: u8 = 0x0a;
const TAG_CREATE_REVISION: u8 = 0x10;
const TAG_MOD_REVISION: u8 = 0x18;
const TAG_VERSION: u8 = 0x20;
const TAG_VALUE: u8 = 0x2a;
const TAG_LEASE: u8 = 0x30;

/// One version of a key. Cloning shares the buffer.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyValue {
    encoded: Bytes,
    key_at: u32,
    key_len: u32,
    value_at: u32,
    value_len: u32,
    /// The revision in which the key's present life began; 0 in a deletion's record.
    pub create_revision: Revision,
    /// The revision that wrote this version.
    pub mod_revision: Revision,
    /// How many times the key was written in its present life; 0 in a deletion's record.
    pub version: i64,
    /// The lease that the key hangs on, or [`LeaseId::NONE`].
    pub lease: LeaseId,
}

impl KeyValue {
    /// Builds the record.
    ///
    /// # Panics
    /// When key and value together reach 4 GiB; requests are bounded far below.
    pub fn new(
        key: &[u8],
        value: &[u8],
        create_revision: Revision,
        mod_revision: Revision,
        version: i64,
        lease: LeaseId,
    ) -> Self {
        assert!(key.len() + value.len() < u32::MAX as usize - 128, "a record is bounded by 4 GiB");
        let mut out = BytesMut::with_capacity(key.len() + value.len() + 64);
        let mut key_at = 0;
        if !key.is_empty() {
            out.put_u8(TAG_KEY);
            put_varint(&mut out, key.len() as u64);
            key_at = out.len() as u32;
            out.put_slice(key);
        }
        put_number(&mut out, TAG_CREATE_REVISION, create_revision.get());
        put_number(&mut out, TAG_MOD_REVISION, mod_revision.get());
        put_number(&mut out, TAG_VERSION, version);
        let mut value_at = 0;
        if !value.is_empty() {
            out.put_u8(TAG_VALUE);
            put_varint(&mut out, value.len() as u64);
            value_at = out.len() as u32;
            out.put_slice(value);
        }
        put_number(&mut out, TAG_LEASE, lease.get());
        Self {
            encoded: out.freeze(),
            key_at,
            key_len: key.len() as u32,
            value_at,
            value_len: value.len() as u32,
            create_revision,
            mod_revision,
            version,
            lease,
        }
    }

    /// Reads a record back. `None` when the bytes are not a record.
    pub fn decode(encoded: Bytes) -> Option<Self> {
        let mut kv = Self {
            encoded: Bytes::new(),
            key_at: 0,
            key_len: 0,
            value_at: 0,
            value_len: 0,
            create_revision: Revision::NONE,
            mod_revision: Revision::NONE,
            version: 0,
            lease: LeaseId::NONE,
        };
        let bytes = &encoded[..];
        let mut at = 0usize;
        while at < bytes.len() {
            let tag = bytes[at];
            let (number, next) = get_varint(bytes, at + 1)?;
            at = next;
            match tag {
                TAG_KEY | TAG_VALUE => {
                    let len = usize::try_from(number).ok()?;
                    if len > bytes.len() - at {
                        return None;
                    }
                    let (start, length) = (u32::try_from(at).ok()?, u32::try_from(len).ok()?);
                    if tag == TAG_KEY {
                        (kv.key_at, kv.key_len) = (start, length);
                    } else {
                        (kv.value_at, kv.value_len) = (start, length);
                    }
                    at += len;
                }
                TAG_CREATE_REVISION => kv.create_revision = Revision::new(number as i64),
                TAG_MOD_REVISION => kv.mod_revision = Revision::new(number as i64),
                TAG_VERSION => kv.version = number as i64,
                TAG_LEASE => kv.lease = LeaseId::new(number as i64),
                _ => return None,
            }
        }
        kv.encoded = encoded;
        Some(kv)
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.encoded[self.key_at as usize..(self.key_at + self.key_len) as usize]
    }
    /// The value.
    pub fn value(&self) -> &[u8] {
        &self.encoded[self.value_at as usize..(self.value_at + self.value_len) as usize]
    }
    /// The key, sharing the record's buffer (and keeping all of it alive).
    pub fn key_bytes(&self) -> Bytes {
        self.encoded.slice(self.key_at as usize..(self.key_at + self.key_len) as usize)
    }
    /// The value, sharing the record's buffer (and keeping all of it alive).
    pub fn value_bytes(&self) -> Bytes {
        self.encoded.slice(self.value_at as usize..(self.value_at + self.value_len) as usize)
    }
    /// The whole record in wire form, see the module's text.
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }
    /// The same version without its value; the lease stays.
    pub fn without_value(&self) -> Self {
        Self::new(self.key(), b"", self.create_revision, self.mod_revision, self.version, self.lease)
    }
}

impl std::fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyValue")
            .field("key", &String::from_utf8_lossy(self.key()))
            .field("value_len", &self.value_len)
            .field("create_revision", &self.create_revision.get())
            .field("mod_revision", &self.mod_revision.get())
            .field("version", &self.version)
            .field("lease", &self.lease.get())
            .finish()
    }
}

/// Appends `number` as a protobuf varint.
pub fn put_varint(out: &mut impl BufMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

/// How many bytes [`put_varint`] writes for `number`.
pub const fn varint_len(number: u64) -> usize {
    let bits = 64 - (number | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Reads a varint at `at`; gives the number and the position behind it.
pub fn get_varint(bytes: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(at)?;
        at += 1;
        if shift == 63 && byte > 1 {
            return None; // More than 64 bits.
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((number, at));
        }
    }
    None
}

fn put_number(out: &mut BytesMut, tag: u8, number: i64) {
    if number != 0 {
        out.put_u8(tag);
        put_varint(out, number as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_reads_back(key in prop::collection::vec(any::<u8>(), 0..300),
                               value in prop::collection::vec(any::<u8>(), 0..300),
                               numbers in any::<(u32, u32, u32, i64)>()) {
            let kv = KeyValue::new(&key, &value, Revision::new(numbers.0.into()), Revision::new(numbers.1.into()),
                                   numbers.2.into(), LeaseId::new(numbers.3));
            let back = KeyValue::decode(kv.encoded().clone()).unwrap();
            prop_assert_eq!(back.key(), &key[..]);
            prop_assert_eq!(back.value(), &value[..]);
            prop_assert_eq!(back, kv);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = KeyValue::decode(bytes.into());
        }

        /// Nothing is lost without a word: protobuf libraries refuse these too.
        #[test]
        fn a_number_of_more_than_64_bits_is_none(last in 2u8..) {
            let bytes = [&[0xff; 9][..], &[last]].concat();
            prop_assert_eq!(get_varint(&bytes, 0), None);
        }

        #[test]
        fn varint_length_is_exact(number in any::<u64>()) {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            prop_assert_eq!(out.len(), varint_len(number));
            prop_assert_eq!(get_varint(&out, 0), Some((number, out.len())));
        }
    }
}
