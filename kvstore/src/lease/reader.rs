//! What everybody may ask about leases.

use super::Lease;
use super::table::{Inner, Shared};
use crate::types::{ClockMillis, Error, LeaseId, Result};
use bytes::Bytes;
use parking_lot::MutexGuard;
use std::collections::HashSet;
use std::ops::Bound;
use std::sync::Arc;

/// Ids that are listed while the writer waits: some ten microseconds of work.
pub(super) const IDS_PIECE: usize = 1_024;
/// How often a list is begun again because leases came or went meanwhile, before the writer has to wait for the whole.
const IDS_ATTEMPTS: usize = 4;

/// What a client asks about a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseInfo {
    /// The time to live that was granted, in seconds.
    pub granted_ttl_s: i64,
    /// Whole seconds until it ends; 0 when its time is up and the leader has not ended it yet.
    pub remaining_ttl_s: i64,
    /// The keys that hang on it, sorted; empty when not asked for.
    pub keys: Vec<Bytes>,
}

/// The published leases of one keyspace, from any thread. They are shown together with the keys that belong to them: who
/// finds a lease ended finds its keys deleted. So each question waits while a batch is applied that changes leases; the
/// thread that applies it must not ask.
///
/// # Errors
/// All of [`LeaseReader`]: [`Error::Poisoned`] when the store has failed half way through a change of its leases.
#[derive(Clone, Debug)]
pub struct LeaseReader {
    pub(super) shared: Arc<Shared>,
}

impl LeaseReader {
    fn look(&self) -> Result<MutexGuard<'_, Inner>> {
        let lost = || Error::Poisoned("the store has failed; its leases cannot be read any more".into());
        self.shared.look().ok_or_else(lost)
    }

    /// How many leases there are.
    pub fn count(&self) -> Result<usize> {
        Ok(self.look()?.leases.len())
    }

    /// How many keys hang on leases.
    pub fn attached_keys(&self) -> Result<usize> {
        Ok(self.look()?.leases.values().map(|held| held.keys.len()).sum())
    }

    /// The stored part of a lease.
    pub fn get(&self, id: LeaseId) -> Result<Option<Lease>> {
        Ok(self.look()?.leases.get(&id).map(|held| held.lease))
    }

    /// All ids of one moment, nearly in the order of their ends: a lease that is renewed meanwhile may be in another place.
    /// Read in pieces, so that the writer waits for one of them at most, unless leases come and go all the time.
    pub fn ids(&self) -> Result<Vec<LeaseId>> {
        for _ in 0..IDS_ATTEMPTS {
            if let Some(ids) = self.ids_in_pieces()? {
                return Ok(ids);
            }
        }
        Ok(self.look()?.by_deadline.iter().map(|&(_, id)| id).collect())
    }

    /// `None` when leases came or went meanwhile.
    fn ids_in_pieces(&self) -> Result<Option<Vec<LeaseId>>> {
        let mut ids = Vec::new();
        let mut last = None;
        let mut since = None;
        loop {
            let inner = self.look()?;
            if *since.get_or_insert(inner.comings_and_goings) != inner.comings_and_goings {
                return Ok(None);
            }
            let from = last.map_or(Bound::Unbounded, Bound::Excluded);
            let piece = inner.by_deadline.range((from, Bound::Unbounded)).take(IDS_PIECE);
            let before = ids.len();
            for &(deadline, id) in piece {
                last = Some((deadline, id));
                ids.push(id);
            }
            if ids.len() < before + IDS_PIECE {
                break;
            }
        }
        // Whoever was renewed meanwhile has come twice: a deadline only ever moves on.
        let mut seen = HashSet::with_capacity(ids.len());
        ids.retain(|id| seen.insert(*id));
        Ok(Some(ids))
    }

    /// What is left of a lease at `now`. `None` when there is no such lease.
    pub fn time_to_live(&self, id: LeaseId, now: ClockMillis, with_keys: bool) -> Result<Option<LeaseInfo>> {
        let inner = self.look()?;
        Ok(inner.leases.get(&id).map(|held| LeaseInfo {
            granted_ttl_s: held.lease.ttl_s,
            remaining_ttl_s: i64::try_from(held.lease.remaining_ms(now) / 1000).unwrap_or(i64::MAX),
            keys: if with_keys { held.keys.iter().cloned().collect() } else { Vec::new() },
        }))
    }
}
