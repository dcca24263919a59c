//! The table.

use crate::Trial;
use crate::attacks::Attack;
use crate::load::{Latencies, RATE_PER_S, Seen};

/// How many times its p99 before an attack a neighbour's may be during it.
const RATIO_MAX: f64 = 2.0;

/// Requests of a phase that the host has to leave alone, so that there is a p99 to speak of, full and short: half of those
/// before an attack.
const COUNTED_MIN: [usize; 2] = [750, 75];

/// Failures that are told one by one.
const FAULTS_SHOWN: usize = 5;

/// One attack's result.
pub struct Row<'a> {
    attack: &'a Attack,
    is_short: bool,
    trial: Trial,
    /// What neighbours on another server saw of the same attack.
    control: Option<Seen>,
    /// Everything that must not be.
    faults: Vec<String>,
}

/// What is said of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    /// A p99 was beyond its bound.
    Missed,
    /// The host was busy.
    Unclear,
    /// Something was that must not be.
    Failed,
}

/// What stands above the table.
pub fn head(is_short: bool, has_control: bool) -> String {
    let mode = if is_short { "short" } else { "full" };
    let (control, line) = if has_control { (" on another server |", "---|") } else { ("", "") };
    let columns = format!(
        "| attack | scale | put p50/p99 before → during → after, ms | get p99, ms | ratio put/get |{control} counted \
         | added MiB (bound) | attacker was told | |\n|---|---|---|---|---|{line}---|---|---|---|"
    );
    format!("neighbours: {RATE_PER_S} puts and gets in a second, open loop; {mode} attacks\n\n{columns}")
}

impl Row<'_> {
    pub fn new(attack: &Attack, is_short: bool, mut trial: Trial, control: Option<Seen>) -> Row<'_> {
        let faults = std::mem::take(&mut trial.faults);
        let mut row = Row { attack, is_short, trial, control, faults };
        let (added_mib, bound_mib) = (row.added_mib(), row.bound_mib());
        if added_mib > bound_mib {
            row.faults.push(format!("{added_mib} MiB of memory, {bound_mib} are the bound"));
        }
        let told = row.trial.attacker.told();
        for (told, count) in &told {
            if !attack.expected.iter().any(|expected| told.starts_with(expected)) {
                row.faults.push(format!("the attacker was told {count} times: {told}"));
            }
        }
        let is_any_told = |required: &&str| told.keys().any(|told| told.starts_with(required));
        if !is_short && !attack.required.is_empty() && !attack.required.iter().any(is_any_told) {
            row.faults.push(format!("the attack was none: nobody was told {}", attack.required.join(" or ")));
        }
        let failures = &row.trial.seen.failures;
        if !failures.is_empty() {
            row.faults.push(format!("{} requests of neighbours failed", failures.len()));
            row.faults.extend(failures.iter().take(FAULTS_SHOWN).cloned());
        }
        row
    }

    fn added_mib(&self) -> u64 {
        self.trial.peak.peak_mib.saturating_sub(self.trial.before.memory_mib)
    }

    fn bound_mib(&self) -> u64 {
        self.attack.memory_mib[usize::from(self.is_short)]
    }

    /// Whether the host has left enough alone to say anything.
    fn is_clear(&self) -> bool {
        let min = COUNTED_MIN[usize::from(self.is_short)];
        let is_clear = |seen: &Seen| seen.counted[..2].iter().all(|counted| *counted >= min);
        is_clear(&self.trial.seen) && self.control.as_ref().is_none_or(is_clear)
    }

    /// Whether a neighbour's p99 was more than twice what it was.
    fn is_beyond(&self) -> bool {
        ratios(&self.trial.seen).into_iter().any(is_above_max)
    }

    /// Whether it was, and more than twice what the same attack on another server does to it too.
    fn is_missed(&self) -> bool {
        let Some(control) = &self.control else { return self.is_beyond() };
        let (to_before, to_control) = (ratios(&self.trial.seen), to_control(&self.trial.seen, control));
        to_before
            .into_iter()
            .zip(to_control)
            .any(|(before, control)| is_above_max(before) && is_above_max(control))
    }

    pub fn verdict(&self) -> Verdict {
        match self.faults.is_empty() {
            false => Verdict::Failed,
            true if !self.is_clear() => Verdict::Unclear,
            true if self.is_missed() => Verdict::Missed,
            true => Verdict::Ok,
        }
    }

    pub fn line(&self) -> String {
        let gets = [0, 1, 2].map(|phase| format!("{:.1}", self.trial.seen.gets[phase].at_ms(0.99)));
        let [put_ratio, get_ratio] = ratios(&self.trial.seen);
        let verdict = match self.verdict() {
            Verdict::Failed => format!("FAILED: {}", self.faults.join("; ")),
            Verdict::Unclear => "unclear: the host was busy".to_owned(),
            Verdict::Missed => "MISSED".to_owned(),
            Verdict::Ok if self.is_beyond() => "ok (the machine's)".to_owned(),
            Verdict::Ok => "ok".to_owned(),
        };
        let mut line = format!(
            "| {} | {} | {} | {} | {put_ratio:.1}/{get_ratio:.1} |{} {} | {} ({}) | {} | {verdict} |",
            self.attack.name,
            self.attack.scale[usize::from(self.is_short)],
            puts(&self.trial.seen),
            gets.join(" → "),
            self.control.as_ref().map_or(String::new(), |control| in_control(&self.trial.seen, control)),
            counted(&self.trial.seen),
            self.added_mib(),
            self.bound_mib(),
            self.told(),
        );
        if let Some(note) = self.trial.attacker.notes().last() {
            line.push_str(&format!(" {note}"));
        }
        line
    }

    /// What the attacker was told, and how many answers that were in a second.
    fn told(&self) -> String {
        let told = self.trial.attacker.told();
        let count: u64 = told.values().sum();
        let texts: Vec<String> = told.iter().map(|(told, count)| format!("{count} × {told}")).collect();
        let rate = count as f64 / self.trial.took.as_secs_f64();
        if count == 0 { String::new() } else { format!("{}; {rate:.0}/s", texts.join(", ")) }
    }
}

