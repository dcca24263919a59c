//! One page that needs nothing else, for somebody who does not believe the figures: ratios at a glance, then every scenario
//! with its rounds, its latencies and everything that was counted, then how it was measured.

use crate::figures::{NAMED, Row};
use crate::plots::{Palette, bars, curve, ratios};
use crate::report::{brief, ratio_text, short};
use std::fmt::Write;

/// Colours after Okabe and Ito, which most people can tell apart; the base is grey.
const STYLE: &str = "\
:root{--text:#1d2126;--soft:#5c6670;--line:#d9dee3;--back:#fff;--box:#f4f6f8;\
--c0:#6b7480;--c1:#0072b2;--c2:#d55e00;--c3:#009e73;--c4:#cc79a7;--c5:#a87900}\
@media(prefers-color-scheme:dark){:root{--text:#e4e8ec;--soft:#9aa5b0;--line:#343c45;--back:#14181c;--box:#1e242a;\
--c0:#9aa5b0;--c1:#56b4e9;--c2:#ff8a4c;--c3:#35c79a;--c4:#e6a0c8;--c5:#e0b040}}\
@media print{:root{--text:#000;--soft:#444;--line:#ccc;--back:#fff;--box:#fff;\
--c0:#6b7480;--c1:#0072b2;--c2:#d55e00;--c3:#009e73;--c4:#cc79a7;--c5:#a87900}\
body{max-width:none;margin:0;font-size:10pt}\
table{font-size:7pt!important}td small{min-width:0!important}td,th{padding:.1rem .3rem!important}section,svg,table{break-inside:avoid}h2,h3{break-after:avoid}\
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}\
body{font:15px/1.5 system-ui,'DejaVu Sans',sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:var(--text);\
background:var(--back)}h1{font-size:1.6rem;margin-bottom:.2rem}h2{margin:2.6rem 0 .3rem;font-size:1.25rem}\
h3{margin:2.2rem 0 .3rem;font-size:1.05rem;border-top:1px solid var(--line);padding-top:1rem}\
p,ul{margin:.4rem 0;max-width:52rem}li{margin:.15rem 0}.soft{color:var(--soft);font-size:.9rem}\
code{background:var(--box);overflow-wrap:anywhere}\
table{border-collapse:collapse;font-size:.82rem;font-variant-numeric:tabular-nums;margin:.5rem 0}\
td,th{padding:.12rem .55rem;text-align:right;border-bottom:1px solid var(--line);font-weight:normal;white-space:nowrap}\
th{color:var(--soft)}td:first-child,th:first-child{text-align:left}td small{color:var(--soft);display:inline-block;min-width:8.5rem;\
line-height:1.2;vertical-align:top;margin-left:.3rem}\
svg{display:block;margin:.5rem 0;width:100%;height:auto;font-size:13px}svg text{fill:var(--text)}svg .tick{fill:var(--soft);\
font-size:11px}svg .small{font-size:11.5px}.grid{stroke:var(--line)}.one{stroke:var(--text);stroke-width:1.5}\
.bar{opacity:.38}.range{stroke-width:2}.dot{stroke:var(--back);stroke-width:.8}.area{opacity:.16}\
.curve{fill:none!important;stroke-width:2}";

/// Lines differ in their dashes, for those who print in black.
const DASHES: [&str; Palette::COLORS] = ["none", "7 3", "none", "2 3", "9 3 2 3", "4 4"];

pub fn page(about: &[String], rows: &[Row]) -> String {
    let palette = Palette::of(rows);
    let mut style = STYLE.to_string();
    for (at, dashes) in DASHES.iter().enumerate() {
        let _ = write!(
            style,
            ".c{at}{{fill:var(--c{at});stroke:var(--c{at})}}.c{at}.curve{{stroke-dasharray:{dashes}}}.c{at}.bar{{stroke:none}}\
             .c{at}.area{{stroke:none}}.c{at}.dot{{stroke:var(--back)}}"
        );
    }
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\"><title>Holdfast beside its \
         peers</title><style>{style}</style></head><body><h1>Holdfast beside its peers</h1>"
    );
    for line in about.iter().take_while(|line| !line.starts_with("target ")) {
        let _ = write!(page, "<p class=\"soft\" style=\"margin:0\">{}</p>", escaped(line));
    }
    page.push_str(&glance(rows, &palette));
    page.push_str("<h2>Scenario by scenario</h2><p class=\"soft\">A bar is the median of the rounds, a dot one round (the \
        first one on top), the line behind the dots their range; behind the bars the ratio to the first target within the \
        same round, as median [lowest..highest]. Latency curves: the line is the median of the rounds, the area their range; \
        both axes are logarithmic.</p>");
    for row in rows {
        let headline = row.headline.of();
        let better = if row.headline.more_is_better() { "more is better" } else { "less is better" };
        let _ = write!(
            page,
            "<section><h3>{}</h3><p class=\"soft\">{}, {better}</p>{}{}{}</section>",
            escaped(&row.scenario),
            headline.title,
            bars(row, &palette, headline),
            curve(row, &palette),
            figures(row)
        );
    }
    page.push_str(&method(about));
    page.push_str("</body></html>\n");
    page
}

