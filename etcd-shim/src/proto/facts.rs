//! The wire definitions against a list of etcd's names, numbers and types.
//!
//! `facts.txt` was compared, line by line, with the descriptors inside etcd 3.7.3. It may grow; a line that
//! changes or goes breaks clients.

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

fn describe_enum(scope: &str, of: &EnumDescriptorProto, out: &mut Vec<String>) {
    for value in &of.value {
        out.push(format!("enum {scope}.{}.{} = {}", of.name(), value.name(), value.number()));
    }
}

fn describe(scope: &str, of: &DescriptorProto, out: &mut Vec<String>) {
    let name = format!("{scope}.{}", of.name());
    out.push(format!("message {name}"));
    for field in &of.field {
        let kind = match field.r#type() {
            Type::Message | Type::Enum => field.type_name().trim_start_matches('.').to_owned(),
            scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
        };
        let repeated = if field.label() == Label::Repeated { "repeated " } else { "" };
        let oneof = field.oneof_index.map(|at| of.oneof_decl[at as usize].name());
        let oneof = oneof.map(|oneof| format!(" in {oneof}")).unwrap_or_default();
        out.push(format!("{name}.{} = {} {repeated}{kind}{oneof}", field.name(), field.number()));
    }
    of.enum_type.iter().for_each(|inner| describe_enum(&name, inner, out));
    of.nested_type.iter().for_each(|inner| describe(&name, inner, out));
}

#[test]
fn names_numbers_and_types_are_etcds() {
    let set = FileDescriptorSet::decode(super::DESCRIPTORS).unwrap();
    let mut found = Vec::new();
    for file in &set.file {
        file.message_type.iter().for_each(|message| describe(file.package(), message, &mut found));
        file.enum_type.iter().for_each(|of| describe_enum(file.package(), of, &mut found));
        for service in &file.service {
            for method in &service.method {
                let stream = |yes: bool| if yes { "stream " } else { "" };
                found.push(format!(
                    "rpc {}.{}.{}({}{}) {}{}",
                    file.package(),
                    service.name(),
                    method.name(),
                    stream(method.client_streaming()),
                    method.input_type().trim_start_matches('.'),
                    stream(method.server_streaming()),
                    method.output_type().trim_start_matches('.'),
                ));
            }
        }
    }
    found.sort();
    let known: Vec<&str> = include_str!("facts.txt").lines().collect();
    let missing: Vec<_> = known.iter().filter(|line| !found.iter().any(|other| other == *line)).collect();
    assert!(missing.is_empty(), "gone or changed: {missing:#?}");
    let new: Vec<_> = found.iter().filter(|line| !known.contains(&line.as_str())).collect();
    assert!(new.is_empty(), "not in facts.txt: {new:#?}");
}
