//! Histories that are wrong on purpose: the judge of calls must object to each, and to none that is right.

use crate::history::{
    Answer, Call, Compare, Delete, Event, KEYS, Key, Moment, Operation, Outcome, Put, Read, Record, Refusal,
    Relation, Request, Target, Transaction, Witness,
};
use crate::linearizable::{Cause, faults, unmatched};
use crate::model::Past;
use std::time::Duration;

/// A history that is right: each call is made after the other, by the model itself.
#[derive(Default)]
pub struct Story {
    pub calls: Vec<Call>,
    pub witness: Witness,
    pub now: Moment,
}

impl Story {
    pub fn tick(&mut self) -> Moment {
        self.now += Duration::from_millis(1);
        self.now
    }

    pub fn past(&self) -> Past {
        Past::replay(&self.witness).expect("it is right so far")
    }

    pub fn see(&mut self, events: Vec<Event>) {
        let seen = self.tick();
        events.into_iter().for_each(|event| self.witness.push(event, seen));
    }

    /// Adds a call; gives its place.
    pub fn push(&mut self, request: Request, outcome: Outcome) -> usize {
        let (invoked, returned) = (self.tick(), self.tick());
        self.calls.push(Call { client: 0, request, invoked, returned, outcome });
        self.calls.len() - 1
    }

    /// Makes a call on keys; gives its place.
    pub fn keys(&mut self, operation: Operation) -> usize {
        let after = self.witness.revision();
        let (answer, events) = self.past().execute(&operation, after);
        let revision = after + i64::from(!events.is_empty());
        let place = self.push(Request::Keys(operation), Outcome::Answered { revision, answer });
        self.see(events);
        place
    }

    pub fn put(&mut self, key: Key, value: u64) -> usize {
        self.keys(put(key, value, 0))
    }

    pub fn delete(&mut self, key: Key) -> usize {
        self.keys(Operation::Delete(Delete { keys: key..key + 1, previous: true }))
    }

    fn read(&mut self) -> usize {
        self.keys(read(0))
    }

    /// A call about leases or a compaction, which makes no revision.
    pub fn other(&mut self, request: Request, answer: Answer) -> usize {
        let revision = self.witness.revision();
        self.push(request, Outcome::Answered { revision, answer })
    }

    pub fn compact(&mut self, revision: i64) -> usize {
        self.other(Request::Compact { revision }, Answer::Done)
    }

    fn grant(&mut self, lease: i64) -> usize {
        self.other(Request::Grant { lease, ttl_s: 2 }, Answer::Lease { ttl_s: 2 })
    }

    fn end(&mut self, lease: i64) {
        let events = self.past().end_lease(lease, self.witness.revision());
        self.see(events);
    }

    fn faults(&self) -> Vec<String> {
        faults(&self.calls, &self.witness)
    }

    /// The judge must find this and may find more.
    #[track_caller]
    fn is_wrong(&self, fault: &str) {
        let found = self.faults();
        assert!(found.iter().any(|found| found.contains(fault)), "no {fault:?} in {found:#?}");
    }

    #[track_caller]
    fn is_right(&self) {
        assert_eq!(self.faults(), [""; 0]);
    }

    fn answer(&mut self, call: usize) -> &mut Answer {
        match &mut self.calls[call].outcome {
            Outcome::Answered { answer, .. } => answer,
            outcome => panic!("{outcome:?} has no answer"),
        }
    }

    fn revision(&mut self, call: usize) -> &mut i64 {
        match &mut self.calls[call].outcome {
            Outcome::Answered { revision, .. } => revision,
            outcome => panic!("{outcome:?} has no revision"),
        }
    }
}

fn put(key: Key, value: u64, lease: i64) -> Operation {
    Operation::Put(Put { key, value, lease, previous: true })
}

fn read(revision: i64) -> Operation {
    Operation::Read(Read { keys: 0..KEYS, limit: 0, revision, serializable: false })
}

/// Puts both keys, deletes key 2 and reads, if the guard holds.
fn transaction(guard: i64, first: Key, value: u64) -> Operation {
    Operation::Transaction(Transaction {
        compares: vec![Compare { key: 2, relation: Relation::Equal, target: Target::Modified(guard) }],
        success: vec![
            put(first, value, 0),
            put(first + 1, value + 1, 0),
            Operation::Delete(Delete { keys: 2..3, previous: true }),
            read(0),
        ],
        failure: vec![read(0)],
    })
}

