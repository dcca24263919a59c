//! What one client can do to the others: attacks on a real server, and what its neighbours see of them.
//!
//! `neighbours [--short] [--strict] [--control] [--server PROGRAM] [NAME...]`
//!
//! For each attack (or only those whose names contain a NAME) a fresh server is started. A few neighbours put and get at
//! a fixed rate; their latencies are measured before, during and after the attack, and the server's peak of memory
//! during it. Prints one table.
//!
//! Leaves with 1 when a neighbour's request failed, an attacker was told something it should not be, the server took
//! more memory than its bound, or anything of it stayed behind (threads, open files). A neighbour's p99 of more than
//! twice what it was is printed as MISSED, and is a failure with `--strict` alone: attacker, neighbours and server share
//! the machine, so that a time says little on a busy one.
//!
//! Real clients are on other machines and take no processor from the server. Here they do; therefore the attacker's
//! thread runs only when nobody else wants to (the rates that it still comes to are in the table), and that of the
//! neighbours, which measures, is woken at once. `--control` makes each attack a second time, on another server on the
//! same machine and disk: what the neighbours notice of that is the machine, not the server that they share with the
//! attacker. An attack is MISSED then only if their p99 was more than twice that, too; "the machine's" is one whose was
//! not.
//!
//! On a virtual machine, requests that were under way when the host ran somebody else's do not count, and each phase lasts
//! until the host has left it in peace for as long as it should (or for several times that); the share of requests that
//! count is in the table. Where too few do, nothing is said about times: "unclear".
//!
//! A p99 of ten seconds hangs on some thirty requests. So an attack that is MISSED is made again: what is said of it is what
//! two runs out of three say.
//!
//! `--short` is the same with small attacks and short phases, within a minute. The server is `etcd-shim` from beside
//! this program unless told otherwise; HOLDFAST_PROGRAM may name it too.

mod attacker;
mod attacks;
mod body;
mod host;
mod load;
mod report;

use attacker::Attacker;
use attacks::{ATTACKS, Attack};
use holdfast_tests::{Setup, Usage, forget_peak};
use host::Host;
use kvstore::runtime::Pace;
use load::{Neighbours, Phase, Seen};
use report::{Row, Verdict};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What the attack leaves must be gone within this.
const CLEANING_PATIENCE: Duration = Duration::from_secs(20);

/// Threads for reads and hashes rest for some seconds before they end.
const THREADS_SLACK: u64 = 4;

/// Runs of one attack.
const RUNS_MAX: usize = 3;

struct Arguments {
    is_short: bool,
    is_strict: bool,
    has_control: bool,
    server: PathBuf,
    names: Vec<String>,
}

/// How long each phase takes, if the host leaves it in peace.
struct Plan {
    before: Duration,
    during: Duration,
    after: Duration,
    /// How many times that it may take if not.
    stretch_max: u32,
}

impl Plan {
    fn new(is_short: bool) -> Plan {
        let [before, during, after] = if is_short { [500, 900, 300] } else { [5_000, 10_000, 5_000] };
        let time = Duration::from_millis;
        // The times of the short ones are not judged.
        let stretch_max = if is_short { 1 } else { 4 };
        Plan { before: time(before), during: time(during), after: time(after), stretch_max }
    }
}

fn parse() -> Result<Arguments, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let beside = own.with_file_name("etcd-shim");
    let server = std::env::var_os("HOLDFAST_PROGRAM").map_or(beside, PathBuf::from);
    let mut arguments =
        Arguments { is_short: false, is_strict: false, has_control: false, server, names: Vec::new() };
    let mut rest = std::env::args().skip(1);
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--short" => arguments.is_short = true,
            "--strict" => arguments.is_strict = true,
            "--control" => arguments.has_control = true,
            "--server" => arguments.server = rest.next().ok_or("--server needs a program")?.into(),
            flag if flag.starts_with('-') => return Err(format!("no such flag: {flag}")),
            name => arguments.names.push(name.to_owned()),
        }
    }
    Ok(arguments)
}

/// The attack beside the neighbours' server, and with `--control` also beside them on another one.
fn measure<'a>(attack: &'a Attack, arguments: &Arguments) -> std::io::Result<Row<'a>> {
    let mut trial = Trial::make(attack, arguments, true)?;
    let mut control = None;
    if arguments.has_control {
        let elsewhere = Trial::make(attack, arguments, false)?;
        trial.faults.extend(elsewhere.faults);
        control = Some(elsewhere.seen);
    }
    Ok(Row::new(attack, arguments.is_short, trial, control))
}

/// Measures until two runs of three agree, and prints each; `None` if that is not possible.
fn measure_surely(attack: &Attack, arguments: &Arguments) -> Option<Verdict> {
    let mut verdicts = Vec::new();
    loop {
        let row = match measure(attack, arguments) {
            Ok(row) => row,
            Err(error) => {
                println!("{}: {error}", attack.name);
                return None;
            }
        };
        println!("{}", row.line());
        let verdict = row.verdict();
        verdicts.push(verdict);
        // The times of short ones are not judged.
        if arguments.is_short || verdict == Verdict::Failed {
            return Some(verdict);
        }
        if let Some(decided) = decide(&verdicts) {
            return Some(decided);
        }
    }
}

/// What these runs say together, if they say it already. A first one that was not missed is not doubted.
fn decide(verdicts: &[Verdict]) -> Option<Verdict> {
    if let [first] = verdicts {
        return Some(*first).filter(|first| *first != Verdict::Missed);
    }
    let count = |wanted| verdicts.iter().filter(|verdict| **verdict == wanted).count();
    let agreed = [Verdict::Missed, Verdict::Ok].into_iter().find(|verdict| count(*verdict) >= 2);
    agreed.or((verdicts.len() >= RUNS_MAX).then_some(Verdict::Unclear))
}

