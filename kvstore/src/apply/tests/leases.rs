//! Granting, renewing, ending; what hangs on a lease.

use super::*;
use crate::lease::{LeaseReader, MAX_TTL_S};
use crate::types::InvalidRequest;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

const A: LeaseId = LeaseId::new(1);
const B: LeaseId = LeaseId::new(2);

impl Fixture {
    fn leases(&mut self) -> LeaseReader {
        self.machine.leases(KeyspaceId::DEFAULT).unwrap()
    }

    fn keys_of(&mut self, id: LeaseId) -> Vec<String> {
        let info = self.leases().time_to_live(id, ClockMillis::new(0), true).unwrap();
        let info = info.expect("the lease is there");
        info.keys.iter().map(|key| text(key)).collect()
    }

    fn remaining_s(&mut self, id: LeaseId) -> i64 {
        let now = self.machine.clock();
        let info = self.leases().time_to_live(id, now, false).unwrap();
        info.expect("the lease is there").remaining_ttl_s
    }

    fn expire(&mut self, leases: Vec<(LeaseId, u64)>) -> i64 {
        match self.command(Command::LeaseExpire { leases }) {
            Ok(Outcome::LeaseRevoked { revision }) => revision.get(),
            other => panic!("a revoke, not {other:?}"),
        }
    }

    fn due(&self) -> Vec<(LeaseId, u64)> {
        self.machine.expired(self.machine.clock(), 100).into_iter().flat_map(|(_, due)| due).collect()
    }
}

#[test]
fn granting_takes_no_revision_and_an_id_is_taken_once() {
    let mut fixture = Fixture::new();
    assert!(!fixture.machine.has_leases());
    let granted = Outcome::LeaseGranted { id: A, ttl_s: 10, revision: Revision::FIRST };
    assert_eq!(fixture.grant(1, 10), Ok(granted));
    assert!(fixture.machine.has_leases());
    assert_eq!(fixture.grant(1, 20), Err(InvalidRequest::LeaseExists.into()));
    assert_eq!(fixture.grant(0, 20), Err(InvalidRequest::LeaseNotFound.into()));
    assert_eq!(fixture.grant(2, MAX_TTL_S + 1), Err(InvalidRequest::LeaseTtlTooLarge.into()));
    assert!(fixture.grant(3, MAX_TTL_S).is_ok());
    assert!(fixture.grant(-4, 5).is_ok(), "any id but 0");
    assert_eq!(fixture.leases().ids().unwrap(), [LeaseId::new(-4), A, LeaseId::new(3)]);
    assert_eq!(fixture.remaining_s(A), 10);
}

#[test]
fn a_key_hangs_on_the_lease_of_its_newest_version() {
    let mut fixture = Fixture::new();
    fixture.grant(1, 10).unwrap();
    fixture.grant(2, 10).unwrap();
    fixture.write(vec![put_leased("b", 1), put_leased("a", 1), put_leased("c", 1)]);
    assert_eq!(fixture.keys_of(A), ["a", "b", "c"]);
    fixture.write(vec![put_leased("a", 2)]);
    fixture.write(vec![put("b", "")]);
    fixture.write(vec![delete_key("c")]);
    assert_eq!((fixture.keys_of(A), fixture.keys_of(B)), (vec![], vec!["a".to_string()]));
    fixture.write(vec![put_with("a", PutValue::Set("w".into()), PutLease::Keep)]);
    assert_eq!(fixture.keys_of(B), ["a"]);
    fixture.reload();
    assert_eq!((fixture.keys_of(A), fixture.keys_of(B)), (vec![], vec!["a".to_string()]));
}

#[test]
fn a_refused_transaction_attaches_nothing() {
    let mut fixture = Fixture::new();
    fixture.grant(1, 10).unwrap();
    assert!(fixture.run(vec![put_leased("a", 1), put_leased("b", 9)]).is_err());
    assert_eq!(fixture.keys_of(A), [] as [String; 0]);
}

