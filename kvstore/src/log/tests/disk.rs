//! A disk in memory that forgets what was not synced: per sector for data, from some change on for names.

use crate::log::{File, Files};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SECTOR: usize = 512;

#[derive(Clone, Default)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Clone)]
enum NameChange {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Clone, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    changes: Vec<NameChange>,
    operations: u64,
    syncs: u64,
    /// From this operation on nothing works.
    dead_from: Option<u64>,
    /// This many bytes fit.
    capacity: Option<usize>,
    /// The next sync of data fails, and the disk takes the pages for clean, as Linux does.
    fail_sync: Option<io::ErrorKind>,
    life: u64,
}

impl State {
    fn step(&mut self, life: u64) -> io::Result<()> {
        assert_eq!(life, self.life, "a file of a dead process is used");
        self.operations += 1;
        if self.dead_from.is_some_and(|from| self.operations >= from) {
            return Err(io::Error::other("the power is off"));
        }
        Ok(())
    }
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, change: &NameChange) -> io::Result<()> {
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    match change {
        NameChange::Create(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        NameChange::Rename(from, to) => {
            let inode = names.remove(from).ok_or_else(missing)?;
            names.insert(to.clone(), inode);
        }
        NameChange::Remove(path) => {
            names.remove(path).ok_or_else(missing)?;
        }
    }
    Ok(())
}

/// The disk. Cloning its state makes a copy of the machine.
#[derive(Default)]
pub struct Disk(Arc<Mutex<State>>);

struct Handle {
    state: Arc<Mutex<State>>,
    inode: usize,
    life: u64,
}

impl Disk {
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub fn copy(&self) -> Arc<Self> {
        Arc::new(Self(Arc::new(Mutex::new(self.0.lock().clone()))))
    }

    /// Counts from now on; what is asked for from the `count`th operation on fails and does nothing.
    pub fn die_after(&self, count: u64) {
        let mut state = self.0.lock();
        state.dead_from = Some(state.operations + count);
    }

    /// Works again, and nobody died of it.
    pub fn revive(&self) {
        self.0.lock().dead_from = None;
    }

    /// The process is gone, the machine is not: what was written stays written.
    pub fn kill(&self) {
        let mut state = self.0.lock();
        state.life += 1;
        state.dead_from = None;
        state.fail_sync = None;
    }

    /// The machine is gone. `keep` says of each unsynced sector, and of each further change of a name until it
    /// first says no, whether it reached the disk.
    pub fn lose_power(&self, mut keep: impl FnMut() -> bool) {
        self.kill();
        let mut state = self.0.lock();
        let State { inodes, durable_names, changes, names, .. } = &mut *state;
        for change in changes.drain(..) {
            if !keep() {
                break;
            }
            apply(durable_names, &change).unwrap();
        }
        *names = durable_names.clone();
        for inode in inodes {
            for sector in std::mem::take(&mut inode.dirty) {
                if keep() {
                    write_sector(&mut inode.durable, &inode.seen, sector);
                }
            }
            inode.seen = inode.durable.clone();
        }
    }

    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.0.lock().capacity = bytes;
    }

    pub fn used_bytes(&self) -> usize {
        self.0.lock().inodes.iter().map(|inode| inode.seen.len()).sum()
    }

    pub fn fail_next_sync(&self) {
        self.fail_next_sync_as(io::ErrorKind::Other);
    }

    pub fn fail_next_sync_as(&self, kind: io::ErrorKind) {
        self.0.lock().fail_sync = Some(kind);
    }

    pub fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    pub fn names(&self) -> Vec<PathBuf> {
        self.0.lock().names.keys().cloned().collect()
    }

    pub fn bytes_of(&self, path: &Path) -> usize {
        let state = self.0.lock();
        state.inodes[state.names[path]].seen.len()
    }

    /// Changes a file behind the log's back, durably.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.lock();
        let inode = state.names[path];
        let inode = &mut state.inodes[inode];
        change(&mut inode.seen);
        inode.durable = inode.seen.clone();
        inode.dirty.clear();
    }

    pub fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let state = self.0.lock();
        state.names.iter().map(|(path, inode)| (path.clone(), state.inodes[*inode].seen.clone())).collect()
    }

    fn handle(&self, life: u64, inode: usize) -> Box<dyn File> {
        Box::new(Handle { state: self.0.clone(), inode, life })
    }

    fn change_name(&self, change: NameChange) -> io::Result<()> {
        let mut state = self.0.lock();
        let life = state.life;
        state.step(life)?;
        apply(&mut state.names, &change)?;
        state.changes.push(change);
        Ok(())
    }
}

fn write_sector(to: &mut Vec<u8>, from: &[u8], sector: usize) {
    let start = sector * SECTOR;
    let end = (start + SECTOR).min(from.len());
    if start < end {
        if to.len() < end {
            to.resize(end, 0);
        }
        to[start..end].copy_from_slice(&from[start..end]);
    }
}

impl Files for Disk {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, _dir: &Path) -> io::Result<Vec<OsString>> {
        Ok(self.names().iter().map(|path| path.file_name().unwrap().to_owned()).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut state = self.0.lock();
        let life = state.life;
        state.step(life)?;
        let inode = *state.names.get(path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        drop(state);
        Ok(self.handle(life, inode))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let inode = {
            let mut state = self.0.lock();
            state.inodes.push(Inode::default());
            state.inodes.len() - 1
        };
        self.change_name(NameChange::Create(path.to_owned(), inode))?;
        let life = self.0.lock().life;
        Ok(self.handle(life, inode))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change_name(NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let inode = self.0.lock().names.get(path).copied();
        self.change_name(NameChange::Remove(path.to_owned()))?;
        let mut state = self.0.lock();
        if let (Some(inode), Some(_)) = (inode, state.capacity) {
            state.inodes[inode] = Inode::default();
        }
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let life = state.life;
        state.step(life)?;
        state.durable_names = state.names.clone();
        state.changes.clear();
        Ok(())
    }

    fn random_number(&self) -> u64 {
        0x1234_5678_9abc_def0
    }
}

impl File for Handle {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        state.step(self.life)?;
        let end = offset as usize + bytes.len();
        let used: usize = state.inodes.iter().map(|inode| inode.seen.len()).sum();
        let capacity = state.capacity;
        let inode = &mut state.inodes[self.inode];
        if capacity.is_some_and(|capacity| used + end.saturating_sub(inode.seen.len()) > capacity) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        if inode.seen.len() < end {
            inode.seen.resize(end, 0);
        }
        inode.seen[offset as usize..end].copy_from_slice(bytes);
        inode.dirty.extend(offset as usize / SECTOR..end.div_ceil(SECTOR));
        Ok(())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        // Not counted: whoever checks what is there needs no power.
        let state = self.state.lock();
        assert_eq!(self.life, state.life, "a file of a dead process is used");
        let seen = &state.inodes[self.inode].seen;
        let end = offset as usize + bytes.len();
        if end > seen.len() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        bytes.copy_from_slice(&seen[offset as usize..end]);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.step(self.life)?;
        state.syncs += 1;
        let fail = std::mem::take(&mut state.fail_sync);
        let Inode { seen, durable, dirty } = &mut state.inodes[self.inode];
        for sector in std::mem::take(dirty) {
            if fail.is_none() {
                write_sector(durable, seen, sector);
            }
        }
        fail.map_or(Ok(()), |kind| Err(io::Error::new(kind, "the disk failed")))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().inodes[self.inode].seen.len() as u64)
    }
}
