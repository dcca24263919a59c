//! The writes that kube-apiserver makes, as commands of the store; [`crate::requests`] has them as etcd's messages.

use bytes::Bytes;
use kvstore::command::{
    Compare, CompareResult, CompareTarget, Operation, Put, PutLease, PutValue, RangeQuery, Transaction,
};
use kvstore::{KeyRange, LeaseId, Revision};

/// Namespaces that keys are spread over.
pub const NAMESPACES: u64 = 100;

/// The key of an object: as long as those of Kubernetes, and neighbours in number lie in different namespaces.
pub fn key(number: u64) -> Bytes {
    format!("{}pod-{number:08}", namespace(number)).into()
}

/// What the keys of one namespace begin with.
pub fn namespace(number: u64) -> String {
    format!("/registry/pods/namespace-{:02}/", number % NAMESPACES)
}

/// Sets a key without a lease.
pub fn put(key: Bytes, value: Bytes) -> Operation {
    Operation::Put(Put {
        key,
        value: PutValue::Set(value),
        lease: PutLease::Set(LeaseId::NONE),
        want_previous: false,
    })
}

/// If the key's newest version is of `revision` ([`Revision::NONE`]: if there is none) then put it, else read it.
pub fn guarded_put(key: Bytes, revision: Revision, value: Bytes) -> Transaction {
    Transaction {
        compares: vec![Compare {
            range: KeyRange::single(key.clone()),
            target: CompareTarget::ModRevision(revision),
            result: CompareResult::Equal,
        }],
        success: vec![put(key.clone(), value)],
        failure: vec![Operation::Range(RangeQuery::new(KeyRange::single(key)))],
    }
}
