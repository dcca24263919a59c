//! The life of the process: open, serve, end.
//!
//! ```text
//! files of TLS ─► store opened ─► sockets bound ─► accepting ─► "ready to serve client requests"
//!       signal ─► no new connections ─► writes under way answered ─► store stopped ─► connections dropped
//! ```
//!
//! [`run`] does it all and says how the process should end. [`listeners`] binds the URLs and gives each its
//! part, [`member`] shows the store to health and metrics, [`auto_compaction`] compacts by the clock,
//! [`notify`] talks to systemd and [`descriptors`] divides the open files that the system allows.
//!
//! Invariants:
//! - nothing is accepted before the store can answer, and the line that process managers wait for is printed
//!   after the sockets are bound;
//! - a failed start prints one line that says what to change, and leaves with 1;
//! - a store that stopped itself ends the process with 1: a half-dead member must not look alive;
//! - a clean end takes at most about a second plus the store's last flush, however many watches are open, and
//!   leaves with 0; a second signal ends it at once.
//!
//! Deliberately missing: handing over leadership before the end (there is nobody to take it), reloading the
//! configuration, and daemonising.

mod auto_compaction;
mod descriptors;
mod listeners;
mod member;
mod notify;

use crate::arrivals::Arrivals;
use crate::config::{Config, CorePlacement};
use crate::http::Calls;
use crate::listener::Shutdown;
use crate::service::{Identity, Services, Settings};
use crate::version::{ETCD_VERSION, GIT_REVISION, HOLDFAST_VERSION};
use crate::{logging, tls};
use kvstore::store::{CoreFuture, Pace, Placement, Store};
use kvstore::{Error, KeyspaceId, NodeId};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Every so many tasks one runs that another thread has woken: a write whose batch is durable. tokio's 31 would answer
/// a thousand writes only after thirty thousand tasks, as long as new requests keep coming.
const WOKEN_ELSEWHERE_INTERVAL: u32 = 2;

/// How long writes under way may take at the end. etcd allows seven seconds; a client whose request was cut
/// off asks again, and a supervisor waits for the port.
const WRITES_PATIENCE: Duration = Duration::from_millis(500);

/// How long connections may take to end after the store has: every stream ends with it.
const CONNECTIONS_PATIENCE: Duration = Duration::from_millis(300);

/// Runs the server until it ends; the exit code of the process.
pub fn run(config: Config) -> ExitCode {
    if let Err(reason) = logging::install(&config.log) {
        return failed(&reason, true);
    }
    let says_on_stderr = config.log.outputs.contains(&crate::config::LogOutput::Stderr);
    match serve_to_the_end(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => failed(&reason, says_on_stderr),
    }
}

/// Reports the end of a process that could not go on: a line for people on standard error, and one in the log
/// where that is something else.
fn failed(reason: &str, log_is_on_stderr: bool) -> ExitCode {
    if !log_is_on_stderr {
        tracing::error!(error = reason, "the server ends");
    }
    // Standard error may be full, or gone: no reason for a panic.
    let _ = writeln!(std::io::stderr(), "etcd-shim: {reason}");
    ExitCode::FAILURE
}

