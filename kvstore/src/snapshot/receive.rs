//! Chunks become a directory of files again.

use super::decode::{Decoder, Refusal};
use super::format::{Body, HEADER_BYTES, SnapshotInfo};
use crate::types::{Error, Result};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const ADVICE: &str = "nothing was restored; fetch the snapshot once more, or use another one";

/// Writes the files of a snapshot, durably. Whatever happens before the last chunk was accepted, the directory is of no use.
#[derive(Debug)]
pub struct Receiver {
    dir: PathBuf,
    decoder: Decoder,
    file: Option<(File, PathBuf)>,
}

impl Receiver {
    /// Into `dir`, which has to be empty.
    ///
    /// # Errors
    /// When it is not, or is missing.
    pub fn new(dir: &Path) -> Result<Self> {
        let mut there = fs::read_dir(dir).map_err(|e| unwritable(dir, &e))?;
        if there.next().is_some() {
            return Err(Error::DataDir {
                path: dir.into(),
                reason: "is not empty; nothing was restored".into(),
            });
        }
        Ok(Self { dir: dir.into(), decoder: Decoder::default(), file: None })
    }

    /// How many bytes belong to the chunk with this header, beside it.
    ///
    /// # Errors
    /// [`Error::Snapshot`] when this is no chunk's header.
    pub fn body_bytes(&self, header: &[u8; HEADER_BYTES]) -> Result<usize> {
        self.decoder.body_bytes(header).map_err(refused)
    }

    /// Takes the next chunk. With the last one everything is durable, and what it was is given.
    ///
    /// # Errors
    /// [`Error::Snapshot`] when it is damaged or out of place, [`Error::NoSpace`], or [`Error::DataDir`] when a file
    /// cannot be written.
    pub fn accept(&mut self, chunk: &[u8]) -> Result<Option<SnapshotInfo>> {
        match self.decoder.accept(chunk).map_err(refused)? {
            Body::Begin(_) => {}
            Body::File { name, .. } => {
                self.finish_file()?;
                let path = self.dir.join(name);
                let file = File::create_new(&path).map_err(|e| unwritable(&path, &e))?;
                self.file = Some((file, path));
            }
            Body::Data(data) => {
                let (file, path) = self.file.as_mut().expect("data comes behind the name of its file");
                file.write_all(data).map_err(|e| unwritable(path, &e))?;
            }
            Body::End => {
                self.finish_file()?;
                let synced = File::open(&self.dir).and_then(|dir| dir.sync_all());
                synced.map_err(|e| unwritable(&self.dir, &e))?;
            }
        }
        Ok(self.decoder.info().filter(|_| self.decoder.is_complete()))
    }

    fn finish_file(&mut self) -> Result<()> {
        match self.file.take() {
            Some((file, path)) => file.sync_all().map_err(|e| unwritable(&path, &e)),
            None => Ok(()),
        }
    }
}

/// Reads a whole snapshot, and not a byte more, into `dir`, which has to be empty.
///
/// # Errors
/// As [`Receiver::accept`]; [`Error::Snapshot`] also when it cannot be read to its end.
pub fn receive(input: &mut dyn Read, dir: &Path) -> Result<SnapshotInfo> {
    let mut receiver = Receiver::new(dir)?;
    let mut chunk = Vec::new();
    let mut read_bytes = 0;
    let mut fill = |part: &mut [u8]| -> Result<()> {
        input.read_exact(part).map_err(|error| unread(read_bytes, &error))?;
        read_bytes += part.len() as u64;
        Ok(())
    };
    loop {
        let mut header = [0; HEADER_BYTES];
        fill(&mut header)?;
        chunk.clear();
        chunk.extend_from_slice(&header);
        chunk.resize(HEADER_BYTES + receiver.body_bytes(&header)?, 0);
        fill(&mut chunk[HEADER_BYTES..])?;
        if let Some(info) = receiver.accept(&chunk)? {
            return Ok(info);
        }
    }
}

fn refused(refusal: Refusal) -> Error {
    let advice = match refusal {
        Refusal::Damaged { .. } => ADVICE,
        Refusal::Newer(_) => "nothing was restored; use the newer program",
    };
    Error::Snapshot(format!("{refusal}; {advice}"))
}

fn unread(read_bytes: u64, error: &io::Error) -> Error {
    let what = match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends in the middle: it was cut".into(),
        _ => format!("it cannot be read: {error}"),
    };
    Error::Snapshot(format!("after {read_bytes} bytes: {what}; {ADVICE}"))
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded => Error::NoSpace(format!(
            "{}: {error}; nothing was restored: free some space and restore again",
            path.display()
        )),
        _ => Error::DataDir {
            path: path.into(),
            reason: format!(
                "cannot be written: {error}; nothing was restored: check the directory and restore again"
            ),
        },
    }
}
