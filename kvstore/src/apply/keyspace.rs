//! Everything of one keyspace: its versions and its leases.

use super::stored;
use crate::lease::LeaseTable;
use crate::mvcc::{ValueCache, Versions};
use crate::storage::Engine;
use crate::types::{Error, KeyRange, KeyspaceId, LeaseId, Result};
use std::sync::Arc;

pub(super) struct Keyspace {
    pub(super) id: KeyspaceId,
    pub(super) versions: Versions,
    pub(super) leases: LeaseTable,
}

impl Keyspace {
    /// Reads it from the engine; one that was never written to is empty.
    pub(super) fn load(id: KeyspaceId, engine: &Arc<dyn Engine>, cache: &Arc<ValueCache>) -> Result<Self> {
        let versions = Versions::load(id, engine.clone(), cache.clone())?;
        let mut leases = LeaseTable::default();
        for (lease_id, lease) in stored::read_leases(&**engine, id)? {
            leases.restore(lease_id, lease);
        }
        for entry in versions.heads().range(&KeyRange::all()) {
            let lease = entry.head().lease;
            // A lease and the deletion of its keys are one write, so the two cannot disagree.
            if entry.is_live() && lease != LeaseId::NONE && !leases.attach(lease, entry.key()) {
                let key = String::from_utf8_lossy(entry.key()).into_owned();
                return Err(Error::Poisoned(format!(
                    "key {key:?} hangs on lease {lease}, which is not stored"
                )));
            }
        }
        leases.publish();
        Ok(Self { id, versions, leases })
    }

    /// Shows readers everything up to here: what was done to leases after what was done to their keys, both as one. Call it
    /// after the engine has the batch.
    pub(super) fn publish(&mut self) {
        self.versions.publish();
        self.leases.publish();
    }
}
