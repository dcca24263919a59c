//! Writing: one walk over the batch, run twice, first into a counter, then into a buffer of that size.

use super::{FORMAT_VERSION, command_tag, delete_flag, operation_tag, put_flag, query_flag, range_kind};
use crate::command::{
    Alarm, Batch, Command, Compare, CompareResult, CompareTarget, DeleteRange, Operation, Projection, Put,
    PutLease, PutValue, RangeQuery, ReadAt, Sort, SortOrder, SortTarget, Transaction,
};
use crate::types::record::{put_varint, varint_len};
use crate::types::{KeyRange, RangeEnd};
use bytes::{BufMut, Bytes, BytesMut};

/// Where the walk writes to.
trait Sink {
    fn byte(&mut self, byte: u8);
    fn number(&mut self, number: u64);
    fn raw(&mut self, bytes: &[u8]);

    fn signed(&mut self, number: i64) {
        self.number(number as u64);
    }
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.raw(bytes);
    }
}

impl Sink for BytesMut {
    fn byte(&mut self, byte: u8) {
        self.put_u8(byte);
    }
    fn number(&mut self, number: u64) {
        put_varint(self, number);
    }
    fn raw(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }
}

/// Counts what the walk would write.
struct Counter(usize);

impl Sink for Counter {
    fn byte(&mut self, _: u8) {
        self.0 += 1;
    }
    fn number(&mut self, number: u64) {
        self.0 += varint_len(number);
    }
    fn raw(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

pub(super) fn batch(batch: &Batch) -> Bytes {
    let mut counter = Counter(0);
    write_batch(&mut counter, batch);
    let mut out = BytesMut::with_capacity(counter.0);
    write_batch(&mut out, batch);
    debug_assert_eq!(out.len(), counter.0);
    out.freeze()
}

/// How many bytes one command takes in a batch.
pub(in crate::command) fn command_size(command: &Command) -> usize {
    let mut counter = Counter(0);
    write_command(&mut counter, command);
    counter.0
}

fn write_batch(out: &mut impl Sink, batch: &Batch) {
    out.byte(FORMAT_VERSION);
    out.number(batch.proposer);
    out.number(batch.clock.get());
    out.number(batch.first_request.get());
    out.number(batch.commands.len() as u64);
    for (keyspace, command) in &batch.commands {
        out.number(keyspace.get().into());
        write_command(out, command);
    }
}

fn write_command(out: &mut impl Sink, command: &Command) {
    match command {
        Command::Transaction(transaction) => {
            out.byte(command_tag::TRANSACTION);
            write_transaction(out, transaction);
        }
        Command::Compact { revision } => {
            out.byte(command_tag::COMPACT);
            out.signed(revision.get());
        }
        Command::LeaseGrant { id, ttl_s } => {
            out.byte(command_tag::LEASE_GRANT);
            out.signed(id.get());
            out.signed(*ttl_s);
        }
        Command::LeaseRevoke { id } => {
            out.byte(command_tag::LEASE_REVOKE);
            out.signed(id.get());
        }
        Command::LeaseRenew { ids } => {
            out.byte(command_tag::LEASE_RENEW);
            out.number(ids.len() as u64);
            ids.iter().for_each(|id| out.signed(id.get()));
        }
        Command::LeaseExpire { leases } => {
            out.byte(command_tag::LEASE_EXPIRE);
            out.number(leases.len() as u64);
            for (id, epoch) in leases {
                out.signed(id.get());
                out.number(*epoch);
            }
        }
        Command::AlarmActivate(alarm) => {
            out.byte(command_tag::ALARM_ACTIVATE);
            write_alarm(out, alarm);
        }
        Command::AlarmDeactivate(alarm) => {
            out.byte(command_tag::ALARM_DEACTIVATE);
            write_alarm(out, alarm);
        }
    }
}

fn write_alarm(out: &mut impl Sink, alarm: &Alarm) {
    out.number(alarm.member);
    out.byte(alarm.kind as u8);
}

fn write_transaction(out: &mut impl Sink, transaction: &Transaction) {
    out.number(transaction.compares.len() as u64);
    transaction.compares.iter().for_each(|compare| write_compare(out, compare));
    for branch in [&transaction.success, &transaction.failure] {
        out.number(branch.len() as u64);
        branch.iter().for_each(|operation| write_operation(out, operation));
    }
}

fn write_compare(out: &mut impl Sink, compare: &Compare) {
    let target = match compare.target {
        CompareTarget::Version(_) => 0,
        CompareTarget::CreateRevision(_) => 1,
        CompareTarget::ModRevision(_) => 2,
        CompareTarget::Value(_) => 3,
        CompareTarget::Lease(_) => 4,
    };
    let result = match compare.result {
        CompareResult::Equal => 0,
        CompareResult::Greater => 1,
        CompareResult::Less => 2,
        CompareResult::NotEqual => 3,
    };
    out.byte(target | result << 4);
    write_range(out, &compare.range);
    match &compare.target {
        CompareTarget::Version(version) => out.signed(*version),
        CompareTarget::CreateRevision(revision) | CompareTarget::ModRevision(revision) => {
            out.signed(revision.get());
        }
        CompareTarget::Value(value) => out.bytes(value),
        CompareTarget::Lease(lease) => out.signed(lease.get()),
    }
}

fn write_operation(out: &mut impl Sink, operation: &Operation) {
    match operation {
        Operation::Range(query) => {
            out.byte(operation_tag::RANGE);
            write_query(out, query);
        }
        Operation::Put(put) => {
            out.byte(operation_tag::PUT);
            write_put(out, put);
        }
        Operation::Delete(DeleteRange { range, want_previous }) => {
            out.byte(operation_tag::DELETE);
            out.byte(if *want_previous { delete_flag::WANT_PREVIOUS } else { 0 });
            write_range(out, range);
        }
        Operation::Transaction(transaction) => {
            out.byte(operation_tag::TRANSACTION);
            write_transaction(out, transaction);
        }
    }
}

fn write_put(out: &mut impl Sink, put: &Put) {
    let mut flags = 0;
    if put.value == PutValue::Keep {
        flags |= put_flag::KEEP_VALUE;
    }
    if put.lease == PutLease::Keep {
        flags |= put_flag::KEEP_LEASE;
    }
    if put.want_previous {
        flags |= put_flag::WANT_PREVIOUS;
    }
    out.byte(flags);
    out.bytes(&put.key);
    if let PutValue::Set(value) = &put.value {
        out.bytes(value);
    }
    if let PutLease::Set(lease) = put.lease {
        out.signed(lease.get());
    }
}

fn write_query(out: &mut impl Sink, query: &RangeQuery) {
    let projection: u8 = match query.projection {
        Projection::Full => 0,
        Projection::KeysOnly => 1,
        Projection::CountOnly => 2,
    };
    let mut flags = projection << query_flag::PROJECTION_SHIFT;
    if let ReadAt::Revision(_) = query.at {
        flags |= query_flag::AT_REVISION;
    }
    if query.sort.is_some() {
        flags |= query_flag::SORTED;
    }
    if !query.filter.is_none() {
        flags |= query_flag::FILTERED;
    }
    out.byte(flags);
    write_range(out, &query.range);
    out.number(query.limit);
    if let ReadAt::Revision(revision) = query.at {
        out.signed(revision.get());
    }
    if let Some(Sort { target, order }) = query.sort {
        let target = match target {
            SortTarget::Key => 0,
            SortTarget::Version => 1,
            SortTarget::CreateRevision => 2,
            SortTarget::ModRevision => 3,
            SortTarget::Value => 4,
        };
        let order = match order {
            SortOrder::Ascending => 0,
            SortOrder::Descending => 1,
        };
        out.byte(target | order << 4);
    }
    if !query.filter.is_none() {
        let filter = &query.filter;
        for bound in [filter.min_mod, filter.max_mod, filter.min_create, filter.max_create] {
            out.signed(bound.get());
        }
    }
}

fn write_range(out: &mut impl Sink, range: &KeyRange) {
    let (kind, end) = match &range.end {
        RangeEnd::Single => (range_kind::SINGLE, None),
        RangeEnd::Unbounded => (range_kind::UNBOUNDED, None),
        RangeEnd::Before(end) => (range_kind::BEFORE, Some(end)),
    };
    out.byte(kind);
    out.bytes(&range.start);
    if let Some(end) = end {
        out.bytes(end);
    }
}
