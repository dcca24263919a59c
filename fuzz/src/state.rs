//! A replicated state in memory with a little history, and what it promises after every entry.

use bytes::Bytes;
use kvstore::apply::{ApplyOptions, Committed, StateMachine};
use kvstore::command::{
    Batch, Command, DeleteRange, Operation, Outcome, Put, PutLease, PutValue, RangeQuery, RangeResult,
    ReadAt, Transaction, TransactionOutcome, decode_batch, encode_batch, request_size,
};
use kvstore::mvcc::{Event, EventKind, Reader, RemovalLimits};
use kvstore::storage::{Engine, SimEngine};
use kvstore::{
    ClockMillis, KeyRange, KeyValue, KeyspaceId, LeaseId, LogIndex, RequestId, Result, Revision, Term,
};
use std::sync::Arc;

/// The proposer of every batch.
const PROPOSER: u64 = 77;
const MEMORY_WORKS: &str = "an engine in memory does not fail";

/// A state machine, its engine, and all events so far of the default keyspace.
pub struct State {
    pub engine: Arc<SimEngine>,
    pub machine: StateMachine,
    pub events: Vec<Arc<Event>>,
    pub now_ms: u64,
}

impl State {
    pub fn empty() -> Self {
        let engine = Arc::new(SimEngine::new());
        Self { machine: load(&engine), engine, events: Vec::new(), now_ms: 0 }
    }

    /// Two leases, five living keys, a tombstone, and a floor at revision 4.
    pub fn with_history() -> Self {
        let mut state = Self::empty();
        let grant = |id, ttl_s| Command::LeaseGrant { id: LeaseId::new(id), ttl_s };
        state.apply(vec![grant(7, 600), grant(9, 60)]);
        state.write(vec![put("a", "1", 0)]);
        state.write(vec![put("b", "2", 7)]);
        state.write(vec![put("c", "3", 0)]);
        state.write(vec![put("a", "22", 0)]);
        state.write(vec![delete("c")]);
        state.write(vec![put("d", "", 0), put("foo/1", "5", 9), put("foo/2", "5", 0)]);
        state.write(vec![put("x", "gone", 7)]);
        state.write(vec![delete("x"), put("c", "again", 7)]);
        state.apply(vec![Command::Compact { revision: Revision::new(4) }]);
        state.write(vec![put("b", "33", 7)]);
        state
    }

    fn write(&mut self, operations: Vec<Operation>) {
        self.transact(Transaction { success: operations, ..Transaction::default() })
            .expect("the history is not refused");
    }

    /// Applies commands of the default keyspace as one entry.
    pub fn apply(&mut self, commands: Vec<Command>) -> Vec<Result<Outcome>> {
        self.apply_to(commands.into_iter().map(|command| (KeyspaceId::DEFAULT, command)).collect())
    }

    pub fn command(&mut self, command: Command) -> Result<Outcome> {
        self.apply(vec![command]).pop().expect("an outcome for the command")
    }

    pub fn transact(&mut self, transaction: Transaction) -> Result<TransactionOutcome> {
        match self.command(Command::Transaction(transaction))? {
            Outcome::Transaction(outcome) => Ok(outcome),
            other => panic!("not the outcome of a transaction: {other:?}"),
        }
    }

    /// Applies one entry as members do: through its bytes. Checks what every entry must leave behind.
    pub fn apply_to(&mut self, commands: Vec<(KeyspaceId, Command)>) -> Vec<Result<Outcome>> {
        let batch = Batch {
            proposer: PROPOSER,
            clock: ClockMillis::new(self.now_ms),
            first_request: RequestId::new(1000),
            commands,
        };
        let bytes = encode_batch(&batch);
        let sizes: usize = batch.commands.iter().map(|(_, command)| request_size(command)).sum();
        assert!(sizes < bytes.len(), "{sizes} bytes of commands make {} bytes", bytes.len());
        let decoded = decode_batch(bytes).expect("what was encoded decodes");
        assert_eq!(decoded, batch, "what was encoded decodes to the same");
        let results = self.apply_batch(decoded);
        // Validation sees to that; what is applied without it may have one.
        assert!(self.events.iter().all(|event| !event.key().is_empty()), "no key is empty");
        results
    }

    /// Applies a batch as it is.
    pub fn apply_batch(&mut self, batch: Batch) -> Vec<Result<Outcome>> {
        let revisions: Vec<(KeyspaceId, Revision)> =
            batch.commands.iter().map(|(id, _)| (*id, self.reader_of(*id).revision())).collect();
        let before = |id| revisions.iter().find(|(found, _)| *found == id).map(|(_, revision)| *revision);
        let (index, first_request) = (self.machine.applied().0.next(), batch.first_request.get());
        let count = batch.commands.len();
        let entry = Committed { index, term: Term::new(1), batch: Some(Arc::new(batch)) };
        let applied = self.machine.apply(&[entry]).expect(MEMORY_WORKS);

        assert_eq!(self.machine.applied(), (index, Term::new(1)));
        assert_eq!(applied.outcomes.len(), count, "one outcome for each command");
        for (outcome, offset) in applied.outcomes.iter().zip(0..) {
            assert_eq!(outcome.request.get(), first_request.wrapping_add(offset), "outcomes are in order");
        }
        for (id, events, revision) in &applied.events {
            check_events(events, before(*id).expect("only keyspaces of the batch change"), *revision);
            assert_eq!(self.reader_of(*id).revision(), *revision);
            if *id == KeyspaceId::DEFAULT {
                self.events.extend(events.iter().cloned());
            }
        }
        for (id, revision) in revisions {
            let changed = applied.events.iter().any(|(changed, ..)| *changed == id);
            assert_eq!(self.reader_of(id).revision() > revision, changed, "a revision for each change");
        }
        applied.outcomes.into_iter().map(|completed| completed.result).collect()
    }

