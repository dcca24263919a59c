//! Reads that wait for their read index.

use crate::consensus::{ReadContext, ReadReady};
use crate::propose::{Slot, WakeList};
use crate::types::{Error, LogIndex, NodeId, Result};

/// Ticks after which an unconfirmed attempt is made again with a new context: half a second at 100 ms ticks.
pub const READ_RETRY_TICKS: u64 = 5;

struct Waiting {
    slot: Slot<Result<()>>,
    deadline_tick: u64,
}

struct Attempt {
    context: ReadContext,
    started_tick: u64,
    reads: Vec<Waiting>,
}

/// All linearizable reads of this member that are not served yet.
pub struct ReadBarriers {
    node_id: NodeId,
    boot_nonce: u64,
    next_attempt: u64,
    tick: u64,
    patience_ticks: u64,
    fresh: Vec<Waiting>,
    attempts: Vec<Attempt>,
    confirmed: Vec<(LogIndex, Vec<Waiting>)>,
}

impl ReadBarriers {
    /// `boot_nonce` must differ between any two starts of the member.
    pub fn new(node_id: NodeId, boot_nonce: u64, patience_ticks: u64) -> Self {
        Self {
            node_id,
            boot_nonce,
            next_attempt: 0,
            tick: 0,
            patience_ticks,
            fresh: Vec::new(),
            attempts: Vec::new(),
            confirmed: Vec::new(),
        }
    }

    /// A read begins to wait; it joins the next attempt, never one that is under way (that one's index may be
    /// older than a write the reader already knows of).
    pub fn wait(&mut self, slot: Slot<Result<()>>) {
        self.fresh.push(Waiting { slot, deadline_tick: self.tick + self.patience_ticks });
    }

    /// Begins an attempt for all fresh reads; the context to ask raft with, or `None` without any.
    pub fn begin_attempt(&mut self) -> Option<ReadContext> {
        if self.fresh.is_empty() {
            return None;
        }
        let context =
            ReadContext { node_id: self.node_id, boot_nonce: self.boot_nonce, attempt: self.next_attempt };
        self.next_attempt += 1;
        let reads = std::mem::take(&mut self.fresh);
        self.attempts.push(Attempt { context, started_tick: self.tick, reads });
        Some(context)
    }

    /// Raft confirmed an attempt.
    pub fn confirm(&mut self, ready: ReadReady) {
        if let Some(at) = self.attempts.iter().position(|attempt| attempt.context == ready.context) {
            let attempt = self.attempts.swap_remove(at);
            self.confirmed.push((ready.index, attempt.reads));
        }
    }

    /// Everything up to `applied` is published: serves what waited for it.
    pub fn applied(&mut self, applied: LogIndex, wakes: &mut WakeList) {
        let mut at = 0;
        while at < self.confirmed.len() {
            if self.confirmed[at].0 > applied {
                at += 1;
                continue;
            }
            for waiting in self.confirmed.swap_remove(at).1 {
                waiting.slot.complete(Ok(()), wakes);
            }
        }
    }

    /// The term changed: what was asked in the old one is asked again.
    pub fn term_changed(&mut self) {
        for attempt in self.attempts.drain(..) {
            self.fresh.extend(attempt.reads);
        }
    }

    /// A tick went by: renews what raft dropped silently, and ends what waited too long.
    pub fn tick(&mut self, wakes: &mut WakeList) {
        self.tick += 1;
        let tick = self.tick;
        let mut at = 0;
        while at < self.attempts.len() {
            if tick - self.attempts[at].started_tick < READ_RETRY_TICKS {
                at += 1;
                continue;
            }
            self.fresh.extend(self.attempts.swap_remove(at).reads);
        }
        let (late, fresh) =
            std::mem::take(&mut self.fresh).into_iter().partition(|read| read.deadline_tick <= tick);
        self.fresh = fresh;
        let late: Vec<Waiting> = late;
        for waiting in late {
            waiting.slot.complete(Err(Error::Timeout), wakes);
        }
    }

