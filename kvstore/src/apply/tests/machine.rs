//! Position, keyspaces, compaction, failures.

use super::engine::Failing;
use super::*;
use crate::command::{Alarm, AlarmKind};
use crate::mvcc::RemovalLimits;
use crate::storage;
use crate::types::Error;
use std::sync::atomic::Ordering;

fn write(key: &'static str) -> Command {
    Command::Transaction(Transaction { success: vec![put(key, "v")], ..Transaction::default() })
}

fn one(index: u64, key: &'static str) -> Committed {
    entry(index, index, vec![(KeyspaceId::DEFAULT, write(key))])
}

#[test]
fn outcomes_carry_the_names_of_their_requests() {
    let mut fixture = Fixture::new();
    let commands = vec![
        (KeyspaceId::DEFAULT, write("a")),
        (KeyspaceId::K8SD, Command::LeaseRevoke { id: LeaseId::new(1) }),
        (KeyspaceId::K8SD, write("b")),
    ];
    let applied = fixture.machine.apply(&[entry(1, 0, commands), one(2, "c")]).unwrap();
    let names: Vec<_> = applied
        .outcomes
        .iter()
        .map(|done| (done.proposer, done.request.get(), done.result.is_ok()))
        .collect();
    let expected = [(1000, true), (1001, false), (1002, true), (2000, true)];
    assert_eq!(names, expected.map(|(request, ok)| (PROPOSER, request, ok)));
}

#[test]
fn keyspaces_are_worlds_of_their_own() {
    let mut fixture = Fixture::new();
    let (first, second) = (KeyspaceId::DEFAULT, KeyspaceId::K8SD);
    let commands = vec![(first, write("a")), (second, write("a")), (first, write("b"))];
    let applied = fixture.machine.apply(&[entry(1, 0, commands)]).unwrap();
    let brought: Vec<_> =
        applied.events.iter().map(|(id, events, revision)| (*id, events.len(), revision.get())).collect();
    assert_eq!(brought, [(first, 2, 3), (second, 1, 2)]);
    let compact = Command::Compact { revision: Revision::new(2) };
    let applied = fixture.machine.apply(&[entry(2, 0, vec![(second, compact)])]).unwrap();
    assert_eq!(applied.floors, [(second, Revision::new(2))]);
    assert!(applied.events.is_empty());
    for _ in 0..2 {
        let reader = |fixture: &mut Fixture, id| fixture.machine.reader(id).unwrap();
        assert_eq!(reader(&mut fixture, first).revision(), Revision::new(3));
        assert_eq!(reader(&mut fixture, second).revision(), Revision::new(2));
        assert_eq!(reader(&mut fixture, first).floor(), Revision::NONE);
        assert_eq!(reader(&mut fixture, second).floor(), Revision::new(2));
        assert_eq!(reader(&mut fixture, KeyspaceId::new(9)).revision(), Revision::FIRST);
        fixture.reload();
    }
}

#[test]
fn what_was_applied_is_skipped_and_raft_entries_move_the_position() {
    let mut fixture = Fixture::new();
    let empty = |index| Committed { index: LogIndex::new(index), term: Term::new(3), batch: None };
    fixture.machine.apply(&[one(1, "a"), empty(2)]).unwrap();
    assert_eq!(fixture.machine.applied(), (LogIndex::new(2), Term::new(3)));
    let data = contents(&*fixture.engine);
    let applied = fixture.machine.apply(&[one(1, "a"), empty(2)]).unwrap();
    assert!(applied.outcomes.is_empty() && applied.events.is_empty());
    assert_eq!(contents(&*fixture.engine), data);
    let later = Committed { term: Term::new(3), ..one(3, "b") };
    let applied = fixture.machine.apply(&[one(1, "a"), empty(2), later]).unwrap();
    assert_eq!(applied.outcomes.len(), 1);
    fixture.reload();
    assert_eq!(fixture.machine.applied(), (LogIndex::new(3), Term::new(3)));
    assert!(fixture.machine.apply(&[]).unwrap().outcomes.is_empty());
}

#[test]
#[should_panic(expected = "without gaps")]
fn a_gap_is_a_broken_invariant() {
    let mut fixture = Fixture::new();
    let _ = fixture.machine.apply(&[one(1, "a"), one(3, "c")]);
}

