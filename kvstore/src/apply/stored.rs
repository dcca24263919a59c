//! What the state machine itself keeps in `Meta`: its position, leases and alarms.

use crate::command::{Alarm, AlarmKind};
use crate::lease::Lease;
use crate::mvcc::keys::{
    META_ALARMS, META_APPLIED, META_COUNTERS, META_FORMAT, META_LEASE, META_LOG, meta_key,
};
use crate::storage::{Batch, Engine, EngineError, Family};
use crate::types::{ClockMillis, Error, KeyspaceId, LeaseId, LogIndex, LogMark, Result, Term};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// The format of everything under this engine. A state with a higher one is refused.
const FORMAT: u32 = 1;

const META_KEYSPACE_KEY_BYTES: usize = 5;
const LEASE_KEY_BYTES: usize = META_KEYSPACE_KEY_BYTES + 8;
const POSITION_BYTES: usize = 24;
const ALARM_BYTES: usize = 9;

/// How far the log is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) index: LogIndex,
    pub(super) term: Term,
    pub(super) clock: ClockMillis,
}

/// A failure of the engine is final.
pub(super) fn engine_failed(error: EngineError) -> Error {
    error.into()
}

fn damaged(what: &str) -> Error {
    Error::Poisoned(format!("the stored {what} cannot be read"))
}

/// Whether the engine knows its format already; refuses one that is newer than this code.
pub(super) fn check_format(engine: &dyn Engine) -> Result<bool> {
    let Some(bytes) = engine.get(Family::Meta, &[META_FORMAT]).map_err(engine_failed)? else {
        return Ok(false);
    };
    match <[u8; 4]>::try_from(&bytes[..]).map(u32::from_be_bytes) {
        Ok(FORMAT) => Ok(true),
        Ok(found) if found > FORMAT => Err(Error::Poisoned(format!(
            "the state was written by a newer version (format {found}, this one reads format {FORMAT}); start it with the \
             newer program"
        ))),
        Ok(_) | Err(_) => Err(damaged("format")),
    }
}

pub(super) fn write_format(batch: &mut Batch) {
    batch.put(Family::Meta, vec![META_FORMAT], FORMAT.to_be_bytes().to_vec());
}

pub(super) fn read_position(engine: &dyn Engine) -> Result<Position> {
    let Some(bytes) = engine.get(Family::Meta, &[META_APPLIED]).map_err(engine_failed)? else {
        return Ok(Position::default());
    };
    let bytes: &[u8; POSITION_BYTES] = bytes[..].try_into().map_err(|_| damaged("applied index"))?;
    Ok(Position {
        index: LogIndex::new(number(&bytes[..8])),
        term: Term::new(number(&bytes[8..16])),
        clock: ClockMillis::new(number(&bytes[16..])),
    })
}

pub(super) fn write_position(batch: &mut Batch, position: Position) {
    let mut value = Vec::with_capacity(POSITION_BYTES);
    value.extend_from_slice(&position.index.get().to_be_bytes());
    value.extend_from_slice(&position.term.get().to_be_bytes());
    value.extend_from_slice(&position.clock.get().to_be_bytes());
    batch.put(Family::Meta, vec![META_APPLIED], value);
}

/// The log that this state belongs to, if it says so.
pub(super) fn read_log_mark(engine: &dyn Engine) -> Result<Option<LogMark>> {
    let Some(bytes) = engine.get(Family::Meta, &[META_LOG]).map_err(engine_failed)? else { return Ok(None) };
    let bytes: [u8; 4] = bytes[..].try_into().map_err(|_| damaged("mark of the log"))?;
    Ok(Some(LogMark(u32::from_be_bytes(bytes))))
}

pub(super) fn write_log_mark(batch: &mut Batch, mark: LogMark) {
    batch.put(Family::Meta, vec![META_LOG], mark.0.to_be_bytes().to_vec());
}

