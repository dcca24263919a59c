//! The state machine itself: entries in, one engine write, outcomes and events out.

use super::keyspace::Keyspace;
use super::stored::{self, Position};
use super::{Stop, admission, leases, rehearsal, transaction};
use crate::command::{Alarm, Batch, Command, Outcome};
use crate::lease::LeaseReader;
use crate::mvcc::{Event, Reader, Removal, RemovalProgress, RemovalScan, ValueCache};
use crate::storage::{self, Engine};
use crate::types::{
    ClockMillis, Error, KeyspaceId, LeaseId, LogIndex, LogMark, RequestId, Result, Revision, Term,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One committed entry of the log.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its place.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// What it carries; `None` for raft's own entries, which only move the position.
    pub batch: Option<Arc<Batch>>,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Completed {
    /// Who proposed it, see [`Batch::proposer`].
    pub proposer: u64,
    /// Its name there.
    pub request: RequestId,
    /// Its outcome, or why it was refused.
    pub result: Result<Outcome>,
}

/// What applying some entries brought.
#[derive(Debug, Default)]
pub struct Applied {
    /// One for each command, in order.
    pub outcomes: Vec<Completed>,
    /// The changes of each keyspace in order, and its revision after them.
    pub events: Vec<(KeyspaceId, Vec<Arc<Event>>, Revision)>,
    /// The compaction floors that moved.
    pub floors: Vec<(KeyspaceId, Revision)>,
}

/// How to keep the state. Nothing here may change what is written.
#[derive(Clone, Copy, Debug)]
pub struct ApplyOptions {
    /// How many bytes of values stay in memory, over all keyspaces.
    pub value_cache_bytes: usize,
    /// Whether readers wait while a batch of entries is applied, see [`crate::mvcc::Versions::change_in_place`].
    pub changes_in_place: bool,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        // Holds the working set of a small cluster; misses cost one read of the engine.
        Self { value_cache_bytes: 32 << 20, changes_in_place: false }
    }
}

/// The replicated state. One thread owns it; [`Reader`]s and [`LeaseReader`]s go to others.
pub struct StateMachine {
    engine: Arc<dyn Engine>,
    cache: Arc<ValueCache>,
    changes_in_place: bool,
    keyspaces: BTreeMap<KeyspaceId, Keyspace>,
    alarms: BTreeSet<Alarm>,
    position: Position,
    /// Whether the engine knows its format, or has to be told with the next write.
    has_format: bool,
    /// The log that the state belongs to, until the engine has been told with the next write.
    unwritten_log_mark: Option<LogMark>,
    /// The failure that ended it.
    failed: Option<Error>,
}

/// What the entries of one call have changed so far.
#[derive(Default)]
struct Turn {
    batch: storage::Batch,
    outcomes: Vec<Completed>,
    changed: BTreeMap<KeyspaceId, Changes>,
}

#[derive(Default)]
struct Changes {
    events: Vec<Arc<Event>>,
    floor: Option<Revision>,
}

impl StateMachine {
    /// Sees to it that the engine is never closed, as long as the process lives: closing writes files by their paths, where
    /// another store may be by now.
    pub fn keep_engine_open(&self) {
        let _for_ever = std::mem::ManuallyDrop::new(Arc::clone(&self.engine));
    }

    /// Reads the state that `engine` holds; an empty engine is a fresh state.
    pub fn load(engine: Arc<dyn Engine>, options: ApplyOptions) -> Result<StateMachine> {
        let has_format = stored::check_format(&*engine)?;
        let mut machine = StateMachine {
            cache: ValueCache::new(options.value_cache_bytes),
            changes_in_place: options.changes_in_place,
            keyspaces: BTreeMap::new(),
            alarms: stored::read_alarms(&*engine)?,
            position: stored::read_position(&*engine)?,
            has_format,
            unwritten_log_mark: None,
            failed: None,
            engine,
        };
        for id in stored::read_keyspaces(&*machine.engine)? {
            machine.open(id)?;
        }
        Ok(machine)
    }

    /// The last entry that `engine` holds the effects of, and its term, without loading anything else.
    pub fn applied_in(engine: &dyn Engine) -> Result<(LogIndex, Term)> {
        stored::check_format(engine)?;
        let position = stored::read_position(engine)?;
        Ok((position.index, position.term))
    }

    /// The log that the state in `engine` belongs to, if it says so.
    pub fn log_of(engine: &dyn Engine) -> Result<Option<LogMark>> {
        stored::read_log_mark(engine)
    }

    /// Has the state in `engine` say at once and durably that it belongs to this log.
    pub fn assign_to(engine: &dyn Engine, log: LogMark) -> Result<()> {
        let mut batch = storage::Batch::default();
        stored::write_log_mark(&mut batch, log);
        engine.write(batch).and_then(|()| engine.flush()).map_err(stored::engine_failed)
    }

    /// From its next write on the state says that it belongs to this log.
    pub fn belongs_to(&mut self, log: LogMark) -> Result<()> {
        let is_said = stored::read_log_mark(&*self.engine)? == Some(log);
        self.unwritten_log_mark = Some(log).filter(|_| !is_said);
        Ok(())
    }

