//! Settings as text by flag name, with where each came from.

use super::flags::{self, Flag, Kind};
use super::{ConfigError, duration};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// A variable.
    Environment,
    /// The configuration file.
    File,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Flag => "flag",
            Origin::Environment => "environment variable of",
            Origin::File => "configuration key",
        })
    }
}

/// Text by flag name; a name that was not given reads as its default.
#[derive(Debug, Default)]
pub struct Values {
    given: BTreeMap<&'static str, (String, Origin)>,
}

impl Values {
    /// Sets a value after checking that it has the flag's kind; the last one wins.
    pub fn set(&mut self, flag: &'static Flag, text: &str, origin: Origin) -> Result<(), ConfigError> {
        if let Err(reason) = flag.kind.check(text) {
            return Err(match (flag.kind, origin) {
                (Kind::Bool, Origin::Flag) => {
                    ConfigError::Usage(format!("invalid boolean value {text:?} for -{}: {reason}", flag.name))
                }
                (_, Origin::Flag) => {
                    ConfigError::Usage(format!("invalid value {text:?} for flag -{}: {reason}", flag.name))
                }
                _ => ConfigError::Invalid(format!(
                    "invalid value {text:?} for {origin} {}: {reason}",
                    flag.name
                )),
            });
        }
        self.given.insert(flag.name, (text.to_owned(), origin));
        Ok(())
    }

    /// The value, if it was given.
    pub fn given(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(|(text, _)| text.as_str())
    }

    /// The names that were given.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.given.keys().copied()
    }

    /// Everything that was given, by name.
    pub fn entries(&self) -> impl Iterator<Item = (&'static Flag, &str, Origin)> {
        self.given.iter().map(|(name, (text, origin))| {
            (flags::find(name).expect("only flags of the table are set"), text.as_str(), *origin)
        })
    }

    /// The value or the default.
    pub fn text(&self, name: &'static str) -> &str {
        let flag = flags::find(name).unwrap_or_else(|| panic!("--{name} is not in the table of flags"));
        self.given(name).unwrap_or(flag.default)
    }

    /// A flag of [`Kind::Bool`].
    pub fn boolean(&self, name: &'static str) -> Result<bool, ConfigError> {
        self.parsed(name, parse_boolean)
    }

    /// A flag of [`Kind::Unsigned`].
    pub fn unsigned(&self, name: &'static str) -> Result<u64, ConfigError> {
        self.parsed(name, parse_unsigned)
    }

    /// A flag of [`Kind::Integer`].
    pub fn integer(&self, name: &'static str) -> Result<i64, ConfigError> {
        self.parsed(name, parse_integer)
    }

    /// A flag of [`Kind::Duration`].
    pub fn duration(&self, name: &'static str) -> Result<Duration, ConfigError> {
        self.parsed(name, duration::parse)
    }

    /// A comma-separated flag without its empty parts.
    pub fn list(&self, name: &'static str) -> Vec<String> {
        self.text(name).split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    fn parsed<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let text = self.text(name);
        parse(text).map_err(|reason| ConfigError::Invalid(format!("--{name}={text}: {reason}")))
    }
}

/// A boolean as Go reads it.
pub fn parse_boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("parse error".to_owned()),
    }
}

/// An unsigned number, decimal or `0x…`.
pub fn parse_unsigned(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "parse error".to_owned())
}

/// A signed number, decimal.
pub fn parse_integer(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| "parse error".to_owned())
}
