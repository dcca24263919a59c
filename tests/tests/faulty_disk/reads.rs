//! A disk that cannot be read for a while, under a server that runs: what needs it is refused and told why, all else goes
//! on, and afterwards everything is served as if nothing had been.

use crate::library::{EIO, Fault, library};
use crate::load::{Acknowledged, Load, check_present, finished, look_for};
use crate::server::Place;
use holdfast_tests::check_advice;
use std::fs;
use tonic::Code;

const KEYS: u64 = 40;

/// A server on these keys, which are in tables of the engine and not in memory.
async fn written() -> (Place, Acknowledged) {
    let place = Place::new();
    let server = place.start(&[]).unwrap_or_else(|end| panic!("{}", end.text));
    let acknowledged = finished(Load::start(&place.channel(), 0, KEYS, &place.note())).await;
    assert_eq!(acknowledged.revisions.len() as u64, KEYS);
    assert!(server.stop().status.success());
    (place, acknowledged)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_fails_is_told_and_nothing_else_suffers() {
    let Some(library) = library() else { return };
    let (place, mut acknowledged) = written().await;
    let fault = Fault::once("pread", ".sst", 0, EIO).for_ever();
    let mut environment = fault.environment(library, &place.note());
    environment.push(("FAULTY_WHILE", place.trigger().display().to_string()));
    let mut server = place.start(&environment).unwrap_or_else(|end| panic!("{}", end.text));
    let channel = place.channel();

    fs::write(place.trigger(), "").expect("a file");
    let refused = look_for(&channel, &acknowledged, "while reads fail").await.expect_err("a read that fails");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    let note = fs::read_to_string(place.note()).expect("the fault has struck");
    let file = note.lines().next().and_then(|line| line.rsplit('/').next()).expect("a file");
    assert!(refused.message().contains("could not be read") && refused.message().contains(file), "{refused}");
    check_advice(refused.message(), "a refused read");
    let further = finished(Load::start(&channel, KEYS, 5, &place.note())).await;
    assert_eq!(further.revisions.len(), 5, "writes go on");

    fs::remove_file(place.trigger()).expect("the trigger");
    acknowledged.revisions.extend(further.revisions);
    check_present(&channel, &acknowledged, "when reads work again").await;
    assert!(server.ended().is_none(), "it has ended");
    let end = server.stop();
    assert!(end.status.success(), "{}", end.text);
    assert!(end.text.contains("data could not be read"), "the operator is not told: {}", end.text);
}
