//! Round trips, fixtures, and garbage.

use super::*;
use crate::command::{
    Alarm, AlarmKind, Command, Compare, CompareResult, CompareTarget, DeleteRange, Operation, Projection,
    Put, PutLease, PutValue, RangeQuery, ReadAt, RevisionFilter, Sort, SortOrder, SortTarget, Transaction,
};
use crate::types::{ClockMillis, KeyRange, KeyspaceId, LeaseId, RequestId, Revision};
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        bytes().prop_map(KeyRange::single),
        bytes().prop_map(KeyRange::from),
        (bytes(), bytes()).prop_map(|(start, end)| KeyRange::span(start, end)),
    ]
}

fn revision() -> impl Strategy<Value = Revision> {
    prop_oneof![Just(Revision::NONE), any::<i64>().prop_map(Revision::new)]
}

fn lease() -> impl Strategy<Value = LeaseId> {
    any::<i64>().prop_map(LeaseId::new)
}

fn compare() -> impl Strategy<Value = Compare> {
    let target = prop_oneof![
        any::<i64>().prop_map(CompareTarget::Version),
        revision().prop_map(CompareTarget::CreateRevision),
        revision().prop_map(CompareTarget::ModRevision),
        bytes().prop_map(CompareTarget::Value),
        lease().prop_map(CompareTarget::Lease),
    ];
    let result = prop_oneof![
        Just(CompareResult::Equal),
        Just(CompareResult::Greater),
        Just(CompareResult::Less),
        Just(CompareResult::NotEqual),
    ];
    (range(), target, result).prop_map(|(range, target, result)| Compare { range, target, result })
}

fn query() -> impl Strategy<Value = RangeQuery> {
    let at = prop_oneof![Just(ReadAt::Latest), revision().prop_map(ReadAt::Revision)];
    let target = prop_oneof![
        Just(SortTarget::Key),
        Just(SortTarget::Version),
        Just(SortTarget::CreateRevision),
        Just(SortTarget::ModRevision),
        Just(SortTarget::Value),
    ];
    let order = prop_oneof![Just(SortOrder::Ascending), Just(SortOrder::Descending)];
    let projection =
        prop_oneof![Just(Projection::Full), Just(Projection::KeysOnly), Just(Projection::CountOnly)];
    let filter = (revision(), revision(), revision(), revision()).prop_map(
        |(min_mod, max_mod, min_create, max_create)| RevisionFilter {
            min_mod,
            max_mod,
            min_create,
            max_create,
        },
    );
    (range(), at, any::<u64>(), prop::option::of((target, order)), projection, filter).prop_map(
        |(range, at, limit, sort, projection, filter)| RangeQuery {
            range,
            at,
            limit,
            sort: sort.map(|(target, order)| Sort { target, order }),
            projection,
            filter,
        },
    )
}

fn operation() -> impl Strategy<Value = Operation> {
    let value = prop_oneof![bytes().prop_map(PutValue::Set), Just(PutValue::Keep)];
    let put_lease = prop_oneof![lease().prop_map(PutLease::Set), Just(PutLease::Keep)];
    let leaf = prop_oneof![
        query().prop_map(Operation::Range),
        (bytes(), value, put_lease, any::<bool>()).prop_map(|(key, value, lease, want_previous)| {
            Operation::Put(Put { key, value, lease, want_previous })
        }),
        (range(), any::<bool>())
            .prop_map(|(range, want_previous)| Operation::Delete(DeleteRange { range, want_previous })),
    ];
    leaf.prop_recursive(3, 24, 3, |inner| {
        (
            prop::collection::vec(compare(), 0..3),
            prop::collection::vec(inner.clone(), 0..3),
            prop::collection::vec(inner, 0..3),
        )
            .prop_map(|(compares, success, failure)| {
                Operation::Transaction(Transaction { compares, success, failure })
            })
    })
}

