//! The core: consensus, log and state machine, driven turn by turn.

use super::core_policy::Policy;
use super::large_rest::LargeRest;
use super::shared::Shared;
use super::sync_pace::SyncPace;
use super::turn::{TurnState, UnderWay};
use super::{DirectoryLock, JobQueue, LogicalClock, Metrics, Place, Work};
use crate::apply::{Applied, Committed, StateMachine};
use crate::command::{Batch, Command, Outcome, decode_batch, encode_batch};
use crate::consensus::{Effects, Input, Node, Persist, ProposeRefused, Role};
use crate::log::{Append, Log};
use crate::propose::{Lanes, Submission, Waiters, WakeList, split_into_batches};
use crate::read::ReadBarriers;
use crate::types::{CallerId, EntryKind, Error, KeyspaceId, LogEntry, LogIndex, RequestId, Result};
use crate::watch::Hub;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// Bytes of commands that go into one log write: bounds the time of one sync and the memory of one frame.
const TURN_BYTES_MAX: usize = 8 << 20;

/// Everything one member does, in one place and on one thread.
pub(crate) struct Core {
    pub(super) node: Node,
    pub(super) log: Log,
    pub(super) machine: StateMachine,
    pub(super) shared: Arc<Shared>,
    pub(super) jobs: Arc<JobQueue>,
    pub(super) clock: Arc<LogicalClock>,
    /// How far apart ticks are.
    tick: Duration,
    pub(super) policy: Policy,
    pub(super) wakes: WakeList,
    /// Sessions of watchers that have something to read.
    watchers_to_wake: VecDeque<Waker>,
    hubs: BTreeMap<KeyspaceId, Arc<Hub>>,
    waiters: Waiters,
    /// The number of the log's next frame, as of the last tick.
    pub(super) next_frame_at_tick: u64,
    pub(super) lanes: Lanes,
    pub(super) large_rest: LargeRest,
    /// Applied, and not yet told to consensus.
    unreported_applied: Option<LogIndex>,
    pub(super) reads: ReadBarriers,
    pub(super) sync_pace: SyncPace,
    /// Where the present turn is.
    pub(super) turn: TurnState,
    /// Batches proposed here and not yet committed, with the bytes that identify them: what is committed need
    /// not be decoded again.
    proposed: VecDeque<(Bytes, Arc<Batch>)>,
    proposer: u64,
    pub(super) next_request: RequestId,
    /// Keeps the data directory locked for as long as anything here may write in it.
    _directory: Arc<DirectoryLock>,
    /// Where it is, as long as it is.
    pub(super) place: Place,
}

/// What a core is made of.
pub(crate) struct CoreParts {
    pub(crate) node: Node,
    pub(crate) log: Log,
    pub(crate) machine: StateMachine,
    pub(crate) shared: Arc<Shared>,
    pub(crate) jobs: Arc<JobQueue>,
    pub(crate) policy: Policy,
    pub(crate) hubs: BTreeMap<KeyspaceId, Arc<Hub>>,
    pub(crate) reads: ReadBarriers,
    /// Differs between any two starts of any member.
    pub(crate) boot_nonce: u64,
    /// The lock on the data directory.
    pub(crate) directory: Arc<DirectoryLock>,
    pub(crate) place: Place,
    /// How far apart ticks are.
    pub(crate) tick: Duration,
}

impl Core {
    pub(crate) fn new(mut parts: CoreParts) -> Self {
        parts.policy.inherit_alarms(parts.machine.alarms());
        Self {
            clock: Arc::new(LogicalClock::starting_at(parts.machine.clock(), parts.tick)),
            tick: parts.tick,
            node: parts.node,
            log: parts.log,
            machine: parts.machine,
            shared: parts.shared,
            jobs: parts.jobs,
            policy: parts.policy,
            wakes: WakeList::default(),
            watchers_to_wake: VecDeque::new(),
            hubs: parts.hubs,
            waiters: Waiters::default(),
            next_frame_at_tick: 0,
            lanes: Lanes::default(),
            large_rest: LargeRest::default(),
            unreported_applied: None,
            reads: parts.reads,
            sync_pace: SyncPace::default(),
            turn: TurnState::default(),
            proposed: VecDeque::new(),
            proposer: parts.boot_nonce,
            next_request: RequestId::new(1),
            _directory: parts.directory,
            place: parts.place,
        }
    }

