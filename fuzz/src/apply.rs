//! What clients and machines do to a state, against a model.

use super::input::Input;
use super::model::{self, Model};
use super::state::{State, put};
use kvstore::command::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, Operation, ReadAt, Transaction,
};
use kvstore::mvcc::RemovalLimits;
use kvstore::{Error, KeyRange, KeyspaceId, LeaseId, Revision};

/// No more steps than this in one input: the model keeps every revision, and every one is compared at the end.
const STEPS_MAX: usize = 150;
/// Looks at the whole history on the way.
const LOOKS_MAX: usize = 3;
/// Few keys, so that they meet.
const KEYS: [&str; 8] = ["a", "a/1", "a/2", "b", "b\u{0}", "c", "zz", "\u{7f}"];

/// Bytes: steps. A crash takes back what was not flushed, and the entries since then are applied again.
pub fn apply(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World { state: State::empty(), model: Model::new(), unflushed: Vec::new(), looks: 0 };
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
    world.check_history();
    world.state.check_reload();
    world.check_history();
}

struct World {
    state: State,
    model: Model,
    /// What a crash takes back: the commands of each entry since the last flush.
    unflushed: Vec<Vec<(KeyspaceId, Command)>>,
    looks: usize,
}

impl World {
    fn step(&mut self, input: &mut Input<'_>) {
        let what = input.byte();
        let key = KEYS[usize::from(what >> 5)];
        match what & 31 {
            0..=7 => self.put(key, input),
            8..=11 => self.delete(key, input),
            12..=16 => self.transact(key, input),
            17 | 18 => self.compact(input),
            19 => self.grant(i64::from(input.byte() % 4)),
            20 => self.revoke(i64::from(input.byte() % 4)),
            21 => {
                self.state.flush();
                self.unflushed.clear();
            }
            22 => self.crash(),
            23 => self.state.reload(),
            24..=26 => self.remove_some(input),
            27 if self.looks < LOOKS_MAX => {
                self.looks += 1;
                self.check_history();
            }
            _ => self.read(key, input),
        }
    }

    fn command(&mut self, command: Command) -> kvstore::Result<()> {
        let commands = vec![(KeyspaceId::DEFAULT, command)];
        self.unflushed.push(commands.clone());
        self.state.apply_to(commands).pop().expect("an outcome for the command").map(drop)
    }

    fn operations(&mut self, success: Vec<Operation>) -> kvstore::Result<()> {
        self.command(Command::Transaction(Transaction { success, ..Transaction::default() }))
    }

    /// A lease that exists, or none.
    fn lease(&self, byte: u8) -> i64 {
        let wanted = i64::from(byte % 4);
        if self.model.leases.contains(&wanted) { wanted } else { 0 }
    }

    fn put(&mut self, key: &'static str, input: &mut Input<'_>) {
        let lease = self.lease(input.byte());
        let value = vec![b'v'; usize::from(input.byte())];
        self.operations(vec![put(key, value.clone(), lease)]).expect("a put is not refused");
        let mut rows = self.model.begin();
        model::put(&mut rows, self.model.revision() + 1, key.as_bytes(), &value, lease);
        self.model.commit(rows);
    }

    fn delete(&mut self, key: &'static str, input: &mut Input<'_>) {
        let range = range(key, input.byte());
        let delete = DeleteRange { range: range.clone(), want_previous: false };
        self.operations(vec![Operation::Delete(delete)]).expect("a deletion is not refused");
        let mut rows = self.model.begin();
        if model::delete(&mut rows, &range) {
            self.model.commit(rows);
        }
    }

    /// If the key is as expected: a deletion and two puts in one revision. Else: another put.
    fn transact(&mut self, key: &'static str, input: &mut Input<'_>) {
        let version = i64::from(input.byte() % 4);
        let range = range(KEYS[usize::from(input.byte() % 8)], 2);
        let other = KEYS[usize::from(input.byte() % 8)];
        if other == key {
            return; // No valid transaction puts a key twice.
        }
        let compare = Compare {
            range: KeyRange::single(key),
            target: CompareTarget::Version(version),
            result: CompareResult::Equal,
        };
        let success = vec![
            Operation::Delete(DeleteRange { range: range.clone(), want_previous: true }),
            put(key, "one", 0),
            put(other, "two", 0),
        ];
        let transaction =
            Transaction { compares: vec![compare], success, failure: vec![put(other, "else", 0)] };
        self.command(Command::Transaction(transaction)).expect("the transaction is not refused");

        let mut rows = self.model.begin();
        let revision = self.model.revision() + 1;
        if rows.get(key.as_bytes()).map_or(0, |row| row.version) == version {
            model::delete(&mut rows, &range);
            model::put(&mut rows, revision, key.as_bytes(), b"one", 0);
            model::put(&mut rows, revision, other.as_bytes(), b"two", 0);
        } else {
            model::put(&mut rows, revision, other.as_bytes(), b"else", 0);
        }
        self.model.commit(rows);
    }

