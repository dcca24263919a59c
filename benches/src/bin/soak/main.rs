//! A mixed load at an even rate for as long as asked, and whether everything stays level: memory, disk, open files,
//! threads, latency, through compactions, expiring leases and clients that come and go.
//!
//! `soak [--minutes 10] [--rate 600] [--every-s 10] [--latency judged|shown] [--program PATH]`
//!
//! The load is open loop: a request is due at its time whether the ones before it were answered or not, and its latency
//! counts from then. The set of living keys stays about the same, so whatever grows, grows by itself. At the end every
//! watcher must have been told of exactly as many changes as were acknowledged.
//!
//! Ends with 1 when something failed, was lost, or grew.

mod load;
mod traffic;
mod verdict;

use holdfast_tests::{Setup, Usage, disk_bytes};
use load::{Counts, Load};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use verdict::{Latency, Row, judge};

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Arguments {
    seconds: u64,
    rate: u64,
    every: Duration,
    latency: Latency,
    program: PathBuf,
}

fn parse() -> Result<Arguments, String> {
    // Built beside this program, if both were built the same way.
    let beside = std::env::current_exe().map_err(|error| error.to_string())?.with_file_name("etcd-shim");
    let mut arguments = Arguments {
        seconds: 600,
        rate: 600,
        every: Duration::from_secs(10),
        latency: Latency::Judged,
        program: beside,
    };
    let mut rest = std::env::args().skip(1);
    while let Some(argument) = rest.next() {
        let value = rest.next().ok_or(format!("{argument} needs a value"))?;
        let number = || value.parse::<f64>().map_err(|_| format!("{argument}: {value:?} is not a number"));
        match argument.as_str() {
            "--minutes" => arguments.seconds = (number()? * 60.0) as u64,
            "--rate" => arguments.rate = number()? as u64,
            "--every-s" => arguments.every = Duration::from_secs_f64(number()?),
            "--latency" => {
                arguments.latency = match value.as_str() {
                    "judged" => Latency::Judged,
                    "shown" => Latency::Shown,
                    _ => return Err(format!("--latency is judged or shown, not {value:?}")),
                }
            }
            "--program" => arguments.program = value.into(),
            other => {
                return Err(format!(
                    "unknown argument {other:?}; --minutes, --rate, --every-s, --latency, --program"
                ));
            }
        }
    }
    if arguments.rate == 0 || arguments.every.is_zero() {
        return Err("--rate and --every-s must be above 0".into());
    }
    Ok(arguments)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Failure> {
    let arguments = parse()?;
    if !arguments.program.is_file() {
        return Err(
            format!("{}: no such program; build it, or give --program", arguments.program.display()).into()
        );
    }
    let server = Setup::program(arguments.program.clone()).start();
    println!(
        "{} s at {} requests/s on {}, a sample every {} s",
        arguments.seconds,
        arguments.rate,
        server.url(),
        arguments.every.as_secs_f64()
    );
    let load = Load::start(server.url(), arguments.rate, arguments.every).await?;
    println!("{}", Row::HEADER);
    let begun = Instant::now();
    let (mut rows, mut before) = (Vec::new(), Counts::default());
    while begun.elapsed().as_secs() < arguments.seconds {
        tokio::time::sleep(arguments.every).await;
        let counts = load.counts();
        let row = Row::new(
            begun.elapsed(),
            Usage::of(server.process_id()),
            disk_bytes(&server.data_dir()),
            load.take_latencies(),
            &before,
            &counts,
        );
        println!("{row}");
        rows.push(row);
        before = counts;
        if let Some(failure) = load.failure() {
            return Err(format!("{failure}\n{}", server.log()).into());
        }
    }
    let checked = load.finish().await?;
    println!("{checked}");
    Ok(if judge(&rows, arguments.latency) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
