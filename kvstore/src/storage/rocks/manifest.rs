//! A `MANIFEST` whose end was torn when the power failed.
//!
//! The manifest is RocksDB's list of tables, a log of changes. RocksDB forgives a log that was cut off, but not one
//! whose last, never synced records are there in part: a file system may have recorded the new length before all of
//! the sectors, and then the checksum of a record is wrong and the opening is refused. Nothing was lost with such a
//! record: RocksDB syncs the manifest before it relies on a change, removes a table or reports a flush.
//!
//! From the bytes alone rot in the last record looks the same. What tells the two apart is whether all is still there
//! without it: the tables that the list then names (RocksDB looks at each), and the raft log from the applied index of
//! that state on (the store looks at that while the engine is open to be read only). If so, the replay arrives
//! at the same data either way. So an engine that is opened to be read looks at a copy of the directory, of links,
//! whose manifest ends before the first bad record, and nothing is changed; opened to be written, it cuts the manifest.

use super::CURRENT_FILE;
use super::directory::{explain, io_error, named_by};
use crate::storage::EngineError;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// The layout of RocksDB's logs (`db/log_format.h`): blocks of records, each of masked CRC32C, length, type, data. A
/// record never begins in the last bytes of a block that cannot hold a header.
const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
/// A whole record, or the last piece of one.
const FULL: u8 = 1;
const LAST: u8 = 4;

/// Beside the directory, while it is looked at.
const TRIAL_SUFFIX: &str = ".trial";

/// A manifest with a bad record, and everything from there on is to be forgotten.
pub(super) struct TornManifest {
    path: PathBuf,
    intact: Vec<u8>,
}

impl TornManifest {
    /// The directory's manifest, if there is something wrong with it.
    pub(super) fn find(dir: &Path) -> Option<Self> {
        let (path, mut bytes) = newest(dir)?;
        let intact = intact_bytes(&bytes);
        if intact == 0 || intact == bytes.len() {
            return None;
        }
        bytes.truncate(intact);
        Some(Self { path, intact: bytes })
    }

    /// Makes a copy of `dir` in which the manifest ends before the bad record.
    pub(super) fn trial(&self, dir: &Path) -> Result<Trial, EngineError> {
        let trial = Trial::beside(dir);
        trial.remove()?;
        fs::create_dir(&trial.path).map_err(|error| io_error(&trial.path, "cannot make", &error))?;
        let entries = fs::read_dir(dir).map_err(|error| io_error(dir, "cannot list", &error))?;
        for entry in entries {
            let name = entry.map_err(|error| io_error(dir, "cannot list", &error))?.file_name();
            let (from, to) = (dir.join(&name), trial.path.join(&name));
            // What RocksDB writes even when it only reads must not be shared.
            let is_written = name == "LOCK" || name.to_string_lossy().starts_with("LOG");
            if from == self.path {
                fs::write(&to, &self.intact).map_err(|error| io_error(&to, "cannot write", &error))?;
            } else if !is_written && from.is_file() {
                fs::hard_link(&from, &to).map_err(|error| io_error(&to, "cannot link", &error))?;
            }
        }
        Ok(trial)
    }

    /// Cuts the manifest before the bad record.
    pub(super) fn cut(&self) -> Result<(), EngineError> {
        let cut = || {
            let file = OpenOptions::new().write(true).open(&self.path)?;
            file.set_len(self.intact.len() as u64)?;
            file.sync_all()
        };
        cut().map_err(|error| io_error(&self.path, "cannot cut", &error))
    }
}

/// RocksDB suspects the manifest whenever it cannot open a table, and not always names the table. A manifest whose checksums
/// are right is hardly to blame, unless RocksDB misses something in it: then it ends too early.
pub(super) fn acquit(dir: &Path, mut error: EngineError) -> EngineError {
    let suspected = newest(dir).filter(|(path, bytes)| {
        error.path.as_ref() == Some(path)
            && !error.message.contains("entry in MANIFEST")
            && !bytes.is_empty()
            && intact_bytes(bytes) == bytes.len()
    });
    if suspected.is_some() {
        error.message +=
            " Its checksums are right, though: rather one of the tables beside it, *.sst, is damaged";
        error.path = Some(dir.into());
    }
    error
}

/// The manifest that `CURRENT` names, and what is in it.
fn newest(dir: &Path) -> Option<(PathBuf, Vec<u8>)> {
    let path = named_by(&dir.join(CURRENT_FILE))?;
    let bytes = fs::read(&path).ok()?;
    Some((path, bytes))
}

/// A copy of a directory to look at; gone when it is dropped.
pub(super) struct Trial {
    path: PathBuf,
}