#[test]
fn revoking_deletes_the_keys_sorted_in_one_revision() {
    let mut fixture = Fixture::new();
    fixture.grant(1, 10).unwrap();
    fixture.grant(2, 10).unwrap();
    fixture.write(vec![put_leased("b", 1), put_leased("other", 2), put_leased("a", 1), put("free", "")]);
    let revoked = fixture.command(Command::LeaseRevoke { id: A });
    assert_eq!(revoked, Ok(Outcome::LeaseRevoked { revision: Revision::new(3) }));
    let deleted = |sub, key: &str| (3, sub, EventKind::Delete, key.to_string());
    assert_eq!(fixture.event_list(), [deleted(0, "a"), deleted(1, "b")]);
    assert_eq!(fixture.leases().ids().unwrap(), [B]);
    let again = fixture.command(Command::LeaseRevoke { id: A });
    assert_eq!(again, Err(InvalidRequest::LeaseNotFound.into()));
    assert_eq!(fixture.run(vec![put_leased("a", 1)]).unwrap_err(), InvalidRequest::LeaseNotFound.into());

    fixture.grant(5, 10).unwrap();
    let empty = fixture.command(Command::LeaseRevoke { id: LeaseId::new(5) });
    assert_eq!(empty, Ok(Outcome::LeaseRevoked { revision: Revision::new(3) }), "no keys, no revision");
    fixture.reload();
    assert_eq!(fixture.leases().ids().unwrap(), [B]);
}

#[test]
fn time_is_the_clock_of_the_entries() {
    let mut fixture = Fixture::new();
    fixture.now_ms = 5_000;
    fixture.grant(1, 10).unwrap();
    assert_eq!((fixture.due(), fixture.remaining_s(A)), (vec![], 10));
    fixture.now_ms = 14_999;
    fixture.write(vec![put("tick", "")]);
    assert_eq!((fixture.due(), fixture.remaining_s(A)), (vec![], 0));
    fixture.now_ms = 3_000; // A new leader whose clock is behind: the state's clock stays.
    fixture.write(vec![put("tick", "")]);
    assert_eq!(fixture.machine.clock(), ClockMillis::new(14_999));
    fixture.now_ms = 15_000;
    fixture.write(vec![put("tick", "")]);
    assert_eq!(fixture.due(), [(A, 1)]);
    fixture.reload();
    assert_eq!((fixture.machine.clock(), fixture.due()), (ClockMillis::new(15_000), vec![(A, 1)]));
}

#[test]
fn expiry_ends_each_lease_in_a_revision_of_its_own() {
    let mut fixture = Fixture::new();
    fixture.grant(1, 10).unwrap();
    fixture.grant(2, 5).unwrap();
    fixture.write(vec![put_leased("b", 1), put_leased("a", 1), put_leased("c", 2)]);
    fixture.now_ms = 20_000;
    fixture.write(vec![put("tick", "")]);
    let due = fixture.due();
    assert_eq!(due, [(B, 2), (A, 1)], "the longest overdue first");
    assert_eq!(fixture.expire(due), 5);
    let deleted = |revision, sub, key: &str| (revision, sub, EventKind::Delete, key.to_string());
    assert_eq!(fixture.event_list(), [deleted(4, 0, "c"), deleted(5, 0, "a"), deleted(5, 1, "b")]);
    assert!(!fixture.machine.has_leases());
}

#[test]
fn a_lease_that_was_renewed_in_between_stays() {
    let mut fixture = Fixture::new();
    fixture.grant(1, 10).unwrap();
    fixture.grant(2, 10).unwrap();
    fixture.write(vec![put_leased("a", 1), put_leased("b", 2)]);
    fixture.now_ms = 12_000;
    let ids = vec![B, LeaseId::new(9), A];
    let renewed = fixture.command(Command::LeaseRenew { ids });
    let ttls_s = vec![Some(10), None, Some(10)];
    assert_eq!(renewed, Ok(Outcome::LeaseRenewed { ttls_s, revision: Revision::new(2) }));
    assert_eq!(fixture.expire(vec![(A, 1), (B, 2)]), 2, "what the leader saw before the renewal");
    assert_eq!(fixture.expire(vec![(A, 5)]), 2, "an epoch that never was");
    assert_eq!(fixture.keys_of(A), ["a"]);
    assert_eq!(fixture.remaining_s(A), 10);
    fixture.reload();
    fixture.now_ms = 22_999;
    fixture.write(vec![put("tick", "")]);
    assert_eq!(fixture.due(), [], "a renewal's slack of a tenth is not over");
    fixture.now_ms = 23_000;
    fixture.write(vec![put("tick", "")]);
    let due = fixture.due();
    assert_eq!(due, [(A, 4), (B, 4)], "the entry of the renewal names it");
    fixture.expire(due);
    assert!(!fixture.machine.has_leases());
}

