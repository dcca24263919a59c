//! The server as its operators meet it: a process with flags, signals and exit codes.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ends the process it started, whatever becomes of the test.
struct Server {
    child: Child,
    /// `host:port` of the first client URL.
    address: String,
    metrics: String,
    log: std::sync::mpsc::Receiver<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(data_dir: &Path, extra: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-shim"));
    command.env_clear().arg("--data-dir").arg(data_dir).args(extra);
    command
}

const URLS: [&str; 3] = [
    "--listen-client-urls=http://127.0.0.1:0",
    "--advertise-client-urls=http://127.0.0.1:2379",
    "--listen-metrics-urls=http://127.0.0.1:0",
];

fn start(data_dir: &Path, extra: &[&str]) -> Server {
    start_command(command(data_dir, &[&URLS, extra].concat()))
}

fn start_command(mut command: Command) -> Server {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let (sender, log) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut server = Server { child, address: String::new(), metrics: String::new(), log };
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = server.log.recv_timeout(left).expect("the server becomes ready");
        let entry: serde_json::Value = serde_json::from_str(&line).expect(&line);
        let address = |name: &str| entry[name].as_str().unwrap_or_default().replace("http://", "");
        match entry["msg"].as_str() {
            Some("serving metrics") => server.metrics = address("address"),
            Some("ready to serve client requests") => {
                server.address = address("addresses").split(',').next().unwrap().to_owned();
                return server;
            }
            _ => {}
        }
    }
}

impl Server {
    fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill_process(id.unwrap(), signal).unwrap();
    }

    /// The exit code, and how long it took.
    fn wait(&mut self) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), begun.elapsed());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the server does not end");
    }

    fn get(&self, address: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }

    async fn grpc(&self) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
        let stream = tokio::net::TcpStream::connect(&self.address).await.unwrap();
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

/// A request of one message that is given as its protobuf bytes.
fn call(path: &str, message: &[u8]) -> Request<Full<Bytes>> {
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend(message);
    let request = Request::post(format!("http://localhost{path}")).header("content-type", "application/grpc");
    request.header("te", "trailers").body(Full::new(Bytes::from(body))).unwrap()
}

