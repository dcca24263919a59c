//! The bound on what is in flight.

use super::LARGE_COMMAND_BYTES;
use crate::types::{CallerId, Error, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Commands that are admitted and not yet answered. At 50,000 commands a second this is a third of a second of
/// work: a client that waits longer is better told to slow down. etcd stops at 5,000 unapplied entries.
pub const COMMANDS_IN_FLIGHT_MAX: usize = 16_384;

/// Bytes of commands that are admitted and not yet answered: eighty of the largest requests, which wait for each other while
/// others write small ones.
pub const COMMAND_BYTES_IN_FLIGHT_MAX: usize = 128 << 20;

/// Beyond those bounds each caller may have so many small commands in flight: who asks for little is not refused because
/// somebody else asks for too much.
pub const RESERVED_COMMANDS_PER_CALLER: usize = 8;

/// All of those together, each of less than [`LARGE_COMMAND_BYTES`].
pub const RESERVED_COMMANDS_MAX: usize = 512;

/// Counts what is in flight.
#[derive(Debug, Default)]
pub struct Admission {
    commands: AtomicUsize,
    bytes: AtomicUsize,
    reserved: Mutex<Reserved>,
}

/// What is in flight beyond the bounds.
#[derive(Debug, Default)]
struct Reserved {
    commands: usize,
    by_caller: HashMap<CallerId, usize>,
}

/// One admitted command's share; gives it back when dropped.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    share: Share,
}

#[derive(Clone, Copy, Debug)]
enum Share {
    Common { bytes: usize },
    Reserved(CallerId),
}

impl Admission {
    /// Admits a command of so many bytes.
    ///
    /// # Errors
    /// [`Error::TooManyRequests`] when a bound is reached; nothing was queued.
    pub fn admit(self: &Arc<Self>, caller: CallerId, bytes: usize) -> Result<Permit> {
        let commands = self.commands.fetch_add(1, Ordering::Relaxed) + 1;
        let total_bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let permit = Permit { admission: Arc::clone(self), share: Share::Common { bytes } };
        if commands <= COMMANDS_IN_FLIGHT_MAX && total_bytes <= COMMAND_BYTES_IN_FLIGHT_MAX {
            return Ok(permit);
        }
        drop(permit);
        if bytes < LARGE_COMMAND_BYTES && self.reserved.lock().take(caller) {
            return Ok(Permit { admission: Arc::clone(self), share: Share::Reserved(caller) });
        }
        Err(Error::TooManyRequests)
    }

    /// How many commands are in flight.
    pub fn in_flight(&self) -> usize {
        self.commands.load(Ordering::Relaxed) + self.reserved.lock().commands
    }
}

impl Reserved {
    fn take(&mut self, caller: CallerId) -> bool {
        let its = self.by_caller.get(&caller).copied().unwrap_or_default();
        let may = its < RESERVED_COMMANDS_PER_CALLER && self.commands < RESERVED_COMMANDS_MAX;
        if may {
            self.commands += 1;
            self.by_caller.insert(caller, its + 1);
        }
        may
    }

    fn give_back(&mut self, caller: CallerId) {
        let its = self.by_caller.remove(&caller).expect("it was taken");
        self.commands -= 1;
        if its > 1 {
            self.by_caller.insert(caller, its - 1);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        match self.share {
            Share::Common { bytes } => {
                self.admission.commands.fetch_sub(1, Ordering::Relaxed);
                self.admission.bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
            Share::Reserved(caller) => self.admission.reserved.lock().give_back(caller),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: CallerId = CallerId::new(1);
    const B: CallerId = CallerId::new(2);

    #[test]
    fn the_bound_refuses_and_recovers() {
        let admission = Arc::new(Admission::default());
        let half = COMMAND_BYTES_IN_FLIGHT_MAX / 2;
        let first = admission.admit(A, half).unwrap();
        let second = admission.admit(A, half).unwrap();
        assert_eq!(admission.admit(A, LARGE_COMMAND_BYTES).unwrap_err(), Error::TooManyRequests);
        assert_eq!(admission.in_flight(), 2, "a refusal leaves nothing behind");
        drop(first);
        assert!(admission.admit(A, 1).is_ok());
        drop(second);
        let all: Vec<_> = (0..COMMANDS_IN_FLIGHT_MAX).map(|_| admission.admit(A, 0).unwrap()).collect();
        assert!(admission.admit(A, LARGE_COMMAND_BYTES).is_err());
        drop(all);
        assert_eq!(admission.in_flight(), 0);
    }

    #[test]
    fn who_asks_for_little_is_not_refused_for_the_others() {
        let admission = Arc::new(Admission::default());
        let all: Vec<_> = (0..COMMANDS_IN_FLIGHT_MAX).map(|_| admission.admit(A, 100).unwrap()).collect();
        let mut more: Vec<_> =
            (0..RESERVED_COMMANDS_PER_CALLER).map(|_| admission.admit(A, 100).unwrap()).collect();
        assert_eq!(admission.admit(A, 100).unwrap_err(), Error::TooManyRequests);
        more.push(admission.admit(B, 100).unwrap());
        assert_eq!(admission.admit(B, LARGE_COMMAND_BYTES).unwrap_err(), Error::TooManyRequests);
        more.remove(0);
        more.push(admission.admit(A, 100).unwrap());
        assert_eq!(admission.admit(A, 100).unwrap_err(), Error::TooManyRequests);
        let others = (3..).map(CallerId::new);
        more.extend(others.map_while(|caller| admission.admit(caller, 100).ok()));
        assert_eq!(more.len(), RESERVED_COMMANDS_MAX, "this has a bound, too");
        drop((all, more));
        assert_eq!(admission.in_flight(), 0);
        assert!(admission.reserved.lock().by_caller.is_empty());
    }
}
