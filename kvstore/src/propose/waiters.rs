//! Who waits for which request.

use super::{Permit, Slot, WakeList};
use crate::command::Outcome;
use crate::types::{Error, RequestId, Result};
use std::collections::VecDeque;

type Waiter = (Slot<Result<Outcome>>, Permit);

/// The waiters of everything proposed and not yet applied, in request order (which is log order).
#[derive(Default)]
pub struct Waiters {
    queue: VecDeque<(RequestId, Option<Waiter>)>,
}

impl Waiters {
    /// Remembers a proposal's waiters; ids must follow those remembered before.
    pub fn remember(&mut self, first: RequestId, waiters: Vec<Option<Waiter>>) {
        assert!(self.queue.back().is_none_or(|(last, _)| *last < first), "requests are proposed in order");
        let mut id = first;
        for waiter in waiters {
            self.queue.push_back((id, waiter));
            id = id.next();
        }
    }

    /// Answers `request`. Older ones still waiting were lost with a leadership: their outcome is unknown.
    pub fn answer(&mut self, request: RequestId, result: Result<Outcome>, wakes: &mut WakeList) {
        while let Some((id, _)) = self.queue.front() {
            if *id > request {
                return;
            }
            let Some((id, waiter)) = self.queue.pop_front() else { return };
            let Some((slot, _permit)) = waiter else {
                if id == request {
                    return;
                }
                continue;
            };
            if id == request {
                slot.complete(result, wakes);
                return;
            }
            let reason = "a later request was applied first: this one was lost with a leadership";
            slot.complete(Err(Error::OutcomeUnknown(reason.into())), wakes);
        }
    }

    /// Answers everybody with the same error.
    pub fn fail_all(&mut self, error: &Error, wakes: &mut WakeList) {
        for (_, waiter) in self.queue.drain(..) {
            if let Some((slot, _permit)) = waiter {
                slot.complete(Err(error.clone()), wakes);
            }
        }
    }

    /// How many requests are proposed and not yet applied.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
