//! The one table of flags: name, kind, default, what Holdfast does with it, help.

use super::values::{parse_boolean, parse_integer, parse_unsigned};
use super::{CorePlacement, Url, duration, feature_gates};

/// What a flag's text must look like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Anything.
    Text,
    /// `true` or `false` as Go spells them; alone it means true.
    Bool,
    /// 0 or more.
    Unsigned,
    /// Any whole number.
    Integer,
    /// A duration as Go writes it.
    Duration,
    /// A comma-separated list of URLs.
    Urls,
    /// Feature gates.
    Gates,
    /// One of these words.
    Choice(&'static [&'static str]),
}

impl Kind {
    /// Whether the text is of this kind.
    pub fn check(self, text: &str) -> Result<(), String> {
        match self {
            Kind::Text => Ok(()),
            Kind::Bool => parse_boolean(text).map(drop),
            Kind::Unsigned => parse_unsigned(text).map(drop),
            Kind::Integer => parse_integer(text).map(drop),
            Kind::Duration => duration::parse(text).map(drop),
            Kind::Urls => Url::parse_list(text).map(drop),
            Kind::Gates => feature_gates::parse(text).map(drop),
            Kind::Choice(words) if words.contains(&text) => Ok(()),
            Kind::Choice(words) => Err(format!("must be one of {}", words.join(", "))),
        }
    }
}

