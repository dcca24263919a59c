//! A keyspace as a list of everything it ever was.

use kvstore::{KeyRange, KeyValue, Revision};
use std::collections::BTreeMap;

/// One key at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub value: Vec<u8>,
    pub create: i64,
    pub modified: i64,
    pub version: i64,
    pub lease: i64,
}

pub type Rows = BTreeMap<Vec<u8>, Row>;

/// Every revision's rows, the first of a fresh keyspace in front.
#[derive(Clone)]
pub struct Model {
    revisions: Vec<Rows>,
    pub floor: i64,
    /// Also to revision 0, which changes nothing.
    pub was_compacted: bool,
    pub leases: Vec<i64>,
}

impl Model {
    pub fn new() -> Self {
        Self { revisions: vec![Rows::new()], floor: 0, was_compacted: false, leases: Vec::new() }
    }

    pub fn revision(&self) -> i64 {
        self.revisions.len() as i64
    }

    pub fn now(&self) -> &Rows {
        self.revisions.last().expect("there is a first revision")
    }

    pub fn at(&self, revision: i64) -> &Rows {
        &self.revisions[revision as usize - 1]
    }

    /// The rows after one more revision, to be changed.
    pub fn begin(&self) -> Rows {
        self.now().clone()
    }

    /// Makes `rows` the newest revision.
    pub fn commit(&mut self, rows: Rows) {
        self.revisions.push(rows);
    }

    /// Takes the keys of a lease away, which is a revision if there were any.
    pub fn end_lease(&mut self, lease: i64) {
        self.leases.retain(|id| *id != lease);
        let mut rows = self.begin();
        rows.retain(|_, row| row.lease != lease);
        if rows.len() < self.now().len() {
            self.commit(rows);
        }
    }
}

/// Puts a key in the revision after those of `model`.
pub fn put(rows: &mut Rows, revision: i64, key: &[u8], value: &[u8], lease: i64) {
    let (create, version) = rows.get(key).map_or((revision, 1), |row| (row.create, row.version + 1));
    rows.insert(key.to_vec(), Row { value: value.to_vec(), create, modified: revision, version, lease });
}

/// Deletes a range; whether anything was in it.
pub fn delete(rows: &mut Rows, range: &KeyRange) -> bool {
    let before = rows.len();
    rows.retain(|key, _| !range.contains(key));
    rows.len() < before
}

/// What the store gave, in the model's form.
pub fn rows_of(kvs: &[KeyValue]) -> Rows {
    let row = |kv: &KeyValue| Row {
        value: kv.value().to_vec(),
        create: kv.create_revision.get(),
        modified: kv.mod_revision.get(),
        version: kv.version,
        lease: kv.lease.get(),
    };
    kvs.iter().map(|kv| (kv.key().to_vec(), row(kv))).collect()
}

/// The revisions of a model that may be read.
pub fn readable(model: &Model) -> impl Iterator<Item = Revision> + use<> {
    (model.floor.max(1)..=model.revision()).map(Revision::new)
}
