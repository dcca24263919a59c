//! An engine that counts what is read, and lets a test step in before a read.

use crate::storage::{Batch, Change, Engine, EngineError, Family, Visitor};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

type Map = BTreeMap<(Family, Bytes), Bytes>;

#[derive(Default)]
pub(crate) struct ProbeEngine {
    written: Mutex<Map>,
    flushed: Mutex<Map>,
    pub(crate) point_reads: AtomicUsize,
    pub(crate) scanned: AtomicUsize,
    before_read: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl ProbeEngine {
    /// Forgets what was not flushed.
    pub(crate) fn crash(&self) {
        *self.written.lock() = self.flushed.lock().clone();
    }
    /// Runs once, before the next read of any kind.
    pub(crate) fn before_next_read(&self, hook: impl FnOnce() + Send + 'static) {
        *self.before_read.lock() = Some(Box::new(hook));
    }
    pub(crate) fn keys(&self, family: Family) -> Vec<Bytes> {
        self.written.lock().keys().filter(|(of, _)| *of == family).map(|(_, key)| key.clone()).collect()
    }
    /// Removes or overwrites one key behind everybody's back.
    pub(crate) fn tamper(&self, family: Family, key: &[u8], value: Option<Bytes>) {
        let key = (family, Bytes::copy_from_slice(key));
        match value {
            Some(value) => drop(self.written.lock().insert(key, value)),
            None => drop(self.written.lock().remove(&key)),
        }
    }
    fn step_in(&self) {
        let hook = self.before_read.lock().take();
        if let Some(hook) = hook {
            hook();
        }
    }
}

impl Engine for ProbeEngine {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.multi_get(family, &[Bytes::copy_from_slice(key)])?.pop().flatten())
    }
    fn multi_get(&self, family: Family, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, EngineError> {
        self.step_in();
        self.point_reads.fetch_add(keys.len(), Ordering::Relaxed);
        let map = self.written.lock();
        Ok(keys.iter().map(|key| map.get(&(family, key.clone())).cloned()).collect())
    }
    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        _cache: bool,
        visit: Visitor<'_>,
    ) -> Result<(), EngineError> {
        self.step_in();
        let snapshot = self.written.lock().clone();
        let start = Bound::Included((family, Bytes::copy_from_slice(from)));
        for ((of, key), value) in snapshot.range((start, Bound::Unbounded)) {
            if *of != family || (!to.is_empty() && &key[..] >= to) {
                break;
            }
            self.scanned.fetch_add(1, Ordering::Relaxed);
            if visit(key, value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
    fn write(&self, batch: Batch) -> Result<(), EngineError> {
        let mut map = self.written.lock();
        for change in batch.changes {
            match change {
                Change::Put { family, key, value } => drop(map.insert((family, key), value)),
                Change::Delete { family, key } => drop(map.remove(&(family, key))),
            }
        }
        Ok(())
    }
    fn flush(&self) -> Result<(), EngineError> {
        *self.flushed.lock() = self.written.lock().clone();
        Ok(())
    }
    fn checkpoint(&self, _target: &Path) -> Result<(), EngineError> {
        Ok(())
    }
    fn disk_bytes(&self) -> u64 {
        0
    }
}
