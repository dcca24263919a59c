//! The typed configuration, and how the texts become it.

use super::feature_gates::{self, FeatureGate};
use super::values::Values;
use super::{ConfigError, CorePlacement, Url, duration};
use std::path::PathBuf;
use std::time::Duration;

/// Everything the server needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member's name.
    pub name: String,
    /// Where the store lives.
    pub data_dir: PathBuf,
    /// What to listen on.
    pub listen: Listen,
    /// Who the members are.
    pub cluster: Cluster,
    /// Bounds on requests.
    pub limits: Limits,
    /// HTTP/2 pings.
    pub keepalive: Keepalive,
    /// TLS of the client port.
    pub tls: TlsSettings,
    /// What compacts by itself, if anything.
    pub auto_compaction: Option<AutoCompaction>,
    /// Where log lines go.
    pub log: LogSettings,
    /// Whether metrics contain histograms of handling time.
    pub metrics_extensive: bool,
    /// Unary requests that take longer are logged; zero turns that off.
    pub warn_unary_request: Duration,
    /// Time between progress notifications of idle watches.
    pub watch_progress_interval: Duration,
    /// Gates as asked for; they only matter for `etcd_server_feature_enabled`.
    pub feature_gates: Vec<FeatureGate>,
    /// Threads that serve clients; at least 1.
    pub rpc_threads: usize,
    /// Where consensus, log and state machine run.
    pub core_placement: CorePlacement,
    /// What the operator should know, to be logged once.
    pub warnings: Vec<String>,
}

/// What to listen on. A URL is in one of the lists only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// gRPC, and HTTP unless `client_http` has any.
    pub client: Vec<Url>,
    /// HTTP only.
    pub client_http: Vec<Url>,
    /// Health and metrics only.
    pub metrics: Vec<Url>,
    /// Peers; not opened while the cluster has one member.
    pub peer: Vec<Url>,
    /// Whether other processes may bind the same ports.
    pub reuse_port: bool,
    /// Host names that plain HTTP requests may use; empty means any.
    pub host_allow: Vec<String>,
    /// Origins whose pages may read our answers; `*` means any.
    pub cors: Vec<String>,
}

/// Who the members are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The URLs clients are told, sorted.
    pub advertise_client: Vec<String>,
    /// The URLs peers are told, sorted.
    pub advertise_peer: Vec<String>,
    /// Name and peer URL, in the order given; a name may come several times.
    pub initial: Vec<(String, String)>,
    /// What the ids are computed from besides the URLs.
    pub token: String,
    /// Time between heartbeats, in milliseconds.
    pub heartbeat_ms: u64,
    /// Time without a leader before an election, in milliseconds.
    pub election_ms: u64,
}

/// Bounds on requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Live data beyond this raises an alarm; none means no quota.
    pub quota_bytes: Option<u64>,
    /// Operations in one transaction.
    pub max_txn_ops: usize,
    /// Size of one request.
    pub max_request_bytes: usize,
    /// Streams of one connection.
    pub max_concurrent_streams: u32,
    /// Connections at a time; none leaves it to the limit of open files.
    pub max_connections: Option<usize>,
}

/// HTTP/2 pings of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Time between them; zero turns them off.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// What the server compacts by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Keep the history of this long.
    Periodic(Duration),
    /// Keep this many revisions.
    Revisions(i64),
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Go's names of the TLS 1.2 cipher suites that can be chosen. Those of TLS 1.3 are always on, as in Go.
pub const CIPHER_SUITES: [&str; 6] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// TLS of the client port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server's certificate chain.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// Whether clients must show a certificate.
    pub client_cert_auth: bool,
    /// Who signs them.
    pub trusted_ca_file: Option<PathBuf>,
    /// Which are revoked.
    pub crl_file: Option<PathBuf>,
    /// Host names of which a client's certificate must have one; empty means any.
    pub allowed_hostnames: Vec<String>,
    /// Whether to make certificates when there are none.
    pub auto_tls: bool,
    /// How long those are valid, in years.
    pub self_signed_validity_years: u64,
    /// Names of [`CIPHER_SUITES`]; empty means all.
    pub cipher_suites: Vec<String>,
    /// The lowest version.
    pub min_version: TlsVersion,
    /// The highest version.
    pub max_version: TlsVersion,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line, as zap writes it.
    Json,
    /// Columns for a reader.
    Console,
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// A file that is appended to.
    File(PathBuf),
}