fn puts(seen: &Seen) -> String {
    let both = |phase: &Latencies| format!("{:.1}/{:.1}", phase.at_ms(0.5), phase.at_ms(0.99));
    seen.puts.each_ref().map(both).join(" → ")
}

/// Requests before and during an attack that the host left alone, in percent.
fn counted(seen: &Seen) -> String {
    let share = |phase: usize| seen.counted[phase] * 100 / seen.requests[phase].max(1);
    format!("{}, {} %", share(0), share(1))
}

/// During to before, of puts and of gets.
fn ratios(seen: &Seen) -> [f64; 2] {
    let ratio = |phases: &[Latencies; 3]| phases[1].at_ms(0.99) / phases[0].at_ms(0.99);
    [ratio(&seen.puts), ratio(&seen.gets)]
}

/// During an attack on their own server to during the same on another one, of puts and of gets.
fn to_control(seen: &Seen, control: &Seen) -> [f64; 2] {
    let ratio = |own: &[Latencies; 3], other: &[Latencies; 3]| own[1].at_ms(0.99) / other[1].at_ms(0.99);
    [ratio(&seen.puts, &control.puts), ratio(&seen.gets, &control.gets)]
}

fn is_above_max(ratio: f64) -> bool {
    ratio.is_nan() || ratio > RATIO_MAX
}

/// The column of `--control`: what it was and became there, and how many times that it is here.
fn in_control(seen: &Seen, control: &Seen) -> String {
    let p99 =
        |phases: &[Latencies; 3]| [0, 1].map(|phase| format!("{:.1}", phases[phase].at_ms(0.99))).join(" → ");
    let [put_ratio, get_ratio] = to_control(seen, control);
    format!(" {}, {}; here {put_ratio:.1}/{get_ratio:.1} times |", p99(&control.puts), p99(&control.gets))
}
