//! The store as plainly as it can be said: every revision keeps a copy of the whole map, and every question is answered
//! by walking a copy from one end to the other.

use bytes::Bytes;
use kvstore::command::{
    Compare, CompareResult, CompareTarget, Operation, Projection, Put, PutLease, PutValue, RangeQuery,
    ReadAt, SortOrder, SortTarget, Transaction,
};
use kvstore::{Error, InvalidRequest, KeyRange, KeyValue, LeaseId, RangeEnd, Revision};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a living key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub key: Bytes,
    pub value: Bytes,
    pub create: i64,
    pub modified: i64,
    pub version: i64,
    pub lease: i64,
}

impl From<&KeyValue> for Record {
    fn from(kv: &KeyValue) -> Self {
        Self {
            key: Bytes::copy_from_slice(kv.key()),
            value: Bytes::copy_from_slice(kv.value()),
            create: kv.create_revision.get(),
            modified: kv.mod_revision.get(),
            version: kv.version,
            lease: kv.lease.get(),
        }
    }
}

pub type Map = BTreeMap<Bytes, Record>;

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub revision: i64,
    pub is_delete: bool,
    /// Of a delete: key and revision, the rest is empty.
    pub record: Record,
    /// The key as it was one revision earlier; none for a create.
    pub previous: Option<Record>,
}

/// Answer to a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub records: Vec<Record>,
    pub more: bool,
    pub count: u64,
}

/// Answer to one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Range(Found),
    Put(Option<Record>),
    Delete(u64, Vec<Record>),
    Transaction(bool, Vec<Answer>),
}

#[derive(Clone, Debug)]
pub struct Model {
    /// The map at each revision; nothing lives at 0 and 1.
    states: Vec<Map>,
    pub changes: Vec<Change>,
    pub floor: Option<i64>,
    /// Time to live in seconds by lease.
    pub leases: BTreeMap<i64, i64>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            states: vec![Map::new(), Map::new()],
            changes: Vec::new(),
            floor: None,
            leases: BTreeMap::new(),
        }
    }
}

impl Model {
    pub fn revision(&self) -> i64 {
        self.states.len() as i64 - 1
    }

    /// The model as it was when it had reached `revision`; floor and leases are today's.
    pub fn until(&self, revision: i64) -> Self {
        let mut model = self.clone();
        model.states.truncate(revision as usize + 1);
        model.changes.retain(|change| change.revision <= revision);
        model
    }

    pub fn now(&self) -> &Map {
        &self.states[self.states.len() - 1]
    }

    /// The keys on a lease, sorted.
    pub fn keys_of(&self, lease: i64) -> Vec<Bytes> {
        self.now().values().filter(|record| record.lease == lease).map(|record| record.key.clone()).collect()
    }

    pub fn range(&self, query: &RangeQuery) -> Result<Found, Error> {
        self.readable(query.at)?;
        Ok(match query.at {
            ReadAt::Revision(at) if at.get() > 0 => read(&self.states[at.get() as usize], query),
            _ => read(self.now(), query),
        })
    }

    fn readable(&self, at: ReadAt) -> Result<(), Error> {
        let ReadAt::Revision(at) = at else { return Ok(()) };
        let floor = self.floor.unwrap_or(0);
        if at.get() > self.revision() {
            return Err(Error::FutureRevision { current: Revision::new(self.revision()) });
        }
        if at.get() > 0 && at.get() < floor {
            return Err(Error::Compacted { floor: Revision::new(floor) });
        }
        Ok(())
    }

    pub fn compact(&mut self, to: i64) -> Result<i64, Error> {
        if let Some(floor) = self.floor
            && to <= floor
        {
            return Err(Error::Compacted { floor: Revision::new(floor) });
        }
        if to > self.revision() {
            return Err(Error::FutureRevision { current: Revision::new(self.revision()) });
        }
        self.floor = Some(to);
        Ok(self.revision())
    }

    pub fn grant(&mut self, id: i64, ttl_s: i64) -> Result<(), Error> {
        if self.leases.contains_key(&id) {
            return Err(InvalidRequest::LeaseExists.into());
        }
        self.leases.insert(id, ttl_s);
        Ok(())
    }

    /// Ends a lease; its keys go in one revision, sorted.
    pub fn revoke(&mut self, id: i64) -> Result<i64, Error> {
        if self.leases.remove(&id).is_none() {
            return Err(InvalidRequest::LeaseNotFound.into());
        }
        let keys = self.keys_of(id);
        let mut work = Work::new(self);
        for key in keys {
            work.delete(&key);
        }
        work.finish();
        Ok(self.revision())
    }

