//! Is there one order of all calls that explains every answer and keeps to real time?
//!
//! In general that question is exponential, because the order has to be guessed. Here the store has written it down: every
//! change has a revision, and the follower has seen all of them. What is left to check takes one look at each call:
//!
//! - *Order.* A call that changed something stands at its header's revision: it is executed by the model right after the
//!   revision before, and must give exactly its answer and exactly the events that the follower saw there. Any other call
//!   stands right behind the revision of its header, and must give its answer there and change nothing. Calls between the
//!   same two revisions change nothing, so their order does not matter.
//! - *Nothing out of thin air.* Each revision belongs to one answered call, or else to one call without an answer or to the
//!   end of one lease, none of them used twice (a matching in a graph with few edges).
//! - *Real time.* Whoever was answered, or saw an event, knew the revision by then. A call invoked later must stand at that
//!   revision or behind it, and behind it if it changed something: an order with these properties never turns two calls
//!   around of which one returned before the other was invoked.
//!
//! Sound: an order that passes all three is a linearization, call by call. Complete: in any linearization the calls with
//! changes stand in the order of the revisions that they were answered with, since revisions count changes; a call without
//! changes can be moved to right behind the revision that it names, for it saw that state and no other; so a history that
//! has a linearization passes. A read that asks to be served locally must be right for the revision it names, but may name
//! an old one.
//!
//! Leases and compaction floors make no revision. What depends on them is held to bounds in time instead: a floor is there
//! for certain once it was acknowledged and not before it was asked for, and `leases` does the same for leases.

use crate::history::{
    Answer, Call, Compactions, Event, Moment, Operation, Outcome, Refusal, Request, Witness,
};
use crate::leases::Leases;
use crate::model::Past;
use std::collections::BTreeMap;

/// What was known when: revisions that somebody had seen.
pub struct Known {
    /// By time, with the highest revision up to then.
    seen: Vec<(Moment, i64)>,
}

impl Known {
    pub fn of(calls: &[Call], witness: &Witness) -> Known {
        let answers = calls.iter().filter_map(|call| Some((call.returned, call.answered()?.0)));
        let events = witness.events.iter().zip(&witness.seen).map(|(event, seen)| (*seen, event.revision()));
        let mut seen = answers.chain(events).collect::<Vec<_>>();
        seen.sort_unstable();
        let mut newest = 1;
        for (_, revision) in &mut seen {
            newest = newest.max(*revision);
            *revision = newest;
        }
        Known { seen }
    }

    /// The highest revision that somebody had seen before that moment.
    pub fn before(&self, moment: Moment) -> i64 {
        let place = self.seen.partition_point(|(at, _)| *at < moment);
        self.seen[..place].last().map_or(1, |(_, revision)| *revision)
    }
}

/// Everything that is wrong with the history.
pub fn faults(calls: &[Call], witness: &Witness) -> Vec<String> {
    let past = match Past::replay(witness) {
        Ok(past) => past,
        Err(fault) => return vec![fault],
    };
    let known = Known::of(calls, witness);
    let compactions = Compactions::of(calls);
    let leases = Leases::of(calls);
    let checker = Checker { witness, past: &past, known: &known, compactions: &compactions, leases: &leases };
    let mut faults = Vec::new();
    let mut owners = BTreeMap::new();
    for call in calls {
        let fault = match &call.outcome {
            Outcome::Answered { revision, answer } => {
                let checked = checker.answered(call, *revision, answer);
                checked.and_then(|()| own(&mut owners, call, *revision, answer))
            }
            Outcome::Refused(refusal) => checker.refused(call, *refusal),
            Outcome::Unknown => Ok(()),
        };
        faults.extend(fault.err().map(|fault| format!("client {}: {fault}: {call:?}", call.client)));
    }
    let (unexplained, ends) = checker.unexplained(calls, &owners);
    faults.extend(unexplained);
    faults.extend(leases.faults(&past, witness, &known, &ends));
    faults
}

/// A revision belongs to one call.
fn own<'a>(
    owners: &mut BTreeMap<i64, &'a Call>,
    call: &'a Call,
    revision: i64,
    answer: &Answer,
) -> Result<(), String> {
    if !answer.tells_of_change() {
        return Ok(());
    }
    match owners.insert(revision, call) {
        Some(other) => Err(format!("revision {revision} is also {other:?}")),
        None => Ok(()),
    }
}

struct Checker<'a> {
    witness: &'a Witness,
    past: &'a Past,
    known: &'a Known,
    compactions: &'a Compactions,
    leases: &'a Leases,
}

