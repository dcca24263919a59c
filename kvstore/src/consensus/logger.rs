//! raft-rs speaks slog; the store speaks tracing.

use slog::{Drain, KV, Level, Logger, OwnedKVList, Record, Serializer};
use std::fmt::{Arguments, Write};

struct ToTracing;

struct Text(String);

impl Serializer for Text {
    fn emit_arguments(&mut self, key: slog::Key, value: &Arguments<'_>) -> slog::Result {
        write!(self.0, " {key}={value}").map_err(|_| slog::Error::Other)
    }
}

impl Drain for ToTracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), slog::Never> {
        let mut text = Text(record.msg().to_string());
        // A value that cannot be formatted is left out; a log line is never worth a failure.
        let _ = record.kv().serialize(record, &mut text);
        let _ = values.serialize(record, &mut text);
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{}", text.0),
            Level::Warning => tracing::warn!(target: "raft", "{}", text.0),
            // raft-rs reports each role change at info: useful to its authors, noise to operators.
            _ => tracing::debug!(target: "raft", "{}", text.0),
        }
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        level.is_at_least(Level::Warning) || tracing::enabled!(target: "raft", tracing::Level::DEBUG)
    }
}

pub(super) fn logger() -> Logger {
    Logger::root(ToTracing.ignore_res(), slog::o!())
}
