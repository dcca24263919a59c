//! Revisions, compares, refusals, execution.

use super::*;
use crate::types::{Error, InvalidRequest};
use CompareResult::{Equal, Greater, Less, NotEqual};

#[test]
fn versions_follow_the_life_of_a_key() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.revision(), 1);
    assert_eq!(fixture.write(vec![put("a", "1")]), 2);
    assert_eq!(fixture.write(vec![put("a", "2")]), 3);
    assert_eq!(fixture.published(), [row("a", "2", (2, 3, 2, 0))]);
    assert_eq!(fixture.write(vec![delete_key("a")]), 4);
    assert_eq!(fixture.published(), []);
    assert_eq!(fixture.write(vec![put("a", "3")]), 5);
    assert_eq!(fixture.published(), [row("a", "3", (5, 5, 1, 0))]);
}

#[test]
fn a_transaction_takes_one_revision_and_positions_in_its_order() {
    let mut fixture = Fixture::new();
    fixture.write(vec![put("x1", ""), put("x2", "")]);
    let revision = fixture.write(vec![
        put("b", "1"),
        delete(KeyRange::prefix("x")),
        nested(vec![], vec![put("a", "1")], vec![]),
        put("c", "1"),
    ]);
    assert_eq!(revision, 3);
    let keys = ["b", "x1", "x2", "a", "c"];
    let kinds = [EventKind::Put, EventKind::Delete, EventKind::Delete, EventKind::Put, EventKind::Put];
    let expected: Vec<_> =
        (0..5).map(|place| (3, place as u32, kinds[place], keys[place].to_string())).collect();
    assert_eq!(fixture.event_list(), expected);
}

#[test]
fn what_changes_nothing_takes_no_revision() {
    let mut fixture = Fixture::new();
    fixture.write(vec![put("a", "1")]);
    let data = fixture.data();
    for operations in [
        vec![],
        vec![read(KeyRange::all())],
        vec![delete_key("nothing"), delete(KeyRange::prefix("no"))],
        vec![nested(vec![missing("a")], vec![put("b", "1")], vec![delete_key("c")])],
    ] {
        assert_eq!(fixture.write(operations), 2);
        assert_eq!(fixture.event_list(), []);
    }
    assert_eq!(fixture.data(), data);
    assert_eq!(fixture.revision(), 2);
}

#[test]
fn every_target_and_relation_compares() {
    let mut fixture = Fixture::new();
    fixture.grant(7, 100).unwrap();
    fixture.write(vec![put("a", "mm")]); // 2
    fixture.write(vec![put("other", "")]); // 3
    fixture.write(vec![put_with("a", PutValue::Keep, PutLease::Set(LeaseId::new(7)))]); // 4
    let revision = Revision::new;
    let number: [(&dyn Fn(i64) -> CompareTarget, i64); 4] = [
        (&CompareTarget::Version, 2),
        (&|n| CompareTarget::CreateRevision(revision(n)), 2),
        (&|n| CompareTarget::ModRevision(revision(n)), 4),
        (&|n| CompareTarget::Lease(LeaseId::new(n)), 7),
    ];
    let mut targets = Vec::new();
    for (target, stored) in number {
        targets.push((target(stored), [true, false, false, false]));
        targets.push((target(stored - 1), [false, true, true, false]));
        targets.push((target(stored + 1), [false, true, false, true]));
    }
    let value = |value: &'static str| CompareTarget::Value(value.into());
    targets.push((value("mm"), [true, false, false, false]));
    for (smaller, larger) in [("ma", "mz"), ("m", "mmm"), ("", "n"), ("lzz", "mn")] {
        targets.push((value(smaller), [false, true, true, false]));
        targets.push((value(larger), [false, true, false, true]));
    }
    for (target, expected) in targets {
        for (result, expected) in [Equal, NotEqual, Greater, Less].into_iter().zip(expected) {
            let one = compare(KeyRange::single("a"), target.clone(), result);
            assert_eq!(fixture.holds(vec![one]), expected, "stored {result:?} {target:?}");
        }
    }
}

