//! What the leader decides by itself: expiry, quota, flushes.

use super::core::Core;
use super::maintenance::JobDone;
use super::removals::Removals;
use super::{Job, Metrics};
use crate::command::{Alarm, AlarmKind, Command, Operation, Outcome, Transaction};
use crate::propose::{Slot, Submission};
use crate::types::{Error, KeyspaceId, LogIndex, NodeId, RequestId, Result};
use std::collections::BTreeSet;

/// Leases and keys ended by one turn, as far as one lease allows: half a millisecond that everybody in the turn waits for.
/// While more have expired, turn follows turn.
pub const EXPIRE_WORK_MAX: usize = 100;
/// The longest time leases exist without the clock being written down.
const CLOCK_CHECKPOINT_MS: u64 = 5_000;
/// The alarm clears itself below this share of the quota: well below, so that it does not flap.
const QUOTA_CLEAR_PERCENT: u64 = 90;
/// Free disk below which writes are refused: room for the log segments and the flush that follow.
const DISK_RESERVE_BYTES: std::ops::RangeInclusive<u64> = (24 << 20)..=(256 << 20);

/// The leader's memory between turns.
pub(crate) struct Policy {
    pub(super) node_id: NodeId,
    pub(super) quota_bytes: Option<u64>,
    /// Log that is not flushed and makes the next flush due.
    flush_log_bytes: u64,
    flushed_log_bytes: u64,
    /// What of the log was not in the storage engine at the start, until the first flush.
    inherited_log_bytes: u64,
    flush_running: bool,
    segment_running: bool,
    /// One found no space: the next try is after the next look at the disk, not at once and for ever.
    segment_waits_for_room: bool,
    pub(super) removals: Removals,
    disk_is_low: bool,
    /// Something was refused for the quota since the alarm was last looked at.
    quota_refused: bool,
    /// Those who are told so in this turn, once the alarm is looked at.
    refused: Vec<(Slot<Result<Outcome>>, Error)>,
    expire_request: Option<RequestId>,
    /// More leases have expired than one turn ends.
    expiry_goes_on: bool,
    alarm_request: Option<RequestId>,
    /// NOSPACE alarms of others that were there at the start: a snapshot has them of the member that it was taken of. Only
    /// this one can clear them.
    inherited_alarms: Vec<Alarm>,
}

impl Policy {
    pub(crate) fn new(node_id: NodeId, quota_bytes: Option<u64>, flush_log_bytes: u64) -> Self {
        Self {
            node_id,
            quota_bytes,
            flush_log_bytes,
            flushed_log_bytes: 0,
            inherited_log_bytes: 0,
            flush_running: false,
            segment_running: false,
            segment_waits_for_room: false,
            removals: Removals::default(),
            disk_is_low: false,
            quota_refused: false,
            refused: Vec::new(),
            expire_request: None,
            expiry_goes_on: false,
            alarm_request: None,
            inherited_alarms: Vec::new(),
        }
    }

    /// Takes over what a start finds.
    pub(super) fn inherit_alarms(&mut self, alarms: &BTreeSet<Alarm>) {
        let of_another =
            |alarm: &&Alarm| alarm.kind == AlarmKind::NoSpace && alarm.member != self.node_id.get();
        self.inherited_alarms = alarms.iter().filter(of_another).copied().collect();
    }

    pub(super) fn disk_space(&mut self, free_bytes: u64, total_bytes: u64) {
        self.segment_waits_for_room = false;
        let reserve = (total_bytes / 50).clamp(*DISK_RESERVE_BYTES.start(), *DISK_RESERVE_BYTES.end());
        // Twice the reserve to clear, so that the alarm does not flap.
        let low = free_bytes < if self.disk_is_low { reserve * 2 } else { reserve };
        if low != self.disk_is_low {
            tracing::warn!(free_bytes, reserve_bytes = reserve, low, "disk space guard changed");
        }
        self.disk_is_low = low;
    }

    pub(super) fn request_answered(&mut self, request: RequestId) {
        self.expire_request.take_if(|waiting| *waiting <= request);
        self.alarm_request.take_if(|waiting| *waiting <= request);
    }

    pub(super) fn leadership_lost(&mut self) {
        self.expire_request = None;
        self.expiry_goes_on = false;
        self.alarm_request = None;
    }
}

impl Core {
    pub(super) fn on_policy_tick(&mut self) -> Result<()> {
        let now = self.clock.now();
        if !self.node.is_leading() {
            return Ok(());
        }
        // Before the clock is queued: what is proposed at once must not overtake what waits.
        if self.turn.writes.is_empty() {
            self.watch_space()?;
        }
        if self.policy.expire_request.is_none() && self.machine.has_leases() {
            // The turn that this tick is in ends them.
            self.policy.expiry_goes_on = self.machine.has_expired(self.clock.overdue());
            let is_due = now.since_ms(self.machine.clock()) >= CLOCK_CHECKPOINT_MS;
            // One for both, if two ticks have come together.
            if is_due && !self.has_expired_leases() && self.turn.writes.is_empty() {
                let clock = self.encode_clock();
                self.turn.writes.push_back(clock);
            }
        }
        Ok(())
    }

