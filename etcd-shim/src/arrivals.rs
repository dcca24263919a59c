//! Waiting until the system was asked what has arrived.
//!
//! tokio asks when there is nothing else to do, or after so many tasks; who yields to it is woken behind those whom the
//! news concerns.

use futures_util::task::AtomicWaker;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Becomes ready when the runtime has asked once since the first poll, whoever else wakes the task meanwhile. Can be used
/// again and again.
#[derive(Default)]
pub struct Arrivals {
    asked: Arc<Asked>,
    waits: bool,
}

#[derive(Default)]
struct Asked {
    is_done: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Asked {
    fn wake(self: Arc<Self>) {
        self.is_done.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl Arrivals {
    /// Pending at first; ready once for each time.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.asked.task.register(context.waker());
        if !self.waits {
            self.waits = true;
            self.asked.is_done.store(false, Ordering::Release);
            let waker = Waker::from(self.asked.clone());
            // Its first poll leaves the waker with the runtime, which uses it after it has asked.
            let is_ready = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker)).is_ready();
            assert!(!is_ready, "yielding takes at least one turn");
            return Poll::Pending;
        }
        if !self.asked.is_done.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        self.waits = false;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    /// A task that wakes itself all the time comes no sooner for it.
    #[tokio::test]
    async fn only_the_runtime_makes_it_ready() {
        let task = tokio::spawn(async {
            let mut arrivals = Arrivals::default();
            for _ in 0..3 {
                let mut polls = 0;
                poll_fn(|context| {
                    polls += 1;
                    if polls < 4 {
                        context.waker().wake_by_ref();
                    }
                    arrivals.poll(context)
                })
                .await;
                assert!(polls > 4, "{polls}");
            }
        });
        task.await.unwrap();
    }
}