#[test]
fn a_missing_key_is_all_zeros_and_has_no_value() {
    let mut fixture = Fixture::new();
    fixture.write(vec![put("gone", "v"), put("zz", "v")]);
    fixture.write(vec![delete_key("gone")]);
    let revision = Revision::new;
    let places = [
        KeyRange::single("never"),
        KeyRange::single("gone"),
        KeyRange::prefix("g"),
        KeyRange::span("b", "a"),
    ];
    for place in places {
        let mut holds = |target, result| fixture.holds(vec![compare(place.clone(), target, result)]);
        assert!(holds(CompareTarget::Version(0), Equal));
        assert!(holds(CompareTarget::Version(-1), Greater));
        assert!(!holds(CompareTarget::Version(0), NotEqual));
        assert!(holds(CompareTarget::CreateRevision(revision(0)), Equal));
        assert!(holds(CompareTarget::ModRevision(revision(1)), Less));
        assert!(holds(CompareTarget::Lease(LeaseId::NONE), Equal));
        assert!(!holds(CompareTarget::Lease(LeaseId::new(1)), Equal));
        for result in [Equal, NotEqual, Greater, Less] {
            for value in ["", "v"] {
                assert!(!holds(CompareTarget::Value(value.into()), result), "{result:?} {value:?}");
            }
        }
    }
}

#[test]
fn a_compare_of_an_interval_must_hold_for_every_key() {
    let mut fixture = Fixture::new();
    fixture.write(vec![put("a", "x"), put("b", "x"), put("c", "y"), put("d", "x")]);
    fixture.write(vec![delete_key("c"), put("b", "x")]);
    let mut holds = |range, target, result| fixture.holds(vec![compare(range, target, result)]);
    let value = |value: &'static str| CompareTarget::Value(value.into());
    assert!(holds(KeyRange::all(), value("x"), Equal), "the deleted key does not count");
    assert!(!holds(KeyRange::all(), value("x"), NotEqual));
    assert!(holds(KeyRange::from("b"), value("w"), Greater));
    assert!(!holds(KeyRange::all(), CompareTarget::Version(1), Equal), "one has version 2");
    assert!(holds(KeyRange::span("c", "z"), CompareTarget::Version(1), Equal));
    assert!(holds(KeyRange::all(), CompareTarget::Version(0), Greater));
}

#[test]
fn all_compares_must_hold_and_none_is_success() {
    let mut fixture = Fixture::new();
    fixture.write(vec![put("a", "")]);
    assert!(fixture.holds(vec![]));
    assert!(fixture.holds(vec![exists("a"), missing("b")]));
    assert!(!fixture.holds(vec![exists("a"), exists("b")]));
    let outcome = fixture
        .transact(Transaction {
            compares: vec![exists("b")],
            success: vec![put("s", "")],
            failure: vec![put("f", ""), read(KeyRange::single("a"))],
        })
        .unwrap();
    assert!(!outcome.succeeded);
    assert_eq!(outcome.results.len(), 2);
    assert_eq!(fixture.published().iter().map(|row| &row.0[..]).collect::<Vec<_>>(), ["a", "f"]);
}

#[test]
fn nested_compares_see_the_state_before_the_transaction() {
    let mut fixture = Fixture::new();
    let outcome = fixture
        .run(vec![
            put("a", "1"),
            nested(
                vec![missing("a")],
                vec![put("then", ""), nested(vec![exists("then")], vec![], vec![put("deep", "")])],
                vec![put("else", "")],
            ),
        ])
        .unwrap();
    let OperationOutcome::Transaction(inner) = &outcome.results[1] else { panic!("a transaction") };
    assert!(inner.succeeded);
    let OperationOutcome::Transaction(innermost) = &inner.results[1] else { panic!("a transaction") };
    assert!(!innermost.succeeded);
    assert_eq!(fixture.published().iter().map(|row| &row.0[..]).collect::<Vec<_>>(), ["a", "deep", "then"]);
}

#[test]
fn ranges_inside_see_earlier_writes() {
    let mut fixture = Fixture::new();
    fixture.write(vec![put("a", "old"), put("b", "b")]);
    let all = KeyRange::all;
    let outcome = fixture
        .run(vec![
            read(all()),
            put("a", "new"),
            put("c", "c"),
            delete_key("b"),
            read(all()),
            read_at(all(), 2),
            nested(vec![], vec![read(all())], vec![]),
        ])
        .unwrap();
    let result = |place: usize| match &outcome.results[place] {
        OperationOutcome::Range(result) => rows(result),
        OperationOutcome::Transaction(inner) => match &inner.results[0] {
            OperationOutcome::Range(result) => rows(result),
            other => panic!("a range, not {other:?}"),
        },
        other => panic!("a range, not {other:?}"),
    };
    let before = [row("a", "old", (2, 2, 1, 0)), row("b", "b", (2, 2, 1, 0))];
    let after = [row("a", "new", (2, 3, 2, 0)), row("c", "c", (3, 3, 1, 0))];
    assert_eq!(result(0), before);
    assert_eq!(result(4), after);
    assert_eq!(result(5), before, "a read in the past does not see them");
    assert_eq!(result(6), after);
}

