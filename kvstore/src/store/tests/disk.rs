//! The system's files until they are told to fail, or to take their time.

use crate::log::{File, Files, OsFiles};
use parking_lot::{Condvar, Mutex};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The longest time for which a sync is held.
const HELD_MAX: Duration = Duration::from_secs(10);

#[derive(Clone, Default)]
pub(super) struct Disk(Arc<State>);

#[derive(Default)]
struct State {
    fails: AtomicBool,
    sync_takes_us: AtomicU64,
    write_takes_us: AtomicU64,
    has_no_room: AtomicBool,
    refused_files: AtomicU64,
    holds_syncs: Mutex<bool>,
    released: Condvar,
}

/// While it lives, no sync ends.
pub(super) struct Held(Disk);

impl Drop for Held {
    fn drop(&mut self) {
        *self.0.0.holds_syncs.lock() = false;
        self.0.0.released.notify_all();
    }
}

struct DiskFile(Box<dyn File>, Disk);

impl Disk {
    pub(super) fn fail_every_sync(&self) {
        self.0.fails.store(true, Ordering::SeqCst);
    }
    pub(super) fn take_longer_for_a_sync(&self, by: Duration) {
        self.0.sync_takes_us.store(by.as_micros() as u64, Ordering::SeqCst);
    }
    pub(super) fn hold_syncs(&self) -> Held {
        *self.0.holds_syncs.lock() = true;
        Held(self.clone())
    }
    /// As a disk without a cache of its own does.
    pub(super) fn take_longer_for_a_write(&self, by: Duration) {
        self.0.write_takes_us.store(by.as_micros() as u64, Ordering::SeqCst);
    }
    /// Refuses every new file from now on.
    pub(super) fn have_no_room(&self) {
        self.0.has_no_room.store(true, Ordering::SeqCst);
    }
    pub(super) fn refused_files(&self) -> u64 {
        self.0.refused_files.load(Ordering::SeqCst)
    }
    fn check(&self) -> io::Result<()> {
        if self.0.fails.load(Ordering::SeqCst) { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
    }
    fn wrap(&self, file: io::Result<Box<dyn File>>) -> io::Result<Box<dyn File>> {
        Ok(Box::new(DiskFile(file?, self.clone())))
    }
}

impl Files for Disk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        OsFiles.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        OsFiles.list(dir)
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.wrap(OsFiles.open(path))
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        if self.0.has_no_room.load(Ordering::SeqCst) {
            self.0.refused_files.fetch_add(1, Ordering::SeqCst);
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.wrap(OsFiles.create(path))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsFiles.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        OsFiles.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        OsFiles.sync_dir(dir)
    }
}

impl File for DiskFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.1.check()?;
        std::thread::sleep(Duration::from_micros(self.1.0.write_takes_us.load(Ordering::SeqCst)));
        self.0.write_at(offset, bytes)
    }
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, bytes)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.check()?;
        std::thread::sleep(Duration::from_micros(self.1.0.sync_takes_us.load(Ordering::SeqCst)));
        let mut holds_syncs = self.1.0.holds_syncs.lock();
        // Not for ever: a thread that lets go might be the one that is held.
        let is_held = |holds: &mut bool| *holds;
        self.1.0.released.wait_while_for(&mut holds_syncs, is_held, HELD_MAX);
        drop(holds_syncs);
        // No power is lost here: how long a sync takes is the test's matter, not that of the machine's disk.
        Ok(())
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn has_name(&self) -> io::Result<bool> {
        self.0.has_name()
    }
}
