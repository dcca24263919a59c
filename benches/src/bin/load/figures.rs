//! Figures of rounds, and what becomes of them.

use crate::scenario::Headline;
use serde::Serialize;

/// Where the curve of latencies is taken: the typical ones to the worst of ten thousand.
pub const SHARES: [f64; 11] = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999];

/// What one round on one target gave. What is not known, or would be a guess from too few requests, is not a number.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Requests or events that counted.
    pub samples: usize,
    pub per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
    /// At [`SHARES`].
    pub curve_ms: Vec<f64>,
    /// Of the server, for each request or event; none if its process is not ours.
    pub cpu_us: Option<f64>,
    /// Resident at the end of the round.
    pub memory_mib: Option<f64>,
    /// The most that was resident during it.
    pub memory_peak_mib: Option<f64>,
    /// What the data directory takes at its end.
    pub disk_mib: Option<f64>,
    /// What the disk was given, for each request or event.
    pub written_bytes: Option<f64>,
    /// Cache flushes of the disk, for each request or event.
    pub flushes: Option<f64>,
    /// How long the call took that disturbed the others.
    pub call_ms: Option<f64>,
}

impl Figures {
    /// From latencies in microseconds.
    pub fn new(mut latencies_us: Vec<f32>, seconds: f64) -> Self {
        latencies_us.sort_by(f32::total_cmp);
        let at = |share: f64| percentile(&latencies_us, share).map_or(f64::NAN, |us| f64::from(us) / 1e3);
        Self {
            samples: latencies_us.len(),
            per_s: latencies_us.len() as f64 / seconds,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: latencies_us.last().map_or(f64::NAN, |us| f64::from(*us) / 1e3),
            curve_ms: SHARES.iter().map(|share| at(*share)).collect(),
            ..Self::default()
        }
    }
}

/// The smallest value that at least this share does not exceed (nearest rank); none where so few were measured that it would
/// be the maximum by another name.
fn percentile(sorted: &[f32], share: f64) -> Option<f32> {
    // A hair less, because shares like 0.999 are not exact.
    let rank = (sorted.len() as f64 * share - 1e-6).ceil().max(1.0) as usize;
    let enough = share <= 0.5 || (1.0 - share) * sorted.len() as f64 > 1.0 - 1e-6;
    sorted.get(rank - 1).copied().filter(|_| enough)
}

/// A figure with its name and unit.
pub struct Named {
    pub key: &'static str,
    pub title: &'static str,
    pub of: fn(&Figures) -> f64,
}

/// Everything that is summed up.
pub const NAMED: &[Named] = &[
    Named { key: "per_s", title: "per second", of: |figures| figures.per_s },
    Named { key: "p50_ms", title: "p50 ms", of: |figures| figures.p50_ms },
    Named { key: "p99_ms", title: "p99 ms", of: |figures| figures.p99_ms },
    Named { key: "p999_ms", title: "p99.9 ms", of: |figures| figures.p999_ms },
    Named { key: "max_ms", title: "longest ms", of: |figures| figures.max_ms },
    Named { key: "cpu_us", title: "CPU µs each", of: |figures| known(figures.cpu_us) },
    Named { key: "memory_mib", title: "memory MiB", of: |figures| known(figures.memory_mib) },
    Named { key: "memory_peak_mib", title: "its peak", of: |figures| known(figures.memory_peak_mib) },
    Named { key: "disk_mib", title: "disk MiB", of: |figures| known(figures.disk_mib) },
    Named { key: "written_bytes", title: "bytes written each", of: |figures| known(figures.written_bytes) },
    Named { key: "flushes", title: "flushes each", of: |figures| known(figures.flushes) },
    Named { key: "call_ms", title: "the call, ms", of: |figures| known(figures.call_ms) },
];

pub fn known(figure: Option<f64>) -> f64 {
    figure.unwrap_or(f64::NAN)
}

impl Headline {
    /// The figure that the row is about.
    pub fn of(self) -> &'static Named {
        let key = match self {
            Self::Rate => "per_s",
            Self::Median => "p50_ms",
            Self::Tail => "p99_ms",
            Self::Longest => "max_ms",
        };
        NAMED.iter().find(|named| named.key == key).expect("all of them are there")
    }

    pub fn more_is_better(self) -> bool {
        self == Self::Rate
    }
}

/// One scenario on all targets.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub scenario: String,
    pub headline: Headline,
    pub targets: Vec<Series>,
}

/// One scenario on one target.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    pub name: String,
    pub rounds: Vec<Figures>,
    /// Why there are none.
    pub failure: Option<String>,
}