fn transaction() -> impl Strategy<Value = Transaction> {
    (
        prop::collection::vec(compare(), 0..4),
        prop::collection::vec(operation(), 0..4),
        prop::collection::vec(operation(), 0..4),
    )
        .prop_map(|(compares, success, failure)| Transaction { compares, success, failure })
}

fn command() -> impl Strategy<Value = Command> {
    let kind = prop_oneof![Just(AlarmKind::NoSpace), Just(AlarmKind::Corrupt)];
    let alarm = (any::<u64>(), kind).prop_map(|(member, kind)| Alarm { member, kind });
    prop_oneof![
        4 => transaction().prop_map(Command::Transaction),
        1 => revision().prop_map(|revision| Command::Compact { revision }),
        1 => (lease(), any::<i64>()).prop_map(|(id, ttl_s)| Command::LeaseGrant { id, ttl_s }),
        1 => lease().prop_map(|id| Command::LeaseRevoke { id }),
        1 => prop::collection::vec(lease(), 0..5).prop_map(|ids| Command::LeaseRenew { ids }),
        1 => prop::collection::vec((lease(), any::<u64>()), 0..5)
            .prop_map(|leases| Command::LeaseExpire { leases }),
        1 => alarm.clone().prop_map(Command::AlarmActivate),
        1 => alarm.prop_map(Command::AlarmDeactivate),
    ]
}

fn batches() -> impl Strategy<Value = Batch> {
    (any::<(u64, u64, u64)>(), prop::collection::vec((any::<u32>(), command()), 0..6)).prop_map(
        |((proposer, clock, first), commands)| Batch {
            proposer,
            clock: ClockMillis::new(clock),
            first_request: RequestId::new(first),
            commands: commands.into_iter().map(|(id, command)| (KeyspaceId::new(id), command)).collect(),
        },
    )
}

proptest! {
    #[test]
    fn a_batch_reads_back(batch in batches()) {
        let encoded = encode_batch(&batch);
        let decoded = decode_batch(encoded.clone());
        prop_assert_eq!(decoded.as_ref(), Ok(&batch));
        // Every prefix is refused: a cut entry can never pass for a shorter one.
        for cut in 0..encoded.len() {
            prop_assert!(decode_batch(encoded.slice(..cut)).is_err());
        }
    }

    #[test]
    fn garbage_is_refused_or_read_without_a_panic(garbage in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut versioned = vec![FORMAT_VERSION];
        versioned.extend_from_slice(&garbage);
        let _ = decode_batch(garbage.into());
        if let Ok(batch) = decode_batch(versioned.into()) {
            prop_assert_eq!(decode_batch(encode_batch(&batch)), Ok(batch));
        }
    }

    #[test]
    fn a_damaged_batch_never_panics(batch in batches(), damage in any::<(prop::sample::Index, u8)>()) {
        let mut encoded = encode_batch(&batch).to_vec();
        let at = damage.0.index(encoded.len());
        encoded[at] = damage.1;
        let _ = decode_batch(encoded.into());
    }
}

/// Version 1 is on disks: these bytes must be read (and, as long as it is the newest, written) for ever.
#[test]
fn version_1_never_changes() {
    let guarded_put = Transaction {
        compares: vec![Compare {
            range: KeyRange::single("/a"),
            target: CompareTarget::ModRevision(Revision::new(7)),
            result: CompareResult::Equal,
        }],
        success: vec![Operation::Put(Put {
            key: "/a".into(),
            value: PutValue::Set("one".into()),
            lease: PutLease::Set(LeaseId::new(300)),
            want_previous: true,
        })],
        failure: vec![Operation::Range(RangeQuery::new(KeyRange::single("/a")))],
    };
    let batch = Batch {
        proposer: 5,
        clock: ClockMillis::new(1000),
        first_request: RequestId::new(9),
        commands: vec![
            (KeyspaceId::DEFAULT, Command::Transaction(guarded_put)),
            (KeyspaceId::K8SD, Command::LeaseExpire { leases: vec![(LeaseId::new(-1), 2)] }),
        ],
    };
    #[rustfmt::skip]
    let fixture: &[u8] = &[
        1, 5, 0xe8, 0x07, 9, 2,
        1, 1,
        1, 2, 0, 2, b'/', b'a', 7,
        1, 2, 4, 2, b'/', b'a', 3, b'o', b'n', b'e', 0xac, 0x02,
        1, 1, 0, 0, 2, b'/', b'a', 0,
        2, 6, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 2,
    ];
    assert_eq!(&encode_batch(&batch)[..], fixture);
    assert_eq!(decode_batch(Bytes::from_static(fixture)), Ok(batch));
}

