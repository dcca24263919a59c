//! Why a configuration was refused, by what the program must do about it.

use super::help::USAGE;

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The command line is not in the flag syntax, or names a flag that does not exist.
    #[error("{0}\n{USAGE}")]
    Usage(String),
    /// A value cannot be used, or two settings contradict each other.
    #[error("{0}")]
    Invalid(String),
    /// The setting asks for something Holdfast cannot do yet.
    #[error("{0}")]
    NotYet(String),
}

impl ConfigError {
    /// The exit code of the process, as etcd's: 2 for the flag syntax, 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            ConfigError::Usage(_) => 2,
            ConfigError::Invalid(_) | ConfigError::NotYet(_) => 1,
        }
    }
}
