//! Starts that are expected to fail, and small helpers around nodes.

use holdfast_tests::wire::etcdserverpb::kv_client::KvClient;
use holdfast_tests::wire::etcdserverpb::{PutRequest, RangeRequest};
use holdfast_tests::{Node, check_advice, subject};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tonic::transport::Channel;

/// A refused start takes milliseconds; a loaded machine takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a start ended: all that it wrote.
pub struct Refusal {
    text: String,
}

/// Starts the program in `data_dir` and waits for its end.
pub fn refused(data_dir: &Path, flags: &[&str]) -> Refusal {
    let urls = ["--listen-client-urls=http://127.0.0.1:0", "--advertise-client-urls=http://127.0.0.1:1"];
    let mut command = Command::new(subject());
    command.arg(format!("--data-dir={}", data_dir.display())).args(urls).args(flags);
    ended(command)
}

/// Runs a program that must end by itself with a failure, a line about it and no panic.
pub fn ended(mut command: Command) -> Refusal {
    let directory = TempDir::with_prefix("holdfast-").expect("a temporary directory");
    let path = directory.path().join("output");
    let output = File::create(&path).expect("a file");
    command.stdin(Stdio::null()).stdout(output.try_clone().expect("the file, twice")).stderr(output);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let deadline = Instant::now() + PATIENCE;
    let read = || String::from_utf8_lossy(&std::fs::read(&path).expect("the output")).into_owned();
    let status = loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("it goes on: {command:?}\n{}", read());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = read();
    assert!(!text.contains("panicked"), "{command:?}: {text}");
    let code = status.code().unwrap_or_else(|| panic!("{command:?} ended by a signal ({status}): {text}"));
    assert_ne!(code, 0, "{command:?}: {text}");
    assert!(
        text.lines().any(|line| line.starts_with("etcd-shim: ")),
        "{command:?}: no line for people: {text}"
    );
    Refusal { text }
}

impl Refusal {
    /// The line for people, which must hold all of `words`.
    #[track_caller]
    pub fn says(&self, words: &[&str]) {
        let line = self.text.lines().find(|line| line.starts_with("etcd-shim: ")).unwrap_or_default();
        for word in words {
            assert!(line.contains(word), "no {word:?} in: {}", self.text);
        }
    }

    /// As [`Refusal::says`], and what to do about the data directory.
    #[track_caller]
    pub fn advises(&self, words: &[&str]) {
        self.says(words);
        let line = self.text.lines().find(|line| line.starts_with("etcd-shim: ")).unwrap_or_default();
        check_advice(line, "a refused start");
    }
}

pub async fn put(channel: &Channel, key: &str, value: &[u8]) -> Result<i64, tonic::Status> {
    let request =
        PutRequest { key: key.to_string().into(), value: value.to_vec().into(), ..Default::default() };
    let mut client = KvClient::new(channel.clone());
    let answer = tokio::time::timeout(PATIENCE, client.put(request)).await;
    let answer = answer.expect("an answer in time")?;
    Ok(answer.into_inner().header.expect("a header").revision)
}

pub async fn get(channel: &Channel, key: &str) -> Option<Vec<u8>> {
    let request = RangeRequest { key: key.to_string().into(), ..Default::default() };
    let mut client = KvClient::new(channel.clone());
    let answer = tokio::time::timeout(PATIENCE, client.range(request)).await;
    let answer = answer.expect("an answer in time").expect("a read");
    answer.into_inner().kvs.first().map(|kv| kv.value.to_vec())
}

/// Writes a few keys, each acknowledged.
pub async fn fill(node: &Node) {
    let channel = node.channel();
    for number in 0..20u8 {
        put(&channel, &format!("key/{number}"), &[number; 500]).await.expect("a put");
    }
}

/// All that [`fill`] wrote is there, and the node takes more.
pub async fn check_filled(node: &Node) {
    let channel = node.channel();
    for number in 0..20u8 {
        assert_eq!(get(&channel, &format!("key/{number}")).await, Some(vec![number; 500]), "key {number}");
    }
    put(&channel, "more", b"more").await.expect("a put after all");
}
