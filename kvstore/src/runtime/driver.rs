//! Where the core runs.

use super::core::Core;
use super::shared::Shared;
use super::{DirectoryLock, JobQueue, Metrics, Note, Pace, Place, SyncBeside, Turn, WaitingWork, Work};
use crate::log::Append;
use crate::types::{Error, Result};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How often the free disk space is looked at. A log segment is 16 MiB and the reserve at least 24 MiB, so a
/// disk that fills at 20 MiB/s is noticed in time.
const DISK_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Sessions of watchers that a core on its callers' thread wakes before the other tasks there run: a fifth of a millisecond of
/// work. An event that goes to a hundred streams would hold a single request up for all of them.
const WATCHERS_WOKEN_MAX: usize = 8;

/// Where the core's turns run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Placement {
    /// On a thread of its own.
    #[default]
    Thread,
    /// In the future that [`crate::store::Store::take_core`] gives: the embedder spawns it beside its requests.
    /// Saves two hand-overs between threads for each request; the sync blocks that runtime thread.
    Caller,
    /// As `Caller`, but a log write with a large command, or to a slow disk, is made and synced on a thread beside: the
    /// runtime thread reads the next requests meanwhile, and those who only read do not wait for it.
    Adaptive,
}

/// The store's own threads, joined at its end.
#[derive(Default)]
pub(crate) struct Threads {
    pub(crate) handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Waits until they have ended, which they do once the core has.
    pub(crate) fn join(self) {
        for handle in self.handles {
            // The ticker sleeps between two ticks.
            handle.thread().unpark();
            // One of them may drop the last handle of the store: it cannot wait for itself.
            if handle.thread().id() != std::thread::current().id() {
                // A thread that panicked has aborted the process already.
                let _ = handle.join();
            }
        }
    }
}

/// A panic of the core means a broken invariant: nothing may be answered after it, so the process ends.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the core panicked: the process ends so that nothing false is answered");
            std::process::abort();
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Where the core stands after some turns.
enum Ran {
    /// There is nothing to do; the waker is woken when there is.
    Idle,
    /// There is nothing to do until then, when the waker has to be woken if it was not before.
    IdleUntil(Instant),
    /// There is more to do: the waker has been woken.
    More,
    /// In the middle of a turn, which goes on with [`Core::resume`].
    Syncing(Append),
    /// The core has ended.
    Ended,
}

/// Runs a turn if there is something to do.
fn run_turn(core: &mut Core, shared: &Shared, waker: &Waker) -> Ran {
    let work = match shared.mailbox.take(waker) {
        Some(work) => work,
        None => match core.waiting_work() {
            WaitingWork::Now => Work::default(),
            WaitingWork::At(moment) => return Ran::IdleUntil(moment),
            WaitingWork::None => return Ran::Idle,
        },
    };
    let turn = core.turn(work);
    after(turn, core, waker)
}

/// What a turn leads to.
fn after(turn: Result<Turn>, core: &mut Core, waker: &Waker) -> Ran {
    let ended = turn.and_then(|turn| match turn {
        Turn::Done => Ok(Ran::More),
        Turn::Syncing(append) => Ok(Ran::Syncing(append)),
        Turn::Stopped => core.rest().map(|()| Ran::Ended),
    });
    match ended {
        Ok(Ran::Ended) => core.fail(&Error::Stopped),
        Ok(Ran::More) => {
            waker.wake_by_ref();
            return Ran::More;
        }
        Ok(waits) => return waits,
        Err(error) => {
            tracing::error!(%error, "the store stops itself");
            core.fail(&Error::Poisoned(core.directory_lost().unwrap_or_else(|| last_words(error))));
        }
    }
    Ran::Ended
}

/// Why the store ends, and what to do about it.
fn last_words(error: Error) -> String {
    let is_damage = matches!(error, Error::Damaged { .. });
    let text = match error {
        Error::Poisoned(text) | Error::Unreadable(text) => text,
        other => other.to_string(),
    };
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    // It says itself what has become of that.
    if says(&["acknowledged"]) {
        return text;
    }
    // What is damaged may be what was acknowledged: nobody can promise anything.
    if is_damage || says(&["damaged", "Corruption", "restore"]) {
        let advice = if says(&["restore"]) { "" } else { "; restore the whole data directory from a backup" };
        return format!("{text}{advice}");
    }
    let advice = if says(&["once it works", "raise the limit", "check the owner"]) {
        ""
    } else if says(&["No space left", "Disk quota"]) {
        ", free some space and start again"
    } else {
        ", look for errors of this disk in the system's log, and start again once it works"
    };
    format!("{text}; nothing acknowledged is lost{advice}")
}