impl Checker<'_> {
    fn answered(&self, call: &Call, revision: i64, answer: &Answer) -> Result<(), String> {
        if revision > self.witness.revision() {
            return Err(format!(
                "answered at a revision that never was (the last is {})",
                self.witness.revision()
            ));
        }
        let changed = answer.tells_of_change();
        let known = self.known.before(call.invoked);
        if is_linearizable(&call.request) && (revision < known || (changed && revision == known)) {
            return Err(format!("stale: revision {known} was known before it was invoked"));
        }
        match &call.request {
            Request::Keys(operation) => {
                self.readable(call, operation)?;
                let after = if changed { revision - 1 } else { revision };
                let (expected, events) = self.past.execute(operation, after);
                if *answer != expected {
                    return Err(format!("should have been answered with {expected:?}"));
                }
                let seen: &[Event] = if changed { self.witness.at(revision) } else { &[] };
                if events != seen {
                    return Err(format!("revision {revision} should be {events:?} and is {seen:?}"));
                }
                Ok(())
            }
            Request::Compact { revision: floor } if *floor > revision => {
                Err("compacted the future".to_string())
            }
            Request::Compact { .. } => Ok(()),
            Request::Grant { .. } | Request::Revoke { .. } => Ok(()),
            Request::Renew { lease } | Request::TimeToLive { lease } => {
                self.leases.check_alive(*lease, call, answer)
            }
        }
    }

    /// What is compacted for certain must not be read.
    fn readable(&self, call: &Call, operation: &Operation) -> Result<(), String> {
        let Operation::Read(read) = operation else { return Ok(()) };
        let floor = if read.revision == 0 { 0 } else { self.compactions.done(call.invoked) };
        if read.revision < floor { Err(format!("read below the floor of {floor}")) } else { Ok(()) }
    }

    fn refused(&self, call: &Call, refusal: Refusal) -> Result<(), String> {
        let asked_for = match &call.request {
            Request::Keys(Operation::Read(read)) => read.revision,
            Request::Compact { revision } => *revision,
            _ => 0,
        };
        let justified = match refusal {
            Refusal::Compacted => {
                // A floor can be read, but not compacted again.
                let lowest = asked_for + i64::from(!matches!(call.request, Request::Compact { .. }));
                asked_for > 0 && self.compactions.asked(call.returned) >= lowest
            }
            Refusal::FutureRevision => asked_for > self.known.before(call.invoked),
            Refusal::LeaseNotFound => {
                leases_of(&call.request).any(|lease| self.leases.may_be_gone(lease, call.returned))
            }
        };
        if justified { Ok(()) } else { Err("refused without a reason".to_string()) }
    }

    /// Revisions that no answered call owns must each be the work of a call without an answer or the end of a lease.
    /// Gives those that are not, and the leases that have ended for certain with the revision of their end.
    fn unexplained(
        &self,
        calls: &[Call],
        owners: &BTreeMap<i64, &Call>,
    ) -> (Vec<String>, BTreeMap<i64, i64>) {
        let unknown = calls.iter().filter(|call| call.is_unknown()).collect::<Vec<_>>();
        let open = (2..=self.witness.revision()).filter(|at| !owners.contains_key(at)).collect::<Vec<_>>();
        let causes = open.iter().map(|revision| {
            let events = self.witness.at(*revision);
            let by_call = unknown.iter().enumerate().filter(|(_, call)| {
                let Request::Keys(operation) = &call.request else { return false };
                self.known.before(call.invoked) < *revision
                    && self.past.execute(operation, revision - 1).1 == events
            });
            let mut causes = by_call.map(|(place, _)| Cause::Call(place)).collect::<Vec<_>>();
            let lease = events.first().and_then(|event| event.previous.as_ref()).map_or(0, |kv| kv.lease);
            let seen = self.witness.seen[self.witness.place_of(*revision)];
            if lease != 0
                && self.past.end_lease(lease, revision - 1) == events
                && self.leases.may_be_gone(lease, seen)
            {
                causes.push(Cause::LeaseEnd(lease));
            }
            causes
        });
        let causes = causes.collect::<Vec<_>>();
        let ends = open.iter().zip(&causes).filter_map(|(revision, causes)| match causes[..] {
            [Cause::LeaseEnd(lease)] => Some((lease, *revision)),
            _ => None,
        });
        let ends = ends.collect();
        let without = unmatched(&causes);
        let fault = |place: usize| {
            let revision = open[place];
            format!("nobody did revision {revision}: {:?}", self.witness.at(revision))
        };
        (without.into_iter().map(fault).collect(), ends)
    }
}

/// What may have made a revision that nobody was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    Call(usize),
    LeaseEnd(i64),
}

/// Gives as many of them a cause of their own as possible; returns the others.
pub fn unmatched(causes: &[Vec<Cause>]) -> Vec<usize> {
    /// Finds a cause for `place`, moving others to another cause of theirs where needed.
    fn find(
        place: usize,
        causes: &[Vec<Cause>],
        taken: &mut BTreeMap<Cause, usize>,
        tried: &mut Vec<Cause>,
    ) -> bool {
        for cause in &causes[place] {
            if tried.contains(cause) {
                continue;
            }
            tried.push(*cause);
            let holder = taken.get(cause).copied();
            if holder.is_none_or(|holder| find(holder, causes, taken, tried)) {
                taken.insert(*cause, place);
                return true;
            }
        }
        false
    }
    let mut taken = BTreeMap::new();
    (0..causes.len()).filter(|place| !find(*place, causes, &mut taken, &mut Vec::new())).collect()
}

/// Whether its header must be up to date. A renewal's is taken before the renewal, as etcd does.
fn is_linearizable(request: &Request) -> bool {
    match request {
        Request::Keys(Operation::Read(read)) => !read.serializable,
        Request::Keys(_) | Request::Grant { .. } | Request::Revoke { .. } | Request::Compact { .. } => true,
        Request::Renew { .. } | Request::TimeToLive { .. } => false,
    }
}

/// The leases that a request needs.
fn leases_of(request: &Request) -> impl Iterator<Item = i64> {
    fn collect(operation: &Operation, found: &mut Vec<i64>) {
        match operation {
            Operation::Put(put) if put.lease != 0 => found.push(put.lease),
            Operation::Transaction(transaction) => {
                let branches = transaction.success.iter().chain(&transaction.failure);
                branches.for_each(|operation| collect(operation, found));
            }
            Operation::Put(_) | Operation::Delete(_) | Operation::Read(_) => {}
        }
    }
    let mut found = Vec::new();
    match request {
        Request::Keys(operation) => collect(operation, &mut found),
        Request::Revoke { lease } | Request::Renew { lease } | Request::TimeToLive { lease } => {
            found.push(*lease);
        }
        Request::Grant { .. } | Request::Compact { .. } => {}
    }
    found.into_iter()
}
