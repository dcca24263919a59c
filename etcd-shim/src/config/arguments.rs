//! The command line in the syntax of Go's flag package.
//!
//! `-name` and `--name` are the same; a value follows as `=value` or as the next word; a boolean stands
//! alone or takes `=value`, never the next word. `--` or the first word that is no flag ends the flags, and
//! since the server takes no other words, anything behind is an error.

use super::ConfigError;
use super::flags::{self, Kind};
use super::values::{Origin, Values};

/// A command line that was understood.
#[derive(Debug)]
pub enum Parsed {
    /// `-h` or `--help` came up.
    Help,
    /// The flags.
    Flags(Values),
}

/// Reads the words after the program's name.
pub fn parse(arguments: &[String]) -> Result<Parsed, ConfigError> {
    let mut values = Values::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            break_on_extra(words.next())?;
            break;
        }
        let Some(body) = word.strip_prefix('-').filter(|body| !body.is_empty()) else {
            break_on_extra(Some(word))?;
            break;
        };
        let body = body.strip_prefix('-').unwrap_or(body);
        if body.is_empty() || body.starts_with('-') || body.starts_with('=') {
            return Err(ConfigError::Usage(format!("bad flag syntax: {word}")));
        }
        let (name, attached) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let Some(flag) = flags::find(name) else {
            if name == "help" || name == "h" {
                return Ok(Parsed::Help);
            }
            return Err(ConfigError::Usage(format!("flag provided but not defined: -{name}")));
        };
        let text = match attached {
            Some(text) => text,
            None if flag.kind == Kind::Bool => "true",
            None => match words.next() {
                Some(text) => text,
                None => return Err(ConfigError::Usage(format!("flag needs an argument: -{name}"))),
            },
        };
        values.set(flag, text, Origin::Flag)?;
    }
    Ok(Parsed::Flags(values))
}

fn break_on_extra(word: Option<&String>) -> Result<(), ConfigError> {
    match word {
        Some(word) => Err(ConfigError::Usage(format!("{word:?} is not a valid flag"))),
        None => Ok(()),
    }
}