/// What is logged, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The lowest level; `panic` and `fatal` of etcd are its errors.
    pub level: tracing::Level,
    /// The form.
    pub format: LogFormat,
    /// Where to; at least one.
    pub outputs: Vec<LogOutput>,
}

/// etcd's quota when none is given: 2 GiB.
const QUOTA_BYTES_DEFAULT: u64 = 2 << 30;

/// Builds the configuration. What contradicts itself is found by `validate`.
pub fn build(values: &Values) -> Result<Config, ConfigError> {
    let name = values.text("name").to_owned();
    let data_dir = match values.text("data-dir") {
        "" => PathBuf::from(format!("{}.etcd", if name.is_empty() { "default" } else { &name })),
        given => PathBuf::from(given),
    };
    Ok(Config {
        data_dir,
        listen: listen(values)?,
        cluster: cluster(values, &name)?,
        limits: limits(values)?,
        keepalive: Keepalive {
            interval: values.duration("grpc-keepalive-interval")?,
            timeout: values.duration("grpc-keepalive-timeout")?,
        },
        tls: tls(values)?,
        auto_compaction: auto_compaction(values)?,
        log: log(values)?,
        metrics_extensive: values.text("metrics") == "extensive",
        warn_unary_request: values.duration("warning-unary-request-duration")?,
        watch_progress_interval: values.duration("watch-progress-notify-interval")?,
        feature_gates: feature_gates::parse(values.text("feature-gates")).map_err(ConfigError::Invalid)?,
        rpc_threads: at_least_one(values, "rpc-threads")?,
        core_placement: CorePlacement::named(values.text("core-placement")),
        warnings: Vec::new(),
        name,
    })
}

fn listen(values: &Values) -> Result<Listen, ConfigError> {
    let mut host_allow = values.list("host-whitelist");
    if host_allow.iter().any(|host| host == "*") {
        host_allow.clear();
    }
    Ok(Listen {
        client: urls(values, "listen-client-urls")?,
        client_http: urls(values, "listen-client-http-urls")?,
        metrics: urls(values, "listen-metrics-urls")?,
        peer: urls(values, "listen-peer-urls")?,
        reuse_port: values.boolean("socket-reuse-port")?,
        host_allow,
        cors: values.list("cors"),
    })
}

fn urls(values: &Values, name: &'static str) -> Result<Vec<Url>, ConfigError> {
    Url::parse_list(values.text(name))
        .map_err(|reason| ConfigError::Invalid(format!("error setting up {name}: {reason}")))
}

fn cluster(values: &Values, name: &str) -> Result<Cluster, ConfigError> {
    let advertised = |flag| Ok::<_, ConfigError>(urls(values, flag)?.iter().map(Url::to_string).collect());
    let advertise_peer: Vec<String> = advertised("initial-advertise-peer-urls")?;
    let mut initial = Vec::new();
    for part in values.list("initial-cluster") {
        let (member, url) = part.split_once('=').ok_or_else(|| {
            ConfigError::Invalid(format!(
                "error setting up initial cluster: {part:?} is not of the form name=url"
            ))
        })?;
        let url = Url::parse(url)
            .map_err(|reason| ConfigError::Invalid(format!("error setting up initial cluster: {reason}")))?;
        initial.push((member.trim().to_owned(), url.to_string()));
    }
    if initial.is_empty() {
        let alone = if name.is_empty() { "default" } else { name };
        initial = advertise_peer.iter().map(|url| (alone.to_owned(), url.clone())).collect();
    }
    Ok(Cluster {
        advertise_client: advertised("advertise-client-urls")?,
        advertise_peer,
        initial,
        token: values.text("initial-cluster-token").to_owned(),
        heartbeat_ms: values.unsigned("heartbeat-interval")?,
        election_ms: values.unsigned("election-timeout")?,
    })
}

fn limits(values: &Values) -> Result<Limits, ConfigError> {
    let quota_bytes = match values.integer("quota-backend-bytes")? {
        0 => Some(QUOTA_BYTES_DEFAULT),
        negative if negative < 0 => None,
        bytes => Some(bytes.unsigned_abs()),
    };
    let max_connections = match values.unsigned("max-client-connections")? {
        0 => None,
        count => Some(usize::try_from(count).unwrap_or(usize::MAX)),
    };
    Ok(Limits {
        quota_bytes,
        max_txn_ops: at_least_one(values, "max-txn-ops")?,
        max_request_bytes: at_least_one(values, "max-request-bytes")?,
        // etcd's default is the largest number there is, which HTTP/2 writes as 32 bits.
        max_concurrent_streams: u32::try_from(values.unsigned("max-concurrent-streams")?).unwrap_or(u32::MAX),
        max_connections,
    })
}

