//! Log lines in etcd's form, so that what reads etcd's log reads Holdfast's.
//!
//! etcd logs with zap: one JSON object per line with `level`, `ts`, `caller`, `msg` and then the fields, or
//! tab-separated columns with `--log-format=console`. Process managers look for the text
//! `ready to serve client requests` in it, and people pipe it into `jq`.
//!
//! Invariants:
//! - one event is one line and one write, also when several threads log;
//! - a line never contains a raw line break or a terminal escape: fields come from clients too;
//! - colour only with `console` on a terminal;
//! - an output that cannot be written (a full disk, a closed pipe) loses lines, never the server.
//!
//! Other crates are heard from `warn` on: HTTP/2's own debug lines would drown everything else.
//!
//! Deliberately missing: rotation (a supervisor does it better), spans, a queue between the writer and the
//! output. Lines are rare on the hot path, and a queue would need a bound and a policy for losing lines.

use crate::config::{LogFormat, LogOutput, LogSettings};
use parking_lot::Mutex;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// The crates whose events are logged at the level asked for.
const OWN_CRATES: [&str; 3] = ["etcd_shim", "kvstore", "k8sd_lite"];

/// Makes this the process's logger.
pub fn install(settings: &LogSettings) -> Result<(), String> {
    let subscriber = subscriber(settings)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|error| error.to_string())
}

/// The logger as a subscriber.
fn subscriber(settings: &LogSettings) -> Result<impl Subscriber + Send + Sync + use<>, String> {
    let mut outputs = Vec::new();
    for output in &settings.outputs {
        outputs.push(Output::open(output)?);
    }
    let filter = tracing_subscriber::filter::Targets::new()
        .with_default(settings.level.min(Level::WARN))
        .with_targets(OWN_CRATES.map(|name| (name, settings.level)));
    let lines = Lines { format: settings.format, outputs: Mutex::new(outputs) };
    Ok(tracing_subscriber::registry().with(lines.with_filter(filter)))
}

/// An open output.
struct Output {
    sink: Box<dyn Write + Send>,
    coloured: bool,
}

impl Output {
    fn open(output: &LogOutput) -> Result<Output, String> {
        Ok(match output {
            LogOutput::Stderr => {
                Output { sink: Box::new(std::io::stderr()), coloured: std::io::stderr().is_terminal() }
            }
            LogOutput::Stdout => {
                Output { sink: Box::new(std::io::stdout()), coloured: std::io::stdout().is_terminal() }
            }
            LogOutput::File(path) => {
                let file = File::options().append(true).create(true).open(path);
                let file =
                    file.map_err(|error| format!("cannot open the log file {}: {error}", path.display()))?;
                Output { sink: Box::new(file), coloured: false }
            }
        })
    }
}

/// Writes events as lines.
struct Lines {
    format: LogFormat,
    outputs: Mutex<Vec<Output>>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let parts = Parts {
            level: *metadata.level(),
            ts: timestamp(SystemTime::now()),
            caller: caller(metadata.file(), metadata.line()),
            message: &fields.message,
            fields: &fields.json,
        };
        let plain = match self.format {
            LogFormat::Json => parts.json(),
            LogFormat::Console => parts.console(false),
        };
        let coloured = (self.format == LogFormat::Console).then(|| parts.console(true));
        for output in self.outputs.lock().iter_mut() {
            let line = match &coloured {
                Some(coloured) if output.coloured => coloured,
                _ => &plain,
            };
            // Whoever should hear of a failure to log cannot be told.
            let _ = output.sink.write_all(line.as_bytes()).and_then(|()| output.sink.flush());
        }
    }
}

/// One line's parts.
struct Parts<'a> {
    level: Level,
    ts: String,
    caller: String,
    message: &'a str,
    fields: &'a str,
}

impl Parts<'_> {
    fn json(&self) -> String {
        format!(
            "{{\"level\":\"{}\",\"ts\":\"{}\",\"caller\":{},\"msg\":{}{}}}\n",
            self.level.as_str().to_lowercase(),
            self.ts,
            quoted(&self.caller),
            quoted(self.message),
            self.fields
        )
    }

    fn console(&self, coloured: bool) -> String {
        let level = match (coloured, self.level) {
            (false, level) => level.as_str().to_owned(),
            (true, Level::ERROR) => "\x1b[31mERROR\x1b[0m".to_owned(),
            (true, Level::WARN) => "\x1b[33mWARN\x1b[0m".to_owned(),
            (true, Level::INFO) => "\x1b[34mINFO\x1b[0m".to_owned(),
            (true, level) => format!("\x1b[35m{level}\x1b[0m"),
        };
        // The JSON escapes of the message without its quotes: no raw line break, no escape sequence.
        let message = quoted(self.message);
        let message = &message[1..message.len() - 1];
        match self.fields.strip_prefix(',') {
            Some(fields) => format!("{}\t{level}\t{}\t{message}\t{{{fields}}}\n", self.ts, self.caller),
            None => format!("{}\t{level}\t{}\t{message}\n", self.ts, self.caller),
        }
    }
}

/// Collects an event's message and its fields as `,"name":value`.
#[derive(Default)]
struct Fields {
    message: String,
    json: String,
}

impl Fields {
    fn push(&mut self, field: &Field, value: &str) {
        let _ = write!(self.json, ",{}:{value}", quoted(&field.name().replace('_', "-")));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" { self.message = text } else { self.push(field, &quoted(&text)) }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned()
        } else {
            self.push(field, &quoted(value))
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, &value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, &value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let text = if value.is_finite() { value.to_string() } else { quoted(&value.to_string()) };
        self.push(field, &text);
    }
}

