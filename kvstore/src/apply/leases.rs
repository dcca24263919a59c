//! The commands of leases.

use super::Stop;
use super::keyspace::Keyspace;
use super::stored;
use super::writer::Writer;
use crate::command::Outcome;
use crate::mvcc::Event;
use crate::storage::Batch;
use crate::types::{ClockMillis, InvalidRequest, LeaseId};
use std::sync::Arc;

pub(super) fn grant(
    keyspace: &mut Keyspace,
    id: LeaseId,
    ttl_s: i64,
    now: ClockMillis,
    epoch: u64,
    batch: &mut Batch,
) -> Result<Outcome, Stop> {
    let lease = keyspace.leases.grant(id, ttl_s, now, epoch)?;
    stored::write_lease(batch, keyspace.id, id, lease);
    Ok(Outcome::LeaseGranted { id, ttl_s, revision: keyspace.versions.revision() })
}

pub(super) fn renew(
    keyspace: &mut Keyspace,
    ids: &[LeaseId],
    now: ClockMillis,
    epoch: u64,
    batch: &mut Batch,
) -> Outcome {
    let renew = |&id| {
        let lease = keyspace.leases.renew(id, now, epoch)?;
        stored::write_lease(batch, keyspace.id, id, lease);
        Some(lease.ttl_s)
    };
    Outcome::LeaseRenewed { ttls_s: ids.iter().map(renew).collect(), revision: keyspace.versions.revision() }
}

pub(super) fn revoke(
    keyspace: &mut Keyspace,
    id: LeaseId,
    batch: &mut Batch,
    events: &mut Vec<Arc<Event>>,
) -> Result<Outcome, Stop> {
    if !end(keyspace, id, batch, events) {
        return Err(InvalidRequest::LeaseNotFound.into());
    }
    Ok(Outcome::LeaseRevoked { revision: keyspace.versions.revision() })
}

/// Ends those leases that are still as the leader saw them.
pub(super) fn expire(
    keyspace: &mut Keyspace,
    leases: &[(LeaseId, u64)],
    batch: &mut Batch,
    events: &mut Vec<Arc<Event>>,
) -> Outcome {
    for &(id, epoch) in leases {
        if keyspace.leases.get(id).is_some_and(|lease| lease.epoch == epoch) {
            end(keyspace, id, batch, events);
        }
    }
    Outcome::LeaseRevoked { revision: keyspace.versions.revision() }
}

/// Removes a lease and deletes its keys in their order, all in one revision. Says whether there was one.
fn end(keyspace: &mut Keyspace, id: LeaseId, batch: &mut Batch, events: &mut Vec<Arc<Event>>) -> bool {
    let Some(keys) = keyspace.leases.remove(id) else { return false };
    stored::delete_lease(batch, keyspace.id, id);
    let mut writer = Writer::begin(keyspace, batch, events);
    for key in &keys {
        writer.delete(key);
    }
    writer.finish();
    true
}
