//! The same entries make the same state, however they are cut and whatever happens in between.

use super::*;
use crate::command::{Alarm, AlarmKind, decode_batch, encode_batch};
use crate::mvcc::RemovalLimits;
use proptest::prelude::*;

/// Few keys, so that they meet.
fn key() -> impl Strategy<Value = Bytes> {
    (0u8..8).prop_map(|number| Bytes::from(vec![b'a' + number]))
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        4 => key().prop_map(KeyRange::single),
        1 => (key(), key()).prop_map(|(start, end)| KeyRange::span(start, end)),
        1 => key().prop_map(KeyRange::from),
    ]
}

fn lease() -> impl Strategy<Value = LeaseId> {
    (1i64..4).prop_map(LeaseId::new)
}

fn compare_any() -> impl Strategy<Value = Compare> {
    let target = prop_oneof![
        (0i64..3).prop_map(CompareTarget::Version),
        (0i64..9).prop_map(|revision| CompareTarget::ModRevision(Revision::new(revision))),
        prop_oneof![Just("x"), Just("yy")].prop_map(|value| CompareTarget::Value(value.into())),
        lease().prop_map(CompareTarget::Lease),
    ];
    let result =
        prop_oneof![Just(CompareResult::Equal), Just(CompareResult::NotEqual), Just(CompareResult::Less)];
    (range(), target, result).prop_map(|(range, target, result)| Compare { range, target, result })
}

fn operation() -> impl Strategy<Value = Operation> {
    let value = prop_oneof![
        6 => prop_oneof![Just("x"), Just("yy")].prop_map(|value| PutValue::Set(value.into())),
        1 => Just(PutValue::Keep),

    ];
    let put_lease = prop_oneof![
        8 => Just(PutLease::Set(LeaseId::NONE)),
        3 => lease().prop_map(PutLease::Set),
        1 => Just(PutLease::Keep),
    ];
    let at = prop_oneof![3 => Just(ReadAt::Latest), 1 => (1i64..12).prop_map(|at| ReadAt::Revision(Revision::new(at)))];
    let leaf = prop_oneof![
        5 => (key(), value, put_lease).prop_map(|(key, value, lease)| {
            Operation::Put(Put { key, value, lease, want_previous: true })
        }),
        2 => range().prop_map(|range| Operation::Delete(DeleteRange { range, want_previous: true })),
        1 => (range(), at).prop_map(|(range, at)| Operation::Range(RangeQuery { at, ..RangeQuery::new(range) })),
    ];
    leaf.prop_recursive(2, 6, 2, |inner| transaction_of(inner.boxed()).prop_map(Operation::Transaction))
}

fn transaction_of(operation: BoxedStrategy<Operation>) -> impl Strategy<Value = Transaction> {
    let branch = prop::collection::vec(operation, 1..4);
    (prop::collection::vec(compare_any(), 0..2), branch.clone(), branch)
        .prop_map(|(compares, success, failure)| Transaction { compares, success, failure })
}

/// Mostly writes that succeed: the rest must meet something.
fn command() -> impl Strategy<Value = Command> {
    let alarm = Alarm { member: 1, kind: AlarmKind::NoSpace };
    let plain_put = (key(), any::<bool>()).prop_map(|(key, long)| {
        let value = PutValue::Set(if long { "yy" } else { "x" }.into());
        let put = Put { key, value, lease: PutLease::Set(LeaseId::NONE), want_previous: false };
        Transaction { success: vec![Operation::Put(put)], ..Transaction::default() }
    });
    prop_oneof![
        30 => plain_put.prop_map(Command::Transaction),
        40 => transaction_of(operation().boxed()).prop_map(Command::Transaction),
        4 => (1i64..20).prop_map(|revision| Command::Compact { revision: Revision::new(revision) }),
        9 => (lease(), 1i64..5).prop_map(|(id, ttl_s)| Command::LeaseGrant { id, ttl_s }),
        2 => lease().prop_map(|id| Command::LeaseRevoke { id }),
        3 => prop::collection::vec(lease(), 0..3).prop_map(|ids| Command::LeaseRenew { ids }),
        4 => prop::collection::vec((lease(), 1u64..12), 1..4).prop_map(|leases| Command::LeaseExpire { leases }),
        1 => Just(Command::AlarmActivate(alarm)),
        4 => Just(Command::AlarmDeactivate(alarm)),
    ]
}

fn log() -> impl Strategy<Value = Vec<Committed>> {
    let keyspace = prop_oneof![3 => Just(KeyspaceId::DEFAULT), 1 => Just(KeyspaceId::K8SD)];
    let commands = prop::collection::vec((keyspace, command()), 0..6);
    prop::collection::vec((commands, 0u64..3000), 1..25).prop_map(|entries| {
        let entries = entries.into_iter().enumerate();
        entries.map(|(place, (commands, now_ms))| entry(place as u64 + 1, now_ms, commands)).collect()
    })
}

