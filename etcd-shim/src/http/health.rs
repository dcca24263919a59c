//! /health as etcd always had it; /livez and /readyz as Kubernetes asks.

use super::exposition::Exposition;
use super::router::{Reply, query_has, query_values};
use http::StatusCode;
use kvstore::command::AlarmKind;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// An answer that takes time; an error says what failed, in the words clients know.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// What a member knows about itself at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether it knows a leader.
    pub has_leader: bool,
    /// Whether it does not vote.
    pub is_learner: bool,
    /// The alarms that are set, of all members.
    pub alarms: Vec<AlarmKind>,
}

/// The store as health and metrics see it.
pub trait Member: Send + Sync + 'static {
    /// Reads something here.
    fn serializable_read(&self) -> Answer<'_>;
    /// Reads something that is certainly the newest.
    fn linearizable_read(&self) -> Answer<'_>;
    /// What it knows at once.
    fn facts(&self) -> Facts;
    /// Writes its metrics.
    fn expose(&self, out: &mut Exposition);
}

/// A check of /livez or /readyz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    async fn run(self, member: &dyn Member) -> Result<(), String> {
        match self {
            Check::DataCorruption if member.facts().alarms.contains(&AlarmKind::Corrupt) => {
                Err("alarm activated: CORRUPT".to_owned())
            }
            Check::NonLearner if member.facts().is_learner => {
                Err("etcdserver: rpc not supported for learner".to_owned())
            }
            Check::DataCorruption | Check::NonLearner => Ok(()),
            Check::SerializableRead => member.serializable_read().await,
            Check::LinearizableRead => member.linearizable_read().await,
        }
    }
}

