//! The load generator against real nodes: every scenario for a moment, every transport, servers that answer wrongly.

use holdfast_tests::wire::etcdserverpb::RangeRequest;
use holdfast_tests::wire::etcdserverpb::kv_client::KvClient;
use holdfast_tests::{Certificates, Setup, Transport};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const NODE: &str = env!("CARGO_BIN_EXE_node-under-load");
const CEILING: &str = env!("CARGO_BIN_EXE_null-server");

fn load(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_load"))
        .args(["--rounds", "2", "--seconds", "0.2", "--warm-up", "0.05", "--json", "figures.json"])
        .args(["--html", "page.html", "--parent", "."])
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("the load generator runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs it, expects success, and returns the figures.
fn measured(arguments: &[&str]) -> Value {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = load(directory.path(), arguments);
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    let left: Vec<PathBuf> = std::fs::read_dir(directory.path())
        .expect("our own directory")
        .map(|entry| entry.expect("our own directory").path())
        .filter(|path| path.is_dir())
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    let page = std::fs::read_to_string(directory.path().join("page.html")).expect("a page");
    assert!(page.ends_with("</html>\n"));
    let figures = std::fs::read(directory.path().join("figures.json")).expect("figures");
    serde_json::from_slice(&figures).expect("figures in JSON")
}

fn rows(figures: &Value) -> &Vec<Value> {
    figures["rows"].as_array().expect("rows")
}

/// All rounds of all targets of all rows have requests that counted.
fn check_rounds(figures: &Value) {
    for row in rows(figures) {
        for target in row["targets"].as_array().expect("targets") {
            let rounds = target["rounds"].as_array().expect("rounds");
            assert_eq!(rounds.len(), 2, "{}: {target}", row["scenario"]);
            for round in rounds {
                assert!(round["samples"].as_u64().expect("a number") > 0, "{}: {round}", row["scenario"]);
                assert!(round["p50_ms"].as_f64().expect("a number") > 0.0, "{}: {round}", row["scenario"]);
            }
        }
    }
}

#[test]
fn every_scenario_gives_figures_of_every_round() {
    let (node, ceiling) = (format!("holdfast={NODE}"), format!("ceiling={CEILING}"));
    let figures = measured(&[
        "--start",
        &node,
        "--ceiling",
        &ceiling,
        "--scenarios",
        "put@2,create@1,update@2,get@2,get-serializable@2,list@1200,stream@1200,kube@4,fanout@5,fanout@5/rate=100,slow@0+2,\
         lease@2,fill@1200,list@1200,start@1200,pauses@1200/rate=200",
        "--watchers",
        "10",
        "--value-bytes",
        "100",
    ]);
    check_rounds(&figures);
    let names: Vec<&str> = rows(&figures).iter().filter_map(|row| row["scenario"].as_str()).collect();
    assert_eq!(names.len(), 20, "{names:?}");
    // The ceiling is shown beside what a server without a store can answer, and beside nothing else.
    let beside: Vec<usize> =
        rows(&figures).iter().map(|row| row["targets"].as_array().expect("targets").len()).collect();
    assert_eq!(beside, [2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1]);
    // A process that is ours is measured too.
    let target = &rows(&figures)[0]["targets"][0];
    assert!(target["summary"]["memory_mib"]["value"]["median"].as_f64().expect("memory") > 0.0);
    let about = figures["about"].as_array().expect("text").iter().filter_map(Value::as_str);
    assert!(about.clone().any(|line| line.starts_with("target holdfast: started here")));
    assert!(about.clone().any(|line| line.contains("--scenarios put@2,create@1")));
}

#[test]
fn started_servers_are_reached_over_every_transport() {
    let node = format!("holdfast={NODE}");
    let scenarios = "create@2/unix,get@2/unix,create@2/tls,create@2/mtls,fanout@3/mtls";
    let figures = measured(&["--start", &node, "--scenarios", scenarios]);
    check_rounds(&figures);
    assert_eq!(rows(&figures)[3]["scenario"], "guarded create, 2 clients, mTLS");
}

fn file(certificates: &Certificates, name: &str) -> String {
    certificates.file(name).display().to_string()
}

#[tokio::test]
async fn servers_that_run_already_are_reached_with_their_certificates() {
    let plain = Setup::program(NODE.into()).start();
    let unix = Setup::program(NODE.into()).transport(Transport::Unix).start();
    let mutual = Setup::program(NODE.into()).transport(Transport::MutualTls).start();
    let certificates = mutual.certificates().expect("certificates");
    let [ca, cert, key] = ["ca.crt", "client.crt", "client.key"].map(|name| file(certificates, name));
    let [plain, unix, secured] = [("plain", &plain), ("unix", &unix), ("mtls", &mutual)]
        .map(|(name, node)| format!("{name}={}", node.url()));
    let line = [
        "--target",
        &plain,
        "--target",
        &unix,
        "--target",
        &secured,
        "--scenarios",
        "create@2,list@600,fanout@3",
    ];
    let line = [&line[..], &["--cacert", &ca, "--cert", &cert, "--key", &key, "--server-name", "localhost"]]
        .concat();
    let figures = measured(&line);
    check_rounds(&figures);
    assert!(
        rows(&figures)[0]["targets"][2]["rounds"][0]["cpu_us"].is_null(),
        "nothing is known of its process"
    );

    // A server that asks who is there is told, or there is nothing to measure.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let line =
        ["--target", &secured, "--scenarios", "create@1", "--cacert", &ca, "--server-name", "localhost"];
    let refused = load(directory.path(), &line);
    assert!(!refused.status.success(), "{}", text(&refused.stdout));
}

#[test]
fn wrong_answers_are_failures_and_missing_calls_are_not() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let null = format!("null={CEILING}");
    // It forgets what it was given: after a start it counts other keys than there were.
    let output = load(directory.path(), &["--start", &null, "--scenarios", "start@100"]);
    let printed = text(&output.stdout);
    assert!(!output.status.success() && printed.contains("10000 of 100 keys after a start"), "{printed}");
    let output = load(directory.path(), &["--start", &null, "--scenarios", "stream@100,create@1"]);
    let printed = text(&output.stdout);
    assert!(output.status.success() && printed.contains("does not offer this"), "{printed}");
}

/// A server that stands still for a third of a round at a fixed rate has kept a third of the requests waiting: the figures say
/// so, although only one of them was under way.
#[tokio::test(flavor = "multi_thread")]
async fn at_a_fixed_rate_a_pause_is_paid_for_by_every_request_that_was_due() {
    const PAUSE: Duration = Duration::from_secs(1);
    let node = Setup::program(NODE.into()).start();
    let target = format!("holdfast={}", node.url());
    let line = ["--scenarios", "update@1/rate=200", "--rounds", "1", "--seconds", "3", "--target"];
    let line: Vec<String> = line.into_iter().map(String::from).chain([target]).collect();
    let measuring =
        tokio::task::spawn_blocking(move || measured(&line.iter().map(String::as_str).collect::<Vec<_>>()));
    // Its keys take the first hundred revisions; then come updates, 60 of them before those that count.
    let mut kv = KvClient::new(node.channel());
    let begun = Instant::now();
    loop {
        let answer =
            kv.range(RangeRequest { key: "any".into(), ..Default::default() }).await.expect("a range");
        if answer.into_inner().header.expect("a header").revision > 200 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "nobody writes");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let id = Pid::from_raw(i32::try_from(node.process_id()).expect("ids are small")).expect("not 0");
    kill_process(id, Signal::STOP).expect("our own child");
    tokio::time::sleep(PAUSE).await;
    kill_process(id, Signal::CONT).expect("our own child");
    let figures = measuring.await.expect("figures");
    let round = &rows(&figures)[0]["targets"][0]["rounds"][0];
    assert_eq!(round["samples"], 600, "no request is left out");
    // The longest waited for all of it, and a tenth of all for most of it.
    assert!(round["max_ms"].as_f64().expect("a number") > 900.0, "{round}");
    assert!(round["curve_ms"][4].as_f64().expect("p90") > 400.0, "{round}");
}

#[test]
fn whoever_is_asked_to_end_ends_its_servers_and_removes_their_data() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = format!("holdfast={NODE}");
    let mut child = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(["--start", &node, "--parent", ".", "--scenarios", "get@1", "--rounds", "10000"])
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the load generator runs");
    // It says what it measures with once it has looked at every server; from then on one of them runs most of the time.
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let said = lines.map_while(Result::ok).find(|line| line.starts_with("command: "));
    assert!(said.is_some());
    let id = Pid::from_raw(i32::try_from(child.id()).expect("ids of processes are small")).expect("not 0");
    kill_process(id, Signal::TERM).expect("our own child");
    let status = child.wait().expect("our own child");
    assert_eq!(status.code(), Some(1), "{status}");
    let left = std::fs::read_dir(directory.path()).expect("our own directory").count();
    assert_eq!(left, 0, "data is left behind");
}
