//! What was measured, for people and for programs.

use crate::Failure;
use crate::arguments::Arguments;
use crate::figures::{Figures, Row};
use crate::target::Target;
use etcd_shim::proto::plain::etcdserverpb as pb;
use holdfast_benches::machine;
use pb::maintenance_client::MaintenanceClient;
use std::fmt::Write;

/// The machine, the servers, and how it was measured: what a reader needs to judge the figures.
pub async fn about(arguments: &Arguments, targets: &mut [Target]) -> Result<String, Failure> {
    let mut about = String::new();
    writeln!(about, "machine: {}", machine::describe())?;
    writeln!(about, "load before: {}", machine::load())?;
    for target in targets {
        let mut client = MaintenanceClient::new(target.channel().await?);
        // A server without this call is measured all the same.
        let version = match client.status(pb::StatusRequest {}).await {
            Ok(status) => format!("says version {}", status.into_inner().version),
            Err(status) => format!("does not tell its version ({})", status.code()),
        };
        let kind =
            if target.node.is_some() { "started here, default flags, one member" } else { "running already" };
        writeln!(about, "target {}: {kind}; {version}", target.name)?;
    }
    let mode =
        arguments.rate.map_or("closed loop".to_string(), |rate| format!("open loop, {rate} requests/s"));
    writeln!(
        about,
        "{mode}; values of {} bytes that do not compress; {} rounds of {} s, targets in alternating order; {:?}",
        arguments.value_bytes, arguments.rounds, arguments.seconds, arguments.transport
    )?;
    Ok(about)
}

/// A line for each target of one scenario.
pub fn lines(row: &Row) -> String {
    let mut text = format!("{}\n", row.scenario);
    for (at, name) in row.targets.iter().enumerate() {
        let of = |figure: fn(&Figures) -> f64| row.median(at, figure);
        let ratio = row.ratio(at, |figures| figures.per_s);
        let _ = write!(
            text,
            "  {name:<14} {:>10.1}/s  p50 {:>8.3} ms  p99 {:>8.3}  p99.9 {:>8.3}",
            of(|figures| figures.per_s),
            of(|figures| figures.p50_ms),
            of(|figures| figures.p99_ms),
            of(|figures| figures.p999_ms),
        );
        if row.rounds[at].iter().all(|figures| figures.cpu_us.is_some()) {
            let known = |figure: Option<f64>| figure.unwrap_or(f64::NAN);
            let _ = write!(
                text,
                "  cpu {:>7.1} µs  rss {:>6.1} MiB  disk {:>7.1} MiB",
                row.median(at, |figures| known(figures.cpu_us)),
                row.median(at, |figures| known(figures.rss_mib)),
                row.median(at, |figures| known(figures.disk_mib)),
            );
        }
        let _ = writeln!(text, "  {:.2}x [{:.2}..{:.2}]", ratio.median, ratio.low, ratio.high);
    }
    text
}

/// Ratios to the first target, as Markdown.
pub fn table(rows: &[Row]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let mut text = String::from(
        "| scenario | target | per second | ratio [range] | p50 ms | p50 | p99 ms | p99 | CPU µs | CPU |\n",
    );
    text.push_str("|---|---|---|---|---|---|---|---|---|---|\n");
    for row in rows {
        for at in 0..first.targets.len() {
            let rate = row.ratio(at, |figures| figures.per_s);
            let ratio = |figure: fn(&Figures) -> f64| row.ratio(at, figure).median;
            let cpu = |figures: &Figures| figures.cpu_us.unwrap_or(f64::NAN);
            let _ = writeln!(
                text,
                "| {} | {} | {:.0} | {:.2} [{:.2}..{:.2}] | {:.3} | {:.2} | {:.3} | {:.2} | {:.1} | {:.2} |",
                row.scenario,
                row.targets[at],
                row.median(at, |figures| figures.per_s),
                rate.median,
                rate.low,
                rate.high,
                row.median(at, |figures| figures.p50_ms),
                ratio(|figures| figures.p50_ms),
                row.median(at, |figures| figures.p99_ms),
                ratio(|figures| figures.p99_ms),
                row.median(at, cpu),
                ratio(cpu),
            );
        }
    }
    text
}

/// Everything.
pub fn json(about: &str, rows: &[Row]) -> Result<String, Failure> {
    let about: Vec<&str> = about.lines().collect();
    Ok(serde_json::to_string_pretty(&serde_json::json!({ "about": about, "rows": rows }))?)
}
