//! A thread that writes and syncs the log while the thread that serves requests goes on with them.
//!
//! At most one append is in here: its core waits for it and takes no other turn. Whoever gives it in is woken when it can
//! be taken back. Nobody else here waits for a moment, so this thread is the core's alarm, too. The end: the core says so when it has ended, and an append that is here then is run to its end, since
//! nobody may open the directory before.

use crate::log::Append;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Instant;

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
    /// Whom to wake, and when, unless an append runs at that time: then whoever it is that waits for this is woken.
    alarm: Option<(Instant, Waker)>,
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

    /// Has `waker` woken at `moment`; the last one that was asked for counts.
    pub(super) fn wake_at(&self, moment: Instant, waker: &Waker) {
        self.state.lock().alarm = Some((moment, waker.clone()));
        self.changed.notify_one();
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
            match &state.alarm {
                None => self.changed.wait(&mut state),
                Some((moment, _)) if Instant::now() < *moment => {
                    let moment = *moment;
                    self.changed.wait_until(&mut state, moment);
                }
                Some(_) => {
                    let alarm = state.alarm.take();
                    MutexGuard::unlocked(&mut state, || {
                        alarm.into_iter().for_each(|(_, waker)| waker.wake())
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::task::Wake;
    use std::time::Duration;

    struct Tell(mpsc::Sender<Instant>);

    impl Wake for Tell {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(Instant::now());
        }
    }

    #[test]
    fn an_alarm_goes_off_by_itself_and_not_before_its_time() {
        let beside = Arc::new(SyncBeside::default());
        let thread = std::thread::spawn({
            let beside = Arc::clone(&beside);
            move || beside.run()
        });
        let (tell, told) = mpsc::channel();
        let waker = Waker::from(Arc::new(Tell(tell)));
        let moment = Instant::now() + Duration::from_millis(20);
        // The last one counts.
        beside.wake_at(moment + Duration::from_secs(600), &waker);
        beside.wake_at(moment, &waker);
        assert!(told.recv_timeout(Duration::from_secs(20)).expect("an alarm") >= moment);
        beside.wake_at(moment + Duration::from_secs(600), &waker);
        beside.end();
        thread.join().unwrap();
        assert!(told.try_recv().is_err(), "it ends without waiting for the next one");
    }
}
