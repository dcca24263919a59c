//! Requests as kube-apiserver sends them, and values that do not compress.

use bytes::Bytes;
use etcd_shim::proto::plain::etcdserverpb as pb;
use pb::request_op::Request;

/// Repeatable numbers; nothing here needs better ones.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Two seeds that differ give different numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }

    /// So many bytes that do not compress: a store that compresses must not be flattered.
    pub fn value(&mut self, bytes: usize) -> Bytes {
        let mut value: Vec<u8> =
            (0..bytes.div_ceil(8)).flat_map(|_| self.below(u64::MAX).to_le_bytes()).collect();
        value.truncate(bytes);
        value.into()
    }
}

/// kube-apiserver's transaction: if nobody has changed the key since `revision` (0: if there is none), then do it, else
/// tell what the key is.
pub fn guarded(key: Bytes, revision: i64, change: Request) -> pb::TxnRequest {
    let compare = pb::Compare {
        result: pb::compare::CompareResult::Equal as i32,
        target: pb::compare::CompareTarget::Mod as i32,
        key: key.clone(),
        target_union: Some(pb::compare::TargetUnion::ModRevision(revision)),
        ..Default::default()
    };
    let get = Request::RequestRange(pb::RangeRequest { key, ..Default::default() });
    let op = |request| pb::RequestOp { request: Some(request) };
    pb::TxnRequest { compare: vec![compare], success: vec![op(change)], failure: vec![op(get)] }
}

/// kube-apiserver's create: sets a key that is not there, and does nothing else if it is.
pub fn guarded_create(key: Bytes, value: Bytes) -> pb::TxnRequest {
    pb::TxnRequest { failure: Vec::new(), ..guarded_put(key, 0, value) }
}

/// Sets a key.
pub fn put(key: Bytes, value: Bytes) -> pb::PutRequest {
    pb::PutRequest { key, value, ..Default::default() }
}

/// kube-apiserver's update.
pub fn guarded_put(key: Bytes, revision: i64, value: Bytes) -> pb::TxnRequest {
    guarded(key.clone(), revision, Request::RequestPut(put(key, value)))
}

/// A guarded deletion.
pub fn guarded_delete(key: Bytes, revision: i64) -> pb::TxnRequest {
    let delete = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
    guarded(key, revision, Request::RequestDeleteRange(delete))
}

/// The end of the interval of all keys that begin with `prefix`.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    vec![0].into()
}
