//! The table.

use crate::attacker::Attacker;
use crate::attacks::Attack;
use crate::load::{Latencies, RATE_PER_S, Seen};
use holdfast_tests::Usage;
use std::collections::BTreeMap;

/// How many times its p99 before an attack a neighbour's may be during it.
const RATIO_MAX: f64 = 2.0;

/// Failures that are told one by one.
const FAULTS_SHOWN: usize = 5;

/// One attack's result.
pub struct Row<'a> {
    attack: &'a Attack,
    is_short: bool,
    seen: Seen,
    added_mib: u64,
    told: BTreeMap<String, u64>,
    notes: Vec<String>,
    /// Everything that must not be.
    pub faults: Vec<String>,
}

/// What stands above the table.
pub fn head(is_short: bool) -> String {
    let mode = if is_short { "short" } else { "full" };
    let columns = "| attack | scale | put p50/p99 before → during → after, ms | get p99, ms | ratio put/get | added MiB \
                   (bound) | attacker was told | |\n|---|---|---|---|---|---|---|---|";
    format!("neighbours: {RATE_PER_S} puts and gets in a second, open loop; {mode} attacks\n\n{columns}")
}

impl Row<'_> {
    pub fn new<'a>(
        attack: &'a Attack,
        attacker: &Attacker,
        seen: Seen,
        before: Usage,
        peak: Usage,
    ) -> Row<'a> {
        let is_short = attacker.is_short;
        let added_mib = peak.peak_mib.saturating_sub(before.memory_mib);
        let mut row = Row {
            attack,
            is_short,
            added_mib,
            told: attacker.told(),
            notes: attacker.notes(),
            faults: Vec::new(),
            seen,
        };
        let bound_mib = row.bound_mib();
        if added_mib > bound_mib {
            row.faults.push(format!("{added_mib} MiB of memory, {bound_mib} are the bound"));
        }
        for (told, count) in &row.told {
            if !attack.expected.iter().any(|expected| told.starts_with(expected)) {
                row.faults.push(format!("the attacker was told {count} times: {told}"));
            }
        }
        let failures = &row.seen.failures;
        if !failures.is_empty() {
            row.faults.push(format!("{} requests of neighbours failed", failures.len()));
            row.faults.extend(failures.iter().take(FAULTS_SHOWN).cloned());
        }
        row
    }

    fn bound_mib(&self) -> u64 {
        self.attack.memory_mib[usize::from(self.is_short)]
    }

    fn ratios(&self) -> [f64; 2] {
        let ratio = |phases: &[Latencies; 3]| phases[1].at_ms(0.99) / phases[0].at_ms(0.99);
        [ratio(&self.seen.puts), ratio(&self.seen.gets)]
    }

    /// Whether a neighbour's p99 was more than twice what it was.
    pub fn is_missed(&self) -> bool {
        self.ratios().iter().any(|ratio| ratio.is_nan() || *ratio > RATIO_MAX)
    }

    pub fn line(&self, is_short: bool) -> String {
        let puts = &self.seen.puts;
        let both = |phase: usize| format!("{:.1}/{:.1}", puts[phase].at_ms(0.5), puts[phase].at_ms(0.99));
        let gets = [0, 1, 2].map(|phase| format!("{:.1}", self.seen.gets[phase].at_ms(0.99)));
        let [put_ratio, get_ratio] = self.ratios();
        let told: Vec<String> = self.told.iter().map(|(told, count)| format!("{count} × {told}")).collect();
        let verdict = match (self.faults.is_empty(), self.is_missed()) {
            (false, _) => format!("FAILED: {}", self.faults.join("; ")),
            (true, true) => "MISSED".to_owned(),
            (true, false) => "ok".to_owned(),
        };
        let mut line = format!(
            "| {} | {} | {} → {} → {} | {} | {put_ratio:.1}/{get_ratio:.1} | {} ({}) | {} | {verdict} |",
            self.attack.name,
            self.attack.scale[usize::from(is_short)],
            both(0),
            both(1),
            both(2),
            gets.join(" → "),
            self.added_mib,
            self.bound_mib(),
            told.join(", "),
        );
        if let Some(note) = self.notes.last() {
            line.push_str(&format!(" {note}"));
        }
        line
    }
}