#[test]
fn a_lease_granted_anew_is_not_the_one_that_expired() {
    let mut fixture = Fixture::new();
    fixture.grant(1, 1).unwrap();
    fixture.now_ms = 2_000;
    fixture.write(vec![put("tick", "")]);
    let due = fixture.due();
    fixture.command(Command::LeaseRevoke { id: A }).unwrap();
    fixture.grant(1, 1).unwrap();
    fixture.write(vec![put_leased("a", 1)]);
    assert_eq!(fixture.expire(due), 3);
    assert_eq!(fixture.keys_of(A), ["a"]);
}

#[test]
fn expired_leases_of_all_keyspaces_share_the_bound() {
    let mut fixture = Fixture::new();
    let grant = |keyspace, id| (keyspace, Command::LeaseGrant { id: LeaseId::new(id), ttl_s: 1 });
    let (first, second) = (KeyspaceId::DEFAULT, KeyspaceId::K8SD);
    let commands = vec![grant(first, 1), grant(first, 2), grant(second, 1), grant(second, 2)];
    fixture.machine.apply(&[entry(1, 0, commands)]).unwrap();
    let now = ClockMillis::new(1000);
    let found = |max| -> Vec<(KeyspaceId, usize)> {
        fixture.machine.expired(now, max).into_iter().map(|(id, due)| (id, due.len())).collect()
    };
    assert_eq!(found(10), [(first, 2), (second, 2)]);
    assert_eq!(found(3), [(first, 2), (second, 1)]);
    assert_eq!(found(1), [(first, 1)]);
    assert_eq!(found(0), []);
}

/// Ends the looking also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Who is told that a lease is gone reads what the end of it made, and who is told of a key on a lease can read that key,
/// however readers are served. Each round has a lease of its own, which gets a key in revision `2 * round` and ends in the
/// next one.
#[test]
fn a_lease_and_its_keys_come_and_go_together_for_readers() {
    for changes_in_place in [false, true] {
        let mut fixture = Fixture::new();
        let options = ApplyOptions { changes_in_place, ..ApplyOptions::default() };
        fixture.machine = StateMachine::load(fixture.engine.clone(), options).unwrap();
        let (leases, reader) = (fixture.leases(), fixture.machine.reader(KeyspaceId::DEFAULT).unwrap());
        // The last round whose lease has its key.
        let begun = AtomicI64::new(0);
        let is_over = AtomicBool::new(false);
        let look = |round: i64| {
            let revision = || reader.revision().get();
            let info = |round| leases.time_to_live(LeaseId::new(round), ClockMillis::new(0), true).unwrap();
            if round > 0 && info(round).is_none() {
                assert!(revision() > 2 * round, "lease {round} is gone, its key is not");
            }
            if info(round + 1).is_some_and(|info| !info.keys.is_empty()) {
                assert!(revision() >= 2 * (round + 1), "lease {} has a key that is not there", round + 1);
            }
        };
        const ROUNDS: i64 = 3_000;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    look(begun.load(Ordering::Relaxed));
                }
            });
            let _over = Over(&is_over);
            for round in 1..=ROUNDS {
                fixture.grant(round, 10).unwrap();
                assert_eq!(fixture.write(vec![put_leased("key", round)]), 2 * round);
                begun.store(round, Ordering::Relaxed);
                fixture.command(Command::LeaseRevoke { id: LeaseId::new(round) }).unwrap();
            }
        });
    }
}
