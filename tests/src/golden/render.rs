//! Replies as text, field by field: what is compared.
//!
//! One line for each field of a reply, and for each element of a list; messages inside are written in braces. A field
//! that is zero is not shown, as it is not on the wire. What no two servers can have in common is shown by a name:
//!
//! | shown as | is |
//! |---|---|
//! | `@cluster`, `@member` | the id that etcd gives to a cluster of one with the peer URL `http://localhost:2380` |
//! | `@term`, `@index` | any Raft term or index but 0 |
//! | `@size` | any size in bytes but 0 |
//! | `@hash` | the hash of a whole file; hashes of keys and values are compared |
//! | `@blob` | a piece of a snapshot |
//! | `@storage` | a version of the stored data; etcd raises it some time after its start |
//! | `@left` | a remaining time to live, above 0 and not above the granted one |
//! | `@NAME` | a value that the script has kept with `let NAME = …` |
//!
//! Lists that etcd gives in any order are sorted, and runs of spaces in errors of a status are one: Go's protobuf library
//! prints messages with one or two, by the hash of the program, so that nobody relies on it.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};
use std::collections::BTreeMap;
use tonic::Status;

/// SHA-1 by etcd's rule over `http://localhost:2380` and `etcd-cluster`.
const MEMBER_ID: u64 = 0x8e9e_05c5_2164_694d;
/// And over that.
const CLUSTER_ID: u64 = 0xcdf8_1819_4e3a_8c32;

/// A line longer than this is written over several.
const LINE_LETTERS: usize = 132;
/// Bytes longer than this are shown by their repetition or their ends.
const BYTES_SHOWN: usize = 200;
/// A byte repeated more often than this is shown as a repetition.
const REPETITION_MIN: usize = 24;

/// Lists that have no order in etcd: it changes from call to call.
const UNORDERED: [(&str, &str); 3] =
    [("LeaseTimeToLiveResponse", "keys"), ("AlarmResponse", "alarms"), ("StatusResponse", "errors")];

/// Values that a script has given names.
pub type Names = BTreeMap<String, i128>;

/// Code and text.
pub fn error(status: &Status) -> String {
    // Go's protobuf library again: a space that does not break, or one that does.
    format!("error {:?}: {}", status.code(), status.message().replace('\u{a0}', " "))
}

/// A reply, line by line.
pub fn lines(message: &DynamicMessage, names: &Names) -> Vec<String> {
    let mut out = Vec::new();
    write(message, names, "", &mut out);
    if out.is_empty() {
        out.push("(empty)".to_string());
    }
    out
}

fn write(message: &DynamicMessage, names: &Names, indent: &str, out: &mut Vec<String>) {
    for (field, value) in shown(message) {
        let line = format!("{indent}{}", one_line(message, &field, value, names));
        match value {
            Value::Message(inner) if line.chars().count() > LINE_LETTERS => {
                out.push(format!("{indent}{} {{", field.name()));
                write(inner, names, &format!("{indent}  "), out);
                out.push(format!("{indent}}}"));
            }
            _ => out.push(line),
        }
    }
    for unknown in message.unknown_fields() {
        out.push(format!("{indent}a field of number {} that nobody knows", unknown.number()));
    }
}

/// Every field that is set, elements of lists one by one.
fn shown(message: &DynamicMessage) -> Vec<(FieldDescriptor, &Value)> {
    let mut out = Vec::new();
    for (field, value) in message.fields() {
        match value {
            Value::List(values) => {
                let from = out.len();
                out.extend(values.iter().map(|value| (field.clone(), value)));
                if UNORDERED
                    .iter()
                    .any(|(of, list)| message.descriptor().name() == *of && field.name() == *list)
                {
                    out[from..].sort_by_key(|(_, value)| value.to_string());
                }
            }
            value => out.push((field, value)),
        }
    }
    out
}

