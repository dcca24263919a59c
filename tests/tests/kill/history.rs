//! What was asked, when, and what came of it: the words of this test.
//!
//! Keys and values are numbers here; `wire` turns them into bytes and proves on the way back that not one byte of a value
//! has changed.

use std::ops::Range;
use std::time::Duration;

/// Time since the run began. All clients live in one process, so it orders everything.
pub type Moment = Duration;
/// The key's place among all keys, which is also its order.
pub type Key = u8;
/// Few enough for clients to meet, enough for ranges to differ.
pub const KEYS: Key = 30;

/// One version of a key. Of a deletion only `key` and `modified` are set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub key: Key,
    /// Every value is written by one request only; 0 is the empty value.
    pub value: u64,
    pub create: i64,
    pub modified: i64,
    pub version: i64,
    pub lease: i64,
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub is_delete: bool,
    pub record: Record,
    pub previous: Option<Record>,
}

impl Event {
    pub fn revision(&self) -> i64 {
        self.record.modified
    }
}

#[derive(Clone, Debug)]
pub struct Put {
    pub key: Key,
    pub value: u64,
    pub lease: i64,
    pub previous: bool,
}

#[derive(Clone, Debug)]
pub struct Delete {
    pub keys: Range<Key>,
    pub previous: bool,
}

#[derive(Clone, Debug)]
pub struct Read {
    pub keys: Range<Key>,
    pub limit: i64,
    /// 0: the newest.
    pub revision: i64,
    pub serializable: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Target {
    Version(i64),
    Create(i64),
    Modified(i64),
    Value(u64),
    Lease(i64),
}

#[derive(Clone, Copy, Debug)]
pub enum Relation {
    Equal,
    Greater,
    Less,
    NotEqual,
}

#[derive(Clone, Debug)]
pub struct Compare {
    pub key: Key,
    pub relation: Relation,
    pub target: Target,
}

#[derive(Clone, Debug)]
pub struct Transaction {
    pub compares: Vec<Compare>,
    pub success: Vec<Operation>,
    pub failure: Vec<Operation>,
}

#[derive(Clone, Debug)]
pub enum Operation {
    Put(Put),
    Delete(Delete),
    Read(Read),
    Transaction(Transaction),
}

#[derive(Clone, Debug)]
pub enum Request {
    Keys(Operation),
    Grant { lease: i64, ttl_s: i64 },
    Revoke { lease: i64 },
    Renew { lease: i64 },
    TimeToLive { lease: i64 },
    Compact { revision: i64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Put(Option<Record>),
    Delete {
        deleted: i64,
        previous: Vec<Record>,
    },
    Read {
        records: Vec<Record>,
        more: bool,
        count: i64,
    },
    Transaction {
        succeeded: bool,
        answers: Vec<Answer>,
    },
    /// Of a grant and of a renewal: the whole time to live; of a question for it: what is left.
    Lease {
        ttl_s: i64,
    },
    /// Of a revocation and of a compaction.
    Done,
}

impl Answer {
    /// Whether the request has made a revision.
    pub fn tells_of_change(&self) -> bool {
        match self {
            Answer::Put(_) => true,
            Answer::Delete { deleted, .. } => *deleted > 0,
            Answer::Transaction { answers, .. } => answers.iter().any(Answer::tells_of_change),
            Answer::Read { .. } | Answer::Lease { .. } | Answer::Done => false,
        }
    }
}

/// Errors that say for certain that nothing has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Compacted,
    FutureRevision,
    LeaseNotFound,
}

#[derive(Clone, Debug)]
pub enum Outcome {
    Answered {
        /// The header's.
        revision: i64,
        answer: Answer,
    },
    Refused(Refusal),
    /// It may have happened, may still happen, or never will.
    Unknown,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub client: usize,
    pub request: Request,
    pub invoked: Moment,
    pub returned: Moment,
    pub outcome: Outcome,
}

impl Call {
    pub fn answered(&self) -> Option<(i64, &Answer)> {
        match &self.outcome {
            Outcome::Answered { revision, answer } => Some((*revision, answer)),
            Outcome::Refused(_) | Outcome::Unknown => None,
        }
    }

    pub fn is_unknown(&self) -> bool {
        matches!(self.outcome, Outcome::Unknown)
    }
}

/// All events from revision 2 on in order, each with the moment at which it was seen.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    pub events: Vec<Event>,
    pub seen: Vec<Moment>,
}

impl Witness {
    pub fn push(&mut self, event: Event, seen: Moment) {
        self.events.push(event);
        self.seen.push(seen);
    }

    /// The newest revision.
    pub fn revision(&self) -> i64 {
        self.events.last().map_or(1, Event::revision)
    }

    /// Where the events from `revision` on begin.
    pub fn place_of(&self, revision: i64) -> usize {
        self.events.partition_point(|event| event.revision() < revision)
    }

    /// The events of one revision.
    pub fn at(&self, revision: i64) -> &[Event] {
        &self.events[self.place_of(revision)..self.place_of(revision + 1)]
    }
}

/// Floors that were asked for. What is below one may be gone as soon as it was asked for, and is gone once it was
/// acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Compactions {
    /// Invoked, returned if it was acknowledged, revision.
    all: Vec<(Moment, Option<Moment>, i64)>,
}

impl Compactions {
    pub fn of(calls: &[Call]) -> Compactions {
        // One that was refused has moved nothing.
        let effective = calls.iter().filter(|call| !matches!(call.outcome, Outcome::Refused(_)));
        let all = effective.filter_map(|call| {
            let Request::Compact { revision } = call.request else { return None };
            Some((call.invoked, call.answered().map(|_| call.returned), revision))
        });
        Compactions { all: all.collect() }
    }

    /// The highest floor that there may be at that moment.
    pub fn asked(&self, before: Moment) -> i64 {
        let asked = self.all.iter().filter(|(invoked, ..)| *invoked < before);
        asked.map(|(.., revision)| *revision).max().unwrap_or(0)
    }

    /// The lowest floor that there may be at that moment.
    pub fn done(&self, before: Moment) -> i64 {
        let done = self.all.iter().filter(|(_, returned, _)| returned.is_some_and(|at| at < before));
        done.map(|(.., revision)| *revision).max().unwrap_or(0)
    }
}
