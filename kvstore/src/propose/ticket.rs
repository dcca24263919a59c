//! A result that will be there later; works with every async runtime.

use parking_lot::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

enum State<T> {
    Empty,
    Waiting(Waker),
    Done(T),
    Taken,
}

struct Shared<T>(Mutex<State<T>>);

/// The side that completes.
pub struct Slot<T>(Arc<Shared<T>>);

/// The side that waits. Dropping it changes nothing for the other side.
#[must_use = "a ticket does nothing unless it is awaited"]
pub struct Ticket<T>(Arc<Shared<T>>);

/// Wakers of completed tickets: woken together when the whole batch is answered.
#[derive(Default)]
pub struct WakeList(Vec<Waker>);

/// A connected pair.
pub fn ticket<T>() -> (Slot<T>, Ticket<T>) {
    let shared = Arc::new(Shared(Mutex::new(State::Empty)));
    (Slot(Arc::clone(&shared)), Ticket(shared))
}

impl<T> Slot<T> {
    /// Completes the ticket; its task is woken by [`WakeList::wake`].
    pub fn complete(self, value: T, wakes: &mut WakeList) {
        let before = std::mem::replace(&mut *self.0.0.lock(), State::Done(value));
        if let State::Waiting(waker) = before {
            wakes.0.push(waker);
        }
    }
}

impl WakeList {
    /// Wakes every task of the list.
    pub fn wake(&mut self) {
        for waker in self.0.drain(..) {
            waker.wake();
        }
    }
}

impl Drop for WakeList {
    fn drop(&mut self) {
        self.wake();
    }
}

impl<T> Future for Ticket<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut state = self.0.0.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Done(value) => Poll::Ready(value),
            State::Empty => {
                *state = State::Waiting(context.waker().clone());
                Poll::Pending
            }
            State::Waiting(mut waker) => {
                waker.clone_from(context.waker());
                *state = State::Waiting(waker);
                Poll::Pending
            }
            State::Taken => panic!("a ticket is polled after it was answered"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn completes_before_and_after_the_wait() {
        let (slot, early) = ticket();
        slot.complete(1, &mut WakeList::default());
        assert_eq!(early.await, 1);

        let (slot, late) = ticket();
        let waiting = tokio::spawn(late);
        tokio::task::yield_now().await;
        slot.complete(2, &mut WakeList::default());
        assert_eq!(waiting.await.unwrap(), 2);
    }

    #[test]
    fn a_dropped_ticket_is_no_failure() {
        let (slot, ticket) = ticket();
        drop(ticket);
        slot.complete(3, &mut WakeList::default());
    }
}