const LIVEZ: [Check; 1] = [Check::SerializableRead];
const READYZ: [Check; 4] =
    [Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

/// One check of one kind of health with its results.
#[derive(Debug)]
struct Counted {
    kind: &'static str,
    check: Check,
    succeeded: AtomicU64,
    failed: AtomicU64,
    /// The last result: 0 none yet, 1 success, 2 failure.
    last: AtomicU8,
}

/// Answers the three paths and counts the answers.
#[derive(Debug)]
pub(super) struct Health {
    deadline: Duration,
    counted: Vec<Counted>,
    succeeded: AtomicU64,
    failed: AtomicU64,
}

impl Health {
    pub(super) fn new(deadline: Duration) -> Health {
        let counted = [("livez", LIVEZ.as_slice()), ("readyz", READYZ.as_slice())];
        let counted = counted.iter().flat_map(|(kind, checks)| checks.iter().map(|check| (*kind, *check)));
        Health {
            deadline,
            counted: counted
                .map(|(kind, check)| Counted {
                    kind,
                    check,
                    succeeded: AtomicU64::new(0),
                    failed: AtomicU64::new(0),
                    last: AtomicU8::new(0),
                })
                .collect(),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Answers `/health`.
    pub(super) async fn health(&self, member: &dyn Member, query: &str) -> Reply {
        let reason = self.unhealthy(member, query).await;
        let healthy = reason.is_none();
        let reason = reason.unwrap_or_default();
        let body = serde_json::json!({ "health": healthy.to_string(), "reason": reason }).to_string();
        if healthy {
            self.succeeded.fetch_add(1, Relaxed);
            return Reply::text(StatusCode::OK, body);
        }
        self.failed.fetch_add(1, Relaxed);
        tracing::warn!(output = body, status_code = 503, "Health check error");
        Reply::text(StatusCode::SERVICE_UNAVAILABLE, body + "\n")
    }

    async fn unhealthy(&self, member: &dyn Member, query: &str) -> Option<String> {
        let excluded = query_values(query, "exclude");
        let serializable = query_values(query, "serializable").contains(&"true");
        let facts = member.facts();
        for alarm in &facts.alarms {
            let name = alarm_name(*alarm);
            if !excluded.contains(&name) {
                return Some(format!("ALARM {name}"));
            }
        }
        if !serializable && !facts.has_leader {
            return Some("RAFT NO LEADER".to_owned());
        }
        let read = if serializable { member.serializable_read() } else { member.linearizable_read() };
        self.in_time(read).await.err().map(|reason| format!("RANGE ERROR:{reason}"))
    }

    async fn in_time(&self, answer: impl Future<Output = Result<(), String>>) -> Result<(), String> {
        match tokio::time::timeout(self.deadline, answer).await {
            Ok(result) => result,
            Err(_) => Err("etcdserver: request timed out".to_owned()),
        }
    }

    /// Whether this is `/livez`, `/readyz` or a single check below them.
    pub(super) fn has(&self, path: &str) -> bool {
        match split(path) {
            Some((kind, single)) => self.counted.iter().any(|counted| {
                counted.kind == kind && single.is_none_or(|single| single == counted.check.name())
            }),
            None => false,
        }
    }

    /// Answers a path that [`Health::has`].
    pub(super) async fn checks(&self, member: &dyn Member, path: &str, query: &str) -> Reply {
        let (kind, single) = split(path).unwrap_or_default();
        let excluded = query_values(query, "exclude");
        let mut passed = true;
        let mut report = String::new();
        for counted in self.counted.iter().filter(|counted| counted.kind == kind) {
            let name = counted.check.name();
            let wanted = match single {
                Some(single) => single == name,
                None => !excluded.contains(&name),
            };
            if !wanted {
                continue;
            }
            match self.in_time(counted.check.run(member)).await {
                Ok(()) => {
                    counted.succeeded.fetch_add(1, Relaxed);
                    counted.last.store(1, Relaxed);
                    report.push_str(&format!("[+]{name} ok\n"));
                }
                Err(reason) => {
                    counted.failed.fetch_add(1, Relaxed);
                    counted.last.store(2, Relaxed);
                    report.push_str(&format!("[-]{name} failed: {reason}\n"));
                    passed = false;
                }
            }
        }
        if !passed {
            tracing::error!(path, reason = report, status_code = 503, "Health check error");
            return Reply::text(StatusCode::SERVICE_UNAVAILABLE, report + "\n");
        }
        let verbose = if query_has(query, "verbose") { report.as_str() } else { "" };
        Reply::text(StatusCode::OK, format!("{verbose}ok\n"))
    }

    pub(super) fn expose(&self, out: &mut Exposition) {
        let help = "The total number of successful health checks";
        out.counter("etcd_server_health_success", help, self.succeeded.load(Relaxed));
        let help = "The total number of failed health checks";
        out.counter("etcd_server_health_failures", help, self.failed.load(Relaxed));
        let help = "The result of each kind of healthcheck.";
        let mut family = out.family("etcd_server_healthcheck", help, "gauge");
        for counted in self.counted.iter().filter(|counted| counted.last.load(Relaxed) != 0) {
            let value = if counted.last.load(Relaxed) == 1 { 1.0 } else { 0.0 };
            family.sample(&[("name", counted.check.name()), ("type", counted.kind)], value);
        }
        let help = "The total number of each kind of healthcheck.";
        let mut family = out.family("etcd_server_healthchecks_total", help, "counter");
        for counted in &self.counted {
            for (status, count) in [("success", &counted.succeeded), ("error", &counted.failed)] {
                let labels = [("name", counted.check.name()), ("status", status), ("type", counted.kind)];
                family.sample(&labels, count.load(Relaxed) as f64);
            }
        }
    }
}

/// `/kind` or `/kind/check`.
fn split(path: &str) -> Option<(&str, Option<&str>)> {
    let path = path.strip_prefix('/')?;
    Some(match path.split_once('/') {
        Some((kind, single)) => (kind, Some(single)),
        None => (path, None),
    })
}

fn alarm_name(alarm: AlarmKind) -> &'static str {
    match alarm {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    }
}
