//! An engine, the simulated one as a rule, with counts of what is read, and a way to step in before a read.

use crate::storage::{Batch, Engine, EngineError, Family, RocksEngine, RocksOptions, SimEngine, Visitor};
use bytes::Bytes;
use parking_lot::Mutex;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

type Hook = Box<dyn FnOnce() + Send>;

pub(super) struct ProbeEngine {
    inner: Arc<dyn Engine>,
    sim: Option<Arc<SimEngine>>,
    pub(super) point_reads: AtomicUsize,
    pub(super) scanned: AtomicUsize,
    before_read: Mutex<Option<Hook>>,
}

impl ProbeEngine {
    pub(super) fn sim() -> Self {
        let sim = Arc::new(SimEngine::new());
        Self { sim: Some(sim.clone()), ..Self::over(sim) }
    }

    pub(super) fn rocks(dir: &Path) -> Self {
        Self::over(Arc::new(RocksEngine::open(dir, &RocksOptions::default()).unwrap()))
    }

    fn over(inner: Arc<dyn Engine>) -> Self {
        let (point_reads, scanned) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { inner, sim: None, point_reads, scanned, before_read: Mutex::new(None) }
    }

    /// Forgets what was not flushed. Only the simulated engine can.
    pub(super) fn crash(&self) {
        self.sim.as_ref().unwrap().crash();
    }

    /// Runs once, before the next read of any kind.
    pub(super) fn before_next_read(&self, hook: impl FnOnce() + Send + 'static) {
        *self.before_read.lock() = Some(Box::new(hook));
    }

    pub(super) fn keys(&self, family: Family) -> Vec<Bytes> {
        let mut keys = Vec::new();
        let mut visit = |key: &[u8], _: &[u8]| {
            keys.push(Bytes::copy_from_slice(key));
            ControlFlow::Continue(())
        };
        self.inner.scan(family, &[], &[], false, &mut visit).unwrap();
        keys
    }

    /// Removes or overwrites one key behind everybody's back.
    pub(super) fn tamper(&self, family: Family, key: &[u8], value: Option<Bytes>) {
        let mut batch = Batch::default();
        let key = Bytes::copy_from_slice(key);
        match value {
            Some(value) => batch.put(family, key, value),
            None => batch.delete(family, key),
        }
        self.inner.write(batch).unwrap();
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
        self.step_in();
        self.point_reads.fetch_add(1, Ordering::Relaxed);
        self.inner.get(family, key)
    }
    fn multi_get(&self, family: Family, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, EngineError> {
        self.step_in();
        self.point_reads.fetch_add(keys.len(), Ordering::Relaxed);
        self.inner.multi_get(family, keys)
    }
    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        cache: bool,
        visit: Visitor<'_>,
    ) -> Result<(), EngineError> {
        self.step_in();
        let mut counting = |key: &[u8], value: &[u8]| {
            self.scanned.fetch_add(1, Ordering::Relaxed);
            visit(key, value)
        };
        self.inner.scan(family, from, to, cache, &mut counting)
    }
    fn write(&self, batch: Batch) -> Result<(), EngineError> {
        self.inner.write(batch)
    }
    fn flush(&self) -> Result<(), EngineError> {
        self.inner.flush()
    }
    fn checkpoint(&self, target: &Path) -> Result<(), EngineError> {
        self.inner.checkpoint(target)
    }
    fn disk_bytes(&self) -> u64 {
        self.inner.disk_bytes()
    }
}
