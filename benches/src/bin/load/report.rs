//! What was measured, for people and for programs.

use crate::Failure;
use crate::arguments::Arguments;
use crate::device::Device;
use crate::durability;
use crate::figures::{Figures, NAMED, Row, Spread};
use crate::target::{Place, Target};
use etcd_shim::proto::plain::etcdserverpb as pb;
use holdfast_benches::machine;
use holdfast_tests::Transport;
use pb::maintenance_client::MaintenanceClient;
use serde_json::{Value, json};
use std::fmt::Write;

/// What a table shows of a failure.
const FAILURE_CHARS: usize = 200;

/// The machine, the servers, and how it was measured: what a reader needs to judge the figures.
///
/// Every server that is ours is started for it, looked at, and ended again.
pub async fn about(arguments: &Arguments, targets: &mut [Target]) -> Result<Vec<String>, Failure> {
    let mut about = arguments.notes.clone();
    about.extend(this_machine(arguments));
    for target in targets.iter_mut() {
        target.refresh(Transport::Plain).await.map_err(|error| format!("{}: {error}", target.name))?;
        let mut client = MaintenanceClient::new(target.channel().await?);
        // A server without this call is measured all the same.
        let version = match client.status(pb::StatusRequest {}).await {
            Ok(status) => format!("says version {}", status.into_inner().version),
            Err(status) => format!("does not tell its version ({})", status.code()),
        };
        let name = &target.name;
        if let Place::Remote { endpoint } = &target.place {
            about.push(format!("target {name}: running already at {}; {version}", endpoint.uri()));
            continue;
        }
        let seen = durability::probe(target).await.map_err(|error| format!("{name}: {error}"))?;
        let kind = if target.is_ceiling {
            "without a store, to show the ceiling"
        } else {
            "started here, one member, default flags but the quota"
        };
        about.push(format!("target {name}: {kind}; {version}; {}", durability::sentence(seen)));
        target.close();
    }
    let Arguments { value_bytes, rounds, seconds, warm_up_s, .. } = arguments;
    about.push(format!(
        "values of {value_bytes} bytes that do not compress; {rounds} rounds of {seconds} s after {warm_up_s} s of warm-up, \
         targets in alternating order"
    ));
    let line: Vec<String> = std::env::args().skip(1).map(|word| shown(&word)).collect();
    about.push(format!("command: load {}", line.join(" ")));
    Ok(about)
}

/// A word of the command line without the place of a file: figures are published, the machine's directories are not.
fn shown(word: &str) -> String {
    let (name, value) = word.split_once('=').unwrap_or(("", word));
    let Some((_, file)) = value.rsplit_once('/').filter(|_| value.starts_with('/')) else {
        return word.into();
    };
    if name.is_empty() { format!("…/{file}") } else { format!("{name}=…/{file}") }
}

fn this_machine(arguments: &Arguments) -> Vec<String> {
    let parent = arguments.parent.clone().unwrap_or_else(std::env::temp_dir);
    let disk = Device::below(&parent).map_or("no disk that counts".to_string(), |device| device.about());
    let kind = machine::FileSystem::of(&parent).kind;
    vec![
        format!("machine: {}", machine::describe()),
        format!("disk: {kind} on {disk}; the same for all servers"),
        format!("load before: {}; the load generator runs on the same machine", machine::load()),
    ]
}

/// A line for each target of one scenario.
pub fn lines(row: &Row) -> String {
    let mut text = format!("{}\n", row.scenario);
    for (at, series) in row.targets.iter().enumerate() {
        let name = &series.name;
        if let Some(failure) = &series.failure {
            let _ = writeln!(text, "  {name:<14} {failure}");
            continue;
        }
        let of = |figure: fn(&Figures) -> f64| row.spread(at, figure).median;
        let headline = row.headline.of();
        let ratio = row.ratio(at, headline.of);
        let _ = write!(
            text,
            "  {name:<14} {:>10.1}/s  p50 {:>8}  p99 {:>8}  p99.9 {:>8}  longest {:>8} ms",
            of(|figures| figures.per_s),
            short(of(|figures| figures.p50_ms)),
            short(of(|figures| figures.p99_ms)),
            short(of(|figures| figures.p999_ms)),
            short(of(|figures| figures.max_ms)),
        );
        let _ = write!(
            text,
            "  CPU {:>7} µs  memory {:>6} MiB  disk {:>7} MiB",
            short(of(|figures| figures.cpu_us.unwrap_or(f64::NAN))),
            short(of(|figures| figures.memory_mib.unwrap_or(f64::NAN))),
            short(of(|figures| figures.disk_mib.unwrap_or(f64::NAN))),
        );
        let _ = writeln!(text, "  {} {}", headline.title, ratio_text(ratio));
    }
    text
}

/// A failure may bring the end of a log with it.
pub fn brief(failure: &str) -> String {
    failure.chars().take(FAILURE_CHARS).collect()
}

