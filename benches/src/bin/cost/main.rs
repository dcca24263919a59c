//! What a put, a get, a page and a watch event cost, in instructions, compared with recorded figures: a change that makes one
//! of them half as dear again fails.
//!
//! `cost [--record] [--server PATH] [--figures PATH]`
//!
//! Instructions that a program executes hardly depend on the machine's speed or on who else uses it, so a small number of
//! requests is enough and a busy machine is no excuse. They say nothing of the disk, of waiting and of caches: times are
//! what benches and the load generator are for.
//!
//! Two subjects, each under valgrind's callgrind:
//! - *engine*: the store alone in this program, its core on the caller's thread (`Store`, no server);
//! - *server*: the server with its default flags, asked over the wire by a client that is not counted.
//!
//! Each run does the same start, the same warm-up of everything, and then some requests of one kind or none at all. What the
//! requests add to the run without any, divided by their number, is what one costs: start and stop cancel out, and all
//! threads are counted, so that work cannot hide on another one. A watch event is what a put that many watchers are told of
//! costs more than one that no watcher sees, divided by the watchers.
//!
//! Figures are of release builds. They lie in `benches/cost.json`, for each kind of processor, and are recorded anew with
//! `--record` when a change makes something dearer for a good reason, or a good deal cheaper.
//!
//! Deliberately missing: a bound on what happens seldom (flushes, compactions, starts), and on memory.

mod callgrind;
mod engine;
mod figures;
mod server;
mod work;

use figures::{Figures, judge};
use holdfast_benches::machine;
use std::path::PathBuf;
use std::process::ExitCode;
use work::Operation;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How this program is called when it is the engine that is counted.
const ENGINE: &str = "engine";

struct Arguments {
    record: bool,
    server: PathBuf,
    figures: PathBuf,
}

fn parse(mut rest: impl Iterator<Item = String>) -> Result<Arguments, Failure> {
    let mut arguments = Arguments {
        record: false,
        // Built beside this program.
        server: std::env::current_exe()?.with_file_name("etcd-shim"),
        figures: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("cost.json"),
    };
    while let Some(argument) = rest.next() {
        let mut path = || rest.next().map(PathBuf::from).ok_or(format!("{argument} needs a path"));
        match argument.as_str() {
            "--record" => arguments.record = true,
            "--server" => arguments.server = path()?,
            "--figures" => arguments.figures = path()?,
            other => return Err(format!("unknown argument {other:?}; --record, --server, --figures").into()),
        }
    }
    if !arguments.server.is_file() {
        return Err(
            format!("{}: no such program; build it, or give --server", arguments.server.display()).into()
        );
    }
    Ok(arguments)
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    let done = match arguments.next_if(|first| first == ENGINE) {
        Some(_) => {
            Operation::named(&arguments.next().unwrap_or_default()).and_then(engine::run).map(|()| true)
        }
        None => parse(arguments).and_then(|arguments| check(&arguments)),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cost: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check(arguments: &Arguments) -> Result<bool, Failure> {
    if cfg!(debug_assertions) {
        return Err("figures are of release builds: cargo build --release".into());
    }
    println!("{}; {}\n{}", machine::versions(), callgrind::version()?, machine::describe());
    let directory = callgrind::directory()?;
    let mut measured = Figures::default();
    let engine = |operation| callgrind::engine(&directory, operation);
    measured.add("engine", &measure(engine)?);
    let server = |operation| server::instructions(&arguments.server, &directory, operation);
    measured.add("server", &measure(server)?);
    if arguments.record {
        measured.record(&arguments.figures)?;
        println!("{measured}recorded in {}", arguments.figures.display());
        return Ok(true);
    }
    let (lines, passed) = judge(&Figures::recorded(&arguments.figures)?, &measured);
    println!("{lines}");
    if !passed {
        println!(
            "Something costs half as much again as it did. Where it goes: callgrind_annotate --inclusive=yes FILE, files in {}; \
             compare with those of the commit before. If it is worth it, record it: make cost ARGS=--record",
            directory.display()
        );
    }
    Ok(passed)
}

/// Instructions for one of each operation.
fn measure(
    mut run: impl FnMut(Option<Operation>) -> Result<u64, Failure>,
) -> Result<Vec<(Operation, u64)>, Failure> {
    let nothing = run(None)?;
    let mut costs = Vec::new();
    let mut put = 0;
    for operation in Operation::ALL {
        let all = run(Some(operation))?;
        if operation == Operation::Put {
            put = all;
        }
        // A put that is watched does what a put does, and tells the watchers.
        let without = if operation == Operation::WatchedPut { put } else { nothing };
        costs.push((operation, all.saturating_sub(without) / operation.divisor()));
    }
    Ok(costs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_asked_by_the_names_that_are_counted() {
        engine::run(Operation::named("page-of-500").expect("its name")).expect("full pages");
        engine::run(Operation::named(work::NOTHING).expect("no operation")).expect("a warm-up of everything");
        assert!(Operation::named("pages").is_err());
    }

    #[test]
    fn what_varies_with_every_start_cancels_out() {
        let run = |operation| {
            Ok(match operation {
                None => 1_000,
                Some(Operation::WatchedPut) => 1_000 + 300 * 50 + 300 * work::WATCHERS * 7,
                Some(Operation::Put) => 1_000 + 300 * 50,
                Some(_) => 1_000,
            })
        };
        let costs = measure(run).expect("every run passes");
        let expected = [50, 0, 0, 7];
        assert!(costs.iter().map(|(_, cost)| *cost).eq(expected), "{costs:?}");
    }
}
