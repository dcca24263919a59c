//! Golden scripts against this server and a real etcd: see `tests/golden/README.md`.
//!
//! - `GOLDEN=watch/` runs only the scripts whose path contains it;
//! - `BLESS=1` writes what etcd answers into the scripts.

use holdfast_tests::golden;
use std::path::Path;
use std::time::Instant;

#[test]
fn scripts_are_answered_as_etcd_answers_them() {
    let began = Instant::now();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let filter = std::env::var("GOLDEN").unwrap_or_default();
    let bless = std::env::var_os("BLESS").is_some();
    let with_etcd = holdfast_tests::etcd_if_possible().is_some();
    assert!(with_etcd || !bless, "only a real etcd can bless, and there is none");

    let report = golden::run(&directory, &filter, with_etcd, bless);
    for (took, path) in report.slowest.iter().take(5) {
        println!("{:>6.1} s  {path}", took.as_secs_f64());
    }
    for path in &report.blessed {
        println!("blessed {}", path.display());
    }
    let (scripts, steps, differs) = (report.scripts, report.steps, report.differs);
    let seconds = began.elapsed().as_secs_f64();
    println!("{scripts} scripts, {steps} steps, {differs} of them different on purpose, {seconds:.1} s");
    if !with_etcd {
        eprintln!(
            "\n*** NO REAL ETCD: Go is missing or could not build it (scripts/peers etcd says why). ***\n\
             *** The scripts were compared with what was recorded, not with a running etcd.        ***\n"
        );
    }
    assert!(scripts > 0, "no script matches GOLDEN={filter}");
    for fault in &report.faults {
        eprintln!("\n{fault}");
    }
    assert!(report.faults.is_empty(), "{} faults in {scripts} scripts", report.faults.len());
}
