//! The services and messages that a script may name.

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor};
use std::sync::OnceLock;

/// Where the short names of services are looked up.
const PACKAGES: [&str; 5] =
    ["etcdserverpb", "v3lockpb", "v3electionpb", "grpc.health.v1", "grpc.reflection.v1"];

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        let mut pool = DescriptorPool::decode(etcd_shim::proto::DESCRIPTORS).expect("our own definitions");
        pool.decode_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .expect("the health definitions");
        pool
    })
}

/// The method that `Service.Method` names.
///
/// # Errors
/// There is none.
pub fn method(name: &str) -> Result<MethodDescriptor, String> {
    let unknown = || format!("no such method: {name}");
    let (service, method) = name.split_once('.').ok_or_else(unknown)?;
    PACKAGES
        .iter()
        .filter_map(|package| pool().get_service_by_name(&format!("{package}.{service}")))
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .find(|candidate| candidate.name() == method)
        .ok_or_else(unknown)
}

/// A message from its text, as in `key: "a" limit: 1`; braces around it are allowed.
///
/// # Errors
/// The text is none of this message.
pub fn message(descriptor: MessageDescriptor, text: &str) -> Result<DynamicMessage, String> {
    let text = text.trim();
    let inside = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    let name = descriptor.name().to_string();
    DynamicMessage::parse_text_format(descriptor, inside)
        .map_err(|fault| format!("not a {name}: {fault}: {inside}"))
}
