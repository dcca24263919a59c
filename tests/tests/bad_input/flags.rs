//! The command line and the environment.

use crate::attempt::{ended, refused};
use holdfast_tests::subject;
use std::process::Command;

#[test]
fn every_wrong_flag_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data_dir = directory.path().join("data");
    for (flags, words) in [
        (vec!["--nope"], vec!["-nope"]),
        (vec!["--max-txn-ops=-1"], vec!["max-txn-ops", "-1"]),
        (vec!["--quota-backend-bytes=lots"], vec!["quota-backend-bytes", "lots"]),
        (vec!["--heartbeat-interval=500", "--election-timeout=1000"], vec!["--election-timeout", "5 times"]),
        (vec!["--cert-file=/x"], vec!["--key-file", "/x"]),
        (vec!["--auto-compaction-mode=often"], vec!["auto-compaction-mode", "often"]),
        (vec!["--listen-client-urls=nonsense"], vec!["listen-client-urls", "nonsense"]),
        (vec!["--listen-client-urls=https://127.0.0.1:0"], vec!["--cert-file", "https://127.0.0.1:0"]),
        (vec!["--initial-cluster=a=http://x:1", "--name=b"], vec!["\"b\"", "initial cluster"]),
        (vec!["--tls-min-version=TLS9"], vec!["tls-min-version", "TLS9"]),
        (vec!["--log-level=loud"], vec!["log-level", "loud"]),
        (vec!["--max-request-bytes=0"], vec!["max-request-bytes"]),
        (vec!["--config-file=/does/not/exist"], vec!["/does/not/exist"]),
        (vec!["stray"], vec!["stray"]),
    ] {
        refused(&data_dir, &flags).says(&words);
        assert!(!data_dir.exists(), "{flags:?}: a directory was made for a start that was refused");
    }
}

#[test]
fn a_flag_and_its_variable_contradict_each_other() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(subject());
    let data_dir = directory.path().join("data");
    command.env("ETCD_NAME", "one").arg("--name=other").arg(format!("--data-dir={}", data_dir.display()));
    ended(command).says(&["ETCD_NAME", "conflicting"]);
}

#[test]
fn text_that_is_not_unicode_is_refused_or_taken_but_no_panic() {
    use std::os::unix::ffi::OsStrExt;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(subject());
    command
        .current_dir(&directory)
        .env_clear()
        .env("ETCD_X\u{fffd}", std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    command.arg(std::ffi::OsStr::from_bytes(b"--na\xffme=x"));
    ended(command).says(&["flag"]);
}
