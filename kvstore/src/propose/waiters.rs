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

#[cfg(test)]
mod tests {
    use super::super::{Admission, Ticket, ticket};
    use super::*;
    use crate::types::{InvalidRequest, Revision};
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    type Tickets = Vec<Ticket<Result<Outcome>>>;

    fn id(raw: u64) -> RequestId {
        RequestId::new(raw)
    }

    fn outcome(revision: i64) -> Result<Outcome> {
        Ok(Outcome::LeaseRevoked { revision: Revision::new(revision) })
    }

    fn waiters(admission: &Arc<Admission>, count: usize) -> (Vec<Option<Waiter>>, Tickets) {
        (0..count)
            .map(|_| {
                let (slot, ticket) = ticket();
                (Some((slot, admission.admit(crate::types::CallerId::NONE, 1).unwrap())), ticket)
            })
            .unzip()
    }

    fn answer(ticket: &mut Ticket<Result<Outcome>>) -> Option<Result<Outcome>> {
        match Pin::new(ticket).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    #[test]
    fn each_gets_its_own_answer_and_gives_its_permit_back() {
        let (admission, mut wakes) = (Arc::new(Admission::default()), WakeList::default());
        let mut all = Waiters::default();
        let (first, mut tickets) = waiters(&admission, 3);
        all.remember(id(1), first);
        let refusal: Result<Outcome> = Err(InvalidRequest::LeaseNotFound.into());
        all.answer(id(1), outcome(10), &mut wakes);
        all.answer(id(2), refusal.clone(), &mut wakes);
        assert_eq!((all.len(), admission.in_flight()), (1, 1));
        assert_eq!(answer(&mut tickets[0]), Some(outcome(10)));
        assert_eq!(answer(&mut tickets[1]), Some(refusal));
        assert_eq!(answer(&mut tickets[2]), None);
        all.answer(id(3), outcome(11), &mut wakes);
        assert_eq!(answer(&mut tickets[2]), Some(outcome(11)));
        assert!(all.is_empty() && admission.in_flight() == 0);
    }

    #[test]
    fn what_an_answer_passes_over_has_an_unknown_outcome() {
        let (admission, mut wakes) = (Arc::new(Admission::default()), WakeList::default());
        let mut all = Waiters::default();
        let (first, mut lost) = waiters(&admission, 2);
        all.remember(id(1), first);
        // The store's own command, for which nobody waits.
        all.remember(id(3), vec![None]);
        let (second, mut kept) = waiters(&admission, 1);
        all.remember(id(7), second);
        all.answer(id(7), outcome(5), &mut wakes);
        for ticket in &mut lost {
            assert!(matches!(answer(ticket), Some(Err(Error::OutcomeUnknown(_)))));
        }
        assert_eq!(answer(&mut kept[0]), Some(outcome(5)));
        assert!(all.is_empty() && admission.in_flight() == 0);
    }

    #[test]
    fn an_answer_that_nobody_waits_for_touches_nobody() {
        let (admission, mut wakes) = (Arc::new(Admission::default()), WakeList::default());
        let mut all = Waiters::default();
        all.answer(id(4), outcome(1), &mut wakes);
        let (first, mut tickets) = waiters(&admission, 1);
        all.remember(id(5), first);
        all.answer(id(4), outcome(1), &mut wakes);
        assert_eq!(answer(&mut tickets[0]), None);
        // Its own answer, although the store's own commands before it are still remembered.
        all.remember(id(6), vec![None, None]);
        all.answer(id(5), outcome(2), &mut wakes);
        all.answer(id(6), outcome(3), &mut wakes);
        assert_eq!(answer(&mut tickets[0]), Some(outcome(2)));
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn lost_leadership_leaves_every_outcome_unknown() {
        let (admission, mut wakes) = (Arc::new(Admission::default()), WakeList::default());
        let mut all = Waiters::default();
        let (first, mut tickets) = waiters(&admission, 5);
        all.remember(id(1), first);
        let lost = Error::OutcomeUnknown("this member lost its leadership".into());
        all.fail_all(&lost, &mut wakes);
        for ticket in &mut tickets {
            assert_eq!(answer(ticket), Some(Err(lost.clone())));
        }
        assert!(all.is_empty() && admission.in_flight() == 0);
        // Committed after all by the next leader: nobody is left to hear it.
        all.answer(id(3), outcome(1), &mut wakes);
    }

    #[test]
    #[should_panic(expected = "in order")]
    fn requests_are_remembered_in_order() {
        let mut all = Waiters::default();
        all.remember(id(2), vec![None]);
        all.remember(id(2), vec![None]);
    }
}
