//! Prometheus' text form, version 0.0.4.
//!
//! Written here because the metric crates either insist on OpenMetrics, whose rules forbid names that etcd
//! has (counters without `_total`, gauges with it), or on a registry of live objects, while most of our
//! figures are read from the store at the moment of the scrape.

use std::fmt::Write;

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page of metrics that is being written.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// Labels of one sample: names and values.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    /// A counter without labels.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, help, "counter").sample(&[], value as f64);
    }

    /// A gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, help, "gauge").sample(&[], value);
    }

    /// A family of several samples; write them before the next family begins.
    pub fn family<'a>(&'a mut self, name: &'a str, help: &str, kind: &str) -> Family<'a> {
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { text: &mut self.text, name }
    }

    /// The page.
    pub fn into_text(self) -> String {
        self.text
    }
}

/// One family.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
}

impl Family<'_> {
    /// One sample.
    pub fn sample(&mut self, labels: Labels<'_>, value: f64) {
        self.line("", labels, None, value);
    }

    /// A histogram: cumulative counts by upper bound in ascending order, without the infinite one.
    pub fn histogram(&mut self, labels: Labels<'_>, buckets: &[(f64, u64)], count: u64, sum: f64) {
        for (bound, below) in buckets {
            self.line("_bucket", labels, Some(&number(*bound)), *below as f64);
        }
        self.line("_bucket", labels, Some("+Inf"), count as f64);
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, count as f64);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: f64) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        let labels = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let mut opening = '{';
        for (name, value) in labels {
            let _ = write!(self.text, "{opening}{name}=\"");
            escape(self.text, value);
            self.text.push('"');
            opening = ',';
        }
        if opening == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {}", number(value));
    }
}

fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_prometheus() {
        let mut page = Exposition::default();
        page.counter("a_total", "Counts.", 3);
        page.gauge("b", "Is.", 0.5);
        page.family("c", "Labelled.", "gauge").sample(&[("x", "a\"b\\c\nd"), ("y", "")], f64::INFINITY);
        page.family("d_seconds", "Took.", "histogram").histogram(
            &[("m", "n")],
            &[(0.001, 1), (0.25, 4)],
            5,
            1.25,
        );
        assert_eq!(
            page.into_text(),
            "# HELP a_total Counts.\n# TYPE a_total counter\na_total 3\n\
             # HELP b Is.\n# TYPE b gauge\nb 0.5\n\
             # HELP c Labelled.\n# TYPE c gauge\nc{x=\"a\\\"b\\\\c\\nd\",y=\"\"} +Inf\n\
             # HELP d_seconds Took.\n# TYPE d_seconds histogram\n\
             d_seconds_bucket{m=\"n\",le=\"0.001\"} 1\nd_seconds_bucket{m=\"n\",le=\"0.25\"} 4\n\
             d_seconds_bucket{m=\"n\",le=\"+Inf\"} 5\nd_seconds_sum{m=\"n\"} 1.25\nd_seconds_count{m=\"n\"} 5\n"
        );
    }
}