#[test]
fn previous_versions_come_on_demand() {
    let mut fixture = Fixture::new();
    fixture.write(vec![put("a", "1"), put("b", "2")]);
    let outcome = fixture
        .run(vec![
            with_previous(put("a", "3")),
            with_previous(put("new", "")),
            put("b", "4"),
            with_previous(delete(KeyRange::span("a", "c"))),
            delete(KeyRange::single("new")),
        ])
        .unwrap();
    let previous = |place: usize| match &outcome.results[place] {
        OperationOutcome::Put { previous } => previous.clone().into_iter().collect::<Vec<_>>(),
        OperationOutcome::Delete { previous, .. } => previous.clone(),
        other => panic!("a write, not {other:?}"),
    };
    let rows = |place| rows(&RangeResult { kvs: previous(place), ..RangeResult::default() });
    assert_eq!(rows(0), [row("a", "1", (2, 2, 1, 0))]);
    assert_eq!(rows(1), []);
    assert_eq!(rows(2), []);
    assert_eq!(rows(3), [row("a", "3", (2, 3, 2, 0)), row("b", "4", (2, 3, 2, 0))]);
    assert_eq!(outcome.results[4], OperationOutcome::Delete { deleted: 1, previous: vec![] });
    let outcome = fixture.run(vec![with_previous(put("a", "again"))]).unwrap();
    assert_eq!(outcome.results, [OperationOutcome::Put { previous: None }], "a deleted key has none");
}

#[test]
fn revisions_inside_tell_whether_something_has_changed_yet() {
    let mut fixture = Fixture::new();
    let outcome = fixture
        .run(vec![
            nested(vec![], vec![read(KeyRange::all())], vec![]),
            nested(vec![], vec![put("a", "")], vec![]),
            nested(vec![], vec![], vec![]),
        ])
        .unwrap();
    let revision = |place: usize| match &outcome.results[place] {
        OperationOutcome::Transaction(inner) => inner.revision.get(),
        other => panic!("a transaction, not {other:?}"),
    };
    assert_eq!([revision(0), revision(1), revision(2)], [1, 2, 2]);
    assert_eq!(outcome.revision.get(), 2);
}

/// Runs operations that must be refused, behind and in front of writes, and shows that nothing happened.
fn assert_refused(fixture: &mut Fixture, bad: Operation, expected: &Error) {
    let (data, published, revision) = (fixture.data(), fixture.published(), fixture.revision());
    let variants = [
        vec![bad.clone()],
        vec![put("w1", ""), bad.clone(), put("w2", "")],
        vec![delete_key("a"), nested(vec![exists("a")], vec![put("w1", ""), bad.clone()], vec![])],
    ];
    for operations in variants {
        assert_eq!(fixture.run(operations.clone()).as_ref(), Err(expected), "{operations:?}");
        let as_failure =
            Transaction { compares: vec![missing("a")], failure: operations, ..Transaction::default() };
        assert_eq!(fixture.transact(as_failure).as_ref(), Err(expected));
    }
    assert_eq!((fixture.data(), fixture.published(), fixture.revision()), (data, published, revision));
    // In a branch that is not taken it does not matter.
    let not_taken = nested(vec![missing("a")], vec![bad.clone()], vec![]);
    fixture.run(vec![not_taken]).unwrap();
    fixture.transact(Transaction { failure: vec![bad], ..Transaction::default() }).unwrap();
}

#[test]
fn a_refusal_refuses_the_whole_transaction() {
    let mut fixture = Fixture::new();
    for value in ["1", "2", "3"] {
        fixture.write(vec![put("a", value)]);
    }
    fixture.write(vec![put("gone", ""), put("b", "")]);
    fixture.write(vec![delete_key("gone")]);
    fixture.compact(4).unwrap();
    let no_lease: Error = InvalidRequest::LeaseNotFound.into();
    let no_key: Error = InvalidRequest::KeyNotFound.into();
    let set = || PutValue::Set("".into());
    assert_refused(&mut fixture, put_leased("k", 99), &no_lease);
    for key in ["never", "gone"] {
        let detach = PutLease::Set(LeaseId::NONE);
        assert_refused(&mut fixture, put_with(key, PutValue::Keep, detach), &no_key);
        assert_refused(&mut fixture, put_with(key, set(), PutLease::Keep), &no_key);
        assert_refused(&mut fixture, put_with(key, PutValue::Keep, PutLease::Keep), &no_key);
    }
    let unknown_lease = PutLease::Set(LeaseId::new(99));
    assert_refused(&mut fixture, put_with("never", PutValue::Keep, unknown_lease), &no_lease);
    let future = Error::FutureRevision { current: Revision::new(6) };
    assert_refused(&mut fixture, read_at(KeyRange::all(), 7), &future);
    let compacted = Error::Compacted { floor: Revision::new(4) };
    assert_refused(&mut fixture, read_at(KeyRange::all(), 3), &compacted);
    assert!(fixture.run(vec![read_at(KeyRange::all(), 4)]).is_ok(), "the floor is readable");
    assert!(fixture.run(vec![put("w", ""), read_at(KeyRange::all(), 6)]).is_ok());
}

