//! A load generator for anything that speaks etcd v3: several servers side by side, interleaved round by round.
//!
//! `load --start etcd=PATH --start holdfast=PATH [--scenarios create,get] [--clients 1,8,64] [--rounds 6] [--seconds 3]`
//!
//! `--help` lists everything. One run measures every scenario on every target in the same minutes, in alternating order,
//! because machines are shared and noisy: what counts is the ratio to the first target within a round, and its range over
//! the rounds. Latency is measured by the client; in open loop (`--rate`) from the moment a request was due, so that a
//! server that stops is not forgiven the requests that it kept from being sent.

mod arguments;
mod client;
mod fanout;
mod figures;
mod html;
mod report;
mod round;
mod scenario;
mod start;
mod target;

use arguments::Arguments;
use figures::{Figures, Row};
use scenario::{Kind, Scenario};
use std::process::ExitCode;
use target::Target;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(text) => {
            eprintln!("load: {text}");
            return ExitCode::FAILURE;
        }
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    match runtime.block_on(run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut targets = target::open_all(arguments)?;
    let about = report::about(arguments, &mut targets).await?;
    print!("{about}");
    let mut rows = Vec::new();
    for scenario in &arguments.scenarios {
        let row = measure(arguments, scenario, &mut targets).await?;
        print!("{}", report::lines(&row));
        rows.push(row);
    }
    println!("\n{}", report::table(&rows));
    if let Some(path) = &arguments.json {
        std::fs::write(path, report::json(&about, &rows)?)?;
        println!("figures: {}", path.display());
    }
    if let Some(path) = &arguments.html {
        std::fs::write(path, html::page(&about, &rows))?;
        println!("page: {}", path.display());
    }
    Ok(())
}

/// All rounds of one scenario, on all targets in turn.
async fn measure(arguments: &Arguments, scenario: &Scenario, targets: &mut [Target]) -> Result<Row, Failure> {
    let mut row = Row::new(scenario.name(), targets.iter().map(|target| target.name.clone()).collect());
    for target in targets.iter_mut() {
        client::prepare(target, scenario, arguments).await?;
    }
    for number in 0..arguments.rounds {
        let order: Vec<usize> = match number % 2 {
            0 => (0..targets.len()).collect(),
            _ => (0..targets.len()).rev().collect(),
        };
        for at in order {
            eprint!(
                "\r{:<40} round {} of {}: {:<16}",
                scenario.name(),
                number + 1,
                arguments.rounds,
                targets[at].name
            );
            let figures: Figures = match scenario.kind {
                Kind::Fanout => fanout::round(&mut targets[at], scenario, arguments).await?,
                Kind::Start => start::round(&mut targets[at], scenario).await?,
                _ => round::round(&mut targets[at], scenario, arguments, number).await?,
            };
            row.rounds[at].push(figures);
        }
    }
    eprint!("\r{:<80}\r", "");
    Ok(row)
}