    /// Stands for election now: the only voter of a group need not wait for its timeout.
    pub(crate) fn campaign(&mut self) -> Result<()> {
        self.step(Input::Campaign).map(|_| ())
    }

    /// Goes on with the clock that the log's entries had come to, not with that of the older state on disk: due once
    /// they are applied, before anybody is served.
    pub(crate) fn start_clock(&mut self) {
        self.clock = Arc::new(LogicalClock::starting_at(self.machine.clock(), self.tick));
        self.shared.set_clock(Arc::clone(&self.clock));
    }

    /// Whether this member leads and has applied what it inherited.
    pub(crate) fn is_ready(&self) -> bool {
        self.shared.reads_are_local()
    }

    pub(super) fn tick(&mut self) -> Result<()> {
        self.step(Input::Tick)?;
        self.reads.tick(&mut self.wakes);
        self.on_policy_tick()
    }

    pub(super) fn ask_for_reads(&mut self) -> Result<()> {
        if let Some(context) = self.reads.begin_attempt() {
            Metrics::add(&self.shared.metrics.read_indexes, 1);
            self.step(Input::ReadIndex(context))?;
        }
        Ok(())
    }

    /// Proposes everything, in as few entries and syncs as the bounds allow, and waits for the disk.
    pub(super) fn propose(&mut self, submissions: Vec<Submission>) -> Result<()> {
        self.encode(submissions).into_iter().try_for_each(|encoded| self.propose_encoded(encoded))
    }

    /// The entries of `submissions`, as many together as one log write takes. Whoever waits for them is remembered: they
    /// are proposed in this order, and before anything else.
    pub(super) fn encode(&mut self, submissions: Vec<Submission>) -> Vec<Vec<Bytes>> {
        if submissions.is_empty() {
            return Vec::new();
        }
        let submissions = self.refuse_what_cannot_be_read(submissions);
        let admitted = self.refuse_what_has_no_space(submissions);
        let clock = self.clock.now();
        let proposals = split_into_batches(admitted, self.proposer, clock, &mut self.next_request);
        let mut writes = Vec::new();
        let mut encoded = Vec::with_capacity(proposals.len());
        let mut bytes = 0;
        for proposal in proposals {
            let data = encode_batch(&proposal.batch);
            bytes += data.len();
            self.waiters.remember(proposal.batch.first_request, proposal.waiters);
            self.proposed.push_back((data.clone(), Arc::new(proposal.batch)));
            encoded.push(data);
            if bytes >= TURN_BYTES_MAX {
                writes.push(std::mem::take(&mut encoded));
                bytes = 0;
            }
        }
        writes.push(encoded);
        writes
    }

    /// A batch without commands: it only carries the clock.
    pub(super) fn encode_clock(&mut self) -> Vec<Bytes> {
        let batch = Batch {
            proposer: self.proposer,
            clock: self.clock.now(),
            first_request: self.next_request,
            commands: Vec::new(),
        };
        let data = encode_batch(&batch);
        self.proposed.push_back((data.clone(), Arc::new(batch)));
        vec![data]
    }

    pub(super) fn propose_encoded(&mut self, encoded: Vec<Bytes>) -> Result<()> {
        if encoded.is_empty() {
            return Ok(());
        }
        let metrics = &self.shared.metrics;
        Metrics::add(&metrics.entries_proposed, encoded.len() as u64);
        Metrics::add(&metrics.log_bytes, encoded.iter().map(|data| data.len() as u64).sum());
        if let Some(ProposeRefused::NotLeader { leader }) = self.step(Input::Propose(encoded))? {
            // Nothing of it was taken; whatever was proposed before and is still open was lost with the role.
            self.proposed.clear();
            let error = match leader {
                Some(_) => Error::NotLeader { leader },
                None => Error::NoLeader,
            };
            self.waiters.fail_all(&error, &mut self.wakes);
        }
        Ok(())
    }

