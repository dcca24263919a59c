//! Reading, without trust in a single byte.

use super::{
    CodecError, FORMAT_VERSION, MAX_TRANSACTION_DEPTH, command_tag, delete_flag, operation_tag, put_flag,
    query_flag, range_kind,
};
use crate::command::{
    Alarm, AlarmKind, Batch, Command, Compare, CompareResult, CompareTarget, DeleteRange, Operation,
    Projection, Put, PutLease, PutValue, RangeQuery, ReadAt, RevisionFilter, Sort, SortOrder, SortTarget,
    Transaction,
};
use crate::types::record::get_varint;
use crate::types::{ClockMillis, KeyRange, KeyspaceId, LeaseId, RequestId, Revision};
use bytes::Bytes;

type Result<T> = std::result::Result<T, CodecError>;

/// The fewest bytes one element of a list can take. They bound what is reserved for a list: never more
/// elements than the remaining bytes can hold.
mod least_bytes {
    /// keyspace, tag, and at least one number.
    pub const COMMAND: usize = 3;
    /// kinds, range kind, start length, number.
    pub const COMPARE: usize = 4;
    /// tag, flags, and a length (a nested transaction: tag and three counts).
    pub const OPERATION: usize = 3;
    pub const LEASE: usize = 1;
    pub const LEASE_AND_EPOCH: usize = 2;
}

pub(super) fn batch(bytes: Bytes) -> Result<Batch> {
    let mut input = Input { bytes, at: 0 };
    match input.byte("format version")? {
        FORMAT_VERSION => {}
        found => return Err(CodecError::UnknownVersion { found }),
    }
    let proposer = input.number("proposer")?;
    let clock = ClockMillis::new(input.number("clock")?);
    let first_request = RequestId::new(input.number("first request")?);
    let commands = input.list(least_bytes::COMMAND, |input| {
        let keyspace = u32::try_from(input.number("keyspace")?).map_err(|_| input.fail("keyspace"))?;
        Ok((KeyspaceId::new(keyspace), input.command()?))
    })?;
    if input.at < input.bytes.len() {
        return Err(input.fail("the end"));
    }
    Ok(Batch { proposer, clock, first_request, commands })
}

struct Input {
    bytes: Bytes,
    at: usize,
}

impl Input {
    fn fail(&self, what: &'static str) -> CodecError {
        CodecError::Malformed { offset: self.at, what }
    }

    fn byte(&mut self, what: &'static str) -> Result<u8> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| self.fail(what))?;
        self.at += 1;
        Ok(byte)
    }

    fn number(&mut self, what: &'static str) -> Result<u64> {
        let (number, next) = get_varint(&self.bytes, self.at).ok_or_else(|| self.fail(what))?;
        self.at = next;
        Ok(number)
    }

    fn signed(&mut self, what: &'static str) -> Result<i64> {
        Ok(self.number(what)? as i64)
    }

    fn slice(&mut self, what: &'static str) -> Result<Bytes> {
        let length = self.number(what)?;
        let remaining = self.bytes.len() - self.at;
        match usize::try_from(length) {
            Ok(length) if length <= remaining => {
                let slice = self.bytes.slice(self.at..self.at + length);
                self.at += length;
                Ok(slice)
            }
            _ => Err(self.fail(what)),
        }
    }

    fn list<T>(
        &mut self,
        least_bytes: usize,
        mut element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let count = self.number("count")?;
        let possible = (self.bytes.len() - self.at) / least_bytes;
        if count > possible as u64 {
            return Err(self.fail("as many elements as counted"));
        }
        let mut list = Vec::with_capacity(count as usize);
        for _ in 0..count {
            list.push(element(self)?);
        }
        Ok(list)
    }

    fn command(&mut self) -> Result<Command> {
        Ok(match self.byte("command")? {
            command_tag::TRANSACTION => Command::Transaction(self.transaction(MAX_TRANSACTION_DEPTH)?),
            command_tag::COMPACT => Command::Compact { revision: self.revision()? },
            command_tag::LEASE_GRANT => {
                Command::LeaseGrant { id: self.lease()?, ttl_s: self.signed("time to live")? }
            }
            command_tag::LEASE_REVOKE => Command::LeaseRevoke { id: self.lease()? },
            command_tag::LEASE_RENEW => {
                Command::LeaseRenew { ids: self.list(least_bytes::LEASE, Self::lease)? }
            }
            command_tag::LEASE_EXPIRE => {
                let leases = self.list(least_bytes::LEASE_AND_EPOCH, |input| {
                    Ok((input.lease()?, input.number("epoch")?))
                })?;
                Command::LeaseExpire { leases }
            }
            command_tag::ALARM_ACTIVATE => Command::AlarmActivate(self.alarm()?),
            command_tag::ALARM_DEACTIVATE => Command::AlarmDeactivate(self.alarm()?),
            _ => return Err(self.fail("command")),
        })
    }

    fn revision(&mut self) -> Result<Revision> {
        Ok(Revision::new(self.signed("revision")?))
    }

    fn lease(&mut self) -> Result<LeaseId> {
        Ok(LeaseId::new(self.signed("lease")?))
    }

