//! Puts and deletes, outside and inside transactions.

use super::{range::key_range, status};
use crate::proto::EncodedKeyValue;
use crate::proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, ResponseHeader,
};
use kvstore::command::{DeleteRange, Operation, Put, PutLease, PutValue, Transaction};
use kvstore::{KeyValue, LeaseId};
use tonic::Status;

/// The put that `request` asks for.
pub fn put(request: PutRequest) -> Result<Put, Status> {
    if request.key.is_empty() {
        return Err(status::EMPTY_KEY.into());
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(status::VALUE_PROVIDED.into());
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(status::LEASE_PROVIDED.into());
    }
    Ok(Put {
        key: request.key,
        value: if request.ignore_value { PutValue::Keep } else { PutValue::Set(request.value) },
        lease: if request.ignore_lease { PutLease::Keep } else { PutLease::Set(LeaseId::new(request.lease)) },
        want_previous: request.prev_kv,
    })
}

/// The deletion that `request` asks for.
pub fn delete(request: DeleteRangeRequest) -> Result<DeleteRange, Status> {
    if request.key.is_empty() {
        return Err(status::EMPTY_KEY.into());
    }
    Ok(DeleteRange { range: key_range(request.key, request.range_end), want_previous: request.prev_kv })
}

/// One operation as a transaction without conditions.
pub fn alone(operation: Operation) -> Transaction {
    Transaction { compares: Vec::new(), success: vec![operation], failure: Vec::new() }
}

/// The response of a put.
pub fn put_response(previous: Option<KeyValue>, header: Option<ResponseHeader>) -> PutResponse {
    PutResponse { header, prev_kv: previous.map(EncodedKeyValue) }
}

/// The response of a delete.
pub fn delete_response(
    deleted: u64,
    previous: Vec<KeyValue>,
    header: Option<ResponseHeader>,
) -> DeleteRangeResponse {
    DeleteRangeResponse {
        header,
        deleted: deleted as i64,
        prev_kvs: previous.into_iter().map(EncodedKeyValue).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_refused_in_etcds_order() {
        let contradiction = PutRequest {
            key: "k".into(),
            value: "v".into(),
            lease: 7,
            ignore_value: true,
            ignore_lease: true,
            ..Default::default()
        };
        let text = |request| put(request).unwrap_err().message().to_owned();
        assert_eq!(
            text(PutRequest { key: "".into(), ..contradiction.clone() }),
            "etcdserver: key is not provided"
        );
        assert_eq!(text(contradiction.clone()), "etcdserver: value is provided");
        assert_eq!(text(PutRequest { value: "".into(), ..contradiction }), "etcdserver: lease is provided");
        assert!(delete(DeleteRangeRequest::default()).is_err());
    }

    #[test]
    fn keeping_value_or_lease_is_not_setting_it_empty() {
        let keep =
            put(PutRequest { key: "k".into(), ignore_value: true, ignore_lease: true, ..Default::default() })
                .unwrap();
        assert_eq!((keep.value, keep.lease), (PutValue::Keep, PutLease::Keep));
        let set = put(PutRequest { key: "k".into(), ..Default::default() }).unwrap();
        assert_eq!((set.value, set.lease), (PutValue::Set("".into()), PutLease::Set(LeaseId::NONE)));
    }
}
