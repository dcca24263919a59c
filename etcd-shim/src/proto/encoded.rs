//! Messages that are already encoded.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kvstore::KeyValue;
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_varint, encode_key, encode_varint, skip_field};
use std::hash::{Hash, Hasher};

/// `mvccpb.KeyValue` as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct EncodedKeyValue(pub KeyValue);

/// `mvccpb.Event`, encoded once for all watchers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct EncodedEvent(pub Bytes);

impl Default for EncodedKeyValue {
    fn default() -> Self {
        Self(KeyValue::decode(Bytes::new()).expect("no bytes are a record with all fields zero"))
    }
}

impl Hash for EncodedKeyValue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.encoded().hash(state);
    }
}

impl prost::Message for EncodedKeyValue {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(self.0.encoded());
    }

    fn encoded_len(&self) -> usize {
        self.0.encoded().len()
    }

    /// Only clients built from these types decode; it is correct, not fast.
    fn merge_field(
        &mut self,
        tag: u32,
        wire: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        const LAST_FIELD: u32 = 6;
        if tag > LAST_FIELD {
            return skip_field(wire, tag, buf, context);
        }
        let encoded = with_field(self.0.encoded(), tag, wire, buf, context)?;
        if let Some(kv) = KeyValue::decode(encoded) {
            self.0 = kv;
        }
        Ok(())
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl prost::Message for EncodedEvent {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        self.0 = with_field(&self.0, tag, wire, buf, context)?;
        Ok(())
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// `before` with the field that `buf` is at appended, in the same wire form.
fn with_field(
    before: &[u8],
    tag: u32,
    wire: WireType,
    buf: &mut impl Buf,
    context: DecodeContext,
) -> Result<Bytes, DecodeError> {
    let mut out = BytesMut::with_capacity(before.len() + buf.remaining().min(64 * 1024));
    out.put_slice(before);
    match wire {
        WireType::Varint => {
            encode_key(tag, wire, &mut out);
            encode_varint(decode_varint(buf)?, &mut out);
        }
        WireType::LengthDelimited => {
            let mut field = Bytes::new();
            prost::encoding::bytes::merge(wire, &mut field, buf, context)?;
            encode_key(tag, wire, &mut out);
            encode_varint(field.len() as u64, &mut out);
            out.put_slice(&field);
        }
        _ => skip_field(wire, tag, buf, context)?,
    }
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{etcdserverpb as server, plain};
    use kvstore::{LeaseId, Revision};
    use prost::Message;

    fn record(key: &str, value: &str, lease: i64) -> KeyValue {
        KeyValue::new(
            key.as_bytes(),
            value.as_bytes(),
            Revision::new(3),
            Revision::new(700),
            5,
            LeaseId::new(lease),
        )
    }

    fn plain_record(key: &str, value: &str, lease: i64) -> plain::mvccpb::KeyValue {
        plain::mvccpb::KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            create_revision: 3,
            mod_revision: 700,
            version: 5,
            value: Bytes::copy_from_slice(value.as_bytes()),
            lease,
        }
    }

    fn header() -> (server::ResponseHeader, plain::etcdserverpb::ResponseHeader) {
        let ours = server::ResponseHeader { cluster_id: u64::MAX, member_id: 2, revision: 700, raft_term: 9 };
        let plain = plain::etcdserverpb::ResponseHeader {
            cluster_id: u64::MAX,
            member_id: 2,
            revision: 700,
            raft_term: 9,
        };
        (ours, plain)
    }

    #[test]
    fn a_transaction_with_a_range_inside_is_the_same_bytes() {
        let big = "v".repeat(70_000);
        let (ours_header, plain_header) = header();
        let range = server::RangeResponse {
            header: Some(ours_header),
            kvs: [("a", "1", 0), ("b", "", -7), ("c", &big, i64::MAX)]
                .map(|(k, v, l)| EncodedKeyValue(record(k, v, l)))
                .into(),
            more: true,
            count: 300,
        };
        let plain_range = plain::etcdserverpb::RangeResponse {
            header: Some(plain_header),
            kvs: [("a", "1", 0), ("b", "", -7), ("c", &big, i64::MAX)]
                .map(|(k, v, l)| plain_record(k, v, l))
                .into(),
            more: true,
            count: 300,
        };
        assert_eq!(range.encode_to_vec(), plain_range.encode_to_vec());

        let ours = server::TxnResponse {
            header: None,
            succeeded: true,
            responses: vec![
                server::ResponseOp { response: Some(server::response_op::Response::ResponseRange(range)) },
                server::ResponseOp {
                    response: Some(server::response_op::Response::ResponsePut(server::PutResponse {
                        header: None,
                        prev_kv: Some(EncodedKeyValue(record("p", "q", 1))),
                    })),
                },
            ],
        };
        let plain = plain::etcdserverpb::TxnResponse {
            header: None,
            succeeded: true,
            responses: vec![
                plain::etcdserverpb::ResponseOp {
                    response: Some(plain::etcdserverpb::response_op::Response::ResponseRange(plain_range)),
                },
                plain::etcdserverpb::ResponseOp {
                    response: Some(plain::etcdserverpb::response_op::Response::ResponsePut(
                        plain::etcdserverpb::PutResponse {
                            header: None,
                            prev_kv: Some(plain_record("p", "q", 1)),
                        },
                    )),
                },
            ],
        };
        let bytes = ours.encode_to_vec();
        assert_eq!(bytes, plain.encode_to_vec());
        assert_eq!(server::TxnResponse::decode(&bytes[..]).unwrap(), ours);
    }

    #[test]
    fn a_watch_response_is_the_same_bytes() {
        let (ours_header, plain_header) = header();
        let event = plain::mvccpb::Event {
            r#type: 1,
            kv: Some(plain::mvccpb::KeyValue { key: "k".into(), mod_revision: 700, ..Default::default() }),
            prev_kv: Some(plain_record("k", "before", 0)),
        };
        let ours = server::WatchResponse {
            header: Some(ours_header),
            watch_id: -1,
            created: true,
            canceled: true,
            compact_revision: 5,
            cancel_reason: "why".into(),
            fragment: true,
            events: vec![EncodedEvent(event.encode_to_vec().into())],
        };
        let plain = plain::etcdserverpb::WatchResponse {
            header: Some(plain_header),
            watch_id: -1,
            created: true,
            canceled: true,
            compact_revision: 5,
            cancel_reason: "why".into(),
            fragment: true,
            events: vec![event],
        };
        let bytes = ours.encode_to_vec();
        assert_eq!(bytes, plain.encode_to_vec());
        assert_eq!(server::WatchResponse::decode(&bytes[..]).unwrap(), ours);
    }

    #[test]
    fn a_field_of_a_newer_protocol_is_skipped() {
        let mut bytes = plain_record("k", "v", 0).encode_to_vec();
        prost::encoding::int64::encode(99, &1, &mut bytes);
        assert_eq!(EncodedKeyValue::decode(&bytes[..]).unwrap().0, record("k", "v", 0));
    }

    #[test]
    fn a_decoded_request_shares_the_receive_buffer() {
        let wire = Bytes::from(
            server::PutRequest { key: "k".into(), value: vec![7; 1024].into(), ..Default::default() }
                .encode_to_vec(),
        );
        let put = server::PutRequest::decode(wire.clone()).unwrap();
        let (start, value) = (wire.as_ptr() as usize, put.value.as_ptr() as usize);
        assert!((start..start + wire.len()).contains(&value));
    }
}