    fn alarm(&mut self) -> Result<Alarm> {
        let member = self.number("member")?;
        let kind = match self.byte("alarm")? {
            1 => AlarmKind::NoSpace,
            2 => AlarmKind::Corrupt,
            _ => return Err(self.fail("alarm")),
        };
        Ok(Alarm { member, kind })
    }

    fn transaction(&mut self, levels_left: usize) -> Result<Transaction> {
        let Some(levels_left) = levels_left.checked_sub(1) else {
            return Err(self.fail("no deeper transaction"));
        };
        Ok(Transaction {
            compares: self.list(least_bytes::COMPARE, Self::compare)?,
            success: self.list(least_bytes::OPERATION, |input| input.operation(levels_left))?,
            failure: self.list(least_bytes::OPERATION, |input| input.operation(levels_left))?,
        })
    }

    fn compare(&mut self) -> Result<Compare> {
        let kinds = self.byte("compare")?;
        let result = match kinds >> 4 {
            0 => CompareResult::Equal,
            1 => CompareResult::Greater,
            2 => CompareResult::Less,
            3 => CompareResult::NotEqual,
            _ => return Err(self.fail("compare")),
        };
        let range = self.range()?;
        let target = match kinds & 0x0f {
            0 => CompareTarget::Version(self.signed("version")?),
            1 => CompareTarget::CreateRevision(self.revision()?),
            2 => CompareTarget::ModRevision(self.revision()?),
            3 => CompareTarget::Value(self.slice("value")?),
            4 => CompareTarget::Lease(self.lease()?),
            _ => return Err(self.fail("compare")),
        };
        Ok(Compare { range, target, result })
    }

    fn operation(&mut self, levels_left: usize) -> Result<Operation> {
        Ok(match self.byte("operation")? {
            operation_tag::RANGE => Operation::Range(self.query()?),
            operation_tag::PUT => Operation::Put(self.put()?),
            operation_tag::DELETE => {
                let flags = self.flags(delete_flag::WANT_PREVIOUS)?;
                Operation::Delete(DeleteRange { range: self.range()?, want_previous: flags != 0 })
            }
            operation_tag::TRANSACTION => Operation::Transaction(self.transaction(levels_left)?),
            _ => return Err(self.fail("operation")),
        })
    }

    fn flags(&mut self, known: u8) -> Result<u8> {
        let flags = self.byte("flags")?;
        if flags & !known == 0 { Ok(flags) } else { Err(self.fail("flags")) }
    }

    fn put(&mut self) -> Result<Put> {
        let flags = self.flags(put_flag::ALL)?;
        let key = self.slice("key")?;
        let value = if flags & put_flag::KEEP_VALUE == 0 {
            PutValue::Set(self.slice("value")?)
        } else {
            PutValue::Keep
        };
        let lease =
            if flags & put_flag::KEEP_LEASE == 0 { PutLease::Set(self.lease()?) } else { PutLease::Keep };
        Ok(Put { key, value, lease, want_previous: flags & put_flag::WANT_PREVIOUS != 0 })
    }

    fn query(&mut self) -> Result<RangeQuery> {
        let flags = self.flags(query_flag::ALL)?;
        let projection = match flags >> query_flag::PROJECTION_SHIFT {
            0 => Projection::Full,
            1 => Projection::KeysOnly,
            2 => Projection::CountOnly,
            _ => return Err(self.fail("projection")),
        };
        let range = self.range()?;
        let limit = self.number("limit")?;
        let at = if flags & query_flag::AT_REVISION == 0 {
            ReadAt::Latest
        } else {
            ReadAt::Revision(self.revision()?)
        };
        let sort = if flags & query_flag::SORTED == 0 { None } else { Some(self.sort()?) };
        let filter = if flags & query_flag::FILTERED == 0 {
            RevisionFilter::default()
        } else {
            RevisionFilter {
                min_mod: self.revision()?,
                max_mod: self.revision()?,
                min_create: self.revision()?,
                max_create: self.revision()?,
            }
        };
        Ok(RangeQuery { range, at, limit, sort, projection, filter })
    }

    fn sort(&mut self) -> Result<Sort> {
        let kinds = self.byte("sort")?;
        let target = match kinds & 0x0f {
            0 => SortTarget::Key,
            1 => SortTarget::Version,
            2 => SortTarget::CreateRevision,
            3 => SortTarget::ModRevision,
            4 => SortTarget::Value,
            _ => return Err(self.fail("sort target")),
        };
        let order = match kinds >> 4 {
            0 => SortOrder::Ascending,
            1 => SortOrder::Descending,
            _ => return Err(self.fail("sort order")),
        };
        Ok(Sort { target, order })
    }

    fn range(&mut self) -> Result<KeyRange> {
        let kind = self.byte("range")?;
        let start = self.slice("key")?;
        Ok(match kind {
            range_kind::SINGLE => KeyRange::single(start),
            range_kind::UNBOUNDED => KeyRange::from(start),
            range_kind::BEFORE => KeyRange::span(start, self.slice("end of the range")?),
            _ => return Err(self.fail("range")),
        })
    }
}
