//! `ETCD_*` variables: the flag's name in capitals with underscores.

use super::ConfigError;
use super::flags;
use super::values::{Origin, Values};

const PREFIX: &str = "ETCD_";

/// The variable of a flag.
pub fn variable(flag: &str) -> String {
    format!("{PREFIX}{}", flag.to_uppercase().replace('-', "_"))
}

/// The variable's text, unless it is unset or empty.
pub fn lookup(environment: &[(String, String)], flag: &str) -> Option<String> {
    let wanted = variable(flag);
    let (_, text) = environment.iter().find(|(name, text)| *name == wanted && !text.is_empty())?;
    Some(text.clone())
}

/// Adds the variables to the flags.
///
/// A flag and its variable together are an error: either would silently lose, and an operator who set both
/// expects both to count.
pub fn merge(
    mut values: Values,
    environment: &[(String, String)],
    warnings: &mut Vec<String>,
) -> Result<Values, ConfigError> {
    let mut variables: Vec<&(String, String)> =
        environment.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.sort();
    for (name, text) in variables {
        let flag = name[PREFIX.len()..].to_lowercase().replace('_', "-");
        let Some(flag) = flags::find(&flag) else {
            // Without its value: nobody knows what it is, and it might be a secret.
            warnings.push(format!("unrecognized environment variable {name}"));
            continue;
        };
        if values.given(flag.name).is_some() {
            return Err(ConfigError::Invalid(format!(
                "conflicting environment variable {name} is shadowed by corresponding command-line flag \
                 (either unset environment variable or disable flag)"
            )));
        }
        // etcd takes an empty variable for an unset one.
        if !text.is_empty() {
            values.set(flag, text, Origin::Environment)?;
        }
    }
    Ok(values)
}