/// A JSON string. DEL and C1 controls are escaped too: some terminals obey them.
fn quoted(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    if !json.contains(|c| matches!(c, '\u{7f}'..='\u{9f}')) {
        return json;
    }
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' => {
                let _ = write!(safe, "\\u{:04x}", u32::from(c));
            }
            _ => safe.push(c),
        }
    }
    safe
}

/// The last two parts of the file's path and the line, as zap writes a caller.
fn caller(file: Option<&str>, line: Option<u32>) -> String {
    let Some(file) = file else { return "unknown".to_owned() };
    let mut parts: Vec<&str> = file.rsplitn(3, '/').take(2).collect();
    parts.reverse();
    format!("{}:{}", parts.join("/"), line.unwrap_or(0))
}

/// Lets a line through now and then, and counts those it held back: what a client can cause at any rate must
/// not fill a disk.
#[derive(Debug)]
pub struct Rarely {
    pause_ms: u64,
    begun: Instant,
    /// Milliseconds from `begun` to the last line, plus one; 0 when there was none.
    last_ms: AtomicU64,
    held_back: AtomicU64,
}

impl Rarely {
    /// At most one line in this time.
    pub fn new(pause: Duration) -> Rarely {
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX / 2);
        Rarely { pause_ms, begun: Instant::now(), last_ms: AtomicU64::new(0), held_back: AtomicU64::new(0) }
    }

    /// Whether to log now; if so, how many lines were held back since the last one.
    pub fn due(&self) -> Option<u64> {
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let last_ms = self.last_ms.load(Relaxed);
        let too_soon = last_ms != 0 && now_ms < last_ms.saturating_add(self.pause_ms);
        // Of several threads one logs.
        if too_soon || self.last_ms.compare_exchange(last_ms, now_ms, Relaxed, Relaxed).is_err() {
            self.held_back.fetch_add(1, Relaxed);
            return None;
        }
        Some(self.held_back.swap(0, Relaxed))
    }
}

/// `2026-01-31T12:34:56.123456Z`.
pub fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (year, month, day) = civil(since.as_secs() / 86_400);
    let second = since.as_secs() % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_micros()
    )
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar.
///
/// Counted in years that begin in March, so that the leap day is the last one, from 0000-03-01 on.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(format: LogFormat, level: Level, log: impl FnOnce()) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let settings = LogSettings { level, format, outputs: vec![LogOutput::File(path.clone())] };
        tracing::subscriber::with_default(subscriber(&settings).unwrap(), log);
        std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn json_is_zaps() {
        let lines = logged(LogFormat::Json, Level::INFO, || {
            tracing::info!(
                address = "127.0.0.1:2379",
                count = 3,
                on = true,
                "ready to serve client requests"
            );
            tracing::debug!("not this one");
            tracing::warn!(key = "a\nb\u{1b}[31m\u{9b}", "odd \"bytes\"");
            tracing::info!(target: "h2::proto", "nor this one");
        });
        assert_eq!(lines.len(), 2, "{lines:?}");
        let parsed: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(parsed["level"], "info");
        assert_eq!(parsed["msg"], "ready to serve client requests");
        assert_eq!(parsed["address"], "127.0.0.1:2379");
        assert_eq!(parsed["count"], 3);
        assert_eq!(parsed["on"], true);
        assert!(parsed["caller"].as_str().unwrap().starts_with("src/logging.rs:"), "{parsed}");
        assert!(lines[0].starts_with("{\"level\":\"info\",\"ts\":\"2"), "{}", lines[0]);
        assert!(!lines[1].contains(['\u{1b}', '\u{9b}']), "{}", lines[1]);
        let parsed: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!(parsed["key"], "a\nb\u{1b}[31m\u{9b}");
    }

    #[test]
    fn console_has_columns_and_no_colour_in_a_file() {
        let lines = logged(LogFormat::Console, Level::DEBUG, || {
            tracing::debug!(count = 3, "first\nline");
            tracing::error!("plain");
        });
        let columns: Vec<Vec<&str>> = lines.iter().map(|line| line.split('\t').collect()).collect();
        assert_eq!((columns[0][1], columns[0][3], columns[0][4]), ("DEBUG", "first\\nline", "{\"count\":3}"));
        assert_eq!((columns[1][1], columns[1][3], columns[1].len()), ("ERROR", "plain", 4));
    }

    #[test]
    fn an_output_that_cannot_be_opened_is_an_error_with_its_name() {
        let outputs = vec![LogOutput::File("/does/not/exist/log".into())];
        let settings = LogSettings { level: Level::INFO, format: LogFormat::Json, outputs };
        let error = subscriber(&settings).err().unwrap();
        assert!(error.starts_with("cannot open the log file /does/not/exist/log: "), "{error}");
    }

    #[test]
    fn lines_beyond_the_rate_are_counted() {
        let rarely = Rarely::new(Duration::from_millis(50));
        assert_eq!(rarely.due(), Some(0));
        let mut held_back = 0;
        // How many that are is the clock's matter.
        let told = loop {
            match rarely.due() {
                Some(told) => break told,
                None => held_back += 1,
            }
        };
        assert_eq!(told, held_back);
        let hardly_ever = Rarely::new(Duration::from_secs(600));
        assert_eq!([hardly_ever.due(), hardly_ever.due(), hardly_ever.due()], [Some(0), None, None]);
    }

    #[test]
    fn days_become_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
