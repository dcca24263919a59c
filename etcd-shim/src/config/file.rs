//! The configuration file: YAML, of which JSON is a part, with the flags' names as keys.
//!
//! As in etcd, durations are whole nanoseconds (Go's text form is understood too), and the files of TLS
//! stand under `client-transport-security` and `peer-transport-security`. An unknown key is a warning: etcd
//! does not even mention it.

use super::ConfigError;
use super::flags::{self, Kind};
use super::values::{Origin, Values};
use serde_yaml_ng::Value;
use std::io;
use std::path::Path;

/// The keys of a TLS section with the flag of each, for clients and for peers.
const TLS_KEYS: [(&str, &str, &str); 10] = [
    ("cert-file", "cert-file", "peer-cert-file"),
    ("key-file", "key-file", "peer-key-file"),
    ("client-cert-file", "client-cert-file", "peer-client-cert-file"),
    ("client-key-file", "client-key-file", "peer-client-key-file"),
    ("client-cert-auth", "client-cert-auth", "peer-client-cert-auth"),
    ("trusted-ca-file", "trusted-ca-file", "peer-trusted-ca-file"),
    ("auto-tls", "auto-tls", "peer-auto-tls"),
    ("allowed-hostname", "client-cert-allowed-hostname", "peer-cert-allowed-hostname"),
    ("client-crl-file", "client-crl-file", "peer-crl-file"),
    ("crl-file", "client-crl-file", "peer-crl-file"),
];

/// Reads a configuration file, whose text comes from `read`.
pub fn read(
    path: &Path,
    read: &dyn Fn(&Path) -> io::Result<String>,
    warnings: &mut Vec<String>,
) -> Result<Values, ConfigError> {
    let text = read(path).map_err(|error| {
        ConfigError::Invalid(format!("cannot read the configuration file {}: {error}", path.display()))
    })?;
    parse(&text, warnings).map_err(|reason| {
        ConfigError::Invalid(format!("the configuration file {}: {reason}", path.display()))
    })
}

/// Reads the text of a configuration file.
pub fn parse(text: &str, warnings: &mut Vec<String>) -> Result<Values, String> {
    let mut values = Values::default();
    let document: Value = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
    let mapping = match document {
        Value::Null => return Ok(values),
        Value::Mapping(mapping) => mapping,
        _ => return Err("it must be a mapping of flag names to values".to_owned()),
    };
    for (key, value) in &mapping {
        let key = key.as_str().ok_or_else(|| format!("the key {key:?} is not a name"))?;
        match (key, value) {
            ("client-transport-security" | "peer-transport-security", Value::Mapping(section)) => {
                for (inner, value) in section {
                    let inner =
                        inner.as_str().ok_or_else(|| format!("{key}: the key {inner:?} is not a name"))?;
                    match TLS_KEYS.iter().find(|(name, ..)| *name == inner) {
                        Some((_, client, _)) if key.starts_with("client") => set(&mut values, client, value)?,
                        Some((_, _, peer)) => set(&mut values, peer, value)?,
                        None => warnings.push(format!("unknown configuration key {key}.{inner} is ignored")),
                    }
                }
            }
            ("client-transport-security" | "peer-transport-security", Value::Null) => {}
            ("client-transport-security" | "peer-transport-security", _) => {
                return Err(format!("{key} must be a mapping"));
            }
            ("config-file" | "version", _) => {
                warnings.push(format!("configuration key {key} is ignored in a configuration file"));
            }
            _ if flags::find(key).is_some() => set(&mut values, key, value)?,
            _ => warnings.push(format!("unknown configuration key {key} is ignored")),
        }
    }
    Ok(values)
}

fn set(values: &mut Values, name: &str, value: &Value) -> Result<(), String> {
    let flag = flags::find(name).ok_or_else(|| format!("{name} is not a setting"))?;
    let Some(text) = scalar(flag.kind, value).map_err(|reason| format!("{name}: {reason}"))? else {
        return Ok(());
    };
    values.set(flag, &text, Origin::File).map_err(|error| error.to_string())
}

/// The text of a scalar or of a list of scalars; none for null.
fn scalar(kind: Kind, value: &Value) -> Result<Option<String>, String> {
    Ok(Some(match value {
        Value::Null => return Ok(None),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) if kind == Kind::Duration => {
            if number.as_u64().is_none() {
                return Err(format!("{number} is not a whole number of nanoseconds"));
            }
            format!("{number}ns")
        }
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Sequence(items) => {
            let mut texts = Vec::new();
            for item in items {
                if matches!(item, Value::Sequence(_)) {
                    return Err("it is a list of lists".to_owned());
                }
                texts.extend(scalar(kind, item)?);
            }
            texts.join(",")
        }
        Value::Mapping(_) | Value::Tagged(_) => return Err("it must be a plain value".to_owned()),
    }))
}