    /// Whether leases are to be ended in the next turn. Not while a member is corrupt: to end one would be refused as every
    /// change of data, and tried again at once, for ever.
    pub(super) fn has_expired_leases(&self) -> bool {
        let is_possible = || !self.machine.alarms().iter().any(|alarm| alarm.kind == AlarmKind::Corrupt);
        self.policy.expiry_goes_on && self.policy.expire_request.is_none() && is_possible()
    }

    /// The commands that end some of the leases whose time is up. They are the first that are proposed next.
    pub(super) fn expire_leases(&mut self) -> Vec<Submission> {
        if !self.has_expired_leases() {
            return Vec::new();
        }
        let expired = self.machine.expired(self.clock.overdue(), EXPIRE_WORK_MAX);
        let count: usize = expired.iter().map(|(_, leases)| leases.len()).sum();
        self.policy.expiry_goes_on = count > 0;
        if count == 0 {
            return Vec::new();
        }
        Metrics::add(&self.shared.metrics.leases_expired, count as u64);
        let own = expired.into_iter().map(|(ks, leases)| Self::own(ks, Command::LeaseExpire { leases }));
        let own: Vec<Submission> = own.collect();
        self.policy.expire_request = Some(RequestId::new(self.next_request.get() + own.len() as u64 - 1));
        own
    }

    /// Tells those who were refused for want of space; before that the alarm is set, so that they find it when they look.
    pub(super) fn answer_refused(&mut self) -> Result<()> {
        if self.policy.quota_refused && self.node.is_leading() {
            self.watch_space()?;
        }
        for (slot, error) in self.policy.refused.drain(..) {
            slot.complete(Err(error), &mut self.wakes);
        }
        Ok(())
    }

    /// Raises and clears the NOSPACE alarm.
    fn watch_space(&mut self) -> Result<()> {
        if self.policy.alarm_request.is_some() {
            return Ok(());
        }
        let own = Alarm { member: self.policy.node_id.get(), kind: AlarmKind::NoSpace };
        let is_ours = |alarm: &&Alarm| **alarm == own || self.policy.inherited_alarms.contains(alarm);
        let raised = self.machine.alarms().iter().find(is_ours).copied();
        let live_bytes = self.machine.live_bytes();
        let (over, under) = match self.policy.quota_bytes {
            Some(quota) => {
                let under = live_bytes < quota / 100 * QUOTA_CLEAR_PERCENT;
                (live_bytes > quota || (self.policy.quota_refused && !under), under)
            }
            None => (false, true),
        };
        self.policy.quota_refused = false;
        let command = match raised {
            None if over || self.policy.disk_is_low => Command::AlarmActivate(own),
            Some(alarm) if under && !self.policy.disk_is_low => Command::AlarmDeactivate(alarm),
            _ => return Ok(()),
        };
        tracing::warn!(live_bytes, quota_bytes = self.policy.quota_bytes, ?command, "space alarm changes");
        self.policy.alarm_request = Some(self.next_request);
        self.propose(vec![Self::own(KeyspaceId::DEFAULT, command)])
    }

    /// Answers what would exceed the quota or the disk before it is proposed; the rest goes on.
    pub(super) fn refuse_what_has_no_space(&mut self, submissions: Vec<Submission>) -> Vec<Submission> {
        let live_bytes = self.machine.live_bytes();
        let mut room = self.policy.quota_bytes.map_or(u64::MAX, |quota| quota.saturating_sub(live_bytes));
        if self.policy.disk_is_low {
            room = 0;
        }
        if room >= crate::propose::COMMAND_BYTES_IN_FLIGHT_MAX as u64 * 4 {
            return submissions;
        }
        let mut admitted = Vec::with_capacity(submissions.len());
        for mut submission in submissions {
            let cost = stored_bytes(&submission.command);
            if cost <= room {
                room -= cost;
                admitted.push(submission);
            } else if let Some((slot, _permit)) = submission.waiter.take() {
                Metrics::add(&self.shared.metrics.commands_refused, 1);
                let reason =
                    if self.policy.disk_is_low { "the disk is nearly full" } else { "the quota is reached" };
                self.policy.refused.push((slot, Error::NoSpace(reason.into())));
                self.policy.quota_refused = true;
            } else {
                admitted.push(submission);
            }
        }
        admitted
    }