    /// The last applied entry and its term.
    pub fn applied(&self) -> (LogIndex, Term) {
        (self.position.index, self.position.term)
    }

    /// The replicated clock that lease deadlines are measured in.
    pub fn clock(&self) -> ClockMillis {
        self.position.clock
    }

    /// Applies `entries`, which follow each other and what was applied before; those that were applied
    /// already are skipped. One engine write, then everything is published.
    ///
    /// An error is final: the engine has failed, and so will every further call.
    pub fn apply(&mut self, entries: &[Committed]) -> Result<Applied> {
        self.guarded(|machine| machine.apply_entries(entries))
    }

    /// Makes the reads of values that applying `command` now would make. It fails if one of them does: such a command must
    /// not come into the log, where it would end this state machine. Changes nothing, and costs a command that reads no
    /// value next to nothing.
    pub fn rehearse(&self, keyspace: KeyspaceId, command: &Command) -> Result<()> {
        match (command, self.keyspaces.get(&keyspace)) {
            (Command::Transaction(transaction), Some(keyspace)) => rehearsal::rehearse(keyspace, transaction),
            _ => Ok(()),
        }
    }

    /// A reader of a keyspace, which need not have been written to yet.
    pub fn reader(&mut self, keyspace: KeyspaceId) -> Result<Reader> {
        Ok(self.open(keyspace)?.versions.reader())
    }

    /// The leases of a keyspace.
    pub fn leases(&mut self, keyspace: KeyspaceId) -> Result<LeaseReader> {
        Ok(self.open(keyspace)?.leases.reader())
    }

    /// Leases whose time is up at `now`, over all keyspaces, as [`Command::LeaseExpire`] wants them; no further one
    /// once they and their keys are `max`. Takes as long as the result.
    pub fn expired(&self, now: ClockMillis, max: usize) -> Vec<(KeyspaceId, Vec<(LeaseId, u64)>)> {
        let mut left = max;
        let mut found = Vec::new();
        for (id, keyspace) in &self.keyspaces {
            let due = keyspace.leases.expired(now, &mut left);
            if !due.is_empty() {
                found.push((*id, due));
            }
        }
        found
    }

    /// Whether a lease is due.
    pub fn has_expired(&self, now: ClockMillis) -> bool {
        self.keyspaces.values().any(|keyspace| keyspace.leases.next_deadline().is_some_and(|due| due <= now))
    }

    /// Whether there is any lease: without one the clock need not go on.
    pub fn has_leases(&self) -> bool {
        self.keyspaces.values().any(|keyspace| !keyspace.leases.is_empty())
    }

    /// The alarms that are set.
    pub fn alarms(&self) -> &BTreeSet<Alarm> {
        &self.alarms
    }

    /// Bytes of all retained versions of all keyspaces: what a quota is measured against.
    pub fn live_bytes(&self) -> u64 {
        self.keyspaces.values().map(|keyspace| keyspace.versions.live_bytes()).sum()
    }

    /// The engine underneath, for flushing and checkpoints.
    pub fn engine(&self) -> Arc<dyn Engine> {
        self.engine.clone()
    }

    /// Everything unreadable below this floor is gone from the engine.
    pub fn removed_up_to(&self, keyspace: KeyspaceId) -> Revision {
        self.keyspaces.get(&keyspace).map_or(Revision::NONE, |keyspace| keyspace.versions.removed_below())
    }

    /// The next piece of background removal behind a compaction floor, if any is left.
    pub fn next_removal(&self) -> Option<(KeyspaceId, RemovalScan)> {
        self.next_removal_of(|_, _| true)
    }

    /// As [`StateMachine::next_removal`], in those keyspaces only that are `wanted` with their compaction floor.
    pub fn next_removal_of(
        &self,
        wanted: impl Fn(KeyspaceId, Revision) -> bool,
    ) -> Option<(KeyspaceId, RemovalScan)> {
        let wanted = |(id, keyspace): &(&KeyspaceId, &Keyspace)| wanted(**id, keyspace.versions.floor());
        let next = |(id, keyspace): (&KeyspaceId, &Keyspace)| Some((*id, keyspace.versions.next_removal()?));
        self.keyspaces.iter().filter(wanted).find_map(next)
    }

    /// The compaction floor.
    pub fn floor(&self, keyspace: KeyspaceId) -> Revision {
        self.keyspaces.get(&keyspace).map_or(Revision::NONE, |keyspace| keyspace.versions.floor())
    }

    /// Carries out what a [`RemovalScan`] found. An error is final, as in [`StateMachine::apply`].
    pub fn apply_removal(&mut self, keyspace: KeyspaceId, removal: Removal) -> Result<RemovalProgress> {
        self.guarded(|machine| {
            let mut batch = storage::Batch::default();
            let progress = machine.open(keyspace)?.versions.apply_removal(removal, &mut batch)?;
            machine.engine.write(batch).map_err(stored::engine_failed)?;
            machine.open(keyspace)?.publish();
            Ok(progress)
        })
    }

