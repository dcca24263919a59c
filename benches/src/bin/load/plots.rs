//! Plots as SVG inside the page: bars with their rounds, latencies over percentiles, ratios at a glance.
//!
//! Colours come from the page's style (`c0`, `c1`, ... by target), so that they follow light, dark and paper; lines differ
//! in their dashes too.

use crate::figures::{Named, Row, SHARES, Spread};
use crate::html::escaped;
use crate::report::{ratio_text, short};
use std::fmt::Write;

const WIDTH: f64 = 760.0;
/// Where names end and bars begin.
const LABEL: f64 = 120.0;
/// Room for the numbers behind the bars.
const VALUE: f64 = 190.0;
const LINE: f64 = 26.0;
/// Between the numbers of an axis.
const TICK_ROOM: f64 = 34.0;
const CURVE_HEIGHT: f64 = 280.0;
const CURVE_LEFT: f64 = 62.0;

/// Which colour a target has, all over the page.
pub struct Palette {
    names: Vec<String>,
}

impl Palette {
    pub const COLORS: usize = 6;

    pub fn of(rows: &[Row]) -> Self {
        let mut names: Vec<String> = Vec::new();
        for series in rows.iter().flat_map(|row| &row.targets) {
            if !names.contains(&series.name) {
                names.push(series.name.clone());
            }
        }
        Self { names }
    }

    fn class(&self, name: &str) -> usize {
        self.names.iter().position(|known| known == name).unwrap_or(0) % Self::COLORS
    }
}

/// An axis from low to high, in pixels.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.logarithmic { value.max(self.low).log10() } else { value };
        let share = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low));
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Round numbers on it: 1, 2 and 5 times powers of ten.
    fn ticks(&self) -> Vec<f64> {
        if !self.logarithmic {
            let step = round_up((self.high - self.low) / 5.0);
            return (0..=6).map(|at| step * f64::from(at)).filter(|tick| *tick <= self.high).collect();
        }
        let powers = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let ticks = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(power)));
        let inside = |tick: &f64| (self.low * 0.999..=self.high * 1.001).contains(tick);
        ticks.filter(inside).collect()
    }
}

/// A tick as people write it: 200, 0.05.
fn plain(tick: f64) -> String {
    let text = format!("{tick:.4}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// The next of 1, 2 and 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.max(f64::MIN_POSITIVE).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= value * 0.999).unwrap_or(power)
}

fn open(height: f64, title: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{0}\"><title>{0}</title>",
        escaped(title)
    )
}

/// A bar for the median, a line for the range, a dot for each round: the first one at the top of the bar, the last at its end.
pub fn bars(row: &Row, palette: &Palette, figure: &Named) -> String {
    let all = row.targets.iter().flat_map(|series| series.rounds.iter().map(figure.of));
    let most = all.filter(|value| value.is_finite()).fold(0.0, f64::max);
    if most == 0.0 {
        return String::new();
    }
    let axis = Axis { low: 0.0, high: most, from: LABEL, to: WIDTH - VALUE, logarithmic: false };
    let height = LINE * (row.targets.len() as f64 + 1.0);
    let mut svg = open(height, &format!("{}: {}", row.scenario, figure.title));
    for tick in axis.ticks() {
        let x = axis.at(tick);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"16\" y2=\"{height}\"/><text class=\"tick\" x=\"{x:.1}\" \
             y=\"12\" text-anchor=\"middle\">{}</text>",
            short(tick)
        );
    }
    for (at, series) in row.targets.iter().enumerate() {
        let (top, class) = (LINE * (at as f64 + 1.0) - 5.0, palette.class(&series.name));
        let (middle, spread) = (top + LINE / 2.0, row.spread(at, figure.of));
        let _ = write!(svg, "<text x=\"0\" y=\"{}\">{}</text>", middle + 5.0, escaped(&series.name));
        if !spread.is_known() {
            let text = series.failure.as_deref().unwrap_or("not known");
            let text: String = text.chars().take(90).collect();
            let _ = write!(
                svg,
                "<text class=\"tick\" x=\"{LABEL}\" y=\"{}\">{}</text>",
                middle + 4.0,
                escaped(&text)
            );
            continue;
        }
        let (x, low, high) = (axis.at(spread.median), axis.at(spread.low), axis.at(spread.high));
        let _ = write!(
            svg,
            "<rect class=\"c{class} bar\" x=\"{LABEL}\" y=\"{}\" width=\"{:.1}\" height=\"{}\"/><line class=\"c{class} \
             range\" x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>",
            top + 3.0,
            x - LABEL,
            LINE - 6.0
        );
        let rounds = series.rounds.len().max(2) - 1;
        for (number, round) in series.rounds.iter().enumerate() {
            let (x, y) =
                (axis.at((figure.of)(round)), top + 6.0 + number as f64 / rounds as f64 * (LINE - 12.0));
            let _ = write!(svg, "<circle class=\"c{class} dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.8\"/>");
        }
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\">{}</text><text class=\"tick\" x=\"{WIDTH}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            WIDTH - VALUE + 14.0,
            middle + 5.0,
            short(spread.median),
            middle + 5.0,
            if row.base() == Some(at) { String::new() } else { ratio_text(row.ratio(at, figure.of)) }
        );
    }
    svg.push_str("</svg>");
    svg
}

