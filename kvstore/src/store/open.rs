//! Opening, status and stopping.

use super::config::Config;
use super::data_dir::DataDir;
use super::keyspace::Keyspace;
use super::recover::{Recovered, open_engine_and_log, refuse_start};
use super::status::Status;
use crate::apply::{ApplyOptions, StateMachine};
use crate::command::{Alarm, Command, Outcome};
use crate::lease::LeaseReader;
use crate::log::{Files, OsFiles};
use crate::mvcc::Reader;
use crate::propose::Submission;
use crate::read::ReadBarriers;
use crate::runtime::core::{Core, CoreParts, unexpected};
use crate::runtime::shared::Shared;
use crate::runtime::{
    CoreFuture, JobQueue, MetricsSnapshot, Placement, Policy, Threads, Turn, place, spawn_helpers,
};
use crate::storage::Engine;
use crate::types::{CallerId, Error, KeyspaceId, NodeId, Result, Revision, Term};
use crate::watch::{Hub, WatchLimits};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Turns that the start may take until the member leads: a group of one needs two or three, a replay of the log
/// one for each 8 MiB of it.
const START_TURNS_MAX: usize = 10_000;

/// What of a keyspace can be used without asking the core.
pub(super) struct KeyspaceParts {
    pub(super) reader: Reader,
    pub(super) leases: LeaseReader,
    pub(super) hub: Arc<Hub>,
}

pub(super) struct Inner {
    pub(super) config: Config,
    pub(super) shared: Arc<Shared>,
    pub(super) keyspaces: BTreeMap<KeyspaceId, KeyspaceParts>,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) cluster_id: u64,
    core: Mutex<Option<CoreFuture>>,
    threads: Mutex<Threads>,
    /// Keeps the directory locked.
    _data_dir: DataDir,
}

/// A running store. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Store {
    pub(super) inner: Arc<Inner>,
}

impl Drop for Inner {
    /// As [`Store::stop`]: on return the directory can be opened again. Only a core that is a future and still
    /// lives is not waited for: this thread may be the one to poll it.
    fn drop(&mut self) {
        self.shared.mailbox.stop();
        drop(self.core.get_mut().take());
        if self.config.placement == Placement::Thread || self.shared.failure.reason().is_some() {
            std::mem::take(self.threads.get_mut()).join();
        }
    }
}

impl Store {
    /// Opens the data directory, replays what is needed and starts. Blocks until the member can serve.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::DataDir`] and [`Error::Damaged`] say what is wrong with what; no data is
    /// changed on disk in the last two cases.
    pub fn open(config: Config) -> Result<Self> {
        Self::open_on(config, Arc::new(OsFiles))
    }