    /// Answers what would read a value that cannot be read before it is proposed, with that error; the rest goes on. What is
    /// in the log has to be applied, here and at every start.
    pub(super) fn refuse_what_cannot_be_read(&mut self, mut submissions: Vec<Submission>) -> Vec<Submission> {
        // Others are refused for that, and another member may have what this one lacks.
        if !self.node.is_leading() {
            return submissions;
        }
        submissions.retain_mut(|submission| {
            let Err(error) = self.machine.rehearse(submission.keyspace, &submission.command) else {
                return true;
            };
            Metrics::add(&self.shared.metrics.commands_refused, 1);
            if let Some((slot, _permit)) = submission.waiter.take() {
                slot.complete(Err(error), &mut self.wakes);
            }
            false
        });
        submissions
    }

    /// Takes over the log that a start finds, once it is replayed: up to `durable` the storage engine had it all when it was
    /// opened, and so many bytes behind that it has not. Many short lives would never flush or purge what each of them leaves.
    pub(crate) fn inherit_log(&mut self, durable: LogIndex, unflushed_log_bytes: u64) -> Result<()> {
        self.policy.inherited_log_bytes = unflushed_log_bytes;
        self.log.purge_below(durable.next())
    }

    /// Starts slow work that is due.
    pub(super) fn after_turn(&mut self) -> Result<()> {
        if !self.policy.segment_running
            && !self.policy.segment_waits_for_room
            && let Some(job) = self.log.housekeeping()
        {
            self.policy.segment_running = true;
            self.jobs.push(Job::Segment(job));
        }
        self.shared.log_bytes.store(self.log.live_bytes(), std::sync::atomic::Ordering::Relaxed);
        let written = self.shared.metrics.log_bytes.load(std::sync::atomic::Ordering::Relaxed);
        let unflushed = written - self.policy.flushed_log_bytes + self.policy.inherited_log_bytes;
        if !self.policy.flush_running && unflushed >= self.policy.flush_log_bytes {
            self.policy.flush_running = true;
            self.policy.flushed_log_bytes = written;
            self.policy.inherited_log_bytes = 0;
            self.jobs.push(Job::Flush { engine: self.machine.engine(), up_to: self.applied_index() });
        }
        self.start_removal();
        Ok(())
    }

    /// Seals the log when nothing was written to it since the last tick: a log at work costs nothing.
    pub(super) fn seal_resting_log(&mut self) -> Result<()> {
        let next_frame = self.log.next_frame();
        if self.next_frame_at_tick == next_frame {
            self.log.seal()?;
        }
        self.next_frame_at_tick = next_frame;
        Ok(())
    }

    /// Leaves the directory as it should rest: the log sealed, and everything durable in the storage engine, so that
    /// the next start has nothing to replay.
    pub(crate) fn rest(&mut self) -> Result<()> {
        self.log.seal_durably()?;
        match self.machine.engine().flush() {
            // Harmless: the log has it all.
            Err(error) if error.is_no_space() => {
                tracing::warn!(%error, "flush at stop failed; the next start replays the log");
                Ok(())
            }
            // As harmless, but a disk that fails must not go unnoticed.
            other => other.map_err(Error::from),
        }
    }

    pub(super) fn job_done(&mut self, done: JobDone) -> Result<()> {
        match done {
            JobDone::Segment(result) => {
                self.policy.segment_running = false;
                match result {
                    Ok(segment) => self.log.finish(segment),
                    // The log makes its own segment when it needs one; a full disk shows there.
                    Err(error @ Error::NoSpace(_)) => {
                        self.policy.segment_waits_for_room = true;
                        tracing::warn!(%error, "a log segment could not be prepared");
                    }
                    // Nothing was lost yet, but a disk that fails is not worked with.
                    Err(error) => return Err(error),
                }
            }
            JobDone::Flush { result, up_to } => {
                self.policy.flush_running = false;
                result?;
                Metrics::add(&self.shared.metrics.flushes, 1);
                self.log.purge_below(up_to.next())?;
            }
            JobDone::Removal { keyspace, result } => self.removal_done(keyspace, result)?,
        }
        Ok(())
    }
}

/// Bytes a command may add to the state, by etcd's estimate (256 and the lengths for a put, 64 for a lease).
fn stored_bytes(command: &Command) -> u64 {
    fn of_transaction(transaction: &Transaction) -> u64 {
        let of_branch = |branch: &Vec<Operation>| branch.iter().map(of_operation).sum::<u64>();
        of_branch(&transaction.success).max(of_branch(&transaction.failure))
    }
    fn of_operation(operation: &Operation) -> u64 {
        match operation {
            Operation::Put(put) => {
                let value = match &put.value {
                    crate::command::PutValue::Set(value) => value.len(),
                    crate::command::PutValue::Keep => 0,
                };
                (256 + put.key.len() + value) as u64
            }
            Operation::Transaction(inner) => of_transaction(inner),
            Operation::Range(_) | Operation::Delete(_) => 0,
        }
    }
    match command {
        Command::Transaction(transaction) => of_transaction(transaction),
        Command::LeaseGrant { .. } => 64,
        _ => 0,
    }
}
