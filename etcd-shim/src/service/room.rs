//! The memory for responses that wait for their readers, counted in permits.
//!
//! A read waits until there is room for its response. The response of a write cannot wait: the write has happened. What it
//! takes beyond the room is *owed*: it is first in line for what others give back, and reads wait behind it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

type Owed = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// What one response has of the room.
pub struct Held {
    permit: OwnedSemaphorePermit,
    /// Its place in the line, if it has taken more than there was.
    owed: Option<Owed>,
    /// Permits that its memory is worth: more than `permit` has while something is owed.
    worth: usize,
}

impl Held {
    /// Room that was waited for.
    pub fn of(permit: OwnedSemaphorePermit) -> Held {
        Held { worth: permit.num_permits(), permit, owed: None }
    }

    /// Takes `worth` permits now, whatever there is; what was `reserved` is part of it.
    pub fn at_once(room: &Arc<Semaphore>, reserved: Option<OwnedSemaphorePermit>, worth: usize) -> Held {
        let take = |permits: usize| room.clone().try_acquire_many_owned(permits as u32).ok();
        let nothing = || take(0).expect("no permits are always there: the semaphore is never closed");
        let mut permit = reserved.unwrap_or_else(nothing);
        if let Some(beyond) = permit.num_permits().checked_sub(worth) {
            drop(permit.split(beyond));
        }
        while permit.num_permits() < worth {
            let there = room.available_permits().min(worth - permit.num_permits());
            if there == 0 {
                break;
            }
            // Somebody else may have been faster.
            if let Some(more) = take(there) {
                permit.merge(more);
            }
        }
        let missing = worth - permit.num_permits();
        let owed = (missing > 0).then(|| {
            let line = room.clone().acquire_many_owned(missing as u32);
            // It stands in line from its first poll on; nobody waits for its end.
            let mut owed: Owed = Box::pin(tokio::task::unconstrained(line));
            let _ = owed.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            owed
        });
        Held { permit, owed, worth }
    }

    /// Whether nothing would be won by giving it back.
    pub fn is_nothing(&self) -> bool {
        self.worth == 0
    }

    /// Memory of so many permits is free: what is owed is settled first.
    pub fn give_back(&mut self, permits: usize) {
        self.worth = self.worth.saturating_sub(permits);
        if let Some(beyond) = self.permit.num_permits().checked_sub(self.worth) {
            self.owed = None;
            drop(self.permit.split(beyond));
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Held").field("worth", &self.worth).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_taken_beyond_the_room_is_settled_before_anybody_else_gets_some() {
        let room = Arc::new(Semaphore::new(100));
        let mut read = Held::of(room.clone().try_acquire_many_owned(80).unwrap());
        let mut write = Held::at_once(&room, None, 50);
        assert_eq!(room.available_permits(), 0);
        read.give_back(20);
        assert_eq!(room.available_permits(), 0, "30 were owed");
        read.give_back(20);
        assert_eq!(room.available_permits(), 10);
        // Its last 20 are what it has taken at once.
        write.give_back(10);
        assert_eq!(room.available_permits(), 10);
        write.give_back(20);
        assert_eq!(room.available_permits(), 40);
        write.give_back(usize::MAX);
        assert!(write.is_nothing() && !read.is_nothing());
        assert_eq!(room.available_permits(), 60);
        drop((read, write));
        assert_eq!(room.available_permits(), 100);
    }

    #[tokio::test]
    async fn what_was_reserved_is_part_of_it() {
        let room = Arc::new(Semaphore::new(100));
        let reserve = |permits| Some(room.clone().try_acquire_many_owned(permits).unwrap());
        let smaller = Held::at_once(&room, reserve(40), 10);
        assert_eq!(room.available_permits(), 90);
        let larger = Held::at_once(&room, reserve(40), 60);
        assert_eq!(room.available_permits(), 30);
        drop((smaller, larger));
        assert_eq!(room.available_permits(), 100);
    }
}
