//! What alarms refuse and let pass.

use super::*;
use crate::command::{Alarm, AlarmKind};
use crate::types::Error;

const NO_SPACE: Alarm = Alarm { member: 3, kind: AlarmKind::NoSpace };
const CORRUPT: Alarm = Alarm { member: 4, kind: AlarmKind::Corrupt };

fn prepared(alarms: &[Alarm]) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.write(vec![put("a", "1"), put("b", "2")]);
    fixture.write(vec![put("a", "2")]);
    fixture.grant(1, 10).unwrap();
    fixture.grant(2, 10).unwrap();
    for alarm in alarms {
        fixture.command(Command::AlarmActivate(*alarm)).unwrap();
    }
    fixture
}

fn transaction(success: Vec<Operation>, failure: Vec<Operation>) -> Command {
    Command::Transaction(Transaction { compares: vec![], success, failure })
}

fn storing() -> Vec<Command> {
    vec![
        transaction(vec![put("c", "")], vec![]),
        transaction(vec![], vec![put("c", "")]),
        transaction(vec![delete_key("a"), nested(vec![exists("no")], vec![put("c", "")], vec![])], vec![]),
        Command::LeaseGrant { id: LeaseId::new(9), ttl_s: 10 },
    ]
}

fn freeing() -> Vec<Command> {
    vec![
        transaction(vec![delete_key("a"), read(KeyRange::all())], vec![]),
        transaction(vec![nested(vec![], vec![delete_key("b")], vec![])], vec![]),
        Command::Compact { revision: Revision::new(2) },
        Command::LeaseRevoke { id: LeaseId::new(1) },
        Command::LeaseExpire { leases: vec![(LeaseId::new(2), 4)] },
    ]
}

#[test]
fn alarms_are_told_kept_and_cleared() {
    let mut fixture = prepared(&[]);
    let revision = Revision::new(3);
    let told = |alarms: &[Alarm]| Ok(Outcome::Alarms { alarms: alarms.to_vec(), revision });
    assert_eq!(fixture.command(Command::AlarmActivate(CORRUPT)), told(&[CORRUPT]));
    assert_eq!(fixture.command(Command::AlarmActivate(NO_SPACE)), told(&[NO_SPACE, CORRUPT]));
    assert_eq!(fixture.command(Command::AlarmActivate(NO_SPACE)), told(&[NO_SPACE, CORRUPT]));
    fixture.reload();
    assert_eq!(fixture.machine.alarms().iter().copied().collect::<Vec<_>>(), [NO_SPACE, CORRUPT]);
    let another = Alarm { member: 9, ..CORRUPT };
    assert_eq!(fixture.command(Command::AlarmDeactivate(another)), told(&[NO_SPACE, CORRUPT]));
    assert_eq!(fixture.command(Command::AlarmDeactivate(CORRUPT)), told(&[NO_SPACE]));
    assert_eq!(fixture.command(Command::AlarmDeactivate(NO_SPACE)), told(&[]));
    fixture.reload();
    assert!(fixture.machine.alarms().is_empty());
    assert!(fixture.run(vec![put("c", "")]).is_ok());
}

#[test]
fn out_of_space_refuses_what_may_store_something() {
    let mut fixture = prepared(&[NO_SPACE]);
    let data = fixture.data();
    for command in storing() {
        let refused = fixture.command(command.clone());
        assert!(matches!(refused, Err(Error::NoSpace(_))), "{command:?}: {refused:?}");
    }
    assert_eq!(fixture.data(), data);
    for command in freeing() {
        let outcome = fixture.command(command.clone());
        assert!(outcome.is_ok(), "{command:?}: {outcome:?}");
    }
    assert_eq!(fixture.published(), []);
    assert!(!fixture.machine.has_leases());
}

#[test]
fn a_corrupt_member_stops_every_change_of_data() {
    for alarms in [&[CORRUPT][..], &[NO_SPACE, CORRUPT]] {
        let mut fixture = prepared(alarms);
        let data = fixture.data();
        for command in storing().into_iter().chain(freeing()) {
            assert_eq!(fixture.command(command.clone()), Err(Error::CorruptAlarm), "{command:?}");
        }
        assert_eq!(fixture.data(), data);
    }
}

#[test]
fn leases_can_be_kept_alive_under_every_alarm() {
    let mut fixture = prepared(&[NO_SPACE, CORRUPT]);
    let renewed = fixture.command(Command::LeaseRenew { ids: vec![LeaseId::new(1)] });
    assert_eq!(renewed, Ok(Outcome::LeaseRenewed { ttls_s: vec![Some(10)], revision: Revision::new(3) }));
}

#[test]
fn an_alarm_holds_from_its_place_in_the_batch_on() {
    let mut fixture = prepared(&[]);
    let write = || transaction(vec![put("c", "")], vec![]);
    let results = fixture.batch(vec![
        write(),
        Command::AlarmActivate(NO_SPACE),
        write(),
        Command::AlarmDeactivate(NO_SPACE),
        write(),
    ]);
    let verdicts: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(verdicts, [true, true, false, true, true]);
}