/// One attack, and what was seen of it.
pub struct Trial {
    attacker: Attacker,
    seen: Seen,
    /// How long the attack was measured.
    took: Duration,
    /// Of the server that was attacked.
    before: Usage,
    peak: Usage,
    faults: Vec<String>,
}

impl Trial {
    fn make(attack: &Attack, arguments: &Arguments, is_shared: bool) -> std::io::Result<Trial> {
        let plan = Plan::new(arguments.is_short);
        // Attacks with large values write more than the default allows, and nothing is compacted.
        let quota = format!("--quota-backend-bytes={}", 16u64 << 30);
        let start = || Setup::program(arguments.server.clone()).flag(quota.clone()).start();
        let mut server = start();
        let another = (!is_shared).then(start);
        let process = server.process_id();
        let attacker = Attacker::new(server.url().trim_start_matches("http://").into(), arguments.is_short);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        if let Some(prepare) = attack.prepare {
            runtime.block_on(prepare(attacker.clone()));
        }
        let neighbours = Neighbours::start(another.as_ref().unwrap_or(&server).url().into());
        // The first requests make connections, which are not the attack's, and wake caches.
        let are_served = neighbours.wait_until_served();
        let host = Host::watch();
        let phase =
            |time: Duration| host.sleep(time, time * if attack.has_own_end() { 1 } else { plan.stretch_max });
        std::thread::sleep(plan.after);
        forget_peak(process);
        let before = Usage::of(process);
        neighbours.enter(Phase::Before);
        phase(plan.before);
        neighbours.enter(Phase::During);
        let (its, run) = (attacker.clone(), attack.run);
        let thread = std::thread::spawn(move || {
            // A system that refuses leaves the attacker as strong as the others.
            Pace::Idle.set();
            runtime.block_on(run(its));
            // What the attack still holds is dropped with its tasks.
            runtime.shutdown_timeout(Duration::from_secs(1));
        });
        let begun = Instant::now();
        // Attacks that have an end of their own take the time they need.
        phase(plan.during);
        while attack.has_own_end() && !thread.is_finished() {
            std::thread::sleep(Duration::from_millis(10));
        }
        let (took, peak) = (begun.elapsed(), Usage::of(process));
        neighbours.enter(Phase::Between);
        attacker.stop();
        let is_whole = thread.join().is_ok();
        let mut faults = Vec::from_iter(left_behind(process, before));
        neighbours.enter(Phase::After);
        phase(plan.after);
        let seen = neighbours.finish(&host);
        if !are_served {
            faults.push("the neighbours were not served before the attack".into());
        }
        if !is_whole {
            faults.push("the attack itself failed".into());
        }
        if server.exited().is_some() {
            faults.push(format!("the server has ended: {}", server.log()));
        }
        Ok(Trial { attacker, seen, took, before, peak, faults })
    }
}

/// What is still there of the attack although it is over.
fn left_behind(process: u32, before: Usage) -> Option<String> {
    let begun = Instant::now();
    loop {
        let now = Usage::of(process);
        if now.sockets <= before.sockets && now.threads <= before.threads + THREADS_SLACK {
            return None;
        }
        if begun.elapsed() > CLEANING_PATIENCE {
            return Some(format!(
                "left behind: {} threads after {}, {} sockets after {}",
                now.threads, before.threads, now.sockets, before.sockets
            ));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn main() -> ExitCode {
    let arguments = match parse() {
        Ok(arguments) => arguments,
        Err(reason) => {
            eprintln!("neighbours: {reason}");
            return ExitCode::from(2);
        }
    };
    println!("{}", report::head(arguments.is_short, arguments.has_control));
    let (mut failed, mut missed, mut unclear, mut is_noisy) = (0, 0, 0, false);
    for attack in ATTACKS {
        if !arguments.names.is_empty() && !arguments.names.iter().any(|name| attack.name.contains(name)) {
            continue;
        }
        match measure_surely(attack, &arguments) {
            Some(Verdict::Ok) => {}
            Some(Verdict::Missed) => {
                missed += 1;
                is_noisy |= attack.is_control();
            }
            Some(Verdict::Unclear) => unclear += 1,
            Some(Verdict::Failed) | None => failed += 1,
        }
    }
    println!("\n{failed} failed, {missed} missed twice the p99, {unclear} unclear");
    if is_noisy {
        println!(
            "The machine did that with nothing going on, too: it is too busy for these ratios to mean much."
        );
    }
    if failed > 0 || (arguments.is_strict && missed + unclear > 0) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Missed, Ok, Unclear};
    use super::decide;

    #[test]
    fn two_of_three_runs_decide() {
        assert_eq!(decide(&[Ok]), Some(Ok));
        assert_eq!(decide(&[Unclear]), Some(Unclear));
        assert_eq!(decide(&[Missed]), None);
        assert_eq!(decide(&[Missed, Missed]), Some(Missed));
        assert_eq!(decide(&[Missed, Ok]), None);
        assert_eq!(decide(&[Missed, Ok, Missed]), Some(Missed));
        assert_eq!(decide(&[Missed, Unclear, Missed]), Some(Missed));
        assert_eq!(decide(&[Missed, Ok, Ok]), Some(Ok));
        assert_eq!(decide(&[Missed, Ok, Unclear]), Some(Unclear));
        assert_eq!(decide(&[Missed, Unclear, Unclear]), Some(Unclear));
    }
}