#[test]
fn another_version_is_named() {
    assert_eq!(
        decode_batch(Bytes::from_static(&[2, 0, 0, 0, 0])),
        Err(CodecError::UnknownVersion { found: 2 })
    );
    assert!(matches!(decode_batch(Bytes::new()), Err(CodecError::Malformed { offset: 0, .. })));
}

#[test]
fn bytes_behind_the_end_are_refused() {
    let mut encoded = vec![FORMAT_VERSION, 1, 1, 1, 0];
    assert!(decode_batch(encoded.clone().into()).is_ok());
    encoded.push(0);
    assert_eq!(decode_batch(encoded.into()), Err(CodecError::Malformed { offset: 5, what: "the end" }));
}

#[test]
fn a_count_without_elements_reserves_nothing() {
    // A list of 2^60 commands, in eleven bytes. Reserving for it would end the process.
    let mut encoded = vec![FORMAT_VERSION, 1, 1, 1];
    crate::types::record::put_varint(&mut encoded, 1 << 60);
    assert!(matches!(decode_batch(encoded.into()), Err(CodecError::Malformed { .. })));
}

fn nested(depth: usize) -> Transaction {
    let mut transaction = Transaction::default();
    for _ in 1..depth {
        transaction =
            Transaction { success: vec![Operation::Transaction(transaction)], ..Default::default() };
    }
    transaction
}

#[test]
fn nesting_is_bounded() {
    let batch = |depth| Batch {
        proposer: 1,
        clock: ClockMillis::new(0),
        first_request: RequestId::new(1),
        commands: vec![(KeyspaceId::DEFAULT, Command::Transaction(nested(depth)))],
    };
    assert!(decode_batch(encode_batch(&batch(MAX_TRANSACTION_DEPTH))).is_ok());
    let too_deep = decode_batch(encode_batch(&batch(MAX_TRANSACTION_DEPTH + 1)));
    assert!(matches!(too_deep, Err(CodecError::Malformed { what: "no deeper transaction", .. })));
    // And far deeper, from bytes that no encoder made: refused at the bound, not by the stack.
    let mut hostile = vec![FORMAT_VERSION, 1, 1, 1, 1, 1, command_tag::TRANSACTION];
    for _ in 0..1_000_000 {
        hostile.extend_from_slice(&[0, 1, operation_tag::TRANSACTION]);
    }
    assert!(matches!(decode_batch(hostile.into()), Err(CodecError::Malformed { .. })));
}

#[test]
fn keys_and_values_share_the_buffer() {
    let batch = Batch {
        proposer: 1,
        clock: ClockMillis::new(0),
        first_request: RequestId::new(1),
        commands: vec![(
            KeyspaceId::DEFAULT,
            Command::Transaction(Transaction {
                success: vec![Operation::Put(Put {
                    key: "key".into(),
                    value: PutValue::Set("value".into()),
                    lease: PutLease::Keep,
                    want_previous: false,
                })],
                ..Default::default()
            }),
        )],
    };
    let encoded = encode_batch(&batch);
    let within = encoded.as_ptr_range();
    let decoded = decode_batch(encoded).unwrap();
    let Command::Transaction(transaction) = &decoded.commands[0].1 else { panic!("a transaction") };
    let Operation::Put(Put { key, value: PutValue::Set(value), .. }) = &transaction.success[0] else {
        panic!("a put")
    };
    assert!(within.contains(&key.as_ptr()) && within.contains(&value.as_ptr()));
}
