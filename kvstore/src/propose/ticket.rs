//! A result that will be there later; works with every async runtime.

use crate::types::{Error, Result};
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

/// What a ticket gives when its slot is gone without an answer: whatever ends the member, nobody waits for ever.
pub trait Unanswered {
    /// That answer.
    fn unanswered() -> Self;
}

impl<T> Unanswered for Result<T> {
    fn unanswered() -> Self {
        Err(Error::OutcomeUnknown("the store ended without an answer".into()))
    }
}

impl Unanswered for Error {
    fn unanswered() -> Self {
        Error::Stopped
    }
}

/// The side that completes. Dropping it answers too, see [`Unanswered`].
pub struct Slot<T: Unanswered>(Option<Arc<Shared<T>>>);

/// The side that waits. Dropping it fails nothing on the other side, which may look ([`Slot::is_abandoned`]).
#[must_use = "a ticket does nothing unless it is awaited"]
pub struct Ticket<T>(Arc<Shared<T>>);

/// Wakers of completed tickets: woken together when the whole batch is answered.
#[derive(Default)]
pub struct WakeList(Vec<Waker>);

/// A connected pair.
pub fn ticket<T: Unanswered>() -> (Slot<T>, Ticket<T>) {
    let shared = Arc::new(Shared(Mutex::new(State::Empty)));
    (Slot(Some(Arc::clone(&shared))), Ticket(shared))
}

impl<T: Unanswered> Slot<T> {
    /// Completes the ticket; its task is woken by [`WakeList::wake`].
    pub fn complete(mut self, value: T, wakes: &mut WakeList) {
        wakes.0.extend(self.answer(value));
    }

    /// Whether the ticket is gone: nobody will see the answer.
    pub fn is_abandoned(&self) -> bool {
        self.0.as_ref().is_some_and(|shared| Arc::strong_count(shared) == 1)
    }

    /// The first answer is the only one. Gives whom to wake.
    fn answer(&mut self, value: T) -> Option<Waker> {
        let shared = self.0.take()?;
        let before = std::mem::replace(&mut *shared.0.lock(), State::Done(value));
        if let State::Waiting(waker) = before { Some(waker) } else { None }
    }
}

impl<T: Unanswered> Drop for Slot<T> {
    fn drop(&mut self) {
        if self.0.is_some()
            && let Some(waker) = self.answer(T::unanswered())
        {
            waker.wake();
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
        slot.complete(Ok(1), &mut WakeList::default());
        assert_eq!(early.await, Ok(1));

        let (slot, late) = ticket();
        let waiting = tokio::spawn(late);
        tokio::task::yield_now().await;
        slot.complete(Ok(2), &mut WakeList::default());
        assert_eq!(waiting.await.unwrap(), Ok(2));
    }

    #[test]
    fn a_dropped_ticket_is_no_failure() {
        let (slot, ticket) = ticket();
        assert!(!slot.is_abandoned());
        drop(ticket);
        assert!(slot.is_abandoned());
        slot.complete(Ok(3), &mut WakeList::default());
    }

    #[tokio::test]
    async fn a_slot_that_is_dropped_answers_and_wakes() {
        let (slot, early) = ticket::<Result<u8>>();
        drop(slot);
        assert!(matches!(early.await, Err(Error::OutcomeUnknown(_))));

        let (slot, late) = ticket::<Result<u8>>();
        let waiting = tokio::spawn(late);
        tokio::task::yield_now().await;
        drop(slot);
        assert!(matches!(waiting.await.unwrap(), Err(Error::OutcomeUnknown(_))));
    }
}