/// A median over the rounds, and the range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Row {
    /// The target that the others are compared with: the first one that could be measured.
    pub fn base(&self) -> Option<usize> {
        self.targets.iter().position(|series| !series.rounds.is_empty())
    }

    pub fn spread(&self, target: usize, of: impl Fn(&Figures) -> f64) -> Spread {
        Spread::of(self.targets[target].rounds.iter().map(of).collect())
    }

    /// Round by round, so that what the machine did to all targets at the same time cancels out.
    pub fn ratio(&self, target: usize, of: impl Fn(&Figures) -> f64) -> Spread {
        let base = self.base().map_or(&[][..], |base| &self.targets[base].rounds);
        let pairs = self.targets[target].rounds.iter().zip(base);
        Spread::of(pairs.map(|(own, base)| of(own) / of(base)).collect())
    }
}

impl Spread {
    /// What is not known of every round is not known: rounds differ, and a median of some would be of the lucky ones.
    pub fn of(mut values: Vec<f64>) -> Self {
        if values.iter().any(|value| !value.is_finite()) {
            values.clear();
        }
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 if middle > 0 => (at(middle - 1) + at(middle)) / 2.0,
            _ => at(middle),
        };
        Self { median, low: at(0), high: at(values.len().saturating_sub(1)) }
    }

    pub fn is_known(self) -> bool {
        self.median.is_finite()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_become_percentiles() {
        let figures = Figures::new((1..=1000).rev().map(|us| us as f32 * 1000.0).collect(), 2.0);
        assert_eq!((figures.samples, figures.per_s), (1000, 500.0));
        assert_eq!((figures.p50_ms, figures.max_ms), (500.0, 1000.0));
        assert_eq!((figures.p99_ms, figures.p999_ms), (990.0, 999.0));
        // One of ten thousand is not known from a thousand.
        assert_eq!(figures.curve_ms[..3], [1.0, 250.0, 500.0]);
        assert!(figures.curve_ms[10].is_nan());
    }

    #[test]
    fn few_requests_have_no_tail() {
        let figures = Figures::new(vec![7000.0], 1.0);
        assert_eq!((figures.p50_ms, figures.max_ms), (7.0, 7.0));
        assert!(figures.p99_ms.is_nan() && figures.p999_ms.is_nan());
        let none = Figures::new(Vec::new(), 1.0);
        assert!(none.p50_ms.is_nan() && none.max_ms.is_nan());
        let hundred = Figures::new((1..=100).map(|us| us as f32 * 1000.0).collect(), 1.0);
        assert_eq!(hundred.p99_ms, 99.0);
        assert!(hundred.p999_ms.is_nan());
    }

    fn row(rates: [&[f64]; 2]) -> Row {
        let series = |name: &str, rates: &[f64]| Series {
            name: name.into(),
            rounds: rates.iter().map(|per_s| Figures { per_s: *per_s, ..Figures::default() }).collect(),
            failure: None,
        };
        let targets = vec![series("a", rates[0]), series("b", rates[1])];
        Row { scenario: String::new(), headline: Headline::Rate, targets }
    }

    #[test]
    fn ratios_are_of_rounds_not_of_medians() {
        let row = row([&[1.0, 10.0, 4.0], &[2.0, 10.0, 12.0]]);
        assert_eq!(row.ratio(1, |figures| figures.per_s), Spread { median: 2.0, low: 1.0, high: 3.0 });
        assert_eq!(row.ratio(0, |figures| figures.per_s), Spread { median: 1.0, low: 1.0, high: 1.0 });
        assert_eq!(row.spread(1, |figures| figures.per_s), Spread { median: 10.0, low: 2.0, high: 12.0 });
        assert!(!row.ratio(1, |figures| known(figures.cpu_us)).is_known());
    }

    #[test]
    fn the_first_target_that_was_measured_is_the_base() {
        let row = row([&[], &[2.0, 4.0]]);
        assert_eq!(row.base(), Some(1));
        assert_eq!(row.ratio(1, |figures| figures.per_s).median, 1.0);
        assert!(!row.ratio(0, |figures| figures.per_s).is_known());
    }

    #[test]
    fn an_even_number_of_rounds_has_a_median_between() {
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]), Spread { median: 2.5, low: 1.0, high: 4.0 });
        assert!(!Spread::of(vec![f64::NAN, 3.0]).is_known());
        assert!(!Spread::of(vec![3.0, f64::INFINITY]).is_known());
        assert!(!Spread::of(Vec::new()).is_known());
    }
}