fn glance(rows: &[Row], palette: &Palette) -> String {
    let Some(base) = rows.first().and_then(|row| row.targets.first()) else { return String::new() };
    let (rates, times): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.headline.more_is_better());
    let mut text = format!(
        "<h2>At a glance: ratios to {}</h2><p class=\"soft\">The dot is the median over the rounds, the line reaches from the \
         worst round to the best. Each ratio is taken within one round.</p>",
        escaped(&base.name)
    );
    for (rows, title) in [
        (rates, "Requests or events per second: to the right of 1 is faster"),
        (times, "Times: to the left of 1 is faster"),
    ] {
        let plot = ratios(&rows, palette, title);
        if !plot.is_empty() {
            let _ = write!(text, "<section><p>{title}</p>{plot}</section>");
        }
    }
    text
}

/// Every figure: its median and range over the rounds, and its ratio to the base.
fn figures(row: &Row) -> String {
    let known = |of: fn(&_) -> f64| (0..row.targets.len()).any(|at| row.spread(at, of).is_known());
    let named: Vec<_> = NAMED.iter().filter(|named| known(named.of)).collect();
    let mut table = String::from("<table><tr><th></th>");
    row.targets.iter().for_each(|series| table.push_str(&format!("<th>{}</th>", escaped(&series.name))));
    table.push_str("</tr>");
    for named in named {
        let _ = write!(table, "<tr><td>{}</td>", named.title);
        for at in 0..row.targets.len() {
            let (spread, ratio) = (row.spread(at, named.of), row.ratio(at, named.of));
            if !spread.is_known() {
                table.push_str("<td>–</td>");
                continue;
            }
            let range = format!("{} – {}", short(spread.low), short(spread.high));
            let ratio = if row.base() == Some(at) { "base".into() } else { ratio_text(ratio) };
            let _ = write!(table, "<td>{} <small>{range}<br>{ratio}</small></td>", short(spread.median));
        }
        table.push_str("</tr>");
    }
    table.push_str("</table>");
    for series in &row.targets {
        if let Some(failure) = &series.failure {
            let _ = write!(
                table,
                "<p class=\"soft\">{}: {}</p>",
                escaped(&series.name),
                escaped(&brief(failure))
            );
        }
    }
    table
}

fn method(about: &[String]) -> String {
    let mut text = String::from("<h2>How it was measured</h2><ul>");
    for line in about {
        match line.strip_prefix("command: ") {
            Some(command) => drop(write!(text, "<li>command: <code>{}</code></li>", escaped(command))),
            None => drop(write!(text, "<li>{}</li>", escaped(line))),
        }
    }
    text.push_str(
        "</ul><ul>\
         <li>Servers run side by side on one disk. Each starts with an empty directory for every scenario that writes; reads \
         of the same keys go on with what is there.</li>\
         <li>In each round every server has its turn, in one order and then in the other; the others rest meanwhile. Ratios \
         are taken within a round, so that what the machine did to all of them cancels out.</li>\
         <li>Before every round comes a warm-up that does not count. The page cache is written out before and after, so that \
         every server pays for its own bytes.</li>\
         <li>Durability: before anything else, each server takes 100 writes one after the other while the flushes of the \
         disk's cache are counted (see above). A server that answers before its write is on the disk shows fewer than 100.</li>\
         <li>Latency is from the request to its answer, at the client. Where a rate is given (open loop), requests are due at \
         moments fixed beforehand and latency counts from there, however late they were sent: a pause is paid for by every \
         request that came meanwhile.</li>\
         <li>Percentiles are nearest ranks, and only shown where enough requests were measured: p99.9 needs a thousand.</li>\
         <li>CPU is user and system time of the server's process, for each request or event. Memory is resident at the end of \
         the round. Bytes written and flushes are what the disk itself counted, journal included: nobody else may use it.</li>\
         <li>Values do not compress. Creates, updates and deletes are kube-apiserver's transactions, with its guards; pages \
         behind the first one are read at the first one's revision, as its continue tokens ask.</li>\
         <li>The load generator runs on the same machine and takes its share of the same cores; a ceiling, where there is one, \
         is a server that syncs every write and stores nothing: what is left of it is what a store can be blamed for.</li>\
         <li>Not measured: several members, other machines, other disks than this one.</li></ul>",
    );
    text
}

pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Figures, Series};
    use crate::scenario::Headline;

    #[test]
    fn the_page_shows_everything_and_asks_for_nothing() {
        let series = |name: &str, scale: f32| Series {
            name: name.into(),
            rounds: (1..4).map(|round| Figures::new(vec![scale * round as f32; 2000], 1.0)).collect(),
            failure: None,
        };
        let failed =
            Series { name: "c".into(), rounds: Vec::new(), failure: Some("does <not> answer".into()) };
        let row = |headline| Row {
            scenario: "a & b".into(),
            headline,
            targets: vec![series("a", 900.0), series("b", 300.0), failed.clone()],
        };
        let about = ["machine: one".to_string(), "command: load --start a=b".into()];
        let page = page(&about, &[row(Headline::Rate), row(Headline::Longest)]);
        assert!(page.contains("a &amp; b") && !page.contains("a & b"));
        assert!(page.contains("does &lt;not&gt; answer"));
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        // Two bars, two curves, two overviews.
        assert_eq!(page.matches("<svg").count(), 6);
        for outside in ["http:", "https:", "src=", "url(", "<script", "NaN", "inf"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
