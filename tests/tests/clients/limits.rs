//! LIMITS.md tells the truth: every limit of the sources stands in it, with its value.
//!
//! The sources are read as text. A limit is a constant whose name says so ([`says_limit`]); its value is worked out from
//! its expression and written as people write it. Tests and benches have limits of their own, which are not meant.

use std::collections::BTreeMap;
use std::path::Path;

/// Words of names that make a constant a limit.
const WORDS: &[&str] = &["MAX", "PATIENCE", "LIMIT", "RESERVE", "RESERVED", "BACKLOG", "WINDOW", "SLICE"];
/// And groups of words.
const GROUPS: &[&str] = &["AT_ONCE", "PER_TURN", "SEND_BUFFER"];

/// A constant: its file, its type, its expression.
struct Constant {
    path: String,
    name: String,
    expression: String,
}

fn says_limit(name: &str) -> bool {
    name.split('_').any(|word| WORDS.contains(&word)) || GROUPS.iter().any(|group| name.contains(group))
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

/// The constants of the product's sources, without those of tests.
fn constants() -> Vec<Constant> {
    let mut found = Vec::new();
    for part in ["kvstore/src", "etcd-shim/src"] {
        visit(&repository().join(part), &mut found);
    }
    found
}

fn visit(folder: &Path, found: &mut Vec<Constant>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "tests" {
                visit(&path, found);
            }
        } else if name.ends_with(".rs") && !name.contains("tests") {
            let text = std::fs::read_to_string(&path).expect("a source");
            let relative = path.strip_prefix(repository()).expect("below the repository");
            found.extend(
                product(&text).lines().filter_map(|line| constant(&relative.display().to_string(), line)),
            );
        }
    }
}

/// A source without the module of tests at its end.
fn product(text: &str) -> &str {
    let mut modules = text.match_indices("#[cfg(test)]\nmod ");
    let tests = modules.find(|(at, _)| text[*at..].lines().nth(1).is_some_and(|line| line.ends_with('{')));
    tests.map_or(text, |(at, _)| &text[..at])
}

/// The constant that a line declares.
fn constant(path: &str, line: &str) -> Option<Constant> {
    let (before, rest) = line.trim().split_once("const ")?;
    let is_visibility = before.is_empty() || before.starts_with("pub");
    let (name, rest) = rest.split_once(": ")?;
    let (_, expression) = rest.split_once(" = ")?;
    let expression = expression.strip_suffix(';')?.to_owned();
    (is_visibility && name != "_").then(|| Constant {
        path: path.to_owned(),
        name: name.to_owned(),
        expression,
    })
}

/// A number with what can be said of it.
#[derive(Clone, Copy)]
enum Value {
    Number(u128),
    Milliseconds(u128),
    /// From, and to at most.
    Between(u128, u128),
}

/// Works expressions out, as far as limits have them.
struct Calculator<'a> {
    known: &'a BTreeMap<(&'a str, &'a str), &'a str>,
    path: &'a str,
}

impl Calculator<'_> {
    fn value(&self, expression: &str) -> Option<Value> {
        for (call, factor) in [("Duration::from_secs(", 1000), ("Duration::from_millis(", 1)] {
            if let Some(inner) = expression.strip_prefix(call) {
                return Some(Value::Milliseconds(self.number(inner.strip_suffix(')')?)? * factor));
            }
        }
        if let Some((from, to)) = expression.split_once("..=") {
            let inner = |text: &str| self.number(text.trim_matches(['(', ')']));
            return Some(Value::Between(inner(from)?, inner(to)?));
        }
        self.number(expression).map(Value::Number)
    }

    /// The loosest operator is the last one done.
    fn number(&self, expression: &str) -> Option<u128> {
        let expression = expression.trim();
        for (operator, work) in [
            (" << ", (|a, b| a << b) as fn(u128, u128) -> u128),
            (" + ", |a, b| a + b),
            (" - ", |a, b| a - b),
            (" * ", |a, b| a * b),
            (" / ", |a, b| a / b),
        ] {
            if let Some((left, right)) = expression.rsplit_once(operator) {
                return Some(work(self.number(left)?, self.number(right)?));
            }
        }
        let digits = expression.replace('_', "");
        match expression {
            "i32::MAX as usize" => Some(i32::MAX as u128),
            _ => digits.parse().ok().or_else(|| self.number(self.known.get(&(self.path, expression))?)),
        }
    }
}

