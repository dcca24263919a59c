//! One revision in the making.

use super::keyspace::Keyspace;
use crate::mvcc::Event;
use crate::storage::Batch;
use crate::types::{LeaseId, Revision, SubRevision, VersionId};
use std::sync::Arc;

/// Collects the changes of one command into the keyspace's next revision. Nothing of it can fail.
///
/// Whoever makes one must [`finish`](Self::finish) it; a writer that changed nothing leaves no trace.
pub(super) struct Writer<'a> {
    pub(super) keyspace: &'a mut Keyspace,
    batch: &'a mut Batch,
    events: &'a mut Vec<Arc<Event>>,
    revision: Revision,
    changes: u32,
}

impl<'a> Writer<'a> {
    pub(super) fn begin(
        keyspace: &'a mut Keyspace,
        batch: &'a mut Batch,
        events: &'a mut Vec<Arc<Event>>,
    ) -> Self {
        let revision = keyspace.versions.revision().next();
        Self { keyspace, batch, events, revision, changes: 0 }
    }

    /// The revision as of now: the new one once something has changed, else the one before.
    pub(super) fn revision(&self) -> Revision {
        if self.changes > 0 { self.revision } else { self.revision.previous() }
    }

    /// Writes a key and moves it to `lease`, which exists.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8], lease: LeaseId) {
        let lease_before = self.lease_of(key);
        let version = self.next_version();
        let event = self.keyspace.versions.put(version, key, value, lease, self.batch);
        self.events.push(event);
        if lease_before != lease {
            self.detach(lease_before, key);
            if lease != LeaseId::NONE {
                let exists = self.keyspace.leases.attach(lease, key);
                assert!(exists, "the plan has checked that lease {lease} exists");
            }
        }
    }

    /// Deletes a key; nothing happens when it does not exist.
    pub(super) fn delete(&mut self, key: &[u8]) {
        let lease_before = self.lease_of(key);
        let version = VersionId::new(self.revision, SubRevision::new(self.changes));
        if let Some(event) = self.keyspace.versions.delete(version, key, self.batch) {
            self.changes += 1;
            self.events.push(event);
            self.detach(lease_before, key);
        }
    }

    /// Ends the revision; tells the keyspace's revision after it.
    pub(super) fn finish(self) -> Revision {
        if self.changes > 0 {
            self.keyspace.versions.finish_revision(self.revision, self.batch);
        }
        let revision = self.revision();
        assert_eq!(self.keyspace.versions.revision(), revision, "revisions have no gaps");
        revision
    }

    fn next_version(&mut self) -> VersionId {
        let version = VersionId::new(self.revision, SubRevision::new(self.changes));
        self.changes += 1;
        version
    }

    fn lease_of(&self, key: &[u8]) -> LeaseId {
        let newest = self.keyspace.versions.head(key).filter(|entry| entry.is_live());
        newest.map_or(LeaseId::NONE, |entry| entry.head().lease)
    }

    fn detach(&mut self, lease: LeaseId, key: &[u8]) {
        if lease != LeaseId::NONE {
            self.keyspace.leases.detach(lease, key);
        }
    }
}