#[test]
fn compaction_follows_the_rules_and_is_removed_in_the_background() {
    let mut fixture = Fixture::new();
    for _ in 0..5 {
        fixture.write(vec![put("a", "v")]); // 2 to 6
    }
    fixture.write(vec![delete_key("a")]); // 7
    fixture.write(vec![put("b", "v")]); // 8
    let live_bytes = fixture.machine.live_bytes();
    assert_eq!(fixture.compact(9), Err(Error::FutureRevision { current: Revision::new(8) }));
    assert_eq!(fixture.compact(8), Ok(Outcome::Compacted { revision: Revision::new(8) }));
    let floor = Revision::new(8);
    assert_eq!(fixture.compact(8), Err(Error::Compacted { floor }));
    assert_eq!(fixture.compact(3), Err(Error::Compacted { floor }));
    assert_eq!(fixture.machine.reader(KeyspaceId::DEFAULT).unwrap().floor(), floor);
    let mut steps = 0;
    while let Some((keyspace, scan)) = fixture.machine.next_removal() {
        let limits = RemovalLimits { max_records: 2, ..RemovalLimits::default() };
        fixture.machine.apply_removal(keyspace, scan.run(limits).unwrap()).unwrap();
        steps += 1;
    }
    assert!(steps > 1, "in steps");
    assert_eq!(fixture.machine.removed_up_to(KeyspaceId::DEFAULT), floor);
    assert!(fixture.machine.live_bytes() < live_bytes / 4);
    fixture.reload();
    assert!(fixture.machine.next_removal().is_none());
    assert_eq!(fixture.published(), [row("b", "v", (8, 8, 1, 0))]);
}

#[test]
fn a_failing_engine_ends_the_machine_and_nothing_is_published() {
    let engine = Arc::new(Failing::default());
    let mut machine = StateMachine::load(engine.clone(), ApplyOptions::default()).unwrap();
    machine.apply(&[one(1, "a")]).unwrap();
    let reader = machine.reader(KeyspaceId::DEFAULT).unwrap();
    engine.fails_writes.store(true, Ordering::SeqCst);
    assert!(matches!(machine.apply(&[one(2, "b")]), Err(Error::Poisoned(_))));
    engine.fails_writes.store(false, Ordering::SeqCst);
    assert!(matches!(machine.apply(&[one(2, "b")]), Err(Error::Poisoned(_))), "no second try");
    assert_eq!(reader.revision(), Revision::new(2));
    let mut machine = StateMachine::load(engine, ApplyOptions::default()).unwrap();
    assert_eq!(machine.applied().0, LogIndex::new(1));
    machine.apply(&[one(2, "b")]).unwrap();
    assert_eq!(machine.reader(KeyspaceId::DEFAULT).unwrap().revision(), Revision::new(3));
}

fn write_meta(engine: &SimEngine, key: &[u8], value: &[u8]) {
    let mut batch = storage::Batch::default();
    batch.put(Family::Meta, key.to_vec(), value.to_vec());
    engine.write(batch).unwrap();
}

#[test]
fn a_state_of_a_newer_format_or_a_damaged_one_is_refused() {
    let refusal = |key: &[u8], value: &[u8]| {
        let mut fixture = Fixture::new();
        fixture.grant(1, 10).unwrap();
        let alarm = Alarm { member: 1, kind: AlarmKind::Corrupt };
        fixture.command(Command::AlarmActivate(alarm)).unwrap();
        write_meta(&fixture.engine, key, value);
        match StateMachine::load(fixture.engine.clone(), ApplyOptions::default()) {
            Err(Error::Poisoned(reason)) => reason,
            Err(other) => panic!("another error: {other}"),
            Ok(_) => panic!("{key:?} = {value:?} was accepted"),
        }
    };
    assert!(refusal(&[0x01], &[0, 0, 0, 2]).contains("newer version (format 2"));
    assert!(refusal(&[0x01], b"?").contains("format"));
    assert!(refusal(&[0x02], b"short").contains("applied index"));
    assert!(refusal(&[0x20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1], b"short").contains("lease"));
    assert!(refusal(&[0x20, 0, 0, 0, 1, 9], b"").contains("lease"));
    assert!(refusal(&[0x30], b"short").contains("alarms"));
    assert!(refusal(&[0x30], &[0, 0, 0, 0, 0, 0, 0, 0, 7]).contains("alarms"));
}

#[test]
fn a_key_on_a_lease_that_is_not_stored_is_refused() {
    let mut fixture = Fixture::new();
    fixture.grant(1, 10).unwrap();
    fixture.write(vec![put_leased("a", 1)]);
    let mut batch = storage::Batch::default();
    batch.delete(Family::Meta, vec![0x20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
    fixture.engine.write(batch).unwrap();
    let Err(Error::Poisoned(reason)) = StateMachine::load(fixture.engine, ApplyOptions::default()) else {
        panic!("it must be refused");
    };
    assert!(reason.contains("\"a\"") && reason.contains("lease 1"), "{reason}");
}
