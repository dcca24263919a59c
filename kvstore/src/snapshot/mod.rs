//! Snapshots: everything a member has applied, as a stream of checksummed chunks.
//!
//! ```text
//! Engine::checkpoint ──> a directory of files ──[Sender]──> chunks ──[Receiver]──> a directory that an engine opens
//! ```
//! A checkpoint links the engine's tables and copies little: writers go on meanwhile, and what they write is not in it.
//!
//! Invariants:
//! - every byte is under a checksum, and chunks carry the snapshot's random id and count from 0: a chunk that is damaged,
//!   missing, doubled, out of place or of another snapshot is refused, and so is a stream that ends early;
//! - a snapshot has one way to be written: what [`Decoder`] accepts to its end is what [`Sender`] makes of the same files;
//! - names are those of files in one directory, never paths: nothing is written elsewhere;
//! - when [`Receiver`] has accepted the last chunk, everything is durable; before, nobody may open what is there.
//!
//! Deliberately missing: sending to a follower, which comes with clusters of several members, and compression (the
//! tables are compressed).

mod decode;
mod format;
mod receive;
mod send;
#[cfg(test)]
mod tests;

pub use decode::{Decoder, Refusal};
pub use format::{Body, CHUNK_BYTES_MAX, FORMAT_VERSION, HEADER_BYTES, SnapshotInfo, encode};
pub use receive::{Receiver, receive};
pub use send::{CheckpointFiles, Sender};