/// A number in as many digits as mean something.
pub fn short(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "–".into(),
        0.0 => "0".into(),
        size if size >= 1000.0 => {
            let digits = format!("{value:.0}");
            let first = digits.len() % 3;
            let mut text = digits[..first].to_string();
            for group in digits.as_bytes()[first..].chunks(3) {
                if !text.is_empty() {
                    text.push(',');
                }
                text.push_str(&String::from_utf8_lossy(group));
            }
            text
        }
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// `1.68 [1.44..1.74]`
pub fn ratio_text(ratio: Spread) -> String {
    if !ratio.is_known() {
        return "–".into();
    }
    format!("{:.2} [{:.2}..{:.2}]", ratio.median, ratio.low, ratio.high)
}

/// Medians over the rounds, and ratios to the first target with their range, as Markdown.
pub fn table(rows: &[Row]) -> String {
    let (rates, times): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.headline.more_is_better());
    let all: Vec<&Row> = rows.iter().collect();
    let tables = [
        one_table(&rates, &["per_s", "p50_ms", "p99_ms", "cpu_us"]),
        one_table(&times, &["p50_ms", "p99_ms", "max_ms", "cpu_us"]),
        one_table(&all, &["memory_mib", "disk_mib", "written_bytes", "flushes"]),
    ];
    tables.into_iter().filter(|table| !table.is_empty()).collect::<Vec<_>>().join("\n")
}

fn one_table(rows: &[&Row], columns: &[&str]) -> String {
    let mut text = String::new();
    let named = |key: &str| NAMED.iter().find(|named| named.key == key).expect("a known key");
    if !rows.is_empty() {
        text.push_str("| scenario | target |");
        columns.iter().for_each(|key| text.push_str(&format!(" {} | ratio |", named(key).title)));
        text.push_str(&format!("\n|---|---|{}\n", "---|---|".repeat(columns.len())));
    }
    for row in rows {
        for (at, series) in row.targets.iter().enumerate() {
            let _ = write!(text, "| {} | {} |", row.scenario, series.name);
            if let Some(failure) = &series.failure {
                let failure = brief(failure).replace('|', "/").replace('\n', " ");
                let _ = writeln!(text, " {failure} |{}", "– |".repeat(columns.len() * 2 - 1));
                continue;
            }
            for key in columns {
                let of = named(key).of;
                let ratio = if row.base() == Some(at) { "1".into() } else { ratio_text(row.ratio(at, of)) };
                let _ = write!(text, " {} | {ratio} |", short(row.spread(at, of).median));
            }
            text.push('\n');
        }
    }
    text
}

/// Everything: figures of all rounds, and what they sum up to.
pub fn json(about: &[String], rows: &[Row]) -> Result<String, Failure> {
    let rows: Vec<Value> = rows.iter().map(row_json).collect();
    Ok(serde_json::to_string_pretty(&json!({ "about": about, "rows": rows }))?)
}

fn row_json(row: &Row) -> Value {
    let targets = row.targets.iter().enumerate().map(|(at, series)| {
        let sums = NAMED.iter().map(|named| {
            let of = named.of;
            (named.key.to_string(), json!({ "value": row.spread(at, of), "ratio": row.ratio(at, of) }))
        });
        let sums: serde_json::Map<String, Value> = sums.collect();
        json!({ "name": series.name, "failure": series.failure, "summary": sums, "rounds": series.rounds })
    });
    json!({
        "scenario": row.scenario,
        "headline": row.headline,
        "base": row.base().map(|base| &row.targets[base].name),
        "targets": targets.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Series;
    use crate::scenario::Headline;

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        let numbers = [0.0, 0.01234, 1.234, 12.34, 123.4, 1234.5, 123_456.0, 1_234_567.0, f64::NAN];
        let texts: Vec<String> = numbers.into_iter().map(short).collect();
        assert_eq!(texts, ["0", "0.012", "1.23", "12.3", "123", "1,234", "123,456", "1,234,567", "–"]);
    }

    #[test]
    fn places_of_files_are_not_shown() {
        let words =
            ["etcd=/a/b/etcd", "/a/page.html", "create@1/mtls", "x=http://host:1", "kine=scripts/kine"];
        let texts = ["etcd=…/etcd", "…/page.html", "create@1/mtls", "x=http://host:1", "kine=scripts/kine"];
        assert_eq!(words.map(shown), texts);
    }

    #[test]
    fn the_tables_have_a_cell_for_every_heading() {
        let series = |name: &str, failure: Option<&str>| Series {
            name: name.into(),
            rounds: failure.map_or(vec![Figures::new(vec![1.0; 200], 1.0)], |_| Vec::new()),
            failure: failure.map(String::from),
        };
        let row = |headline| Row {
            scenario: "some".into(),
            headline,
            targets: vec![series("a", None), series("b", Some("not\noffered | here"))],
        };
        let text = table(&[row(Headline::Rate), row(Headline::Longest), row(Headline::Rate)]);
        let columns: Vec<usize> =
            text.lines().filter(|line| !line.is_empty()).map(|line| line.matches('|').count()).collect();
        // Two rates, one time, all three with what they take: each with two lines of heading and two targets.
        assert_eq!(columns, [11; 3 * 2 + 6 * 2]);
        assert!(text.contains("| some | a | 200 | 1 |"), "{text}");
    }

    #[test]
    fn the_json_has_rounds_and_sums() {
        let rounds = vec![Figures::new(vec![1000.0, 2000.0, 3000.0], 1.0)];
        let targets = vec![Series { name: "a".into(), rounds, failure: None }];
        let rows = [Row { scenario: "some".into(), headline: Headline::Rate, targets }];
        let text = json(&["machine".into()], &rows).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        let target = &value["rows"][0]["targets"][0];
        assert_eq!(target["summary"]["per_s"]["value"]["median"], 3.0);
        assert_eq!(target["rounds"][0]["p50_ms"], 2.0);
        assert!(target["rounds"][0]["p99_ms"].is_null(), "of three requests there is no 99th percentile");
        assert_eq!(value["rows"][0]["base"], "a");
    }
}
