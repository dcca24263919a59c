//! Real sockets: both protocols on one port, TLS, unix sockets, bounds and the end.

use super::*;
use crate::config::{Address, Scheme, Url};
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Nothing here takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

const SETTINGS: Http2Settings = Http2Settings {
    max_concurrent_streams: u32::MAX,
    keepalive_interval: None,
    keepalive_timeout: Duration::from_secs(20),
};

/// Requests that take their time, of one test.
static ARRIVED: AtomicUsize = AtomicUsize::new(0);

/// Answers with the protocol's name; `/slow` takes 300 ms, `/never` for ever.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() != "/" {
        ARRIVED.fetch_add(1, Ordering::Relaxed);
    }
    match request.uri().path() {
        "/slow" => tokio::time::sleep(Duration::from_millis(300)).await,
        "/never" => std::future::pending().await,
        _ => {}
    }
    Ok(Response::new(Full::new(Bytes::from(format!("{:?}", request.version())))))
}

async fn start(url: &str, connections_max: usize, shutdown: &Shutdown) -> Url {
    let bound = bind(&Url::parse(url).unwrap(), false).await.unwrap();
    let url = bound.url().clone();
    let bounds = Bounds::new(connections_max, 1);
    tokio::spawn(serve(bound, None, SETTINGS, bounds, service_fn(answer), shutdown.signal()));
    url
}

async fn connect(url: &Url) -> TcpStream {
    let Address::Tcp { host, port } = &url.address else { panic!("{url}") };
    TcpStream::connect((host.as_str(), *port)).await.unwrap()
}

async fn ask<I>(stream: I, version: Version, path: &str) -> Result<String, hyper::Error>
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let request = Request::builder().uri(format!("http://localhost{path}")).version(version);
    let request = request.header("host", "localhost").body(Empty::<Bytes>::new()).unwrap();
    let response = if version == Version::HTTP_2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    };
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn both_protocols_share_a_port() {
    let shutdown = Shutdown::default();
    let url = start("http://localhost:0", 10, &shutdown).await;
    assert_eq!(ask(connect(&url).await, Version::HTTP_11, "/").await.unwrap(), "HTTP/1.1");
    assert_eq!(ask(connect(&url).await, Version::HTTP_2, "/").await.unwrap(), "HTTP/2.0");
    let Err(taken) = bind(&url, false).await else { panic!("bound twice") };
    assert_eq!(taken, format!("cannot listen on {url}: the address is already in use"));
    shutdown.finish(Duration::from_secs(5)).await;
    bind(&url, false).await.expect("the port is free again");
}

#[tokio::test]
async fn tls_serves_both_by_alpn_and_refuses_plain_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let Ok(crate::config::Invocation::Serve(config)) = crate::config::load(&[], []) else { panic!() };
    let wanted = Url::parse("https://127.0.0.1:0").unwrap();
    let settings = crate::tls::self_signed(&config.tls, dir.path(), std::slice::from_ref(&wanted)).unwrap();
    let pem = std::fs::read(settings.cert_file.as_ref().unwrap()).unwrap();
    let source = std::sync::Arc::new(crate::tls::TlsSource::open(settings).unwrap());
    let shutdown = Shutdown::default();
    let bound = bind(&wanted, false).await.unwrap();
    let url = bound.url().clone();
    let bounds = Bounds::new(10, 1);
    tokio::spawn(serve(bound, Some(source), SETTINGS, bounds, service_fn(answer), shutdown.signal()));

    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    for (protocol, version, answered) in [
        (Some("h2"), Version::HTTP_2, "HTTP/2.0"),
        (Some("http/1.1"), Version::HTTP_11, "HTTP/1.1"),
        (None, Version::HTTP_11, "HTTP/1.1"),
    ] {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let mut client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        client.alpn_protocols = protocol.iter().map(|name| name.as_bytes().to_vec()).collect();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(client));
        let stream = connector.connect("localhost".try_into().unwrap(), connect(&url).await).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), protocol.map(str::as_bytes));
        assert_eq!(ask(stream, version, "/").await.unwrap(), answered);
    }
    assert!(ask(connect(&url).await, Version::HTTP_11, "/").await.is_err());
    shutdown.finish(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn accepted_streams_have_no_delay() {
    let bound = bind(&Url::parse("http://127.0.0.1:0").unwrap(), false).await.unwrap();
    let (client, (server, _)) = {
        let super::bind::Socket::Tcp(listener) = &bound.socket else { panic!() };
        let accepted = listener.accept();
        let (client, accepted) = tokio::join!(connect(bound.url()), accepted);
        (client, accepted.unwrap())
    };
    assert!(!server.nodelay().unwrap());
    super::bind::prepare(&server).unwrap();
    assert!(server.nodelay().unwrap());
    assert!(rustix::net::sockopt::socket_keepalive(&server).unwrap());
    drop(client);
}

#[tokio::test]
async fn a_socket_file_is_replaced_only_when_it_is_dead() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let url = format!("unix://{}", path.display());
    let shutdown = Shutdown::default();
    let bound_url = start(&url, 10, &shutdown).await;
    assert_eq!((bound_url.scheme, bound_url.to_string()), (Scheme::Unix, url.clone()));
    assert_eq!(
        ask(UnixStream::connect(&path).await.unwrap(), Version::HTTP_2, "/").await.unwrap(),
        "HTTP/2.0"
    );
    assert!(bind(&bound_url, false).await.unwrap_err().contains("already in use"));
    shutdown.finish(Duration::from_secs(5)).await;
    assert!(!path.exists(), "a clean end removes it");

    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a killed server leaves it");
    let bound = bind(&bound_url, false).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "somebody else's").unwrap();
    drop(bound);
    assert!(path.exists(), "not ours to remove");
    let refused = bind(&bound_url, false).await.unwrap_err();
    assert!(refused.ends_with("a file that is no socket is in its place"), "{refused}");
    let nowhere = Url { scheme: Scheme::Unix, address: Address::Path(Path::new("/does/not/exist").into()) };
    assert!(bind(&nowhere, false).await.is_err());
}