    /// Runs `change` unless an earlier one has failed, and remembers if it fails.
    fn guarded<T>(&mut self, change: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        let result = change(self);
        self.failed = result.as_ref().err().cloned();
        result
    }

    fn open(&mut self, id: KeyspaceId) -> Result<&mut Keyspace> {
        Ok(match self.keyspaces.entry(id) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let keyspace = entry.insert(Keyspace::load(id, &self.engine, &self.cache)?);
                if self.changes_in_place {
                    keyspace.versions.change_in_place();
                }
                keyspace
            }
        })
    }

    fn apply_entries(&mut self, entries: &[Committed]) -> Result<Applied> {
        let mut turn = Turn::default();
        let before = self.position.index;
        for entry in entries {
            if entry.index <= self.position.index {
                continue;
            }
            assert_eq!(entry.index, self.position.index.next(), "entries are applied without gaps");
            assert!(entry.term >= self.position.term, "terms never go back");
            (self.position.index, self.position.term) = (entry.index, entry.term);
            if let Some(batch) = &entry.batch {
                self.apply_batch(entry.index, batch, &mut turn)?;
            }
        }
        if self.position.index == before {
            return Ok(Applied::default());
        }
        self.commit(turn)
    }

    /// Writes a turn together with the position, then shows it.
    fn commit(&mut self, mut turn: Turn) -> Result<Applied> {
        if !self.has_format {
            stored::write_format(&mut turn.batch);
        }
        if let Some(mark) = self.unwritten_log_mark.take() {
            stored::write_log_mark(&mut turn.batch, mark);
        }
        stored::write_position(&mut turn.batch, self.position);
        self.engine.write(turn.batch).map_err(stored::engine_failed)?;
        self.has_format = true;

        let mut applied = Applied { outcomes: turn.outcomes, ..Applied::default() };
        for (id, changes) in turn.changed {
            let keyspace = self.open(id)?;
            keyspace.publish();
            if !changes.events.is_empty() {
                applied.events.push((id, changes.events, keyspace.versions.revision()));
            }
            applied.floors.extend(changes.floor.map(|floor| (id, floor)));
        }
        Ok(applied)
    }

    fn apply_batch(&mut self, index: LogIndex, batch: &Batch, turn: &mut Turn) -> Result<()> {
        self.position.clock = self.position.clock.max(batch.clock);
        for (offset, (keyspace, command)) in batch.commands.iter().enumerate() {
            let result = match self.apply_command(index, *keyspace, command, turn) {
                Ok(outcome) => Ok(outcome),
                Err(Stop::Refused(reason)) => Err(reason),
                Err(Stop::Failed(failure)) => return Err(failure),
            };
            let request = RequestId::new(batch.first_request.get().wrapping_add(offset as u64));
            turn.outcomes.push(Completed { proposer: batch.proposer, request, result });
        }
        Ok(())
    }

    fn apply_command(
        &mut self,
        index: LogIndex,
        id: KeyspaceId,
        command: &Command,
        turn: &mut Turn,
    ) -> std::result::Result<Outcome, Stop> {
        admission::admit(&self.alarms, command).map_err(Stop::Refused)?;
        let (now, epoch) = (self.position.clock, index.get());
        let keyspace = self.open(id).map_err(Stop::Failed)?;
        let batch = &mut turn.batch;
        let Changes { events, floor } = turn.changed.entry(id).or_default();
        match command {
            Command::Transaction(transaction) => {
                transaction::execute(keyspace, transaction, batch, events).map(Outcome::Transaction)
            }
            Command::Compact { revision } => {
                keyspace.versions.compact(*revision, batch).map_err(|error| match error {
                    Error::Compacted { .. } | Error::FutureRevision { .. } => Stop::Refused(error),
                    _ => Stop::Failed(error),
                })?;
                *floor = Some(*revision);
                Ok(Outcome::Compacted { revision: keyspace.versions.revision() })
            }
            Command::LeaseGrant { id, ttl_s } => leases::grant(keyspace, *id, *ttl_s, now, epoch, batch),
            Command::LeaseRevoke { id } => leases::revoke(keyspace, *id, batch, events),
            Command::LeaseRenew { ids } => Ok(leases::renew(keyspace, ids, now, epoch, batch)),
            Command::LeaseExpire { leases } => Ok(leases::expire(keyspace, leases, batch, events)),
            Command::AlarmActivate(alarm) => {
                let revision = keyspace.versions.revision();
                let changed = self.alarms.insert(*alarm);
                Ok(self.alarms_outcome(changed, revision, batch))
            }
            Command::AlarmDeactivate(alarm) => {
                let revision = keyspace.versions.revision();
                let changed = self.alarms.remove(alarm);
                Ok(self.alarms_outcome(changed, revision, batch))
            }
        }
    }

    fn alarms_outcome(&self, changed: bool, revision: Revision, batch: &mut storage::Batch) -> Outcome {
        if changed {
            stored::write_alarms(batch, &self.alarms);
        }
        Outcome::Alarms { alarms: self.alarms.iter().copied().collect(), revision }
    }
}