/// Some of everything.
fn story() -> Story {
    let mut story = Story::default();
    story.put(1, 1);
    story.put(2, 2);
    story.put(1, 3);
    story.read();
    story.keys(transaction(3, 4, 10));
    story.keys(transaction(3, 4, 20));
    story.delete(1);
    story.delete(1);
    story.keys(read(4));
    story.compact(4);
    story
}

#[test]
fn what_is_right_is_left_alone() {
    let mut story = story();
    story.grant(7);
    story.keys(put(8, 30, 7));
    story.keys(put(9, 31, 7));
    story.other(Request::Renew { lease: 7 }, Answer::Lease { ttl_s: 2 });
    story.now += Duration::from_secs(2);
    story.end(7);
    story.push(Request::Renew { lease: 7 }, Outcome::Refused(Refusal::LeaseNotFound));
    story.push(Request::Keys(read(3)), Outcome::Refused(Refusal::Compacted));
    story.push(Request::Keys(read(99)), Outcome::Refused(Refusal::FutureRevision));
    // One that nobody was told of and that happened, and one that did not.
    story.push(Request::Keys(put(3, 40, 0)), Outcome::Unknown);
    let (_, events) = story.past().execute(&put(3, 40, 0), story.witness.revision());
    story.see(events);
    story.push(Request::Keys(put(3, 41, 0)), Outcome::Unknown);
    story.read();
    story.is_right();
}

#[test]
fn a_lost_write() {
    let mut story = Story::default();
    story.put(1, 1);
    story.witness = Witness::default();
    // After the crash its revision is given to another.
    story.put(1, 2);
    story.is_wrong("revision 2 should be");
    story.is_wrong("stale: revision 2 was known");
    let mut story = self::story();
    story.witness.events.pop();
    story.is_wrong("a revision that never was");
}

#[test]
fn a_stale_read() {
    let mut story = Story::default();
    story.put(1, 1);
    let read = story.read();
    let early = story.calls.remove(read);
    story.put(1, 2);
    // Its answer is right for the revision that it names, but asked for too late.
    story.push(early.request, early.outcome);
    story.is_wrong("stale: revision 3 was known");
    let Request::Keys(Operation::Read(read)) = &mut story.calls[2].request else { unreachable!("a read") };
    read.serializable = true;
    story.is_right();
}

#[test]
fn a_revision_that_goes_back_after_somebody_has_seen_it() {
    let mut story = Story::default();
    story.put(1, 1);
    story.calls.clear();
    let read = story.push(Request::Keys(read(0)), Outcome::Unknown);
    let nothing = Answer::Read { records: Vec::new(), more: false, count: 0 };
    story.calls[read].outcome = Outcome::Answered { revision: 1, answer: nothing };
    story.is_wrong("stale: revision 2 was known");
}

#[test]
fn a_read_of_what_was_not_there() {
    for change in [
        |record: &mut Record| record.value += 1,
        |record: &mut Record| record.version += 1,
        |record: &mut Record| record.create -= 1,
        |record: &mut Record| record.lease += 1,
    ] {
        let mut story = story();
        let Answer::Read { records, .. } = story.answer(3) else { unreachable!("a read") };
        change(&mut records[0]);
        story.is_wrong("should have been answered with");
    }
    let mut story = story();
    let Answer::Read { records, .. } = story.answer(3) else { unreachable!("a read") };
    records.pop();
    story.is_wrong("should have been answered with");
    let mut story = self::story();
    let Answer::Read { more, .. } = story.answer(3) else { unreachable!("a read") };
    *more = true;
    story.is_wrong("should have been answered with");
}

#[test]
fn a_wrong_read_of_the_past() {
    let mut story = story();
    let place = story.keys(read(5));
    let Answer::Read { records, .. } = story.answer(place) else { unreachable!("a read") };
    records[0].value = 1;
    story.is_wrong("should have been answered with");
}

#[test]
fn half_a_transaction() {
    let mut story = story();
    let half = story.witness.place_of(5);
    story.witness.events.remove(half);
    story.witness.seen.remove(half);
    story.is_wrong("revision 5 should be");
}

#[test]
fn the_changes_of_a_transaction_in_another_order() {
    let mut story = story();
    let first = story.witness.place_of(5);
    story.witness.events.swap(first, first + 1);
    story.is_wrong("revision 5 should be");
}