/// Applies `log` in pieces of these sizes, again and again; gives engine, machine and what was told.
fn apply_in_pieces(
    log: &[Committed],
    sizes: &[usize],
) -> (Arc<SimEngine>, StateMachine, Vec<Completed>, Vec<String>) {
    let engine = Arc::new(SimEngine::new());
    let mut machine = load(&engine);
    let (mut outcomes, mut events) = (Vec::new(), Vec::new());
    let mut rest = log;
    for size in sizes.iter().cycle() {
        let (piece, behind) = rest.split_at((*size).clamp(1, rest.len()));
        let applied = machine.apply(piece).unwrap();
        outcomes.extend(applied.outcomes);
        events.extend(described(&applied.events));
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    events.sort();
    (engine, machine, outcomes, events)
}

/// One step of background removal; says whether there was one to do.
fn remove(machine: &mut StateMachine, max_records: usize) -> bool {
    let Some((keyspace, scan)) = machine.next_removal() else { return false };
    let limits = RemovalLimits { max_records, ..RemovalLimits::default() };
    machine.apply_removal(keyspace, scan.run(limits).unwrap()).unwrap();
    true
}

fn finish_removal(machine: &mut StateMachine) {
    while remove(machine, 100) {}
}

fn described(events: &[(KeyspaceId, Vec<Arc<Event>>, Revision)]) -> Vec<String> {
    let of_keyspace = |(id, events, _): &(KeyspaceId, Vec<Arc<Event>>, Revision)| {
        let describe = |event: &Arc<Event>| format!("{id} {:?} {event:?}", event.version);
        events.iter().map(describe).collect::<Vec<_>>()
    };
    events.iter().flat_map(of_keyspace).collect()
}

/// What is in memory beside the engine.
fn memory(machine: &mut StateMachine) -> String {
    let mut out = format!(
        "{:?} {:?} {:?} {}",
        machine.applied(),
        machine.clock(),
        machine.alarms(),
        machine.live_bytes()
    );
    for keyspace in [KeyspaceId::DEFAULT, KeyspaceId::K8SD] {
        let reader = machine.reader(keyspace).unwrap();
        let everything = reader.range(&RangeQuery::new(KeyRange::all())).unwrap();
        let leases = machine.leases(keyspace).unwrap();
        let infos: Vec<_> = leases
            .ids()
            .unwrap()
            .into_iter()
            .map(|id| (id, leases.get(id), leases.time_to_live(id, machine.clock(), true)))
            .collect();
        out += &format!("\n{everything:?} {:?} {infos:?}", reader.floor());
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_same_entries_make_the_same_state(
        log in log(),
        sizes in prop::collection::vec(1usize..6, 1..4),
        crashes in prop::collection::vec((1usize..8, any::<bool>()), 1..6),
    ) {
        let (engine, mut machine, outcomes, events) = apply_in_pieces(&log, &[log.len()]);
        let (data, in_memory) = (contents(&*engine), memory(&mut machine));

        for sizes in [&[1][..], &sizes] {
            let (engine, mut machine, same_outcomes, same_events) = apply_in_pieces(&log, sizes);
            prop_assert_eq!(contents(&*engine), data.clone());
            prop_assert_eq!(memory(&mut machine), in_memory.clone());
            prop_assert_eq!(&same_outcomes, &outcomes);
            prop_assert_eq!(&same_events, &events);
            // What was in memory is exactly what loading makes of the engine.
            prop_assert_eq!(memory(&mut load(&engine)), in_memory.clone());
        }

        // Crash after some entries, flushed or not, and go on from where the engine stands.
        let engine = Arc::new(SimEngine::new());
        let mut machine = load(&engine);
        for (count, flush) in crashes {
            let from = machine.applied().0.get() as usize;
            let to = (from + count).min(log.len());
            machine.apply(&log[from..to]).unwrap();
            if flush {
                engine.flush().unwrap();
            }
            engine.crash();
            machine = load(&engine);
        }
        // Replayed from the very beginning: what is applied already is skipped.
        machine.apply(&log).unwrap();
        prop_assert_eq!(contents(&*engine), data);
        prop_assert_eq!(memory(&mut machine), in_memory);
    }

    /// How far background removal has come never shows: not in what later entries do, and once it has
    /// finished not in the engine either.
    #[test]
    fn removal_changes_nothing_but_the_space(
        log in log(),
        paces in prop::collection::vec((0usize..4, 1usize..5), 1..5),
        flushes in any::<bool>(),
    ) {
        let (engine, mut machine, outcomes, _) = apply_in_pieces(&log, &[log.len()]);
        finish_removal(&mut machine);
        let (data, in_memory) = (contents(&*engine), memory(&mut machine));

        let engine = Arc::new(SimEngine::new());
        let mut machine = load(&engine);
        let mut same_outcomes = Vec::new();
        for (entry, (steps, max_records)) in log.iter().zip(paces.iter().cycle()) {
            same_outcomes.extend(machine.apply(std::slice::from_ref(entry)).unwrap().outcomes);
            for _ in 0..*steps {
                remove(&mut machine, *max_records);
            }
        }
        prop_assert_eq!(same_outcomes, outcomes);
        if flushes {
            engine.flush().unwrap();
        }
        remove(&mut machine, 1);
        engine.crash();
        let mut machine = load(&engine);
        machine.apply(&log).unwrap();
        finish_removal(&mut machine);
        prop_assert_eq!(contents(&*engine), data);
        prop_assert_eq!(memory(&mut machine), in_memory);
    }

    /// The way through the log's bytes changes nothing.
    #[test]
    fn decoded_entries_are_applied_like_the_originals(log in log()) {
        let through_bytes: Vec<Committed> = log
            .iter()
            .map(|entry| {
                let bytes = encode_batch(entry.batch.as_ref().unwrap());
                Committed { batch: Some(Arc::new(decode_batch(bytes).unwrap())), ..entry.clone() }
            })
            .collect();
        let (engine, _, outcomes, _) = apply_in_pieces(&log, &[3]);
        let (same_engine, _, same_outcomes, _) = apply_in_pieces(&through_bytes, &[3]);
        prop_assert_eq!(contents(&*engine), contents(&*same_engine));
        prop_assert_eq!(outcomes, same_outcomes);
    }
}
