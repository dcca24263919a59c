//! Bytes of a stored version.

use bytes::Bytes;
use etcd_shim::proto::plain::mvccpb;
use kvstore::KeyValue;
use prost::Message;

/// Reads a record; any protobuf library must read the same, and it must read back.
pub fn record(data: &[u8]) {
    let Some(kv) = KeyValue::decode(Bytes::copy_from_slice(data)) else { return };
    let plain = mvccpb::KeyValue::decode(data).expect("a record is protobuf");
    let seen = (
        &plain.key[..],
        &plain.value[..],
        plain.create_revision,
        plain.mod_revision,
        plain.version,
        plain.lease,
    );
    let fields =
        |kv: &KeyValue| (kv.create_revision.get(), kv.mod_revision.get(), kv.version, kv.lease.get());
    let (create, modified, version, lease) = fields(&kv);
    assert_eq!((kv.key(), kv.value(), create, modified, version, lease), seen);
    let again =
        KeyValue::new(kv.key(), kv.value(), kv.create_revision, kv.mod_revision, kv.version, kv.lease);
    let back = KeyValue::decode(again.encoded().clone()).expect("what was encoded decodes");
    assert_eq!((back.key(), back.value(), fields(&back)), (kv.key(), kv.value(), fields(&kv)));
    assert_eq!(back.encoded(), again.encoded());
    let bare = kv.without_value();
    assert_eq!((bare.key(), bare.value(), fields(&bare)), (kv.key(), &b""[..], fields(&kv)));
}
