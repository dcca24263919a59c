//! What would fail when it is applied fails when it is rehearsed.

use super::engine::Failing;
use super::*;
use std::sync::atomic::Ordering;

fn machine() -> (Arc<Failing>, StateMachine) {
    let engine = Arc::new(Failing::default());
    let options = ApplyOptions { value_cache_bytes: 0, ..ApplyOptions::default() };
    let mut machine = StateMachine::load(engine.clone(), options).unwrap();
    let writes =
        [vec![put("a", "1")], vec![put("a", "2"), put("b", "3")], vec![put("d", "4")], vec![delete_key("d")]];
    for (place, operations) in writes.into_iter().enumerate() {
        let command = Command::Transaction(Transaction { success: operations, ..Transaction::default() });
        machine.apply(&[entry(place as u64 + 1, 0, vec![(KeyspaceId::DEFAULT, command)])]).unwrap();
    }
    (engine, machine)
}

fn is_value(key: &'static str, value: &'static str) -> Compare {
    compare(KeyRange::single(key), CompareTarget::Value(value.into()), CompareResult::Equal)
}

/// Each with whether it needs a value.
fn transactions() -> Vec<(Transaction, bool)> {
    let alone = |operation| Transaction { success: vec![operation], ..Transaction::default() };
    let branches = |compares, success, failure| Transaction { compares, success, failure };
    let keep = |key| put_with(key, PutValue::Keep, PutLease::Set(LeaseId::NONE));
    let keep_lease = put_with("a", PutValue::Set("x".into()), PutLease::Keep);
    let keys_only =
        RangeQuery { projection: crate::command::Projection::KeysOnly, ..RangeQuery::new(KeyRange::all()) };
    vec![
        (alone(put("a", "x")), false),
        (alone(with_previous(put("a", "x"))), true),
        (alone(with_previous(put("c", "x"))), false),
        (alone(with_previous(put("d", "x"))), false),
        (alone(keep("a")), true),
        // Refused for that.
        (alone(keep("c")), false),
        (alone(keep_lease), false),
        (alone(delete(KeyRange::all())), false),
        (alone(with_previous(delete(KeyRange::all()))), true),
        (alone(with_previous(delete_key("c"))), false),
        (alone(read(KeyRange::all())), true),
        (alone(read(KeyRange::single("c"))), false),
        (alone(Operation::Range(keys_only)), false),
        (alone(read_at(KeyRange::single("a"), 2)), true),
        (branches(vec![exists("a")], vec![put("a", "x")], vec![read(KeyRange::single("a"))]), false),
        (branches(vec![missing("a")], vec![put("a", "x")], vec![read(KeyRange::single("a"))]), true),
        (branches(vec![is_value("a", "2")], vec![], vec![]), true),
        // Its length says enough, as its absence does, and a compare before it that fails.
        (branches(vec![is_value("a", "long")], vec![], vec![]), false),
        (branches(vec![is_value("c", "2")], vec![], vec![]), false),
        (branches(vec![missing("a"), is_value("a", "2")], vec![], vec![]), false),
        (alone(nested(vec![missing("a")], vec![], vec![read(KeyRange::single("b"))])), true),
        (alone(nested(vec![missing("a")], vec![read(KeyRange::single("b"))], vec![])), false),
        (branches(vec![exists("a")], vec![], vec![nested(vec![is_value("a", "2")], vec![], vec![])]), false),
        (alone(nested(vec![], vec![with_previous(put("a", "x")), keep("b")], vec![])), true),
    ]
}

#[test]
fn a_rehearsal_fails_where_applying_would() {
    for (transaction, needs_value) in transactions() {
        let (engine, mut machine) = machine();
        engine.fails_reads.store(true, Ordering::SeqCst);
        let command = Command::Transaction(transaction.clone());
        let rehearsed = machine.rehearse(KeyspaceId::DEFAULT, &command);
        let applied = machine.apply(&[entry(5, 0, vec![(KeyspaceId::DEFAULT, command)])]);
        assert_eq!(rehearsed.is_err(), needs_value, "{transaction:?}: {rehearsed:?}");
        assert_eq!(applied.err(), rehearsed.err(), "{transaction:?}");
    }
}

#[test]
fn a_rehearsal_reads_no_more_than_applying_does_and_changes_nothing() {
    for (transaction, needs_value) in transactions() {
        let (engine, mut machine) = machine();
        let before = contents(&engine.engine);
        let reads = || engine.reads.swap(0, Ordering::SeqCst);
        reads();
        let command = Command::Transaction(transaction.clone());
        machine.rehearse(KeyspaceId::DEFAULT, &command).unwrap();
        let rehearsed = reads();
        assert_eq!(contents(&engine.engine), before);
        machine.apply(&[entry(5, 0, vec![(KeyspaceId::DEFAULT, command)])]).unwrap();
        let applied = reads();
        assert_eq!(rehearsed > 0, needs_value, "{transaction:?}");
        // A key that is kept, and wanted, is read for both; a rehearsal needs it once.
        assert!(rehearsed <= applied, "{transaction:?}: {rehearsed} reads, {applied} when it is applied");
    }
}

/// What an earlier command of the same batch brings about may make readable what is not there yet.
#[test]
fn a_revision_to_come_is_read_as_it_is_now() {
    let (engine, machine) = machine();
    let rehearse = |revision| {
        let operations = vec![read_at(KeyRange::single("a"), revision)];
        let transaction = Transaction { success: operations, ..Transaction::default() };
        machine.rehearse(KeyspaceId::DEFAULT, &Command::Transaction(transaction))
    };
    assert_eq!(rehearse(99), Ok(()));
    engine.fails_reads.store(true, Ordering::SeqCst);
    assert!(matches!(rehearse(99), Err(crate::types::Error::Unreadable(_))));
}
