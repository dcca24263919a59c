//! The leases of one keyspace, in the order they end.

use super::Lease;
use super::reader::LeaseReader;
use crate::types::{ClockMillis, InvalidRequest, LeaseId};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// All leases of one keyspace, for the state machine, which alone changes them.
///
/// From its first change to [`LeaseTable::publish`] a [`LeaseReader`] waits, as long as it takes to apply one batch and to
/// hand it to the engine: nobody finds a lease ended whose keys are still there to be read.
#[derive(Debug, Default)]
pub struct LeaseTable {
    shared: Arc<Shared>,
}

/// What a table and its readers have in common. The lock is held for one step of one command, or for one question; the
/// longest question copies references to the keys of one lease.
#[derive(Debug, Default)]
pub(super) struct Shared {
    inner: Mutex<Inner>,
    shown: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) leases: HashMap<LeaseId, Held>,
    /// Every lease once, under its present deadline.
    pub(super) by_deadline: BTreeSet<(ClockMillis, LeaseId)>,
    /// Moves when a lease comes or goes.
    pub(super) comings_and_goings: u64,
    visibility: Visibility,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Visibility {
    #[default]
    Shown,
    /// There are changes that belong to what is not published yet.
    Changing,
    /// The writer ended while it was changing: what it would have shown is not known.
    Lost,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) lease: Lease,
    /// Copies, so that a key does not keep the whole log entry alive that it arrived in.
    pub(super) keys: BTreeSet<Bytes>,
}

impl Shared {
    /// The leases as they are published. Waits while the writer changes them, which must therefore never ask. `None` when it
    /// has ended half way.
    pub(super) fn look(&self) -> Option<MutexGuard<'_, Inner>> {
        let mut inner = self.inner.lock();
        loop {
            match inner.visibility {
                Visibility::Shown => return Some(inner),
                Visibility::Changing => self.shown.wait(&mut inner),
                Visibility::Lost => return None,
            }
        }
    }

    fn change(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock();
        inner.visibility = Visibility::Changing;
        inner
    }

    /// Ends a change, if there is one.
    fn end_change(&self, after: Visibility) {
        let mut inner = self.inner.lock();
        if inner.visibility == Visibility::Changing {
            inner.visibility = after;
            drop(inner);
            self.shown.notify_all();
        }
    }
}

impl LeaseTable {
    /// For everybody else.
    pub fn reader(&self) -> LeaseReader {
        LeaseReader { shared: Arc::clone(&self.shared) }
    }

    /// Shows readers what was changed. Call it when the engine has it, and when the keys that were deleted with a lease are
    /// gone for readers.
    pub(crate) fn publish(&mut self) {
        self.shared.end_change(Visibility::Shown);
    }

    /// Whether there is such a lease. Never for [`LeaseId::NONE`].
    pub(crate) fn contains(&self, id: LeaseId) -> bool {
        self.shared.inner.lock().leases.contains_key(&id)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.shared.inner.lock().leases.is_empty()
    }

    /// The stored part of a lease.
    pub(crate) fn get(&self, id: LeaseId) -> Option<Lease> {
        self.shared.inner.lock().leases.get(&id).map(|held| held.lease)
    }

    /// Leases whose deadline is not after `now`, the longest overdue first, each with the epoch to put into the
    /// proposal that ends it. They and their keys are taken off `left`; no further one once that is used up. Takes as
    /// long as the result, however many leases there are.
    pub(crate) fn expired(&self, now: ClockMillis, left: &mut usize) -> Vec<(LeaseId, u64)> {
        let inner = self.shared.inner.lock();
        let due = inner.by_deadline.iter().take_while(|&&(deadline, _)| deadline <= now);
        let mut expired = Vec::new();
        for &(_, id) in due {
            if *left == 0 {
                break;
            }
            let held = inner.held(id);
            *left = left.saturating_sub(1 + held.keys.len());
            expired.push((id, held.lease.epoch));
        }
        expired
    }

    /// When the next lease ends.
    pub(crate) fn next_deadline(&self) -> Option<ClockMillis> {
        self.shared.inner.lock().by_deadline.first().map(|&(deadline, _)| deadline)
    }

    /// Puts back a stored lease.
    pub(crate) fn restore(&mut self, id: LeaseId, lease: Lease) {
        self.shared.change().insert(id, lease);
    }

    /// A new lease of `ttl_s` seconds from `now` on.
    pub(crate) fn grant(
        &mut self,
        id: LeaseId,
        ttl_s: i64,
        now: ClockMillis,
        epoch: u64,
    ) -> Result<Lease, InvalidRequest> {
        if id == LeaseId::NONE {
            return Err(InvalidRequest::LeaseNotFound);
        }
        let lease = Lease::starting(now, ttl_s, epoch)?;
        let mut inner = self.shared.change();
        if inner.leases.contains_key(&id) {
            return Err(InvalidRequest::LeaseExists);
        }
        inner.insert(id, lease);
        Ok(lease)
    }

    /// Gives a lease its full time to live from `now` on, also when its time was up but nobody had ended it
    /// yet. `None` when there is no such lease.
    pub(crate) fn renew(&mut self, id: LeaseId, now: ClockMillis, epoch: u64) -> Option<Lease> {
        let mut inner = self.shared.change();
        let Inner { leases, by_deadline, .. } = &mut *inner;
        let lease = &mut leases.get_mut(&id)?.lease;
        by_deadline.remove(&(lease.deadline, id));
        lease.renew(now, epoch);
        by_deadline.insert((lease.deadline, id));
        Some(*lease)
    }

    /// Forgets a lease; gives the keys that hung on it, sorted. `None` when there is no such lease.
    pub(crate) fn remove(&mut self, id: LeaseId) -> Option<BTreeSet<Bytes>> {
        let mut inner = self.shared.change();
        let held = inner.leases.remove(&id)?;
        inner.comings_and_goings += 1;
        inner.by_deadline.remove(&(held.lease.deadline, id));
        Some(held.keys)
    }

    /// Hangs `key` on a lease. Says whether there is such a lease.
    pub(crate) fn attach(&mut self, id: LeaseId, key: &[u8]) -> bool {
        match self.shared.change().leases.get_mut(&id) {
            Some(held) => {
                if !held.keys.contains(key) {
                    held.keys.insert(Bytes::copy_from_slice(key));
                }
                true
            }
            None => false,
        }
    }

    /// Takes `key` off a lease. Nothing happens when the lease is being removed with all its keys.
    pub(crate) fn detach(&mut self, id: LeaseId, key: &[u8]) {
        if let Some(held) = self.shared.change().leases.get_mut(&id) {
            held.keys.remove(key);
        }
    }
}

impl Drop for LeaseTable {
    fn drop(&mut self) {
        self.shared.end_change(Visibility::Lost);
    }
}

impl Inner {
    fn insert(&mut self, id: LeaseId, lease: Lease) {
        let before = self.leases.insert(id, Held { lease, keys: BTreeSet::new() });
        assert!(before.is_none(), "lease {id} is inserted twice");
        self.by_deadline.insert((lease.deadline, id));
        self.comings_and_goings += 1;
    }

    fn held(&self, id: LeaseId) -> &Held {
        match self.leases.get(&id) {
            Some(held) => held,
            None => panic!("lease {id} is in the expiry order but not in the table"),
        }
    }
}
