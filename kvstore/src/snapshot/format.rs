//! The bytes of a snapshot, format version 1. All numbers are little-endian.
//!
//! ```text
//! snapshot := begin, (file, data*)*, end
//! chunk    := snapshot id u64, number u64, kind u8, zero u24, body length u32, crc32 u32, body
//! begin    := magic "HOLDSNAP", version u32, data bytes per chunk u32, cluster id u64, applied index u64, its term u64,
//!             number of files u32, zero u32, bytes of all files u64
//! file     := bytes of the file u64, name
//! data     := the next bytes of the file: as many as begin says, at its end fewer
//! end      := nothing
//! ```
//!
//! The checksum covers the header before it and the body. Files come in the order of their names. Magic and version keep
//! their places in every later version, so that an older program can say "newer" instead of "damaged".

use crate::types::{LogIndex, Term};

/// The version that this program writes, and the only one that it reads.
pub const FORMAT_VERSION: u32 = 1;
/// Data in a chunk: a millisecond of a network or a disk, and what a receiver holds of a snapshot.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
/// A chunk's bytes before its body.
pub const HEADER_BYTES: usize = 28;
/// The longest name that file systems take.
pub(super) const NAME_BYTES_MAX: usize = 255;

const MAGIC: [u8; 8] = *b"HOLDSNAP";
const CRC_AT: usize = 24;
const BEGIN_BYTES: usize = 56;
const FILE_BYTES: usize = 8;

/// What a snapshot says of itself in its first chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The cluster it is of.
    pub cluster_id: u64,
    /// The last log entry that is in it.
    pub applied: LogIndex,
    /// That entry's term.
    pub term: Term,
    /// How many files it consists of.
    pub files: u32,
    /// The bytes in all of these.
    pub bytes: u64,
    /// Data in a chunk, from 1 to [`CHUNK_BYTES_MAX`].
    pub chunk_bytes: u32,
}

/// What a chunk is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// The first one.
    Begin(SnapshotInfo),
    /// A file begins.
    File {
        /// Its name, without a directory.
        name: &'a str,
        /// Its length.
        bytes: u64,
    },
    /// The file goes on.
    Data(&'a [u8]),
    /// The last one.
    End,
}

impl Body<'_> {
    fn kind(&self) -> u8 {
        match self {
            Body::Begin(_) => 1,
            Body::File { .. } => 2,
            Body::Data(_) => 3,
            Body::End => 4,
        }
    }
}

/// A chunk's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub snapshot_id: u64,
    pub number: u64,
    kind: u8,
    pub body_bytes: usize,
    crc: u32,
}

/// Why bytes are no chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    Damaged(&'static str),
    Newer(u32),
}

/// Appends a chunk to `out`.
///
/// # Panics
/// If a body is longer than [`CHUNK_BYTES_MAX`] or a name longer than a file system takes.
pub fn encode(snapshot_id: u64, number: u64, body: &Body<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&snapshot_id.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&[body.kind(), 0, 0, 0]);
    out.extend_from_slice(&[0; 8]);
    match body {
        Body::Begin(info) => {
            out.extend_from_slice(&MAGIC);
            out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
            out.extend_from_slice(&info.chunk_bytes.to_le_bytes());
            out.extend_from_slice(&info.cluster_id.to_le_bytes());
            out.extend_from_slice(&info.applied.get().to_le_bytes());
            out.extend_from_slice(&info.term.get().to_le_bytes());
            out.extend_from_slice(&info.files.to_le_bytes());
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&info.bytes.to_le_bytes());
        }
        Body::File { name, bytes } => {
            assert!(name.len() <= NAME_BYTES_MAX, "{name:?} is no file's name");
            out.extend_from_slice(&bytes.to_le_bytes());
            out.extend_from_slice(name.as_bytes());
        }
        Body::Data(data) => out.extend_from_slice(data),
        Body::End => {}
    }
    let chunk = &mut out[start..];
    let body_bytes = chunk.len() - HEADER_BYTES;
    assert!(body_bytes <= CHUNK_BYTES_MAX, "the sender cuts the data");
    chunk[CRC_AT - 4..CRC_AT].copy_from_slice(&(body_bytes as u32).to_le_bytes());
    let crc = checksum(chunk);
    chunk[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}

fn checksum(chunk: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&chunk[..CRC_AT]);
    hasher.update(&chunk[HEADER_BYTES..]);
    hasher.finalize()
}

impl Header {
    /// Reads a header, as far as it can be judged without the body.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Bad> {
        let body_bytes = u32_at(bytes, CRC_AT - 4) as usize;
        if body_bytes > CHUNK_BYTES_MAX {
            return Err(Bad::Damaged("a chunk is longer than chunks are"));
        }
        Ok(Self {
            snapshot_id: u64_at(bytes, 0),
            number: u64_at(bytes, 8),
            kind: bytes[16],
            body_bytes,
            crc: u32_at(bytes, CRC_AT),
        })
    }

    /// Reads the body of the `chunk` that this is the header of.
    pub fn body<'a>(&self, chunk: &'a [u8]) -> Result<Body<'a>, Bad> {
        let body = &chunk[HEADER_BYTES..];
        assert_eq!(body.len(), self.body_bytes, "the caller has read the whole chunk");
        if checksum(chunk) != self.crc {
            return Err(Bad::Damaged("the checksum of a chunk does not fit"));
        }
        if chunk[17..20] != [0; 3] {
            return Err(Bad::Damaged("a chunk has a header of another format"));
        }
        match self.kind {
            1 => decode_begin(body).map(Body::Begin),
            2 => decode_file(body),
            3 => Ok(Body::Data(body)),
            4 if body.is_empty() => Ok(Body::End),
            _ => Err(Bad::Damaged("a chunk is of no known kind")),
        }
    }
}

fn decode_begin(body: &[u8]) -> Result<SnapshotInfo, Bad> {
    if body.len() < 12 || body[..8] != MAGIC {
        return Err(Bad::Damaged("this is not the beginning of a snapshot"));
    }
    let version = u32_at(body, 8);
    if version > FORMAT_VERSION {
        return Err(Bad::Newer(version));
    }
    let info = if body.len() == BEGIN_BYTES && version == FORMAT_VERSION && u32_at(body, 44) == 0 {
        SnapshotInfo {
            chunk_bytes: u32_at(body, 12),
            cluster_id: u64_at(body, 16),
            applied: LogIndex::new(u64_at(body, 24)),
            term: Term::new(u64_at(body, 32)),
            files: u32_at(body, 40),
            bytes: u64_at(body, 48),
        }
    } else {
        return Err(Bad::Damaged("the first chunk is not one of this format"));
    };
    if info.chunk_bytes == 0 || info.chunk_bytes as usize > CHUNK_BYTES_MAX {
        return Err(Bad::Damaged("the first chunk has an impossible length for the others"));
    }
    Ok(info)
}

fn decode_file(body: &[u8]) -> Result<Body<'_>, Bad> {
    let Some((bytes, name)) = body.split_at_checked(FILE_BYTES) else {
        return Err(Bad::Damaged("a file has no length"));
    };
    let name = std::str::from_utf8(name).ok().filter(|name| is_plain(name));
    let name = name.ok_or(Bad::Damaged("a file has an impossible name"))?;
    Ok(Body::File { name, bytes: u64_at(bytes, 0) })
}

/// Whether it can only be the name of a file in one directory.
pub(super) fn is_plain(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(is_plain)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
