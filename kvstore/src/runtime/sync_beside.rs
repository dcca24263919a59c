//! A thread that writes and syncs the log while the thread that serves requests goes on with them.
//!
//! At most one append is in here: its core waits for it and takes no other turn. Whoever gives it in is woken when it can
//! be taken back. The end: the core says so when it has ended, and an append that is here then is run to its end, since
//! nobody may open the directory before.

use crate::log::Append;
use parking_lot::{Condvar, Mutex};
use std::task::Waker;

#[derive(Default)]
pub(crate) struct SyncBeside {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    to_run: Option<Append>,
    done: Option<Append>,
    waker: Option<Waker>,
    has_ended: bool,
}

impl SyncBeside {
    /// Has `append` run; `waker` is woken once it is there for [`SyncBeside::take`].
    pub(super) fn start(&self, append: Append, waker: &Waker) {
        let mut state = self.state.lock();
        state.to_run = Some(append);
        state.waker = Some(waker.clone());
        drop(state);
        self.changed.notify_one();
    }

    /// The append that was started, if it has been run; else `waker` is woken when it has.
    pub(super) fn take(&self, waker: &Waker) -> Option<Append> {
        let mut state = self.state.lock();
        let done = state.done.take();
        if done.is_none() {
            state.waker = Some(waker.clone());
        }
        done
    }

    /// Nothing more will be started.
    pub(super) fn end(&self) {
        self.state.lock().has_ended = true;
        self.changed.notify_one();
    }

    /// The thread's life.
    pub(super) fn run(&self) {
        while let Some(mut append) = self.next() {
            append.run();
            let mut state = self.state.lock();
            state.done = Some(append);
            let waker = state.waker.take();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn next(&self) -> Option<Append> {
        let mut state = self.state.lock();
        loop {
            if let Some(append) = state.to_run.take() {
                return Some(append);
            }
            if state.has_ended {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }
}