impl Trial {
    /// The place of `dir`'s, whether there is one or not.
    fn beside(dir: &Path) -> Self {
        let mut path = dir.as_os_str().to_owned();
        path.push(TRIAL_SUFFIX);
        Self { path: path.into() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// An error of the copy as one of `dir`, which is still there when somebody reads it.
    pub(super) fn explain(&self, dir: &Path, error: rocksdb::Error) -> EngineError {
        let mut error = explain(&self.path, error);
        error.message = error.message.replace(&*self.path.to_string_lossy(), &dir.to_string_lossy());
        let name = error.path.as_ref().and_then(|path| path.strip_prefix(&self.path).ok());
        error.path = Some(name.map_or_else(|| dir.into(), |name| dir.join(name)));
        error
    }

    fn remove(&self) -> Result<(), EngineError> {
        let remove = || {
            for entry in fs::read_dir(&self.path)? {
                fs::remove_file(entry?.path())?;
            }
            fs::remove_dir(&self.path)
        };
        match remove() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error(&self.path, "cannot remove", &error))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // What stays behind is removed by the next opening.
        let _ = self.remove();
    }
}

/// Removes what a crash left of a trial.
pub(super) fn remove_trial(dir: &Path) -> Result<(), EngineError> {
    Trial::beside(dir).remove()
}

/// How many of a log's first bytes are whole records.
fn intact_bytes(bytes: &[u8]) -> usize {
    let (mut at, mut intact) = (0, 0);
    loop {
        let left_in_block = BLOCK_BYTES - at % BLOCK_BYTES;
        if left_in_block < HEADER_BYTES {
            at += left_in_block;
            continue;
        }
        let Some((header, rest)) = bytes.get(at..).and_then(|rest| rest.split_at_checked(HEADER_BYTES))
        else {
            return intact;
        };
        let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
        let kind = header[6];
        let Some(data) = rest.get(..length).filter(|_| (FULL..=LAST).contains(&kind)) else { return intact };
        let stored = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        if stored != masked(crc32c::crc32c_append(crc32c::crc32c(&[kind]), data)) {
            return intact;
        }
        at += HEADER_BYTES + length;
        if kind == FULL || kind == LAST {
            intact = at;
        }
    }
}

/// RocksDB stores checksums this way (`util/crc32c.h`), because data may hold checksums itself.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, data: &[u8]) -> Vec<u8> {
        let crc = masked(crc32c::crc32c_append(crc32c::crc32c(&[kind]), data));
        let length = u16::try_from(data.len()).unwrap();
        [&crc.to_le_bytes()[..], &length.to_le_bytes(), &[kind], data].concat()
    }

    #[test]
    fn a_log_is_whole_up_to_its_first_bad_byte() {
        let records = [record(FULL, b"one"), record(2, b"be"), record(LAST, b"gin"), record(FULL, b"")];
        let bytes = records.concat();
        assert_eq!(intact_bytes(&bytes), bytes.len());
        let ends = [0, 10, 29, 36];
        for at in 0..bytes.len() {
            // A record of two pieces counts when its last piece is whole.
            let whole = ends.iter().rfind(|end| **end <= at).unwrap();
            assert_eq!(intact_bytes(&bytes[..at]), *whole, "cut at {at}");
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(intact_bytes(&bad), *whole, "flip at {at}");
        }
        assert_eq!(intact_bytes(&[&bytes[..], &[0; 600]].concat()), bytes.len());
        assert_eq!(intact_bytes(&[]), 0);
    }

    #[test]
    fn a_manifest_is_suspected_only_with_a_reason() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("MANIFEST-000005");
        let suspicion_of = |what: &str| EngineError {
            message: format!("Corruption: {what}  The file {} may be corrupted.", path.display()),
            path: Some(path.clone()),
            damaged_at: Some(0),
        };
        let suspicion = || suspicion_of("properties unsorted");
        fs::write(home.path().join("CURRENT"), "MANIFEST-000005\n").unwrap();
        let mut bytes = record(FULL, b"tables");
        fs::write(&path, &bytes).unwrap();
        let error = acquit(home.path(), suspicion());
        assert!(error.message.contains("one of the tables beside it"), "{error}");
        assert_eq!(error.path.as_deref(), Some(home.path()));
        let too_short = || suspicion_of("no next_file_number entry in MANIFEST");
        assert_eq!(acquit(home.path(), too_short()), too_short());
        bytes[9] ^= 1;
        for bytes in [&bytes[..], &[]] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(acquit(home.path(), suspicion()), suspicion());
        }
    }

    #[test]
    fn blocks_end_in_bytes_that_hold_no_record() {
        let mut bytes = record(FULL, &[7; BLOCK_BYTES - HEADER_BYTES - 3]);
        bytes.extend([0; 3]);
        bytes.extend(record(FULL, b"next block"));
        assert_eq!(intact_bytes(&bytes), bytes.len());
    }
}
