//! The data directory: whose it is, which format, and that only one process has it open.
//!
//! ```text
//! DIR/HOLDFAST   identity: format version, node id, cluster id, whether the store has begun, checksum (text)
//! DIR/LOCK       locked while a process has the directory open
//! DIR/log/       the raft log
//! DIR/state/     the storage engine
//! DIR/state.checkpoints/  what snapshots are read from; nothing lives there longer than that
//! DIR/RESTORING  there while a snapshot becomes this directory, until there is an identity
//! ```
//!
//! The identity says that the store has *begun* before the first client is served: from then on there are entries,
//! and an empty log or state is data that somebody removed, not a new store.

use crate::runtime::{DirectoryLock, Place};
use crate::storage::{self, STATE_DIR};
use crate::types::{Error, NodeId, Result};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The layout this version writes. A directory of a larger one is refused.
const FORMAT: u64 = 2;
/// The last layout without the lines behind the cluster id.
const FORMAT_WITHOUT_BEGUN: u64 = 1;
pub(super) const IDENTITY_FILE: &str = "HOLDFAST";
const LOCK_FILE: &str = "LOCK";
/// Checkpoints that snapshots are read from.
pub(super) const CHECKPOINTS_DIR: &str = "state.checkpoints";
/// Without an identity beside it: a restore did not come to its end.
pub(super) const RESTORING_FILE: &str = "RESTORING";
pub(super) const PARTS: [&str; 2] = ["log", STATE_DIR];

/// An open, locked data directory.
#[derive(Debug)]
pub(super) struct DataDir {
    path: PathBuf,
    pub(super) node_id: NodeId,
    pub(super) cluster_id: u64,
    /// Whether there must be entries in the log or the state.
    begun: bool,
    /// Locked for as long as anybody has this file open.
    pub(super) lock: Arc<DirectoryLock>,
}

impl DataDir {
    pub(super) fn open(path: &Path, node_id: NodeId, cluster_id: u64) -> Result<Self> {
        make_dir(path)?;
        let lock = lock(path)?;
        let identity = path.join(IDENTITY_FILE);
        refuse_special(&identity)?;
        let found = match fs::read_to_string(&identity) {
            Ok(text) => parse(&identity, &text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if path.join(RESTORING_FILE).exists() {
                    let reason = "a snapshot was being restored here and this did not come to its end; restore it \
                                  again, or remove the directory";
                    return Err(refuse(path, reason.into()));
                }
                refuse_foreign(path)?;
                // Before the identity: a directory that has one has them too.
                for part in PARTS.map(|part| path.join(part)) {
                    let made = fs::create_dir_all(&part);
                    made.map_err(|e| refuse(&part, format!("cannot be made: {e}; {}", advice(&e))))?;
                }
                let new = Identity { node_id, cluster_id, begun: false };
                write_identity(path, new)?;
                new
            }
            Err(error) => {
                return Err(refuse(&identity, format!("cannot be read: {error}; {}", advice(&error))));
            }
        };
        for part in PARTS.map(|part| path.join(part)) {
            if !part.is_dir() {
                let reason = "is missing; put it back, or restore the whole data directory from a backup";
                return Err(refuse(&part, reason.into()));
            }
        }
        remove_leftovers(path)?;
        // The names themselves must survive a power cut: what is synced inside a lost directory is lost too.
        sync_directory(path)?;
        let Identity { node_id, cluster_id, begun } = found;
        Ok(Self { path: path.into(), node_id, cluster_id, begun, lock: Arc::new(lock) })
    }

    /// Whether clients were served from it before: then there must be a log and a state.
    pub(super) fn begun(&self) -> bool {
        self.begun
    }

