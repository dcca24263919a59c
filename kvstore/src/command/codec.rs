//! The bytes of a [`Batch`], which is what a raft entry carries.
//!
//! Version 1, all numbers as varints (negative ones in two's complement, ten bytes), `bytes` as length and
//! content, lists as count and elements:
//!
//! ```text
//! batch       = 1 proposer clock first_request list(keyspace command)
//! command     = tag body                         tags: see `CommandTag`
//! transaction = list(compare) list(operation) list(operation)
//! compare     = target | result << 4, range, number or bytes
//! operation   = tag body                         tags: see `OperationTag`
//! put         = flags key [value] [lease]        absent where the flag says "keep"
//! delete      = flags range
//! query       = flags range limit [revision] [target | order << 4] [four bounds]
//! range       = kind start [end]
//! ```
//!
//! Rules for whoever changes it: version 1 is in logs on disks, so it is read for ever; what a batch means
//! may depend on nothing but these bytes and the state. A new field needs a new version.
//!
//! Decoding trusts nothing: every length is checked against the bytes that are really there before anything
//! is reserved for it, nesting ends at [`MAX_TRANSACTION_DEPTH`], unknown tags and flags and bytes behind the
//! end are errors. Keys and values of the result share the buffer that was given.

mod decode;
mod encode;

use super::Batch;
use bytes::Bytes;

pub(super) use encode::command_size;

/// The version that [`encode_batch`] writes, the first byte of every batch.
pub const FORMAT_VERSION: u8 = 1;

/// How deep transactions may be nested, the outermost one counted. Applying and decoding recurse, so this
/// bounds their stack: a level takes well below 1 KiB. etcd's own limit follows from its operation budget
/// (128 by default) and, over gRPC, from the depth that protobuf decoders accept (100 messages).
pub const MAX_TRANSACTION_DEPTH: usize = 128;

/// Why bytes are not a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Written by a newer version of the store (or not a batch at all).
    #[error(
        "the entry is of another format ({found}, this program reads {FORMAT_VERSION}): start it with the newer version that wrote it"
    )]
    UnknownVersion {
        /// The first byte.
        found: u8,
    },
    /// Not what any version writes.
    #[error("the entry is malformed at byte {offset}: {what}")]
    Malformed {
        /// Where reading failed.
        offset: usize,
        /// What was expected there.
        what: &'static str,
    },
}

/// The bytes of `batch`, in one buffer of exactly the needed size.
pub fn encode_batch(batch: &Batch) -> Bytes {
    encode::batch(batch)
}

/// Reads what [`encode_batch`] wrote. Keys and values share `bytes`.
pub fn decode_batch(bytes: Bytes) -> Result<Batch, CodecError> {
    decode::batch(bytes)
}

/// Tags of commands. Never reuse a number.
mod command_tag {
    pub const TRANSACTION: u8 = 1;
    pub const COMPACT: u8 = 2;
    pub const LEASE_GRANT: u8 = 3;
    pub const LEASE_REVOKE: u8 = 4;
    pub const LEASE_RENEW: u8 = 5;
    pub const LEASE_EXPIRE: u8 = 6;
    pub const ALARM_ACTIVATE: u8 = 7;
    pub const ALARM_DEACTIVATE: u8 = 8;
}

/// Tags of operations. Never reuse a number.
mod operation_tag {
    pub const RANGE: u8 = 1;
    pub const PUT: u8 = 2;
    pub const DELETE: u8 = 3;
    pub const TRANSACTION: u8 = 4;
}

/// Kinds of ranges.
mod range_kind {
    pub const SINGLE: u8 = 0;
    pub const UNBOUNDED: u8 = 1;
    pub const BEFORE: u8 = 2;
}

/// Flags of a put.
mod put_flag {
    pub const KEEP_VALUE: u8 = 1;
    pub const KEEP_LEASE: u8 = 2;
    pub const WANT_PREVIOUS: u8 = 4;
    pub const ALL: u8 = KEEP_VALUE | KEEP_LEASE | WANT_PREVIOUS;
}

/// Flags of a delete.
mod delete_flag {
    pub const WANT_PREVIOUS: u8 = 1;
}

/// Flags of a query; the projection sits in bits 4 and 5.
mod query_flag {
    pub const AT_REVISION: u8 = 1;
    pub const SORTED: u8 = 2;
    pub const FILTERED: u8 = 4;
    pub const PROJECTION_SHIFT: u8 = 4;
    pub const ALL: u8 = AT_REVISION | SORTED | FILTERED | 3 << PROJECTION_SHIFT;
}

#[cfg(test)]
mod tests;
