//! The line of those that want much.
//!
//! A connection that had more to do than a turn allows is busy. All others take their turns as they come; of the busy ones
//! only so many are in line with them at a time, as many as there are threads. Otherwise four hundred busy ones would make
//! everybody else's single request wait for four hundred turns, and that at each step from its first byte to its answer.
//! With nobody else there the busy ones have the whole thread.
//!
//! New connections are in a line of their own for their first turns: two thousand that come at once are two thousand turns.
//! Who is busy does not hold them up, nor they the busy.

use crate::arrivals::Arrivals;
use crate::turn::Turn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// The line of the busy connections of some listeners.
#[derive(Clone, Debug)]
pub struct Line {
    busy: Arc<Semaphore>,
    new: Arc<Semaphore>,
}

impl Line {
    /// For a runtime with so many threads.
    pub fn new(threads: usize) -> Line {
        let line = || Arc::new(Semaphore::new(threads.max(1)));
        Line { busy: line(), new: line() }
    }
}

/// The turns of one connection.
pub struct Turns {
    turn: Turn,
    /// That of the new ones until the first turn, then that of the busy.
    line: PollSemaphore,
    /// What comes after the first turn.
    busy: Option<Arc<Semaphore>>,
    arrivals: Arrivals,
    state: State,
}

enum State {
    /// A turn may be taken at any time.
    Free,
    /// There is more to do than was done in the last one, or there was none yet; the place in line has not come.
    Waits,
    /// The place has come: the turn is after the system was asked what has arrived, and those were served whom it
    /// concerns.
    Next(Option<OwnedSemaphorePermit>),
}

impl Turns {
    pub fn new(line: &Line) -> Turns {
        let (busy, new) = (Some(line.busy.clone()), PollSemaphore::new(line.new.clone()));
        Turns { turn: Turn::default(), line: new, busy, arrivals: Arrivals::default(), state: State::Waits }
    }

    /// What may be done in the present one.
    pub fn turn(&self) -> Turn {
        self.turn.clone()
    }

    /// Takes a turn if it is time for it: `work` does what may be done in one. Is woken again if that was not all.
    pub fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        work: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let place = ready!(self.poll_place(context));
        self.turn.begin();
        let done = work(context);
        // The next of the busy ones comes into line now, before this one.
        drop(place);
        if done.is_pending() && self.turn.is_used_up() {
            self.state = State::Waits;
            // Sees to it that it is woken. Nothing has arrived since, so it cannot be its turn already.
            let is_next = self.poll_place(context).is_ready();
            assert!(!is_next, "a turn is for the tasks that wait, too");
        }
        done
    }

    fn poll_place(&mut self, context: &mut Context<'_>) -> Poll<Option<OwnedSemaphorePermit>> {
        if let State::Waits = self.state {
            let place = ready!(self.line.poll_acquire(context));
            self.state = State::Next(place);
        }
        let place = match &mut self.state {
            State::Next(place) => {
                ready!(self.arrivals.poll(context));
                if let Some(busy) = self.busy.take() {
                    self.line = PollSemaphore::new(busy);
                }
                place.take()
            }
            _ => None,
        };
        self.state = State::Free;
        Poll::Ready(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::future::poll_fn;

    /// Somebody with little to do waits for one turn of the busy ones, however many there are.
    #[tokio::test]
    async fn the_busy_are_in_line_one_by_one() {
        const BUSY: usize = 50;
        let line = Line::new(1);
        let order = Arc::new(parking_lot::Mutex::new(VecDeque::new()));
        let mut tasks = Vec::new();
        for name in 0..=BUSY {
            let (mut turns, order) = (Turns::new(&line), order.clone());
            let mut left = 20;
            tasks.push(tokio::spawn(poll_fn(move |context| {
                let turn = turns.turn();
                turns.poll(context, |context| {
                    order.lock().push_back(name);
                    left -= 1;
                    if left == 0 {
                        return Poll::Ready(());
                    }
                    match name {
                        // A request of its own, and then the next one.
                        BUSY => context.waker().wake_by_ref(),
                        _ => {
                            while turn.may_work() {
                                turn.worked();
                            }
                        }
                    }
                    Poll::Pending
                })
            })));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let order = Vec::from(std::mem::take(&mut *order.lock()));
        assert_eq!(order.len(), 20 * (BUSY + 1), "everybody comes to an end");
        let mut single = order.iter().enumerate().filter(|(_, name)| **name == BUSY).map(|(at, _)| at);
        // Its own first turn comes in line, behind those of the others.
        let mut last = single.next().unwrap();
        for at in single {
            assert!(at - last <= 3, "{} turns of others in between: {order:?}", at - last - 1);
            last = at;
        }
        let after = &order[last..];
        let rounds = after.chunks(BUSY).filter(|some| some.len() == BUSY);
        for round in rounds {
            let mut names = round.to_vec();
            names.sort_unstable();
            names.dedup();
            assert!(names.len() > BUSY / 2, "the busy ones take turns: {round:?}");
        }
    }

    /// Somebody who is there already waits for one of the new ones, however many come at once.
    #[tokio::test]
    async fn new_ones_are_in_line() {
        const NEW: usize = 50;
        let line = Line::new(1);
        let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let old = tokio::spawn({
            let (mut turns, order) = (Turns::new(&line), order.clone());
            poll_fn(move |context| {
                turns.poll(context, |context| {
                    let mut order = order.lock();
                    order.push(true);
                    let new = order.iter().filter(|is_old| !**is_old).count();
                    context.waker().wake_by_ref();
                    if new == NEW { Poll::Ready(()) } else { Poll::Pending }
                })
            })
        });
        while order.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        for _ in 0..NEW {
            let (mut turns, order) = (Turns::new(&line), order.clone());
            tokio::spawn(poll_fn(move |context| {
                turns.poll(context, |_| {
                    order.lock().push(false);
                    Poll::Ready(())
                })
            }));
        }
        old.await.unwrap();
        let order = order.lock();
        let together = order.chunk_by(|a, b| a == b).filter(|run| !run[0]).map(<[bool]>::len).max();
        assert!(together <= Some(2), "{order:?}");
    }
}