#[test]
fn a_transaction_in_two_revisions() {
    let mut story = Story::default();
    story.put(2, 1);
    let place = story.keys(transaction(2, 4, 10));
    let late = story.witness.events.len() - 1;
    // The deletion comes one revision later.
    story.witness.events[late].record.modified += 1;
    story.is_wrong("revision 3 should be");
    story.is_wrong("nobody did revision 4");
    story.calls[place].outcome = Outcome::Unknown;
    story.is_wrong("nobody did revision 3");
}

#[test]
fn a_guard_that_failed_for_no_reason() {
    let mut story = Story::default();
    story.put(2, 1);
    let place = story.keys(read(0));
    let found = story.answer(place).clone();
    *story.answer(place) = Answer::Transaction { succeeded: false, answers: vec![found] };
    story.calls[place].request = Request::Keys(transaction(2, 4, 10));
    story.is_wrong("should have been answered with");
    // And one that held for no reason.
    let mut story = Story::default();
    story.put(2, 1);
    let place = story.keys(transaction(2, 4, 10));
    story.calls[place].request = Request::Keys(transaction(1, 4, 10));
    story.is_wrong("should have been answered with");
}

#[test]
fn writes_against_the_order_of_time() {
    let mut story = Story::default();
    let first = story.put(1, 1);
    let second = story.put(2, 2);
    story.is_right();
    // They are the same to the keys, whichever comes first; not to their clients.
    let (request, outcome) = (story.calls[first].request.clone(), story.calls[first].outcome.clone());
    story.calls[first].request = story.calls[second].request.clone();
    story.calls[first].outcome = story.calls[second].outcome.clone();
    story.calls[second].request = request;
    story.calls[second].outcome = outcome;
    story.is_wrong("stale: revision 3 was known");
}

#[test]
fn a_write_of_nobody() {
    let mut story = story();
    let revision = story.witness.revision();
    let (_, events) = story.past().execute(&put(3, 77, 0), revision);
    story.see(events);
    story.is_wrong(&format!("nobody did revision {}", revision + 1));
}

#[test]
fn one_unknown_write_twice() {
    let mut story = Story::default();
    story.push(Request::Keys(put(1, 1, 0)), Outcome::Unknown);
    for after in 1..3 {
        story.is_right();
        let (_, events) = story.past().execute(&put(1, 1, 0), after);
        story.see(events);
    }
    story.is_wrong("nobody did revision 3");
}

#[test]
fn an_unknown_write_before_it_was_asked_for() {
    let mut story = Story::default();
    let (_, events) = story.past().execute(&put(1, 1, 0), 1);
    story.see(events);
    story.push(Request::Keys(put(1, 1, 0)), Outcome::Unknown);
    story.is_wrong("nobody did revision 2");
}

#[test]
fn half_an_unknown_transaction() {
    let mut story = Story::default();
    story.put(2, 1);
    let place = story.keys(transaction(2, 4, 10));
    story.calls[place].outcome = Outcome::Unknown;
    story.is_right();
    story.witness.events.pop();
    story.witness.seen.pop();
    story.is_wrong("nobody did revision 3");
}

#[test]
fn a_history_that_contradicts_itself() {
    type Change = fn(&mut Event);
    let changes: [(Change, &str); 5] = [
        (|event| event.record.modified += 1, "a gap or a double"),
        (|event| event.record.version = 9, "should bring"),
        (|event| event.record.create += 1, "should bring"),
        (|event| event.previous = None, "should have replaced"),
        (|event| event.previous.as_mut().unwrap().value = 9, "should have replaced"),
    ];
    for (change, fault) in changes {
        let mut story = story();
        let place = story.witness.place_of(4);
        change(&mut story.witness.events[place]);
        story.is_wrong(fault);
    }
    let mut story = story();
    story.witness.events.swap(0, 1);
    story.is_wrong("a gap or a double");
    let mut story = self::story();
    story.witness.events.insert(1, story.witness.events[0].clone());
    story.witness.seen.insert(1, Moment::ZERO);
    story.is_wrong("should have replaced");
}