    pub fn reader(&mut self) -> Reader {
        self.reader_of(KeyspaceId::DEFAULT)
    }

    pub fn reader_of(&mut self, keyspace: KeyspaceId) -> Reader {
        self.machine.reader(keyspace).expect(MEMORY_WORKS)
    }

    pub fn range(&mut self, query: &RangeQuery) -> Result<RangeResult> {
        self.reader().range(query).map(|(result, _)| result)
    }

    /// Everything that lives at `at`, by key.
    pub fn all(&mut self, at: ReadAt) -> Result<Vec<KeyValue>> {
        let result = self.range(&RangeQuery { at, ..RangeQuery::new(KeyRange::all()) })?;
        assert_eq!((result.kvs.len() as u64, result.more), (result.count, false));
        assert!(result.kvs.is_sorted_by(|a, b| a.key() < b.key()), "in the order of keys, none twice");
        Ok(result.kvs)
    }

    /// Every lease knows the keys that name it, and no others.
    fn check_leases(&mut self) {
        let kvs = self.all(ReadAt::Latest).expect("the newest state is readable");
        let leases = self.machine.leases(KeyspaceId::DEFAULT).expect(MEMORY_WORKS);
        let mut attached = 0;
        for kv in kvs.iter().filter(|kv| kv.lease != LeaseId::NONE) {
            let info = leases.time_to_live(kv.lease, ClockMillis::new(0), true).expect(MEMORY_WORKS);
            let info = info.expect("a key's lease exists");
            assert!(info.keys.iter().any(|key| key == kv.key()), "{kv:?} hangs on its lease");
            attached += 1;
        }
        assert_eq!(leases.attached_keys(), Ok(attached), "nothing else hangs on leases");
    }

    /// Loads the state again: it is the same. Then removes what compaction left to remove: nothing changes either.
    pub fn check_reload(&mut self) {
        let before = self.seen();
        self.check_leases();
        self.machine = load(&self.engine);
        self.check_leases();
        assert_eq!(self.seen(), before, "a state that is loaded again is the same");
        while let Some((keyspace, scan)) = self.machine.next_removal() {
            let removal = scan.run(RemovalLimits { max_records: 3, ..RemovalLimits::default() });
            self.machine.apply_removal(keyspace, removal.expect(MEMORY_WORKS)).expect(MEMORY_WORKS);
        }
        let removed = self.seen();
        assert_eq!(removed.kvs, before.kvs, "removal takes away what nobody can read");
        self.machine = load(&self.engine);
        assert_eq!(self.seen(), removed, "a state that is loaded after removal is the same");
    }

    /// What a client can see of the default keyspace.
    fn seen(&mut self) -> Seen {
        let reader = self.reader();
        Seen {
            kvs: self.all(ReadAt::Latest).expect("the newest state is readable"),
            revision: reader.revision(),
            floor: reader.floor(),
            applied: self.machine.applied(),
            clock: self.machine.clock(),
            leases: self.machine.leases(KeyspaceId::DEFAULT).expect(MEMORY_WORKS).ids().expect(MEMORY_WORKS),
            alarms: self.machine.alarms().len(),
            live_bytes: self.machine.live_bytes(),
        }
    }

    /// Everything written so far survives a crash.
    pub fn flush(&self) {
        self.engine.flush().expect(MEMORY_WORKS);
    }

    /// Loads what the engine holds.
    pub fn reload(&mut self) {
        self.machine = load(&self.engine);
    }
}

#[derive(Debug, PartialEq)]
struct Seen {
    kvs: Vec<KeyValue>,
    revision: Revision,
    floor: Revision,
    applied: (LogIndex, Term),
    clock: ClockMillis,
    leases: Vec<LeaseId>,
    alarms: usize,
    live_bytes: u64,
}

fn load(engine: &Arc<SimEngine>) -> StateMachine {
    StateMachine::load(engine.clone(), ApplyOptions { value_cache_bytes: 1 << 10, changes_in_place: true })
        .expect(MEMORY_WORKS)
}

/// Events of an entry: revisions without gaps, changes of one revision in order.
fn check_events(events: &[Arc<Event>], before: Revision, after: Revision) {
    let mut last = (before, 0);
    for event in events {
        let (revision, sub) = (event.revision(), event.version.sub.get());
        let follows =
            if revision == last.0 { sub == last.1 + 1 } else { revision == last.0.next() && sub == 0 };
        assert!(follows, "{revision} {sub} follows {last:?}");
        assert_eq!(event.kv.mod_revision, revision);
        match event.kind {
            EventKind::Put => {
                let kv = &event.kv;
                assert!(kv.version >= 1 && kv.create_revision <= revision, "{kv:?}");
                // The other way round only if no key is put twice at once, which validation sees to.
                assert!(kv.version > 1 || event.is_create(), "{kv:?}");
            }
            EventKind::Delete => assert_eq!((event.kv.version, event.kv.value()), (0, &b""[..])),
        }
        last = (revision, sub);
    }
    assert_eq!(last.0, after, "the last event's revision is the keyspace's");
}

pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>, lease: i64) -> Operation {
    Operation::Put(Put {
        key: key.into(),
        value: PutValue::Set(value.into()),
        lease: PutLease::Set(LeaseId::new(lease)),
        want_previous: false,
    })
}

pub fn delete(key: &'static str) -> Operation {
    Operation::Delete(DeleteRange { range: KeyRange::single(key), want_previous: false })
}
