//! Requests to the front over a member that is told what to say.

use super::*;
use bytes::Bytes;
use http::{Method as HttpMethod, Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::service::Service as _;
use kvstore::command::AlarmKind;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tonic::service::Routes;

#[derive(Default)]
struct Told {
    facts: Mutex<Facts>,
    read_error: Mutex<Option<String>>,
    hangs: Mutex<bool>,
}

impl Told {
    fn read(&self) -> Answer<'_> {
        if *self.hangs.lock() {
            return Box::pin(std::future::pending());
        }
        let result = self.read_error.lock().clone().map_or(Ok(()), Err);
        Box::pin(std::future::ready(result))
    }
}

impl Member for Told {
    fn serializable_read(&self) -> Answer<'_> {
        Box::pin(std::future::ready(Ok(())))
    }
    fn linearizable_read(&self) -> Answer<'_> {
        self.read()
    }
    fn facts(&self) -> Facts {
        self.facts.lock().clone()
    }
    fn expose(&self, out: &mut Exposition) {
        out.gauge("etcd_server_has_leader", "Whether there is one.", 1.0);
    }
}

/// `/test.Echo/Fail` ends with InvalidArgument, `/test.Echo/Say` answers and ends well.
#[derive(Clone)]
struct Echo;

impl tonic::server::NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl tower::Service<Request<tonic::body::Body>> for Echo {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<http::Response<tonic::body::Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let said = request.into_body().collect().await.unwrap().to_bytes();
            if path.ends_with("Fail") {
                return Ok(tonic::Status::invalid_argument("no").into_http());
            }
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let body = Full::new(said).with_trailers(async { Some(Ok(trailers)) });
            Ok(http::Response::new(tonic::body::Body::new(body.map_err(|never: Infallible| match never {}))))
        })
    }
}

struct Fixture {
    told: Arc<Told>,
    front: Front,
}

fn fixture_with(role: Role, host_allow: &[&str], cors: &[&str]) -> Fixture {
    let told = Arc::new(Told::default());
    told.facts.lock().has_leader = true;
    let methods = ["Say", "Fail"].map(|name| Method {
        service: "test.Echo".to_owned(),
        name: name.to_owned(),
        kind: CallKind::Unary,
    });
    let calls = Arc::new(Calls::new(methods, true, Duration::from_secs(1)));
    let settings = RouterSettings {
        health_deadline: Duration::from_millis(50),
        host_allow: host_allow.iter().map(|host| (*host).to_owned()).collect(),
        cors: cors.iter().map(|origin| (*origin).to_owned()).collect(),
        feature_gates: crate::config::feature_gates::parse("InitialCorruptCheck=true").unwrap(),
        member_id: 0x8e9e_05c5_2164_694d,
    };
    let router = Arc::new(Router::new(told.clone(), calls.clone(), settings));
    Fixture { told, front: Front::new(role, true, Routes::new(Echo), router, calls) }
}

fn fixture() -> Fixture {
    fixture_with(Role::Everything, &[], &["*"])
}

impl Fixture {
    async fn send(&self, request: Request<Full<Bytes>>) -> (StatusCode, http::HeaderMap, String) {
        let response = self.front.call(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Full::default()).unwrap();
        let (status, _, body) = self.send(request).await;
        (status.as_u16(), body)
    }

    async fn call(&self, path: &str, body: &'static str) -> (StatusCode, http::HeaderMap, String) {
        let request =
            Request::post(path).version(Version::HTTP_2).header("content-type", "application/grpc+proto");
        self.send(request.body(Full::new(Bytes::from(body))).unwrap()).await
    }

    async fn metric(&self, sample: &str) -> Option<f64> {
        let (_, page) = self.get("/metrics").await;
        let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))?;
        Some(line.parse().unwrap())
    }
}