/// Latency over percentiles: to the right, one request in ten, in a hundred, in a thousand is slower; both axes logarithmic.
/// The line is the median of the rounds, the area their range.
pub fn curve(row: &Row, palette: &Palette) -> String {
    let spreads: Vec<Vec<Spread>> = (0..row.targets.len())
        .map(|at| {
            let of =
                |share| row.spread(at, |figures| figures.curve_ms.get(share).copied().unwrap_or(f64::NAN));
            (0..SHARES.len()).map(of).collect()
        })
        .collect();
    let known: Vec<Spread> = spreads.iter().flatten().copied().filter(|spread| spread.is_known()).collect();
    let low = known.iter().map(|spread| spread.low).fold(f64::MAX, f64::min).max(1e-3);
    let high = known.iter().map(|spread| spread.high).fold(f64::MIN, f64::max);
    // One request a round has no distribution.
    if spreads.iter().all(|line| line.iter().filter(|spread| spread.is_known()).count() < 4) || high <= low {
        return String::new();
    }
    let y = Axis { low, high, from: CURVE_HEIGHT - 34.0, to: 26.0, logarithmic: true };
    let nines = |share: f64| 1.0 / (1.0 - share);
    let last = SHARES[SHARES.len() - 1];
    let x = Axis { low: 1.0, high: nines(last), from: CURVE_LEFT, to: WIDTH - 28.0, logarithmic: true };
    let mut svg = open(CURVE_HEIGHT, &format!("{}: latency over percentiles", row.scenario));
    curve_grid(&mut svg, &x, &y);
    for (at, line) in spreads.iter().enumerate() {
        let class = palette.class(&row.targets[at].name);
        let points: Vec<(f64, &Spread)> = SHARES
            .iter()
            .zip(line)
            .filter(|(_, spread)| spread.is_known())
            .map(|(share, spread)| (x.at(nines(*share)), spread))
            .collect();
        let point = |x: f64, ms: f64| format!("{x:.1},{:.1} ", y.at(ms));
        let upper: String = points.iter().map(|(x, spread)| point(*x, spread.high)).collect();
        let lower: String = points.iter().rev().map(|(x, spread)| point(*x, spread.low)).collect();
        let middle: String = points.iter().map(|(x, spread)| point(*x, spread.median)).collect();
        let _ = write!(
            svg,
            "<polygon class=\"c{class} area\" points=\"{upper}{lower}\"/><polyline class=\"c{class} curve\" points=\"{middle}\"/>"
        );
        let left = CURVE_LEFT + 10.0 + 128.0 * at as f64;
        let _ = write!(
            svg,
            "<line class=\"c{class} curve\" x1=\"{left}\" x2=\"{}\" y1=\"10\" y2=\"10\"/><text x=\"{}\" y=\"15\">{}</text>",
            left + 24.0,
            left + 29.0,
            escaped(&row.targets[at].name)
        );
    }
    svg.push_str("</svg>");
    svg
}

