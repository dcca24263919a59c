//! Responses that may be large, written record by record: a piece of one goes when it is sent, and nothing is encoded twice.

use super::pieces::Writer;
use crate::proto::EncodedKeyValue;
use crate::proto::etcdserverpb::{
    DeleteRangeResponse, PutResponse, RangeResponse, ResponseOp, TxnResponse, response_op::Response,
};
use prost::Message;
use tonic::Status;

/// The number of `kvs` in `RangeResponse`.
pub const RANGE_KVS_TAG: u32 = 2;
/// The number of `prev_kvs` in `DeleteRangeResponse`.
const DELETE_KVS_TAG: u32 = 3;
/// The number of `responses` in `TxnResponse`.
const TXN_RESPONSES_TAG: u32 = 3;
/// Those of the kinds in `ResponseOp`.
const RANGE_TAG: u32 = 1;
const PUT_TAG: u32 = 2;
const DELETE_TAG: u32 = 3;
const TXN_TAG: u32 = 4;

pub fn range(response: RangeResponse, writer: &mut Writer) -> Result<(), Status> {
    let RangeResponse { header, kvs, more, count } = response;
    writer.message(&RangeResponse { header, ..Default::default() })?;
    for EncodedKeyValue(kv) in kvs {
        writer.field(RANGE_KVS_TAG, kv.encoded())?;
    }
    writer.message(&RangeResponse { more, count, ..Default::default() })
}

pub fn put(response: PutResponse, writer: &mut Writer) -> Result<(), Status> {
    writer.message(&response)
}

pub fn delete(response: DeleteRangeResponse, writer: &mut Writer) -> Result<(), Status> {
    let DeleteRangeResponse { header, deleted, prev_kvs } = response;
    writer.message(&DeleteRangeResponse { header, deleted, ..Default::default() })?;
    for EncodedKeyValue(kv) in prev_kvs {
        writer.field(DELETE_KVS_TAG, kv.encoded())?;
    }
    Ok(())
}

pub fn transaction(response: TxnResponse, writer: &mut Writer) -> Result<(), Status> {
    let TxnResponse { header, succeeded, responses } = response;
    writer.message(&TxnResponse { header, succeeded, ..Default::default() })?;
    for ResponseOp { response } in responses {
        let Some(response) = response else {
            writer.begin(TXN_RESPONSES_TAG, 0)?;
            continue;
        };
        // The length of an inner message comes before it, and that of the `ResponseOp` around it.
        let bytes = response.encoded_len();
        writer.begin(TXN_RESPONSES_TAG, bytes)?;
        match response {
            Response::ResponseRange(inner) => {
                writer.begin(RANGE_TAG, inner.encoded_len())?;
                range(inner, writer)?;
            }
            Response::ResponsePut(inner) => {
                writer.begin(PUT_TAG, inner.encoded_len())?;
                put(inner, writer)?;
            }
            Response::ResponseDeleteRange(inner) => {
                writer.begin(DELETE_TAG, inner.encoded_len())?;
                delete(inner, writer)?;
            }
            Response::ResponseTxn(inner) => {
                writer.begin(TXN_TAG, inner.encoded_len())?;
                transaction(inner, writer)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::ResponseHeader;
    use kvstore::{KeyValue, LeaseId, Revision};

    #[test]
    fn record_by_record_is_what_the_message_is_at_once() {
        let header =
            || Some(ResponseHeader { cluster_id: u64::MAX, member_id: 2, revision: 700, raft_term: 9 });
        let kv = |bytes| {
            let value = vec![7; bytes];
            let revision = Revision::new(3);
            EncodedKeyValue(KeyValue::new(b"key", &value, revision, revision, 1, LeaseId::new(5)))
        };
        let range = RangeResponse {
            header: header(),
            kvs: (0..2_000).map(|n| kv(n % 300)).chain([kv(300_000)]).collect(),
            more: true,
            count: 7,
        };
        let delete = DeleteRangeResponse { header: header(), deleted: 3, prev_kvs: range.kvs.clone() };
        let put = PutResponse { header: header(), prev_kv: Some(kv(70_000)) };
        let op = |response| ResponseOp { response: Some(response) };
        let responses = vec![
            op(Response::ResponseRange(range)),
            op(Response::ResponseRange(RangeResponse::default())),
            ResponseOp::default(),
            op(Response::ResponsePut(put)),
            op(Response::ResponseDeleteRange(delete)),
        ];
        let inner = TxnResponse { header: Some(ResponseHeader::default()), succeeded: false, responses };
        let mut responses = inner.responses.clone();
        responses.push(op(Response::ResponseTxn(inner)));
        let whole = TxnResponse { header: header(), succeeded: true, responses };
        let expected = whole.encode_to_vec();
        let mut writer = Writer::default();
        transaction(whole, &mut writer).unwrap();
        let pieces = writer.finish();
        assert_eq!(pieces.bytes(), expected.len());
        assert!(pieces.message() == expected);
    }
}
