//! Random operations through the public door of `kvstore` against a model that keeps a copy of everything.
//!
//! Every answer (results, revisions, refusals) must be the model's; every watcher must be told exactly the model's
//! history; and after every restart, clean or not, the whole store must still be what the model is. The cache and the
//! segments of the log are as small as they may be, so that values are read from disk and segments are recycled.
//!
//! `HOLDFAST_MODEL_CASES` says how many histories are tried with each placement of the core.

#[allow(dead_code)] // The power-loss tests use all of it.
mod oracle;
mod steps;
mod subject;
mod timed;
mod volume;

use kvstore::store::Placement;
use proptest::test_runner::{Config, TestRunner};
use subject::Subject;

/// A case takes a tenth of a second to a third, most of it in starts and stops.
const CASES: u32 = 24;

fn check(placement: Placement) {
    let cases =
        std::env::var("HOLDFAST_MODEL_CASES").ok().map(|text| text.parse().expect("a number of cases"));
    let config = Config {
        cases: cases.unwrap_or(CASES),
        failure_persistence: None,
        max_shrink_iters: 400,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&steps::steps(), |steps| {
        let mut subject = Subject::start(placement);
        for step in steps {
            subject.step(step)?;
        }
        subject.finish()
    });
    if let Err(error) = result {
        panic!("{placement:?}: {error}");
    }
}

#[test]
fn a_core_on_its_own_thread_does_what_the_model_does() {
    check(Placement::Thread);
}

#[test]
fn a_core_on_the_callers_thread_does_what_the_model_does() {
    check(Placement::Caller);
}
