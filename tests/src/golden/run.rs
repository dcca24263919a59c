//! All scripts: found, run side by side, judged.

use super::script::Script;
use super::session::Session;
use super::verdict::judge;
use crate::{Node, Setup};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Scripts at the same time: each keeps an etcd and a server of ours waiting for disks and timers, more than working.
const AT_ONCE: usize = 2;

/// Both servers are told the names that etcd's documentation uses, so that their ids are the same and known. They
/// listen elsewhere.
const COMMON_FLAGS: [&str; 3] = [
    "--initial-advertise-peer-urls=http://localhost:2380",
    "--initial-cluster=node=http://localhost:2380",
    "--advertise-client-urls=http://localhost:2379",
];

/// What became of the scripts.
#[derive(Default)]
pub struct Report {
    /// How many scripts ran.
    pub scripts: usize,
    /// How many steps they had.
    pub steps: usize,
    /// How many replies are not etcd's, for a reason that the script gives.
    pub differs: usize,
    /// Files that were written anew.
    pub blessed: Vec<PathBuf>,
    /// What is wrong, ready to print.
    pub faults: Vec<String>,
    /// The slowest scripts come first.
    pub slowest: Vec<(Duration, String)>,
}

/// Runs every script below `directory` whose path contains `filter`; against etcd if `with_etcd`. `bless` writes etcd's
/// replies into the files.
///
/// # Panics
/// A server does not start.
pub fn run(directory: &Path, filter: &str, with_etcd: bool, bless: bool) -> Report {
    let mut paths = Vec::new();
    collect(directory, &mut paths);
    paths.retain(|path| path.to_string_lossy().contains(filter));
    paths.sort();
    let queue = Mutex::new(paths.into_iter());
    let report = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no script panics with the queue").next();
                    let Some(path) = next else { return };
                    let began = Instant::now();
                    let outcome = one(&path, with_etcd, bless);
                    let mut report = report.lock().expect("no script panics with the report");
                    report.add(&path, began.elapsed(), outcome);
                }
            });
        }
    });
    let mut report = report.into_inner().expect("no script panics with the report");
    report.slowest.sort_by(|left, right| right.cmp(left));
    report.faults.sort();
    report
}

impl Report {
    fn add(&mut self, path: &Path, took: Duration, outcome: Result<Outcome, String>) {
        self.scripts += 1;
        self.slowest.push((took, path.display().to_string()));
        match outcome {
            Ok(outcome) => {
                self.steps += outcome.steps;
                self.differs += outcome.differs;
                self.faults.extend(outcome.faults);
                self.blessed.extend(outcome.blessed);
            }
            Err(fault) => self.faults.push(fault),
        }
    }
}

#[derive(Default)]
struct Outcome {
    steps: usize,
    differs: usize,
    faults: Vec<String>,
    blessed: Option<PathBuf>,
}

fn collect(directory: &Path, out: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory).unwrap_or_else(|fault| panic!("{}: {fault}", directory.display()));
    for entry in entries {
        let path = entry.expect("a directory that can be listed").path();
        if path.is_dir() {
            collect(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "txt") {
            out.push(path);
        }
    }
}

fn one(path: &Path, with_etcd: bool, bless: bool) -> Result<Outcome, String> {
    let mut script = Script::read(path)?;
    let start = |setup: Setup| {
        let flags = COMMON_FLAGS.iter().map(ToString::to_string).chain(script.flags.iter().cloned());
        flags.fold(setup, Setup::flag).start()
    };
    // The one starts while the other does.
    let (ours, etcd) = std::thread::scope(|scope| {
        let etcd = with_etcd.then(|| scope.spawn(|| start(Setup::etcd())));
        let ours = start(Setup::subject());
        (ours, etcd.map(|thread| thread.join().expect("etcd starts")))
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|fault| fault.to_string())?;
    let (our_replies, etcd_replies) = runtime.block_on(async {
        let etcd = async {
            match &etcd {
                Some(node) => replies(node, &script).await.map(Some),
                None => Ok(None),
            }
        };
        tokio::join!(replies(&ours, &script), etcd)
    });
    let (our_replies, etcd_replies) = (our_replies?, etcd_replies?);
    let mut outcome = Outcome::default();
    if let (true, Some(etcd_replies)) = (bless, &etcd_replies)
        && script.bless(etcd_replies)?
    {
        outcome.blessed = Some(path.to_path_buf());
    }
    for (number, step) in script.steps().enumerate() {
        outcome.steps += 1;
        outcome.differs += usize::from(step.differs.is_some());
        let etcd = etcd_replies.as_ref().map(|replies| replies[number].as_slice());
        if let Some(fault) = judge(step, etcd, &our_replies[number]) {
            let (path, line, title) = (path.display(), step.line, &script.title);
            outcome.faults.push(format!("{path}:{line} ({title})\n{}\n{fault}", step.command));
        }
    }
    Ok(outcome)
}

async fn replies(node: &Node, script: &Script) -> Result<Vec<Vec<String>>, String> {
    let mut session = Session::new(node.channel());
    let mut out = Vec::new();
    for step in script.steps() {
        let reply = session.command(&step.command).await;
        out.push(reply.map_err(|fault| format!("{}:{}: {fault}", script.path.display(), step.line))?);
    }
    Ok(out)
}
