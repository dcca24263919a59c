//! One test for each rule; the folder's files are the areas.

mod alarms;
mod engine;
mod leases;
mod machine;
mod rehearsal;
mod replay;
mod transactions;

use super::*;
use crate::command::{
    Batch, Command, Compare, CompareResult, CompareTarget, DeleteRange, Operation, OperationOutcome, Outcome,
    Put, PutLease, PutValue, RangeQuery, RangeResult, ReadAt, Transaction, TransactionOutcome,
};
use crate::mvcc::{Event, EventKind};
use crate::storage::{Engine, Family, SimEngine};
use crate::types::{ClockMillis, KeyRange, KeyspaceId, LeaseId, LogIndex, RequestId, Result, Revision, Term};
use bytes::Bytes;
use std::ops::ControlFlow;
use std::sync::Arc;

const PROPOSER: u64 = 77;

/// A state machine over a simulated engine, and the log that feeds it.
struct Fixture {
    engine: Arc<SimEngine>,
    machine: StateMachine,
    next_index: u64,
    now_ms: u64,
    /// The events of the last call.
    events: Vec<Arc<Event>>,
}

impl Fixture {
    fn new() -> Self {
        let engine = Arc::new(SimEngine::new());
        let machine = load(&engine);
        Self { engine, machine, next_index: 1, now_ms: 0, events: Vec::new() }
    }

    /// Loads the state again, as after a clean stop.
    fn reload(&mut self) {
        self.machine = load(&self.engine);
    }

    /// Applies one entry with these commands in the default keyspace.
    fn batch(&mut self, commands: Vec<Command>) -> Vec<Result<Outcome>> {
        let commands = commands.into_iter().map(|command| (KeyspaceId::DEFAULT, command)).collect();
        let entry = entry(self.next_index, self.now_ms, commands);
        self.next_index += 1;
        let applied = self.machine.apply(&[entry]).expect("the engine works");
        self.events = applied.events.into_iter().flat_map(|(_, events, _)| events).collect();
        applied.outcomes.into_iter().map(|completed| completed.result).collect()
    }

    fn command(&mut self, command: Command) -> Result<Outcome> {
        self.batch(vec![command]).pop().expect("an outcome for the command")
    }

    fn transact(&mut self, transaction: Transaction) -> Result<TransactionOutcome> {
        match self.command(Command::Transaction(transaction))? {
            Outcome::Transaction(outcome) => Ok(outcome),
            other => panic!("the outcome of a transaction, not {other:?}"),
        }
    }

    /// Executes operations without a condition.
    fn run(&mut self, operations: Vec<Operation>) -> Result<TransactionOutcome> {
        self.transact(Transaction { success: operations, ..Transaction::default() })
    }

    /// Executes operations that must succeed; gives the revision.
    fn write(&mut self, operations: Vec<Operation>) -> i64 {
        self.run(operations).expect("the transaction is not refused").revision.get()
    }

    fn grant(&mut self, id: i64, ttl_s: i64) -> Result<Outcome> {
        self.command(Command::LeaseGrant { id: LeaseId::new(id), ttl_s })
    }

    fn compact(&mut self, revision: i64) -> Result<Outcome> {
        self.command(Command::Compact { revision: Revision::new(revision) })
    }

    /// Whether these compares hold together.
    fn holds(&mut self, compares: Vec<Compare>) -> bool {
        let transaction = Transaction { compares, ..Transaction::default() };
        self.transact(transaction).expect("compares alone are not refused").succeeded
    }

    fn revision(&mut self) -> i64 {
        self.machine.reader(KeyspaceId::DEFAULT).unwrap().revision().get()
    }

    /// What readers see: key, value, create revision, mod revision, version, lease.
    fn published(&mut self) -> Vec<(String, String, i64, i64, i64, i64)> {
        let reader = self.machine.reader(KeyspaceId::DEFAULT).unwrap();
        let (result, _) = reader.range(&RangeQuery::new(KeyRange::all())).unwrap();
        rows(&result)
    }

