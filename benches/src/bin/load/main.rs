//! A load generator for anything that speaks etcd v3: several servers side by side, interleaved round by round.
//!
//! `load --start etcd=PATH --start holdfast=PATH [--scenarios create,get] [--clients 1,8,64] [--rounds 6] [--seconds 3]`
//!
//! `--help` lists everything. One run measures every scenario on every target in the same minutes, in alternating order,
//! because machines are shared and noisy: what counts is the ratio to the first target within a round, and its range over
//! the rounds.
//!
//! Invariants:
//! - every target gets the same requests, with the same values, from the same number of connections;
//! - a server that is ours begins every scenario that writes with an empty directory, so that none carries what it was fast
//!   enough to take in the one before; all directories lie on one disk;
//! - each started server is seen to sync every write before it is measured (`durability`);
//! - a warm-up before each round is thrown away;
//! - latency is measured by the client; in open loop from the moment a request was due, so that a server that stops is not
//!   forgiven the requests that it kept from being sent (`schedule`);
//! - an answer that is wrong (a key that is missing, a guard that should have held, an event that did not come) ends the
//!   scenario for that target and is shown in place of its figures;
//! - a percentile is only shown where enough requests were measured to have one.
//!
//! Deliberately missing: clusters of several members, clients on other machines (the generator takes its share of the same
//! cores, the ceiling shows how much), and every statistic beyond medians and ranges: six rounds do not carry more.

mod arguments;
mod client;
mod device;
mod durability;
mod fanout;
mod figures;
mod fill;
mod html;
mod measured;
mod pauses;
mod plots;
mod report;
mod round;
mod scenario;
mod schedule;
mod start;
mod target;
mod watching;

use arguments::{Arguments, HELP};
use figures::{Figures, Row, Series};
use indicatif::{ProgressBar, ProgressStyle};
use scenario::{Kind, Scenario};
use std::process::ExitCode;
use std::time::Duration;
use target::Target;
use tokio::signal::unix::{SignalKind, signal};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What takes longer than this hangs: a million keys that are put one by one, on a slow store; and a round beyond its own
/// time, when it fills a server or waits for a call.
const PREPARE_LIMIT: Duration = Duration::from_secs(1800);
const ROUND_LIMIT: Duration = Duration::from_secs(600);

/// Redrawn while requests run: seldom enough to cost nothing.
const PROGRESS: &str = "{bar:30} {pos}/{len}  {elapsed} of about {duration}  {msg}";

