//! Golden scripts against this server and a real etcd: see `tests/golden/README.md`.
//!
//! - `GOLDEN=watch/` runs only the scripts whose path contains it;
//! - `BLESS=1` writes what etcd answers into the scripts;
//! - `HOLDFAST_NEEDS_ETCD=1` fails without a real etcd, where the run otherwise only says so (`.ci/run` sets it).

use holdfast_tests::golden;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

#[test]
fn scripts_are_answered_as_etcd_answers_them() {
    let began = Instant::now();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let filter = std::env::var("GOLDEN").unwrap_or_default();
    let bless = std::env::var_os("BLESS").is_some();
    let with_etcd = holdfast_tests::etcd_if_possible().is_some();
    let needs_etcd = bless || std::env::var_os("HOLDFAST_NEEDS_ETCD").is_some();
    assert!(with_etcd || !needs_etcd, "there is no real etcd; scripts/peers etcd says why");

    let report = golden::run(&directory, &filter, with_etcd, bless);
    for (took, path) in report.slowest.iter().take(5) {
        println!("{:>6.1} s  {path}", took.as_secs_f64());
    }
    for path in &report.blessed {
        println!("blessed {}", path.display());
    }
    let (scripts, steps, differs) = (report.scripts, report.steps, report.differs);
    let seconds = began.elapsed().as_secs_f64();
    say(&format!("{scripts} scripts, {steps} steps, {differs} of them different on purpose, {seconds:.1} s"));
    if !with_etcd {
        say("*** NO REAL ETCD: Go is missing or could not build it (scripts/peers etcd says why). ***\n\
             *** The scripts were compared with what was recorded, not with a running etcd.        ***");
    }
    assert!(scripts > 0, "no script matches GOLDEN={filter}");
    for fault in &report.faults {
        eprintln!("\n{fault}");
    }
    assert!(report.faults.is_empty(), "{} faults in {scripts} scripts", report.faults.len());
}

/// Past the test harness, which keeps to itself what a passing test prints.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "\n{text}");
}