    /// Remembers durably that there are entries: due before the first client is served.
    pub(super) fn mark_begun(&mut self) -> Result<()> {
        if !self.begun {
            let identity = Identity { node_id: self.node_id, cluster_id: self.cluster_id, begun: true };
            write_identity(&self.path, identity)?;
            self.begun = true;
        }
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is, to notice when it no longer is.
    pub(super) fn place(&self) -> Result<Place> {
        let found = self.lock.place(&self.path, storage::current_file(&self.state()));
        found.map_err(|e| refuse(&self.path, format!("cannot be looked at: {e}; {}", advice(&e))))
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.path.join(STATE_DIR)
    }
}

/// What a process left that ended while it read a checkpoint, or right after a restore.
fn remove_leftovers(path: &Path) -> Result<()> {
    let checkpoints = path.join(CHECKPOINTS_DIR);
    let marker = path.join(RESTORING_FILE);
    for (left, removed) in [(&checkpoints, empty_dir(&checkpoints)), (&marker, fs::remove_file(&marker))] {
        match removed {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(refuse(left, format!("cannot be removed: {e}; {}", advice(&e))));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Removes all that is in a directory of ours, by plain names: [`fs::remove_dir_all`] guards against links that strangers
/// put there meanwhile, with calls that the tests of power loss do not see.
pub(super) fn empty_dir(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            empty_dir(&entry.path())?;
            fs::remove_dir(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes the directory and those above it that are missing; their names are durable on return.
pub(super) fn make_dir(path: &Path) -> Result<()> {
    if path.exists() && !path.is_dir() {
        return Err(refuse(path, "is not a directory; give another one".into()));
    }
    let parent_of = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        parent => parent.map(PathBuf::from),
    };
    // Also if it is there: the process that made it may have ended before it synced.
    let mut parents: Vec<PathBuf> = parent_of(path).into_iter().collect();
    while let Some(last) = parents.last()
        && !last.exists()
        && let Some(parent) = parent_of(last)
    {
        parents.push(parent);
    }
    fs::create_dir_all(path).map_err(|e| refuse(path, format!("cannot be made: {e}; {}", advice(&e))))?;
    parents.iter().try_for_each(|parent| sync_directory(parent))
}

/// What the identity file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) node_id: NodeId,
    pub(super) cluster_id: u64,
    pub(super) begun: bool,
}

pub(super) fn sync_directory(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|e| refuse(path, format!("cannot be synced: {e}; {}", advice(&e))))
}

const PUT_IT_BACK: &str =
    "nothing was changed: put the file back, or restore the whole data directory from a backup";

/// What to do about a file system that does not do what it was asked for.
pub(super) fn advice(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{InvalidData, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded => "nothing is lost; free some space and start again",
        PermissionDenied | ReadOnlyFilesystem => "nothing is lost; check the owner, the mode and the mount",
        InvalidData => PUT_IT_BACK,
        _ => "look into the system's log for errors of this disk, and start again once it works",
    }
}

pub(super) fn refuse(path: &Path, reason: String) -> Error {
    Error::DataDir { path: path.into(), reason }
}

pub(super) fn lock(path: &Path) -> Result<DirectoryLock> {
    let lock_path = path.join(LOCK_FILE);
    refuse_special(&lock_path)?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(|e| refuse(&lock_path, format!("is not writable: {e}; {}", advice(&e))))?;
    let directory =
        File::open(path).map_err(|e| refuse(path, format!("cannot be opened: {e}; {}", advice(&e))))?;
    match DirectoryLock::take(file, directory) {
        Ok(lock) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let reason = "is already open in another process, or in this one by a store that still runs or has \
                          handles; stop that one first";
            Err(refuse(path, reason.into()))
        }
        Err(rustix::io::Errno::BUSY) => {
            let reason = "is locked itself (flock) by another process, although LOCK in it is not: by a store whose LOCK \
                          somebody removed, or by a command that it was given to, like flock(1); stop that one, or \
                          lock something else there";
            Err(refuse(path, reason.into()))
        }
        Err(error) => {
            let reason =
                format!("cannot be locked: {error}; the file system has to know locks (flock): give another");
            Err(refuse(&lock_path, reason))
        }
    }
}

/// To open a pipe would wait for somebody at its other end.
fn refuse_special(path: &Path) -> Result<()> {
    let is_special = |found: fs::Metadata| !found.is_file() && !found.is_dir();
    if fs::metadata(path).is_ok_and(is_special) {
        let reason = "is a pipe, a socket or a device; put the file back, or give another directory";
        return Err(refuse(path, reason.into()));
    }
    Ok(())
}

/// A directory with other people's files in it is never taken over.
pub(super) fn refuse_foreign(path: &Path) -> Result<()> {
    let unlisted = |e: std::io::Error| refuse(path, format!("cannot be listed: {e}; {}", advice(&e)));
    let entries = fs::read_dir(path).map_err(unlisted)?;
    for entry in entries {
        let entry = entry.map_err(unlisted)?;
        let name = entry.file_name();
        if name == LOCK_FILE || name == "lost+found" || name == format!("{IDENTITY_FILE}.new").as_str() {
            continue;
        }
        // What a first start leaves that did not come to its end.
        let is_empty = |dir: &Path| fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
        if PARTS.iter().any(|part| name == *part) && is_empty(&entry.path()) {
            continue;
        }
        let name = name.to_string_lossy();
        let hint = if name == "member" { "it looks like etcd's data; " } else { "" };
        let advice = if PARTS.iter().any(|part| name == *part) {
            "if it was one, put that file back or restore the whole directory from a backup; else give an empty or new one"
        } else {
            "give an empty or new directory"
        };
        return Err(refuse(
            path,
            format!(
                "is not a Holdfast data directory ({hint}it holds {name:?} and no {IDENTITY_FILE} file); {advice}"
            ),
        ));
    }
    Ok(())
}

impl Identity {
    fn text(self) -> String {
        let text = format!(
            "holdfast data directory\nformat {FORMAT}\nnode_id {:x}\ncluster_id {:x}\nbegun {}\n",
            self.node_id.get(),
            self.cluster_id,
            u8::from(self.begun)
        );
        let checksum = crc32fast::hash(text.as_bytes());
        format!("{text}checksum {checksum:08x}\n")
    }
}

/// Replaces the identity file, whole or not at all.
pub(super) fn write_identity(path: &Path, identity: Identity) -> Result<()> {
    let target = path.join(IDENTITY_FILE);
    let temporary = path.join(format!("{IDENTITY_FILE}.new"));
    let written = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(identity.text().as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &target)?;
        File::open(path)?.sync_all()
    };
    written().map_err(|e| refuse(&target, format!("cannot be written: {e}; {}", advice(&e))))
}

fn parse(path: &Path, text: &str) -> Result<Identity> {
    let mut lines = text.lines();
    if lines.next() != Some("holdfast data directory") {
        return Err(refuse(
            path,
            format!(
                "is not a Holdfast identity file: it is damaged, or this directory belongs to something else; {PUT_IT_BACK}"
            ),
        ));
    }
    let mut field = |name: &str, radix: u32| -> Result<u64> {
        let value = lines.next().and_then(|line| line.strip_prefix(name)).map(str::trim);
        let parsed = value.and_then(|value| u64::from_str_radix(value, radix).ok());
        parsed.ok_or_else(|| {
            let what = format!("is damaged: no valid {name:?} line where one belongs; {PUT_IT_BACK}");
            refuse(path, what)
        })
    };
    let format = field("format ", 10)?;
    if format > FORMAT {
        let text = format!(
            "was written by a newer version (format {format}, this one reads up to {FORMAT}); nothing was changed: \
             start it with the newer program"
        );
        return Err(refuse(path, text));
    }
    let node_id = NodeId::new(field("node_id ", 16)?);
    let cluster_id = field("cluster_id ", 16)?;
    let damaged = |what: &str| Err(refuse(path, format!("is damaged: {what}; {PUT_IT_BACK}")));
    if node_id.get() == 0 {
        return damaged("node_id is 0");
    }
    if format == 0 {
        return damaged("format is 0");
    }
    if format == FORMAT_WITHOUT_BEGUN {
        return Ok(Identity { node_id, cluster_id, begun: false });
    }
    let begun = field("begun ", 10)? != 0;
    let identity = Identity { node_id, cluster_id, begun };
    // One way to write it: whatever differs is damage, the checksum included.
    if text != identity.text() {
        return damaged("its checksum does not fit its text");
    }
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Result<DataDir> {
        DataDir::open(path, NodeId::new(0xabc), 0xdef)
    }

    fn reason(result: Result<DataDir>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn identity_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path()).unwrap();
        assert!(reason(open(dir.path())).contains("already open"));
        drop(first);
        let again = DataDir::open(dir.path(), NodeId::new(5), 6).unwrap();
        assert_eq!((again.node_id.get(), again.cluster_id), (0xabc, 0xdef));
    }