    /// Executes a transaction: the outcome and the revision after it, or a refusal that changed nothing.
    pub fn transact(&mut self, transaction: &Transaction) -> Result<(Answer, i64), Error> {
        check_duplicates(&transaction.success)?;
        check_duplicates(&transaction.failure)?;
        self.check_taken(transaction)?;
        let before = self.now().clone();
        let mut work = Work::new(self);
        let answer = work.run(&before, transaction);
        work.finish();
        Ok((answer, self.revision()))
    }

    /// Everything that can refuse what is going to be executed, in the order of execution.
    fn check_taken(&self, transaction: &Transaction) -> Result<(), Error> {
        for operation in taken(self.now(), transaction).1 {
            match operation {
                Operation::Range(query) => self.readable(query.at)?,
                Operation::Delete(_) => {}
                Operation::Transaction(nested) => self.check_taken(nested)?,
                Operation::Put(put) => {
                    if let PutLease::Set(lease) = put.lease
                        && lease != LeaseId::NONE
                        && !self.leases.contains_key(&lease.get())
                    {
                        return Err(InvalidRequest::LeaseNotFound.into());
                    }
                    let keeps = put.value == PutValue::Keep || put.lease == PutLease::Keep;
                    if keeps && !self.now().contains_key(&put.key) {
                        return Err(InvalidRequest::KeyNotFound.into());
                    }
                }
            }
        }
        Ok(())
    }
}

/// Changes on the way to a new revision.
struct Work<'a> {
    model: &'a mut Model,
    map: Map,
    changes: Vec<Change>,
}

impl<'a> Work<'a> {
    fn new(model: &'a mut Model) -> Self {
        Self { map: model.now().clone(), changes: Vec::new(), model }
    }

    fn revision(&self) -> i64 {
        self.model.revision() + 1
    }

    fn run(&mut self, before: &Map, transaction: &Transaction) -> Answer {
        let (succeeded, operations) = taken(before, transaction);
        let mut answers = Vec::new();
        for operation in operations {
            answers.push(match operation {
                Operation::Range(query) => Answer::Range(match query.at {
                    // The present is what the transaction has written so far, the past is the past.
                    ReadAt::Revision(at) if at.get() > 0 => {
                        read(&self.model.states[at.get() as usize], query)
                    }
                    _ => read(&self.map, query),
                }),
                Operation::Put(put) => {
                    let previous = self.map.get(&put.key).cloned();
                    self.put(before, put);
                    Answer::Put(previous.filter(|_| put.want_previous))
                }
                Operation::Delete(delete) => {
                    let gone = inside(&self.map, &delete.range);
                    for record in &gone {
                        self.delete(&record.key);
                    }
                    Answer::Delete(gone.len() as u64, if delete.want_previous { gone } else { Vec::new() })
                }
                Operation::Transaction(nested) => self.run(before, nested),
            });
        }
        Answer::Transaction(succeeded, answers)
    }

    fn put(&mut self, before: &Map, put: &Put) {
        let living = self.map.get(&put.key);
        let record = Record {
            key: put.key.clone(),
            value: match &put.value {
                PutValue::Set(value) => value.clone(),
                PutValue::Keep => before[&put.key].value.clone(),
            },
            create: living.map_or(self.revision(), |record| record.create),
            modified: self.revision(),
            version: living.map_or(1, |record| record.version + 1),
            lease: match put.lease {
                PutLease::Set(lease) => lease.get(),
                PutLease::Keep => before[&put.key].lease,
            },
        };
        let previous = if living.is_some() { self.model.now().get(&put.key).cloned() } else { None };
        self.changes.push(Change {
            revision: self.revision(),
            is_delete: false,
            record: record.clone(),
            previous,
        });
        self.map.insert(put.key.clone(), record);
    }

    fn delete(&mut self, key: &Bytes) {
        self.map.remove(key);
        let record = Record {
            key: key.clone(),
            value: Bytes::new(),
            create: 0,
            modified: self.revision(),
            version: 0,
            lease: 0,
        };
        let previous = self.model.now().get(key).cloned();
        self.changes.push(Change { revision: self.revision(), is_delete: true, record, previous });
    }

    fn finish(self) {
        if !self.changes.is_empty() {
            self.model.changes.extend(self.changes);
            self.model.states.push(self.map);
        }
    }
}

