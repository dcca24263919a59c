//! An engine that fails on demand.

use crate::storage::{self, Engine, EngineError, Family, SimEngine, Visitor};
use bytes::Bytes;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counts reads of the revisions.
#[derive(Default)]
pub(super) struct Failing {
    pub(super) engine: SimEngine,
    pub(super) reads: AtomicU64,
    pub(super) fails_reads: AtomicBool,
    pub(super) fails_writes: AtomicBool,
}

impl Failing {
    fn check(&self, family: Family) -> std::result::Result<(), EngineError> {
        if family != Family::Revisions {
            return Ok(());
        }
        self.reads.fetch_add(1, Ordering::SeqCst);
        let error = EngineError { message: "Input/output error".into(), path: None, damaged_at: None };
        if self.fails_reads.load(Ordering::SeqCst) { Err(error) } else { Ok(()) }
    }
}

impl Engine for Failing {
    fn get(&self, family: Family, key: &[u8]) -> std::result::Result<Option<Bytes>, EngineError> {
        self.check(family).and_then(|()| self.engine.get(family, key))
    }
    fn multi_get(
        &self,
        family: Family,
        keys: &[Bytes],
    ) -> std::result::Result<Vec<Option<Bytes>>, EngineError> {
        self.check(family).and_then(|()| self.engine.multi_get(family, keys))
    }
    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        cache: bool,
        visit: Visitor<'_>,
    ) -> std::result::Result<(), EngineError> {
        self.check(family).and_then(|()| self.engine.scan(family, from, to, cache, visit))
    }
    fn write(&self, batch: storage::Batch) -> std::result::Result<(), EngineError> {
        if self.fails_writes.load(Ordering::SeqCst) {
            return Err(EngineError { message: "on demand".into(), path: None, damaged_at: None });
        }
        self.engine.write(batch)
    }
    fn flush(&self) -> std::result::Result<(), EngineError> {
        self.engine.flush()
    }
    fn checkpoint(&self, target: &Path) -> std::result::Result<(), EngineError> {
        self.engine.checkpoint(target)
    }
    fn disk_bytes(&self) -> u64 {
        self.engine.disk_bytes()
    }
}