#[test]
fn the_first_bad_operation_names_the_reason() {
    let mut fixture = Fixture::new();
    let future = || read_at(KeyRange::all(), 100);
    let reason = |result: Result<TransactionOutcome>| result.unwrap_err();
    assert_eq!(reason(fixture.run(vec![put_leased("k", 9), future()])), InvalidRequest::LeaseNotFound.into());
    let first = reason(fixture.run(vec![future(), put_leased("k", 9)]));
    assert_eq!(first, Error::FutureRevision { current: Revision::FIRST });
}

#[test]
fn keeping_takes_what_is_there() {
    let mut fixture = Fixture::new();
    fixture.grant(1, 100).unwrap();
    fixture.grant(2, 100).unwrap();
    fixture.write(vec![put_leased("a", 1)]);
    fixture.write(vec![put_with("a", PutValue::Keep, PutLease::Set(LeaseId::new(2)))]);
    assert_eq!(fixture.published(), [row("a", "v", (2, 3, 2, 2))]);
    fixture.write(vec![put_with("a", PutValue::Set("w".into()), PutLease::Keep)]);
    assert_eq!(fixture.published(), [row("a", "w", (2, 4, 3, 2))]);
    fixture.write(vec![put_with("a", PutValue::Keep, PutLease::Keep)]);
    assert_eq!(fixture.published(), [row("a", "w", (2, 5, 4, 2))]);
    fixture.write(vec![put_with("a", PutValue::Keep, PutLease::Set(LeaseId::NONE))]);
    assert_eq!(fixture.published(), [row("a", "w", (2, 6, 5, 0))]);
    let outcome = fixture
        .run(vec![
            put_with("a", PutValue::Keep, PutLease::Keep),
            put("b", "b"),
            nested(vec![], vec![put_with("a", PutValue::Keep, PutLease::Keep)], vec![]),
        ])
        .unwrap();
    assert_eq!(outcome.revision.get(), 7);
    assert_eq!(fixture.published()[0], row("a", "w", (2, 7, 7, 0)));
}

/// Static checks let these pass, as etcd does. The order decides.
#[test]
fn one_key_may_change_twice_in_a_transaction() {
    let mut fixture = Fixture::new();
    let once = |operation| nested(vec![], vec![operation], vec![]);
    fixture.write(vec![once(put("a", "1")), once(delete_key("a"))]);
    let changes = |kinds: [EventKind; 2]| [(2, 0, kinds[0], "a".into()), (2, 1, kinds[1], "a".into())];
    assert_eq!(fixture.event_list(), changes([EventKind::Put, EventKind::Delete]));
    assert_eq!(fixture.published(), []);

    fixture.write(vec![put("b", "old")]);
    let outcome = fixture.run(vec![delete(KeyRange::from("a")), put("b", "new")]).unwrap();
    assert_eq!(outcome.results[0], OperationOutcome::Delete { deleted: 1, previous: vec![] });
    assert_eq!(fixture.published(), [row("b", "new", (4, 4, 1, 0))]);

    // etcd 3.7.3 crashes here. What is kept is what was there before the transaction.
    fixture.write(vec![delete(KeyRange::from("a")), put_with("b", PutValue::Keep, PutLease::Keep)]);
    assert_eq!(fixture.published(), [row("b", "new", (5, 5, 1, 0))]);
    fixture.reload();
    assert_eq!(fixture.published(), [row("b", "new", (5, 5, 1, 0))]);
}

#[test]
fn a_refused_command_does_not_touch_its_neighbours() {
    let mut fixture = Fixture::new();
    let transaction =
        |operations| Command::Transaction(Transaction { success: operations, ..Transaction::default() });
    let results = fixture.batch(vec![
        transaction(vec![put("a", "1")]),
        transaction(vec![put("x", ""), put_leased("y", 5)]),
        Command::LeaseRevoke { id: LeaseId::new(4) },
        Command::Compact { revision: Revision::new(100) },
        transaction(vec![put("a", "2")]),
        Command::LeaseGrant { id: LeaseId::new(5), ttl_s: 10 },
        transaction(vec![put_leased("y", 5)]),
    ]);
    let verdicts: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(verdicts, [true, false, false, false, true, true, true]);
    assert_eq!(fixture.published(), [row("a", "2", (2, 3, 2, 0)), row("y", "v", (4, 4, 1, 5))]);
}
