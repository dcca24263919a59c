use super::LeaseTable;
use super::reader::IDS_PIECE;
use crate::types::{ClockMillis, Error, InvalidRequest, LeaseId};
use bytes::Bytes;
use proptest::prelude::*;

const A: LeaseId = LeaseId::new(1);
const B: LeaseId = LeaseId::new(2);
const C: LeaseId = LeaseId::new(3);

fn at(ms: u64) -> ClockMillis {
    ClockMillis::new(ms)
}

fn table(leases: &[(LeaseId, i64)]) -> LeaseTable {
    let mut table = LeaseTable::default();
    for &(id, ttl_s) in leases {
        table.grant(id, ttl_s, at(0), 1).unwrap();
    }
    table.publish();
    table
}

/// All ids, once what was changed is published.
fn ids(table: &mut LeaseTable) -> Vec<LeaseId> {
    table.publish();
    table.reader().ids().unwrap()
}

#[test]
fn an_id_is_granted_once() {
    let mut table = table(&[(A, 10)]);
    assert_eq!(table.grant(A, 5, at(0), 2), Err(InvalidRequest::LeaseExists));
    assert_eq!(table.grant(LeaseId::NONE, 5, at(0), 2), Err(InvalidRequest::LeaseNotFound));
    assert_eq!(table.grant(B, super::MAX_TTL_S + 1, at(0), 2), Err(InvalidRequest::LeaseTtlTooLarge));
    assert_eq!(ids(&mut table), [A]);
    table.remove(A).unwrap();
    assert!(table.grant(A, 5, at(0), 3).is_ok());
}

#[test]
fn ids_are_in_the_order_of_expiry_and_a_renewal_moves_one() {
    let mut table = table(&[(A, 30), (B, 10), (C, 20)]);
    assert_eq!(ids(&mut table), [B, C, A]);
    assert_eq!(table.next_deadline(), Some(at(10_000)));
    table.renew(B, at(15_000), 2).unwrap();
    assert_eq!(ids(&mut table), [C, B, A]);
    assert_eq!(table.renew(LeaseId::new(9), at(0), 2), None);
}

/// While ids are listed, some leases are renewed, so that they are behind the others, and others come and go: those that
/// stay are all listed, each once.
#[test]
fn a_long_list_has_each_lease_once_whatever_moves() {
    let count = 4 * IDS_PIECE as i64;
    let mut table = table(&(1..=count).map(|id| (LeaseId::new(id), 10)).collect::<Vec<_>>());
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let reader = table.reader();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut now = 0;
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                now += 1_000;
                for id in (1..=count).step_by(7) {
                    table.renew(LeaseId::new(id), at(now), 2).unwrap();
                    table.publish();
                }
                table.grant(LeaseId::new(count + 1), 5, at(now), 3).unwrap();
                table.publish();
                table.remove(LeaseId::new(count + 1)).unwrap();
                table.publish();
            }
        });
        let is_right = (0..200).all(|_| {
            let Ok(mut ids) = reader.ids() else { return false };
            ids.sort();
            ids.retain(|id| id.get() <= count);
            ids.iter().map(|id| id.get()).eq(1..=count)
        });
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(is_right, "a list lacks a lease, or has one twice");
    });
}

/// Of two leases that take turns one is there at any moment, and so in any list: the early one is behind the place where a
/// list in pieces is, the late one before it.
#[test]
fn a_long_list_is_of_one_moment() {
    let count = 20 * IDS_PIECE as i64;
    let mut table = table(&(1..=count).map(|id| (LeaseId::new(id), 10)).collect::<Vec<_>>());
    let (early, late) = (LeaseId::new(count + 1), LeaseId::new(count + 2));
    table.grant(late, 20, at(0), 1).unwrap();
    table.publish();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let reader = table.reader();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                for (comes, ttl_s, goes) in [(early, 1, late), (late, 20, early)] {
                    table.grant(comes, ttl_s, at(0), 1).unwrap();
                    table.publish();
                    table.remove(goes).unwrap();
                    table.publish();
                }
            }
        });
        let is_of_one_moment = |ids: Vec<LeaseId>| {
            let there = ids.iter().filter(|id| **id == early || **id == late).count();
            there > 0 && ids.len() == count as usize + there
        };
        let is_right = (0..500).all(|_| reader.ids().is_ok_and(is_of_one_moment));
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(is_right, "a list has neither of two that take turns");
    });
}