fn serve_to_the_end(config: Config) -> Result<(), String> {
    tracing::info!(
        etcd_version = ETCD_VERSION,
        holdfast_version = HOLDFAST_VERSION,
        git_sha = GIT_REVISION,
        data_dir = %config.data_dir.display(),
        name = config.name,
        "starting the server"
    );
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let descriptors = descriptors::raise();
    descriptors::check(descriptors)?;
    let mut tls = config.tls.clone();
    // Files of the operator's are judged before anything is written; those of --auto-tls lie in the data
    // directory and have to wait for it.
    if tls.cert_file.is_some() && listeners::need_tls(&config.listen) {
        tls::TlsSource::open(tls.clone()).map_err(|error| error.to_string())?;
    }
    let (store, identity) = open_store(&config)?;
    if tls.cert_file.is_none() && tls.auto_tls && listeners::need_tls(&config.listen) {
        let made = tls::self_signed(&tls, &config.data_dir, &config.listen.client);
        tls = made.map_err(|error| error.to_string())?;
    }
    let mut runtime = match config.rpc_threads {
        1 => {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.global_queue_interval(WOKEN_ELSEWHERE_INTERVAL);
            builder
        }
        threads => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    let runtime = runtime.enable_all().build().map_err(|error| format!("cannot start a runtime: {error}"))?;
    // Now that the store has started its threads. A system that refuses leaves this one as it was.
    Pace::Prompt.set();
    let served = runtime.block_on(serve(&config, tls, descriptors, store, identity));
    // What still runs are tasks of connections that were dropped and reads for a hash; none holds data back.
    runtime.shutdown_timeout(CONNECTIONS_PATIENCE);
    served
}

/// Polls the core only after the system was asked what has arrived, and those were served whom it concerns: the more
/// requests share a turn of the core, the fewer syncs there are. Asked twice, because clients that were answered just now
/// need a moment for their next requests. With nothing else to do that takes two microseconds.
async fn after_arrivals(core: CoreFuture) {
    let mut core = std::pin::pin!(core);
    let mut arrivals = Arrivals::default();
    let mut asked = 0;
    std::future::poll_fn(|context| {
        while asked < 2 {
            std::task::ready!(arrivals.poll(context));
            asked += 1;
        }
        asked = 0;
        core.as_mut().poll(context)
    })
    .await
}

/// Opens the store and says who this member is: its ids are those the data directory was made with, or follow
/// from the flags when it is new.
fn open_store(config: &Config) -> Result<(Store, Identity), String> {
    let peer_urls = config.cluster.initial.iter().map(|(_, url)| url.clone()).collect();
    let mut identity = Identity::single(
        config.name.clone(),
        peer_urls,
        config.cluster.advertise_client.clone(),
        &config.cluster.token,
        ETCD_VERSION,
    );
    let mut settings = kvstore::store::Config::new(&config.data_dir);
    settings.node_id = NodeId::new(identity.member_id);
    settings.cluster_id = identity.cluster_id;
    settings.heartbeat_ms = config.cluster.heartbeat_ms;
    settings.election_ms = config.cluster.election_ms;
    settings.quota_bytes = config.limits.quota_bytes;
    settings.max_txn_ops = config.limits.max_txn_ops;
    settings.max_request_bytes = config.limits.max_request_bytes;
    settings.placement = match config.core_placement {
        CorePlacement::OwnThread => Placement::Thread,
        CorePlacement::RpcThread => Placement::Caller,
        CorePlacement::Adaptive => Placement::Adaptive,
    };
    let begun = Instant::now();
    let store = Store::open(settings).map_err(|error| error.to_string())?;
    let status = store.status();
    identity.member_id = status.node_id.get();
    identity.cluster_id = status.cluster_id;
    tracing::info!(
        member_id = format!("{:x}", identity.member_id),
        cluster_id = format!("{:x}", identity.cluster_id),
        applied_index = status.applied.get(),
        took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        "the store is open"
    );
    Ok((store, identity))
}

async fn serve(
    config: &Config,
    tls: crate::config::TlsSettings,
    descriptors: u64,
    store: Store,
    identity: Identity,
) -> Result<(), String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    if let Some(core) = store.take_core() {
        tokio::spawn(after_arrivals(core));
    }
    let settings = Settings {
        max_request_bytes: config.limits.max_request_bytes,
        max_txn_ops: config.limits.max_txn_ops,
        watch_progress_interval: config.watch_progress_interval,
        election_timeout: Duration::from_millis(config.cluster.election_ms),
    };
    let member_id = identity.member_id;
    let services = Services::new(store.clone(), identity, settings);
    let routes = services.routes();
    let calls = Calls::new(member::methods(), config.metrics_extensive, config.warn_unary_request);
    let shutdown = Shutdown::default();
    let parts = listeners::Parts { store: store.clone(), member_id, routes, calls: Arc::new(calls) };
    let urls = listeners::start(config, tls, descriptors, parts, &shutdown).await?;
    if let Some(setting) = config.auto_compaction {
        tokio::spawn(auto_compaction::run(setting, store.clone(), KeyspaceId::DEFAULT));
    }
    for url in &urls {
        if url.scheme.is_secure() {
            tracing::info!(address = %url, "serving client traffic securely");
        } else {
            tracing::info!(address = %url, "serving client traffic insecurely; this is strongly discouraged!");
        }
    }
    tracing::info!(addresses = join(&urls), "ready to serve client requests");
    notify::systemd("READY=1");

    let name = tokio::select! {
        error = store.failed() => {
            shutdown.finish(CONNECTIONS_PATIENCE).await;
            return Err(error.to_string());
        }
        _ = terminate.recv() => "terminated",
        _ = interrupt.recv() => "interrupt",
    };
    tracing::info!(signal = name, "received signal; shutting down");
    notify::systemd("STOPPING=1");
    tokio::select! {
        ended = end(&store, &services, &shutdown) => ended,
        _ = terminate.recv() => Err("a second signal cut the shutdown short".to_owned()),
        _ = interrupt.recv() => Err("a second signal cut the shutdown short".to_owned()),
    }
}

async fn end(store: &Store, services: &Services, shutdown: &Shutdown) -> Result<(), String> {
    shutdown.drain();
    // Clients of long streams learn why, and can go elsewhere while the last writes are answered.
    services.end_streams();
    let begun = Instant::now();
    while store.commands_in_flight() > 0 && begun.elapsed() < WRITES_PATIENCE {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    store.stop().await;
    shutdown.finish(CONNECTIONS_PATIENCE).await;
    match store.failed().await {
        Error::Stopped => {
            tracing::info!("the server has stopped");
            Ok(())
        }
        error => Err(error.to_string()),
    }
}

fn join(urls: &[crate::config::Url]) -> String {
    urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