    /// Ends every read with an error.
    pub fn fail_all(&mut self, error: &Error, wakes: &mut WakeList) {
        let attempts = self.attempts.drain(..).flat_map(|attempt| attempt.reads);
        let confirmed = self.confirmed.drain(..).flat_map(|(_, reads)| reads);
        for waiting in self.fresh.drain(..).chain(attempts).chain(confirmed) {
            waiting.slot.complete(Err(error.clone()), wakes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::propose::{Ticket, ticket};
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    fn answer(ticket: &mut Ticket<Result<()>>) -> Option<Result<()>> {
        match Pin::new(ticket).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    /// A read that waits.
    fn read(barriers: &mut ReadBarriers) -> Ticket<Result<()>> {
        let (slot, read) = ticket();
        barriers.wait(slot);
        read
    }

    fn confirm(barriers: &mut ReadBarriers, context: ReadContext, index: u64) {
        barriers.confirm(ReadReady { context, index: LogIndex::new(index) });
    }

    fn barriers() -> (ReadBarriers, WakeList) {
        (ReadBarriers::new(NodeId::new(1), 99, 20), WakeList::default())
    }

    #[test]
    fn a_read_is_served_once_its_index_is_applied() {
        let (mut barriers, mut wakes) = barriers();
        let mut read = read(&mut barriers);
        let context = barriers.begin_attempt().unwrap();
        barriers.applied(LogIndex::new(9), &mut wakes);
        assert_eq!(answer(&mut read), None, "nobody has confirmed it");
        confirm(&mut barriers, context, 5);
        barriers.applied(LogIndex::new(4), &mut wakes);
        assert_eq!(answer(&mut read), None, "what it must see is not applied");
        barriers.applied(LogIndex::new(5), &mut wakes);
        assert_eq!(answer(&mut read), Some(Ok(())));
    }

    #[test]
    fn an_attempt_that_raft_dropped_is_made_again_under_a_new_context() {
        let (mut barriers, mut wakes) = barriers();
        let mut read = read(&mut barriers);
        let first = barriers.begin_attempt().unwrap();
        (0..READ_RETRY_TICKS).for_each(|_| barriers.tick(&mut wakes));
        let second = barriers.begin_attempt().unwrap();
        assert_ne!(first, second);
        // The late answer to the first attempt must not serve anything.
        confirm(&mut barriers, first, 1);
        barriers.applied(LogIndex::new(9), &mut wakes);
        assert_eq!(answer(&mut read), None);
        confirm(&mut barriers, second, 9);
        barriers.applied(LogIndex::new(9), &mut wakes);
        assert_eq!(answer(&mut read), Some(Ok(())));
    }

    #[test]
    fn a_change_of_term_asks_again_under_a_new_context() {
        let (mut barriers, mut wakes) = barriers();
        let mut read = read(&mut barriers);
        let first = barriers.begin_attempt().unwrap();
        assert_eq!(barriers.begin_attempt(), None, "it waits in the first attempt");
        barriers.term_changed();
        let second = barriers.begin_attempt().expect("what was asked in the old term is asked again");
        assert_ne!(first, second);
        confirm(&mut barriers, first, 1);
        barriers.applied(LogIndex::new(9), &mut wakes);
        assert_eq!(answer(&mut read), None, "a leader of the old term knows nothing of the new one");
        confirm(&mut barriers, second, 9);
        barriers.applied(LogIndex::new(9), &mut wakes);
        assert_eq!(answer(&mut read), Some(Ok(())));
    }

    #[test]
    fn a_read_never_joins_an_attempt_under_way() {
        let (mut barriers, mut wakes) = barriers();
        let mut early = read(&mut barriers);
        let first = barriers.begin_attempt().unwrap();
        // It may know of a write that raft had not seen when the first one was asked.
        let mut late = read(&mut barriers);
        confirm(&mut barriers, first, 5);
        barriers.applied(LogIndex::new(5), &mut wakes);
        assert_eq!((answer(&mut early), answer(&mut late)), (Some(Ok(())), None));
        let second = barriers.begin_attempt().unwrap();
        assert_ne!(first, second);
        confirm(&mut barriers, second, 6);
        barriers.applied(LogIndex::new(5), &mut wakes);
        assert_eq!(answer(&mut late), None);
        barriers.applied(LogIndex::new(6), &mut wakes);
        assert_eq!(answer(&mut late), Some(Ok(())));
    }

    #[test]
    fn patience_ends() {
        let (mut barriers, mut wakes) = barriers();
        let mut read = read(&mut barriers);
        for _ in 0..40 {
            barriers.begin_attempt();
            barriers.tick(&mut wakes);
        }
        assert_eq!(answer(&mut read), Some(Err(Error::Timeout)));
    }
}
