//! Figures of rounds, and what becomes of them.

use serde::Serialize;

/// What one round on one target gave.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    pub per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
    /// Of the server, for each request or event; none if its process is not ours.
    pub cpu_us: Option<f64>,
    pub rss_mib: Option<f64>,
    pub disk_mib: Option<f64>,
    /// Of the server, for each request.
    pub written_bytes: Option<f64>,
}

impl Figures {
    /// From latencies in microseconds.
    pub fn new(mut latencies_us: Vec<f32>, seconds: f64) -> Self {
        latencies_us.sort_by(f32::total_cmp);
        let at = |share: f64| {
            let place = (latencies_us.len().saturating_sub(1) as f64 * share) as usize;
            latencies_us.get(place).map_or(f64::NAN, |us| f64::from(*us) / 1e3)
        };
        Self {
            per_s: latencies_us.len() as f64 / seconds,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: at(1.0),
            ..Self::default()
        }
    }
}

/// One scenario on all targets.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub scenario: String,
    pub targets: Vec<String>,
    /// By target, then by round.
    pub rounds: Vec<Vec<Figures>>,
}

/// A ratio to the first target: its median over the rounds, and its range.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratio {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Row {
    pub fn new(scenario: String, targets: Vec<String>) -> Self {
        let rounds = vec![Vec::new(); targets.len()];
        Self { scenario, targets, rounds }
    }

    pub fn median(&self, target: usize, figure: impl Fn(&Figures) -> f64) -> f64 {
        median(self.rounds[target].iter().map(figure).collect())
    }

    /// Round by round, so that what the machine did to all targets at the same time cancels out.
    pub fn ratio(&self, target: usize, figure: impl Fn(&Figures) -> f64) -> Ratio {
        let ratios: Vec<f64> = self.rounds[target]
            .iter()
            .zip(&self.rounds[0])
            .map(|(own, first)| figure(own) / figure(first))
            .collect();
        let low = ratios.iter().copied().fold(f64::MAX, f64::min);
        let high = ratios.iter().copied().fold(f64::MIN, f64::max);
        Ratio { median: median(ratios), low, high }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_become_percentiles() {
        let figures = Figures::new((1..=1000).map(|us| us as f32 * 1000.0).collect(), 2.0);
        assert_eq!((figures.per_s, figures.p50_ms, figures.max_ms), (500.0, 500.0, 1000.0));
        assert_eq!((figures.p99_ms, figures.p999_ms), (990.0, 999.0));
    }

    #[test]
    fn ratios_are_of_rounds_not_of_medians() {
        let figures = |per_s| Figures { per_s, ..Figures::default() };
        let row = Row {
            scenario: String::new(),
            targets: vec!["a".into(), "b".into()],
            rounds: vec![
                vec![figures(1.0), figures(10.0), figures(4.0)],
                vec![figures(2.0), figures(10.0), figures(12.0)],
            ],
        };
        let ratio = row.ratio(1, |figures| figures.per_s);
        assert_eq!((ratio.median, ratio.low, ratio.high), (2.0, 1.0, 3.0));
    }
}