    /// As [`Store::open`], with the log on `files`: tests let them fail.
    pub(super) fn open_on(config: Config, files: Arc<dyn Files>) -> Result<Self> {
        config.validate()?;
        let mut data_dir = DataDir::open(&config.data_dir, config.node_id, config.cluster_id)?;
        let Recovered { engine, applied, log, node, unflushed_log_bytes } =
            open_engine_and_log(&config, &data_dir, files)?;
        let options = ApplyOptions {
            value_cache_bytes: config.value_cache_bytes,
            changes_in_place: config.placement != Placement::Thread,
        };
        let machine = StateMachine::load(Arc::clone(&engine), options);
        let mut machine = machine.map_err(|error| refuse_start(&data_dir, error))?;
        assert_eq!(machine.applied(), applied, "nobody has written since it was read");
        machine.belongs_to(log.mark()).map_err(|error| refuse_start(&data_dir, error))?;
        let shared = Arc::new(Shared::new(data_dir.node_id));
        let jobs = Arc::new(JobQueue::default());
        let mut keyspaces = BTreeMap::new();
        let mut hubs = BTreeMap::new();
        for id in [KeyspaceId::DEFAULT, KeyspaceId::K8SD] {
            let reader = machine.reader(id)?;
            let hub = Hub::new(reader.clone(), WatchLimits::default());
            hubs.insert(id, Arc::clone(&hub));
            keyspaces.insert(id, KeyspaceParts { reader, leases: machine.leases(id)?, hub });
        }
        let boot_nonce = random_number();
        let tick = Duration::from_millis(config.heartbeat_ms);
        // Five seconds and two election timeouts: etcd's patience with a linearizable read.
        let patience_ticks = (5_000 + 2 * config.election_ms) / config.heartbeat_ms;
        let directory_place = data_dir.place()?;
        let mut core = Core::new(CoreParts {
            node,
            log,
            machine,
            shared: Arc::clone(&shared),
            jobs: Arc::clone(&jobs),
            policy: Policy::new(data_dir.node_id, config.quota_bytes, config.flush_log_bytes),
            hubs,
            reads: ReadBarriers::new(data_dir.node_id, boot_nonce, patience_ticks),
            boot_nonce,
            directory: Arc::clone(&data_dir.lock),
            place: directory_place.clone(),
            tick,
        });
        lead(&mut core).map_err(|error| refuse_start(&data_dir, error))?;
        core.inherit_log(applied.0, unflushed_log_bytes)?;
        data_dir.mark_begun()?;
        let spawn_failed = |e: std::io::Error| Error::Config(format!("a thread cannot be started: {e}"));
        let mut threads = Threads::default();
        let lock = Arc::clone(&data_dir.lock);
        threads
            .handles
            .extend(spawn_helpers(&shared, &jobs, directory_place, lock, tick).map_err(spawn_failed)?);
        let core =
            place(core, config.placement, &shared, &data_dir.lock, &mut threads).map_err(spawn_failed)?;
        let cluster_id = data_dir.cluster_id;
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                shared,
                keyspaces,
                engine,
                cluster_id,
                core: Mutex::new(core),
                threads: Mutex::new(threads),
                _data_dir: data_dir,
            }),
        })
    }

    /// The future that does all the store's work, unless the [`Placement`] is `Thread`. Spawn it once, beside the
    /// requests; it ends when the store stops. `None` when there is none or when it is taken already.
    pub fn take_core(&self) -> Option<CoreFuture> {
        self.inner.core.lock().take()
    }

    /// One keyspace of the store.
    ///
    /// # Panics
    /// For ids other than [`KeyspaceId::DEFAULT`] and [`KeyspaceId::K8SD`]; more come with hosted control planes.
    pub fn keyspace(&self, id: KeyspaceId) -> Keyspace {
        assert!(self.inner.keyspaces.contains_key(&id), "keyspace {id} does not exist");
        Keyspace::new(Arc::clone(&self.inner), id)
    }

    /// What the member knows of itself now.
    pub fn status(&self) -> Status {
        let shared = &self.inner.shared;
        Status {
            node_id: shared.node_id,
            cluster_id: self.inner.cluster_id,
            leader: shared.leader(),
            term: shared.term(),
            applied: shared.applied(),
            committed: shared.committed(),
            live_bytes: shared.live_bytes.load(std::sync::atomic::Ordering::Relaxed),
            disk_bytes: self.inner.engine.disk_bytes()
                + shared.log_bytes.load(std::sync::atomic::Ordering::Relaxed),
            quota_bytes: self.inner.config.quota_bytes,
            alarms: shared.alarms(),
            is_learner: false,
        }
    }

    /// The term, without the cost of a whole [`Status`].
    pub fn term(&self) -> Term {
        self.inner.shared.term()
    }

    /// Who leads, when known, without the cost of a whole [`Status`].
    pub fn leader(&self) -> Option<NodeId> {
        self.inner.shared.leader()
    }

    /// The store's counters.
    pub fn metrics(&self) -> MetricsSnapshot {
        self.inner.shared.metrics.snapshot()
    }

    /// Commands admitted and not yet answered.
    pub fn commands_in_flight(&self) -> usize {
        self.inner.shared.admission.in_flight()
    }

    /// The alarms that are set.
    pub fn alarms(&self) -> Vec<Alarm> {
        self.inner.shared.alarms()
    }

    /// Raises an alarm; gives all alarms and the default keyspace's revision.
    ///
    /// # Errors
    /// As every write.
    pub async fn alarm_activate(&self, alarm: Alarm) -> Result<(Vec<Alarm>, Revision)> {
        self.alarm(Command::AlarmActivate(alarm)).await
    }

    /// Clears an alarm; gives all alarms and the default keyspace's revision. The store raises NOSPACE again by
    /// itself while there is no space.
    ///
    /// # Errors
    /// As every write.
    pub async fn alarm_deactivate(&self, alarm: Alarm) -> Result<(Vec<Alarm>, Revision)> {
        self.alarm(Command::AlarmDeactivate(alarm)).await
    }

    async fn alarm(&self, command: Command) -> Result<(Vec<Alarm>, Revision)> {
        match self.inner.submit(KeyspaceId::DEFAULT, CallerId::NONE, command).await? {
            Outcome::Alarms { alarms, revision } => Ok((alarms, revision)),
            other => Err(unexpected(&other)),
        }
    }

    /// Resolves when the store has ended: with [`Error::Stopped`] after [`Store::stop`], or with the reason for
    /// which it stopped itself. A server must end its process then.
    pub async fn failed(&self) -> Error {
        self.inner.shared.failure.wait().await
    }

    /// Stops cleanly: what is under way is answered, the storage engine is flushed, threads end. Handles that
    /// are left answer [`Error::Stopped`]. A core that is a future must still be polled.
    pub async fn stop(&self) {
        self.inner.shared.mailbox.stop();
        drop(self.take_core());
        self.failed().await;
        let threads = std::mem::take(&mut *self.inner.threads.lock());
        threads.join();
    }
}

impl Inner {
    /// Admits, queues and awaits one command.
    pub(super) async fn submit(
        &self,
        keyspace: KeyspaceId,
        caller: CallerId,
        command: Command,
    ) -> Result<Outcome> {
        let bytes = crate::command::request_size(&command);
        let permit = self.shared.admission.admit(caller, bytes)?;
        let (slot, ticket) = crate::propose::ticket();
        let waiter = Some((slot, permit));
        self.shared.mailbox.submit(Submission { keyspace, caller, command, bytes, waiter })?;
        ticket.await
    }
}

/// Makes the only member of its group the leader, with everything applied that the log holds.
fn lead(core: &mut Core) -> Result<()> {
    core.campaign()?;
    for _ in 0..START_TURNS_MAX {
        if core.is_ready() {
            core.start_clock();
            return Ok(());
        }
        let goes_on = core.turn(Default::default())?;
        assert!(matches!(goes_on, Turn::Done), "nothing is synced beside and nothing stops before the start");
    }
    Err(Error::Poisoned("the only member of its group did not become the leader".into()))
}

/// A number drawn by the system (through the hash seeds of the standard library). Never 0.
pub(super) fn random_number() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.finish().max(1)
}
