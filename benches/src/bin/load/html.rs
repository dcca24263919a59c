//! One page that needs nothing else: for each scenario the rate and the latencies of every target, each round a dot.

use crate::figures::{Figures, Row};
use std::fmt::Write;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#222}\
pre{background:#f4f4f4;padding:.7rem;overflow-x:auto}h2{margin:2.2rem 0 .3rem;font-size:1.1rem}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.1rem .7rem;text-align:right}\
td:first-child,th:first-child{text-align:left}svg{display:block;margin:.4rem 0}.note{color:#666}";
const COLORS: [&str; 6] = ["#888", "#0a7", "#36c", "#c63", "#93c", "#a80"];
const WIDTH: f64 = 720.0;
const LABEL: f64 = 130.0;
const LINE: f64 = 22.0;

pub fn page(about: &str, rows: &[Row]) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Holdfast beside its peers</title><style>{STYLE}</style>\
         <h1>Holdfast beside its peers</h1><pre>{}</pre><p class=\"note\">Each dot is a round, each bar the median. Ratios are \
         to the first target within the same round: their median and, in brackets, their range.</p>",
        escaped(about)
    );
    for row in rows {
        let _ = write!(page, "<h2>{}</h2>", escaped(&row.scenario));
        page.push_str(&plot(row, "requests or events per second", |figures| figures.per_s));
        page.push_str(&plot(row, "p99 latency, ms (less is better)", |figures| figures.p99_ms));
        page.push_str(&figures(row));
    }
    page.push_str("</html>\n");
    page
}

fn plot(row: &Row, title: &str, figure: fn(&Figures) -> f64) -> String {
    let most = row.rounds.iter().flatten().map(figure).fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| LABEL + value / most * (WIDTH - LABEL - 10.0);
    let height = LINE * (row.targets.len() as f64 + 1.0);
    let mut svg = format!(
        "<svg width=\"{WIDTH}\" height=\"{height}\" role=\"img\"><text x=\"{LABEL}\" y=\"15\" font-size=\"12\" \
         fill=\"#666\">{title}, up to {most:.1}</text>"
    );
    for (at, name) in row.targets.iter().enumerate() {
        let (y, color) = (LINE * (at as f64 + 1.0), COLORS[at % COLORS.len()]);
        let width = x(row.median(at, figure)) - LABEL;
        let _ = write!(
            svg,
            "<text x=\"0\" y=\"{}\" font-size=\"13\">{}</text><rect x=\"{LABEL}\" y=\"{}\" width=\"{width:.1}\" \
             height=\"{}\" fill=\"{color}\" opacity=\".35\"/>",
            y + 15.0,
            escaped(name),
            y + 3.0,
            LINE - 6.0
        );
        for round in &row.rounds[at] {
            let _ = write!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{}\" r=\"3\" fill=\"{color}\"/>",
                x(figure(round)),
                y + LINE / 2.0
            );
        }
    }
    svg.push_str("</svg>");
    svg
}

fn figures(row: &Row) -> String {
    let mut table = String::from(
        "<table><tr><th></th><th>per second</th><th>ratio</th><th>p50 ms</th><th>p99 ms</th><th>p99.9 ms</th>\
         <th>CPU µs each</th><th>memory MiB</th><th>disk MiB</th></tr>",
    );
    for (at, name) in row.targets.iter().enumerate() {
        let ratio = row.ratio(at, |figures| figures.per_s);
        let of = |figure: fn(&Figures) -> f64| row.median(at, figure);
        let known = |figure: fn(&Figures) -> Option<f64>| {
            let median = row.median(at, |figures| figure(figures).unwrap_or(f64::NAN));
            if median.is_nan() { "–".to_string() } else { format!("{median:.1}") }
        };
        let _ = write!(
            table,
            "<tr><td>{}</td><td>{:.1}</td><td>{:.2} [{:.2}–{:.2}]</td><td>{:.3}</td><td>{:.3}</td><td>{:.3}</td><td>{}</td>\
             <td>{}</td><td>{}</td></tr>",
            escaped(name),
            of(|figures| figures.per_s),
            ratio.median,
            ratio.low,
            ratio.high,
            of(|figures| figures.p50_ms),
            of(|figures| figures.p99_ms),
            of(|figures| figures.p999_ms),
            known(|figures| figures.cpu_us),
            known(|figures| figures.rss_mib),
            known(|figures| figures.disk_mib),
        );
    }
    table.push_str("</table>");
    table
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
