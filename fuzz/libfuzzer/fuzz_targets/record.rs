//! Bytes of a stored record: never a panic, and no slice outside of the buffer.
#![no_main]

use bytes::Bytes;
use kvstore::KeyValue;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(kv) = KeyValue::decode(Bytes::copy_from_slice(data)) else { return };
    let again =
        KeyValue::new(kv.key(), kv.value(), kv.create_revision, kv.mod_revision, kv.version, kv.lease);
    let back = KeyValue::decode(again.encoded().clone()).expect("what was encoded decodes");
    assert_eq!((back.key(), back.value()), (kv.key(), kv.value()));
});