    /// As a child that is being started has it for a moment.
    #[test]
    fn whoever_else_has_the_lock_file_open_does_not_keep_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path()).unwrap();
        let duplicate = first.lock.file().try_clone().unwrap();
        assert!(reason(open(dir.path())).contains("already open"));
        drop(first);
        drop(open(dir.path()).unwrap());
        drop(duplicate);
    }

    #[test]
    fn a_part_that_is_missing_is_not_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        // A first start that ended before it had written the identity.
        fs::create_dir(dir.path().join("log")).unwrap();
        drop(open(dir.path()).unwrap());
        for part in PARTS {
            fs::remove_dir(dir.path().join(part)).unwrap();
            let text = reason(open(dir.path()));
            assert!(text.contains(part) && text.contains("missing"), "{text}");
            assert!(!dir.path().join(part).exists());
            fs::create_dir(dir.path().join(part)).unwrap();
        }
        drop(open(dir.path()).unwrap());
    }

    #[test]
    fn foreign_newer_and_damaged_directories_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("member")).unwrap();
        assert!(reason(open(dir.path())).contains("looks like etcd's data"));

        let dir = tempfile::tempdir().unwrap();
        let identity = dir.path().join(IDENTITY_FILE);
        fs::write(&identity, "holdfast data directory\nformat 99\nnode_id 1\ncluster_id 1\n").unwrap();
        assert!(reason(open(dir.path())).contains("newer version"));
        fs::write(&identity, "holdfast data directory\nformat 1\nnode_id zz\n").unwrap();
        assert!(reason(open(dir.path())).contains("damaged"));
        fs::write(&identity, "").unwrap();
        assert!(reason(open(dir.path())).contains("not a Holdfast identity"));
    }

    #[test]
    fn the_format_before_is_read_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        let identity = dir.path().join(IDENTITY_FILE);
        fs::write(&identity, "holdfast data directory\nformat 1\nnode_id abc\ncluster_id def\n").unwrap();
        let mut old = open(dir.path()).unwrap();
        assert_eq!((old.node_id.get(), old.cluster_id), (0xabc, 0xdef));
        assert!(!old.begun());
        old.mark_begun().unwrap();
        drop(old);
        assert!(fs::read_to_string(&identity).unwrap().contains("format 2\n"));
        assert!(open(dir.path()).unwrap().begun());
    }

    #[test]
    fn every_changed_byte_of_the_identity_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).unwrap().mark_begun().unwrap();
        let identity = dir.path().join(IDENTITY_FILE);
        let good = fs::read(&identity).unwrap();
        for at in 0..good.len() {
            for bit in 0..7 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                fs::write(&identity, &bad).unwrap();
                assert!(reason(open(dir.path())).contains("HOLDFAST"), "bit {bit} of byte {at}");
            }
            fs::write(&identity, &good[..at]).unwrap();
            assert!(reason(open(dir.path())).contains("HOLDFAST"), "cut at byte {at}");
        }
    }
}