/// Every keyspace of which anything is stored.
pub(super) fn read_keyspaces(engine: &dyn Engine) -> Result<BTreeSet<KeyspaceId>> {
    let mut found = BTreeSet::new();
    for tag in [META_COUNTERS, META_LEASE] {
        scan(engine, &[tag], &[tag + 1], |key, _| {
            let id = key.get(1..META_KEYSPACE_KEY_BYTES).and_then(|bytes| bytes.try_into().ok());
            let id = id.map(u32::from_be_bytes).ok_or_else(|| damaged("list of keyspaces"))?;
            found.insert(KeyspaceId::new(id));
            Ok(())
        })?;
    }
    Ok(found)
}

pub(super) fn read_leases(engine: &dyn Engine, keyspace: KeyspaceId) -> Result<Vec<(LeaseId, Lease)>> {
    let start = meta_key(META_LEASE, keyspace);
    let end = match keyspace.get().checked_add(1) {
        Some(next) => meta_key(META_LEASE, KeyspaceId::new(next)).to_vec(),
        None => vec![META_LEASE + 1],
    };
    let mut leases = Vec::new();
    scan(engine, &start, &end, |key, value| {
        let key: &[u8; LEASE_KEY_BYTES] = key.try_into().map_err(|_| damaged("lease"))?;
        let id = LeaseId::new(number(&key[META_KEYSPACE_KEY_BYTES..]) as i64);
        leases.push((id, Lease::decode(value).ok_or_else(|| damaged("lease"))?));
        Ok(())
    })?;
    Ok(leases)
}

pub(super) fn write_lease(batch: &mut Batch, keyspace: KeyspaceId, id: LeaseId, lease: Lease) {
    batch.put(Family::Meta, lease_key(keyspace, id), lease.encode());
}

pub(super) fn delete_lease(batch: &mut Batch, keyspace: KeyspaceId, id: LeaseId) {
    batch.delete(Family::Meta, lease_key(keyspace, id));
}

fn lease_key(keyspace: KeyspaceId, id: LeaseId) -> Vec<u8> {
    let mut key = Vec::with_capacity(LEASE_KEY_BYTES);
    key.extend_from_slice(&meta_key(META_LEASE, keyspace));
    key.extend_from_slice(&id.get().to_be_bytes());
    key
}

pub(super) fn read_alarms(engine: &dyn Engine) -> Result<BTreeSet<Alarm>> {
    let bytes = engine.get(Family::Meta, &[META_ALARMS]).map_err(engine_failed)?.unwrap_or_default();
    let (alarms, rest) = bytes.as_chunks::<ALARM_BYTES>();
    if !rest.is_empty() {
        return Err(damaged("list of alarms"));
    }
    let alarm = |bytes: &[u8; ALARM_BYTES]| {
        let kind = match bytes[8] {
            1 => AlarmKind::NoSpace,
            2 => AlarmKind::Corrupt,
            _ => return Err(damaged("list of alarms")),
        };
        Ok(Alarm { member: number(&bytes[..8]), kind })
    };
    alarms.iter().map(alarm).collect()
}

pub(super) fn write_alarms(batch: &mut Batch, alarms: &BTreeSet<Alarm>) {
    let mut value = Vec::with_capacity(alarms.len() * ALARM_BYTES);
    for alarm in alarms {
        value.extend_from_slice(&alarm.member.to_be_bytes());
        value.push(alarm.kind as u8);
    }
    batch.put(Family::Meta, vec![META_ALARMS], value);
}

/// Visits `Meta` from `from` to `to`; the first error of `visit` ends the walk.
fn scan(
    engine: &dyn Engine,
    from: &[u8],
    to: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    let mut outcome = Ok(());
    let mut each = |key: &[u8], value: &[u8]| {
        outcome = visit(key, value);
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    engine.scan(Family::Meta, from, to, true, &mut each).map_err(engine_failed)?;
    outcome
}

/// Reads eight bytes, big endian.
fn number(bytes: &[u8]) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(bytes);
    u64::from_be_bytes(eight)
}
