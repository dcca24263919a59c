//! The core on its way between the caller's future and the thread that takes it over while syncs are slow.
//!
//! At any time the core is at the future, at the thread, or in here. Whoever puts it in wakes the other. Whoever ends the
//! core says so here, and the other ends too. A thread whose future was dropped keeps the core: it has been told to stop.

use super::core::Core;
use parking_lot::Mutex;
use std::task::Waker;
use std::thread::Thread;

#[derive(Default)]
pub(crate) struct Handover {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    for_thread: Option<Box<Core>>,
    for_future: Option<Box<Core>>,
    thread: Option<Thread>,
    future: Option<Waker>,
    ended: bool,
    future_is_gone: bool,
}

/// What one of the two finds.
pub(super) enum Found {
    /// It is yours.
    Core(Box<Core>),
    /// It is at the other's.
    Nothing,
    /// There is none any more.
    Ended,
}

impl Handover {
    /// The thread that waits in [`Handover::take_for_thread`].
    pub(super) fn meet(&self, thread: Thread) {
        self.state.lock().thread = Some(thread);
    }

    pub(super) fn take_for_thread(&self) -> Found {
        let mut state = self.state.lock();
        match state.for_thread.take() {
            Some(core) => Found::Core(core),
            None if state.ended => Found::Ended,
            None => Found::Nothing,
        }
    }

    /// `waker` is woken when there is something else to be found.
    pub(super) fn take_for_future(&self, waker: &Waker) -> Found {
        let mut state = self.state.lock();
        match state.for_future.take() {
            Some(core) => Found::Core(core),
            None if state.ended => Found::Ended,
            None => {
                state.future = Some(waker.clone());
                Found::Nothing
            }
        }
    }

    pub(super) fn give_to_thread(&self, core: Box<Core>, waker: &Waker) {
        let mut state = self.state.lock();
        state.for_thread = Some(core);
        state.future = Some(waker.clone());
        let thread = state.thread.clone().expect("the thread is started before the future is polled");
        drop(state);
        thread.unpark();
    }

    /// Gives the core back, if anybody is there to take it.
    pub(super) fn give_to_future(&self, core: Box<Core>) -> Result<(), Box<Core>> {
        let mut state = self.state.lock();
        if state.future_is_gone {
            return Err(core);
        }
        state.for_future = Some(core);
        let waker = state.future.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// The core has ended, here or there.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        let (waker, thread) = (state.future.take(), state.thread.take());
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(thread) = thread {
            thread.unpark();
        }
    }

    /// The future is dropped without the core: gives what is on its way to it.
    pub(super) fn future_is_gone(&self) -> Option<Box<Core>> {
        let mut state = self.state.lock();
        state.future_is_gone = true;
        state.for_future.take()
    }
}