/// What becomes of a flag.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Class {
    /// It has its effect.
    Used,
    /// It is accepted and does nothing; why.
    Ignored(&'static str),
    /// An old name of another flag.
    Alias(&'static str),
    /// Anything but the default is refused; with these words.
    NotYet(&'static str),
}

/// One flag.
#[derive(Debug)]
pub struct Flag {
    /// Its name, without dashes.
    pub name: &'static str,
    /// What its text must look like.
    pub kind: Kind,
    /// What it is when it is not given.
    pub default: &'static str,
    /// What becomes of it.
    pub class: Class,
    /// One line for `--help`.
    pub help: &'static str,
}

impl Flag {
    /// Whether `text` says the same as the default.
    pub fn is_default(&self, text: &str) -> bool {
        match self.kind {
            Kind::Bool => parse_boolean(text) == parse_boolean(self.default),
            Kind::Duration => duration::parse(text) == duration::parse(self.default),
            _ => text == self.default,
        }
    }
}

/// Flags that belong together in `--help`.
#[derive(Debug)]
pub struct Section {
    /// Its heading.
    pub title: &'static str,
    /// Its flags.
    pub flags: &'static [Flag],
}

/// The flag of this name.
pub fn find(name: &str) -> Option<&'static Flag> {
    SECTIONS.iter().flat_map(|section| section.flags).find(|flag| flag.name == name)
}

const fn flag(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    class: Class,
    help: &'static str,
) -> Flag {
    Flag { name, kind, default, class, help }
}

use Class::{Alias, Ignored, NotYet, Used};
use Kind::{Bool, Choice, Gates, Integer, Text, Unsigned, Urls};

const BACKEND: Class = Ignored("it steers etcd's own back end, which Holdfast does not have");
const LEGACY: Class = Ignored("it has had no effect since early releases of etcd");
const PEERS: Class =
    Ignored("a single member has no peers; it takes effect with clusters of several members");
const AUTH: Class = NotYet("authentication is not there yet");
const DISCOVERY: Class = NotYet("discovery is not there yet; name the members with --initial-cluster");
const DISCOVERY_DETAIL: Class = Ignored("it only matters with --discovery-token, which is not there yet");
const TRACING: Class = Ignored("it only matters with --enable-distributed-tracing, which is not there yet");

/// All flags, in the order of `--help`.
pub static SECTIONS: [Section; 9] = [
    Section { title: "Member", flags: MEMBER },
    Section { title: "Clustering", flags: CLUSTERING },
    Section { title: "Security", flags: SECURITY },
    Section { title: "Auth", flags: AUTHENTICATION },
    Section { title: "Logging, metrics and profiling", flags: OBSERVING },
    Section { title: "Features and limits", flags: FEATURES },
    Section { title: "Holdfast's own", flags: OWN },
    Section { title: "Accepted for old manifests", flags: OLD },
    Section { title: "Old names", flags: EXPERIMENTAL },
];

#[rustfmt::skip]
const MEMBER: &[Flag] = &[
    flag("name", Text, "default", Used, "Human-readable name of this member."),
    flag("data-dir", Text, "", Used, "Path to the data directory; ${name}.etcd when empty."),
    flag("wal-dir", Text, "", NotYet("a separate directory for the log is not there yet; it lives in --data-dir"), "Path to a separate log directory."),
    flag("snapshot-count", Unsigned, "10000", Ignored("the log is purged as soon as the store has flushed"), "Committed transactions between snapshots."),
    flag("heartbeat-interval", Unsigned, "100", Used, "Time in milliseconds of a heartbeat interval."),
    flag("election-timeout", Unsigned, "1000", Used, "Time in milliseconds for an election to time out; at least 5 heartbeats."),
    flag("initial-election-tick-advance", Bool, "true", Ignored("a single member elects itself at once"), "Whether to fast-forward the first election."),
    flag("listen-peer-urls", Urls, "http://localhost:2380", Used, "URLs to listen on for peer traffic (not opened by a single member)."),
    flag("listen-client-urls", Urls, "http://localhost:2379", Used, "URLs to listen on for clients: http, https, unix, unixs."),
    flag("listen-client-http-urls", Urls, "", Used, "URLs to listen on for HTTP only; --listen-client-urls then serves gRPC only."),
    flag("listen-metrics-urls", Urls, "", Used, "Additional URLs that serve /metrics, /health, /livez and /readyz."),
    flag("quota-backend-bytes", Integer, "0", Used, "Raise alarms when live data exceeds this; 0 means 2 GiB, negative no quota."),
    flag("max-txn-ops", Unsigned, "128", Used, "Most operations in one transaction."),
    flag("max-request-bytes", Unsigned, "1572864", Used, "Largest request in bytes the server accepts."),
    flag("max-concurrent-streams", Unsigned, "4294967295", Used, "Most streams that a client may have open at a time."),
    flag("grpc-keepalive-min-time", Kind::Duration, "5s", Ignored("client pings are answered at any rate and never punished"), "Shortest time between pings of a client."),
    flag("grpc-keepalive-interval", Kind::Duration, "2h0m0s", Used, "Time between pings of the server; 0 disables them."),
    flag("grpc-keepalive-timeout", Kind::Duration, "20s", Used, "How long an answer to a ping may take before the connection is closed."),
    flag("socket-reuse-port", Bool, "false", Used, "Set SO_REUSEPORT on listeners."),
    flag("socket-reuse-address", Bool, "false", Ignored("SO_REUSEADDR is always set on listeners"), "Set SO_REUSEADDR on listeners."),
    flag("enable-grpc-gateway", Bool, "true", Ignored("the JSON gateway is not there yet; /v3/ answers 501"), "Serve the JSON gateway."),
    flag("raft-read-timeout", Kind::Duration, "5s", PEERS, "Read timeout of peer connections."),
    flag("raft-write-timeout", Kind::Duration, "5s", PEERS, "Write timeout of peer connections."),
];

#[rustfmt::skip]
const CLUSTERING: &[Flag] = &[
    flag("initial-advertise-peer-urls", Urls, "http://localhost:2380", Used, "This member's peer URLs to tell the rest of the cluster."),
    flag("initial-cluster", Text, "", Used, "Initial cluster: name=url,…; this member alone when empty."),
    flag("initial-cluster-state", Choice(&["new", "existing"]), "new", NotYet("joining an existing cluster is not there yet"), "Initial cluster state."),
    flag("initial-cluster-token", Text, "etcd-cluster", Used, "Initial cluster token; the ids are computed from it."),
    flag("advertise-client-urls", Urls, "http://localhost:2379", Used, "This member's client URLs to tell clients."),
    flag("discovery", Text, "", DISCOVERY, "Discovery URL."),
    flag("discovery-token", Text, "", DISCOVERY, "Discovery token."),
    flag("discovery-endpoints", Text, "", DISCOVERY, "Endpoints of the discovery service."),
    flag("discovery-srv", Text, "", DISCOVERY, "DNS domain to find the cluster with."),
    flag("discovery-srv-name", Text, "", DISCOVERY, "Suffix of the DNS service name."),
    flag("discovery-fallback", Text, "exit", DISCOVERY_DETAIL, "What to do when discovery fails."),
    flag("discovery-proxy", Text, "", DISCOVERY_DETAIL, "HTTP proxy for discovery."),
    flag("discovery-dial-timeout", Kind::Duration, "2s", DISCOVERY_DETAIL, "Dial timeout."),
    flag("discovery-request-timeout", Kind::Duration, "5s", DISCOVERY_DETAIL, "Request timeout."),
    flag("discovery-keepalive-time", Kind::Duration, "2s", DISCOVERY_DETAIL, "Keepalive time."),
    flag("discovery-keepalive-timeout", Kind::Duration, "6s", DISCOVERY_DETAIL, "Keepalive timeout."),
    flag("discovery-insecure-transport", Bool, "true", DISCOVERY_DETAIL, "Without TLS."),
    flag("discovery-insecure-skip-tls-verify", Bool, "false", DISCOVERY_DETAIL, "Without verification."),
    flag("discovery-cert", Text, "", DISCOVERY_DETAIL, "Certificate file."),
    flag("discovery-key", Text, "", DISCOVERY_DETAIL, "Key file."),
    flag("discovery-cacert", Text, "", DISCOVERY_DETAIL, "CA file."),
    flag("discovery-user", Text, "", DISCOVERY_DETAIL, "User."),
    flag("discovery-password", Text, "", DISCOVERY_DETAIL, "Password."),
    flag("strict-reconfig-check", Bool, "true", PEERS, "Refuse reconfigurations that would lose the quorum."),
    flag("pre-vote", Bool, "true", Ignored("pre-vote is always on"), "Ask before an election."),
    flag("auto-compaction-retention", Text, "0", Used, "What automatic compaction keeps: a duration, a number of hours, or of revisions; 0 is off."),
    flag("auto-compaction-mode", Choice(&["periodic", "revision"]), "periodic", Used, "How --auto-compaction-retention is read."),
    flag("force-new-cluster", Bool, "false", NotYet("forcing a new cluster is not there yet"), "Make a one-member cluster of this member's data."),
    flag("unsafe-no-fsync", Bool, "false", NotYet("Holdfast never acknowledges a write before it is synced"), "Do not sync."),
];

#[rustfmt::skip]
const SECURITY: &[Flag] = &[
    flag("cert-file", Text, "", Used, "Certificate of the client port."),
    flag("key-file", Text, "", Used, "Key of the client port."),
    flag("client-cert-file", Text, "", PEERS, "Certificate for outgoing client connections."),
    flag("client-key-file", Text, "", PEERS, "Key for outgoing client connections."),
    flag("client-cert-auth", Bool, "false", Used, "Require certificates of clients."),
    flag("client-crl-file", Text, "", Used, "Revoked client certificates."),
    flag("client-cert-allowed-hostname", Text, "", Used, "Host names of which a client certificate must have one."),
    flag("trusted-ca-file", Text, "", Used, "The authority that signs client certificates."),
    flag("auto-tls", Bool, "false", Used, "Make certificates for the client port."),
    flag("peer-cert-file", Text, "", PEERS, "Certificate of the peer port."),
    flag("peer-key-file", Text, "", PEERS, "Key of the peer port."),
    flag("peer-client-cert-file", Text, "", PEERS, "Certificate for outgoing peer connections."),
    flag("peer-client-key-file", Text, "", PEERS, "Key for outgoing peer connections."),
    flag("peer-client-cert-auth", Bool, "false", PEERS, "Require certificates of peers."),
    flag("peer-trusted-ca-file", Text, "", PEERS, "The authority that signs peer certificates."),
    flag("peer-cert-allowed-cn", Text, "", PEERS, "Common name that peer certificates must have."),
    flag("peer-cert-allowed-hostname", Text, "", PEERS, "Host name that peer certificates must have."),
    flag("peer-auto-tls", Bool, "false", PEERS, "Make certificates for the peer port."),
    flag("peer-crl-file", Text, "", PEERS, "Revoked peer certificates."),
    flag("peer-skip-client-san-verification", Bool, "false", PEERS, "Do not verify the names in peer certificates."),
    flag("self-signed-cert-validity", Unsigned, "1", Used, "Validity in years of certificates made by --auto-tls."),
    flag("cipher-suites", Text, "", Used, "Cipher suites for TLS 1.2, by Go's names."),
    flag("tls-min-version", Text, "TLS1.2", Used, "Lowest TLS version: TLS1.2 or TLS1.3."),
    flag("tls-max-version", Text, "", Used, "Highest TLS version; the newest when empty."),
    flag("cors", Text, "*", Used, "Origins of web pages that may read HTTP answers."),
    flag("host-whitelist", Text, "*", Used, "Host names that plain HTTP requests may use."),
];

#[rustfmt::skip]
const AUTHENTICATION: &[Flag] = &[
    flag("auth-token", Text, "simple", AUTH, "Kind of authentication tokens."),
    flag("auth-token-ttl", Unsigned, "300", Ignored("authentication is not there yet"), "Time to live of tokens in seconds."),
    flag("bcrypt-cost", Unsigned, "10", Ignored("authentication is not there yet"), "Cost of hashing passwords."),
];

#[rustfmt::skip]
const OBSERVING: &[Flag] = &[
    flag("logger", Choice(&["zap"]), "zap", Used, "Accepts only 'zap', for its log format."),
    flag("log-outputs", Text, "default", Used, "Comma-separated: default, stderr, stdout, or files."),
    flag("log-level", Choice(&["debug", "info", "warn", "error", "panic", "fatal"]), "info", Used, "Lowest level to log."),
    flag("log-format", Choice(&["json", "console"]), "json", Used, "Form of log lines."),
    flag("enable-log-rotation", Bool, "false", NotYet("log rotation is not there yet; let the supervisor rotate"), "Rotate log files."),
    flag("log-rotation-config-json", Text, "", Ignored("log rotation is not there yet"), "How to rotate."),
    flag("metrics", Choice(&["basic", "extensive"]), "basic", Used, "Detail of metrics; 'extensive' adds histograms of handling time."),
    flag("enable-pprof", Bool, "false", Ignored("there is no Go runtime to profile"), "Serve profiles."),
    flag("enable-distributed-tracing", Bool, "false", NotYet("distributed tracing is not there yet"), "Export traces."),
    flag("distributed-tracing-address", Text, "localhost:4317", TRACING, "Address of the collector."),
    flag("distributed-tracing-service-name", Text, "etcd", TRACING, "Name of the service."),
    flag("distributed-tracing-instance-id", Text, "", TRACING, "Id of the instance."),
    flag("distributed-tracing-sampling-rate", Integer, "0", TRACING, "Samples per million."),
    flag("warning-apply-duration", Kind::Duration, "100ms", Ignored("slow requests are reported by --warning-unary-request-duration"), "Warn about slower applications."),
    flag("warning-unary-request-duration", Kind::Duration, "300ms", Used, "Warn about slower unary requests."),
];

#[rustfmt::skip]
const FEATURES: &[Flag] = &[
    flag("feature-gates", Gates, "", Used, "Name=true,…; etcd's gates."),
    flag("config-file", Text, "", Used, "Configuration file; all other flags and variables are then ignored."),
    flag("version", Bool, "false", Used, "Print the version and leave."),
    flag("watch-progress-notify-interval", Kind::Duration, "10m0s", Used, "Time between progress notifications of idle watches."),
    flag("compaction-batch-limit", Unsigned, "1000", BACKEND, "Revisions to remove in one batch."),
    flag("compaction-sleep-interval", Kind::Duration, "10ms", BACKEND, "Pause between batches."),
    flag("corrupt-check-time", Kind::Duration, "0s", PEERS, "Time between comparisons of the members' data."),
    flag("compact-hash-check-time", Kind::Duration, "1m0s", PEERS, "Time between comparisons of compaction hashes."),
    flag("downgrade-check-time", Kind::Duration, "5s", PEERS, "Time between checks of a downgrade."),
    flag("max-learners", Unsigned, "1", PEERS, "Most learners in the cluster."),
    flag("snapshot-catchup-entries", Unsigned, "5000", PEERS, "Entries kept for slow followers."),
];

#[rustfmt::skip]
const OWN: &[Flag] = &[
    flag("rpc-threads", Unsigned, "1", Used, "Threads that serve clients; one is cheapest per request."),
    flag("core-placement", Choice(CorePlacement::NAMES), CorePlacement::NAMES[0], Used, "Where raft, log and state machine run; rpc-thread saves hand-overs, but a slow disk then holds up reads too; adaptive is rpc-thread, but a write of a large command, or to a disk that is slow, is made and synced on a thread beside."),
    flag("max-client-connections", Unsigned, "0", Used, "Most connections of clients at a time; 0 leaves it to the limit of open files."),
];

#[rustfmt::skip]
const OLD: &[Flag] = &[
    flag("backend-bbolt-freelist-type", Text, "map", BACKEND, ""),
    flag("backend-batch-interval", Text, "", BACKEND, ""),
    flag("backend-batch-limit", Text, "0", BACKEND, ""),
    flag("memory-mlock", Bool, "false", BACKEND, ""),
    flag("bootstrap-defrag-threshold-megabytes", Unsigned, "0", BACKEND, ""),
    flag("max-snapshots", Unsigned, "5", BACKEND, ""),
    flag("max-wals", Unsigned, "5", BACKEND, ""),
    flag("v2-deprecation", Text, "write-only", BACKEND, ""),
    flag("enable-v2", Bool, "false", BACKEND, ""),
    flag("cluster-active-size", Text, "", LEGACY, ""),
    flag("cluster-remove-delay", Text, "", LEGACY, ""),
    flag("cluster-sync-interval", Text, "", LEGACY, ""),
    flag("config", Text, "", LEGACY, ""),
    flag("force", Bool, "false", LEGACY, ""),
    flag("max-result-buffer", Text, "", LEGACY, ""),
    flag("max-retry-attempts", Text, "", LEGACY, ""),
    flag("peer-heartbeat-interval", Text, "", LEGACY, ""),
    flag("peer-election-timeout", Text, "", LEGACY, ""),
    flag("retry-interval", Text, "", LEGACY, ""),
    flag("snapshot", Bool, "false", LEGACY, ""),
    flag("v", Bool, "false", LEGACY, ""),
    flag("vv", Bool, "false", LEGACY, ""),
];

const GATED: Class = Ignored("it became a feature gate; see --feature-gates");

#[rustfmt::skip]
const EXPERIMENTAL: &[Flag] = &[
    flag("experimental-initial-corrupt-check", Bool, "false", GATED, ""),
    flag("experimental-compact-hash-check-enabled", Bool, "false", GATED, ""),
    flag("experimental-enable-lease-checkpoint", Bool, "false", GATED, ""),
    flag("experimental-enable-lease-checkpoint-persist", Bool, "false", GATED, ""),
    flag("experimental-stop-grpc-service-on-defrag", Bool, "false", GATED, ""),
    flag("experimental-txn-mode-write-with-shared-buffer", Bool, "true", GATED, ""),
    flag("experimental-set-member-localaddr", Bool, "false", GATED, ""),
    flag("experimental-corrupt-check-time", Kind::Duration, "0s", Alias("corrupt-check-time"), ""),
    flag("experimental-compact-hash-check-time", Kind::Duration, "1m0s", Alias("compact-hash-check-time"), ""),
    flag("experimental-watch-progress-notify-interval", Kind::Duration, "10m0s", Alias("watch-progress-notify-interval"), ""),
    flag("experimental-compaction-batch-limit", Unsigned, "1000", Alias("compaction-batch-limit"), ""),
    flag("experimental-compaction-sleep-interval", Kind::Duration, "10ms", Alias("compaction-sleep-interval"), ""),
    flag("experimental-warning-apply-duration", Kind::Duration, "100ms", Alias("warning-apply-duration"), ""),
    flag("experimental-warning-unary-request-duration", Kind::Duration, "300ms", Alias("warning-unary-request-duration"), ""),
    flag("experimental-peer-skip-client-san-verification", Bool, "false", Alias("peer-skip-client-san-verification"), ""),
    flag("experimental-enable-distributed-tracing", Bool, "false", Alias("enable-distributed-tracing"), ""),
    flag("experimental-distributed-tracing-address", Text, "localhost:4317", Alias("distributed-tracing-address"), ""),
    flag("experimental-distributed-tracing-service-name", Text, "etcd", Alias("distributed-tracing-service-name"), ""),
    flag("experimental-distributed-tracing-instance-id", Text, "", Alias("distributed-tracing-instance-id"), ""),
    flag("experimental-distributed-tracing-sampling-rate", Integer, "0", Alias("distributed-tracing-sampling-rate"), ""),
    flag("experimental-memory-mlock", Bool, "false", Alias("memory-mlock"), ""),
    flag("experimental-bootstrap-defrag-threshold-megabytes", Unsigned, "0", Alias("bootstrap-defrag-threshold-megabytes"), ""),
    flag("experimental-snapshot-catchup-entries", Unsigned, "5000", Alias("snapshot-catchup-entries"), ""),
    flag("experimental-downgrade-check-time", Kind::Duration, "5s", Alias("downgrade-check-time"), ""),
    flag("experimental-max-learners", Unsigned, "1", Alias("max-learners"), ""),
];
