//! The store as a sequence of revisions: what each key was at each of them, and what a request answers and changes there.
//!
//! It knows etcd's rules and nothing of the store's code.

use crate::history::{
    Answer, Compare, Event, KEYS, Key, Operation, Put, Read, Record, Relation, Target, Transaction, Witness,
};
use std::collections::BTreeMap;
use std::ops::Range;

/// Every version of every key.
pub struct Past {
    /// By key: the revision, and what the key was from it on.
    versions: Vec<Vec<(i64, Option<Record>)>>,
}

impl Past {
    /// Follows the events from an empty store on. A fault is an event that cannot come after those before it.
    pub fn replay(witness: &Witness) -> Result<Past, String> {
        let mut past = Past { versions: vec![Vec::new(); KEYS.into()] };
        let mut newest = 1;
        for event in &witness.events {
            let revision = event.revision();
            if revision != newest && revision != newest + 1 {
                return Err(format!("after revision {newest} comes {revision}: a gap or a double"));
            }
            newest = revision;
            let key = event.record.key;
            let previous = past.at(key, revision).cloned();
            if event.previous != previous {
                return Err(format!("{event:?} should have replaced {previous:?}"));
            }
            let expected = match (&previous, event.is_delete) {
                (Some(previous), _) if previous.modified == revision => {
                    return Err(format!("key {key} changes twice at revision {revision}"));
                }
                (None, true) => return Err(format!("{event:?} deletes nothing")),
                (Some(_), true) => tombstone(key, revision),
                (previous, false) => {
                    successor(previous.as_ref(), key, revision, event.record.value, event.record.lease)
                }
            };
            if event.record != expected {
                return Err(format!("{event:?} should bring {expected:?}"));
            }
            let now = (!event.is_delete).then(|| event.record.clone());
            past.versions[usize::from(key)].push((revision, now));
        }
        Ok(past)
    }

    /// What the key was after `revision`.
    pub fn at(&self, key: Key, revision: i64) -> Option<&Record> {
        let versions = &self.versions[usize::from(key)];
        let after = versions.partition_point(|(from, _)| *from <= revision);
        versions[..after].last()?.1.as_ref()
    }

    /// The keys on a lease after `revision`, in order.
    pub fn keys_of(&self, lease: i64, revision: i64) -> Vec<Key> {
        (0..KEYS).filter(|key| self.at(*key, revision).is_some_and(|record| record.lease == lease)).collect()
    }

    /// What `operation` answers when it comes right after revision `after`, and the events that it makes.
    pub fn execute(&self, operation: &Operation, after: i64) -> (Answer, Vec<Event>) {
        let mut work = Work { past: self, after, changed: BTreeMap::new(), events: Vec::new() };
        let answer = work.execute(operation);
        (answer, work.events)
    }

    /// The events of a lease's end right after revision `after`.
    pub fn end_lease(&self, lease: i64, after: i64) -> Vec<Event> {
        let mut work = Work { past: self, after, changed: BTreeMap::new(), events: Vec::new() };
        for key in self.keys_of(lease, after) {
            work.delete(key..key + 1);
        }
        work.events
    }
}

/// One request being executed.
struct Work<'a> {
    past: &'a Past,
    after: i64,
    changed: BTreeMap<Key, Option<Record>>,
    events: Vec<Event>,
}

impl Work<'_> {
    fn execute(&mut self, operation: &Operation) -> Answer {
        match operation {
            Operation::Put(put) => self.put(put),
            Operation::Delete(delete) => {
                let previous = self.delete(delete.keys.clone());
                let deleted = previous.len() as i64;
                Answer::Delete { deleted, previous: if delete.previous { previous } else { Vec::new() } }
            }
            Operation::Read(read) => self.read(read),
            Operation::Transaction(transaction) => self.transact(transaction),
        }
    }

    fn put(&mut self, put: &Put) -> Answer {
        let previous = self.now(put.key);
        let revision = self.after + 1;
        let record = successor(previous.as_ref(), put.key, revision, put.value, put.lease);
        self.change(put.key, Some(record.clone()), record);
        Answer::Put(previous.filter(|_| put.previous))
    }

    fn delete(&mut self, keys: Range<Key>) -> Vec<Record> {
        let gone = keys.filter_map(|key| self.now(key)).collect::<Vec<_>>();
        for record in &gone {
            self.change(record.key, None, tombstone(record.key, self.after + 1));
        }
        gone
    }

    fn read(&self, read: &Read) -> Answer {
        let found = read.keys.clone().filter_map(|key| match read.revision {
            0 => self.now(key),
            revision => self.past.at(key, revision).cloned(),
        });
        let mut records = found.collect::<Vec<_>>();
        let count = records.len() as i64;
        if read.limit > 0 {
            records.truncate(read.limit as usize);
        }
        Answer::Read { more: (records.len() as i64) < count, records, count }
    }

    fn transact(&mut self, transaction: &Transaction) -> Answer {
        // Nested compares too see the state before the first write.
        let succeeded = transaction.compares.iter().all(|compare| self.holds(compare));
        let branch = if succeeded { &transaction.success } else { &transaction.failure };
        let answers = branch.iter().map(|operation| self.execute(operation)).collect();
        Answer::Transaction { succeeded, answers }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let record = self.past.at(compare.key, self.after);
        let field = |field: fn(&Record) -> i64| record.map_or(0, field);
        let (found, wanted) = match compare.target {
            Target::Version(wanted) => (field(|record| record.version), wanted),
            Target::Create(wanted) => (field(|record| record.create), wanted),
            Target::Modified(wanted) => (field(|record| record.modified), wanted),
            Target::Lease(wanted) => (field(|record| record.lease), wanted),
            // A key that is not there has no value, not even an empty one.
            Target::Value(_) if record.is_none() => return false,
            Target::Value(wanted) => (field(|record| record.value as i64), wanted as i64),
        };
        match compare.relation {
            Relation::Equal => found == wanted,
            Relation::Greater => found > wanted,
            Relation::Less => found < wanted,
            Relation::NotEqual => found != wanted,
        }
    }

    fn now(&self, key: Key) -> Option<Record> {
        let changed = self.changed.get(&key).cloned();
        changed.unwrap_or_else(|| self.past.at(key, self.after).cloned())
    }

    fn change(&mut self, key: Key, now: Option<Record>, told: Record) {
        let previous = self.past.at(key, self.after).cloned();
        self.events.push(Event { is_delete: now.is_none(), record: told, previous });
        self.changed.insert(key, now);
    }
}

fn successor(previous: Option<&Record>, key: Key, revision: i64, value: u64, lease: i64) -> Record {
    Record {
        key,
        value,
        create: previous.map_or(revision, |record| record.create),
        modified: revision,
        version: previous.map_or(1, |record| record.version + 1),
        lease,
    }
}

fn tombstone(key: Key, revision: i64) -> Record {
    Record { key, value: 0, create: 0, modified: revision, version: 0, lease: 0 }
}
