//! The requests of a connection, worked on in its own turns.
//!
//! Tasks of their own would all be in line with the others' connections: a client with thousands of requests has thousands
//! of turns then, and everybody else one.

use crate::turn::Turn;
use futures_util::stream::{FuturesUnordered, Stream};
use parking_lot::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where hyper puts a request that it has accepted.
#[derive(Clone, Default)]
pub struct Accepted(Arc<Mutex<Vec<Boxed>>>);

impl<F> hyper::rt::Executor<F> for Accepted
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, request: F) {
        self.0.lock().push(Box::pin(request));
    }
}

/// What was accepted and is not answered yet; also the streams of watchers.
pub struct Requests {
    accepted: Accepted,
    open: FuturesUnordered<Request>,
    turn: Turn,
}

impl Requests {
    pub fn new(accepted: Accepted, turn: Turn) -> Requests {
        Requests { accepted, open: FuturesUnordered::new(), turn }
    }

    /// Works on those that can go on, as many as the turn allows.
    pub fn work(&mut self, context: &mut Context<'_>) {
        while !self.open.is_empty() && self.turn.may_work() && !self.turn.has_delivered() {
            match Pin::new(&mut self.open).poll_next(context) {
                // Behind those that have not had their share in this turn.
                Poll::Ready(Some(Some(rest))) => self.open.push(rest),
                Poll::Ready(_) => {}
                Poll::Pending => {
                    // It may have been the turn that ended.
                    let _ = self.turn.may_work();
                    return;
                }
            }
        }
    }

    /// The same after some were accepted; does nothing if none was.
    pub fn work_on_new(&mut self, context: &mut Context<'_>) {
        {
            let mut accepted = self.accepted.0.lock();
            if accepted.is_empty() {
                return;
            }
            let open = |future| Request { future: Some(future), turn: self.turn.clone() };
            self.open.extend(accepted.drain(..).map(open));
        }
        self.work(context);
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        // Requests hold the connection's executor, and so each other: what was accepted in the connection's last turn would
        // be there for ever.
        let left = std::mem::take(&mut *self.accepted.0.lock());
        drop(left);
    }
}

/// One request. When it ends before its future does, it gives back what is left.
struct Request {
    future: Option<Boxed>,
    turn: Turn,
}

impl Future for Request {
    type Output = Option<Request>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Request>> {
        let future = self.future.as_mut().expect("it is not polled again when it has ended");
        let is_pending = future.as_mut().poll(context).is_pending();
        let was_last = self.turn.worked();
        if !is_pending {
            return Poll::Ready(None);
        }
        if self.turn.has_delivered() {
            // Ends the round of `FuturesUnordered` at once, so that the others keep their places in it. There has to be a
            // next turn: nobody else will wake the new one.
            self.turn.use_up();
            return Poll::Ready(Some(Request { future: self.future.take(), turn: self.turn.clone() }));
        }
        if was_last {
            // `FuturesUnordered` ends its round when two futures have woken themselves: so it does after this and the
            // next one.
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::{DELIVERIES_SLICE, REQUESTS_SLICE};
    use hyper::rt::Executor;
    use std::future::poll_fn;
    use std::task::Waker;

    /// Those that can go on do so in order, a slice in each turn; those that wait are left alone.
    #[test]
    fn a_turn_has_so_many_requests() {
        const STEPS: usize = 3;
        let (accepted, turn) = (Accepted::default(), Turn::default());
        let mut requests = Requests::new(accepted.clone(), turn.clone());
        let seen = Arc::new(Mutex::new(Vec::new()));
        for name in 0..100 {
            let seen = seen.clone();
            let mut steps = 0;
            accepted.execute(poll_fn(move |context| {
                seen.lock().push(name);
                steps += 1;
                if steps == STEPS {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            }));
        }
        accepted.execute(std::future::pending());
        let mut context = Context::from_waker(Waker::noop());
        let mut turns = 0;
        while requests.open.len() != 1 {
            turn.begin();
            let before = seen.lock().len();
            match turns {
                0 => requests.work_on_new(&mut context),
                _ => requests.work(&mut context),
            }
            let done = seen.lock().len() - before;
            assert!(done <= REQUESTS_SLICE + 1, "{done} in a turn");
            assert!(done > 0 || requests.open.len() == 1, "a turn without work");
            turns += 1;
        }
        let seen = seen.lock();
        assert_eq!(seen.len(), 100 * STEPS, "nothing is lost");
        for step in 0..STEPS {
            let mut names = seen[100 * step..100 * (step + 1)].to_vec();
            names.sort_unstable();
            assert_eq!(names, Vec::from_iter(0..100), "nobody has a second step before all have one");
        }
        turn.begin();
        requests.work(&mut context);
        requests.work(&mut context);
        assert!(!turn.is_used_up(), "who waits for something else is no work");
    }

    /// Streams that have deliveries without end have the same share of a connection's turns.
    #[test]
    fn streams_take_turns() {
        const TURNS: usize = 7;
        for streams in [1, 2, 3, 40] {
            let (accepted, turn) = (Accepted::default(), Turn::default());
            let mut requests = Requests::new(accepted.clone(), turn.clone());
            let made = Arc::new(Mutex::new(vec![0; streams]));
            for name in 0..streams {
                let made = made.clone();
                let turn = turn.clone();
                accepted.execute(poll_fn(move |_| {
                    while turn.may_deliver() {
                        made.lock()[name] += 1;
                        turn.delivered();
                    }
                    Poll::Pending
                }));
            }
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..TURNS * streams {
                turn.begin();
                requests.work_on_new(&mut context);
                requests.work(&mut context);
                assert!(turn.is_used_up(), "the connection has more to do");
            }
            assert_eq!(*made.lock(), vec![TURNS * DELIVERIES_SLICE; streams]);
        }
    }

    /// A stream that has made all deliveries of a turn is polled once more, to say what wakes it.
    #[test]
    fn who_has_delivered_is_polled_again() {
        let (accepted, turn) = (Accepted::default(), Turn::default());
        let mut requests = Requests::new(accepted.clone(), turn.clone());
        let polls = Arc::new(Mutex::new(0));
        accepted.execute(poll_fn({
            let (polls, turn) = (polls.clone(), turn.clone());
            move |_| {
                *polls.lock() += 1;
                if *polls.lock() == 1 {
                    (0..DELIVERIES_SLICE).for_each(|_| turn.delivered());
                }
                Poll::Pending
            }
        }));
        let mut context = Context::from_waker(Waker::noop());
        turn.begin();
        requests.work_on_new(&mut context);
        assert!(turn.is_used_up(), "there is a next turn");
        for _ in 0..2 {
            turn.begin();
            requests.work(&mut context);
            assert_eq!((*polls.lock(), turn.is_used_up()), (2, false));
        }
    }
}