    fn compact(&mut self, input: &mut Input<'_>) {
        let revision = self.model.revision() + 1 - i64::from(input.byte() % 16);
        let refused = self.command(Command::Compact { revision: Revision::new(revision) }).err();
        let floor = self.model.floor;
        match refused {
            None => {
                assert!(revision <= self.model.revision());
                assert!(revision > floor || (revision == 0 && !self.model.was_compacted));
                self.model.was_compacted = true;
                self.model.floor = revision;
            }
            Some(Error::FutureRevision { current }) => {
                assert!(revision > current.get() && current.get() == self.model.revision());
            }
            Some(Error::Compacted { .. }) => assert!(revision <= floor),
            Some(other) => panic!("{other}"),
        }
    }

    fn grant(&mut self, id: i64) {
        let granted = self.command(Command::LeaseGrant { id: LeaseId::new(id), ttl_s: 60 });
        assert_eq!(granted.is_ok(), id > 0 && !self.model.leases.contains(&id));
        if granted.is_ok() {
            self.model.leases.push(id);
        }
    }

    fn revoke(&mut self, id: i64) {
        let ended = self.command(Command::LeaseRevoke { id: LeaseId::new(id) });
        assert_eq!(ended.is_ok(), self.model.leases.contains(&id));
        if ended.is_ok() {
            self.model.end_lease(id);
        }
    }

    /// The log has everything that the engine forgets.
    fn crash(&mut self) {
        self.state.engine.crash();
        self.state.reload();
        for commands in &self.unflushed {
            self.state.apply_to(commands.clone());
        }
    }

    /// One step of removal; it is not in the log, and need not be.
    fn remove_some(&mut self, input: &mut Input<'_>) {
        let max_records = 1 + usize::from(input.byte() % 8);
        let Some((keyspace, scan)) = self.state.machine.next_removal() else { return };
        let limits = RemovalLimits { max_records, ..RemovalLimits::default() };
        let removal = scan.run(limits).expect("an engine in memory does not fail");
        self.state.machine.apply_removal(keyspace, removal).expect("an engine in memory does not fail");
    }

    fn read(&mut self, key: &'static str, input: &mut Input<'_>) {
        let range = range(key, input.byte());
        let revision = i64::from(input.byte());
        let query = kvstore::command::RangeQuery {
            at: ReadAt::Revision(Revision::new(revision)),
            ..kvstore::command::RangeQuery::new(range.clone())
        };
        let (model, result) = (&self.model, self.state.reader().range(&query));
        match result {
            Ok((result, at)) => {
                assert_eq!(at.get(), model.revision());
                let read_at = if revision == 0 { model.revision() } else { revision };
                let mut rows = model.at(read_at).clone();
                rows.retain(|key, _| range.contains(key));
                assert_eq!((result.count as usize, model::rows_of(&result.kvs)), (rows.len(), rows));
            }
            Err(Error::FutureRevision { .. }) => assert!(revision > model.revision()),
            Err(Error::Compacted { .. }) => assert!(revision < model.floor),
            Err(other) => panic!("{other}"),
        }
    }

    /// Every revision that may be read is what it was.
    fn check_history(&mut self) {
        assert_eq!(self.state.reader().revision().get(), self.model.revision());
        assert_eq!(self.state.reader().floor().get(), self.model.floor);
        for revision in model::readable(&self.model) {
            let kvs = self.state.all(ReadAt::Revision(revision)).expect("it is not compacted");
            assert_eq!(&model::rows_of(&kvs), self.model.at(revision.get()), "at {revision}");
        }
        assert_eq!(&model::rows_of(&self.state.all(ReadAt::Latest).expect("readable")), self.model.now());
    }
}

/// The key, all with its prefix, everything from it on, or up to another one.
fn range(key: &'static str, kind: u8) -> KeyRange {
    match kind % 4 {
        0 => KeyRange::single(key),
        1 => KeyRange::from(key),
        2 => KeyRange::prefix(key),
        _ => KeyRange::span(key, KEYS[usize::from(kind >> 2) % KEYS.len()]),
    }
}