    /// Gives consensus an input and carries out all effects that follow from it.
    pub(super) fn step(&mut self, input: Input) -> Result<Option<ProposeRefused>> {
        let mut effects = self.node.step(input);
        let refused = effects.refused;
        while let Some(next) = self.carry_out(effects)? {
            effects = self.node.step(next);
        }
        Ok(refused)
    }

    fn carry_out(&mut self, effects: Effects) -> Result<Option<Input>> {
        if let Some(role) = effects.role {
            self.role_changed(role);
        }
        for ready in effects.reads {
            self.reads.confirm(ready);
        }
        assert!(effects.send.is_empty(), "a group of one has nobody to send to");
        let mut applied = None;
        if !effects.commit.is_empty() {
            applied = effects.commit.last().map(|entry| entry.index);
            self.apply(effects.commit)?;
        }
        if let Some(persist) = effects.persist {
            // What was applied is told with the next step; raft only needs it now and then.
            self.unreported_applied = applied.or(self.unreported_applied);
            return self.persist(persist);
        }
        // Newer than what is still to be told, if there is both.
        let unreported = self.unreported_applied.take();
        Ok(applied.or(unreported).map(Input::Applied))
    }

    /// Writes and syncs here and now, or leaves it to whoever carries the turn's append elsewhere.
    fn persist(&mut self, persist: Persist) -> Result<Option<Input>> {
        let started = Instant::now();
        let Some(mut append) = self.log.begin_append(persist.hard_state, &persist.entries)? else {
            return Ok(Some(Input::Persisted(persist.number)));
        };
        let under_way = UnderWay { number: persist.number, started };
        if self.turn.goes_beside {
            self.turn.leaves = Some((append, under_way));
            return Ok(None);
        }
        append.run();
        self.persisted(append, &under_way).map(Some)
    }

    /// The disk has answered.
    pub(super) fn persisted(&mut self, append: Append, under_way: &UnderWay) -> Result<Input> {
        self.log.finish_append(append)?;
        let took = under_way.started.elapsed();
        self.shared.metrics.log_sync.observe(took);
        self.sync_pace.observe(self.log.last_write());
        Ok(Input::Persisted(under_way.number))
    }

    fn apply(&mut self, entries: Vec<LogEntry>) -> Result<()> {
        let started = Instant::now();
        let mut committed = Vec::with_capacity(entries.len());
        for entry in entries {
            let batch = self.batch_of(&entry)?;
            committed.push(Committed { index: entry.index, term: entry.term, batch });
        }
        let applied = self.machine.apply(&committed)?;
        self.shared.metrics.apply.observe(started.elapsed());
        self.publish(applied);
        Ok(())
    }

    /// The batch an entry carries: the one we proposed, if it is ours, else decoded from its bytes.
    fn batch_of(&mut self, entry: &LogEntry) -> Result<Option<Arc<Batch>>> {
        if entry.data.is_empty() || entry.kind != EntryKind::Normal {
            return Ok(None);
        }
        let is_it = |ours: &Bytes| ours.as_ptr() == entry.data.as_ptr() && ours.len() == entry.data.len();
        if let Some(at) = self.proposed.iter().position(|(ours, _)| is_it(ours)) {
            // Those before it were never committed: their place in the log was taken.
            let batch = self.proposed.drain(..=at).next_back();
            return Ok(batch.map(|(_, batch)| batch));
        }
        let batch = decode_batch(entry.data.clone()).map_err(|error| {
            let index = entry.index;
            Error::Poisoned(format!("entry {index} of the raft log cannot be read: {error}"))
        })?;
        Ok(Some(Arc::new(batch)))
    }