#[tokio::test]
async fn connections_beyond_the_bound_wait() {
    let shutdown = Shutdown::default();
    let url = start("http://127.0.0.1:0", 1, &shutdown).await;
    let mut first = connect(&url).await;
    first.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_ne!(first.read(&mut [0; 1024]).await.unwrap(), 0);
    let second = ask(connect(&url).await, Version::HTTP_11, "/");
    let mut second = std::pin::pin!(second);
    tokio::select! {
        answered = second.as_mut() => panic!("{answered:?}"),
        () = tokio::time::sleep(Duration::from_millis(100)) => {}
    }
    drop(first);
    assert_eq!(second.await.unwrap(), "HTTP/1.1");
    shutdown.finish(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn the_end_waits_for_answers_but_not_for_ever() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let shutdown = Shutdown::default();
        let url = start("http://127.0.0.1:0", 10, &shutdown).await;
        let slow = tokio::spawn(ask(connect(&url).await, version, "/slow"));
        let never = tokio::spawn(ask(connect(&url).await, version, "/never"));
        let idle = connect(&url).await;
        let arrive = async {
            while ARRIVED.load(Ordering::Relaxed) < 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, arrive).await.unwrap();
        ARRIVED.store(0, Ordering::Relaxed);
        let begun = Instant::now();
        shutdown.finish(Duration::from_secs(5)).await;
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        assert_eq!(slow.await.unwrap().unwrap(), format!("{version:?}"));
        assert!(never.await.unwrap().is_err());
        drop(idle);
        assert!(TcpStream::connect(url.to_string().trim_start_matches("http://")).await.is_err());
    }
}

/// What was accepted in a connection's last turn ends with it: requests hold the executor that holds them.
#[tokio::test]
async fn a_connection_that_ends_leaves_no_requests() {
    let held = std::sync::Arc::new(());
    let its = held.clone();
    let service = service_fn(move |_: Request<Incoming>| {
        let its = its.clone();
        async move {
            std::future::pending::<()>().await;
            drop(its);
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
        }
    });
    let shutdown = Shutdown::default();
    let bound = bind(&Url::parse("http://localhost:0").unwrap(), false).await.unwrap();
    let url = bound.url().clone();
    tokio::spawn(serve(bound, None, SETTINGS, Bounds::new(10, 1), service, shutdown.signal()));
    let before = std::sync::Arc::strong_count(&held);
    let frame = |stream: u8, flags: u8, fields: &[u8]| {
        [&[0, 0, fields.len() as u8, 1, flags, 0, 0, 0, stream], fields].concat()
    };
    // Nine GETs, and a CONNECT that announces a body, with which hyper ends the connection.
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for n in 0..9 {
        bytes.extend(frame(1 + 2 * n, 0x5, &[0x82, 0x86, 0x84, 0x41, 1, b'a']));
    }
    bytes.extend(frame(19, 0x4, b"\x42\x07CONNECT\x41\x01a\x5c\x015"));
    let mut stream = connect(&url).await;
    stream.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    let begun = Instant::now();
    while std::sync::Arc::strong_count(&held) > before {
        let left = std::sync::Arc::strong_count(&held) - before;
        assert!(begun.elapsed() < PATIENCE, "{left} requests are still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