fn curve_grid(svg: &mut String, x: &Axis, y: &Axis) {
    for tick in y.ticks() {
        let at = y.at(tick);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{CURVE_LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"tick\" x=\"{}\" \
             y=\"{:.1}\" text-anchor=\"end\">{} ms</text>",
            x.to,
            CURVE_LEFT - 6.0,
            at + 4.0,
            plain(tick)
        );
    }
    for (share, name) in [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")] {
        let at = x.at(1.0 / (1.0 - share));
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{}\" y2=\"{}\"/><text class=\"tick\" x=\"{at:.1}\" \
             y=\"{}\" text-anchor=\"middle\">{name}</text>",
            y.to,
            y.from,
            y.from + 18.0
        );
    }
}

/// The ratios of all rows to their base, on one logarithmic axis: a dot for the median, a line for the range.
pub fn ratios(rows: &[&Row], palette: &Palette, title: &str) -> String {
    let left = 350.0;
    let of = |row: &Row, at: usize| row.ratio(at, row.headline.of().of);
    let drawn: Vec<(&Row, usize, Spread)> = rows
        .iter()
        .flat_map(|row| (0..row.targets.len()).map(move |at| (*row, at, of(row, at))))
        .filter(|(row, at, ratio)| ratio.is_known() && row.base() != Some(*at))
        .collect();
    if drawn.is_empty() {
        return String::new();
    }
    let low = drawn.iter().map(|(_, _, ratio)| ratio.low).fold(0.8, f64::min).max(1e-3);
    let high = drawn.iter().map(|(_, _, ratio)| ratio.high).fold(1.25, f64::max);
    let axis = Axis { low, high, from: left, to: WIDTH - 60.0, logarithmic: true };
    let line = 17.0;
    let height = 26.0 + line * drawn.len() as f64;
    let mut svg = open(height, title);
    let mut free_from = 0.0;
    for tick in axis.ticks() {
        let (x, class) = (axis.at(tick), if tick == 1.0 { "one" } else { "grid" });
        let _ =
            write!(svg, "<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"18\" y2=\"{height}\"/>");
        // Numbers do not run into each other.
        if x >= free_from {
            let _ = write!(
                svg,
                "<text class=\"tick\" x=\"{x:.1}\" y=\"12\" text-anchor=\"middle\">{}</text>",
                plain(tick)
            );
            free_from = x + TICK_ROOM;
        }
    }
    let mut before = None;
    for (number, (row, at, ratio)) in drawn.iter().enumerate() {
        let (y, name) = (30.0 + line * number as f64, &row.targets[*at].name);
        let class = palette.class(name);
        if before != Some(&row.scenario) {
            let _ = write!(
                svg,
                "<text class=\"small\" x=\"0\" y=\"{}\">{}</text>",
                y + 4.0,
                escaped(&row.scenario)
            );
        }
        before = Some(&row.scenario);
        let _ = write!(
            svg,
            "<text class=\"small\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text><line class=\"c{class} range\" \
             x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y}\" y2=\"{y}\"/><circle class=\"c{class} dot\" cx=\"{:.1}\" cy=\"{y}\" \
             r=\"4\"/><text class=\"small\" x=\"{WIDTH}\" y=\"{}\" text-anchor=\"end\">{:.2}</text>",
            left - 8.0,
            y + 4.0,
            escaped(name),
            axis.at(ratio.low),
            axis.at(ratio.high),
            axis.at(ratio.median),
            y + 4.0,
            ratio.median
        );
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_ticks() {
        let axis = Axis { low: 0.0, high: 23_000.0, from: 0.0, to: 100.0, logarithmic: false };
        assert_eq!(axis.ticks(), [0.0, 5_000.0, 10_000.0, 15_000.0, 20_000.0]);
        let axis = Axis { low: 0.3, high: 12.0, from: 0.0, to: 100.0, logarithmic: true };
        assert_eq!(axis.ticks(), [0.5, 1.0, 2.0, 5.0, 10.0]);
        assert_eq!([0.005, 0.2, 5.0, 200.0].map(plain), ["0.005", "0.2", "5", "200"]);
        assert!((axis.at(0.3), axis.at(12.0)) == (0.0, 100.0));
        assert!((axis.at((0.3f64 * 12.0).sqrt()) - 50.0).abs() < 1e-9, "the geometric mean is in the middle");
    }
}