/// Starts the core's own threads; gives the core as a future if it has none to run on. A sync that is under way when the
/// core ends keeps `directory`, the lock of the data directory.
pub(crate) fn place(
    core: Core,
    placement: Placement,
    shared: &Arc<Shared>,
    directory: &Arc<DirectoryLock>,
    threads: &mut Threads,
) -> std::io::Result<Option<CoreFuture>> {
    let beside = match placement {
        Placement::Thread => {
            threads.handles.push(spawn_core_thread(core, Arc::clone(shared))?);
            return Ok(None);
        }
        Placement::Caller => None,
        Placement::Adaptive => {
            let beside = Arc::new(SyncBeside::default());
            threads.handles.push(spawn_sync_thread(&beside, Arc::clone(directory))?);
            Some(beside)
        }
    };
    Ok(Some(CoreFuture::new(core, Arc::clone(shared), beside)))
}

fn spawn_core_thread(mut core: Core, shared: Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
    core.turn.may_rest = true;
    std::thread::Builder::new().name("holdfast-core".into()).spawn(move || {
        let _abort = AbortOnPanic;
        // A system that refuses leaves it as it was.
        Pace::Prompt.set();
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        loop {
            let ran = run_turn(&mut core, &shared, &waker);
            core.wake_watchers(usize::MAX);
            match ran {
                Ran::Ended => return,
                Ran::Syncing(_) => unreachable!("this thread syncs by itself"),
                Ran::IdleUntil(moment) => {
                    std::thread::park_timeout(moment.saturating_duration_since(Instant::now()))
                }
                Ran::Idle | Ran::More => std::thread::park(),
            }
        }
    })
}

/// The core as a future, for [`Placement::Caller`] and [`Placement::Adaptive`]. It ends when the store stops.
pub struct CoreFuture {
    core: Option<Box<Core>>,
    shared: Arc<Shared>,
    /// With [`Placement::Adaptive`]: who syncs beside.
    beside: Option<Arc<SyncBeside>>,
    /// A turn of the core is under way there.
    is_syncing: bool,
}

impl CoreFuture {
    fn new(mut core: Core, shared: Arc<Shared>, beside: Option<Arc<SyncBeside>>) -> Self {
        (core.turn.may_go_beside, core.turn.may_rest) = (beside.is_some(), beside.is_some());
        Self { core: Some(Box::new(core)), shared, beside, is_syncing: false }
    }
}

impl Future for CoreFuture {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let _abort = AbortOnPanic;
        let polled = self.poll_turn(context.waker());
        if let Some(core) = &mut self.core
            && core.wake_watchers(WATCHERS_WOKEN_MAX)
        {
            // As many as have been woken run before this task does again.
            context.waker().wake_by_ref();
        }
        polled
    }
}