/// As LIMITS.md writes it.
fn written(name: &str, value: Value) -> String {
    const UNITS: [(u128, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match value {
        Value::Milliseconds(ms) if ms % 60_000 == 0 => format!("{} min", ms / 60_000),
        Value::Milliseconds(ms) if ms % 1000 == 0 => format!("{} s", ms / 1000),
        Value::Milliseconds(ms) => format!("{ms} ms"),
        Value::Between(from, to) => {
            format!("{} to {}", written(name, Value::Number(from)), written(name, Value::Number(to)))
        }
        Value::Number(bytes) if name.contains("BYTES") => {
            match UNITS.iter().find(|(unit, _)| bytes > 0 && bytes % unit == 0) {
                Some((unit, text)) => format!("{} {text}", bytes / unit),
                None => format!("{} B", grouped(bytes)),
            }
        }
        Value::Number(number) => grouped(number),
    }
}

fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The rows of LIMITS.md that name a constant: (file, name) and the value beside it.
fn listed(text: &str) -> BTreeMap<(String, String), String> {
    let mut listed = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let name = cells[0].trim_matches('`');
        let is_name = cells[0].starts_with('`')
            && name.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit());
        if let (true, [_, value, .., place]) = (is_name, &cells[..]) {
            let before =
                listed.insert((place.trim_matches('`').to_owned(), name.to_owned()), (*value).to_owned());
            assert!(before.is_none(), "{name} of {place} is listed twice");
        }
    }
    listed
}

#[test]
fn every_limit_stands_in_the_file_with_its_value() {
    let constants = constants();
    assert!(constants.len() > 100, "{} constants were found", constants.len());
    let known: BTreeMap<(&str, &str), &str> = constants
        .iter()
        .map(|constant| ((constant.path.as_str(), constant.name.as_str()), constant.expression.as_str()))
        .collect();
    let text = std::fs::read_to_string(repository().join("LIMITS.md")).expect("LIMITS.md");
    let mut listed = listed(&text);
    let mut faults = Vec::new();
    for Constant { path, name, expression } in &constants {
        let Some(stated) = listed.remove(&(path.clone(), name.clone())) else {
            if says_limit(name) {
                faults.push(format!("{path}: {name} = {expression} is not listed"));
            }
            continue;
        };
        let calculator = Calculator { known: &known, path };
        match calculator.value(expression) {
            Some(value) if written(name, value) == stated => {}
            Some(value) => faults.push(format!("{path}: {name} is {}, not {stated}", written(name, value))),
            None => faults.push(format!("{path}: {name} = {expression} cannot be worked out here")),
        }
    }
    for (path, name) in listed.keys() {
        faults.push(format!("{path} has no {name}"));
    }
    assert!(faults.is_empty(), "LIMITS.md and the sources differ:\n{}", faults.join("\n"));
}

#[test]
fn defaults_of_flags_are_those_of_the_file() {
    let text = std::fs::read_to_string(repository().join("LIMITS.md")).expect("LIMITS.md");
    let store = kvstore::store::Config::new("unused");
    let services = etcd_shim::service::Settings::default();
    assert_eq!(store.max_request_bytes, services.max_request_bytes);
    assert_eq!(store.max_txn_ops, services.max_txn_ops);
    let quota_bytes = store.quota_bytes.expect("there is one by default");
    for (flag, default) in [
        ("max-request-bytes", format!("{} B", grouped(store.max_request_bytes as u128))),
        ("max-txn-ops", grouped(store.max_txn_ops as u128)),
        ("quota-backend-bytes", written("BYTES", Value::Number(u128::from(quota_bytes)))),
    ] {
        let row = format!("| `--{flag}` | {default} |");
        assert!(text.contains(&row), "no row begins with {row}");
    }
}

#[test]
fn expressions_are_worked_out() {
    let known = BTreeMap::from([(("p", "OTHER_MAX"), "64 << 10")]);
    let calculator = Calculator { known: &known, path: "p" };
    let text = |name: &str, expression: &str| written(name, calculator.value(expression).expect(expression));
    assert_eq!(text("X_BYTES", "64 << 20"), "64 MiB");
    assert_eq!(text("X_BYTES", "3 * 512 * 1024"), "1536 KiB");
    assert_eq!(text("X_BYTES", "i32::MAX as usize"), "2,147,483,647 B");
    assert_eq!(text("X_MAX", "2 * OTHER_MAX"), "131,072");
    assert_eq!(text("X_MAX", "9_000"), "9,000");
    assert_eq!(text("X_BYTES", "(24 << 20)..=(256 << 20)"), "24 MiB to 256 MiB");
    assert_eq!(text("X", "Duration::from_secs(10)"), "10 s");
    assert_eq!(text("X", "Duration::from_millis(300)"), "300 ms");
    assert_eq!(text("X", "Duration::from_secs(5 * 60)"), "5 min");
    assert!(calculator.value("something()").is_none());
}