    /// Makes applied changes known: state first, then the waiters, then the watches.
    fn publish(&mut self, applied: Applied) {
        let (index, _) = self.machine.applied();
        self.publish_progress();
        self.shared.publish_alarms(self.machine.alarms());
        self.shared.publish_role(self.node.role(), index);
        let metrics = &self.shared.metrics;
        Metrics::add(&metrics.commands_applied, applied.outcomes.len() as u64);
        for completed in applied.outcomes {
            if completed.proposer == self.proposer {
                self.policy.request_answered(completed.request);
                self.waiters.answer(completed.request, completed.result, &mut self.wakes);
            }
        }
        for (keyspace, floor) in applied.floors {
            if let Some(hub) = self.hubs.get(&keyspace) {
                hub.compacted(floor);
            }
        }
        for (keyspace, events, current) in applied.events {
            if let Some(hub) = self.hubs.get(&keyspace) {
                self.watchers_to_wake.extend(hub.publish_and_tell(&events, current));
            }
        }
        self.reads.applied(index, &mut self.wakes);
    }

    /// Wakes so many sessions of watchers that have something to read; whether there are more.
    pub(super) fn wake_watchers(&mut self, max: usize) -> bool {
        let count = max.min(self.watchers_to_wake.len());
        self.watchers_to_wake.drain(..count).for_each(Waker::wake);
        !self.watchers_to_wake.is_empty()
    }

    fn role_changed(&mut self, role: Role) {
        tracing::debug!(?role, "role");
        if role.term != self.shared.term() {
            self.reads.term_changed();
        }
        if role.leader.is_some() && role.leader != self.shared.leader() {
            Metrics::add(&self.shared.metrics.leader_changes, 1);
        }
        if !role.leading {
            let lost = Error::OutcomeUnknown("this member lost its leadership".into());
            self.waiters.fail_all(&lost, &mut self.wakes);
            self.proposed.clear();
            self.policy.leadership_lost();
        }
        self.shared.publish_role(role, self.machine.applied().0);
    }

    /// The store's own command: nobody waits for it.
    pub(super) fn own(keyspace: KeyspaceId, command: Command) -> Submission {
        Submission { keyspace, caller: CallerId::NONE, command, bytes: 0, waiter: None }
    }

    /// Applied so far.
    pub(super) fn applied_index(&self) -> LogIndex {
        self.machine.applied().0
    }

    /// Ends everything with `error`: called once, after the last turn.
    pub(crate) fn fail(&mut self, error: &Error) {
        self.shared.stop_local_reads();
        self.shared.failure.set(error.clone());
        let queued = self.shared.mailbox.close(error.clone());
        let waiting = Work { submissions: self.lanes.take().into(), ..Work::default() };
        for work in [self.take_undone(), waiting, queued] {
            for submission in work.submissions {
                if let Some((slot, _permit)) = submission.waiter {
                    slot.complete(Err(error.clone()), &mut self.wakes);
                }
            }
            for slot in work.reads {
                slot.complete(Err(error.clone()), &mut self.wakes);
            }
            self.policy.removals.waits.extend(work.removals);
        }
        for wait in std::mem::take(&mut self.policy.removals.waits) {
            wait.slot.complete(Err(error.clone()), &mut self.wakes);
        }
        let unknown = match error {
            Error::Stopped => Error::OutcomeUnknown("the store stopped before the outcome was known".into()),
            other => Error::OutcomeUnknown(format!("the store failed: {other}")),
        };
        self.waiters.fail_all(&unknown, &mut self.wakes);
        self.reads.fail_all(error, &mut self.wakes);
        for hub in self.hubs.values() {
            hub.stop();
        }
        self.jobs.close();
        self.wakes.wake();
        self.wake_watchers(usize::MAX);
    }
}

/// The outcome a caller asked for, or a broken invariant.
pub(crate) fn unexpected(outcome: &Outcome) -> Error {
    Error::Poisoned(format!("a command was answered with the outcome of another kind: {outcome:?}"))
}