fn one_line(parent: &DynamicMessage, field: &FieldDescriptor, value: &Value, names: &Names) -> String {
    let name = field.name();
    if let Value::Message(inner) = value {
        let mut parts: Vec<String> =
            shown(inner).into_iter().map(|(field, value)| one_line(inner, &field, value, names)).collect();
        parts.extend(inner.unknown_fields().map(|unknown| format!("unknown {}", unknown.number())));
        return if parts.is_empty() {
            format!("{name} {{}}")
        } else {
            format!("{name} {{ {} }}", parts.join(" "))
        };
    }
    let message = parent.descriptor();
    match (message.name(), name, value) {
        ("StatusResponse", "storageVersion", Value::String(_)) => return format!("{name}: @storage"),
        ("SnapshotResponse", "blob", Value::Bytes(_)) => return format!("{name}: @blob"),
        ("StatusResponse", "errors", Value::String(text)) => {
            let words: Vec<&str> = text.split_whitespace().collect();
            return format!("{name}: {}", quoted(words.join(" ").as_bytes()));
        }
        _ => {}
    }
    match number(value).and_then(|number| mask(parent, message.name(), name, number, names)) {
        Some(mask) => format!("{name}: {mask}"),
        None => format!("{name}: {}", scalar(field, value)),
    }
}

/// The name for a number that is not compared by value.
fn mask(parent: &DynamicMessage, message: &str, field: &str, number: i128, names: &Names) -> Option<String> {
    let fixed = match (message, field) {
        (_, "cluster_id") if number == i128::from(CLUSTER_ID) => "@cluster",
        (_, "member_id" | "memberID" | "leader" | "ID") if number == i128::from(MEMBER_ID) => "@member",
        (_, "raft_term" | "raftTerm") if number > 0 => "@term",
        (_, "raftIndex" | "raftAppliedIndex") if number > 0 => "@index",
        (_, "dbSize" | "dbSizeInUse" | "remaining_bytes") if number > 0 => "@size",
        ("HashResponse", "hash") if number > 0 => "@hash",
        ("LeaseTimeToLiveResponse", "TTL") if (1..=granted(parent)).contains(&number) => "@left",
        _ => "",
    };
    if !fixed.is_empty() {
        return Some(fixed.to_string());
    }
    names.iter().find(|(_, kept)| **kept == number).map(|(name, _)| format!("@{name}"))
}

fn granted(parent: &DynamicMessage) -> i128 {
    parent.get_field_by_name("grantedTTL").and_then(|value| number(&value)).unwrap_or(0)
}

/// A whole number of any width.
pub fn number(value: &Value) -> Option<i128> {
    match value {
        Value::I32(number) => Some(i128::from(*number)),
        Value::I64(number) => Some(i128::from(*number)),
        Value::U32(number) => Some(i128::from(*number)),
        Value::U64(number) => Some(i128::from(*number)),
        _ => None,
    }
}

fn scalar(field: &FieldDescriptor, value: &Value) -> String {
    match (value, field.kind()) {
        (Value::Bytes(bytes), _) => quoted(bytes),
        (Value::String(text), _) => quoted(text.as_bytes()),
        (Value::EnumNumber(number), Kind::Enum(kind)) => {
            kind.get_value(*number).map_or_else(|| number.to_string(), |value| value.name().to_string())
        }
        (Value::Bool(value), _) => value.to_string(),
        (Value::Map(entries), _) => {
            let keys = entries.keys().map(|key: &MapKey| format!("{key:?}")).collect::<Vec<_>>();
            format!("map of {}", keys.join(", "))
        }
        (value, _) => number(value).map_or_else(|| format!("{value:?}"), |number| number.to_string()),
    }
}

fn quoted(bytes: &[u8]) -> String {
    if bytes.len() > REPETITION_MIN && bytes.iter().all(|byte| *byte == bytes[0]) {
        return format!("\"${{{} * {}}}\"", bytes.len(), bytes[..1].escape_ascii());
    }
    if bytes.len() > BYTES_SHOWN {
        let (first, last) = (&bytes[..20], &bytes[bytes.len() - 20..]);
        return format!("\"{}…{}\" ({} bytes)", first.escape_ascii(), last.escape_ascii(), bytes.len());
    }
    format!("\"{}\"", bytes.escape_ascii())
}