#[tokio::test]
async fn health_has_etcds_words() {
    let fixture = fixture();
    let healthy = (200, "{\"health\":\"true\",\"reason\":\"\"}".to_owned());
    let unhealthy = |reason: &str| (503, format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n"));
    assert_eq!(fixture.get("/health").await, healthy);

    fixture.told.facts.lock().alarms = vec![AlarmKind::NoSpace];
    assert_eq!(fixture.get("/health").await, unhealthy("ALARM NOSPACE"));
    assert_eq!(fixture.get("/health?exclude=NOSPACE").await, healthy);
    fixture.told.facts.lock().alarms = vec![AlarmKind::Corrupt];
    assert_eq!(fixture.get("/health?exclude=NOSPACE").await, unhealthy("ALARM CORRUPT"));
    assert_eq!(fixture.get("/health?exclude=NOSPACE&exclude=CORRUPT").await, healthy);
    fixture.told.facts.lock().alarms.clear();

    fixture.told.facts.lock().has_leader = false;
    assert_eq!(fixture.get("/health").await, unhealthy("RAFT NO LEADER"));
    assert_eq!(fixture.get("/health?serializable=true").await, healthy);
    fixture.told.facts.lock().has_leader = true;

    *fixture.told.read_error.lock() = Some("etcdserver: request timed out".to_owned());
    assert_eq!(fixture.get("/health").await, unhealthy("RANGE ERROR:etcdserver: request timed out"));
    assert_eq!(fixture.get("/health?serializable=true").await, healthy);
    *fixture.told.hangs.lock() = true;
    assert_eq!(fixture.get("/health").await, unhealthy("RANGE ERROR:etcdserver: request timed out"));

    assert_eq!(fixture.metric("etcd_server_health_success").await, Some(5.0));
    assert_eq!(fixture.metric("etcd_server_health_failures").await, Some(5.0));
}

#[tokio::test]
async fn livez_and_readyz_name_their_checks() {
    let fixture = fixture();
    assert_eq!(fixture.get("/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(fixture.get("/livez?verbose").await, (200, "[+]serializable_read ok\nok\n".to_owned()));
    assert_eq!(
        fixture.get("/readyz?verbose").await,
        (
            200,
            "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\n\
             ok\n"
                .to_owned()
        )
    );
    fixture.told.facts.lock().alarms = vec![AlarmKind::Corrupt];
    *fixture.told.read_error.lock() = Some("no".to_owned());
    assert_eq!(
        fixture.get("/readyz").await,
        (
            503,
            "[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n\
             [-]linearizable_read failed: no\n[+]non_learner ok\n\n"
                .to_owned()
        )
    );
    assert_eq!(
        fixture.get("/readyz?exclude=data_corruption&exclude=linearizable_read").await,
        (200, "ok\n".to_owned())
    );
    assert_eq!(
        fixture.get("/readyz/linearizable_read").await,
        (503, "[-]linearizable_read failed: no\n\n".to_owned())
    );
    assert_eq!(
        fixture.get("/readyz/non_learner?verbose=1").await,
        (200, "[+]non_learner ok\nok\n".to_owned())
    );
    for path in ["/readyz/nope", "/livez/linearizable_read", "/livezz", "/readyz/", "/"] {
        assert_eq!(fixture.get(path).await, (404, "404 page not found\n".to_owned()), "{path}");
    }
    let sample =
        "etcd_server_healthchecks_total{name=\"linearizable_read\",status=\"error\",type=\"readyz\"}";
    assert_eq!(fixture.metric(sample).await, Some(2.0));
    let sample = "etcd_server_healthcheck{name=\"linearizable_read\",type=\"readyz\"}";
    assert_eq!(fixture.metric(sample).await, Some(0.0));
}

#[tokio::test]
async fn version_gateway_and_methods() {
    let fixture = fixture();
    let (status, body) = fixture.get("/version").await;
    assert_eq!(status, 200);
    let (server, cluster) = (crate::version::ETCD_VERSION, crate::version::CLUSTER_VERSION);
    assert_eq!(
        body,
        format!("{{\"etcdserver\":\"{server}\",\"etcdcluster\":\"{cluster}\",\"storage\":\"{cluster}\"}}")
    );
    for method in [HttpMethod::POST, HttpMethod::GET] {
        let request = Request::builder().method(method).uri("/v3/kv/range").body(Full::default()).unwrap();
        let (status, headers, body) = fixture.send(request).await;
        assert_eq!((status.as_u16(), headers["content-type"].to_str().unwrap()), (501, "application/json"));
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&body["code"], &body["details"]), (&12.into(), &serde_json::json!([])));
        assert!(body["message"].as_str().unwrap().contains("not there yet"), "{body}");
    }
    for path in ["/health", "/version", "/readyz"] {
        let request = Request::post(path).body(Full::default()).unwrap();
        let (status, headers, _) = fixture.send(request).await;
        assert_eq!((status.as_u16(), headers["allow"].to_str().unwrap()), (405, "GET"), "{path}");
    }
}

#[tokio::test]
async fn calls_are_counted_by_how_they_ended() {
    let fixture = fixture();
    let (_, _, body) = fixture.call("/test.Echo/Say", "hello").await;
    assert_eq!(body, "hello");
    let (_, headers, _) = fixture.call("/test.Echo/Fail", "x").await;
    assert_eq!(headers["grpc-status"], "3");
    let (_, headers, _) = fixture.call("/made.Up/Method", "").await;
    assert_eq!(headers["grpc-status"], "12");
    let request =
        Request::post("/test.Echo/Say").version(Version::HTTP_2).header("content-type", "application/grpc");
    let abandoned = fixture.front.call(request.body(Full::<Bytes>::default()).unwrap());
    drop(abandoned);

    let labels = |code: &str, method: &str| {
        format!(
            "grpc_server_handled_total{{grpc_code=\"{code}\",grpc_method=\"{method}\",grpc_service=\"test.Echo\",\
             grpc_type=\"unary\"}}"
        )
    };
    assert_eq!(fixture.metric(&labels("OK", "Say")).await, Some(1.0));
    assert_eq!(fixture.metric(&labels("Canceled", "Say")).await, Some(1.0));
    assert_eq!(fixture.metric(&labels("OK", "Fail")).await, Some(0.0));
    assert_eq!(fixture.metric(&labels("InvalidArgument", "Fail")).await, Some(1.0));
    let started =
        "grpc_server_started_total{grpc_method=\"Say\",grpc_service=\"test.Echo\",grpc_type=\"unary\"}";
    assert_eq!(fixture.metric(started).await, Some(2.0));
    assert_eq!(fixture.metric("etcd_network_client_grpc_received_bytes_total").await, Some(6.0));
    assert_eq!(fixture.metric("etcd_network_client_grpc_sent_bytes_total").await, Some(5.0));
    let (_, page) = fixture.get("/metrics").await;
    assert!(!page.contains("made.Up") && page.contains("grpc_service=\"unknown\""), "no series by clients");
    assert!(page.contains("grpc_server_handling_seconds_bucket{grpc_method=\"Say\""));
    assert!(page.contains("etcd_server_id{server_id=\"8e9e05c52164694d\"} 1"));
    assert!(page.contains("etcd_server_feature_enabled{name=\"InitialCorruptCheck\",stage=\"ALPHA\"} 1"));
    assert!(page.contains("etcd_server_has_leader 1\n"));
}

#[tokio::test]
async fn each_role_serves_its_part() {
    for (role, grpc, version, health) in [
        (Role::Everything, true, 200, 200),
        (Role::Grpc, true, 404, 404),
        (Role::Http, false, 200, 200),
        (Role::Metrics, false, 404, 200),
    ] {
        let fixture = fixture_with(role, &[], &["*"]);
        let (_, _, body) = fixture.call("/test.Echo/Say", "hello").await;
        assert_eq!(body == "hello", grpc, "{role:?}");
        assert_eq!(fixture.get("/version").await.0, version, "{role:?}");
        assert_eq!(fixture.get("/health").await.0, health, "{role:?}");
        assert_eq!(fixture.get("/metrics").await.0, health, "{role:?}");
    }
    let http1 = Request::post("/test.Echo/Say").header("content-type", "application/grpc");
    let (status, ..) = fixture().send(http1.body(Full::default()).unwrap()).await;
    assert_eq!(status, 404, "gRPC needs HTTP/2");
}

#[tokio::test]
async fn hosts_that_are_not_ours_are_misdirected() {
    let fixture = fixture_with(Role::Everything, &["127.0.0.1", "etcd.example"], &["*"]);
    for (host, status) in
        [("127.0.0.1:2379", 200), ("etcd.example", 200), ("evil.example:2379", 421), ("", 421)]
    {
        let request = Request::get("/version").header("host", host).body(Full::default()).unwrap();
        assert_eq!(fixture.send(request).await.0.as_u16(), status, "{host}");
    }
    let (_, _, body) = fixture.call("/test.Echo/Say", "hello").await;
    assert_eq!(body, "hello", "gRPC is no browser's business");
}

#[tokio::test]
async fn pages_of_allowed_origins_may_read() {
    let asked = |fixture: Fixture, method: HttpMethod, origin: &'static str| async move {
        let request = Request::builder().method(method).uri("/version").header("origin", origin);
        let (status, headers, _) = fixture.send(request.body(Full::default()).unwrap()).await;
        let allowed =
            headers.get("access-control-allow-origin").map(|origin| origin.to_str().unwrap().to_owned());
        (status.as_u16(), allowed)
    };
    let with = |cors: &[&str]| fixture_with(Role::Everything, &[], cors);
    let (get, options) = (HttpMethod::GET, HttpMethod::OPTIONS);
    assert_eq!(asked(with(&["*"]), get.clone(), "http://a").await, (200, Some("*".to_owned())));
    assert_eq!(asked(with(&["http://a"]), get.clone(), "http://a").await, (200, Some("http://a".to_owned())));
    assert_eq!(asked(with(&["http://a"]), get, "http://b").await, (200, None));
    assert_eq!(asked(with(&["*"]), options, "http://a").await, (200, Some("*".to_owned())));
}
