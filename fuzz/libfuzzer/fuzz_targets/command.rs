//! Bytes of a raft entry: never a panic, and what decodes must encode to bytes that decode to the same.
#![no_main]

use bytes::Bytes;
use kvstore::command::{decode_batch, encode_batch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(batch) = decode_batch(Bytes::copy_from_slice(data)) else { return };
    let again = decode_batch(encode_batch(&batch)).expect("what was encoded decodes");
    assert_eq!(batch, again);
});
