//! The leases of one keyspace, in the order they end.

use super::Lease;
use crate::types::{ClockMillis, InvalidRequest, LeaseId};
use bytes::Bytes;
use parking_lot::RwLock;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound;

/// Ids that are listed while the writer waits: some ten microseconds of work.
const IDS_PIECE: usize = 1_024;

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

/// All leases of one keyspace. Written by the state machine alone, read by anybody.
///
/// The lock is held for one step of one command, or for one question; the longest question copies references
/// to the keys of one lease.
#[derive(Debug, Default)]
pub struct LeaseTable {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    leases: HashMap<LeaseId, Held>,
    /// Every lease once, under its present deadline.
    by_deadline: BTreeSet<(ClockMillis, LeaseId)>,
}

#[derive(Debug)]
struct Held {
    lease: Lease,
    /// Copies, so that a key does not keep the whole log entry alive that it arrived in.
    keys: BTreeSet<Bytes>,
}

/// What everybody may ask.
impl LeaseTable {
    /// Whether there is such a lease. Never for [`LeaseId::NONE`].
    pub fn contains(&self, id: LeaseId) -> bool {
        self.inner.read().leases.contains_key(&id)
    }

    /// How many leases there are.
    pub fn len(&self) -> usize {
        self.inner.read().leases.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys hang on leases.
    pub fn attached_keys(&self) -> usize {
        self.inner.read().leases.values().map(|held| held.keys.len()).sum()
    }

    /// The stored part of a lease.
    pub fn get(&self, id: LeaseId) -> Option<Lease> {
        self.inner.read().leases.get(&id).map(|held| held.lease)
    }

    /// All ids, the one that ends first in front. Read in pieces, so that the writer waits for one of them at most: a lease
    /// that is granted, renewed or ended meanwhile may be in another place, or not be there.
    pub fn ids(&self) -> Vec<LeaseId> {
        let mut ids = Vec::new();
        let mut last = None;
        loop {
            let inner = self.inner.read();
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
        ids
    }

    /// What is left of a lease at `now`. `None` when there is no such lease.
    pub fn time_to_live(&self, id: LeaseId, now: ClockMillis, with_keys: bool) -> Option<LeaseInfo> {
        let inner = self.inner.read();
        let held = inner.leases.get(&id)?;
        let remaining_ms = held.lease.remaining_ms(now);
        Some(LeaseInfo {
            granted_ttl_s: held.lease.ttl_s,
            remaining_ttl_s: i64::try_from(remaining_ms / 1000).unwrap_or(i64::MAX),
            keys: if with_keys { held.keys.iter().cloned().collect() } else { Vec::new() },
        })
    }

    /// Leases whose deadline is not after `now`, the longest overdue first, each with the epoch to put into the
    /// proposal that ends it. They and their keys are taken off `left`; no further one once that is used up. Takes as
    /// long as the result, however many leases there are.
    pub fn expired(&self, now: ClockMillis, left: &mut usize) -> Vec<(LeaseId, u64)> {
        let inner = self.inner.read();
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
    pub fn next_deadline(&self) -> Option<ClockMillis> {
        self.inner.read().by_deadline.first().map(|&(deadline, _)| deadline)
    }
}

/// What only the state machine may do.
impl LeaseTable {
    /// Puts back a stored lease.
    pub(crate) fn restore(&self, id: LeaseId, lease: Lease) {
        self.inner.write().insert(id, lease);
    }

    /// A new lease of `ttl_s` seconds from `now` on.
    pub(crate) fn grant(
        &self,
        id: LeaseId,
        ttl_s: i64,
        now: ClockMillis,
        epoch: u64,
    ) -> Result<Lease, InvalidRequest> {
        if id == LeaseId::NONE {
            return Err(InvalidRequest::LeaseNotFound);
        }
        let lease = Lease::starting(now, ttl_s, epoch)?;
        let mut inner = self.inner.write();
        if inner.leases.contains_key(&id) {
            return Err(InvalidRequest::LeaseExists);
        }
        inner.insert(id, lease);
        Ok(lease)
    }

    /// Gives a lease its full time to live from `now` on, also when its time was up but nobody had ended it
    /// yet. `None` when there is no such lease.
    pub(crate) fn renew(&self, id: LeaseId, now: ClockMillis, epoch: u64) -> Option<Lease> {
        let mut inner = self.inner.write();
        let Inner { leases, by_deadline } = &mut *inner;
        let lease = &mut leases.get_mut(&id)?.lease;
        by_deadline.remove(&(lease.deadline, id));
        lease.renew(now, epoch);
        by_deadline.insert((lease.deadline, id));
        Some(*lease)
    }

    /// Forgets a lease; gives the keys that hung on it, sorted. `None` when there is no such lease.
    pub(crate) fn remove(&self, id: LeaseId) -> Option<BTreeSet<Bytes>> {
        let mut inner = self.inner.write();
        let held = inner.leases.remove(&id)?;
        inner.by_deadline.remove(&(held.lease.deadline, id));
        Some(held.keys)
    }

    /// Hangs `key` on a lease. Says whether there is such a lease.
    pub(crate) fn attach(&self, id: LeaseId, key: &[u8]) -> bool {
        match self.inner.write().leases.get_mut(&id) {
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
    pub(crate) fn detach(&self, id: LeaseId, key: &[u8]) {
        if let Some(held) = self.inner.write().leases.get_mut(&id) {
            held.keys.remove(key);
        }
    }
}

impl Inner {
    fn insert(&mut self, id: LeaseId, lease: Lease) {
        let before = self.leases.insert(id, Held { lease, keys: BTreeSet::new() });
        assert!(before.is_none(), "lease {id} is inserted twice");
        self.by_deadline.insert((lease.deadline, id));
    }

    fn held(&self, id: LeaseId) -> &Held {
        match self.leases.get(&id) {
            Some(held) => held,
            None => panic!("lease {id} is in the expiry order but not in the table"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: LeaseId = LeaseId::new(1);
    const B: LeaseId = LeaseId::new(2);
    const C: LeaseId = LeaseId::new(3);

    fn at(ms: u64) -> ClockMillis {
        ClockMillis::new(ms)
    }

    fn table(leases: &[(LeaseId, i64)]) -> LeaseTable {
        let table = LeaseTable::default();
        for &(id, ttl_s) in leases {
            table.grant(id, ttl_s, at(0), 1).unwrap();
        }
        table
    }

    #[test]
    fn an_id_is_granted_once() {
        let table = table(&[(A, 10)]);
        assert_eq!(table.grant(A, 5, at(0), 2), Err(InvalidRequest::LeaseExists));
        assert_eq!(table.grant(LeaseId::NONE, 5, at(0), 2), Err(InvalidRequest::LeaseNotFound));
        assert_eq!(
            table.grant(B, super::super::MAX_TTL_S + 1, at(0), 2),
            Err(InvalidRequest::LeaseTtlTooLarge)
        );
        assert_eq!(table.ids(), [A]);
        table.remove(A).unwrap();
        assert!(table.grant(A, 5, at(0), 3).is_ok());
    }

    #[test]
    fn ids_are_in_the_order_of_expiry_and_a_renewal_moves_one() {
        let table = table(&[(A, 30), (B, 10), (C, 20)]);
        assert_eq!(table.ids(), [B, C, A]);
        assert_eq!(table.next_deadline(), Some(at(10_000)));
        table.renew(B, at(15_000), 2).unwrap();
        assert_eq!(table.ids(), [C, B, A]);
        assert_eq!(table.renew(LeaseId::new(9), at(0), 2), None);
    }

    /// While ids are listed, some leases are renewed, so that they are behind the others, and others come and go: those that
    /// stay are all listed, each once.
    #[test]
    fn a_long_list_has_each_lease_once_whatever_moves() {
        let count = 4 * IDS_PIECE as i64;
        let table = table(&(1..=count).map(|id| (LeaseId::new(id), 10)).collect::<Vec<_>>());
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut now = 0;
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    now += 1_000;
                    for id in (1..=count).step_by(7) {
                        table.renew(LeaseId::new(id), at(now), 2).unwrap();
                    }
                    table.grant(LeaseId::new(count + 1), 5, at(now), 3).unwrap();
                    table.remove(LeaseId::new(count + 1)).unwrap();
                }
            });
            for _ in 0..200 {
                let mut ids = table.ids();
                ids.sort();
                ids.retain(|id| id.get() <= count);
                assert!(ids.iter().map(|id| id.get()).eq(1..=count));
            }
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }

    fn expired(table: &LeaseTable, now: u64, mut left: usize) -> Vec<(LeaseId, u64)> {
        table.expired(at(now), &mut left)
    }

    #[test]
    fn expired_ones_come_with_their_epoch_and_a_bound() {
        let table = table(&[(A, 1), (B, 2), (C, 3)]);
        assert_eq!(expired(&table, 999, 10), []);
        assert_eq!(expired(&table, 1000, 10), [(A, 1)]);
        assert_eq!(expired(&table, 5000, 2), [(A, 1), (B, 1)]);
        table.renew(A, at(5000), 7).unwrap();
        assert_eq!(expired(&table, 6099, 10), [(B, 1), (C, 1)], "the slack is not over yet");
        assert_eq!(expired(&table, 6100, 10), [(B, 1), (C, 1), (A, 7)]);
        for key in ["a", "b", "c"] {
            table.attach(B, key.as_bytes());
        }
        assert_eq!(expired(&table, 6000, 4), [(B, 1)], "its keys count");
        assert_eq!(expired(&table, 6000, 5), [(B, 1), (C, 1)]);
        assert_eq!(expired(&table, 6000, 1), [(B, 1)], "a large one has to end too");
    }

    #[test]
    fn time_to_live_counts_whole_seconds_and_stops_at_zero() {
        let table = table(&[(A, 10)]);
        let remaining = |now| table.time_to_live(A, at(now), false).unwrap().remaining_ttl_s;
        assert_eq!((remaining(0), remaining(1), remaining(9001), remaining(99_000)), (10, 9, 0, 0));
        assert_eq!(table.time_to_live(B, at(0), true), None);
    }

    #[test]
    fn keys_are_listed_sorted_and_only_on_demand() {
        let table = table(&[(A, 10)]);
        for key in ["b", "a", "c", "b"] {
            assert!(table.attach(A, key.as_bytes()));
        }
        table.detach(A, b"c");
        let info = table.time_to_live(A, at(0), true).unwrap();
        assert_eq!(info.keys, [Bytes::from("a"), Bytes::from("b")]);
        assert_eq!(table.time_to_live(A, at(0), false).unwrap().keys, [] as [Bytes; 0]);
        assert!(!table.attach(B, b"a"));
        assert_eq!(table.attached_keys(), 2);
        let keys: Vec<Bytes> = table.remove(A).unwrap().into_iter().collect();
        assert_eq!(keys, [Bytes::from("a"), Bytes::from("b")]);
        assert!(table.is_empty() && table.next_deadline().is_none());
    }

    proptest! {
        /// Whatever happens, the expiry order holds each lease once and under its deadline.
        #[test]
        fn the_expiry_order_matches_the_leases(steps in prop::collection::vec((0u8..4, 1i64..6, 0u64..20), 0..60)) {
            let table = LeaseTable::default();
            for (epoch, (action, id, number)) in steps.into_iter().enumerate() {
                let (id, epoch) = (LeaseId::new(id), epoch as u64);
                match action {
                    0 => drop(table.grant(id, number as i64, at(number), epoch)),
                    1 => drop(table.renew(id, at(number), epoch)),
                    2 => drop(table.remove(id)),
                    _ => drop(table.attach(id, &[number as u8])),
                }
                let inner = table.inner.read();
                let mut expected: Vec<_> =
                    inner.leases.iter().map(|(id, held)| (held.lease.deadline, *id)).collect();
                expected.sort();
                prop_assert_eq!(inner.by_deadline.iter().copied().collect::<Vec<_>>(), expected);
            }
        }
    }
}