fn inside(map: &Map, range: &KeyRange) -> Vec<Record> {
    map.values().filter(|record| range.contains(&record.key)).cloned().collect()
}

fn taken<'t>(before: &Map, transaction: &'t Transaction) -> (bool, &'t [Operation]) {
    let succeeded = transaction.compares.iter().all(|compare| holds(before, compare));
    (succeeded, if succeeded { &transaction.success } else { &transaction.failure })
}

fn holds(map: &Map, compare: &Compare) -> bool {
    let records = inside(map, &compare.range);
    let satisfied = |ordering: std::cmp::Ordering| match compare.result {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::NotEqual => ordering.is_ne(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
    };
    let number = |of: fn(&Record) -> i64, given: i64| {
        if records.is_empty() {
            satisfied(0.cmp(&given))
        } else {
            records.iter().all(|record| satisfied(of(record).cmp(&given)))
        }
    };
    match &compare.target {
        CompareTarget::Version(given) => number(|record| record.version, *given),
        CompareTarget::CreateRevision(given) => number(|record| record.create, given.get()),
        CompareTarget::ModRevision(given) => number(|record| record.modified, given.get()),
        CompareTarget::Lease(given) => number(|record| record.lease, given.get()),
        CompareTarget::Value(given) => {
            !records.is_empty() && records.iter().all(|record| satisfied(record.value.cmp(given)))
        }
    }
}

fn read(map: &Map, query: &RangeQuery) -> Found {
    let mut records = inside(map, &query.range);
    let count = records.len() as u64;
    if query.projection == Projection::CountOnly {
        return Found { records: Vec::new(), more: false, count };
    }
    let within = |value: i64, min: Revision, max: Revision| {
        (min.get() == 0 || value >= min.get()) && (max.get() == 0 || value <= max.get())
    };
    records.retain(|record| {
        within(record.modified, query.filter.min_mod, query.filter.max_mod)
            && within(record.create, query.filter.min_create, query.filter.max_create)
    });
    if let Some(sort) = query.sort {
        records.sort_by(|a, b| {
            let ordering = match sort.target {
                SortTarget::Key => a.key.cmp(&b.key),
                SortTarget::Version => a.version.cmp(&b.version),
                SortTarget::CreateRevision => a.create.cmp(&b.create),
                SortTarget::ModRevision => a.modified.cmp(&b.modified),
                SortTarget::Value => a.value.cmp(&b.value),
            };
            if sort.order == SortOrder::Descending { ordering.reverse() } else { ordering }
        });
    }
    let more = query.limit > 0 && records.len() as u64 > query.limit;
    if more {
        records.truncate(query.limit as usize);
    }
    if query.projection == Projection::KeysOnly {
        records.iter_mut().for_each(|record| record.value = Bytes::new());
    }
    Found { records, more, count }
}

/// What a branch puts and deletes.
#[derive(Default)]
struct Writes {
    puts: BTreeSet<Bytes>,
    deletes: Vec<KeyRange>,
}

/// etcd's rule for duplicate keys: no key is put twice and none is both put and deleted in one branch, where the two
/// branches of a nested transaction may agree with each other, where a delete that is open to the right collides with
/// nothing, and where a nested delete collides only with what is put behind it.
fn check_duplicates(branch: &[Operation]) -> Result<Writes, Error> {
    let mut all = Writes::default();
    for operation in branch {
        if let Operation::Delete(delete) = operation
            && delete.range.end != RangeEnd::Unbounded
        {
            all.deletes.push(delete.range.clone());
        }
    }
    let mut nested_and_own = Vec::new();
    for operation in branch {
        if let Operation::Transaction(nested) = operation {
            let (success, failure) = (check_duplicates(&nested.success)?, check_duplicates(&nested.failure)?);
            let puts: BTreeSet<Bytes> = success.puts.union(&failure.puts).cloned().collect();
            nested_and_own.push((puts, [success.deletes, failure.deletes].concat()));
        }
    }
    for operation in branch {
        if let Operation::Put(put) = operation {
            nested_and_own.push((BTreeSet::from([put.key.clone()]), Vec::new()));
        }
    }
    for (puts, deletes) in nested_and_own {
        for key in puts {
            let deleted = all.deletes.iter().any(|range| range.contains(&key));
            if deleted || !all.puts.insert(key) {
                return Err(InvalidRequest::DuplicateKey.into());
            }
        }
        all.deletes.extend(deletes);
    }
    Ok(all)
}
