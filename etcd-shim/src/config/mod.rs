//! What the operator asked for: etcd's flags, its `ETCD_*` variables and its configuration file.
//!
//! The way of a setting: [`flags`] is the one table that knows every name, its kind, its default and what
//! Holdfast does with it. [`arguments`] reads a command line in the syntax of Go's flag package,
//! [`environment`] the variables, [`mod@file`] the configuration file; each of them yields text by flag name
//! ([`values::Values`]). [`settings`] turns the text into the typed [`Config`], and [`validate`] refuses
//! what contradicts itself. Nothing later in the program looks at text again.
//!
//! Rules, all of them etcd's:
//! - a configuration file makes every other flag and variable void (each is named in a warning);
//! - otherwise a flag wins over the default, a variable wins over the default, and both together are an
//!   error, because one of them would silently lose;
//! - a flag that comes twice counts the last time; an unknown flag is an error (exit code 2), an unknown
//!   variable only a warning;
//! - names that only steer etcd's own back end are accepted and ignored with a warning, so that manifests
//!   in use keep working; a feature that Holdfast does not have yet is refused, never quietly dropped.
//!
//! Invariants:
//! - a [`Config`] that exists is valid: URLs parsed, bounds checked, files not yet opened;
//! - parsing touches neither the network nor the data directory and logs nothing: warnings are returned,
//!   because the logger is built from the result.
//!
//! Deliberately missing: reloading settings while running (certificates are reloaded by `tls`).

pub mod arguments;
pub mod duration;
pub mod environment;
mod error;
pub mod feature_gates;
pub mod file;
pub mod flags;
pub mod help;
mod placement;
pub mod settings;
pub mod url;
pub mod validate;
pub mod values;

pub use error::ConfigError;
pub use placement::CorePlacement;
pub use settings::{
    AutoCompaction, CIPHER_SUITES, Cluster, Config, Keepalive, Limits, Listen, LogFormat, LogOutput,
    LogSettings, TlsSettings, TlsVersion,
};
pub use url::{Address, Scheme, Url};

use flags::Class;
use std::io;
use std::path::Path;
use values::Values;

/// What the command line asks the program to do.
#[derive(Debug)]
pub enum Invocation {
    /// Run the server.
    Serve(Box<Config>),
    /// Print this text and leave with success: `--help`, `--version`.
    Print(String),
}

/// Reads the command line (without the program's name) and the environment.
///
/// The configuration file is read here when one is named.
pub fn load(
    arguments: &[String],
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Invocation, ConfigError> {
    load_with(arguments, environment, &|path| std::fs::read_to_string(path))
}

/// As [`load`], with the configuration file's text from `read`: whoever makes up command lines does not want them to name
/// files of the machine.
pub fn load_with(
    arguments: &[String],
    environment: impl IntoIterator<Item = (String, String)>,
    read: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Invocation, ConfigError> {
    if let Some(command) = arguments.first().filter(|word| ["gateway", "grpc-proxy"].contains(&word.as_str()))
    {
        return Err(ConfigError::NotYet(format!(
            "the subcommand {command:?} is not there yet; point clients at the server itself"
        )));
    }
    let from_flags = match arguments::parse(arguments)? {
        arguments::Parsed::Help => return Ok(Invocation::Print(help::help())),
        arguments::Parsed::Flags(values) => values,
    };
    if from_flags.boolean("version")? {
        return Ok(Invocation::Print(help::version()));
    }
    let mut warnings = Vec::new();
    let environment: Vec<(String, String)> = environment.into_iter().collect();
    let file_name = match from_flags.given("config-file") {
        Some(name) => Some(name.to_owned()),
        None => environment::lookup(&environment, "config-file"),
    };
    let values = match file_name.filter(|name| !name.is_empty()) {
        Some(name) => {
            for flag in from_flags.names().filter(|flag| *flag != "config-file") {
                warnings.push(format!("the configuration file {name} is used: --{flag} is ignored"));
            }
            file::read(Path::new(&name), read, &mut warnings)?
        }
        None => environment::merge(from_flags, &environment, &mut warnings)?,
    };
    let values = follow_aliases(&values, &mut warnings)?;
    check_classes(&values, &mut warnings)?;
    let mut config = settings::build(&values)?;
    validate::validate(&config, &values, &mut warnings)?;
    config.warnings = warnings;
    Ok(Invocation::Serve(Box::new(config)))
}

/// Gives the values of old names to the new ones. A new name that was given too wins, whatever the order.
fn follow_aliases(values: &Values, warnings: &mut Vec<String>) -> Result<Values, ConfigError> {
    let mut resolved = Values::default();
    for (flag, text, origin) in values.entries() {
        let Class::Alias(target) = flag.class else {
            resolved.set(flag, text, origin)?;
            continue;
        };
        warnings.push(format!("{origin} {} is deprecated: use --{target}", flag.name));
        if values.given(target).is_none() {
            resolved.set(flags::find(target).expect("an alias names a flag of the table"), text, origin)?;
        }
    }
    Ok(resolved)
}

/// Warns about what has no effect and refuses what is not there yet.
fn check_classes(values: &Values, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    for (flag, text, origin) in values.entries() {
        match flag.class {
            Class::Used | Class::Alias(_) => {}
            Class::Ignored(why) => warnings.push(format!("{origin} {} is ignored: {why}", flag.name)),
            Class::NotYet(what) if !flag.is_default(text) => {
                return Err(ConfigError::NotYet(format!("{origin} {}={text}: {what}", flag.name)));
            }
            Class::NotYet(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
