//! One member of the raft group.

use super::effects::{Effects, Input, Persist, PersistNumber, ProposeRefused, ReadContext, ReadReady, Role};
use super::tail::{Tail, from_raft, to_raft};
use crate::types::{HardState, LogEntry, LogIndex, NodeId, Term};
use raft::eraftpb::{ConfState, Entry, Message, MessageType};
use raft::{Config, RawNode, ReadOnlyOption, StateRole};
use std::collections::VecDeque;

/// Appends to one follower that may be under way unacknowledged: enough to fill a fast link, few enough that a
/// slow follower does not pile up megabytes.
const APPENDS_IN_FLIGHT_MAX: usize = 256;
/// Bytes of entries in one message to a follower.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of committed entries handed out at once: bounds one turn of apply.
const COMMIT_BYTES_MAX: u64 = 8 << 20;

/// How a member behaves.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// This member.
    pub node_id: NodeId,
    /// Election timeout in ticks, at least.
    pub election_ticks: usize,
    /// Ticks added to the election timeout, drawn by the caller once per start from its own randomness. It
    /// pins raft-rs's own draw, so that a simulation repeats exactly.
    pub election_jitter_ticks: usize,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: usize,
}

/// What a member knows when it starts.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The last entry that the state has applied, and its term.
    pub applied: (LogIndex, Term),
    /// From the log.
    pub hard_state: HardState,
    /// The log from the entry after `applied` on.
    pub entries: Vec<LogEntry>,
    /// The members that vote.
    pub voters: Vec<NodeId>,
}

/// The pure core: see the module's text.
pub struct Node {
    raw: RawNode<Tail>,
    /// Readies handed out for persisting, oldest first, with the messages that wait for the sync.
    waiting: VecDeque<(PersistNumber, Vec<Message>)>,
    /// A hard state that needs no sync of its own (only the commit index moved): goes with the next write.
    unwritten_commit: Option<HardState>,
    role: Role,
    applied: LogIndex,
    /// The index of the entry that this member's present leadership began with.
    term_start: Option<LogIndex>,
}

impl Node {
    /// Starts a member from what it knew.
    ///
    /// # Errors
    /// A text that names the contradiction when the restored parts do not fit together.
    pub fn new(config: &NodeConfig, restored: Restored) -> Result<Self, String> {
        let Restored { applied, mut hard_state, entries, voters } = restored;
        let last = entries.last().map_or(applied.0, |entry| entry.index);
        if hard_state.commit > last {
            return Err(format!(
                "the log says that entry {} was committed but ends at {last}: its end is missing",
                hard_state.commit
            ));
        }
        // The commit index is written lazily, with the next entries; what is applied was committed.
        hard_state.commit = hard_state.commit.max(applied.0);
        hard_state.term = hard_state.term.max(applied.1);
        let conf_state =
            ConfState { voters: voters.iter().map(|id| id.get()).collect(), ..Default::default() };
        let mut tail = Tail::new(applied, hard_state, conf_state);
        let entries: Vec<Entry> = entries.iter().map(to_raft).collect();
        tail.append(&entries);
        let min_election_tick = config.election_ticks + config.election_jitter_ticks;
        let raft_config = Config {
            id: config.node_id.get(),
            election_tick: config.election_ticks,
            min_election_tick,
            max_election_tick: min_election_tick + 1,
            heartbeat_tick: config.heartbeat_ticks,
            applied: applied.0.get(),
            max_inflight_msgs: APPENDS_IN_FLIGHT_MAX,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_committed_size_per_ready: COMMIT_BYTES_MAX,
            check_quorum: true,
            pre_vote: true,
            batch_append: true,
            read_only_option: ReadOnlyOption::Safe,
            ..Default::default()
        };
        let raw = RawNode::new(&raft_config, tail, &super::logger::logger()).map_err(|e| e.to_string())?;
        Ok(Self {
            raw,
            waiting: VecDeque::new(),
            unwritten_commit: None,
            role: Role::default(),
            applied: applied.0,
            term_start: None,
        })
    }

    /// Takes one input and says what to do.
    ///
    /// # Panics
    /// When an invariant of raft is broken; the process must not outlive that.
    pub fn step(&mut self, input: Input) -> Effects {
        let mut effects = Effects::default();
        match input {
            Input::Tick => {
                self.raw.tick();
            }
            Input::Campaign => {
                let _ = self.raw.campaign();
            }
            Input::Propose(batches) => effects.refused = self.propose(batches),
            Input::ReadIndex(context) => self.raw.read_index(context.encode()),
            Input::Message(message) => {
                // A message that raft refuses (from a removed peer, say) is dropped, as on a bad network.
                if let Err(error) = self.raw.step(*message) {
                    tracing::debug!(%error, "peer message dropped");
                }
            }
            Input::Persisted(number) => self.persisted(number, &mut effects),
            Input::Applied(index) => {
                assert!(index >= self.applied, "applied never goes back");
                self.applied = index;
            }
        }
        self.report_applied();
        self.collect(&mut effects);
        effects
    }

