//! Whether chunks, one after the other, are one whole snapshot.

use super::format::{Bad, Body, FORMAT_VERSION, HEADER_BYTES, Header, SnapshotInfo};

/// Why a stream is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not what [`super::Sender`] wrote.
    #[error("damaged in chunk {chunk}: {reason}")]
    Damaged {
        /// Which one, from 0.
        chunk: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A later version wrote it.
    #[error("written by a newer version (format {0}, this one reads up to {FORMAT_VERSION})")]
    Newer(u32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    Begin,
    /// A file, or the end.
    File,
    /// So many bytes of the file are still to come.
    Data(u64),
    Nothing,
}

/// Takes the chunks of one snapshot in their order. Pure: bytes in, their meaning or a refusal out. After a refusal it
/// is of no more use.
#[derive(Clone, Debug)]
pub struct Decoder {
    next: Next,
    number: u64,
    snapshot_id: u64,
    info: Option<SnapshotInfo>,
    last_name: String,
    files: u32,
    bytes: u64,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            next: Next::Begin,
            number: 0,
            snapshot_id: 0,
            info: None,
            last_name: String::new(),
            files: 0,
            bytes: 0,
        }
    }
}

impl Decoder {
    /// Whether the last chunk was accepted.
    pub fn is_complete(&self) -> bool {
        self.next == Next::Nothing
    }

    /// What the first chunk said.
    pub fn info(&self) -> Option<SnapshotInfo> {
        self.info
    }

    /// How many bytes follow the header of the next chunk, to be given to [`Decoder::accept`] together with it.
    ///
    /// # Errors
    /// When this is no chunk's header.
    pub fn body_bytes(&self, header: &[u8; HEADER_BYTES]) -> Result<usize, Refusal> {
        Header::decode(header).map(|header| header.body_bytes).map_err(|bad| self.refusal(bad))
    }

    /// Takes the next chunk, header and body.
    ///
    /// # Errors
    /// When it is damaged, or not the one that belongs here.
    pub fn accept<'a>(&mut self, chunk: &'a [u8]) -> Result<Body<'a>, Refusal> {
        let body = self.check(chunk).map_err(|bad| self.refusal(bad))?;
        self.number += 1;
        Ok(body)
    }

    fn refusal(&self, bad: Bad) -> Refusal {
        match bad {
            Bad::Damaged(reason) => Refusal::Damaged { chunk: self.number, reason },
            Bad::Newer(version) => Refusal::Newer(version),
        }
    }

    fn check<'a>(&mut self, chunk: &'a [u8]) -> Result<Body<'a>, Bad> {
        let Some(header) = chunk.first_chunk() else { return Err(Bad::Damaged("a chunk without a header")) };
        let header = Header::decode(header)?;
        if header.body_bytes != chunk.len() - HEADER_BYTES {
            return Err(Bad::Damaged("a chunk has another length than its header says"));
        }
        let body = header.body(chunk)?;
        if header.number != self.number {
            return Err(Bad::Damaged("a chunk is missing before this one, or this one was there"));
        }
        if self.next == Next::Begin {
            self.snapshot_id = header.snapshot_id;
        } else if header.snapshot_id != self.snapshot_id {
            return Err(Bad::Damaged("a chunk belongs to another snapshot"));
        }
        self.next = self.follow(&body)?;
        Ok(body)
    }

    /// What has to come after `body`, if that may come now.
    fn follow(&mut self, body: &Body<'_>) -> Result<Next, Bad> {
        match (&self.next, body) {
            (Next::Begin, Body::Begin(info)) => {
                self.info = Some(*info);
                Ok(Next::File)
            }
            (Next::File, Body::File { name, bytes }) => {
                if *name <= self.last_name.as_str() {
                    return Err(Bad::Damaged("the files are not in the order of their names"));
                }
                self.last_name = (*name).into();
                let (files, all_bytes) = (self.files.checked_add(1), self.bytes.checked_add(*bytes));
                let within = |info: &SnapshotInfo| {
                    files.is_some_and(|files| files <= info.files)
                        && all_bytes.is_some_and(|bytes| bytes <= info.bytes)
                };
                if !self.info.as_ref().is_some_and(within) {
                    return Err(Bad::Damaged("there are more files than the first chunk says"));
                }
                (self.files, self.bytes) = (self.files + 1, self.bytes + bytes);
                Ok(after_data(*bytes))
            }
            (Next::Data(left), Body::Data(data)) => {
                let full = self.info.map_or(0, |info| u64::from(info.chunk_bytes));
                if data.len() as u64 != full.min(*left) {
                    return Err(Bad::Damaged("a piece of a file has a wrong length"));
                }
                Ok(after_data(left - data.len() as u64))
            }
            (Next::File, Body::End) => match self.info {
                Some(info) if (info.files, info.bytes) == (self.files, self.bytes) => Ok(Next::Nothing),
                _ => Err(Bad::Damaged("it ends before all files have come")),
            },
            (Next::Begin, _) => Err(Bad::Damaged("this is not the beginning of a snapshot")),
            (Next::Nothing, _) => Err(Bad::Damaged("something follows the end")),
            (Next::Data(_), _) => Err(Bad::Damaged("a file ends too early")),
            (Next::File, _) => Err(Bad::Damaged("a file or the end belongs here")),
        }
    }
}

fn after_data(left: u64) -> Next {
    if left == 0 { Next::File } else { Next::Data(left) }
}
