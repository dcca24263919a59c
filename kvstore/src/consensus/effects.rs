//! The words between consensus and whoever runs it.

use crate::types::{HardState, LogEntry, LogIndex, NodeId, Term};
use bytes::Bytes;
use raft::eraftpb::Message;

/// Names one `Persist` effect; larger ones are later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PersistNumber(pub(super) u64);

/// Names one attempt at a linearizable read: node, process life and attempt, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadContext {
    /// The member that asks.
    pub node_id: NodeId,
    /// A number drawn at its start.
    pub boot_nonce: u64,
    /// The attempt.
    pub attempt: u64,
}

impl ReadContext {
    /// The bytes raft carries around.
    pub fn encode(self) -> Vec<u8> {
        [self.node_id.get(), self.boot_nonce, self.attempt].iter().flat_map(|n| n.to_be_bytes()).collect()
    }

    /// Reads them back; `None` when they are not a context.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
        if bytes.len() != 24 {
            return None;
        }
        Some(Self { node_id: NodeId::new(number(0)?), boot_nonce: number(8)?, attempt: number(16)? })
    }
}

/// Something happened.
#[derive(Debug)]
pub enum Input {
    /// One heartbeat interval went by.
    Tick,
    /// Batches to replicate, an entry each.
    Propose(Vec<Bytes>),
    /// A linearizable read wants its index.
    ReadIndex(ReadContext),
    /// A peer said something.
    Message(Box<Message>),
    /// Everything up to this `Persist` effect is durable.
    Persisted(PersistNumber),
    /// Everything up to this entry is applied and visible.
    Applied(LogIndex),
    /// Stand for election now (a group of one does not wait for its timeout).
    Campaign,
}

/// What to do now. All lists are in order.
#[derive(Debug, Default)]
pub struct Effects {
    /// Messages that may leave now.
    pub send: Vec<Message>,
    /// Write this in one write and one sync, then say [`Input::Persisted`].
    pub persist: Option<Persist>,
    /// Apply these, then say [`Input::Applied`].
    pub commit: Vec<LogEntry>,
    /// Reads that may be served once their index is applied.
    pub reads: Vec<ReadReady>,
    /// The role, when it changed.
    pub role: Option<Role>,
    /// Set when an [`Input::Propose`] was not taken.
    pub refused: Option<ProposeRefused>,
}

/// Hard state and entries of one step.
#[derive(Debug)]
pub struct Persist {
    /// To be told back.
    pub number: PersistNumber,
    /// The hard state, when it changed.
    pub hard_state: Option<HardState>,
    /// New entries; the first may overwrite a suffix of the log.
    pub entries: Vec<LogEntry>,
}

/// A read's index is known.
#[derive(Clone, Copy, Debug)]
pub struct ReadReady {
    /// Which attempt.
    pub context: ReadContext,
    /// Serve it once this is applied.
    pub index: LogIndex,
}

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Role {
    /// The leader, when known.
    pub leader: Option<NodeId>,
    /// Whether that is this member.
    pub leading: bool,
    /// The term.
    pub term: Term,
    /// Set when this member is the only voter, leads, and has committed the entry its term began with: the
    /// state that has applied this index answers linearizable reads without asking anybody.
    pub local_reads_from: Option<LogIndex>,
}

/// Why a proposal was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeRefused {
    /// This member does not lead.
    NotLeader {
        /// Who does, when known.
        leader: Option<NodeId>,
    },
}