fn main() -> ExitCode {
    let line: Vec<String> = std::env::args().skip(1).collect();
    if line.iter().any(|word| word == "--help" || word == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let arguments = match Arguments::parse(line.into_iter()) {
        Ok(arguments) => arguments,
        Err(text) => {
            eprintln!("load: {text}");
            return ExitCode::FAILURE;
        }
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    let done = runtime.block_on(async {
        tokio::select! {
            done = run(&arguments) => done,
            // Servers are ended and their directories removed on the way out.
            () = asked_to_end() => Err("interrupted".into()),
        }
    });
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failures) => {
            eprintln!("load: {failures} of the measurements failed; the tables say why");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// By ctrl-C, or by whoever started it.
async fn asked_to_end() {
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be waited for");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// Returns how many measurements failed. A call that a server does not offer is no failure.
async fn run(arguments: &Arguments) -> Result<usize, Failure> {
    let mut targets = target::open_all(arguments)?;
    let about = report::about(arguments, &mut targets).await?;
    about.iter().for_each(|line| println!("{line}"));
    let steps = arguments.scenarios.len() * targets.len() * arguments.rounds;
    let progress = ProgressBar::new(steps as u64);
    progress.set_style(ProgressStyle::with_template(PROGRESS)?);
    let (mut rows, mut failures) = (Vec::new(), 0);
    for (at, scenario) in arguments.scenarios.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| &arguments.scenarios[before]);
        let (row, failed) = measure(arguments, scenario, before, &mut targets, &progress).await;
        progress.suspend(|| print!("{}", report::lines(&row)));
        rows.push(row);
        failures += failed;
        // After each scenario: what was measured is not lost with what comes.
        if let Some(path) = &arguments.json {
            std::fs::write(path, report::json(&about, &rows)?)?;
        }
        if let Some(path) = &arguments.html {
            std::fs::write(path, html::page(&about, &rows))?;
        }
    }
    progress.finish_and_clear();
    println!("\n{}", report::table(&rows));
    for (what, path) in [("figures", &arguments.json), ("page", &arguments.html)] {
        path.iter().for_each(|path| println!("{what}: {}", path.display()));
    }
    Ok(failures)
}

/// All rounds of one scenario, on all targets in turn.
async fn measure(
    arguments: &Arguments,
    scenario: &Scenario,
    before: Option<&Scenario>,
    targets: &mut [Target],
    progress: &ProgressBar,
) -> (Row, usize) {
    let kind = scenario.kind;
    let mut row = Row { scenario: scenario.name(), headline: scenario.headline(), targets: Vec::new() };
    let mut measured = Vec::new();
    for target in targets.iter_mut() {
        let can = !target.is_ceiling
            || (kind.has_ceiling() && scenario.transport == holdfast_tests::Transport::Plain);
        if can {
            row.targets.push(Series { name: target.name.clone(), rounds: Vec::new(), failure: None });
            measured.push(target);
        } else {
            target.close();
            progress.inc(arguments.rounds as u64);
        }
    }
    for number in 0..=arguments.rounds {
        let mut order: Vec<usize> = (0..measured.len()).collect();
        if number % 2 == 0 {
            order.reverse();
        }
        for at in order {
            let (target, series) = (&mut *measured[at], &mut row.targets[at]);
            if series.failure.is_some() {
                progress.inc(1);
                continue;
            }
            let name = &target.name;
            let done = if number == 0 {
                progress.set_message(format!("{}: preparing {name}", row.scenario));
                within(PREPARE_LIMIT, prepare(target, scenario, before, arguments)).await.map(|()| None)
            } else {
                progress.set_message(format!("{}, round {number}: {name}", row.scenario));
                let limit = ROUND_LIMIT + Duration::from_secs_f64(arguments.seconds + arguments.warm_up_s);
                let figures = within(limit, one_round(target, scenario, arguments, number)).await;
                progress.inc(1);
                figures.map(Some)
            };
            match done {
                Ok(figures) => series.rounds.extend(figures),
                Err(error) => {
                    // Whatever state it is in: the next scenario begins afresh.
                    target.close();
                    series.rounds.clear();
                    series.failure = Some(failure_text(&error));
                }
            }
        }
    }
    let offered = |series: &&Series| series.failure.as_deref().is_some_and(|text| text != NOT_OFFERED);
    let failed = row.targets.iter().filter(offered).count();
    (row, failed)
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or_else(|_| Err(format!("not done after {limit:?}").into()))
}

const NOT_OFFERED: &str = "does not offer this";

fn failure_text(failure: &Failure) -> String {
    if fill::is_refusal(failure) { NOT_OFFERED.into() } else { format!("FAILED: {failure}") }
}

async fn prepare(
    target: &mut Target,
    scenario: &Scenario,
    before: Option<&Scenario>,
    arguments: &Arguments,
) -> Result<(), Failure> {
    let goes_on = target.node().is_some() && before.is_some_and(|before| scenario.goes_on_after(before));
    // fill begins each of its rounds with an empty server.
    if !goes_on && scenario.kind != Kind::Fill {
        target.refresh(scenario.transport).await?;
    }
    if scenario.kind == Kind::Fill && target.node().is_none() {
        target.refresh(scenario.transport).await?;
    }
    fill::prepare(target, scenario, arguments).await
}

async fn one_round(
    target: &mut Target,
    scenario: &Scenario,
    arguments: &Arguments,
    number: usize,
) -> Result<Figures, Failure> {
    match scenario.kind {
        Kind::Fanout => fanout::round(target, scenario, arguments, number).await,
        Kind::Fill => fill::round(target, scenario, arguments).await,
        Kind::Start => start::round(target, scenario).await,
        _ => round::round(target, scenario, arguments, number).await,
    }
}
