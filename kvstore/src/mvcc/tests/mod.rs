//! Tests of the keyspace as a whole, on an engine in memory.

mod compaction;
mod engine;
mod model;
mod oracle;
mod reads;
mod threads;
mod watching;

use super::*;
use crate::command::{RangeQuery, ReadAt};
use crate::storage::{Batch, Engine};
use crate::types::{KeyRange, KeyValue, KeyspaceId, LeaseId, Result, Revision, SubRevision, VersionId};
use engine::ProbeEngine;
use std::ops::ControlFlow;
use std::sync::Arc;

fn rev(raw: i64) -> Revision {
    Revision::new(raw)
}

fn version(revision: i64, sub: u32) -> VersionId {
    VersionId::new(Revision::new(revision), SubRevision::new(sub))
}

/// One change of a revision.
#[derive(Clone, Debug)]
enum Change {
    Put { key: Vec<u8>, value: Vec<u8>, lease: i64 },
    Delete { key: Vec<u8> },
}

fn put(key: &str, value: &str) -> Change {
    Change::Put { key: key.into(), value: value.into(), lease: 0 }
}

fn delete(key: &str) -> Change {
    Change::Delete { key: key.into() }
}

/// A keyspace as `apply` drives it.
struct Keyspace {
    engine: Arc<ProbeEngine>,
    versions: Versions,
    batch: Batch,
    cache_bytes: usize,
}

impl Keyspace {
    fn new(cache_bytes: usize) -> Self {
        Self::on(ProbeEngine::sim(), cache_bytes)
    }

    fn on(engine: ProbeEngine, cache_bytes: usize) -> Self {
        let engine = Arc::new(engine);
        let versions = load(&engine, cache_bytes).unwrap();
        Self { engine, versions, batch: Batch::default(), cache_bytes }
    }

    /// Executes the changes as one revision, unpublished. Returns the events.
    fn execute(&mut self, changes: &[Change]) -> Vec<Arc<Event>> {
        let revision = self.versions.revision().next();
        let mut events: Vec<Arc<Event>> = Vec::new();
        for change in changes {
            let at = VersionId::new(revision, SubRevision::new(events.len() as u32));
            let batch = &mut self.batch;
            events.extend(match change {
                Change::Put { key, value, lease } => {
                    Some(self.versions.put(at, key, value, LeaseId::new(*lease), batch))
                }
                Change::Delete { key } => self.versions.delete(at, key, batch),
            });
        }
        if !events.is_empty() {
            self.versions.finish_revision(revision, &mut self.batch);
        }
        events
    }

    fn publish(&mut self) {
        self.engine.write(std::mem::take(&mut self.batch)).unwrap();
        self.versions.publish();
    }

    /// Executes the changes as one revision and publishes it.
    fn commit(&mut self, changes: &[Change]) -> Vec<Arc<Event>> {
        let events = self.execute(changes);
        self.publish();
        events
    }

    fn compact(&mut self, to: i64) -> Result<()> {
        self.versions.compact(rev(to), &mut self.batch)?;
        self.publish();
        Ok(())
    }

    /// One step of removal; `None` when there is nothing to remove.
    fn remove(&mut self, max_records: usize) -> Option<RemovalProgress> {
        let scan = self.versions.next_removal()?;
        let removal = scan.run(RemovalLimits { max_records, max_bytes: usize::MAX }).unwrap();
        let progress = self.versions.apply_removal(removal, &mut self.batch).unwrap();
        self.publish();
        Some(progress)
    }

    fn remove_all(&mut self) {
        while self.remove(3).is_some() {}
    }

    /// Opens the keyspace anew from what the engine has.
    fn reload(&mut self) {
        self.batch = Batch::default();
        self.versions = load(&self.engine, self.cache_bytes).unwrap();
    }

    fn reader(&self) -> Reader {
        self.versions.reader()
    }

    fn get(&self, key: &str) -> Option<KeyValue> {
        let query = RangeQuery::new(KeyRange::single(key.to_owned()));
        self.reader().range(&query).unwrap().0.kvs.pop()
    }
}

fn load(engine: &Arc<ProbeEngine>, cache_bytes: usize) -> Result<Versions> {
    Versions::load(KeyspaceId::DEFAULT, engine.clone(), ValueCache::new(cache_bytes))
}

fn all_at(at: i64) -> RangeQuery {
    RangeQuery { at: ReadAt::Revision(rev(at)), ..RangeQuery::new(KeyRange::all()) }
}

fn keys_of(kvs: &[KeyValue]) -> Vec<String> {
    kvs.iter().map(|kv| String::from_utf8_lossy(kv.key()).into_owned()).collect()
}

/// All events of `from..=to`, read in pages of `budget_bytes`.
fn history(reader: &Reader, from: i64, to: i64, budget_bytes: usize) -> Result<Vec<Arc<Event>>> {
    let mut events = Vec::new();
    let mut next = rev(from);
    let last = rev(to).min(reader.revision());
    while next <= last {
        let page = reader.history(next, rev(to), budget_bytes, &mut |event| {
            events.push(event);
            ControlFlow::Continue(())
        })?;
        assert!(page.next > next, "a page makes progress");
        next = page.next;
    }
    Ok(events)
}
