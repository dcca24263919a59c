//! Threads beside the one that serves everybody, for work that takes long.
//!
//! They have a lower priority, and together they leave a processor to the threads that requests pass through: whoever is
//! woken while long work has all of them waits for the system's next look at who should run, up to four milliseconds.

use kvstore::store::Pace;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// The processors that long work may have.
#[derive(Clone, Debug)]
pub struct Processors(Arc<Semaphore>);

impl Processors {
    /// All but one of the machine's, at most `max`.
    pub fn all_but_one(max: usize) -> Processors {
        let all = std::thread::available_parallelism().map_or(1, |all| all.get());
        Processors::new((all - 1).clamp(1, max))
    }

    pub fn new(count: usize) -> Processors {
        Processors(Arc::new(Semaphore::new(count)))
    }

    /// Runs `work` on a thread beside once a processor is there for it; the work goes on also when nobody waits for it
    /// any more.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Processor) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let permit = self.0.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (all, runtime) = (self.0.clone(), Handle::current());
        let done = tokio::task::spawn_blocking(move || {
            lower_priority();
            work(&Processor { all, permit: Cell::new(Some(permit)), runtime })
        });
        done.await.map_err(|fault| Status::internal(format!("etcdserver: a read ended early: {fault}")))
    }
}

/// The one that some work has.
pub struct Processor {
    all: Arc<Semaphore>,
    permit: Cell<Option<OwnedSemaphorePermit>>,
    runtime: Handle,
}

impl Processor {
    /// Lets others have it who wait for one, if there are any, until it is this work's turn again. `rest`: nor is it this
    /// work's turn before that.
    pub fn pass_on(&self, rest: Duration) {
        drop(self.permit.take());
        if rest > Duration::ZERO {
            std::thread::sleep(rest);
        }
        let permit = self.runtime.block_on(self.all.clone().acquire_owned());
        self.permit.set(Some(permit.expect("the semaphore is never closed")));
    }
}

/// Once for each thread: nothing else runs on them.
fn lower_priority() {
    thread_local!(static LOWERED: Cell<bool> = const { Cell::new(false) });
    if !LOWERED.replace(true) {
        // A system that refuses leaves us where we were.
        Pace::Patient.set();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn who_passes_on_lets_others_through_and_comes_back() {
        const OTHERS: usize = 5;
        let processors = Processors::new(1);
        let done = Arc::new(AtomicUsize::new(0));
        let long = tokio::spawn({
            let (processors, done) = (processors.clone(), done.clone());
            async move {
                let work = move |processor: &Processor| {
                    while done.load(Ordering::SeqCst) < OTHERS {
                        assert_eq!(processor.all.available_permits(), 0, "it has the only one");
                        processor.pass_on(Duration::ZERO);
                    }
                };
                processors.run(work).await
            }
        });
        let mut others = tokio::task::JoinSet::new();
        for _ in 0..OTHERS {
            let (processors, done) = (processors.clone(), done.clone());
            others.spawn(async move { processors.run(move |_| done.fetch_add(1, Ordering::SeqCst)).await });
        }
        let all = async {
            long.await.unwrap().unwrap();
            others.join_all().await
        };
        let counted = tokio::time::timeout(Duration::from_secs(20), all).await.expect("they come to an end");
        assert_eq!(counted.len(), OTHERS);
        assert_eq!(processors.0.available_permits(), 1);
    }
}
