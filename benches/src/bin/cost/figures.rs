//! Recorded figures, and the verdict on new ones.

use crate::Failure;
use crate::work::Operation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};
use std::path::Path;

/// Above this an operation has become too dear. Two runs of the same program differ by a few percent, other processors and
/// compilers by some more.
const DEARER_MAX: f64 = 1.5;
/// Below this the record no longer guards anything.
const CHEAPER_MIN: f64 = 0.67;

/// Instructions for one of each, named as in `engine/put`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Figures(BTreeMap<String, u64>);

/// The file, with the figures of each kind of processor.
#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    what: String,
    figures: BTreeMap<String, Figures>,
}

impl Figures {
    /// Takes up what was measured of one subject.
    pub fn add(&mut self, subject: &str, costs: &[(Operation, u64)]) {
        let named = costs.iter().map(|(operation, cost)| (format!("{subject}/{}", operation.name()), *cost));
        self.0.extend(named);
    }

    /// Those of this kind of processor.
    pub fn recorded(path: &Path) -> Result<Figures, Failure> {
        let architecture = std::env::consts::ARCH;
        let found = read(path)?.figures.remove(architecture);
        found
            .ok_or(format!("{}: nothing is recorded for {architecture}: use --record", path.display()).into())
    }

    /// Replaces those of this kind of processor.
    pub fn record(&self, path: &Path) -> Result<(), Failure> {
        let mut file = if path.exists() { read(path)? } else { File::default() };
        file.what = "Instructions of user space for one operation, release build, counted by callgrind. Recorded by: make \
                     cost ARGS=--record"
            .into();
        file.figures.insert(std::env::consts::ARCH.into(), self.clone());
        std::fs::write(path, serde_json::to_string_pretty(&file)? + "\n")?;
        Ok(())
    }
}

fn read(path: &Path) -> Result<File, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?)
}

impl Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, cost)| writeln!(f, "{name:<20} {cost:>10} instructions"))
    }
}

/// A line for each figure, and whether none is too dear and none is missing.
pub fn judge(recorded: &Figures, measured: &Figures) -> (String, bool) {
    let mut text = format!("{:<20} {:>10} {:>10} {:>6}\n", "instructions", "recorded", "measured", "ratio");
    let mut passed = true;
    for (name, cost) in &measured.0 {
        let Some(before) = recorded.0.get(name) else {
            let _ = writeln!(text, "{name:<20} {:>10} {cost:>10} {:>6}  NOT RECORDED", "-", "-");
            passed = false;
            continue;
        };
        let ratio = *cost as f64 / (*before).max(1) as f64;
        let verdict = if ratio > DEARER_MAX {
            passed = false;
            "  TOO DEAR"
        } else if ratio < CHEAPER_MIN {
            "  much cheaper: record it, or the next change may take it back unnoticed"
        } else {
            ""
        };
        let _ = writeln!(text, "{name:<20} {before:>10} {cost:>10} {ratio:>6.2}{verdict}");
    }
    for name in recorded.0.keys().filter(|name| !measured.0.contains_key(*name)) {
        let _ = writeln!(text, "{name:<20} is recorded and was not measured");
        passed = false;
    }
    (text, passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(of: &[(&str, u64)]) -> Figures {
        Figures(of.iter().map(|(name, cost)| (name.to_string(), *cost)).collect())
    }

    #[test]
    fn half_as_dear_again_fails_and_names_the_operation() {
        let recorded = figures(&[("engine/get", 1000), ("engine/put", 1000)]);
        let (_, passed) = judge(&recorded, &figures(&[("engine/get", 1000), ("engine/put", 1500)]));
        assert!(passed);
        let (text, passed) = judge(&recorded, &figures(&[("engine/get", 1000), ("engine/put", 1510)]));
        assert!(!passed);
        let dear: Vec<&str> = text.lines().filter(|line| line.ends_with("TOO DEAR")).collect();
        assert_eq!(dear, ["engine/put                 1000       1510   1.51  TOO DEAR"]);
    }

    #[test]
    fn what_became_cheap_is_told_and_passes() {
        let (text, passed) = judge(&figures(&[("engine/put", 1000)]), &figures(&[("engine/put", 600)]));
        assert!(passed && text.contains("0.60  much cheaper"), "{text}");
    }

    #[test]
    fn what_is_on_one_side_only_fails() {
        assert!(!judge(&figures(&[]), &figures(&[("engine/put", 1)])).1);
        assert!(!judge(&figures(&[("engine/put", 1)]), &figures(&[])).1);
    }

    #[test]
    fn records_come_back_and_those_of_other_processors_stay() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("cost.json");
        assert!(Figures::recorded(&path).is_err());
        std::fs::write(&path, r#"{"what": "", "figures": {"abacus": {"engine/put": 7}}}"#).expect("written");
        assert!(Figures::recorded(&path).unwrap_err().to_string().contains("nothing is recorded"));
        let new = figures(&[("engine/put", 8)]);
        new.record(&path).expect("recorded");
        assert_eq!(Figures::recorded(&path).expect("there"), new);
        assert_eq!(read(&path).expect("a file").figures["abacus"], figures(&[("engine/put", 7)]));
    }
}