    fn event_list(&self) -> Vec<(i64, u32, EventKind, String)> {
        let row = |event: &Arc<Event>| {
            let version = event.version;
            (version.revision.get(), version.sub.get(), event.kind, text(event.key()))
        };
        self.events.iter().map(row).collect()
    }

    /// Everything the engine holds, the position in the log left out.
    fn data(&self) -> Vec<(Family, Bytes, Bytes)> {
        let mut all = contents(&*self.engine);
        all.retain(|(family, key, _)| (*family, &key[..]) != (Family::Meta, &[0x02][..]));
        all
    }
}

fn load(engine: &Arc<SimEngine>) -> StateMachine {
    StateMachine::load(engine.clone(), ApplyOptions::default()).expect("the state loads")
}

fn entry(index: u64, now_ms: u64, commands: Vec<(KeyspaceId, Command)>) -> Committed {
    Committed {
        index: LogIndex::new(index),
        term: Term::new(1),
        batch: Some(Arc::new(Batch {
            proposer: PROPOSER,
            clock: ClockMillis::new(now_ms),
            first_request: RequestId::new(index * 1000),
            commands,
        })),
    }
}

/// Everything an engine holds.
fn contents(engine: &dyn Engine) -> Vec<(Family, Bytes, Bytes)> {
    let mut all = Vec::new();
    for family in Family::ALL {
        let mut visit = |key: &[u8], value: &[u8]| {
            all.push((family, Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            ControlFlow::Continue(())
        };
        engine.scan(family, &[], &[], false, &mut visit).unwrap();
    }
    all
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn rows(result: &RangeResult) -> Vec<(String, String, i64, i64, i64, i64)> {
    let row = |kv: &crate::types::KeyValue| {
        let (create, modified) = (kv.create_revision.get(), kv.mod_revision.get());
        (text(kv.key()), text(kv.value()), create, modified, kv.version, kv.lease.get())
    };
    result.kvs.iter().map(row).collect()
}

fn row(key: &str, value: &str, numbers: (i64, i64, i64, i64)) -> (String, String, i64, i64, i64, i64) {
    (key.into(), value.into(), numbers.0, numbers.1, numbers.2, numbers.3)
}

fn put(key: &'static str, value: &'static str) -> Operation {
    put_with(key, PutValue::Set(value.into()), PutLease::Set(LeaseId::NONE))
}

fn put_leased(key: &'static str, lease: i64) -> Operation {
    put_with(key, PutValue::Set("v".into()), PutLease::Set(LeaseId::new(lease)))
}

fn put_with(key: &'static str, value: PutValue, lease: PutLease) -> Operation {
    Operation::Put(Put { key: key.into(), value, lease, want_previous: false })
}

fn with_previous(operation: Operation) -> Operation {
    match operation {
        Operation::Put(put) => Operation::Put(Put { want_previous: true, ..put }),
        Operation::Delete(delete) => Operation::Delete(DeleteRange { want_previous: true, ..delete }),
        other => other,
    }
}

fn delete(range: KeyRange) -> Operation {
    Operation::Delete(DeleteRange { range, want_previous: false })
}

fn delete_key(key: &'static str) -> Operation {
    delete(KeyRange::single(key))
}

fn read(range: KeyRange) -> Operation {
    Operation::Range(RangeQuery::new(range))
}

fn read_at(range: KeyRange, revision: i64) -> Operation {
    Operation::Range(RangeQuery { at: ReadAt::Revision(Revision::new(revision)), ..RangeQuery::new(range) })
}

fn nested(compares: Vec<Compare>, success: Vec<Operation>, failure: Vec<Operation>) -> Operation {
    Operation::Transaction(Transaction { compares, success, failure })
}

fn compare(range: KeyRange, target: CompareTarget, result: CompareResult) -> Compare {
    Compare { range, target, result }
}

fn exists(key: &'static str) -> Compare {
    compare(KeyRange::single(key), CompareTarget::Version(0), CompareResult::Greater)
}

fn missing(key: &'static str) -> Compare {
    compare(KeyRange::single(key), CompareTarget::Version(0), CompareResult::Equal)
}