/// Status and body of a unary call.
async fn unary(server: &Server, path: &str, message: &[u8]) -> (String, Vec<u8>) {
    let response = server.grpc().await.send_request(call(path, message)).await.unwrap();
    let (head, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let status = collected.trailers().unwrap_or(&head.headers)["grpc-status"].to_str().unwrap().to_owned();
    (status, collected.to_bytes().to_vec())
}

// key = 1, value = 2
const PUT_A_B: &[u8] = b"\x0a\x01a\x12\x01b";
const RANGE_A: &[u8] = b"\x0a\x01a";
// create_request = 1 { key = 1 }
const WATCH_A: &[u8] = b"\x0a\x03\x0a\x01a";

fn metric(page: &str, sample: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_everything_on_one_port_and_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let mut server = start(&data_dir, &[]);
    assert_eq!(unary(&server, "/etcdserverpb.KV/Put", PUT_A_B).await.0, "0");
    let health = server.get(&server.address, "/health");
    assert!(
        health.starts_with("HTTP/1.1 200") && health.ends_with("{\"health\":\"true\",\"reason\":\"\"}"),
        "{health}"
    );
    assert!(server.get(&server.metrics, "/readyz").ends_with("ok\n"));
    let page = server.get(&server.metrics, "/metrics");
    let started =
        "grpc_server_started_total{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}";
    assert_eq!(metric(&page, started), Some(1.0), "{page}");
    let handled = "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",\
                   grpc_type=\"unary\"}";
    assert_eq!(metric(&page, handled), Some(1.0));
    assert_eq!(metric(&page, "etcd_server_has_leader"), Some(1.0));
    assert_eq!(metric(&page, "etcd_debugging_mvcc_current_revision"), Some(2.0));
    assert!(page.contains("etcd_server_id{server_id=\"8e9e05c52164694d\"} 1"));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().0, Some(0));

    // Other peer URLs would give other ids; those of the data directory stay.
    let moved = "--initial-advertise-peer-urls=http://127.0.0.1:9999";
    let mut server = start(&data_dir, &[moved, "--rpc-threads=2"]);
    let (status, reply) = unary(&server, "/etcdserverpb.KV/Range", RANGE_A).await;
    assert_eq!(status, "0");
    assert!(reply.windows(3).any(|window| window == b"\x2a\x01b"), "value = 5: {reply:?}");
    assert!(server.get(&server.address, "/metrics").contains("8e9e05c52164694d"));
    server.signal(Signal::INT);
    assert_eq!(server.wait().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_open_streams_soon() {
    for placement in ["--core-placement=own-thread", "--core-placement=rpc-thread"] {
        let dir = tempfile::tempdir().unwrap();
        let mut server = start(dir.path(), &[placement]);
        let watch =
            server.grpc().await.send_request(call("/etcdserverpb.Watch/Watch", WATCH_A)).await.unwrap();
        let mut body = watch.into_body();
        assert!(body.frame().await.unwrap().is_ok(), "created");
        let idle = TcpStream::connect(&server.address).unwrap();
        server.signal(Signal::TERM);
        let (code, took) = server.wait();
        assert_eq!(code, Some(0), "{placement}");
        assert!(took < Duration::from_secs(20), "{placement}: {took:?}");
        while let Some(Ok(_)) = body.frame().await {}
        drop(idle);
    }
}

#[test]
fn a_refused_start_says_why_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let foreign = dir.path().join("foreign");
    std::fs::create_dir_all(foreign.join("member")).unwrap();
    let holder = start(&dir.path().join("held"), &[]);
    let taken = format!("--listen-client-urls=http://{}", holder.address);
    for (data_dir, extra, code, words) in [
        (foreign.as_path(), vec!["--name=x"], 1, "foreign: is not a Holdfast data directory"),
        (&dir.path().join("held"), vec![], 1, "already open in another process"),
        (Path::new("/proc/nowhere"), vec![], 1, "/proc/nowhere"),
        (&dir.path().join("new"), vec![&taken, "--advertise-client-urls=http://x:1"], 1, "already in use"),
        (&dir.path().join("new"), vec!["--initial-cluster-state=existing"], 1, "not there yet"),
        (&dir.path().join("new"), vec!["--nope"], 2, "flag provided but not defined: -nope"),
        (&dir.path().join("new"), vec!["--log-outputs=/does/not/exist"], 1, "cannot open the log file"),
    ] {
        let output = command(data_dir, &extra).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        let line = stderr.lines().find(|line| line.starts_with("etcd-shim: ")).expect(&stderr);
        assert!(line.contains(words), "{line}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn files_of_tls_are_judged_before_the_data_directory_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let urls = ["--listen-client-urls=https://127.0.0.1:0", "--advertise-client-urls=https://x:1"];
    let files = ["--cert-file=/does/not/exist", "--key-file=/does/not/exist"];
    let output = command(&data_dir, &[urls, files].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("/does/not/exist: No such file"));
    assert!(!data_dir.exists());
}

#[test]
fn a_supervisor_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let supervisor = UnixDatagram::bind(&path).unwrap();
    supervisor.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut with_supervisor = command(&dir.path().join("data"), &URLS);
    with_supervisor.env("NOTIFY_SOCKET", &path);
    let mut server = start_command(with_supervisor);
    let heard = || {
        let mut heard = [0; 32];
        let length = supervisor.recv(&mut heard).unwrap();
        String::from_utf8(heard[..length].to_vec()).unwrap()
    };
    assert_eq!(heard(), "READY=1");
    server.signal(Signal::TERM);
    assert_eq!(heard(), "STOPPING=1");
    assert_eq!(server.wait().0, Some(0));
}