    /// The index up to which entries are committed.
    pub fn committed(&self) -> LogIndex {
        LogIndex::new(self.raw.raft.raft_log.committed)
    }

    /// Whether this member leads.
    pub fn is_leading(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// The newest role.
    pub fn role(&self) -> Role {
        self.role
    }

    fn propose(&mut self, batches: Vec<bytes::Bytes>) -> Option<ProposeRefused> {
        if !self.is_leading() {
            return Some(ProposeRefused::NotLeader { leader: self.leader() });
        }
        let entries: Vec<Entry> =
            batches.into_iter().map(|data| Entry { data, ..Default::default() }).collect();
        let mut message = Message { from: self.raw.raft.id, entries: entries.into(), ..Default::default() };
        message.set_msg_type(MessageType::MsgPropose);
        match self.raw.step(message) {
            Ok(()) => None,
            // Raft drops a proposal while it hands its leadership over.
            Err(_) => Some(ProposeRefused::NotLeader { leader: self.leader() }),
        }
    }

    fn persisted(&mut self, number: PersistNumber, effects: &mut Effects) {
        while let Some((waiting, _)) = self.waiting.front() {
            if *waiting > number {
                break;
            }
            if let Some((_, messages)) = self.waiting.pop_front() {
                effects.send.extend(messages);
            }
        }
        self.raw.on_persist_ready(number.0);
    }

    fn report_applied(&mut self) {
        let log = &self.raw.raft.raft_log;
        let reportable = self.applied.get().min(log.persisted).max(log.applied);
        if reportable > log.applied {
            self.raw.advance_apply_to(reportable);
            let applied = self.applied;
            self.raw.mut_store().trim(applied);
        }
    }

    /// Takes readies until there is something to persist or nothing left.
    fn collect(&mut self, effects: &mut Effects) {
        while effects.persist.is_none() && self.raw.has_ready() {
            let mut ready = self.raw.ready();
            assert!(ready.snapshot().is_empty(), "no member sends snapshots yet");
            effects.send.extend(ready.take_messages());
            effects.reads.extend(ready.take_read_states().into_iter().filter_map(|state| {
                let context = ReadContext::decode(&state.request_ctx)?;
                Some(ReadReady { context, index: LogIndex::new(state.index) })
            }));
            effects.commit.extend(ready.take_committed_entries().iter().map(from_raft));
            let hard_state = ready.hs().map(|hs| HardState {
                term: Term::new(hs.term),
                vote: NodeId::new(hs.vote),
                commit: LogIndex::new(hs.commit),
            });
            let must_sync = ready.must_sync();
            let waiting = ready.take_persisted_messages();
            let number = PersistNumber(ready.number());
            let entries: Vec<LogEntry> = ready.entries().iter().map(from_raft).collect();
            // Rule of raft-rs: what the ready holds must be readable before the next call; only the sync lags.
            self.raw.mut_store().append(ready.entries());
            self.raw.advance_append_async(ready);
            if must_sync || !waiting.is_empty() {
                let hard_state = hard_state.or(self.unwritten_commit.take());
                self.waiting.push_back((number, waiting));
                self.unwritten_commit = None;
                effects.persist = Some(Persist { number, hard_state, entries });
            } else {
                self.unwritten_commit = hard_state.or(self.unwritten_commit);
                if self.waiting.is_empty() {
                    self.raw.on_persist_ready(number.0);
                }
            }
        }
        self.observe_role(effects);
    }

    fn leader(&self) -> Option<NodeId> {
        Some(NodeId::new(self.raw.raft.leader_id)).filter(|id| id.get() != 0)
    }

    fn observe_role(&mut self, effects: &mut Effects) {
        let raft = &self.raw.raft;
        let leading = raft.state == StateRole::Leader;
        let term = Term::new(raft.term);
        if !leading {
            self.term_start = None;
        } else if self.term_start.is_none() || self.role.term != term {
            // The first entry of the term is the empty one that raft appends on election; it is the newest now.
            self.term_start = Some(LogIndex::new(raft.raft_log.last_index()));
        }
        let local_reads_from = self
            .term_start
            .filter(|start| raft.prs().is_singleton() && raft.raft_log.committed >= start.get());
        let role = Role { leader: self.leader(), leading, term, local_reads_from };
        if role != self.role {
            self.role = role;
            effects.role = Some(role);
        }
    }
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
