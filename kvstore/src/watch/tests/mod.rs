//! A keyspace on the simulated engine, a hub in front of it, and readers that poll by hand.

mod lagging;
mod model;
mod progress;
mod rows;
mod threads;

use super::{Delivered, Delivery, Hub, Session, WatchLimits, WatchOptions};
use crate::mvcc::{Event, EventKind, Reader, RemovalLimits, ValueCache, Versions};
use crate::storage::{Batch, Engine, SimEngine};
use crate::types::{KeyRange, KeyspaceId, LeaseId, Revision, SubRevision, VersionId};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

pub(super) fn revision(raw: i64) -> Revision {
    Revision::new(raw)
}

/// One step of a transaction: a put, or (no value) a delete.
pub(super) type Step<'a> = (&'a str, Option<&'a str>);

pub(super) struct World {
    pub(super) versions: Versions,
    engine: Arc<SimEngine>,
    pub(super) reader: Reader,
    pub(super) hub: Arc<Hub>,
    /// Applied, visible to readers, and not yet published to watchers.
    waiting: Vec<Arc<Event>>,
}

impl World {
    pub(super) fn new(limits: WatchLimits) -> Self {
        let engine = Arc::new(SimEngine::new());
        let versions = Versions::load(KeyspaceId::DEFAULT, engine.clone(), ValueCache::new(1 << 20)).unwrap();
        let reader = versions.reader();
        let hub = Hub::new(reader.clone(), limits);
        Self { versions, engine, reader, hub, waiting: Vec::new() }
    }

    /// Applies one transaction; gives its revision if it changed something.
    pub(super) fn apply(&mut self, steps: &[Step<'_>]) -> Option<Revision> {
        let mut batch = Batch::default();
        let at = self.versions.revision().next();
        let before = self.waiting.len();
        for (key, value) in steps {
            let sub = SubRevision::new((self.waiting.len() - before) as u32);
            let id = VersionId::new(at, sub);
            let event = match value {
                Some(value) => {
                    let lease = LeaseId::NONE;
                    Some(self.versions.put(id, key.as_bytes(), value.as_bytes(), lease, &mut batch))
                }
                None => self.versions.delete(id, key.as_bytes(), &mut batch),
            };
            self.waiting.extend(event);
        }
        if self.waiting.len() == before {
            return None;
        }
        self.versions.finish_revision(at, &mut batch);
        self.engine.write(batch).unwrap();
        self.versions.publish();
        Some(at)
    }

    /// Publishes what was applied.
    pub(super) fn publish(&mut self) {
        let events = std::mem::take(&mut self.waiting);
        self.hub.publish(&events, self.versions.revision());
    }

    pub(super) fn transact(&mut self, steps: &[Step<'_>]) -> Option<Revision> {
        let at = self.apply(steps);
        self.publish();
        at
    }
    pub(super) fn put(&mut self, key: &str, value: &str) -> Revision {
        self.transact(&[(key, Some(value))]).expect("a put always changes something")
    }
    pub(super) fn delete(&mut self, key: &str) -> Option<Revision> {
        self.transact(&[(key, None)])
    }

    /// Moves the floor, and removes everything below it.
    pub(super) fn compact(&mut self, to: Revision) {
        let mut batch = Batch::default();
        self.versions.compact(to, &mut batch).unwrap();
        self.engine.write(batch).unwrap();
        self.versions.publish();
        self.hub.compacted(to);
        while let Some(scan) = self.versions.next_removal() {
            let mut batch = Batch::default();
            let removal = scan.run(RemovalLimits::default()).unwrap();
            self.versions.apply_removal(removal, &mut batch).unwrap();
            self.engine.write(batch).unwrap();
            self.versions.publish();
        }
    }

    pub(super) fn client(&self) -> Client {
        Client { session: self.hub.session(), woken: Arc::default() }
    }
}

/// A session with a reader that counts its wake-ups.
pub(super) struct Client {
    pub(super) session: Session,
    pub(super) woken: Arc<Woken>,
}

#[derive(Default)]
pub(super) struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Client {
    /// One poll.
    pub(super) fn poll(&self) -> Poll<Delivery> {
        self.session.poll_next(&mut Context::from_waker(&Waker::from(self.woken.clone())))
    }

    /// The next delivery; `None` when the session is idle.
    pub(super) fn next(&self) -> Option<Delivery> {
        loop {
            let before = self.woken.count();
            match self.poll() {
                Poll::Ready(delivery) => return Some(delivery),
                Poll::Pending if self.woken.count() > before => {}
                Poll::Pending => return None,
            }
        }
    }

    /// Everything that is ready, in a readable form.
    pub(super) fn read(&self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).map(|delivery| show(&delivery)).collect()
    }

    pub(super) fn watch(&self, options: WatchOptions) -> i64 {
        self.session.create(options).unwrap()
    }
}

pub(super) fn all() -> WatchOptions {
    WatchOptions::new(KeyRange::all())
}

pub(super) fn key(key: &'static str) -> WatchOptions {
    WatchOptions::new(KeyRange::single(key))
}

pub(super) fn prefix(prefix: &'static str) -> WatchOptions {
    WatchOptions::new(KeyRange::prefix(prefix))
}

/// `+key=value@revision` for a put, `-key@revision` for a delete.
pub(super) fn show_event(event: &Event) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match event.kind {
        EventKind::Put => format!("+{}={}@{}", text(event.key()), text(event.kv.value()), event.revision()),
        EventKind::Delete => format!("-{}@{}", text(event.key()), event.revision()),
    }
}

pub(super) fn show(delivery: &Delivery) -> String {
    match delivery {
        Delivery::Created { id, revision } => format!("{id} created @{revision}"),
        Delivery::Events { id, events, revision, .. } => {
            let events: Vec<String> = events.iter().map(|told| show_event(&told.event)).collect();
            format!("{id} events @{revision}: {}", events.join(" "))
        }
        Delivery::Progress { id: Some(id), revision } => format!("{id} progress @{revision}"),
        Delivery::Progress { id: None, revision } => format!("progress @{revision}"),
        Delivery::Canceled { id, reason } => format!("{id} canceled {reason:?}"),
    }
}
