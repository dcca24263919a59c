//! A directory of files becomes chunks.

use super::format::{Body, CHUNK_BYTES_MAX, SnapshotInfo, encode, is_plain};
use crate::types::{Error, LogIndex, Result, Term};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The files of a checkpoint, as they lie there when this is made.
#[derive(Debug)]
pub struct CheckpointFiles {
    dir: PathBuf,
    /// Name and length, in order.
    files: Vec<(String, u64)>,
}

impl CheckpointFiles {
    /// All that is in `dir`.
    ///
    /// # Errors
    /// When the directory cannot be listed, or holds something that is no file of an engine.
    pub fn list(dir: &Path) -> Result<Self> {
        let unlisted = |e: io::Error| unreadable(dir, &e);
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).map_err(unlisted)? {
            let entry = entry.map_err(unlisted)?;
            let metadata = entry.metadata().map_err(unlisted)?;
            let name = entry.file_name().into_string().ok();
            let Some(name) = name.filter(|name| is_plain(name) && metadata.is_file()) else {
                let reason = "does not belong into a snapshot".into();
                return Err(Error::DataDir { path: entry.path(), reason });
            };
            files.push((name, metadata.len()));
        }
        files.sort();
        Ok(Self { dir: dir.into(), files })
    }
}

/// Makes the chunks of one snapshot, one for each [`Sender::next_chunk`]. The files must not change meanwhile.
#[derive(Debug)]
pub struct Sender {
    dir: PathBuf,
    info: SnapshotInfo,
    snapshot_id: u64,
    number: u64,
    /// Those that are still to come, the next one last.
    files: Vec<(String, u64)>,
    file: Option<OpenFile>,
    data: Vec<u8>,
    is_complete: bool,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    path: PathBuf,
    left: u64,
}

impl Sender {
    /// Of a checkpoint of what `cluster_id` had applied. `snapshot_id` is to be random; a chunk holds up to
    /// `chunk_bytes` of data.
    ///
    /// # Panics
    /// If `chunk_bytes` is 0 or more than [`CHUNK_BYTES_MAX`].
    pub fn new(
        checkpoint: CheckpointFiles,
        snapshot_id: u64,
        cluster_id: u64,
        (applied, term): (LogIndex, Term),
        chunk_bytes: usize,
    ) -> Self {
        assert!((1..=CHUNK_BYTES_MAX).contains(&chunk_bytes), "{chunk_bytes} bytes are no chunk");
        let CheckpointFiles { dir, mut files } = checkpoint;
        let info = SnapshotInfo {
            cluster_id,
            applied,
            term,
            files: files.len() as u32,
            bytes: files.iter().map(|(_, bytes)| bytes).sum(),
            chunk_bytes: chunk_bytes as u32,
        };
        files.reverse();
        let data = Vec::new();
        Self { dir, info, snapshot_id, number: 0, files, file: None, data, is_complete: false }
    }

    /// What the first chunk says.
    pub fn info(&self) -> SnapshotInfo {
        self.info
    }

    /// The next chunk, in `out` instead of what was there; `false` when all have been made.
    ///
    /// # Errors
    /// When a file cannot be read, or has become shorter.
    pub fn next_chunk(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        out.clear();
        if self.is_complete {
            return Ok(false);
        }
        let number = self.number;
        self.number += 1;
        if number == 0 {
            encode(self.snapshot_id, number, &Body::Begin(self.info), out);
        } else if let Some(open) = &mut self.file {
            self.data.resize(open.left.min(u64::from(self.info.chunk_bytes)) as usize, 0);
            open.file.read_exact(&mut self.data).map_err(|e| unreadable(&open.path, &e))?;
            open.left -= self.data.len() as u64;
            encode(self.snapshot_id, number, &Body::Data(&self.data), out);
        } else if let Some((name, bytes)) = self.files.pop() {
            let path = self.dir.join(&name);
            let file = File::open(&path).map_err(|e| unreadable(&path, &e))?;
            self.file = Some(OpenFile { file, path, left: bytes });
            encode(self.snapshot_id, number, &Body::File { name: &name, bytes }, out);
        } else {
            encode(self.snapshot_id, number, &Body::End, out);
            self.is_complete = true;
        }
        self.file.take_if(|open| open.left == 0);
        Ok(true)
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::DataDir {
        path: path.into(),
        reason: format!("cannot be read for a snapshot: {error}; try it again"),
    }
}