impl CoreFuture {
    fn poll_turn(&mut self, waker: &Waker) -> Poll<()> {
        let Some(core) = &mut self.core else { return Poll::Ready(()) };
        // One turn, then the runtime's other tasks: their requests make the next batch.
        let ran = if self.is_syncing {
            let Some(append) = self.beside.as_ref().and_then(|beside| beside.take(waker)) else {
                return Poll::Pending;
            };
            self.is_syncing = false;
            let turn = core.resume(append);
            after(turn, core, waker)
        } else {
            run_turn(core, &self.shared, waker)
        };
        let beside = || self.beside.as_ref().expect("a core syncs and rests only where somebody is beside");
        match ran {
            Ran::Idle | Ran::More => {}
            Ran::IdleUntil(moment) => beside().wake_at(moment, waker),
            Ran::Syncing(append) => {
                let beside = beside();
                Metrics::add(&self.shared.metrics.syncs_beside, 1);
                self.is_syncing = true;
                beside.start(append, waker);
            }
            Ran::Ended => {
                self.core = None;
                self.beside.take().inspect(|beside| beside.end());
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

impl Drop for CoreFuture {
    fn drop(&mut self) {
        if let Some(mut core) = self.core.take() {
            core.fail(&Error::Stopped);
        }
        self.beside.take().inspect(|beside| beside.end());
    }
}

/// The thread that syncs for a [`CoreFuture`].
fn spawn_sync_thread(
    beside: &Arc<SyncBeside>,
    directory: Arc<DirectoryLock>,
) -> std::io::Result<JoinHandle<()>> {
    let beside = Arc::clone(beside);
    std::thread::Builder::new().name("holdfast-sync".into()).spawn(move || {
        let _abort = AbortOnPanic;
        // A system that refuses leaves it as it was.
        Pace::Prompt.set();
        beside.run();
        drop(directory);
    })
}

/// The maintenance thread and the ticker. `directory` is the lock of `data_dir`.
pub(crate) fn spawn_helpers(
    shared: &Arc<Shared>,
    jobs: &Arc<JobQueue>,
    place: Place,
    directory: Arc<DirectoryLock>,
    tick: Duration,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    let (maintenance_shared, maintenance_jobs) = (Arc::clone(shared), Arc::clone(jobs));
    let maintenance = std::thread::Builder::new().name("holdfast-maint".into()).spawn(move || {
        let _abort = AbortOnPanic;
        maintenance_jobs.run(&maintenance_shared.mailbox);
        // Jobs write in the directory: it stays locked until the last one has ended.
        drop((maintenance_jobs, directory));
    })?;
    let ticker_shared = Arc::clone(shared);
    let ticker = std::thread::Builder::new().name("holdfast-tick".into()).spawn(move || {
        let mut disk_checked: Option<Instant> = None;
        loop {
            // Each time: another store may be at its path, in whose files we would write.
            if place.is_lost() {
                let _ = ticker_shared.mailbox.note(Note::DirectoryLost);
            } else if disk_checked.is_none_or(|at| at.elapsed() >= DISK_CHECK_INTERVAL) {
                disk_checked = Some(Instant::now());
                if let Ok(space) = rustix::fs::statvfs(place.path()) {
                    let free_bytes = space.f_bavail * space.f_frsize;
                    let total_bytes = space.f_blocks * space.f_frsize;
                    let _ = ticker_shared.mailbox.note(Note::DiskSpace { free_bytes, total_bytes });
                }
            }
            // Whoever ends the store wakes this thread.
            std::thread::park_timeout(tick);
            if ticker_shared.mailbox.tick().is_err() {
                return;
            }
        }
    })?;
    Ok(vec![maintenance, ticker])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::EngineError;

    fn damaged() -> Error {
        let message = "Corruption: block checksum mismatch in state/000012.sst offset 0 size 400".into();
        EngineError { message, path: Some("state/000012.sst".into()), damaged_at: Some(0) }.into()
    }

    #[test]
    fn damage_is_never_said_to_have_lost_nothing() {
        let later = Error::Poisoned(damaged().to_string());
        let undecided = Error::Poisoned("the counters cannot be read: the state is damaged".into());
        let of_rocksdb = Error::Poisoned("storage engine: Corruption: bad block".into());
        for error in [damaged(), later, undecided, of_rocksdb] {
            let words = last_words(error);
            assert!(!words.contains("acknowledged"), "{words}");
            assert_eq!(words.matches("restore the whole data directory from a backup").count(), 1, "{words}");
        }
    }

    #[test]
    fn a_disk_that_fails_has_lost_nothing_and_its_owner_is_told_what_to_do() {
        let words = last_words(Error::Poisoned("sync of log/0001: Input/output error".into()));
        assert!(words.contains("; nothing acknowledged is lost, look for errors of this disk"), "{words}");
        let words = last_words(Error::Poisoned("write of log/0001: No space left on device".into()));
        assert!(words.contains("; nothing acknowledged is lost, free some space"), "{words}");
        let unreadable = Error::Unreadable("state/000012.sst: EIO; try again once it works".into());
        assert!(last_words(unreadable).ends_with("once it works; nothing acknowledged is lost"));
        let said = "log/0001: everything acknowledged is in the files that were here";
        assert_eq!(last_words(Error::Poisoned(said.into())), said);
    }
}
