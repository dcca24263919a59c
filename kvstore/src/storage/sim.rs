//! The simulated engine: ordered maps in memory that can crash.
//!
//! It keeps two images: what was written, which reads see, and what was flushed, to which a crash falls back.
//! A scan works on a snapshot by reference count; a write during a scan copies the map first.

use super::{Batch, Change, Engine, EngineError, Family, Visitor};
use bytes::{Buf, BufMut, Bytes};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

type Map = BTreeMap<Bytes, Bytes>;
type Image = [Arc<Map>; Family::ALL.len()];

/// The file that a checkpoint consists of.
const CHECKPOINT_FILE: &str = "image";

/// An [`Engine`] for simulations and tests: fast, deterministic, and it forgets what was not flushed.
#[derive(Debug, Default)]
pub struct SimEngine {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    written: Image,
    flushed: Image,
    /// What lies between the two.
    unflushed: Vec<Batch>,
    failure: Option<EngineError>,
}

impl State {
    fn check(&self) -> Result<(), EngineError> {
        self.failure.clone().map_or(Ok(()), Err)
    }
}

fn apply(image: &mut Image, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Put { family, key, value } => {
                Arc::make_mut(&mut image[family.position()]).insert(key, value);
            }
            Change::Delete { family, key } => {
                Arc::make_mut(&mut image[family.position()]).remove(&key);
            }
        }
    }
}

impl SimEngine {
    /// An empty engine.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens what [`Engine::checkpoint`] left in `dir`; all of it counts as flushed.
    ///
    /// # Errors
    /// When there is no whole checkpoint.
    pub fn open_checkpoint(dir: &Path) -> Result<Self, EngineError> {
        let path = dir.join(CHECKPOINT_FILE);
        let bytes = std::fs::read(&path).map_err(|error| io_error(&path, &error))?;
        let image = decode(bytes.into()).ok_or_else(|| EngineError {
            message: "not a checkpoint".into(),
            path: Some(path),
            damaged_at: None,
        })?;
        let state = State { written: image.clone(), flushed: image, ..State::default() };
        Ok(Self { state: RwLock::new(state) })
    }

    /// What a loss of power does: back to the last flush. A failure set before is over.
    pub fn crash(&self) {
        let mut state = self.state.write();
        state.written = state.flushed.clone();
        state.unflushed.clear();
        state.failure = None;
    }

    /// Lets every write, flush and checkpoint from now on fail with `message`, like a full or broken disk.
    pub fn fail(&self, message: impl Into<String>) {
        self.state.write().failure =
            Some(EngineError { message: message.into(), path: None, damaged_at: None });
    }

    /// How many batches a crash would take away.
    pub fn unflushed(&self) -> usize {
        self.state.read().unflushed.len()
    }

    fn snapshot(&self, family: Family) -> Arc<Map> {
        self.state.read().written[family.position()].clone()
    }
}

impl Engine for SimEngine {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.state.read().written[family.position()].get(key).cloned())
    }

    fn multi_get(&self, family: Family, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, EngineError> {
        let state = self.state.read();
        Ok(keys.iter().map(|key| state.written[family.position()].get(key).cloned()).collect())
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        _cache: bool,
        visit: Visitor<'_>,
    ) -> Result<(), EngineError> {
        if !to.is_empty() && from >= to {
            return Ok(()); // BTreeMap::range would panic.
        }
        let end = if to.is_empty() { Bound::Unbounded } else { Bound::Excluded(to) };
        for (key, value) in self.snapshot(family).range::<[u8], _>((Bound::Included(from), end)) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, batch: Batch) -> Result<(), EngineError> {
        let mut state = self.state.write();
        state.check()?;
        apply(&mut state.written, batch.changes.clone());
        state.unflushed.push(batch);
        Ok(())
    }

    fn flush(&self) -> Result<(), EngineError> {
        let mut state = self.state.write();
        state.check()?;
        for batch in std::mem::take(&mut state.unflushed) {
            apply(&mut state.flushed, batch.changes);
        }
        Ok(())
    }

    fn checkpoint(&self, target: &Path) -> Result<(), EngineError> {
        let (image, check) = {
            let state = self.state.read();
            (state.written.clone(), state.check())
        };
        check?;
        let write = || {
            std::fs::create_dir(target)?;
            std::fs::write(target.join(CHECKPOINT_FILE), encode(&image))
        };
        write().map_err(|error| io_error(target, &error))
    }

    fn disk_bytes(&self) -> u64 {
        let flushed = self.state.read().flushed.clone();
        let records = flushed.iter().flat_map(|map| map.iter());
        records.map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }
}

fn io_error(path: &Path, error: &std::io::Error) -> EngineError {
    EngineError { message: format!("{}: {error}", path.display()), path: Some(path.into()), damaged_at: None }
}

/// Per family: the number of records, then each with the lengths of key and value before it.
fn encode(image: &Image) -> Vec<u8> {
    let mut out = Vec::new();
    for map in image {
        out.put_u64(map.len() as u64);
        for (key, value) in map.iter() {
            out.put_u32(key.len() as u32);
            out.put_u32(value.len() as u32);
            out.put_slice(key);
            out.put_slice(value);
        }
    }
    out
}

fn decode(mut bytes: Bytes) -> Option<Image> {
    let mut image = Image::default();
    for map in &mut image {
        let map = Arc::make_mut(map);
        for _ in 0..bytes.try_get_u64().ok()? {
            let key_len = bytes.try_get_u32().ok()? as usize;
            let value_len = bytes.try_get_u32().ok()? as usize;
            if bytes.remaining() < key_len.checked_add(value_len)? {
                return None;
            }
            let key = bytes.split_to(key_len);
            map.insert(key, bytes.split_to(value_len));
        }
    }
    bytes.is_empty().then_some(image)
}