#[test]
fn floors() {
    let mut story = story();
    story.keys(read(3));
    story.is_wrong("read below the floor of 4");
    let mut story = self::story();
    story.push(Request::Keys(read(4)), Outcome::Refused(Refusal::Compacted));
    story.is_wrong("refused without a reason");
    let mut story = self::story();
    story.push(Request::Compact { revision: 5 }, Outcome::Refused(Refusal::Compacted));
    story.is_wrong("refused without a reason");
    let mut story = self::story();
    story.push(Request::Keys(read(6)), Outcome::Refused(Refusal::FutureRevision));
    story.is_wrong("refused without a reason");
    let mut story = self::story();
    story.compact(1000);
    story.is_wrong("compacted the future");
}

#[test]
fn a_lease_that_ends_too_early() {
    let mut story = Story::default();
    story.grant(7);
    story.keys(put(8, 30, 7));
    story.end(7);
    story.is_wrong("nobody did revision 3");
    // Renewed just now, and gone all the same.
    let mut story = Story::default();
    story.grant(7);
    story.keys(put(8, 30, 7));
    story.now += Duration::from_secs(2);
    story.other(Request::Renew { lease: 7 }, Answer::Lease { ttl_s: 2 });
    story.end(7);
    story.is_wrong("nobody did revision 3");
    let mut story = Story::default();
    story.grant(7);
    story.push(Request::Keys(put(8, 30, 7)), Outcome::Refused(Refusal::LeaseNotFound));
    story.is_wrong("refused without a reason");
}

#[test]
fn a_lease_that_lost_time() {
    let mut story = Story::default();
    story.grant(7);
    story.other(Request::TimeToLive { lease: 7 }, Answer::Lease { ttl_s: 1 });
    story.is_right();
    story.other(Request::TimeToLive { lease: 7 }, Answer::Lease { ttl_s: 0 });
    story.is_wrong("left by what was acknowledged");
}

#[test]
fn half_the_end_of_a_lease() {
    let mut story = Story::default();
    story.grant(7);
    story.keys(put(8, 30, 7));
    story.keys(put(9, 31, 7));
    story.now += Duration::from_secs(3);
    story.end(7);
    story.is_right();
    story.witness.events.pop();
    story.witness.seen.pop();
    story.is_wrong("nobody did revision 4");
}

#[test]
fn a_lease_after_its_end() {
    let ended = || {
        let mut story = Story::default();
        story.grant(7);
        story.keys(put(8, 30, 7));
        story.now += Duration::from_secs(3);
        story.end(7);
        story
    };
    let mut story = ended();
    story.is_right();
    story.keys(put(8, 31, 7));
    story.is_wrong("in use after its end");
    let mut story = ended();
    story.other(Request::TimeToLive { lease: 7 }, Answer::Lease { ttl_s: 0 });
    story.is_wrong("is alive at");
    // Whoever renews it says that it has not ended before.
    let mut story = ended();
    story.other(Request::Renew { lease: 7 }, Answer::Lease { ttl_s: 2 });
    story.is_wrong("nobody did revision 3");

    let mut story = Story::default();
    story.grant(7);
    story.keys(put(8, 30, 7));
    story.other(Request::Revoke { lease: 7 }, Answer::Done);
    story.is_wrong("its keys [8] stay");
    let mut story = Story::default();
    story.grant(7);
    story.other(Request::Revoke { lease: 7 }, Answer::Done);
    story.is_right();
    story.other(Request::TimeToLive { lease: 7 }, Answer::Lease { ttl_s: 1 });
    story.is_wrong("alive after it was revoked");
    story.calls.pop();
    story.keys(put(8, 30, 7));
    story.is_wrong("was revoked at revision 1");
}

#[test]
fn causes_are_moved_to_make_room() {
    let (a, b) = (Cause::Call(0), Cause::LeaseEnd(1));
    assert_eq!(unmatched(&[vec![a, b], vec![a]]), [0; 0]);
    assert_eq!(unmatched(&[vec![a], vec![a, b]]), [0; 0]);
    assert_eq!(unmatched(&[vec![a, b], vec![a], vec![b]]), [2]);
    assert_eq!(unmatched(&[vec![a], vec![], vec![a]]), [1, 2]);
}

#[test]
fn time_that_overlaps_forgives() {
    let mut story = Story::default();
    story.put(1, 1);
    let read = story.read();
    let mut early = story.calls.remove(read);
    story.put(1, 2);
    // It was under way before the second put was answered or seen.
    early.invoked = story.calls[1].invoked;
    early.returned = story.tick();
    story.calls.push(early);
    story.is_right();
    let revision = *story.revision(1);
    assert_eq!(revision, 3);
}
