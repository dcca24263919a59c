//! Where the core runs.

use super::core::Core;
use super::handover::{Found, Handover};
use super::shared::Shared;
use super::{DirectoryLock, JobQueue, Metrics, Note, Pace, Work};
use crate::types::Error;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How often the free disk space is looked at. A log segment is 16 MiB and the reserve at least 24 MiB, so a
/// disk that fills at 20 MiB/s is noticed in time.
const DISK_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Where the core's turns run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Placement {
    /// On a thread of its own.
    #[default]
    Thread,
    /// In the future that [`crate::store::Store::take_core`] gives: the embedder spawns it beside its requests.
    /// Saves two hand-overs between threads for each request; the sync blocks that runtime thread.
    Caller,
    /// As `Caller` while syncs are short, and on a thread of its own while they are not: then a slow disk or
    /// large writes do not hold up those who read.
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

/// Runs turns until there is nothing to do. `Some` when the core has ended.
fn run_turns(core: &mut Core, shared: &Shared, waker: &Waker, turns_max: usize) -> Option<Option<Error>> {
    for _ in 0..turns_max {
        let work = match shared.mailbox.take(waker) {
            Some(work) => work,
            None if core.has_waiting_work() => Work::default(),
            None => return None,
        };
        let ended = core.turn(work).and_then(|goes_on| match goes_on {
            true => Ok(false),
            false => core.rest().map(|()| true),
        });
        match ended {
            Ok(false) => {}
            Ok(true) => {
                core.fail(&Error::Stopped);
                return Some(None);
            }
            Err(error) => {
                tracing::error!(%error, "the store stops itself");
                let error = Error::Poisoned(last_words(error));
                core.fail(&error);
                return Some(Some(error));
            }
        }
    }
    waker.wake_by_ref();
    None
}

/// Why the store ends, and what to do about it.
fn last_words(error: Error) -> String {
    let text = match error {
        Error::Poisoned(text) => text,
        other => other.to_string(),
    };
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let advice = if says(&["restore", "once it works"]) {
        ""
    } else if says(&["No space left", "Disk quota"]) {
        ", free some space and start again"
    } else {
        ", look for errors of this disk in the system's log, and start again once it works"
    };
    if says(&["acknowledged"]) { text } else { format!("{text}; nothing acknowledged is lost{advice}") }
}

pub(crate) fn spawn_core_thread(mut core: Core, shared: Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("holdfast-core".into()).spawn(move || {
        let _abort = AbortOnPanic;
        // A system that refuses leaves it as it was.
        Pace::Prompt.set();
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        while run_turns(&mut core, &shared, &waker, usize::MAX).is_none() {
            std::thread::park();
        }
    })
}

/// The core as a future, for [`Placement::Caller`] and [`Placement::Adaptive`]. It ends when the store stops.
pub struct CoreFuture {
    core: Option<Box<Core>>,
    shared: Arc<Shared>,
    /// With [`Placement::Adaptive`]: where the core is, if not here.
    handover: Option<Arc<Handover>>,
}

impl CoreFuture {
    pub(crate) fn new(core: Core, shared: Arc<Shared>, handover: Option<Arc<Handover>>) -> Self {
        Self { core: Some(Box::new(core)), shared, handover }
    }

    fn fetch(&mut self, waker: &Waker) -> Poll<()> {
        match self.handover.as_ref().map(|handover| handover.take_for_future(waker)) {
            Some(Found::Core(core)) => self.core = Some(core),
            Some(Found::Nothing) => return Poll::Pending,
            Some(Found::Ended) | None => {}
        }
        Poll::Ready(())
    }
}

impl Future for CoreFuture {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.core.is_none() && this.fetch(context.waker()).is_pending() {
            return Poll::Pending;
        }
        let Some(mut core) = this.core.take() else { return Poll::Ready(()) };
        let _abort = AbortOnPanic;
        // One turn, then the runtime's other tasks: their requests make the next batch.
        if run_turns(&mut core, &this.shared, context.waker(), 1).is_some() {
            this.handover.take().inspect(|handover| handover.end());
            return Poll::Ready(());
        }
        match &this.handover {
            Some(handover) if core.has_slow_syncs() => {
                Metrics::add(&this.shared.metrics.core_moves, 1);
                handover.give_to_thread(core, context.waker());
            }
            _ => this.core = Some(core),
        }
        Poll::Pending
    }
}

impl Drop for CoreFuture {
    fn drop(&mut self) {
        let on_its_way = self.handover.as_ref().and_then(|handover| handover.future_is_gone());
        if let Some(mut core) = self.core.take().or(on_its_way) {
            core.fail(&Error::Stopped);
            drop(core);
            self.handover.take().inspect(|handover| handover.end());
        } else if self.handover.is_some() {
            self.shared.mailbox.stop();
        }
    }
}

/// The thread that the core moves to while syncs are slow.
pub(crate) fn spawn_core_refuge(
    handover: Arc<Handover>,
    shared: Arc<Shared>,
) -> std::io::Result<JoinHandle<()>> {
    let theirs = Arc::clone(&handover);
    let handle = std::thread::Builder::new().name("holdfast-core".into()).spawn(move || {
        let _abort = AbortOnPanic;
        Pace::Prompt.set();
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        loop {
            match theirs.take_for_thread() {
                Found::Core(core) => run_until_fast(core, &theirs, &shared, &waker),
                Found::Ended => return,
                Found::Nothing => std::thread::park(),
            }
        }
    })?;
    handover.meet(handle.thread().clone());
    Ok(handle)
}

/// Runs the core until it can go back to the future, or has ended.
fn run_until_fast(mut core: Box<Core>, handover: &Handover, shared: &Shared, waker: &Waker) {
    loop {
        if run_turns(&mut core, shared, waker, 1).is_some() {
            drop(core);
            handover.end();
            return;
        }
        if !core.has_slow_syncs() {
            match handover.give_to_future(core) {
                Ok(()) => return Metrics::add(&shared.metrics.core_returns, 1),
                Err(kept) => core = kept,
            }
        }
        std::thread::park();
    }
}

/// The maintenance thread and the ticker. `directory` is the lock of `data_dir`.
pub(crate) fn spawn_helpers(
    shared: &Arc<Shared>,
    jobs: &Arc<JobQueue>,
    data_dir: PathBuf,
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
            if disk_checked.is_none_or(|at| at.elapsed() >= DISK_CHECK_INTERVAL) {
                disk_checked = Some(Instant::now());
                if let Ok(space) = rustix::fs::statvfs(&data_dir) {
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