fn at_least_one(values: &Values, name: &'static str) -> Result<usize, ConfigError> {
    match usize::try_from(values.unsigned(name)?) {
        Ok(0) => Err(ConfigError::Invalid(format!("--{name} must be at least 1"))),
        Ok(count) => Ok(count),
        Err(_) => Err(ConfigError::Invalid(format!("--{name} is too large"))),
    }
}

fn tls(values: &Values) -> Result<TlsSettings, ConfigError> {
    let file = |name| match values.text(name) {
        "" => None,
        path => Some(PathBuf::from(path)),
    };
    let version = |name, default| match values.text(name) {
        "" => Ok(default),
        "TLS1.2" => Ok(TlsVersion::Tls12),
        "TLS1.3" => Ok(TlsVersion::Tls13),
        other => Err(ConfigError::Invalid(format!(
            "--{name}: unexpected TLS version {other:?} (must be one of: TLS1.2, TLS1.3)"
        ))),
    };
    let trusted_ca_file = file("trusted-ca-file");
    Ok(TlsSettings {
        cert_file: file("cert-file"),
        key_file: file("key-file"),
        // etcd's rule: an authority alone already asks for certificates.
        client_cert_auth: values.boolean("client-cert-auth")? || trusted_ca_file.is_some(),
        trusted_ca_file,
        crl_file: file("client-crl-file"),
        allowed_hostnames: values.list("client-cert-allowed-hostname"),
        auto_tls: values.boolean("auto-tls")?,
        self_signed_validity_years: values.unsigned("self-signed-cert-validity")?,
        cipher_suites: values.list("cipher-suites"),
        min_version: version("tls-min-version", TlsVersion::Tls12)?,
        max_version: version("tls-max-version", TlsVersion::Tls13)?,
    })
}

fn auto_compaction(values: &Values) -> Result<Option<AutoCompaction>, ConfigError> {
    let retention = values.text("auto-compaction-retention");
    let by_revision = values.text("auto-compaction-mode") == "revision";
    let number = retention.parse::<i64>().ok().filter(|number| *number >= 0);
    let parsed = match (number, by_revision) {
        (Some(0), _) => return Ok(None),
        (Some(revisions), true) => AutoCompaction::Revisions(revisions),
        (Some(hours), false) => {
            let seconds = hours.unsigned_abs().checked_mul(3600).ok_or_else(|| {
                ConfigError::Invalid(format!("--auto-compaction-retention={retention}: too many hours"))
            })?;
            AutoCompaction::Periodic(Duration::from_secs(seconds))
        }
        (None, true) => {
            return Err(ConfigError::Invalid(format!(
                "--auto-compaction-retention={retention}: with --auto-compaction-mode=revision it is a number"
            )));
        }
        (None, false) => AutoCompaction::Periodic(duration::parse(retention).map_err(|reason| {
            ConfigError::Invalid(format!("error parsing --auto-compaction-retention: {reason}"))
        })?),
    };
    Ok(Some(parsed).filter(|parsed| *parsed != AutoCompaction::Periodic(Duration::ZERO)))
}

fn log(values: &Values) -> Result<LogSettings, ConfigError> {
    let level = match values.text("log-level") {
        "debug" => tracing::Level::DEBUG,
        "info" => tracing::Level::INFO,
        "warn" => tracing::Level::WARN,
        _ => tracing::Level::ERROR,
    };
    let format = match values.text("log-format") {
        "console" => LogFormat::Console,
        _ => LogFormat::Json,
    };
    let mut outputs = Vec::new();
    for output in values.list("log-outputs") {
        let output = match output.as_str() {
            "default" | "stderr" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            "systemd/journal" => {
                return Err(ConfigError::NotYet(
                    "--log-outputs=systemd/journal is not there yet; the journal reads stderr".to_owned(),
                ));
            }
            path => LogOutput::File(PathBuf::from(path)),
        };
        if !outputs.contains(&output) {
            outputs.push(output);
        }
    }
    if outputs.is_empty() {
        outputs.push(LogOutput::Stderr);
    }
    Ok(LogSettings { level, format, outputs })
}