/// A change is seen when it is published, and not before; who asks meanwhile waits. A writer that ends in between leaves
/// nobody waiting.
#[test]
fn a_change_is_shown_when_it_is_published() {
    let mut table = table(&[(A, 10), (B, 10)]);
    table.attach(A, b"a");
    table.publish();
    let reader = table.reader();
    std::thread::scope(|scope| {
        table.remove(A).unwrap();
        let waits = scope.spawn(|| reader.get(A));
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!waits.is_finished(), "what is not published was shown");
        table.publish();
        assert_eq!(waits.join().unwrap(), Ok(None));
        assert_eq!((reader.count(), reader.attached_keys()), (Ok(1), Ok(0)));

        table.grant(C, 10, at(0), 2).unwrap();
        let waits = scope.spawn(|| reader.ids());
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!waits.is_finished(), "what is not published was shown");
        drop(table);
        assert!(matches!(waits.join().unwrap(), Err(Error::Poisoned(_))));
    });
    assert!(matches!(reader.time_to_live(B, at(0), true), Err(Error::Poisoned(_))));
}

/// A table that ends between two changes can be asked further.
#[test]
fn what_was_shown_stays() {
    let reader = table(&[(A, 10)]).reader();
    assert_eq!(reader.ids(), Ok(vec![A]));
}

fn expired(table: &LeaseTable, now: u64, mut left: usize) -> Vec<(LeaseId, u64)> {
    table.expired(at(now), &mut left)
}

#[test]
fn expired_ones_come_with_their_epoch_and_a_bound() {
    let mut table = table(&[(A, 1), (B, 2), (C, 3)]);
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
    let remaining = |now| table.reader().time_to_live(A, at(now), false).unwrap().unwrap().remaining_ttl_s;
    assert_eq!((remaining(0), remaining(1), remaining(9001), remaining(99_000)), (10, 9, 0, 0));
    assert_eq!(table.reader().time_to_live(B, at(0), true), Ok(None));
}

#[test]
fn keys_are_listed_sorted_and_only_on_demand() {
    let mut table = table(&[(A, 10)]);
    for key in ["b", "a", "c", "b"] {
        assert!(table.attach(A, key.as_bytes()));
    }
    table.detach(A, b"c");
    table.publish();
    let info = table.reader().time_to_live(A, at(0), true).unwrap().unwrap();
    assert_eq!(info.keys, [Bytes::from("a"), Bytes::from("b")]);
    assert_eq!(table.reader().time_to_live(A, at(0), false).unwrap().unwrap().keys, [] as [Bytes; 0]);
    assert!(!table.attach(B, b"a"));
    table.publish();
    assert_eq!(table.reader().attached_keys(), Ok(2));
    let keys: Vec<Bytes> = table.remove(A).unwrap().into_iter().collect();
    assert_eq!(keys, [Bytes::from("a"), Bytes::from("b")]);
    assert!(table.is_empty() && table.next_deadline().is_none());
}

proptest! {
    /// Whatever happens, the expiry order holds each lease once and under its deadline.
    #[test]
    fn the_expiry_order_matches_the_leases(steps in prop::collection::vec((0u8..4, 1i64..6, 0u64..20), 0..60)) {
        let mut table = LeaseTable::default();
        for (epoch, (action, id, number)) in steps.into_iter().enumerate() {
            let (id, epoch) = (LeaseId::new(id), epoch as u64);
            match action {
                0 => drop(table.grant(id, number as i64, at(number), epoch)),
                1 => drop(table.renew(id, at(number), epoch)),
                2 => drop(table.remove(id)),
                _ => drop(table.attach(id, &[number as u8])),
            }
            table.publish();
            let reader = table.reader();
            let inner = reader.shared.look().unwrap();
            let mut expected: Vec<_> =
                inner.leases.iter().map(|(id, held)| (held.lease.deadline, *id)).collect();
            expected.sort();
            prop_assert_eq!(inner.by_deadline.iter().copied().collect::<Vec<_>>(), expected);
        }
    }
}
